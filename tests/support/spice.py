"""ngspice as an oracle: the operating point of a netlist, from the binary file that it writes."""

import shutil
import subprocess

import numpy as np
import pytest

needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None,
                                   reason="no ngspice on this machine (Debian: apt-get install ngspice)")


def operating_point(netlist: str, folder) -> dict[str, float]:
    """Saved voltages and currents, or of a transient analysis the last ones, by ngspice's names: v(s1_0), i(v1)."""
    (folder / "netlist.cir").write_text(netlist)
    ended = subprocess.run(["ngspice", "-b", "-r", "found.raw", "netlist.cir"], cwd=folder, capture_output=True,
                           text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    head, _, values = (folder / "found.raw").read_bytes().partition(b"Binary:\n")
    names = [line.split()[1] for line in head.decode().split("Variables:\n")[1].splitlines()]
    return dict(zip(names, np.frombuffer(values)[-len(names):].tolist()))


def currents(found: dict[str, float], start: str) -> np.ndarray:
    """Currents of the sources start0, start1 ..., in amperes."""
    return np.array([found[f"i({start}{n})"] for n in range(sum(name.startswith(f"i({start}") for name in found))])
