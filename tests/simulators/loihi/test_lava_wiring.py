"""What a Lava process holds, what its worker imports, that every connection matters, and a user's own Lava program."""

import os
import re
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chains import random_chain

import ep_hw
import mapping
from mapping.loihi.plasticity import Phases, plan_learning
from simulators.loihi.arithmetic import arithmetic_of
from simulators.loihi.interpreter import lava_python
from simulators.loihi.learner import TwinLearner
from simulators.loihi.twin import twin_of

ROOT = Path(__file__).parents[3]
WITH_US = {**os.environ, "PYTHONPATH": str(ROOT)}

SETUP = """
    import sys
    import numpy as np
    from mapping.loihi.program import LoihiProgram
    from mapping.loading import load_program
    from simulators.loihi import guard, lifeline, worker
    from simulators.loihi.shared_arrays import SharedArrays
    from simulators.loihi.arithmetic import arithmetic_of
    from simulators.loihi.layout import RING, layout_of
    from simulators.loihi.wiring import wire
    folder, cut = sys.argv[1:]
    program = load_program(folder + "/program")
    arithmetic = arithmetic_of(program)
    shared_arrays = SharedArrays(layout_of(program.graph, arithmetic, 2))
    """

INSPECT = """
    assert "torch" not in sys.modules
    states = {name: shared_arrays[name] for name in shared_arrays
              if name.startswith(("history", "sent")) or name == "image"}
    for process in wire(program.graph, arithmetic, shared_arrays):
        held = [name for name, memory in states.items() for value in process.proc_params._parameters.values()
                if isinstance(value, np.ndarray) and np.shares_memory(value, memory)]
        print(process.name, *held)
    """

DOWNWARD = """
    wired = wire(program.graph, arithmetic, shared_arrays)
    ports = [wired.readout.pull, *(population.down for population in wired.populations)]
    print(*(type(coupling).__name__ for coupling in wired.couplings), *(len(port.out_connections) for port in ports))
    """

RUN = """
    def wire_and_cut(*args):
        wired = wire(*args)
        if cut:
            name, port = cut.split(".")
            port = next(getattr(p, port) for p in wired if p.name == name)
            for other in port.out_connections:
                other.in_connections.remove(port)
            port.out_connections.clear()
        return wired

    lifeline.bind_children()
    guard.wire = wire_and_cut
    shared_arrays["image"][...] = np.load(folder + "/image.npy")
    lava = guard.LavaGraph(program, arithmetic, shared_arrays, 60)
    lava.run(12, 60)
    np.savez(folder + "/states.npz", *(shared_arrays[f"history.{n}"][12] for n in range(len(program.layers))))
    lifeline.end_group()
    """


def run_in_fresh_interpreter(folder, program, body: str, cut: str = "") -> str:
    program.save(folder / "program")
    script = textwrap.dedent(SETUP) + textwrap.dedent(body)
    return subprocess.run([lava_python(), "-c", script, str(folder), cut], capture_output=True, text=True, timeout=100,
                          check=False, start_new_session=True, env=WITH_US).stdout


@pytest.mark.parametrize(("options", "rings"), [("", ["history"]), ("[threshold=0]", ["history", "sent"])])
def test_no_process_holds_two_layers_states_nor_the_worker_torch(tmp_path, random_graph, options, rings):
    lines = run_in_fresh_interpreter(tmp_path, mapping.compile(random_graph(0), "lava" + options), INSPECT).splitlines()
    held = {process: sorted({*memory}) for process, *memory in map(str.split, lines)}
    assert held == {"image": ["image"], "conv1": [], "conv2": [], "readout": [],
                    **{f"layer{n + 1}": [f"{ring}.{n}" for ring in rings] for n in range(2)}}


@pytest.mark.parametrize(("gains", "expected"), [
    ((0.0, 0.0), "ForwardConnection ForwardConnection ForwardConnection 0 0 0 0"),
    ((0.0, 0.5), "ForwardConnection ForwardConnection Connection 1 0 0 1")])
def test_nothing_is_connected_downwards_where_the_gain_is_zero(tmp_path, gains, expected):
    graph = next(g for g in map(random_chain, range(9)) if len(g.couplings) == 3)
    above = [replace(c, feedback_gain=gain) for c, gain in zip(graph.couplings[1:], gains)]
    schedule = "synchronous" if any(gains) else "sequential"
    graph = replace(graph, couplings=(graph.couplings[0], *above), schedule=schedule)
    printed = run_in_fresh_interpreter(tmp_path, mapping.compile(graph, "lava[weight_bits=4]"), DOWNWARD)
    assert printed.strip() == expected


