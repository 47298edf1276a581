"""A cluster: the same bytes as one process, no shared disk, and nothing lost when workers or the asker die."""

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import torch
from errands import LENT, errand, write_place
from networks import saved, small_network
from processes import all_end, descendants, wait_until
from registries import restored

import mapping
from ep_hw import threads, workflow
from ep_hw.evaluation import cluster as module
from ep_hw.evaluation.cluster import Cluster, equip, perform
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.own import Belongings, bring_plugins
from ep_hw.evaluation.plan import evaluate
from ep_hw.evaluation.suites import Request
from ep_hw.learning.in_situ.run import Lesson, plan_tuning, run_tuning
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from ep_hw.versions import all_code
from mapping.crossbar.presets import PRESETS
from mapping.errors import MachineError, Refusal
from simulators.loihi import interpreter

distributed = pytest.importorskip("distributed", reason="needs ep-hw[cluster]")
THREATS = [parse_threat(name) for name in ("pgd_l2@0.5", "contrast@3")]


@pytest.fixture(scope="module")
def address():
    """Of a scheduler with two workers that start again when they die."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, scheduler_port=0, dashboard_address=None,
                                  memory_limit=None) as running:
        yield running.scheduler_address


@pytest.fixture
def workers(address):
    with Cluster(address) as connected:
        yield connected


def test_it_says_how_many_will_work(address, tmp_path, monkeypatch):
    """Asked for: nothing is started. Of a scheduler: those that are there, and one where there is none yet."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2})
    (tmp_path / "own.toml").write_text('system = "Local"\nmost = 40\n[options]\n')
    assert [Cluster(where).workers() for where in ("local:2", "local:50", str(tmp_path / "own.toml"))] == [2, 3, 40]
    with distributed.LocalCluster(n_workers=0, scheduler_port=0, dashboard_address=None) as idle:
        for running, there in ((address, 2), (idle.scheduler_address, 1)):
            with Cluster(running) as joined:
                assert joined.workers() == there


def join_words(folder, *parts):
    (folder / "b").write_text(f"{(folder / 'a').read_text()} {' '.join(parts)}")


def test_files_travel_to_a_folder_elsewhere_and_back(workers, tmp_path):
    (tmp_path / "a").write_text("files")
    sent = errand(tmp_path, join_words, reads=("a",), parts={"p1": "and", "p2": "parts"})
    assert list(workers.each([sent])) == [sent]
    assert (tmp_path / "b").read_text() == "files and parts"


def without_lava():
    os.environ[interpreter.VARIABLE] = "/none"
    interpreter.find_spec = lambda name: None   # of this worker


def with_lava():
    del os.environ[interpreter.VARIABLE]
    interpreter.find_spec = importlib.util.find_spec


def test_workers_are_asked_for_lava_before_any_cell(address, tmp_path, caplog):
    """What is said is the worker's own reason and remedy; all else goes on, to the same bytes."""
    with Cluster(address) as workers:
        first, *_ = workers._client.scheduler_info(n_workers=-1)["workers"]
        workers._client.run(without_lava, workers=[first])
        try:
            with pytest.raises(Refusal, match=rf"machine lava, worker {first}: no interpreter .*got EP_HW_LAVA_PYTHON"):
                workers.check(interpreter.lava_python)
            plan = workflow.plan_evaluation("digits", Request(["lava", "loihi"], images=2), run=Run(cluster=workers))
            gone = workflow.absent([(plan, tmp_path)])
            assert set(gone) == {"lava"}
            assert f"lava left out: machine lava, worker {first}" in caplog.text
        finally:
            workers._client.run(with_lava, workers=[first])


def answer():
    os.environ["ANSWERED"] = os.environ.get("ANSWERED", "") + "once"


def test_a_worker_is_asked_once(workers):
    for _ in range(2):
        workers.check(answer)
    assert set(workers._client.run(os.getenv, "ANSWERED").values()) == {"once"}


