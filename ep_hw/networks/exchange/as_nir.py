"""Networks as graphs of NIR, the neuromorphic intermediate representation, and back.

A population is a leaky integrator LI, tau dv/dt = r I - v, with r its slope; its metadata say what NIR has no word for,
that r I is held within `clamp` first. A coupling is a Conv2d, and what it feeds back is another,

    stride 1:   the kernel flipped, its channels exchanged, padding k - 1 - p                               (1)
    stride s:   out_y = sum_i w_(i + t(H - 1) - t y) in_i,    t = H', the height of the map above           (2)

since the transpose of a convolution of stride s is none, but any linear map between maps is a convolution (2) whose
stride is as large as the map: every pair of places (i, y) meets a weight of its own. The largest of four pixels, which
NIR does not have either, takes rectified differences, max(a, b) = a + max(b - a, 0), and so does no feedback: which of
the pixels won is not in the graph. Normalisation is a Conv2d of one pixel.

Source: Pedersen et al., Nat. Commun. 15, 8122 (2024); nir 1.0.8.
"""

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ep_hw.networks.exchange.packages import needed
from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population

if TYPE_CHECKING:
    from nir import NIRGraph, NIRNode

LARGEST = 2**26   # weights of a node
_END = "\n"       # between names
_TAU = 1.0        # of all populations: the time of a relaxation has no unit

Node = tuple[str, "NIRNode", tuple[str, ...]]   # its name, what it is, and the nodes that it hears of


def to_nir(graph: EPGraph) -> "NIRGraph":
    """The NIR graph of a network; its calibration images stay behind.

    Raises:
        Refusal: nir is not installed, or it cannot hold the network: the layer, and why.
    """
    nir = needed("nir")
    for coupling in (*graph.couplings, graph.readout):
        _check(coupling, graph.has_feedback)
    nodes = list(_nodes(graph))
    if len({name for name, _, _ in nodes}) < len(nodes):
        raise Refusal("two nodes of one name", where="graph", got=", ".join(name for name, _, _ in nodes),
                      allowed="names of layers that NIR's nodes do not have", remedy="rename the layers")
    edges = [(heard, name) for name, _, hears in nodes for heard in hears]
    said = {"couplings": _END.join(c.name for c in (*graph.couplings, graph.readout)),
            "populations": _END.join(p.name for p in graph.populations), "schedule": graph.schedule,
            "steps": graph.steps, "tolerance": graph.tolerance, "mean": graph.mean, "scale": graph.scale}
    return nir.NIRGraph({name: node for name, node, _ in nodes}, edges, metadata=said)


def nir_file(graph: EPGraph) -> bytes:
    """The content of a file of `nir.write`; see `to_nir`."""
    nir, buffer = needed("nir"), io.BytesIO()
    nir.write(buffer, to_nir(graph))
    return buffer.getvalue()


def from_nir(found: "NIRGraph") -> EPGraph:
    """Inverse of `to_nir`.

    Raises:
        Refusal: `to_nir` would not have written this graph.
    """
    try:
        graph = _graph(found)
        same = _same(to_nir(graph), found)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _not_ours(f"{type(error).__name__}: {error}") from None
    if not same:
        raise _not_ours("other nodes, edges or weights than its layers have")
    return graph


def _nodes(graph: EPGraph) -> Iterator[Node]:
    """Input, normalisation, each coupling with its population and feedback, readout and output."""
    nir = needed("nir")
    yield "input", nir.Input(np.array(graph.image_shape)), ()
    scale, mean = graph.scale.astype(np.float64), graph.mean.astype(np.float64)
    weight, bias = (array.astype(np.float32) for array in (np.diag(1 / scale)[:, :, None, None], -mean / scale))
    yield "normalise", _convolution(weight, graph.image_shape, bias=bias), ("input",)
    below = "normalise"
    for n, (coupling, population) in enumerate(zip(graph.couplings, graph.populations)):
        yield coupling.name, _forward(coupling), (below,)
        heard = [coupling.name]
        if coupling.pool > 1:
            heard = list(_pooled_names(coupling))
            yield from _pool(coupling, population)
        if n + 1 < len(graph.couplings) and graph.couplings[n + 1].feedback_gain:
            heard.append(f"{graph.couplings[n + 1].name}.feedback")
            yield heard[-1], _backward(graph.couplings[n + 1]), (graph.populations[n + 1].name,)
        slope = 1.0 if coupling.pool > 1 else population.slope
        yield population.name, _neurons(population.shape, slope, population.ceiling, population.slope), tuple(heard)
        below = population.name
    yield graph.readout.name, _forward(graph.readout), (below,)
    yield "flatten", nir.Flatten(np.array((graph.classes, 1, 1)), 0, -1), (graph.readout.name,)
    yield "output", nir.Output(np.array((graph.classes,))), ("flatten",)


