"""A few hundred cases of the long run (`python -m tests.fuzz 10000`), and that each kind of fault would be seen."""

import os
import pickle
import time

import pytest
import torch

from mapping.errors import Refusal
from tests.fuzz.__main__ import described, main
from tests.fuzz.door import Door
from tests.fuzz.doors import DOORS
from tests.fuzz.edits import Edited
from tests.fuzz.pickles import Reduced
from tests.fuzz.trial import faults, tried

CASES = 10


@pytest.mark.parametrize("name", DOORS)
def test_a_door_refuses_or_reads_what_was_meant(name):
    rows = [tried((name, 0, number)) for number in range(CASES)]
    assert not [described(row) for row in rows if faults(row)]


class Gullible(Door):
    """A door that believes everything, with one planted fault a case."""

    name = "gullible"

    def __init__(self, behave, content=b"2"):
        self.behave, self.content = behave, content

    @property
    def edits(self):
        return (lambda rng, files: Edited("planted", {"file": self.content}),)

    def make(self):
        return [{"file": b"1"}]

    def open(self, folder):
        content = (folder / "file").read_bytes()
        if content != b"1":
            self.behave(content)
        return content


def refuse(content):
    raise Refusal("no", where="here", got=content, allowed="1", remedy="write 1")


def fill(content):
    return torch.ones(300_000_000, dtype=torch.uint8)


def compute(content):
    while True:
        pass


PLANTED = [("OTHER MEANING", len, b"2"), ("EXCEPTION", lambda content: 1 / 0, b"2"),
           ("EXCEPTION", lambda content: os.abort(), b"2"), ("EXCEPTION", lambda content: os._exit(0), b"2"),
           ("OVER 2 S", compute, b"2"), ("OVER 2 S", lambda content: time.sleep(60), b"2"), ("OVER 200 MB", fill, b"2"),
           ("CODE RUN", pickle.loads, pickle.dumps(Reduced(os.system, ("touch canary",))))]


@pytest.mark.parametrize(("column", "behave", "content"), PLANTED)
def test_each_kind_of_fault_is_seen(monkeypatch, column, behave, content):
    monkeypatch.setitem(DOORS, "gullible", Gullible(behave, content))
    row = tried(("gullible", 0, 0))
    assert column in faults(row)
    assert set(faults(row)) <= {column, "OTHER MEANING"}


def test_a_refusal_is_no_fault(monkeypatch):
    monkeypatch.setitem(DOORS, "gullible", Gullible(refuse))
    row = tried(("gullible", 0, 0))
    assert (row.outcome.verdict, faults(row)) == ("refused", [])


def test_the_same_seed_gives_the_same_case_and_another_one_another():
    door = DOORS["checkpoint ep"]
    assert door.case(3, 4).edited == door.case(3, 4).edited != door.case(4, 4).edited


def test_the_long_run_counts_every_case_and_fails_on_a_fault(monkeypatch, capsys):
    monkeypatch.setitem(DOORS, "gullible", Gullible(len))
    monkeypatch.setattr("sys.argv", ["fuzz", "6", "--door", "gullible", "--door", "write model", "--jobs", "1"])
    assert main() == 1
    out = capsys.readouterr().out
    assert "--door 'gullible' --seed 0 --case 2: OTHER MEANING" in out
    assert out.splitlines()[-1].split()[:1] + out.splitlines()[-1].split()[-5:] == ["all", "3", "0", "0", "0", "0"]
    monkeypatch.setattr("sys.argv", ["fuzz", "3", "--door", "write model", "--jobs", "1"])
    assert main() == 0
