"""Work on a Dask cluster: calls go out with the files that they read, and come back with those that they wrote.

Files travel as bytes and whoever asked writes them, so that no disk is shared. What was asked once is asked again where
a worker died; when the asker goes, by Ctrl-C or by dying, its tasks go with it.
"""

import importlib.util
import logging
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ep_hw.evaluation.own import Belongings, belongings
from ep_hw.threads import threads
from ep_hw.versions import all_code
from mapping.errors import MachineError, Refusal
from mapping.fields import read_as
from mapping.files import parse_toml, read_bytes, refusing, write_atomically
from simulators.isolated import interrupts_held, processors

if TYPE_CHECKING:   # not everybody has it
    from distributed import Client, Future

Files = dict[str, bytes]   # by name
MOST_WORKERS = 1024        # of this machine
SECONDS = 30               # until a scheduler must have answered
AHEAD = 4                  # tasks that are sent out a worker, so that none waits for the asker
FEWEST_AHEAD = 32          # where there are hardly any workers, so that an adaptive cluster sees what is coming
DEATHS = 5                 # workers that a task may lose before it is what kills them
AGAIN_S = 2                # between two looks for workers of this machine that ended and are to start again
SUBMITTED_S = 30           # between two looks for jobs that a batch system refused and that are to be asked for again
ALONE_S = 600              # that work waits for a worker of this machine, when none is left
RETRIES = 2                # after errors that are no refusal
ONE_CALL = threading.Lock()   # at a time, however many threads a worker has: they share torch's number of threads
NONE_CAME = ("no worker is left and none came in {} s; run the same command again to go on, with fewer workers, or "
             "without --cluster")
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Errand:
    """A call that works in a folder.

    Attributes:
        name: the same for the same work.
        call: of a folder and of `parts`; it may be pickled.
        parts: name -> what several errands take, which travels once to each worker; the name says all of it.
        folder: here, that holds what the call reads and gets what it writes.
        reads: names of files; some may be missing.
        writes: the same, in the order in which they are to appear.
        flushed: whether these are on the disk before they appear, see `mapping.files.write_atomically`.
    """

    name: str
    call: Callable
    folder: Path
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    parts: Mapping[str, object] = field(default_factory=dict)
    flushed: bool = True