def _forward(coupling: Coupling) -> "NIRNode":
    said = {"pool": coupling.pool, "feedback_gain": coupling.feedback_gain}
    return _convolution(coupling.weight, coupling.pre, coupling.stride, coupling.padding, coupling.bias, said)


def _backward(coupling: Coupling) -> "NIRNode":
    """Equation (1), or (2) where the stride is larger; the gain is in the weights."""
    weight = np.float32(coupling.feedback_gain) * coupling.weight
    if coupling.stride == 1:
        flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1).copy()
        return _convolution(flipped, coupling.unpooled, padding=weight.shape[2] - 1 - coupling.padding)
    (side, own), stride, kernel = (coupling.pre[1], coupling.unpooled[1]), coupling.stride, weight.shape[2]
    spread = np.zeros((weight.shape[1], weight.shape[0], *[own * (side - 1) + own] * 2), np.float32)
    places = [(own * (side - 1 - y) + i, y + coupling.padding - stride * i) for y in range(side) for i in range(own)
              if 0 <= y + coupling.padding - stride * i < kernel]
    for to_y, from_y in places:
        for to_x, from_x in places:
            spread[:, :, to_y, to_x] = weight[:, :, from_y, from_x].T
    return _convolution(spread, coupling.unpooled, own, own * (side - 1))


def _convolution(weight: np.ndarray, pre: tuple[int, ...], stride: int = 1, padding: int = 0,
                 bias: np.ndarray | None = None, said: Mapping[str, Any] | None = None) -> "NIRNode":
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return needed("nir").Conv2d(tuple(pre[1:]), weight, stride, padding, 1, 1, bias, metadata=dict(said or {}))


def _neurons(shape: tuple[int, ...], slope: float, ceiling: float, own_slope: float | None = None) -> "NIRNode":
    """Neurons clamp(slope g, 0, ceiling); those of a population say its own slope."""
    full = np.full(shape, slope, np.float64)
    said = {"clamp": np.array([0.0, ceiling])} | ({} if own_slope is None else {"slope": own_slope})
    return needed("nir").LI(np.full(shape, _TAU), full, np.zeros(shape), metadata=said)


def _pooled_names(coupling: Coupling) -> tuple[str, str]:
    return f"{coupling.name}.first", f"{coupling.name}.more"


def _pool(coupling: Coupling, population: Population) -> Iterator[Node]:
    """The largest pixel of each window of a rectified map: of its rows first, then of these."""
    name, channels = coupling.name, coupling.unpooled[0]
    whole, half, pooled = coupling.unpooled, (2 * channels, *coupling.post[1:]), coupling.post
    rises = {(0, 0, 0): -1, (0, 0, 1): 1, (1, 1, 0): -1, (1, 1, 1): 1}   # (row, y, x) of a window -> weight

    def selecting(weights: Mapping[tuple[int, int, int], int]) -> "NIRNode":
        return _convolution(_windows(channels, weights), whole, 2)

    def joining(weights: list[list[int]], pre: tuple[int, ...]) -> "NIRNode":
        return _convolution(np.kron(weights, np.eye(channels)).astype(np.float32)[:, :, None, None], pre)

    yield f"{name}.rectified", _neurons(whole, population.slope, population.ceiling), (name,)
    yield f"{name}.rises", selecting(rises), (f"{name}.rectified",)
    yield f"{name}.rise", _neurons(half, 1.0, np.inf), (f"{name}.rises",)
    yield f"{name}.lefts", selecting({(0, 0, 0): 1, (1, 1, 0): 1}), (f"{name}.rectified",)
    yield f"{name}.added", joining([[1, 0], [0, 1]], half), (f"{name}.rise",)
    yield f"{name}.rows", _neurons(half, 1.0, np.inf), (f"{name}.lefts", f"{name}.added")
    yield f"{name}.steps", joining([[-1, 1]], half), (f"{name}.rows",)
    yield f"{name}.step", _neurons(pooled, 1.0, np.inf), (f"{name}.steps",)
    first, more = _pooled_names(coupling)
    yield first, joining([[1, 0]], half), (f"{name}.rows",)
    yield more, joining([[1]], pooled), (f"{name}.step",)


