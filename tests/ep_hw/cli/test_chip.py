"""`ep-hw chip`: each device of a chip with its place, the machine's own conductances bit for bit."""

import csv
from pathlib import Path

import numpy as np
import pytest
from networks import small_network

import mapping
import simulators
from mapping.crossbar.places import REFERENCE
from simulators.crossbar.programmed import distinct

TARGETS = ["crossbar:pcm[age=1d]", "crossbar:pcm/aged[tile=18]", "crossbar:pcm/aged[tile=48x16]",
           "crossbar:pcm/aged[arrays=separate,tile=32]", "crossbar:reram_milo/programmed[encoding=offset,tile=48x16]",
           "crossbar:pcm/programmed[levels=4,encoding=slices,slices=3,tile=32]"]


@pytest.fixture(params=TARGETS)
def compiled(request, tmp_path, graph):
    """A program and its folder; on tiles of 48 x 16 a channel of the readout takes more than one."""
    wide = small_network(0, channels=(20,), paddings=(1,), pools=(1,)).lower()
    program = mapping.compile(wide if "48x16" in request.param else graph, request.param)
    program.save(tmp_path / "program")
    return program


def written(ep_hw, chip, *options):
    code, out, err = ep_hw("chip", chip, "--program", "program", *options)
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
    written(ep_hw, "chip.safetensors", "--to", "npy", "--out", "kept")
    written(ep_hw, 3, "--to", "npy", "--out", "seeded")
    expected = arrays_of(compiled, 3)
    assert {path.name for path in Path("kept").iterdir()} == {".".join((*key, "npy")) for key in expected}
    for (layer, array), conductance_us in expected.items():
        kept, seeded = (np.load(Path(folder, f"{layer}.{array}.npy")) for folder in ("kept", "seeded"))
        assert np.array_equal(kept["conductance_us"], conductance_us)
        assert np.array_equal(kept, seeded)


def test_a_line_holds_what_the_arrays_hold(ep_hw, compiled):
    out = written(ep_hw, 1, "--out", "chip.csv")
    written(ep_hw, 1, "--to", "npy", "--out", "chip")
    lines = list(csv.DictReader(Path("chip.csv").read_text().splitlines()))
    for layer, array in arrays_of(compiled, 1):
        own = [line for line in lines if (line["layer"], line["array"]) == (layer, array)]
        records = np.load(f"chip/{layer}.{array}.npy")
        assert len(own) == records.size
        assert layer in out
        for name in records.dtype.names:
            assert np.array_equal([records.dtype[name].type(line[name]) for line in own], records[name].ravel())


def test_every_device_has_a_place_of_its_own_on_a_tile_and_holds_the_weight_it_stands_for(ep_hw, compiled):
    """The weights put together again from lines alone: outputs, channels and places of the kernel; planes, slices."""
    written(ep_hw, 0, "--to", "npy", "--out", "chip")
    tile, couplings = compiled.target.array.tile, (*compiled.graph.couplings, compiled.graph.readout)
    for layer, coupling in zip(compiled.layers, couplings):
        records = np.load(f"chip/{layer.name}.forward.npy").ravel()
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
        largest = np.abs(coupling.weight).max()
        assert np.abs(weight - coupling.weight).max() < largest * (0.01 if compiled.target.device.levels else 1e-5)


@pytest.mark.parametrize(("asked", "words"), [
    ("3 --program float --out x.csv", "a program without devices"),
    ("gone.safetensors --program program --out x.csv", "gone.safetensors: not"),
    ("chip.safetensors --program other --out x.csv", "the chip holds another program"),
    ("3 --program program --out there.csv", "the file exists already"),
    ("3 --program program --to npy --out other", "the file exists already"),
    ("3 --program program --to text --out x.csv", "'text' is not one of")])
def test_a_mistake_is_refused(refused, tmp_path, graph, asked, words):
    program = mapping.compile(graph, "crossbar:pcm/aged")
    for name, made in {"program": program, "other": mapping.compile(small_network(5).lower(), "crossbar:pcm/aged"),
                       "float": mapping.compile(graph, "reference")}.items():
        made.save(tmp_path / name)
    with simulators.open(program) as machine:
        machine.chip.save(tmp_path / "chip.safetensors")
    (tmp_path / "there.csv").touch()
    asked = asked.replace("--out ", f"--out {tmp_path}/").replace("--program ", f"--program {tmp_path}/")
    assert words in refused("chip", *asked.split())