def test_a_call_works_in_a_folder_of_its_own_and_only_what_is_asked_for_comes_back(workers, tmp_path):
    for n in range(40):
        (tmp_path / str(n)).mkdir()
    done = list(workers.each(errand(tmp_path / str(n), write_place) for n in range(40)))
    places = {(tmp_path / str(n) / "b").read_text() for n in range(40)}
    assert len(done) == len(places) == 40
    assert not any(Path(place).exists() or place.startswith(str(tmp_path)) for place in places)
    assert not list(tmp_path.rglob("c"))


def test_a_worker_of_several_threads_makes_one_call_at_a_time():
    """They share torch's number of threads, on which the last bits of sums depend."""
    running = []

    def call(folder):
        running.append(folder)
        time.sleep(0.02)   # others would begin meanwhile
        (folder / "b").write_text(f"{len(running)} call, {torch.get_num_threads()} thread")
        running.remove(folder)

    with ThreadPoolExecutor(4) as worker:
        made = list(worker.map(lambda number: perform(all_code(), call, {}, ("b",)), range(8)))
    assert made == [{"b": b"1 call, 1 thread"}] * 8


class Part:
    """Tells a file whenever it is unpickled, and where."""

    def __init__(self, told):
        self.told = told

    def __setstate__(self, state):
        self.__dict__ = state
        with self.told.open("a") as file:
            file.write(f"{os.getpid()}\n")


def take_part(folder, part):
    time.sleep(0.05)   # both workers get some
    (folder / "b").write_text(f"{os.getpid()}")


def test_a_part_travels_once_to_each_worker(workers, tmp_path):
    folders = [tmp_path / str(n) for n in range(20)]
    for folder in folders:
        folder.mkdir()
    part = {"counted part": Part(tmp_path / "told")}
    assert len(list(workers.each(errand(folder, take_part, parts=part) for folder in folders))) == 20
    worked, told = {(folder / "b").read_text() for folder in folders}, (tmp_path / "told").read_text().split()
    assert sorted(told) == sorted({*told, *worked})
    assert len(told) <= 2


@pytest.mark.parametrize(("drawn", "page"), [(None, "none without bokeh"), ("there", r"http://.*/status")])
def test_a_line_says_what_is_connected_to(address, tmp_path, monkeypatch, drawn, page):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: drawn if name == "bokeh" else name)
    heard = []
    with Cluster(address, heard.append) as workers:
        assert heard == [], "before there is work"
        for _ in range(2):
            list(workers.each([errand(tmp_path, write_place)]))
    line, = heard
    assert re.fullmatch(f"cluster: 2 workers; dashboard: {page}", line)


def test_work_that_waits_without_any_worker_is_told(tmp_path, monkeypatch):
    """Again and again until one comes, and where there is no work, never."""
    monkeypatch.setattr(module, "ALONE_S", 0.1)
    heard = []
    with (distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=None) as idle,
          Cluster(idle.scheduler_address, heard.append) as workers):
        workers.workers()
        time.sleep(0.5)   # five looks without work
        assert len(heard) == 1
        coming = Thread(target=lambda: (wait_until(lambda: len(heard) > 2), idle.scale(1)))
        coming.start()
        list(workers.each([errand(tmp_path, write_place)]))
        coming.join()
        assert len(heard) > 2
        assert set(heard[1:]) == {heard[1]}
        assert heard[1].startswith("cluster: no worker is there now")
        told = len(heard)
        list(workers.each([errand(tmp_path, dawdle, "slow")]))
        assert len(heard) == told


def dawdle(folder):
    time.sleep(0.5)   # five looks


def refuse(tried, folder):
    with tried.open("a") as file:
        file.write("x")
    raise Refusal("planted", where="here", got="it", allowed="none", remedy="take it out")


def stumble(tried, folder):
    with tried.open("a") as file:
        file.write("x")
    if tried.stat().st_size < 2:
        raise OSError("a full disk, say")
    (folder / "b").write_text("in the end")


