"""Reading programs back."""

import math
from pathlib import Path

from mapping.fields import check_size, read_as
from mapping.files import refusing
from mapping.program import FILE, FORM, REMEDY, Program, ProgramHeader, graph_layout, unpack_graph
from mapping.registry import parse
from mapping.sealed import open_sealed
from mapping.targets import check_one_pass


def load_program(folder: str | Path) -> Program:
    """Read a program written by `Program.save`.

    Raises:
        Refusal: a missing, truncated or altered file, another version, or options that `mapping.compile` refuses.
    """
    path = Path(folder) / FILE
    sealed = open_sealed(path, FORM, REMEDY)
    header = sealed.read_as(ProgramHeader)
    with refusing("not a readable program", where=path, allowed="a folder of 'ep-hw compile'", remedy=REMEDY):
        target = parse(header.target)
        kind = Program.kinds.get(header.kind)
        if kind is None or not kind.takes(target) or str(target) != header.target:
            raise ValueError(f"kind {header.kind!r} for {header.target}")
        weights = header.network.weights(sealed.layout)
        layout = kind.layout(target, weights, read_as(kind.settings, header.settings), sealed.layout)
        arrays = sealed.arrays(graph_layout(header.network, weights) | layout, kind.ranges(target, layout))
        graph = unpack_graph(sealed.header["network"], arrays)
        check_size(0, sum(math.prod(c.unpooled) for c in graph.couplings))
        if not graph.has_feedback:
            check_one_pass(target)
        program = kind.unpack(target, graph, arrays, header.settings)
        program.verify()
    return program
