"""`ep-hw export --to csv, npz`: each device of a chip with its place, the machine's own conductances bit for bit."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import saved, small_network
from spice import needs_ngspice, operating_point

import mapping
import simulators
from ep_hw.networks.exchange import nir_file, onnx_file
from mapping.crossbar.places import REFERENCE
from simulators.crossbar.circuit import network_netlist
from simulators.crossbar.netlist import tile_netlist
from simulators.crossbar.programmed import distinct

TARGETS = ["crossbar:pcm[age=1d]", "crossbar:pcm/aged[tile=18]", "crossbar:pcm/aged[tile=48x16]",
           "crossbar:pcm/aged[arrays=separate,tile=32]", "crossbar:reram_milo/programmed[encoding=offset,tile=48x16]",
           "crossbar:pcm/programmed[levels=4,encoding=slices,slices=3,tile=32]"]


@pytest.fixture(params=TARGETS)
def compiled(request, tmp_path):
    """A model, its program and its folder; on tiles of 48 x 16 a channel of the readout takes more than one."""
    wide = {"channels": (20,), "paddings": (1,), "pools": (1,)} if "48x16" in request.param else {}
    net = small_network(3, **wide)
    saved(net, tmp_path, "model")
    program = mapping.compile(net.lower(), request.param)
    program.save(tmp_path / "program")
    return program


def written(ep_hw, chip, to):
    """What the command says; it writes chip.csv or chip.npz."""
    code, out, err = ep_hw("export", "model.safetensors", "--on", "program", "--chip", chip, "--to", to,
                           "--out", f"chip.{to}")
    assert code == 0, err
    return out


def arrays_of(program, chip_seed):
    """(layer, array) -> conductances of a machine."""
    with simulators.open(program, chip_seed=chip_seed) as machine:
        layers = zip(program.layers, map(distinct, machine.chip.arrays))
        return {(layer.name, name): array.conductance_us.numpy()
                for layer, arrays in layers for name, array in zip(("forward", "feedback"), arrays)}


def test_arrays_hold_the_machines_conductances_of_a_file_and_of_a_seed(ep_hw, compiled, tmp_path):
    with simulators.open(compiled, chip_seed=3) as machine:
        machine.chip.save(tmp_path / "chip.safetensors")
    written(ep_hw, "chip.safetensors", "npz")
    Path("chip.npz").rename("kept.npz")
    written(ep_hw, 3, "npz")
    expected, kept, seeded = arrays_of(compiled, 3), np.load("kept.npz"), np.load("chip.npz")
    assert set(kept) == {".".join(key) for key in expected}
    for (layer, array), conductance_us in expected.items():
        assert np.array_equal(kept[f"{layer}.{array}"]["conductance_us"], conductance_us)
        assert np.array_equal(kept[f"{layer}.{array}"]["target_us"], seeded[f"{layer}.{array}"]["target_us"])
    assert Path("kept.npz").read_bytes() == Path("chip.npz").read_bytes()


def test_a_line_holds_what_the_arrays_hold(ep_hw, compiled):
    out = written(ep_hw, 1, "csv")
    written(ep_hw, 1, "npz")
    lines, arrays = list(csv.DictReader(Path("chip.csv").read_text().splitlines())), np.load("chip.npz")
    for layer, array in arrays_of(compiled, 1):
        own = [line for line in lines if (line["layer"], line["array"]) == (layer, array)]
        records = arrays[f"{layer}.{array}"]
        assert len(own) == records.size
        assert layer in out
        for name in records.dtype.names:
            shown = np.array([records.dtype[name].type(line[name]) for line in own])
            assert np.array_equal(shown, records[name].ravel(), equal_nan=name == "weight")


def test_every_device_has_a_place_of_its_own_on_a_tile_and_holds_the_weight_it_stands_for(ep_hw, compiled):
    """The weights put together again from lines alone: outputs, channels and places of the kernel; planes, slices."""
    written(ep_hw, 0, "npz")
    tile, couplings = compiled.target.array.tile, (*compiled.graph.couplings, compiled.graph.readout)
    for layer, coupling in zip(compiled.layers, couplings):
        records = np.load("chip.npz")[f"{layer.name}.forward"].ravel()
        places = records[["slice", "plane", "tile_row", "tile_column", "row", "column"]]
        assert len(np.unique(places)) == len(places)
        assert records["row"].max() < tile.rows
        assert (records["column"].max() + 1) * (1 + records["slice"].max()) <= tile.columns
        assert 1 + records["tile_row"].max() == len(layer.row_cuts)
        assert 1 + records["tile_column"].max() == len(layer.column_cuts)
        reference = {(r["tile_row"], r["tile_column"], r["row"]): r["target_us"]
                     for r in records[records["output"] == REFERENCE]}
        weight = np.zeros(coupling.weight.shape)
        for r in records[records["output"] != REFERENCE]:
            base = reference.get((r["tile_row"], r["tile_column"], r["row"]), 0) if r["plane"] == 0 else 0
            held = (r["target_us"] - base) * (1, -1)[r["plane"]] / float(layer.stored.base) ** r["slice"]
            weight[r["output"], r["channel"], r["kernel_row"], r["kernel_column"]] += held / layer.stored.us_per_weight
            assert r["weight"] == coupling.weight[r["output"], r["channel"], r["kernel_row"], r["kernel_column"]]
        largest = np.abs(coupling.weight).max()
        assert np.isnan(records["weight"][records["output"] == REFERENCE]).all()
        assert np.abs(weight - coupling.weight).max() < largest * (0.01 if compiled.target.device.levels else 1e-5)


@pytest.mark.parametrize(("asked", "words"), [
    ("--to csv --on float --out x.csv", "a machine without devices"),
    ("--to csv --on loihi --out x.csv", "a machine without devices"),
    ("--to csv --out x.csv", "--on: no machine that holds the model"),
    ("--to csv --on program --chip gone.safetensors --out x.csv", "gone.safetensors: not"),
    ("--to csv --on program --chip 4294967296 --out x.csv", "4294967296: not"),
    ("--to csv --on program --chip chip.safetensors --out x.csv", "the chip holds another program"),
    ("--to csv --on other --out x.csv", "compiled from another network"),
    ("--to csv --on program --out there.csv", "the file exists already"),
    ("--to npz --on program --out float", "the file exists already"),
    ("--to npz --on program --layer conv1 --out x", "--layer: an option that means nothing in this format"),
    ("--to nir --steps 3 --out x", "--steps: an option that means nothing in this format"),
    ("--to nir --out x", "layer conv1: NIR cannot hold this layer; got a max-pool"),
    ("--to onnx --steps 0 --out x", "from 1 to"),
    ("--to onnx --out there.csv", "the file exists already"),
    ("--on program --out x", "--on: an option that means nothing in this format"),
    ("--to spice --on program --tile 0,0 --out x", "--tile: a tile of no layer"),
    ("--to spice --on program --layer conv1 --tile 0 --out x", "--tile: not a tile"),
    ("--to spice --on program --layer conv1 --tile 0,1 --out x", "layer conv1, tile: no such tile"),
    ("--to spice --on program --layer conv --out x", "layer: no such layer"),
    ("--to spice --on program --out x", "max-pooling in conv1, conv2"),
    ("--to text --out x.csv", "'text' is not one of")])
def test_a_mistake_is_refused(refused, tmp_path, asked, words):
    net = small_network(3)
    saved(net, tmp_path, "model")
    made = {"program": net, "held": small_network(3, channels=(4, 5)), "other": small_network(5)}
    for name, one in made.items():
        mapping.compile(one.lower(), "crossbar:pcm/aged").save(tmp_path / name)
    mapping.compile(net.lower(), "reference").save(tmp_path / "float")
    with simulators.open(mapping.load_program(tmp_path / "held")) as machine:
        machine.chip.save(tmp_path / "chip.safetensors")
    (tmp_path / "there.csv").touch()
    assert words in refused("export", "model.safetensors", *asked.split())


@needs_ngspice
@pytest.mark.parametrize("asked", ["--layer conv2 --tile 0,0", ""])
def test_a_netlist_of_the_command_line_is_that_of_the_machine(ep_hw, tmp_path, asked):
    """A tile's; and a whole network's, shown its first calibration image."""
    net = small_network(3, channels=(3, 4), strides=(2, 2), pools=(1, 1))
    saved(net, tmp_path, "model")
    code, out, err = ep_hw("export", "model.safetensors", "--on", "crossbar:pcm/aged", "--chip-seed", 3, "--to",
                           "spice", *asked.split(), "--out", "model.cir")
    assert (code, out.strip()) == (0, "model.cir"), err
    with simulators.open(mapping.compile(net.lower(), "crossbar:pcm/aged"), chip_seed=3) as machine:
        written = Path("model.cir").read_text()
        assert written == (tile_netlist(machine.program, machine.chip, "conv2", (0, 0)) if asked else
                           network_netlist(machine, net.calibration[0]))
    assert operating_point(written, tmp_path)


def test_networks_of_the_command_line_are_those_of_python(ep_hw, tmp_path):
    net = small_network(3, strides=(2, 1), pools=(1, 1))
    saved(net, tmp_path, "model")
    for line in ("--to nir --out net.nir", "--to onnx --out net.onnx", "--to onnx --steps 3 --out short.onnx"):
        assert ep_hw("export", "model.safetensors", *line.split())[0] == 0
    assert Path("net.nir").read_bytes() == nir_file(net.lower())
    assert Path("net.onnx").read_bytes() == onnx_file(net.lower())
    assert Path("short.onnx").read_bytes() == onnx_file(net.lower(), 3)


def test_a_missing_package_is_named_with_what_brings_it(refused, monkeypatch, tmp_path):
    saved(small_network(3), tmp_path, "model")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'ep-hw[export]'" in refused("export", "model.safetensors", "--to", "onnx", "--out", "x")