def test_a_refusal_comes_back_at_once_and_other_errors_are_tried_again(workers, tmp_path):
    with pytest.raises(Refusal, match="planted"):
        list(workers.each([errand(tmp_path, partial(refuse, tmp_path / "refused"), "r")]))
    list(workers.each([errand(tmp_path, partial(stumble, tmp_path / "tried"), "s")]))
    assert ((tmp_path / "refused").read_text(), (tmp_path / "tried").read_text()) == ("x", "xx")
    assert (tmp_path / "b").read_text() == "in the end"


@pytest.mark.slow
def test_an_evaluation_gives_the_bytes_of_one_process(workers, tmp_path):
    request = Request(["loihi", "crossbar:ideal"], THREATS, images=3, chips=2, settings=AttackSettings(iterations=1))
    plans = {name: workflow.plan_evaluation("digits", request, run=run)
             for name, run in (("cluster", Run(cluster=workers)), ("alone", Run()))}
    for name, plan in plans.items():
        with threads.threads(1):
            evaluate(plan, tmp_path / name)
    table, other = ((tmp_path / name / "results.parquet").read_bytes() for name in plans)
    assert table == other


@pytest.mark.slow
def test_chips_are_tuned_to_the_bytes_of_one_process(workers, tmp_path):
    model = str(saved(small_network(3, gain=1.5), tmp_path))
    settings = TuningSettings(epochs=1, batch=600, free_steps=4, nudged_steps=2)
    tuning = plan_tuning(model, "crossbar:reram_wan[steps=5]", [0, 1], settings, Lesson(images=4))
    for name, cluster in (("cluster", workers), ("alone", None)):
        (tmp_path / name / "chips").mkdir(parents=True)
        run_tuning(tuning, tmp_path / name, lambda chip, course: None, cluster)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.safetensors")}
             for name in ("cluster", "alone")]
    assert len(files[0]) == 3
    assert files[0] == files[1]


def test_what_a_user_brought_is_there_and_must_be_the_same(monkeypatch, tmp_path):
    own = Belongings((("own_shift.py", b"BROUGHT = 1\n"),), ())
    monkeypatch.setenv("EP_HW_PLUGINS", "")
    try:
        equip(all_code(), own, tmp_path)
        assert sys.modules["own_shift"].BROUGHT == 1
        equip(all_code(), own, tmp_path)
        with pytest.raises(Refusal, match="another plug-in of the same name"):
            equip(all_code(), Belongings((("own_shift.py", b"BROUGHT = 2\n"),), ()), tmp_path)
    finally:
        sys.modules.pop("own_shift", None)


SHELF = """
[{name}]
title = "cells"
source = "a test"
model = "ideal"
g_max_us = 25.0
age_domain_s = [0.0, 0.0]
causes = []
"""


def test_two_files_of_devices_of_one_name_are_both_there(monkeypatch, tmp_path):
    monkeypatch.setenv("EP_HW_DEVICES", "")
    with restored(mapping.REGISTRY, PRESETS):
        equip(all_code(), Belongings((), tuple(("own.toml", SHELF.format(name=name).encode())
                                               for name in ("shelf", "other_shelf"))), tmp_path)
        assert {"shelf", "other_shelf"} <= set(PRESETS)


SHELVED = """
from pathlib import Path

import mapping

mapping.register_devices(Path(__file__).with_name("own_shelf.toml"))
"""


def write_shelf(folder):
    (folder / "b").write_text(f"{PRESETS['shelf'].title} {sys.modules['own_shelf'].__file__}")


