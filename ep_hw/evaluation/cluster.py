"""Work on a Dask cluster: calls go out with the files that they read, and come back with those that they wrote.

Files travel as bytes and whoever asked writes them, so that no disk is shared. What was asked once is asked again where
a worker died; when the asker goes, by Ctrl-C or by dying, its tasks go with it.
"""

import importlib.util
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ep_hw.evaluation.lenders import again, lender, none_came
from ep_hw.evaluation.own import Belongings, belongings
from ep_hw.threads import threads
from ep_hw.versions import all_code
from mapping.errors import MachineError, Refusal
from mapping.files import write_atomically

if TYPE_CHECKING:   # not everybody has it
    from distributed import Client, Future

Files = dict[str, bytes]   # by name
AHEAD = 4                  # tasks that are sent out a worker, so that none waits for the asker
FEWEST_AHEAD = 32          # where there are hardly any workers, so that an adaptive cluster sees what is coming
ALONE_S = 600              # between two looks whether work waits without any worker
RETRIES = 2                # after errors that are no refusal
ONE_CALL = threading.Lock()   # at a time, however many threads a worker has: they share torch's number of threads


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
            `ep_hw.evaluation.lenders.BatchSystem`.
        say: hears in a line what it is connected to, and every ten minutes if work waits without any worker.

    Raises:
        Refusal: no such cluster, or Dask is not installed.
    """

    def __init__(self, where: str, say: Callable[[str], object] = lambda line: None):
        self._say = say
        self._open, self._most = lender(where)
        self._held = ExitStack()
        self._parts: dict[str, Future] = {}
        self._asked: set[tuple[str, str]] = set()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    @cached_property
    def _client(self) -> "Client":
        client = self._held.enter_context(self._open())
        with _telling_losses():
            _equip(client)
        page = client.dashboard_link if importlib.util.find_spec("bokeh") else "none without bokeh"
        there = _workers(client)
        coming = f" of up to {self._most}" if there < self._most else ""
        self._say(f"cluster: {there}{coming} workers; dashboard: {page}")
        self._held.enter_context(again(client, partial(self._tell_alone, client), ALONE_S))
        return client

    def _tell_alone(self, client: "Client") -> None:
        """Jobs may wait in a queue for hours, and so may whoever asked, who is told."""
        if not _workers(client) and any(future.status == "pending" for future in client.futures.values()):
            self._say("cluster: no worker is there now; the work waits until one comes, Ctrl-C keeps what is finished")

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
        future = self._client.submit(perform, all_code(), errand.call, files, errand.writes, *parts, key=task,
                                     retries=RETRIES, pure=False)
        sent[task] = errand, future
        ended.add(future)

    def _part(self, name: str, part: object) -> "Future":
        """Something that is brought to a worker when it first needs it; made again where all who have it died."""
        if name not in self._parts:
            self._parts[name] = self._client.submit(pickle.loads, pickle.dumps(part), key=f"ep-hw-{name}", pure=False)
        return self._parts[name]


def perform(code: dict[str, int | str], call: Callable, files: Files, writes: Iterable[str],
            *parts: object) -> Files | Refusal:
    """On a worker: make an errand's call in a folder of its own; what it wrote, or why it is refused.

    Args:
        code: `all_code` of the asker; Dask keeps a worker that joins later and whose `equip` fails.
        call: see `Errand`, and so `writes` and `parts`.
        files: that it reads.
    """
    with ONE_CALL, TemporaryDirectory(prefix="ep-hw-") as folder, threads(1):
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        try:
            _check_code(code, all_code(), "workers run")
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
        raise none_came() from None
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
            equip(self.code, self.own, Path(worker.local_directory))

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


def equip(code: dict[str, int | str], own: Belongings, place: Path) -> None:
    """On a worker, before anything else.

    Args:
        code: `all_code` of the asker.
        own: the files of its user.
        place: the worker's own folder, which Dask removes when it ends.

    Raises:
        Refusal: another version, or files of the same names with other content.
    """
    own.bring(place)
    _check_code(code, all_code(), "workers run")


def _check_code(code: dict[str, int | str], theirs: dict[str, int | str], who: str) -> None:
    if others := [name for name, number in code.items() if theirs.get(name) != number]:
        raise Refusal(f"the cluster's {who} another version", where="--cluster",
                      got=", ".join(f"{name} {theirs.get(name)}" for name in others),
                      allowed=", ".join(f"{name} {code[name]}" for name in others),
                      remedy="install the same versions there")
