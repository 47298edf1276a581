"""`--devices`: every command takes device files, from the option, the environment or the user's folder."""

import os

import pytest
import typer
from lab import LAB
from registries import restored

import mapping
from ep_hw.cli.commands import app
from mapping.crossbar.presets import PRESETS


@pytest.fixture(autouse=True)
def devices():
    """Devices that a command registers are known to its test alone."""
    with restored(mapping.REGISTRY, PRESETS):
        yield


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


def test_every_command_takes_what_users_bring():
    commands = typer.main.get_command(app).commands
    assert len(commands) > 20
    assert all({"--devices", "--plugin"} <= {flag for parameter in command.params for flag in parameter.opts}
               for command in commands.values())


def test_they_are_machines_whatever_brings_them(ep_hw, file, tmp_path, monkeypatch):
    _, out, _ = ep_hw("machines")
    assert "crossbar:lab" not in out
    code, out, _ = ep_hw("machines", "--devices", file)
    assert (code, "crossbar:lab" in out) == (0, True)
    assert str(file) in os.environ["EP_HW_DEVICES"]   # for worker processes


@pytest.mark.parametrize("way", ["environment", "folder"])
def test_what_a_user_always_has_at_hand_needs_no_option(ep_hw, file, configuration, monkeypatch, way):
    if way == "environment":
        monkeypatch.setenv("EP_HW_DEVICES", str(file))
    else:
        usual = configuration / "ep-hw" / "devices"
        usual.mkdir(parents=True)
        file.rename(usual / "lab.toml")
    code, out, _ = ep_hw("devices", "lab")
    assert (code, "HfOx ReRAM of our lab" in out) == (0, True)


def test_a_file_that_is_no_device_file_is_refused_by_name(refused, file):
    file.write_text(LAB.replace("g_max_us = 60.0", "g_max_us = 1.0"))
    line = refused("machines", "--devices", file)
    assert f"{file}, preset lab: not a device" in line
    assert "g_min_us 2, not below g_max_us 1" in line
    assert "no readable devices" in refused("machines", "--devices", file.with_name("missing.toml"))
    file.write_text(LAB.replace("[lab]", "[pcm]"))
    assert "preset pcm" in refused("devices", "pcm", "--devices", file)


def test_a_machine_that_is_not_there_tells_of_the_options_that_bring_one(refused):
    assert "come by --devices or --plugin" in refused("cost", "digits", "--on", "crossbar:lab")


def test_what_is_said_to_run_a_program_names_the_files_again(ep_hw, file):
    code, out, _ = ep_hw("compile", "digits", "--on", "crossbar:lab", "--devices", file, "--out", "mapped")
    assert code == 0
    assert f"'ep-hw evaluate digits --on mapped --devices {file}'" in out


def test_worker_processes_know_them(ep_hw, file):
    code, out, _ = ep_hw("evaluate", "digits", "--alone", "--on", "crossbar:lab/read", "--images", 2, "--jobs", 2,
                         "--devices", file, "--out", "run")
    assert code == 0
    assert "crossbar:lab/read" in out


@pytest.mark.parametrize(("line", "words"), [('model = "polynomal"', "did you mean polynomial?"),
                                             ('model = "measured"\nextra = 1', "extra: there is no"),
                                             ("constants = {reed_noise = 0.01}", "did you mean read_noise?"),
                                             ("stuck_of = 0.01", "did you mean stuck_on or stuck_off?")])
def test_equations_that_nobody_knows_are_refused_where_the_file_is_read(refused, file, line, words):
    file.write_text(LAB.replace("constants = {read_noise = 0.01}", line))
    assert words in refused("machines", "--devices", file)
