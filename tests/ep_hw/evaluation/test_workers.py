"""Worker processes: every call is answered, errors keep their tracebacks, and a death at any moment is told at once."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from processes import all_end, descendants, wait_until

import mapping
from ep_hw.evaluation.workers import workers
from mapping.errors import MachineError, Refusal

SECONDS = 5.0   # until a death is told and everything is gone


def pids(pool) -> list[int]:
    return [worker.pid for worker in pool._processes.values()]


def code(text: str):
    """A call that runs code."""
    return partial(exec, textwrap.dedent(text))


def test_every_call_is_answered_once_by_another_process():
    with workers(2) as pool:
        assert Counter(pool.each(partial(pow, 2, n) for n in range(20))) == Counter(2**n for n in range(20))
        assert set(pool.each([os.getpid] * 50)) <= set(pids(pool))
        assert list(pool.each([])) == []
        assert list(pool.each([gc.isenabled])) == [True]


def test_large_calls_and_answers_pass():
    blob = os.urandom(5_000_000)
    with workers(2) as pool:
        assert list(pool.each([partial(bytes, blob)] * 3)) == [blob] * 3


def test_workers_have_one_thread_and_hear_no_ctrl_c():
    with workers(1) as pool:
        assert list(pool.each([partial(os.getenv, "OMP_NUM_THREADS")])) == ["1"]
        os.kill(pids(pool)[0], signal.SIGINT)
        assert list(pool.each([partial(pow, 2, 3)])) == [8]


def test_what_a_call_raises_arrives_with_its_traceback():
    with workers(1) as pool:
        with pytest.raises(Refusal, match="unknown machine"):
            list(pool.each([partial(mapping.parse, "spinnaker")]))
        with pytest.raises(ValueError, match="invalid literal") as caught:
            list(pool.each([partial(int, "x")]))
        assert "Traceback" in str(caught.value.__cause__)
        with pytest.raises(MachineError, match="Local: of a worker"):
            list(pool.each([code("class Local(Exception): pass\nraise Local('of a worker')")]))
        assert list(pool.each([partial(pow, 2, 3)])) == [8]


def test_a_call_finds_what_the_hosts_main_module_defines(tmp_path):
    script = tmp_path / "own.py"
    script.write_text(textwrap.dedent("""
        from ep_hw.evaluation.workers import workers

        def mine():
            return __name__

        if __name__ == "__main__":
            with workers(1) as pool:
                print(*pool.each([mine]))
        """))
    assert run(script).stdout == "__mp_main__\n"


def test_a_main_module_that_starts_workers_when_imported_is_told_so_once(tmp_path):
    (tmp_path / "own.py").write_text("from ep_hw.evaluation.workers import workers\n"
                                     "with workers(1) as pool:\n    print('no')")
    done = run(tmp_path / "own.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert "if __name__ == '__main__'" in done.stderr


def run(script: Path):
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)


DOING = {"nothing": "", "computing": "while True: pass", "waiting": "import os; os.read(os.pipe()[0], 1)",
         "stopped": "import os; os.kill(os.getpid(), 19)"}


@pytest.mark.parametrize("doing", DOING)
def test_a_death_is_told_at_once_whatever_the_worker_was_doing(doing):
    with workers(2) as pool:
        started, begun = pids(pool), time.monotonic()
        answers = pool.each([code(DOING[doing]), code("import time; time.sleep(100)")])
        if doing == "nothing":
            next(answers)
        threading.Timer(0.1, os.kill, (started[0], signal.SIGKILL)).start()
        with pytest.raises(MachineError, match="a worker process died"):
            next(answers)
    assert time.monotonic() - begun < SECONDS
    assert all_end(started, 0)


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.abort()", "sys.exit()",
                                    "os.write(int(sys.argv[2]), b'abc'); os._exit(0)"])
def test_a_worker_that_ends_itself_is_told(ending, capfd):
    with pytest.raises(MachineError, match="a worker process died"), workers(1) as pool:
        list(pool.each([code(f"import os, sys; {ending}")]))
    assert "Traceback" not in capfd.readouterr().err


HOST = """
    import sys, time
    from functools import partial
    from ep_hw.evaluation.workers import workers
    from mapping.errors import MachineError

    if __name__ == "__main__":
        try:
            with workers(2) as pool:
                list(pool.each([partial(time.sleep, 0.01)] * 10_000))
        except MachineError as error:
            sys.exit(str(error))
    """
MOMENTS_S = 0.2, 0.5, 1, 2, 3, 5


def hear_hangups():
    """As from a terminal, also where the tests themselves run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def host(tmp_path):
    """Starts a process that always has work for two workers; what it leaves is killed in the end."""
    (tmp_path / "host.py").write_text(textwrap.dedent(HOST))
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, tmp_path / "host.py"], stderr=subprocess.PIPE, text=True,
                                        start_new_session=True, preexec_fn=hear_hangups))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)


def family_of(host) -> list[int]:
    """A host and its workers, as soon as they are there."""
    assert wait_until(lambda: len(descendants(host.pid)) == 3, 30)
    return descendants(host.pid)


@pytest.mark.parametrize(("sent", "to_all"), [(signal.SIGKILL, False), (signal.SIGTERM, False),
                                              (signal.SIGKILL, True), (signal.SIGHUP, True)])
def test_workers_end_with_their_host(host, sent, to_all):
    one = host()
    family = family_of(one)
    assert not [pid for pid in family if b"/dev/shm/" in Path(f"/proc/{pid}/maps").read_bytes()]
    (os.killpg if to_all else os.kill)(one.pid, sent)
    assert one.wait(SECONDS) == -sent
    assert all_end(family)


def test_workers_need_no_semaphore():
    """A /dev/shm that cannot be written stops nothing, and nothing is left in one that can."""
    poison = "import _multiprocessing as m, sys; del m.SemLock; from functools import partial"
    ask = ("from ep_hw.evaluation.workers import workers\n"
           "with workers(2) as pool: print(*pool.each([partial(pow, 2, 3)]))")
    done = subprocess.run([sys.executable, "-c", f"{poison}\n{ask}"], timeout=60, capture_output=True, text=True,
                          check=False)
    assert (done.stdout, done.stderr) == ("8\n", "")


@pytest.mark.slow
def test_a_worker_killed_at_any_moment_ends_the_command_with_one_line(host):
    """Six hosts side by side, one of whose workers is killed at its own moment after its start."""
    hosts = [host() for _ in MOMENTS_S]
    families = list(map(family_of, hosts))
    begun = time.monotonic()
    for moment, one, family in zip(MOMENTS_S, hosts, families):
        time.sleep(max(0, begun + moment - time.monotonic()))
        os.kill(family[-1], signal.SIGKILL)
        _, words = one.communicate(timeout=SECONDS)
        assert (one.returncode, len(words.splitlines())) == (1, 1)
        assert "a worker process died" in words
        assert all_end(family, 0)
