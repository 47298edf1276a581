"""Running cells: in this process, or shared out to workers of one thread each, on this machine or others.

A task is one attack cell, or all other cells of one model's machine and chip: attacks are long, and opening a machine
costs.
Cells depend on nothing but their configuration, so any number of workers gives the same bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import simulators
from ep_hw.evaluation.cells import Cell, Known, run_cell
from ep_hw.evaluation.cluster import Cluster, Errand
from ep_hw.evaluation.progress import Progress
from ep_hw.evaluation.workers import workers
from ep_hw.threads import threads
from mapping.targets import REFERENCE
from simulators.heap import kept
from simulators.isolated import processors
from simulators.loihi.interpreter import lava_python
from simulators.machine import Machine
from simulators.module import AnyProgram
from simulators.registry import on_lava

Programs = Mapping[str, Mapping[str, AnyProgram]]   # model -> machine -> compiled program
T = TypeVar("T")
RunCells = Callable[[list[Cell]], Iterator[Cell]]


def silent(what: object, finished: int, of: int) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where cells run. Of these only the device decides an outcome, and is in the key of every cell.

    Attributes:
        device: `cpu` or `cuda`.
        jobs: worker processes, one thread each; with 1 everything runs in this process. The bytes are the same.
        progress: called after each cell and all that is measured besides.
        cluster: whose workers take the cells, in place of jobs. The bytes are the same.
    """

    device: str = "cpu"
    jobs: int = 1
    progress: Progress = silent
    cluster: Cluster | None = None

    @property
    def workers(self) -> int:
        """Processes that will share the cells, on this machine no more than it has processors."""
        return self.cluster.workers() if self.cluster else min(self.jobs, processors())


def check_present(programs: Iterable[AnyProgram], run: Run):
    """Refuse now what would be refused once cells run, for want of Lava's interpreter: here, or on a worker.

    Raises:
        Refusal: see `simulators.loihi.interpreter.lava_python`.
    """
    if any(map(on_lava, programs)):
        run.cluster.check(lava_python) if run.cluster else lava_python()


class Machines:
    """Opens machines when first asked for, keeps one besides the references, closes them all in the end.

    Attributes:
        known: of each model, what its reference answered.
    """

    def __init__(self, programs: Programs, device: str):
        self.programs, self.device = programs, device
        self.opened: dict[tuple[str, str, int | None], Machine] = {}
        self.known: dict[str, Known] = defaultdict(dict)

    def get(self, model: str, name: str, chip: int | None = None) -> Machine:
        """The machine of that name with a model, programmed with that chip seed."""
        if (model, name, chip) not in self.opened:
            for other in [key for key in self.opened if REFERENCE not in (key[1], name)]:
                self.opened.pop(other).close()
            self.opened[model, name, chip] = simulators.open(self.programs[model][name], chip_seed=chip or 0,
                                                             device=self.device)
        return self.opened[model, name, chip]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for machine in self.opened.values():
            machine.close()


@contextmanager
def runner(programs: Programs, run: Run) -> Iterator[RunCells]:
    """A function that runs cells which do not depend on each other and yields each when it is finished."""
    if run.cluster:
        yield partial(_run_on_cluster, run.cluster, programs, run.device)
        return
    if run.jobs == 1:
        with threads(1), Machines(programs, run.device) as machines:
            yield lambda cells: (cell for task in tasks_of(cells) for cell in run_task(task, machines))
        return
    with workers(run.jobs) as pool:
        pool.everywhere(partial(_share, programs, run.device))
        yield lambda cells: (cell for done in pool.each(partial(_run_shared, task) for task in tasks_of(cells))
                             for cell in done)


def call_all(calls: Sequence[Callable[[], T]], jobs: int) -> Iterator[T]:
    """What calls return that do not depend on each other, in the order in which they end.

    Args:
        calls: may be pickled.
        jobs: worker processes; with 1 everything runs in this process.
    """
    jobs = min(jobs, len(calls))
    if jobs <= 1:
        with threads(1):
            yield from (call() for call in calls)
        return
    with workers(jobs) as pool:
        yield from pool.each(calls)


def run_task(cells: list[Cell], machines: Machines) -> Iterator[Cell]:
    """Run cells in this process."""
    for cell in cells:
        c = cell.configuration
        with kept():
            run_cell(cell, machines.get(c.model, c.machine, c.chip_seed), machines.get(c.model, REFERENCE),
                     machines.known[c.model])
        yield cell


def tasks_of(cells: list[Cell]) -> list[list[Cell]]:
    """Attack cells alone and first, from the costliest machine; the rest by model, machine and chip."""
    attacks: list[list[Cell]] = []
    rest: dict[tuple[str, str, int | None], list[Cell]] = defaultdict(list)
    for cell in cells:
        c = cell.configuration
        if c.threat.is_direct and not c.joined:
            attacks.append([cell])
        else:
            rest[c.model, c.machine, c.chip_seed].append(cell)
    return [*reversed(attacks), *rest.values()]


_shared: list[Machines] = []   # of a worker, which dies with them


def _share(programs: Programs, device: str):
    _shared[:] = [Machines(programs, device)]


def _run_shared(task: list[Cell]) -> list[Cell]:
    return list(run_task(task, _shared[0]))


LARGEST_TASK = 8   # cells of a task on a cluster, which may lose it


def _run_on_cluster(cluster: Cluster, programs: Programs, device: str, cells: list[Cell]) -> Iterator[Cell]:
    """Run cells that do not depend on each other, a few a task."""
    tasks = [task[n:n + LARGEST_TASK] for task in tasks_of(cells) for n in range(0, len(task), LARGEST_TASK)]
    errands = {f"{task[0].stem}-{len(task)}": task for task in tasks}
    sent = (_errand(name, task, programs, device) for name, task in errands.items())
    for errand in cluster.each(sent):
        yield from errands[errand.name]


def _errand(name: str, task: list[Cell], programs: Programs, device: str) -> Errand:
    """The errand that runs the cells of a task, all of one machine."""
    c = task[0].configuration
    needed = dict.fromkeys(path.name for cell in task for need in cell.needs for path in need.stored.paths)
    parts = {f"program-{digest}": programs[c.model][machine]
             for machine, digest in ((c.machine, c.program), (REFERENCE, c.reference))}
    return Errand(name=name, folder=task[0].folder, parts=parts, reads=tuple(needed),
                  writes=tuple(path.name for cell in task for path in cell.stored.paths), flushed=False,
                  call=partial(_run_in, [cell.portable() for cell in task], device))


def _run_in(task: list[Cell], device: str, folder: Path, program: AnyProgram, reference: AnyProgram | None = None):
    """On a worker of a cluster: run the cells of one machine in a folder."""
    c = task[0].configuration
    programs = {c.model: {REFERENCE: reference or program, c.machine: program}}
    with Machines(programs, device) as machines:
        for _ in run_task([replace(cell, folder=folder) for cell in task], machines):
            pass
