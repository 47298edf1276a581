"""Errands for workers of a cluster, and a batch system that lends some."""

import os
import signal

from ep_hw.evaluation.cluster import Errand

LENT = 'system = "Local"\nmost = 2\n[options]\ncores = 1\nmemory = "4GB"\n'


def errand(folder, call, name="one", writes=("b",), **more):
    return Errand(name=f"{name}-{folder}", call=call, folder=folder, writes=writes, **more)


def write_place(folder):
    (folder / "b").write_text(str(folder))
    (folder / "c").write_text("left there")


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)
