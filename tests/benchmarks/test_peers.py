"""Benchmarks bring the packages of others that they run beside ours, or say what to install; no index is asked here."""

import sys
from pathlib import Path

import pytest

from benchmarks import analog, peers

PEERS = {"numpy": "numpy==2", "nowhere": "nowhere==1.5"}   # as name to import -> what to install


@pytest.fixture
def uv(monkeypatch, tmp_path):
    """A uv that does what a line of shell says, and writes down what it was asked."""
    monkeypatch.delenv(peers.BROUGHT, raising=False)
    monkeypatch.setattr(sys, "argv", ["-m", "16"])

    def stand_in(does):
        own = tmp_path / "uv"
        own.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\n{does}\n')
        own.chmod(0o755)
        monkeypatch.setenv("UV", str(own))
        return lambda: Path(tmp_path, "asked").read_text().splitlines()

    return stand_in


def test_who_has_all_peers_goes_on(uv):
    uv("exit 1")
    peers.bring("benchmarks.attacks", {"numpy": "numpy==2"})


def test_a_benchmark_runs_again_where_uv_brings_its_peers_and_ends_as_that_does(uv):
    asked = uv(f'case "$*" in *"-m benchmarks.attacks 16") test "${peers.BROUGHT}" = 1 && exit 7;; esac')
    with pytest.raises(SystemExit) as ended:
        peers.bring("benchmarks.attacks", PEERS)
    assert ended.value.code == 7
    assert len(asked()) == 2
    assert all("--with numpy==2 --with nowhere==1.5 python" in line for line in asked())


@pytest.mark.parametrize(("does", "reason"), [("echo building >&2; echo no index >&2; exit 2", "no index"),
                                              ("echo error: none >&2; echo hint: look >&2; exit 2", "error: none"),
                                              ("echo no index >&2; echo hint: look >&2; exit 2", "no index"),
                                              ("exit 2", "uv failed")])
def test_what_uv_cannot_bring_is_named(uv, does, reason):
    uv(does)
    with pytest.raises(SystemExit, match=rf"{reason}; install nowhere==1\.5 beside ep-hw, or run it where uv"):
        peers.bring("benchmarks.attacks", PEERS)


def test_without_uv_what_to_install_is_named(uv, monkeypatch):
    monkeypatch.setenv("UV", "/nowhere/uv")
    with pytest.raises(SystemExit, match=r"/nowhere/uv.*; install nowhere==1\.5"):
        peers.bring("benchmarks.attacks", PEERS)


def test_what_uv_brought_in_vain_is_not_asked_for_again(uv, monkeypatch):
    asked = uv("exit 0")
    monkeypatch.setenv(peers.BROUGHT, "1")
    with pytest.raises(SystemExit, match=r"uv did not bring them; install nowhere==1\.5"):
        peers.bring("benchmarks.attacks", PEERS)
    with pytest.raises(FileNotFoundError):
        asked()


def test_a_benchmark_beside_aihwkit_says_what_it_needs(uv):
    asked = uv("echo no index >&2; exit 2")
    with pytest.raises(SystemExit, match=r"no aihwkit here: no index; .*uv.* aihwkit==1\.2\.0 and Python 3\.12"):
        analog.main()
    assert "--python 3.12 --with aihwkit==1.2.0" in asked()[0]
