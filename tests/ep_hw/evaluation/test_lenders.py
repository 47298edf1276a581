"""Lenders: workers of this machine that start again, schedulers that answer, jobs that a batch system refuses."""

import os
import signal
from pathlib import Path

import pytest
from errands import LENT, die, errand, write_place

from ep_hw.evaluation import lenders
from ep_hw.evaluation.cluster import Cluster
from ep_hw.evaluation.lenders import BatchSystem
from mapping.errors import MachineError, Refusal
from mapping.files import parse_toml

dask = pytest.importorskip("dask", reason="needs ep-hw[cluster]")
distributed = pytest.importorskip("distributed", reason="needs ep-hw[cluster]")


@pytest.fixture
def given_up():
    """Dask gives up a worker as soon as it ends, as it does on a busy machine."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0s"}):
        yield


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_told(given_up, tmp_path, monkeypatch):
    """Each of them starts again, also where Dask has given it up."""
    monkeypatch.setattr(lenders, "DEATHS", 2)
    with Cluster("local:1") as own, pytest.raises(MachineError, match="lost its worker again and again"):
        list(own.each([errand(tmp_path, die)]))


@pytest.mark.slow
def test_work_that_no_worker_is_left_for_is_told(given_up, tmp_path, monkeypatch):
    monkeypatch.setattr(lenders, "AGAIN_S", 10_000)   # none starts again
    monkeypatch.setattr(lenders, "ALONE_S", 1)
    with Cluster("local:1") as own, pytest.raises(MachineError, match="no worker is left and none came in 1 s"):
        list(own.each([errand(tmp_path, die)]))


@pytest.mark.slow
def test_workers_that_do_not_start_are_told(monkeypatch):
    monkeypatch.setattr(lenders, "ALONE_S", 0.01)
    with Cluster("local:1") as own, pytest.raises(MachineError, match=r"no worker is left and none came in 0\.01 s"):
        own.check(int)


@pytest.mark.parametrize("where", ["local", "local:0", "local:-1", "local:1e9", "local:²", "slurm", "http://a:1", "",
                                   "tcp://", "tcp://a", "tcp://:8786", "tcp://a:b", "tcp://a:0", "tcp://a:99999"])
def test_other_words_are_refused_before_anything_starts(where):
    with pytest.raises(Refusal, match="--cluster: no such cluster"):
        Cluster(where)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_scheduler_that_does_not_answer_is_refused(scheme, monkeypatch, tmp_path):
    """Nobody there, or no certificates for `tls`."""
    monkeypatch.setattr(lenders, "SECONDS", 0.5)
    with Cluster(f"{scheme}://127.0.0.1:9") as nowhere, pytest.raises(Refusal, match="the cluster does not answer"):
        list(nowhere.each([errand(tmp_path, write_place)]))


@pytest.mark.parametrize("text", ["", 'system = "Slurm"\nmost = 2\n[options]', "most = 2\n[options]",
                                  'system = "SLURM"\nmost = 0\n[options]',
                                  'system = "SLURM"\nmost = 1\nleast = 2\n[options]'])
def test_files_that_name_no_batch_system_are_refused(text, tmp_path):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(Refusal, match="not a batch system"):
        Cluster(str(tmp_path / "own.toml"))


DOC = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()


def test_the_job_that_the_page_shows_is_what_slurm_gets():
    import dask_jobqueue

    asked = BatchSystem.model_validate(parse_toml(DOC.split("```toml\n")[1].split("```")[0].encode()))
    with getattr(dask_jobqueue, f"{asked.system}Cluster")(**asked.options, scheduler_options={"port": 0}) as queue:
        script = queue.job_script()
    assert "#SBATCH -p cpu" in script
    assert "#SBATCH -t 02:00:00" in script
    assert "source ~/ep-hw/bin/activate" in script
    assert "distributed.cli.dask_worker" in script


@pytest.mark.slow
@pytest.mark.parametrize("looks", ["1s", "200ms"])
def test_a_batch_system_lends_workers(tmp_path, looks):
    """However often it is looked whether they have work: the first is not given back before it is asked for any."""
    (tmp_path / "own.toml").write_text(LENT)

    def write(folder):   # travels by value: these workers know no test
        (folder / "b").write_text("lent")

    heard = []
    with dask.config.set({"distributed.adaptive.interval": looks}), Cluster(str(tmp_path / "own.toml"),
                                                                            heard.append) as lent:
        list(lent.each([errand(tmp_path, write)]))
    assert (tmp_path / "b").read_text() == "lent"
    assert heard[0].startswith("cluster: 1 of up to 2 workers; ")


SBATCH = """#!/bin/sh
# a batch system that takes some jobs, by how many it was asked for, and runs them here
echo >> "$0.tries"
if ! test "$(wc -l < "$0.tries")" {taken}; then echo "sbatch: no such partition" >&2; exit 1; fi
cp "$1" "$0.job"
setsid sh "$0.job" > /dev/null 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A function of which jobs sbatch takes: the file of that batch system."""
    def taking(taken):
        for name, does in (("sbatch", SBATCH.format(taken=taken)), ("scancel", '#!/bin/sh\nkill -KILL -- "-$1"\n')):
            (tmp_path / name).write_text(does)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        (tmp_path / "slurm.toml").write_text('system = "SLURM"\nmost = 1\n[options]\ncores = 1\nmemory = "4GB"\n')
        return str(tmp_path / "slurm.toml")

    return taking


def test_a_batch_system_that_takes_no_job_is_told_at_once(slurm, tmp_path, caplog):
    with (Cluster(slurm("-lt 1")) as lent,
          pytest.raises(Refusal, match=r"slurm.toml: the batch system takes no job; got (.|\n)*no such partition")):
        list(lent.each([errand(tmp_path, write_place)]))
    assert not caplog.records


@pytest.mark.slow
def test_jobs_that_are_refused_later_are_asked_for_again(slurm, given_up, tmp_path, monkeypatch):
    """The first job ends with its work undone, the next is refused."""
    monkeypatch.setattr(lenders, "SUBMITTED_S", 0.2)
    tried = tmp_path / "tried"

    def once(folder):   # travels by value: these workers know no test
        if not tried.exists():
            tried.touch()
            os.killpg(0, signal.SIGKILL)
        (folder / "b").write_text("in the end")

    with Cluster(slurm("-ne 2")) as lent:
        list(lent.each([errand(tmp_path, once)]))
    assert (tmp_path / "b").read_text() == "in the end"
    assert len((tmp_path / "sbatch.tries").read_text()) >= 3
