"""The pictures of the site, from a run of the demo: `uv run python docs/pictures.py [FOLDER]`; chromium draws its page.

FOLDER is the demo's, finished or not, ep-hw-demo if none is named.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

MEASURED = "scale.svg"   # by `benchmarks.scale --figure`
PICTURES = {   # name on the site -> figure of the demo
    "corruption": "digits-severity-5", "waterfall": "digits-waterfall-crossbar-pcm-clean", "attack": "digits-pgd_l2"}
PLACE = Path(__file__).with_name("pictures")
SCREEN = "report.png"   # the first screen of the demo's page
WIDTH, HEIGHT = 1280, 920


def main(folder: str = "ep-hw-demo") -> None:
    """Run the demo, which goes on where it was, and take its figures."""
    subprocess.run(["ep-hw", "demo", "--out", folder], check=True)
    PLACE.mkdir(exist_ok=True)
    for name, figure in PICTURES.items():
        shutil.copyfile(Path(folder) / "figures" / f"{figure}.svg", PLACE / f"{name}.svg")
    subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={PLACE / SCREEN}",
                    (Path(folder) / "report.html").resolve().as_uri()], check=True)
    Image.open(PLACE / SCREEN).convert("RGB").quantize(256).save(PLACE / SCREEN, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
