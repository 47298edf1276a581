"""Programs on disk: what was saved comes back, and nothing else is believed, not even sealed anew."""

import os
import stat
import time
import tracemalloc
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from chains import random_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated, random_images, small_network
from safetensors.numpy import load

import mapping
import simulators
from mapping import Refusal, load_program
from mapping.crossbar.tuned import TunedProgram
from mapping.files import write_folder
from mapping.program import FILE, FORM
from mapping.sealed import open_sealed, seal
from simulators.crossbar.programmed import program_chip

IDEAL = "crossbar:ideal"
PHASES = "crossbar:generic[scaling=column,signed_drive=two_phase,stuck_on=0.1]"
TARGETS = ["reference", "lava:float", "loihi", "loihi:states[state_bits=9]", "lava[threshold=0.05,weight_bits=1]",
           "crossbar:ideal", "crossbar:pcm[tile=18,arrays=separate]", "crossbar:pcm[encoding=offset,tile=20]",
           "crossbar:pcm/read[encoding=slices,levels=4]", PHASES]


@cache
def program(target: str):
    return mapping.compile(small_network(3).lower(), target)


@cache
def tuned():
    plain = program("crossbar:pcm")
    chips = {seed: {k: t.numpy() for k, t in program_chip(plain, seed).tensors().items()} for seed in (4, 2)}
    return TunedProgram(replace(plain.target, tuned=True), plain.graph, plain.layers, chips)


def content(folder, target: str) -> tuple[dict, dict]:
    """Header and arrays of a program's file."""
    blob = (tuned() if target == "tuned" else program(target)).files()[FILE]
    (folder / "whole").write_bytes(blob)
    return open_sealed(folder / "whole", FORM, remedy="").header, load(blob)


def test_every_kind_comes_back_with_its_digest(tmp_path):
    for n, made in enumerate([*map(program, TARGETS), tuned()]):
        made.save(tmp_path / str(n))
        again = load_program(tmp_path / str(n))
        assert type(again) is type(made)
        assert (again.digest(), str(again.target), again.files()) == (made.digest(), str(made.target), made.files())
    assert again.chip_seeds(9) == [4, 2]


@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path_factory, data):
    made = data.draw(st.sampled_from([program("loihi"), program("crossbar:pcm[tile=18,arrays=separate]"), tuned()]))
    blob, folder = made.files()[FILE], tmp_path_factory.getbasetemp() / "changed-program"
    place = data.draw(st.integers(0, len(blob) - 1) | st.integers(0, 5000))
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(blob[:place] + bytes([data.draw(st.integers(0, 255))]) + blob[place + 1:])
    try:
        again = load_program(folder)
    except Refusal:
        return
    assert again.digest() == made.digest()


def put(part, path: str, value):
    """Set what `path`, keys with dots between them, names in nested dicts and lists."""
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in way:
        part = part[key]
    part[last] = value