class Cluster:
    """A Dask cluster, connected to when it first gets work and let go by `close`.

    Args:
        where: "local:4" for processes of this machine, "tcp://HOST:PORT" of a running scheduler, or a TOML file, see
            `BatchSystem`.
        say: hears in a line what it is connected to.

    Raises:
        Refusal: no such cluster, or Dask is not installed.
    """

    def __init__(self, where: str, say: Callable[[str], object] = lambda line: None):
        self._where, self._say = where, say
        self._open, self._most = _opener(where)
        self._held = ExitStack()
        self._parts: dict[str, Future] = {}
        self._asked: set[tuple[str, str]] = set()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    @cached_property
    def _client(self) -> "Client":
        for name in ("distributed", "distributed.client", "tornado.application"):   # losses are said in a line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        client = self._held.enter_context(_connected(self._held.enter_context(self._open()), self._where))
        page = client.dashboard_link if importlib.util.find_spec("bokeh") else "none without bokeh"
        there = _workers(client)
        coming = f" of up to {self._most}" if there < self._most else ""
        self._say(f"cluster: {there}{coming} workers; dashboard: {page}")
        return client

    def workers(self) -> int:
        """How many will share the work: as many as are asked for, of this machine no more than it has processors; of a
        running scheduler those that have joined it, or one where there is none yet.

        Raises:
            Refusal: the cluster does not answer, or its workers are of another version.
        """
        return self._most or max(1, _workers(self._client))

    def each(self, errands: Iterable[Errand]) -> Iterator[Errand]:
        """The errands in the order in which they end, each when its files are in its folder.

        Raises:
            Refusal: as a call raised it; the cluster does not answer, or its workers are of another version.
            MachineError: workers die of a task, or the cluster is gone.
        """
        from distributed import as_completed

        sent: dict[str, tuple[Errand, Future]] = {}
        waiting = iter(errands)
        ended = as_completed(loop=self._client.loop)
        try:
            with _telling_losses():
                for errand in islice(waiting, max(FEWEST_AHEAD, AHEAD * _workers(self._client))):
                    self._send(errand, sent, ended)
                while sent:
                    future = next(ended)
                    errand, files = sent.pop(future.key)[0], future.result()
                    if isinstance(files, Refusal):
                        raise files
                    for name in filter(files.__contains__, errand.writes):
                        write_atomically(errand.folder / name, files[name], errand.flushed)
                    for following in islice(waiting, 1):
                        self._send(following, sent, ended)
                    yield errand
        finally:
            self._client.cancel([future for _, future in sent.values()], force=True)

    def check(self, call: Callable[[], object]) -> None:
        """Make a call once on each worker that there is now, or on the first one to come where there is none yet.

        Args:
            call: a function of a module.

        Raises:
            Refusal: as the call raised it, with the worker's address.
        """
        there = self._client.scheduler_info(n_workers=-1)["workers"]
        new = [address for address in there if (call.__qualname__, address) not in self._asked]
        with _telling_losses():
            if there:
                answers = self._client.run(refused, call, workers=new) if new else {}
            else:
                answers = {"the first": self._client.submit(refused, call, pure=False).result()}
        for address, said in answers.items():
            if said:
                raise Refusal(said.what, where=f"{said.where}, worker {address}", got=said.got, allowed=said.allowed,
                              remedy=said.remedy)
        self._asked |= {(call.__qualname__, address) for address in new}

    def _send(self, errand: Errand, sent: "dict[str, tuple[Errand, Future]]", ended: Any) -> None:
        files = {name: (errand.folder / name).read_bytes() for name in errand.reads if (errand.folder / name).exists()}
        parts = [self._part(name, part) for name, part in errand.parts.items()]
        task = f"ep-hw-{errand.name}"
        future = self._client.submit(perform, errand.call, files, errand.writes, *parts, key=task, retries=RETRIES,
                                     pure=False)
        sent[task] = errand, future
        ended.add(future)

    def _part(self, name: str, part: object) -> "Future":
        """Something that is brought to a worker when it first needs it; made again where all who have it died."""
        if name not in self._parts:
            self._parts[name] = self._client.submit(pickle.loads, pickle.dumps(part), key=f"ep-hw-{name}", pure=False)
        return self._parts[name]


def perform(call: Callable, files: Files, writes: Iterable[str], *parts: object) -> Files | Refusal:
    """On a worker: make an errand's call in a folder of its own; what it wrote, or why it is refused."""
    with ONE_CALL, TemporaryDirectory(prefix="ep-hw-") as folder, threads(1):
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        try:
            call(Path(folder), *parts)
        except Refusal as refusal:
            return refusal
        return {name: Path(folder, name).read_bytes() for name in writes if Path(folder, name).exists()}


def refused(call: Callable[[], object]) -> Refusal | None:
    """On a worker: how a call is refused; None where it is not."""
    try:
        call()
    except Refusal as refusal:
        return refusal
    return None


def _opener(where: str) -> tuple[Callable[[], AbstractContextManager], int]:
    """How to open what a client connects to, a cluster that is closed in the end or an address, and how many workers
    are asked for; 0 where whoever joined an address works.
    """
    if importlib.util.find_spec("distributed") is None:
        raise Refusal("Dask is not installed", where="--cluster", got=where, allowed="an environment that has it",
                      remedy="pip install 'ep-hw[cluster]', or leave it out")
    kind, _, count = where.partition(":")
    if kind == "local" and count.isascii() and count.isdecimal() and 0 < int(count) <= MOST_WORKERS:
        return partial(_local, int(count)), min(int(count), processors())
    if _is_address(where):
        return partial(nullcontext, where), 0
    if where.endswith(".toml"):
        asked = _batch_system(Path(where))
        return partial(_lent, asked, where), asked.most
    raise Refusal("no such cluster", where="--cluster", got=where, allowed=ALLOWED,
                  remedy="choose one of these, or leave it out")


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
        with _again(cluster, partial(cluster.scale, count), AGAIN_S):
            _wait(cluster, count)
            yield cluster