@pytest.mark.parametrize("cut", ["", "layer1.up", "layer2.down", "conv2.above_out", "conv2.below_out"])
def test_cutting_one_connection_changes_the_result(tmp_path, random_graph, cut):
    """A port that is connected to nothing receives zeros."""
    program = mapping.compile(random_graph(9, 7, (2, 1), "synchronous", 0.3), "lava")
    twin = twin_of(program)
    images = torch.rand(2, *program.graph.image_shape, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "image.npy", twin.substrate.encode(images).numpy())
    run_in_fresh_interpreter(tmp_path, program, RUN, cut)
    states = np.load(tmp_path / "states.npz").values()
    expected = [s.numpy() * 2**program.state_bits for s in twin.relax(images, 12).states]
    assert all(np.array_equal(a, b) for a, b in zip(states, expected, strict=True)) == (not cut)


@pytest.fixture
def example(tmp_path):
    """Runs the example of docs/lava.md on a program, with changes: what it prints, and the arrays that it leaves."""
    text = (ROOT / "docs" / "lava.md").read_text()
    codes = re.findall("```python\n(.*?)```", text, re.DOTALL)

    def run(program, old="", new="", place=0):
        program.save(tmp_path / "prog")
        assert old in codes[place]
        (tmp_path / "own.py").write_text(codes[place].replace(old, new))
        done = subprocess.run([lava_python(), "own.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100,
                              check=False, env=WITH_US)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), (tmp_path / "end.npz").exists() and np.load(tmp_path / "end.npz")

    return run


def reference_run(program):
    """What the example shows last, on the twin: states (in 2^-p) at t = 0 .. 30, and logits at each."""
    twin, rng = twin_of(program), np.random.default_rng(0)
    first, second = (rng.random((4, *program.graph.image_shape)) for _ in range(2))
    ends = []
    for images in (first, second):
        states = [tuple(torch.zeros(4, *p.shape) for p in program.graph.populations)]
        twin.relax(torch.tensor(images, dtype=torch.float32), 30, trace=lambda t, s, states=states: states.append(s))
        ends.append([[s.numpy() * 2**program.state_bits for s in layers] for layers in states])
    readout = arithmetic_of(program).readout
    return [[readout.logits(layers[-1].astype(np.int64)) for layers in end] for end in ends], ends[1]


def test_the_documented_lava_program_runs_and_gives_the_bits_of_the_twin(example):
    program = mapping.compile(ep_hw.load("digits").lower(), "lava")
    lines, end = example(program)
    logits, states = reference_run(program)
    assert lines == ["decisions " + " ".join(map(str, run[29].argmax(1))) for run in logits]
    assert np.array_equal(end["logits"], logits[1][:30])
    assert np.array_equal(end["sent"], np.stack([layers[0] for layers in states[:30]]))
    for n, population in enumerate(program.graph.populations):
        assert np.array_equal(end[population.name] * 2**program.state_bits, states[30][n])


def test_the_documented_lava_program_on_sub_processes_that_send_changes(example):
    program = mapping.compile(ep_hw.load("digits").lower(), "lava[threshold=0.01]")
    structural = 'Loihi2SimCfg(select_tag="fixed_pt", select_sub_proc_model=True)'
    _, end = example(program, 'Loihi2SimCfg(select_tag="fixed_pt")', structural)
    _, states = reference_run(program)
    for n, population in enumerate(program.graph.populations):
        assert np.array_equal(end[population.name] * 2**program.state_bits, states[30][n])
    told, changes = end["sent"].cumsum(0), end["sent"][1:]
    assert np.abs(told - np.stack([layers[0] for layers in states[:30]])).max() <= program.delta_threshold
    assert np.abs(changes[changes != 0]).min() > program.delta_threshold


def test_the_documented_lava_program_that_learns_writes_the_bits_of_the_twin(example, tmp_path):
    program = mapping.compile(ep_hw.load("digits").lower(), "lava[state_bits=9]")
    example(program, place=1)
    phases = Phases(batch=4, free_steps=20, nudged_steps=8, beta=0.5)
    twin, rng = TwinLearner(program, plan_learning(program, rates=[0.3, 0.3, 0.1], phases=phases, seed=0)
                            ), np.random.default_rng(0)
    for _ in range(2):
        images, labels = rng.random((4, *program.graph.image_shape)), rng.integers(0, 10, 4)
        twin.learn(torch.tensor(images, dtype=torch.float32), torch.tensor(labels))
    learned = mapping.load_program(tmp_path / "learned")
    for ours, theirs in zip((*learned.layers, learned.readout), (*twin.program.layers, twin.program.readout)):
        assert np.array_equal(ours.weight, theirs.weight)
        assert np.array_equal(ours.bias, theirs.bias)
    assert not np.array_equal(learned.readout.weight, program.readout.weight)


def test_only_processes_with_a_plan_learn(tmp_path, random_graph):
    program = mapping.compile(random_graph(9, 7, (2, 1), "synchronous", 0.3), "lava")
    printed = run_in_fresh_interpreter(tmp_path, program, """
        from simulators.loihi.network import LavaNetwork
        network = LavaNetwork(program, batch=1)
        try:
            network.learn(np.zeros(network.image.up.shape), np.zeros(1, int), print)
        except Exception as error:
            print(error)
        """)
    assert "these processes do not learn; got no learning" in printed