FORGED = [
    ("loihi", "network.steps", 10**9), ("loihi", "network.steps", 60.0), ("loihi", "network.tolerance", "1"),
    ("loihi", "network.tolerance", 0), ("loihi", "network.schedule", "random"), ("loihi", "network.slopes.0", True),
    ("loihi", "network.slopes", [0.5]), ("loihi", "network.couplings.0.padding", 2**31),
    ("loihi", "network.couplings.0.pool", 3), ("loihi", "network.couplings.0.pool", 1),
    ("loihi", "network.couplings.0.pre", [1, 8]), ("loihi", "network.couplings.1.pre", [4, 60000, 60000]),
    ("loihi", "network.image_shape", [1, 9, 8]), ("loihi", "network.couplings.0.name", "readout"),
    ("loihi", "network.couplings.0.name", "../x"), ("loihi", "network.more", 1), ("loihi", "more", 1),
    ("loihi", "kind", "crossbar"), ("loihi", "kind", "none"), ("loihi", "target", "crossbar:pcm"),
    ("loihi", "target", "loihi[weight_bits=8]"), ("loihi", "target", "loihi[state_bits=4]"),
    ("loihi", "target", 3),
    ("loihi", "target", "loihi[weight_bits=2]"), ("loihi", "target", "spinnaker"),
    ("loihi", "settings.state_bits", 10**10), ("loihi", "settings.state_bits", 8.0),
    ("loihi", "settings.input_bits", 99), ("tuned", "settings.chips", "4"),
    ("loihi", "settings.largest_beta", -1), ("loihi", "settings.largest_beta", 1e300),
    ("loihi", "settings.scales", [1.0]), ("loihi", "settings.scales", [1.0, -1.0]),
    ("loihi", "settings.scales", [2.0, 1.0]), ("loihi", "settings.scales", [1e-12, 1e12]),
    ("loihi", "network.ceilings", [0.5, 1.0]), ("loihi", "network.couplings.1.feedback_gain", 0.0),
    ("loihi", "network.couplings.1.stride", 2),
    ("loihi", "settings.layers.0.shift", 2**31), ("loihi", "settings.layers.0.up", -1),
    ("loihi", "settings.layers", []),
    ("loihi", "settings.layers.0.up", 40), ("loihi", "settings.layers.1.bound", 1),
    ("loihi", "settings.layers.0.scale", 10**6), ("loihi", "settings.layers.0.exponent", 1.0),
    ("loihi", "settings.layers.0.name", "conv2"), ("loihi", "settings.layers.0.more", 1), ("loihi", "settings", {}),
    (IDEAL, "settings.layers.0.us_per_weight", 0), (IDEAL, "settings.layers.0.base", 2),
    (IDEAL, "settings.layers.0.us_per_weight", True), (IDEAL, "settings.layers.0.base", "1"),
    (IDEAL, "settings.layers.0.row_cuts", [[0, 10**9]]), (IDEAL, "settings.layers.0.row_cuts", []),
    (IDEAL, "settings.layers.1.column_cuts", [[0, 3], [3, 6]]), (IDEAL, "target", "crossbar:pcm"),
    (IDEAL, "settings.layers.0.up", {"dac": 1.0, "signed": False}),
    (PHASES, "settings.layers.0.up", None),
    (PHASES, "settings.layers.0.up.dac", -1),
    (PHASES, "settings.layers.0.up.signed", 1),
    ("tuned", "settings.chips", []), ("tuned", "settings.chips", [4]), ("tuned", "settings.chips", [4, 2, 3]),
    ("tuned", "settings.chips", [4, -2]), ("tuned", "target", "crossbar:pcm"), ("tuned", "kind", "crossbar"),
    ("reference", "settings", {"a": 1}), ("reference", "network.couplings", [])]


ONE_PASS = [*((target, "steps=9") for target in ("loihi", "lava:float", "reference", "digital")),
            *(("crossbar:pcm", option) for option in ("dt=0.5", "readout_steps=3", "winners_held=1", "steps=2"))]


@pytest.mark.parametrize(("target", "option"), ONE_PASS)
def test_options_of_a_relaxation_are_refused_for_one_pass_compiled_or_loaded(tmp_path, target, option):
    graph, asked = calibrated(random_chain(1, feedback="none")), f"{target}[{option}]"
    replace(mapping.compile(graph, target), target=mapping.parse(asked)).save(tmp_path / "program")
    for refuse in (lambda: mapping.compile(graph, asked), lambda: load_program(tmp_path / "program")):
        with pytest.raises(Refusal, match=f"reads each layer once and takes no time steps; got {option}"):
            refuse()


@pytest.mark.parametrize("option", ["readout_steps=61", "winners_held=60"])
def test_more_steps_than_are_taken_are_refused_compiled_or_loaded(tmp_path, option):
    asked = f"crossbar:pcm[{option}]"
    replace(program("crossbar:pcm"), target=mapping.parse(asked)).save(tmp_path / "program")
    for refuse in (lambda: mapping.compile(program("crossbar:pcm").graph, asked),
                   lambda: load_program(tmp_path / "program")):
        with pytest.raises(Refusal, match=f"crossbar:pcm, {option.partition('=')[0]}: .* steps"):
            refuse()


@pytest.mark.parametrize(("target", "path", "value"), FORGED)
def test_a_setting_out_of_type_or_range_is_refused_though_sealed_anew(tmp_path, target, path, value):
    header, arrays = content(tmp_path, target)
    forged = deepcopy(header)
    put(forged, path, value)
    refused(tmp_path, forged, arrays)


def refused(tmp_path, header, arrays):
    """In one line, in less than 2 s of computing, and without memory."""
    (tmp_path / FILE).write_bytes(seal(FORM, header, arrays))
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(Refusal) as caught:
        load_program(tmp_path)
    assert time.process_time() - begun < 2
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()
    assert str(caught.value).isprintable()