@contextmanager
def _again(cluster: Any, call: Callable[[], None], seconds: float) -> Iterator[None]:
    """Make a call again and again, in the thread of a cluster."""
    from tornado.ioloop import PeriodicCallback

    timer = PeriodicCallback(call, 1000 * seconds)
    cluster.loop.add_callback(timer.start)
    try:
        yield
    finally:
        cluster.loop.add_callback(timer.stop)


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
        raise MachineError(NONE_CAME.format(ALONE_S)) from None


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
        cluster.adapt(minimum=asked.least, maximum=asked.most)
        with _again(cluster, partial(_renew, cluster), SUBMITTED_S):
            yield cluster


async def _grown(cluster: Any, jobs: int) -> None:
    """Once jobs have been submitted, or as the first is refused."""
    cluster.scale(jobs=jobs)
    await cluster


def _renew(cluster: Any) -> None:
    """Ask again for jobs that were refused: to Dask they are workers on their way."""
    from distributed import Status

    for name in [name for name, job in cluster.workers.items() if job.status == Status.failed]:
        del cluster.workers[name]
    cluster.scale(jobs=len(cluster.worker_spec))


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


@contextmanager
def _connected(cluster: Any, where: str) -> Iterator["Client"]:
    """A client whose workers have what ours have.

    Raises:
        Refusal: nobody answers, or workers are of another version.
    """
    from distributed import Client

    try:
        client = Client(cluster, timeout=SECONDS)
    except (OSError, TypeError, ValueError) as error:   # TypeError: tls without certificates
        raise Refusal("the cluster does not answer", where="--cluster", got=f"{where}: {error}", allowed=ALLOWED,
                      remedy="start its scheduler, or check the address") from None
    with client:
        with _telling_losses():
            _equip(client)
        yield client


def _workers(client: "Client") -> int:
    """How many there are now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def _telling_losses() -> Iterator[None]:
    """What Dask raises where workers or the scheduler are lost, in a line."""
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker, NoWorkerError

    try:
        yield
    except KilledWorker:
        raise MachineError("a task lost its worker again and again (out of memory?); run the same command again to go "
                           "on, with fewer --images or larger workers") from None
    except NoWorkerError:
        raise MachineError(NONE_CAME.format(ALONE_S)) from None
    except (CommClosedError, FutureCancelledError, TimeoutError):
        raise MachineError("the cluster is gone; run the same command again to go on") from None


def _equip(client: "Client") -> None:
    """Have every worker, now and later, bring what the user brought; refuse workers of other versions."""
    from distributed import WorkerPlugin

    class Equipment(WorkerPlugin):
        """Travels by value: a worker of another version may not know it."""

        def __init__(self, code: dict, own: Belongings):
            self.code, self.own = code, own

        def setup(self, worker: Any) -> None:
            equip(self.code, self.own)

    own, code = belongings(), all_code()
    try:
        theirs = client.run_on_scheduler(all_code)
        client.register_plugin(Equipment(code, own), name=f"ep-hw {own.digest}")
    except (Refusal, OSError):
        raise
    except Exception as error:   # of many classes: what arrives there cannot be read, or is not what was sent
        raise Refusal("the cluster's scheduler or workers cannot run cells", where="--cluster", got=str(error),
                      allowed=f"ep-hw {code['ep_hw']} installed on all of them", remedy="install it there") from None
    _check_code({"ep_hw": code["ep_hw"]}, theirs, "scheduler runs")   # tasks pass through it


def equip(code: dict[str, int | str], own: Belongings) -> None:
    """On a worker, before anything else.

    Args:
        code: `all_code` of the asker.
        own: the files of its user.

    Raises:
        Refusal: another version, or files of the same names with other content.
    """
    own.bring()
    _check_code(code, all_code(), "workers run")


def _check_code(code: dict[str, int | str], theirs: dict[str, int | str], who: str) -> None:
    if others := [name for name, number in code.items() if theirs.get(name) != number]:
        raise Refusal(f"the cluster's {who} another version", where="--cluster",
                      got=", ".join(f"{name} {theirs.get(name)}" for name in others),
                      allowed=", ".join(f"{name} {code[name]}" for name in others),
                      remedy="install the same versions there")
