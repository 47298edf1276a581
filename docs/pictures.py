"""The pictures of the site, from a run of the demo: `uv run python docs/pictures.py [FOLDER]`.

FOLDER is the demo's, finished or not, ep-hw-demo if none is named.
"""

import shutil
import subprocess
import sys
from pathlib import Path

PICTURES = {   # name on the site -> figure of the demo
    "corruption": "digits-severity-5", "waterfall": "digits-waterfall-crossbar-pcm-clean", "attack": "digits-pgd_l2"}
PLACE = Path(__file__).with_name("pictures")


def main(folder: str = "ep-hw-demo") -> None:
    """Run the demo, which goes on where it was, and take its figures."""
    subprocess.run(["ep-hw", "demo", "--out", folder], check=True)
    PLACE.mkdir(exist_ok=True)
    for name, figure in PICTURES.items():
        shutil.copyfile(Path(folder) / "figures" / f"{figure}.svg", PLACE / f"{name}.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