def _windows(channels: int, weights: Mapping[tuple[int, int, int], int]) -> np.ndarray:
    """(2 channels, channels, 2, 2): what each row of a window adds of its pixels, the same in each channel."""
    kernel = np.zeros((2, channels, channels, 2, 2), np.float32)
    for (row, y, x), weight in weights.items():
        kernel[row, range(channels), range(channels), y, x] = weight
    return kernel.reshape(2 * channels, channels, 2, 2)


def _check(coupling: Coupling, has_feedback: bool):
    kernel, pre, own = coupling.weight.shape[2:], coupling.pre, coupling.unpooled
    spread = coupling.weight[:, :, 0, 0].size * (own[1] * pre[1])**2
    fed = has_feedback and coupling.feedback_gain > 0
    for wrong, what in (
            (coupling.pool > 1 and has_feedback, "a max-pool in a network with feedback"),
            (kernel[0] != kernel[1], f"a kernel of {kernel[0]}x{kernel[1]}, which is not square"),
            (fed and coupling.stride == 1 and coupling.padding >= kernel[0],
             f"padding {coupling.padding} of a kernel of {kernel[0]}"),
            (fed and coupling.stride > 1 and (pre[1] != pre[2] or own[1] != own[2]),
             f"feedback of stride {coupling.stride} into a map of {pre[1]}x{pre[2]}, which is not square"),
            (fed and coupling.stride > 1 and spread > LARGEST,
             f"feedback of stride {coupling.stride}, a node of {spread} weights")):
        if wrong:
            raise Refusal("NIR cannot hold this layer", where=f"layer {coupling.name}", got=what,
                          allowed="square kernels; feedback without pools, and with strides on small square maps",
                          remedy="export it --to onnx, or choose a network with strides in place of pools")


def _graph(found: "NIRGraph") -> EPGraph:
    """The network that the named nodes tell of."""
    nodes, said = found.nodes, found.metadata
    channels, height, width = map(int, nodes["input"].input_type["input"])
    pre = image = channels, height, width
    couplings = []
    for name in _text(said["couplings"]).split(_END):
        node = nodes[name]
        couplings.append(Coupling(name, node.weight, node.bias, int(node.padding[0]), int(node.metadata["pool"]), pre,
                                  int(node.stride[0]), float(node.metadata["feedback_gain"])))
        pre = couplings[-1].post
    populations = [_population(name, nodes[name]) for name in _text(said["populations"]).split(_END)]
    mean, scale = (np.asarray(said[name], np.float32) for name in ("mean", "scale"))
    return EPGraph(image, mean, scale, tuple(populations), tuple(couplings[:-1]), couplings[-1],
                   _text(said["schedule"]), int(said["steps"]), float(said["tolerance"]))


def _population(name: str, node: "NIRNode") -> Population:
    channels, height, width = node.r.shape
    return Population(name, (channels, height, width), float(node.metadata["slope"]), float(node.metadata["clamp"][1]))


def _text(said: str | bytes) -> str:
    """A text out of metadata, which files give back as bytes."""
    return said.decode() if isinstance(said, bytes) else str(said)


def _same(a: "NIRGraph", b: "NIRGraph") -> bool:
    """Whether two graphs have the same nodes, edges and arrays."""
    if set(a.nodes) != set(b.nodes) or sorted(a.edges) != sorted(b.edges):
        return False
    return all(_equal(node.to_dict(), b.nodes[name].to_dict()) for name, node in a.nodes.items())


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return set(a) == set(b) and all(_equal(value, b[key]) for key, value in a.items())
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def _not_ours(got: str) -> Refusal:
    return Refusal("not a network that was exported to NIR", where="graph", got=got,
                   allowed="a graph of ep_hw's to_nir", remedy="export the network again")
