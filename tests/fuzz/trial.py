"""One case, tried in a process of its own: a crash, a hang or gigabytes become a row of the table."""

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mapping.errors import Refusal
from tests.fuzz.door import Case
from tests.fuzz.edits import CANARY, lay_out

SECONDS, MEGABYTES = 2.0, 200.0   # that a door may take: of a processor, and of memory it did not begin with
LIMIT_S, ASLEEP_S, LIMIT_MB = 3.0, 2.0, 1500.0   # after which a case is stopped: computing, waiting, in memory
FAULTS = ("OTHER MEANING", "EXCEPTION", "OVER 2 S", "OVER 200 MB", "CODE RUN")   # columns that must stay 0
_POLL_S, _TICKS = 0.02, os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Outcome:
    """What a door made of a case.

    Attributes:
        verdict: "refused", "same" or "other" meaning, "exception", "stopped".
        seconds: of a processor. megabytes: beyond what the process began with. code_run: whether planted code ran.
        detail: the refusal, the error, or what was read.
    """

    verdict: str
    seconds: float
    megabytes: float
    code_run: bool
    detail: str


@dataclass(frozen=True)
class Row:
    """A case tried: which it was, what was done to a good input, and what came of it."""

    door: str
    seed: int
    number: int
    what: str
    strict: bool
    outcome: Outcome


def tried(place: tuple[str, int, int]) -> Row:
    """The case of a door, a seed and a number."""
    from tests.fuzz.doors import DOORS

    case = DOORS[place[0]].case(*place[1:])
    return Row(*place, case.edited.what, case.edited.strict, attempt(case))


def faults(row: Row) -> list[str]:
    """Those of `FAULTS` that a row counts in."""
    outcome = row.outcome
    wrong = (outcome.verdict == "other" and row.strict, outcome.verdict == "exception", outcome.seconds > SECONDS,
             outcome.megabytes > MEGABYTES, outcome.code_run)
    return [column for column, is_so in zip(FAULTS, wrong) if is_so]


def columns_of(row: Row) -> list[str]:
    """The columns of the table that a row counts in."""
    fine = {"refused": ["refused"], "same": ["same"]}.get(row.outcome.verdict, [])
    legal = ["legal other"] if row.outcome.verdict == "other" and not row.strict else []
    return ["cases", *fine, *legal, *faults(row)]


def attempt(case: Case) -> Outcome:
    """Open a case in a forked process and judge it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch) / "input"
        folder.mkdir()
        lay_out(case.edited.files, folder)
        report, status, stopped = _forked(case, folder)
        ran = any((place / CANARY).exists() for place in (folder, Path.cwd(), Path.home()))
    return Outcome(code_run=ran, **(report or _ended(status, stopped)))


def _ended(status: int, stopped: str) -> dict:
    """Of a process that could not say how it went."""
    spent = {"seconds": LIMIT_S if stopped == "time" else 0.0, "megabytes": LIMIT_MB if stopped == "memory" else 0.0}
    if stopped:
        return {"verdict": "stopped", "detail": f"stopped: {stopped}", **spent}
    ending = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return {"verdict": "exception", "detail": f"ended by {ending}", **spent}


def _forked(case: Case, folder: Path):
    """What the child said, or None; its exit status; why it was stopped, or ""."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(case, folder, writing)
    os.close(writing)
    blob, stopped = _listen(reading, pid)
    os.close(reading)
    with suppress(OSError):   # and whatever it has started
        os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return json.loads(blob.splitlines()[-1]) if blob else None, status, stopped


def _listen(reading: int, pid: int) -> tuple[bytes, str]:
    """What a process says until it ends, and why it must be stopped: "time", "memory" or ""."""
    blob, (_, _, first), awake = b"", _state(pid), time.monotonic()
    while True:
        if select.select([reading], [], [], _POLL_S)[0]:
            if not (part := os.read(reading, 65536)):
                return blob, ""
            blob += part
        asleep, seconds, megabytes = _state(pid)
        if not asleep:
            awake = time.monotonic()
        if seconds > LIMIT_S or time.monotonic() > awake + ASLEEP_S:
            return blob, "time"
        if megabytes > first + LIMIT_MB:
            return blob, "memory"


def _state(pid: int) -> tuple[bool, float, float]:
    """Whether a process waits, seconds that it has computed, megabytes that it has in memory."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0] in "SD", sum(map(int, fields[11:13])) / _TICKS, int(fields[21]) * resource.getpagesize() / 1e6


def _child(case: Case, folder: Path, writing: int):
    """Never returns."""
    try:
        faulthandler.disable()
        os.setsid()
        os.chdir(folder)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        for report in _opened(case, folder):
            os.write(writing, json.dumps(report).encode() + b"\n")
    finally:
        os._exit(0)


def _opened(case: Case, folder: Path) -> Iterator[dict]:
    """What is known of a case once it was opened, and again if what was read then fails."""
    before, started = _peak_mb(), time.process_time()
    opened, detail = None, ""
    try:
        opened = case.door.open(folder)
        verdict = "accepted"
    except Refusal as refusal:
        verdict, detail = "refused", str(refusal)[:300]
    except BaseException as error:
        verdict, detail = "exception", _said(error)
    spent = {"seconds": time.process_time() - started, "megabytes": _peak_mb() - before}
    if verdict == "accepted":
        same = case.door.meaning(opened) == case.expected
        verdict, detail = ("same" if same else "other"), f"{opened!r:.200}"
    yield {"verdict": verdict, "detail": detail, **spent}
    try:
        if verdict == "other":
            case.door.use(opened)
    except Refusal:
        pass
    except BaseException as error:
        yield {"verdict": "exception", "detail": f"behind the door: {_said(error)}", **spent}


def _said(error: BaseException) -> str:
    frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__}: {error!s:.200} at {' < '.join(frames[::-1][:4])}"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def settle():
    """Before the first fork: what lives now is never collected, so that children do not copy it."""
    gc.collect()
    gc.freeze()
