"""SANA-FE as a peer: the same mapped network, whose units send when ours do, priced by its own constants of Loihi."""

import json
import subprocess
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_images, small_network

import mapping
from benchmarks.peers import environment, uv
from mapping.loihi.limits import limit
from mapping.loihi.placement import place
from simulators.loihi.energy import MEASURED, _ChipWork
from simulators.loihi.events import count_events
from simulators.loihi.twin import open_twin

PEER = Path(__file__).parents[2] / "support" / "sanafe_peer.py"
PYTHON = [uv(), "run", "--quiet", "--no-project", "--python", "3.12", "--with", "sanafe==2.2.9", "python"]


@pytest.fixture(scope="module")
def sanafe(tmp_path_factory):
    """Runs a network, as `sanafe_peer` reads it; skipped where no SANA-FE can be had."""
    folder = tmp_path_factory.mktemp("sanafe")
    try:
        made = subprocess.run([*PYTHON, "-c", "import sanafe"], cwd=folder, env=environment("3.12"),
                              capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as problem:
        pytest.skip(f"no SANA-FE on this machine: {problem}")
    if made.returncode:
        pytest.skip(f"no SANA-FE on this machine: {made.stderr.strip().rpartition(chr(10))[2]}")

    def run(network: dict) -> dict:
        (folder / "network.json").write_text(json.dumps(network))
        ended = subprocess.run([*PYTHON, PEER, "network.json", "counts.json"], cwd=folder, env=environment("3.12"),
                               capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return json.loads((folder / "counts.json").read_text())

    return run


@pytest.fixture(params=[192 * 1024, 1500, 700], ids=["one core", "some cores", "many cores"])
def program(request, monkeypatch):
    """Three layers without pools, so that every synapse of the feedback too has a place of its own."""
    monkeypatch.setattr("mapping.loihi.placement.limit",
                        lambda name: request.param if name == "memory a core" else limit(name))
    graph = small_network(3, image_shape=(1, 5, 5), channels=(3, 4, 3), paddings=(1, 1, 0), pools=(1, 1, 1),
                          classes=4, schedule="synchronous", steps=12).lower()
    return mapping.compile(graph, "loihi")


def run_of(program):
    """The count of one image, and (T + 1, units) of what the image and each layer send."""
    twin, image = open_twin(program), random_images(1, program.graph.image_shape)
    end, sent = twin.relax(image), []
    twin.relax(image, int(end.steps), trace=lambda t, states: sent.append([s.flatten() != 0 for s in states]))
    first = [twin.substrate.encode(image).flatten() != 0, *(torch.zeros_like(s) for s in sent[0])]
    steps = [first, *([torch.zeros_like(first[0]), *layers] for layers in sent)]
    return count_events(twin, image), [torch.stack(spikes).numpy() for spikes in zip(*steps)]


def cores_of(placement, layer, part, shape):
    """(units,) core of each site of a part, in order of channel, row and column."""
    cores = np.full(shape, -1)
    for block in placement.of(layer, part):
        (a, b), (c, d), (e, f) = block.channels, block.rows, block.columns
        cores[a:b, c:d, e:f] = block.core
    return cores.flatten()


def reached(coupling):
    """(unit below, unit above) of every synapse of a convolution of stride 1, by a walk over its kernel."""
    (c_out, c_in, k, _), pad, above, below = coupling.weight.shape, coupling.padding, coupling.unpooled, coupling.pre
    for o, i, a, b in np.ndindex(c_out, c_in, k, k):
        for y, x in np.ndindex(*above[1:]):
            row, column = y + a - pad, x + b - pad
            if 0 <= row < below[1] and 0 <= column < below[2]:
                yield (int(np.ravel_multi_index((i, row, column), below)),
                       int(np.ravel_multi_index((o, y, x), above)))


def mapped(program, spikes):
    """The network for SANA-FE, its sources in order, and the cores that each of their units sends to."""
    graph, placement = program.graph, place(program.graph, program.target)
    couplings, names = graph.couplings, ["image", *(c.name for c in graph.couplings)]
    parts = {c.name: (c.name, "forward", c.post) for c in couplings}
    parts |= {f"back {n}": (c.name, "feedback", c.pre) for n, c in enumerate(couplings) if n}
    parts["readout"] = (graph.readout.name, "forward", (graph.classes, 1, 1))
    cores = {name: cores_of(placement, *part) for name, part in parts.items()}
    synapses = {(below, c.name): list(reached(c)) for below, c in zip(names, couplings)}
    synapses |= {(c.name, f"back {n}"): [(above, below) for below, above in reached(c)]
                 for n, c in enumerate(couplings) if n}
    own = {"image": np.full(np.prod(couplings[0].pre), placement.cores), **cores}
    sources = {name: {"cores": own[name].tolist(), "spikes": sent.T.astype(int).tolist(),
                      "synapses": {target: pairs for (source, target), pairs in synapses.items() if source == name}}
               for name, sent in zip(names, spikes)}
    fan = defaultdict(set)
    for (source, target), pairs in synapses.items():
        for pre, post in pairs:
            fan[source, pre].add(int(cores[target][post]))
    units = {name: {"cores": c.tolist()} for name, c in cores.items()}
    return {"steps": len(spikes[0]), "units": units, "sources": sources}, names, fan


def test_events_operations_and_energy_are_sanafes(sanafe, program):
    """Events, synaptic operations and packets to the last one; energy, leakage and the readout apart, within 10 %.

    What is left: SANA-FE updates a neuron only once something has reached it, we update forward and feedback parts at
    every step but the first; where parts share a core it sends them one packet, we one each; its packets take the way
    from core to core, ours four hops.
    """
    count, spikes = run_of(program)
    network, names, fan = mapped(program, spikes)
    found = sanafe(network)
    work = _ChipWork.of(program, replace(count, readout=np.zeros_like(count.readout)))
    events, operations = count.events.sum(), work.operations.sum()
    assert found["neurons_fired"] == events == sum(sent.sum() for sent in spikes)
    assert found["spikes"] == operations
    assert found["packets_sent"] == sum(len(fan[name, unit]) * sent[:, unit].sum()
                                        for name, sent in zip(names, spikes) for unit in range(sent.shape[1]))
    sizes, steps = {name: len(group["cores"]) for name, group in network["units"].items()}, len(spikes[0])
    assert work.neurons.sum() == sum(sizes.values())
    unreached = 2 * (sum(sizes.values()) - sizes["readout"]) - sizes[names[1]] + steps * sizes["readout"]
    updated = found["neurons_updated"] - events   # a source counts where it fires
    assert updated == steps * sum(sizes.values()) - unreached
    energy, update = found["energy"], MEASURED.e_update - MEASURED.e_idle
    assert energy["synapse"] == pytest.approx(MEASURED.e_syn * operations)
    assert energy["soma"] == pytest.approx(MEASURED.e_idle * steps * sum(sizes.values()) + MEASURED.e_spike * events
                                           + update * updated)
    hops = energy["network"] / found["packets_sent"] - 111e-12
    assert 0 <= hops < 10 * 4.2e-12
    if place(program.graph, program.target).cores > 1:
        assert work.messages == pytest.approx(found["packets_sent"], rel=0.01)   # ours a mean over units
    ours = work.energy_j(replace(MEASURED, p_core=0.0), np.zeros(1)).item()
    assert ours == pytest.approx(energy["total"], rel=0.1)
