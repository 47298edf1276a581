"""Benchmarks say what they measure before they measure anything."""

import runpy
import sys

import pytest


@pytest.mark.parametrize("name", ["analog", "crossbar", "forecast", "relaxation"])
def test_help_is_shown_and_nothing_else_happens(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "-h"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert ended.value.code is None
    assert f"benchmarks.{name}" in capsys.readouterr().out
