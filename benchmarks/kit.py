"""aihwkit in an interpreter of its own, which uv makes (Python 3.12, the torch that we have; half a minute, once).

Networks go there as arrays of one npz, answers come back so: see benchmarks/kit_side.py.
"""

import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.peers import environment, failure, uv
from mapping.graph import EPGraph

VERSION, PYTHON, PATIENCE_S = "1.2.0", "3.12", 300
SIDE = Path(__file__).with_name("kit_side.py")


def interpreter() -> list[str]:
    """The command that starts its Python."""
    packages = f"aihwkit=={VERSION}", f"torch=={version('torch').partition('+')[0]}"
    return [uv(), "run", "--quiet", "--no-project", "--python", PYTHON,
            *(part for package in packages for part in ("--with", package)), "python"]


def missing() -> str | None:
    """Why aihwkit cannot be had here, and what to install; None where it can."""
    reason = failure([*interpreter(), "-c", ""], PATIENCE_S, environment(PYTHON))
    return reason and (f"{reason}; it needs uv, which brings aihwkit=={VERSION} and Python {PYTHON} where it reaches a "
                       "package index")


def packed(graph: EPGraph, images: np.ndarray, ages: tuple[float, ...], chips: int = 1) -> dict[str, np.ndarray]:
    """A feed-forward network, images as its first layer sees them, and when which chips are read.

    Args:
        images: (N, C, H, W) in [0, 1].
        ages: seconds since programming.
        chips: how many are programmed.
    """
    normal = (images - graph.mean[:, None, None]) / graph.scale[:, None, None]
    arrays = {"images": normal.astype(np.float32), "ages": np.array(ages), "chips": np.array(chips)}
    for n, coupling in enumerate((*graph.couplings, graph.readout)):
        window = coupling.stride, coupling.padding, coupling.pool
        arrays |= {f"{n}.weight": coupling.weight, f"{n}.bias": coupling.bias, f"{n}.window": np.array(window)}
    return arrays | {f"{n}.unit": np.array([p.slope, p.ceiling]) for n, p in enumerate(graph.populations)}


def read_chips(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `kit_side.write_chips` makes of them."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        subprocess.run([*interpreter(), SIDE, "chips", given, made], env=environment(PYTHON), check=True,
                       stdout=subprocess.DEVNULL, timeout=PATIENCE_S)
        return dict(np.load(made))


class Timing:
    """A process of theirs that holds a network in several configurations and times passes of it.

    Args:
        arrays: of `packed`.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / "in.npz"
            np.savez(given, **arrays)
            self._process = subprocess.Popen([*interpreter(), SIDE, "time", given], env=environment(PYTHON), text=True,
                                             bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout.readline() == "ready\n"

    def times(self, configuration: str) -> tuple[float]:
        """CPU seconds of one pass."""
        self._process.stdin.write(f"{configuration}\n")
        return float(self._process.stdout.readline()),

    def close(self):
        self._process.communicate()
