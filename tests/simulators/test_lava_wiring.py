"""What a Lava process holds, what its worker imports, and that every connection matters."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import mapping
from simulators.loihi.twin import open_twin

SETUP = """
    import sys
    import numpy as np
    from mapping.loihi import LoihiProgram
    from mapping.program import load_program
    from simulators.loihi import guard, lifeline, worker
    from simulators.loihi.arena import Arena
    from simulators.loihi.arithmetic import arithmetic_of
    from simulators.loihi.layout import RING, layout_of
    from simulators.loihi.wiring import wire
    folder, cut = sys.argv[1:]
    program = load_program(folder + "/program")
    arithmetic = arithmetic_of(program)
    arena = Arena(layout_of(program.graph, arithmetic, 2))
    """

INSPECT = """
    assert "torch" not in sys.modules
    states = {name: arena[name] for name in arena if name.startswith("history") or name == "image"}
    for process in wire(program.graph, arithmetic, arena):
        held = [name for name, memory in states.items() for value in process.proc_params._parameters.values()
                if isinstance(value, np.ndarray) and np.shares_memory(value, memory)]
        print(process.name, *held)
    """

RUN = """
    def wire_and_cut(*args):
        processes = wire(*args)
        if cut:
            name, port = cut.split(".")
            port = next(getattr(p, port) for p in processes if p.name == name)
            for other in port.out_connections:
                other.in_connections.remove(port)
            port.out_connections.clear()
        return processes

    lifeline.bind_children()
    guard.wire = wire_and_cut
    arena["image"][...] = np.load(folder + "/image.npy")
    lava = guard.LavaGraph(program, arithmetic, arena, 60)
    lava.run(12, 60)
    np.savez(folder + "/states.npz", *(arena[f"history.{n}"][12] for n in range(len(program.layers))))
    lifeline.end_group()
    """


def run_in_fresh_interpreter(folder, program, body: str, cut: str = "") -> str:
    program.save(folder / "program")
    script = textwrap.dedent(SETUP) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script, str(folder), cut], capture_output=True, text=True, timeout=100,
                          check=False, start_new_session=True).stdout


def test_no_process_holds_two_layers_states_nor_the_worker_torch(tmp_path, random_graph):
    lines = run_in_fresh_interpreter(tmp_path, mapping.compile(random_graph(0), "lava"), INSPECT).splitlines()
    assert [line.split() for line in lines] == [["image", "image"], ["conv1"], ["conv2"], ["layer1", "history.0"],
                                                ["layer2", "history.1"], ["readout"]]


@pytest.mark.parametrize("cut", ["", "layer1.up", "layer2.down", "conv2.above_out", "conv2.below_out"])
def test_cutting_one_connection_changes_the_result(tmp_path, random_graph, cut):
    """A port that is connected to nothing receives zeros."""
    program = mapping.compile(random_graph(9, 7, (2, 1), "synchronous", 0.3), "lava")
    twin = open_twin(program)
    images = torch.rand(2, *program.graph.image_shape, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "image.npy", twin.substrate.encode(images).numpy())
    run_in_fresh_interpreter(tmp_path, program, RUN, cut)
    states = np.load(tmp_path / "states.npz").values()
    expected = [s.numpy() * 2**program.state_bits for s in twin.relax(images, 12).states]
    assert all(np.array_equal(a, b) for a, b in zip(states, expected, strict=True)) == (not cut)