@pytest.mark.parametrize("where", ["of this machine", "elsewhere"])
def test_workers_have_what_a_plugin_reads_beside_itself(where, address, tmp_path, monkeypatch):
    """Those that the command starts read it where it is, as they inherit all paths; others have copies of their own."""
    (tmp_path / "own_shelf.py").write_text(SHELVED)
    (tmp_path / "own_shelf.toml").write_text(SHELF.format(name="shelf"))
    monkeypatch.setenv("EP_HW_PLUGINS", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored(mapping.REGISTRY, PRESETS):
        bring_plugins([tmp_path / "own_shelf.py"])
        with Cluster("local:1" if where == "of this machine" else address) as workers:
            assert list(workers.each([errand(tmp_path, write_shelf)]))
    del sys.modules["own_shelf"]
    title, place = (tmp_path / "b").read_text().split()
    assert title == "cells"
    assert (Path(place).parent == tmp_path) == (where == "of this machine")


def test_workers_of_another_version_are_refused(tmp_path):
    with pytest.raises(Refusal, match=r"another version; got torch .*; allowed: torch 1\.0"):
        equip({**all_code(), "torch": "1.0"}, Belongings((), ()), tmp_path)


ELSEWHERE = """
import sys

import distributed
import ep_hw

if __name__ == "__main__":
    {first}
    with distributed.LocalCluster(n_workers={workers}, processes=False, protocol="tcp", dashboard_address=None) as here:
        print(here.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def elsewhere(first, workers, folder):
    """A process that does something first, and then is a scheduler and workers; and its address."""
    (folder / "elsewhere.py").write_text(ELSEWHERE.format(first=first, workers=workers))
    with subprocess.Popen([sys.executable, folder / "elsewhere.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as there:
        try:
            yield there, there.stdout.readline().strip()
        finally:
            there.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "said"), [
    ("sys.modules['ep_hw'] = None", "workers cannot run cells; got .*ep_hw.*; allowed: ep-hw .* installed"),
    ("ep_hw.__version__ = '0.1.0'", r"another version; got ep_hw 0\.1\.0; allowed: ep_hw")])
def test_a_cluster_that_cannot_run_cells_is_refused(first, said, tmp_path):
    """It has no ep-hw, or another one; before any worker comes."""
    with elsewhere(first, 0, tmp_path) as (_, address), Cluster(address) as other, pytest.raises(Refusal, match=said):
        list(other.each([errand(tmp_path, join_words)]))


LATE = """
import sys

import ep_hw
from distributed.cli.dask_worker import main

ep_hw.__version__ = "0.1.0"
sys.argv[1:] = [*sys.argv[1:], "--nthreads", "1", "--no-nanny", "--no-dashboard"]
main()
"""


@pytest.mark.slow
def test_a_worker_of_another_version_that_joins_later_does_no_work(tmp_path):
    def write(folder):   # travels by value: that worker knows no test
        (folder / "b").touch()

    with (distributed.LocalCluster(n_workers=0, scheduler_port=0, dashboard_address=None) as idle,
          Cluster(idle.scheduler_address) as joined):
        joined.workers()
        with subprocess.Popen([sys.executable, "-c", LATE, idle.scheduler_address], stderr=subprocess.DEVNULL) as late:
            try:
                with pytest.raises(Refusal, match=r"workers run another version; got ep_hw 0\.1\.0; allowed: ep_hw"):
                    list(joined.each([errand(tmp_path, write)]))
            finally:
                late.kill()
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_cluster_that_is_lost_is_told_in_a_line(tmp_path):
    """Dask's client logs nothing of it."""
    begun = tmp_path / "begun"

    def work(folder):
        begun.touch()
        time.sleep(60)

    with elsewhere("pass", 1, tmp_path) as (there, address), Cluster(address) as lost:
        Thread(target=lambda: wait_until(begun.exists, 60) and there.kill()).start()
        with pytest.raises(MachineError, match="the cluster is gone"):
            list(lost.each([errand(tmp_path, work)]))
    assert not logging.getLogger("distributed.client").isEnabledFor(logging.ERROR)


FEW = """
title = "few"
model = "digits-bp-s11"
machines = ["crossbar:pcm"]
threats = ["contrast@3", "contrast@4", "contrast@5"]
images = 2
chips = 3
waterfalls = false

[grid]
adc_bits = [4, 5, 6, 7]

[attack]
votes = 1
"""


def tasks_left(dask_scheduler):
    return [key for key in dask_scheduler.tasks if str(key).startswith("ep-hw-")]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["running", "local:2", "own.toml"])
