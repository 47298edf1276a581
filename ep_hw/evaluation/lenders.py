"""Who lends workers to a command: this machine, a scheduler that runs, or a batch system."""

import importlib.util
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mapping.errors import MachineError, Refusal
from mapping.fields import read_as
from mapping.files import parse_toml, read_bytes, refusing
from simulators.isolated import interrupts_held, processors

if TYPE_CHECKING:   # not everybody has it
    from distributed import Client

MOST_WORKERS = 1024   # of this machine
SECONDS = 30          # until a scheduler must have answered
DEATHS = 5            # workers that a task may lose before it is what kills them
AGAIN_S = 2           # between two looks for workers of this machine that ended and are to start again
IDLE = 60             # looks, a second each, at a job without work before it is given back: more work may come
SUBMITTED_S = 30      # between two looks for jobs that a batch system refused and that are to be asked for again
ALONE_S = 600         # that work waits for a worker of this machine, when none is left
ALLOWED = "local:4, tcp://HOST:PORT, or a TOML file of a batch system as in docs/cluster.md"


class BatchSystem(BaseModel):
    """A cluster that a batch system lends, as a TOML file names it.

    Attributes:
        system: whose queue, by its class in dask_jobqueue; `Local` runs its jobs on this machine.
        least: jobs that are kept.
        most: jobs while there is work.
        options: of that class, as `cores`, `memory`, `queue`, `walltime`, `job_script_prologue`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    system: Literal["HTCondor", "LSF", "Local", "Moab", "OAR", "PBS", "SGE", "SLURM"]
    least: int = Field(default=0, ge=0)
    most: int = Field(ge=1)
    options: dict[str, Any]

    @model_validator(mode="after")
    def _ordered(self) -> "BatchSystem":
        if self.least > self.most:
            raise ValueError("least is above most")
        return self


def lender(where: str) -> tuple[Callable[[], AbstractContextManager["Client"]], int]:
    """How to open a client of a cluster, and how many workers are asked for; 0 where whoever joined an address works.

    Args:
        where: see `ep_hw.evaluation.cluster.Cluster`.

    Raises:
        Refusal: no such cluster, or Dask is not installed; when it is opened, nobody answers or no job is taken.
        MachineError: when it is opened, no worker of this machine starts.
    """
    if importlib.util.find_spec("distributed") is None:
        raise Refusal("Dask is not installed", where="--cluster", got=where, allowed="an environment that has it",
                      remedy="pip install 'ep-hw[cluster]', or leave it out")
    kind, _, count = where.partition(":")
    if kind == "local" and count.isascii() and count.isdecimal() and 0 < int(count) <= MOST_WORKERS:
        return partial(_connected, partial(_local, int(count)), where), min(int(count), processors())
    if _is_address(where):
        return partial(_connected, partial(nullcontext, where), where), 0
    if where.endswith(".toml"):
        asked = _batch_system(Path(where))
        return partial(_connected, partial(_lent, asked, where), where), asked.most
    raise Refusal("no such cluster", where="--cluster", got=where, allowed=ALLOWED,
                  remedy="choose one of these, or leave it out")


def none_came() -> MachineError:
    """Where work has waited long enough for a worker."""
    return MachineError(f"no worker is left and none came in {ALONE_S} s; run the same command again to go on, with "
                        "fewer workers, or without --cluster")


@contextmanager
def _connected(opened: Callable[[], AbstractContextManager], where: str) -> Iterator["Client"]:
    """A client of what is opened: a cluster, which is closed in the end, or an address.

    Raises:
        Refusal: nobody answers.
    """
    from distributed import Client

    for name in ("distributed", "distributed.client", "tornado.application"):   # losses are said in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with opened() as cluster:
        try:
            client = Client(cluster, timeout=SECONDS)
        except (OSError, TypeError, ValueError) as error:   # TypeError: tls without certificates
            raise Refusal("the cluster does not answer", where="--cluster", got=f"{where}: {error}", allowed=ALLOWED,
                          remedy="start its scheduler, or check the address") from None
        with client:
            yield client


def _is_address(where: str) -> bool:
    """Whether it is a protocol that Dask speaks, a host and a port."""
    try:
        parts = urlsplit(where)
        return parts.scheme in ("tcp", "tls", "ws", "wss") and bool(parts.hostname and parts.port)
    except ValueError:   # no such port
        return False


@contextmanager
def _local(count: int) -> Iterator[Any]:
    """As many workers at all times: Dask itself gives up one that ends while it starts, or that does not start again
    within `distributed.deploy.lost-worker-timeout`, as on a busy machine.

    Raises:
        MachineError: none of them starts.
    """
    import dask
    from distributed import LocalCluster

    with (dask.config.set({"distributed.scheduler.allowed-failures": DEATHS,
                           "distributed.scheduler.no-workers-timeout": f"{ALONE_S}s"}),
          _deaf(partial(LocalCluster, n_workers=0, threads_per_worker=1, scheduler_port=0, dashboard_address=":0",
                        memory_limit=None, silence_logs=logging.CRITICAL)) as cluster):
        cluster.scale(count)
        with again(cluster, partial(_renew, cluster, cluster.scale), AGAIN_S):
            _wait(cluster, count)
            yield cluster


@contextmanager
def again(cluster: Any, call: Callable[[], None], seconds: float) -> Iterator[None]:
    """Make a call again and again, in the thread of a cluster or a client."""
    from tornado.ioloop import PeriodicCallback

    timer = PeriodicCallback(call, 1000 * seconds)
    cluster.loop.add_callback(timer.start)
    try:
        yield
    finally:
        cluster.loop.add_callback(timer.stop)


def _renew(cluster: Any, scale: Callable[[int], None]) -> None:
    """Start again what ended, and what failed to start: to Dask, such workers and jobs are still on their way."""
    from distributed import Status

    for name in [name for name, worker in cluster.workers.items() if worker.status == Status.failed]:
        del cluster.workers[name]
    scale(len(cluster.worker_spec))


def _deaf(start: Callable[[], Any]) -> Any:
    """A cluster whose threads, and so the processes that they start, never hear of Ctrl-C: the asker ends them."""
    ensure_running()   # which ends by hearing of it, in the thread that starts the first process
    with interrupts_held():
        return start()


def _wait(cluster: Any, count: int) -> None:
    """Until as many workers are there; Ctrl-C ends it.

    Raises:
        MachineError: they do not come.
    """
    try:
        cluster.wait_for_workers(count, ALONE_S)
    except TimeoutError:
        raise none_came() from None


def _batch_system(path: Path) -> BatchSystem:
    with refusing("not a batch system", where=path, allowed="system, most and [options], as in docs/cluster.md",
                  remedy="correct the file"):
        return read_as(BatchSystem, parse_toml(read_bytes(path)))


@contextmanager
def _lent(asked: BatchSystem, where: str) -> Iterator[Any]:
    """The cluster of a batch system, growing and shrinking with the work; the first jobs are asked for at once, since
    nobody would hear why the later ones that an adaptive cluster asks for are refused.

    Raises:
        Refusal: of the options or the first jobs.
    """
    import dask

    kind = _kind(asked.system)
    try:
        options = {**asked.options, "scheduler_options": {"dashboard_address": ":0",   # one that is free
                                                          **asked.options.get("scheduler_options", {})}}
        with dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}):
            cluster = _deaf(partial(kind, job_cls=_ending(kind.job_cls), **options))
    except (TypeError, ValueError) as error:
        raise Refusal("options that the batch system does not take", where=where, got=str(error),
                      allowed=f"those of dask_jobqueue.{kind.__name__}", remedy="correct the file") from None
    with cluster:
        try:
            cluster.sync(_grown, cluster, max(1, asked.least))
        except Exception as error:   # some are of no other class
            raise Refusal("the batch system takes no job", where=where, got=str(error),
                          allowed="options with which jobs can be submitted from here",
                          remedy="correct the file, or run the command where the batch system is") from None
        cluster.adapt(minimum=asked.least, maximum=asked.most, wait_count=IDLE)
        with again(cluster, partial(_renew, cluster, lambda jobs: cluster.scale(jobs=jobs)), SUBMITTED_S):
            yield cluster


async def _grown(cluster: Any, jobs: int) -> None:
    """Once jobs have been submitted, or as the first is refused."""
    cluster.scale(jobs=jobs)
    await cluster


def _ending(kind: type) -> type:
    """A class of jobs of which those that are refused count as ended."""
    from distributed import Status

    class Job(kind):  # type: ignore[misc]
        """See its base."""

        async def start(self) -> None:
            """See `dask_jobqueue.core.Job.start`."""
            try:
                await super().start()
            except Exception:
                self.status = Status.failed
                raise

        async def close(self) -> None:
            """See `dask_jobqueue.core.Job.close`."""
            if self.status != Status.failed:
                await super().close()

    return Job


def _kind(system: str) -> Any:
    """The class of a batch system; importing it would make Ctrl-C end this process without a word, with exit code 0."""
    heard = signal.getsignal(signal.SIGINT)
    import dask_jobqueue
    from dask_jobqueue.local import LocalCluster

    signal.signal(signal.SIGINT, heard)
    return LocalCluster if system == "Local" else getattr(dask_jobqueue, f"{system}Cluster")
