"""The same question gives the same bytes on any number of threads and workers, and under any hash seed."""

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
import torch
from networks import random_images, saved, small_network
from recipe import SMALL
from threadpoolctl import threadpool_limits

import mapping
from ep_hw.data import Split
from ep_hw.learning.in_situ.course import Task, tune_chip
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.training import Recipe, train
from mapping.crossbar.writing import writing_of

WIDE = {"image_shape": (3, 16, 16), "mean": (0.5,) * 3, "scale": (0.7,) * 3, "steps": 10}   # sums that threads share
TINY = SMALL.model_copy(update={"affine": (10.0, 0.1, 0.5)})


@contextmanager
def threads_around(count: int):
    """An environment whose torch and numpy use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def on_threads(make) -> list:
    """What is made on one thread and on two."""
    made = []
    for count in (1, 2):
        with threads_around(count):
            made.append(make(count))
    return made


@pytest.mark.parametrize("channels", [(16, 32), (24, 48), (48, 64)])
def test_a_program_does_not_depend_on_threads(channels):
    net = small_network(channels=channels, **WIDE)
    assert len(set(on_threads(lambda _: mapping.compile(net.lower(), "crossbar:pcm").digest()))) == 1


def test_a_trained_network_does_not_depend_on_threads(tmp_path):
    def trained(count):
        out = tmp_path / str(count) / "net.safetensors"
        train(TINY, 1, out, name="net")
        return out.read_bytes()

    assert len(set(on_threads(trained))) == 1


def test_a_tuned_chip_does_not_depend_on_threads(tmp_path):
    program = mapping.compile(small_network(channels=(24, 48), **WIDE).lower(), "crossbar:reram_wan[age=1d]")
    images = Split("digits", random_images(64, WIDE["image_shape"]), torch.arange(64) % 10, torch.arange(64))
    task = Task(program, images, images, TuningSettings(epochs=1, batch=64, free_steps=4, nudged_steps=2),
                writing_of(program.target.preset.name), 0)

    def tuned(count):
        tune_chip(task, 3, tmp_path / str(count))
        return (tmp_path / str(count)).read_bytes()

    assert len(set(on_threads(tuned))) == 1


COMMANDS = """
    compile NET --on crossbar:pcm --out compiled
    evaluate NET --on crossbar:pcm --attack pgd_l2@0.5 --gradient bptt@5 --iterations 1 --eot 1 --votes 1 --images 2 \
        --chips 1 --jobs JOBS --out run
    train tiny.toml --out trained.safetensors
    tune NET --on crossbar:reram_wan[age=1d] --chips 1 --epochs 1 --batch 240 --images 20 --out tuned
    """
SCRIPT = """
    import shlex, sys
    from ep_hw.cli import main

    if __name__ == "__main__":
        for line in sys.argv[1].strip().splitlines():
            sys.argv = ["ep-hw", *shlex.split(line)]
            try:
                main()
            except SystemExit as end:
                assert not end.code, end.code
    """
DIARY = "summary.json", "SHA256SUMS", "report.html", "cells/*.json", "question.json"   # times, and the command
ELSEWHERE = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "1"}


@pytest.mark.slow
def test_commands_write_the_same_bytes_in_every_environment(ep_hw, monkeypatch, tmp_path):
    """Here on one thread and one worker, and elsewhere on others of both and another hash seed."""
    network = str(saved(small_network(3, gain=1.5, steps=20), tmp_path))
    (tmp_path / "all.py").write_text(textwrap.dedent(SCRIPT))
    folders = [tmp_path / "here", tmp_path / "elsewhere"]
    for folder in folders:
        folder.mkdir()
        (folder / "tiny.toml").write_text(toml(TINY))
    commands = COMMANDS.replace("NET", network)
    done = subprocess.run([sys.executable, tmp_path / "all.py", commands.replace("JOBS", "2")], cwd=folders[1],
                          env={**os.environ, **ELSEWHERE}, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folders[0])
    for line in commands.replace("JOBS", "1").strip().splitlines():
        code, _, err = ep_hw(*line.split())
        assert code == 0, err
    files = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
              if path.is_file() and not any(map(path.match, DIARY))} for folder in folders]
    assert {"results.parquet", "program.safetensors", "trained.safetensors", "tuning.csv"} <= {p.name for p in files[0]}
    assert files[0].keys() == files[1].keys()
    assert [str(name) for name in files[0] if files[0][name] != files[1][name]] == []


def toml(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
                   for key, value in values.items())