def test_ctrl_c_takes_every_task_back_and_the_same_command_goes_on(ep_hw, address, where, tmp_path):
    """As a terminal sends it, to workers too, with cells done and cells to do; all that is said is the command's own
    line. In the end the bytes are those of a quiet run.
    """
    (tmp_path / "few.toml").write_text(FEW)
    (tmp_path / "own.toml").write_text(LENT)
    out, where = tmp_path / "cut", address if where == "running" else where
    command = [sys.executable, "-m", "ep_hw.cli", "study", "few.toml", "--cluster", where, "--out", out]
    asker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert wait_until(lambda: list((out / "cells").glob("*.json")), 120)
    family = descendants(asker.pid)
    os.killpg(asker.pid, signal.SIGINT)
    _, said = asker.communicate(timeout=60)
    lines = [line for line in said.splitlines() if not line.startswith("calibration: ")]
    assert (asker.returncode, len(lines)) == (130, 1), said
    assert lines[0].startswith("ep-hw: interrupted; what was finished is kept")
    assert 0 < len(list((out / "cells").glob("*.json"))) < 48
    assert all_end(family, 30)
    with distributed.Client(address) as client:
        assert wait_until(lambda: not client.run_on_scheduler(tasks_left), 30)
    for again in (["--cluster", where, "--out", out], ["--jobs", 1, "--out", "quiet"]):
        assert ep_hw("study", "few.toml", *again)[0] == 0
    for name in ("results.parquet", "study.csv"):
        assert (out / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes(), name


MANY = """
title = "many"
model = "digits-bp-s11"
machines = ["crossbar:pcm"]
threats = ["contrast@2", "contrast@3", "contrast@4", "contrast@5"]
images = 2
chips = 8
waterfalls = false

[grid]
adc_bits = [4, 5, 6, 7, 8]
dac_bits = [4, 5, 6, 7, 8]

[attack]
votes = 1
"""


@pytest.mark.slow
def test_killed_workers_and_a_killed_asker_lose_nothing(ep_hw, tmp_path):
    """A study of a thousand cells on two workers, of which three are killed; then the asker; asked again, the bytes are
    those of a quiet run in one process.
    """
    (tmp_path / "many.toml").write_text(MANY)
    killed, quiet = (["study", "many.toml", "--out", "killed", "--cluster", "local:2"],
                     ["study", "many.toml", "--out", "quiet", "--jobs", "1"])

    def done(least: int) -> bool:
        return len(list((tmp_path / "killed" / "cells").glob("*.json"))) >= least

    with open(tmp_path / "said", "w") as said:
        asker = subprocess.Popen([sys.executable, "-m", "ep_hw.cli", *killed], stdout=subprocess.DEVNULL, stderr=said)
        dead = []
        for least in (1, 100, 200):
            assert wait_until(partial(done, least), 240), (tmp_path / "said").read_text()
            dead.append(next(pid for pid in reversed(descendants(asker.pid)) if pid not in dead and is_worker(pid)))
            os.kill(dead[-1], signal.SIGKILL)
        assert wait_until(partial(done, 300), 240), (tmp_path / "said").read_text()
        family = descendants(asker.pid)
        asker.kill()
        asker.wait(60)
    assert all_end(family, 30)
    assert not done(1001), "the asker was killed too late"
    for command in (killed, quiet):
        code, _, err = ep_hw(*command)
        assert code == 0, err
    assert done(1001)
    for name in ("results.parquet", "study.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes(), name


def is_worker(pid: int) -> bool:
    """Whether a process makes calls of a cluster, and does not only look after others' resources."""
    said = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"spawn_main" in said and b"resource_tracker" not in said
