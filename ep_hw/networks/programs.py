"""The programs that are named by machines, by folders and by other models."""

from collections.abc import Sequence
from dataclasses import replace
from os.path import isdir
from pathlib import Path

import mapping
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Choose, Split
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load
from ep_hw.networks.images import images_for
from ep_hw.networks.network import EPNetwork
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.labels import shown_names, split_label
from mapping.loading import load_program
from mapping.program import FloatProgram, Program
from mapping.registry import REGISTRY, labelled, parse
from mapping.targets import REFERENCE, ReferenceTarget, Target
from simulators.module import AnyProgram


def network_and_images(model: str | Path | EPNetwork | Baseline, images: int, seed: int,
                       data_source: DataSource = DEFAULT_SOURCE) -> tuple[EPNetwork | Baseline, Split]:
    """A network, and `images` test images of its data (see `images_for`), chosen at random by `seed`."""
    net = (load(model) if isinstance(model, str | Path) else model).calibrated(data_source)
    return net, images_for(net, "test", data_source, Choose(images, seed))


def programs_of(net: EPNetwork | Baseline, machines: Sequence[str], others: Sequence[str]) -> dict[str, AnyProgram]:
    """name -> program: the machines of a network, then other models on their reference under their own names.

    Raises:
        Refusal: see `named_programs`; or another model that was trained on other data.
    """
    named = named_programs(net, machines)
    for other in map(load, others):
        check_same_data(other, net.data)
        named[other.name] = reference_of(other)
    return named


def reference_of(net: EPNetwork | Baseline) -> AnyProgram:
    """The program of the machine that every other one is compared with."""
    return net.programs([ReferenceTarget(REFERENCE)])[REFERENCE]


def named_programs(net: EPNetwork | Baseline, machines: Sequence[str]) -> dict[str, AnyProgram]:
    """name -> program, in the order named: machines are compiled, folders of compiled programs loaded.

    Raises:
        Refusal: see `program_of`; or two different programs have one name, as when a machine is compiled anew and read
            from a folder whose network was calibrated otherwise; or labels that are not one a machine.
    """
    parsed = {machine: parse(machine) for machine in machines if not _is_folder(machine)}
    named: dict[str, AnyProgram] = {**net.programs(list(parsed.values()))}
    targets: list[Target] = []
    for machine in machines:
        if _is_folder(machine):
            program = program_of(machine, net.lower())
            targets.append(program.target)
            if named.setdefault(str(program.target), program).digest() != program.digest():
                raise Refusal("two different programs have one name", where=machine, got=program.target,
                              allowed="a program of each name",
                              remedy="evaluate them in two runs and 'ep-hw compare' them")
        else:
            targets.append(parsed[machine])
    shown_names(targets)
    return {name: named[name] for name in (*dict.fromkeys(map(str, targets)), *named)}


def program_of(machine: str, graph: EPGraph) -> Program:
    """The program of this network that a machine's name, or the folder of a compiled program, names.

    Raises:
        Refusal: the machine is unknown, or the folder holds another network.
    """
    program = program_like(machine, graph)
    if FloatProgram(program.target, graph).digest() != FloatProgram(program.target, program.graph).digest():
        raise _other_network(program)
    return program


def program_like(machine: str, graph: EPGraph) -> Program:
    """Like `program_of`, but the program may be of another network of the same shapes, as `why` compares them.

    Raises:
        Refusal: the machine is unknown, or the folder holds a network of other shapes.
    """
    if not _is_folder(machine):
        return mapping.compile(graph, machine)
    label, folder = split_label(machine)
    loaded: Program = load_program(Path(folder))   # whatever its target's type
    program = replace(loaded, target=labelled(loaded.target, label))
    shapes = [[(c.pre, c.post) for c in g.couplings] for g in (program.graph, graph)]
    if shapes[0] != shapes[1]:
        raise _other_network(program)
    return program


def _is_folder(machine: str) -> bool:
    """Whether a machine's name is the folder of its compiled program; names in the registry come first."""
    _, place = split_label(machine)
    return place.partition("[")[0] not in REGISTRY and isdir(place)


def check_same_data(net: EPNetwork | Baseline, data: str):
    if (own := net.data) != data:
        raise Refusal("another data set", where=net.name, got=own, allowed=data,
                      remedy="choose models that were trained on the same data")


def _other_network(program: Program) -> Refusal:
    return Refusal("the program was compiled from another network", where=str(program.target),
                   got="other shapes or arrays", allowed="a program compiled from MODEL",
                   remedy="compile MODEL again, or name its own checkpoint")