NAN, INF = np.float32("nan"), np.float32("inf")
ALTERED = [
    ("loihi", "loihi.conv1.weight", lambda w: w.astype(np.int16)),
    ("loihi", "loihi.conv1.weight", lambda w: w[:, :, 1:]),
    ("loihi", "loihi.conv1.weight", lambda w: np.full_like(w, -128)),
    ("loihi", "loihi.conv1.bias", lambda b: b + 2**40),
    ("lava[threshold=0.05,weight_bits=1]", "loihi.conv1.weight", lambda w: w * 2),
    ("loihi", "loihi.conv1.bias", lambda b: b.astype(np.int32)), ("loihi", "graph.mean", lambda m: m * NAN),
    ("loihi", "graph.scale", lambda s: s * 0), ("loihi", "graph.conv1.weight", lambda w: w + INF),
    ("loihi", "graph.conv1.weight", lambda w: w[..., 1:]), ("loihi", "graph.conv1.weight", lambda w: w[0]),
    ("loihi", "graph.readout.bias", lambda b: b.astype(np.float64)), ("loihi", "stranger", lambda _: np.zeros(1)),
    ("loihi", "graph.conv1.weight", lambda w: np.zeros((4, 0, 3, 3), np.float32)),
    (IDEAL, "tiles.conv1.g_us", lambda g: g * NAN), (IDEAL, "tiles.conv1.g_us", lambda g: g - 1),
    (IDEAL, "tiles.conv1.g_us", lambda g: g * 2), (IDEAL, "tiles.conv1.g_us", lambda g: g[:, :1]),
    (IDEAL, "tiles.conv1.column_scale", lambda s: s * 0),
    (IDEAL, "tiles.conv1.column_scale", lambda s: s * 2),
    (IDEAL, "tiles.conv1.up.adc", lambda _: np.ones((1, 1, 1), np.float32)),
    ("tuned", "tiles.conv2.down.adc", lambda a: -a), ("tuned", "tiles.conv2.down.adc", lambda a: a * INF),
    ("tuned", "tiles.conv2.down.adc", lambda a: a[0]), ("tuned", "chip.4.0.forward.conductance_us", lambda g: g * NAN),
    ("tuned", "chip.4.0.forward.conductance_us", lambda g: g[..., 1:]),
    ("tuned", "chip.2.1.forward.fresh_us", lambda g: -g),
    ("tuned", "chip.2.0.forward.compensation", lambda c: c * INF), ("tuned", "chip.2.0.bias", lambda _: np.zeros(4)),
    ("tuned", "chip.2.0.feedback.conductance_us", lambda _: np.zeros(4))]


@pytest.mark.parametrize(("target", "name", "change"), ALTERED)
def test_an_array_of_another_type_shape_or_range_is_refused_though_sealed_anew(tmp_path, target, name, change):
    header, arrays = content(tmp_path, target)
    refused(tmp_path, header, {**arrays, name: change(arrays.get(name))})


def test_a_missing_array_is_refused(tmp_path):
    for target in ("loihi", IDEAL):
        header, arrays = content(tmp_path, target)
        for name in arrays:
            refused(tmp_path, header, {key: array for key, array in arrays.items() if key != name})


def test_what_was_sealed_anew_and_is_in_range_runs(tmp_path):
    """Another program, but one: no range was so wide that a machine fails on its ends."""
    header, arrays = content(tmp_path, "crossbar:pcm[tile=18,arrays=separate]")
    ends = {name: np.full_like(array, 25 if name.endswith("g_us") else 1e-30) for name, array in arrays.items()
            if name.startswith("tiles.")}
    (tmp_path / FILE).write_bytes(seal(FORM, header, {**arrays, **ends}))
    with simulators.open(load_program(tmp_path)) as machine:
        assert machine.relax(random_images(2)).logits.shape == (2, 10)


def test_a_program_appears_whole_or_not_at_all_with_the_mode_that_the_umask_leaves(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        program("loihi").save(tmp_path / "deep" / "p")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / "deep" / name).stat().st_mode) for name in ("p", f"p/{FILE}")] == [0o750, 0o640]
    for name in ("link", "p"):
        if name == "link":
            (tmp_path / "deep" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Refusal, match="output folder exists"):
            program("loihi").save(tmp_path / "deep" / name)
    with pytest.raises(Refusal, match="cannot write"):
        write_folder(tmp_path / "half", {"a": b"1", "missing/b": b"2"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep"]
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["link", "p"]
