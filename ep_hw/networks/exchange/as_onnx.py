"""Networks as ONNX models: the relaxation unrolled, so that whatever runs ONNX runs it, without a loop.

An image goes in, `mapping.graph` (1) to (4) are applied a fixed number of time steps long in the order of
`simulators.relaxation`, logits and states come out. What stops a relaxation early, each image's residual, is not there:
the steps are taken to their end. Pools put out their winners (MaxPool's second output), and feedback goes back to them
(MaxUnpool).

Source: the ONNX operators, version 17.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ep_hw.networks.exchange.packages import needed
from mapping.graph import SEQUENTIAL, Coupling, EPGraph, Population
from simulators.relaxation import active_layers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATORS, FORMAT = 17, 8   # of the oldest that have all of these
Read = tuple[str, str | None]   # names of a layer's drive from below, and of its winners


def onnx_file(graph: EPGraph, steps: int | None = None) -> bytes:
    """The content of a file of `to_onnx`."""
    return to_onnx(graph, steps).SerializeToString()


def to_onnx(graph: EPGraph, steps: int | None = None) -> "ModelProto":
    """The model of a network.

    Args:
        graph: the network.
        steps: time steps of the free phase; the graph's most if None. A feed-forward network takes one pass.

    Returns:
        Input `images` (batch, C, H, W) in [0, 1]; outputs `logits` (batch, classes) and a population's states, by its
        name.

    Raises:
        Refusal: onnx is not installed.
    """
    model = _Model(graph)
    states = model.relax(graph.steps if steps is None else steps)
    return model.made(states)


class _Model:
    """Nodes and constants as they come together."""

    def __init__(self, graph: EPGraph):
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        shift = self.constant("mean", graph.mean.reshape(1, -1, 1, 1))
        scale = self.constant("scale", graph.scale.reshape(1, -1, 1, 1))
        self.image = self.add("Div", self.add("Sub", "images", shift), scale)
        self.batch = self.add("Slice", self.add("Shape", "images"), *(
            self.constant(name, np.array([place])) for name, place in (("first", 0), ("second", 1))))

    def add(self, operator: str, *inputs: str, named: Sequence[str] = (), **attributes: object) -> str:
        """A node; the name of its first output."""
        outputs = list(named) or [f"v{len(self.nodes)}"]
        self.nodes.append(needed("onnx").helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant, which nodes share by its name."""
        self.constants[f"c_{name}"] = value
        return f"c_{name}"

    def relax(self, steps: int) -> list[str]:
        """Names of the states after so many steps."""
        couplings, populations = self.graph.couplings, self.graph.populations
        if self.graph.schedule == SEQUENTIAL:
            states: list[str] = []
            for coupling, population in zip(couplings, populations):
                drive = self.forward(coupling, states[-1] if states else self.image)[0]
                states.append(self.activate(population, drive))
            return states
        states = [self.zeros(population) for population in populations]
        reads = [self.forward(c, below) for c, below in zip(couplings, (self.image, *states[:-1]))]
        for t in range(steps):
            active = active_layers(self.graph.schedule, t, len(states))
            for n in active:   # upwards: what is above n has not moved yet
                states[n] = self.activate(populations[n], self.drive(n, reads, states))
            for n in active:
                if n + 1 < len(states):
                    reads[n + 1] = self.forward(couplings[n + 1], states[n])
        return states

    def drive(self, n: int, reads: Sequence[Read], states: Sequence[str]) -> str:
        """g of mapping.graph (2)."""
        if n + 1 == len(states) or not self.graph.couplings[n + 1].feedback_gain:
            return reads[n][0]
        return self.add("Add", reads[n][0], self.backward(self.graph.couplings[n + 1], states[n + 1], reads[n + 1][1]))

    def forward(self, coupling: Coupling, below: str) -> Read:
        """u and its winners, mapping.graph (1)."""
        weight, bias = self.weight(coupling), self.constant(f"{coupling.name}.bias", coupling.bias)
        pads, strides = [coupling.padding] * 4, [coupling.stride] * 2
        drive = self.add("Conv", below, weight, bias, pads=pads, strides=strides)
        if coupling.pool == 1:
            return drive, None
        side, number = [coupling.pool] * 2, len(self.nodes)
        winners = f"v{number}.winners"
        return self.add("MaxPool", drive, named=(f"v{number}", winners), kernel_shape=side, strides=side), winners

    def backward(self, coupling: Coupling, above: str, winners: str | None) -> str:
        """gamma w^T * unpool(s)."""
        if winners is not None:
            side = [coupling.pool] * 2
            above = self.add("MaxUnpool", above, winners, self.shape(coupling.name, coupling.unpooled),
                             kernel_shape=side, strides=side)
        fed = self.add("ConvTranspose", above, self.weight(coupling), pads=[coupling.padding] * 4,
                       strides=[coupling.stride] * 2, output_padding=list(coupling.window.uncovered))
        if coupling.feedback_gain == 1:
            return fed
        gain = self.constant(f"{coupling.name}.gain", np.array(coupling.feedback_gain, np.float32))
        return self.add("Mul", fed, gain)

    def activate(self, population: Population, drive: str) -> str:
        """clamp(slope g, 0, ceiling), mapping.graph (3)."""
        slope = self.constant(f"{population.name}.slope", np.array(population.slope, np.float32))
        bounds = [self.constant("nothing", np.array(0, np.float32))]
        if np.isfinite(population.ceiling):
            bounds.append(self.constant(f"{population.name}.ceiling", np.array(population.ceiling, np.float32)))
        return self.add("Clip", self.add("Mul", drive, slope), *bounds)

    def weight(self, coupling: Coupling) -> str:
        return self.constant(f"{coupling.name}.weight", coupling.weight)

    def zeros(self, population: Population) -> str:
        return self.add("ConstantOfShape", self.shape(population.name, population.shape))

    def shape(self, name: str, shape: Sequence[int]) -> str:
        """That of a batch of maps."""
        return self.add("Concat", self.batch, self.constant(f"{name}.shape", np.array(shape)), axis=0)

    def made(self, states: Sequence[str]) -> "ModelProto":
        """The model whose outputs are logits and states."""
        onnx, graph = needed("onnx"), self.graph
        self.add("Flatten", self.forward(graph.readout, states[-1])[0], named=("logits",))
        outputs = {"logits": (graph.classes,), **{p.name: p.shape for p in graph.populations}}
        for state, population in zip(states, graph.populations):
            self.add("Identity", state, named=(population.name,))
        images, *given = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
                          for name, shape in {"images": graph.image_shape, **outputs}.items())
        constants = [onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
                     for name, value in self.constants.items()]
        drawn = onnx.helper.make_graph(self.nodes, "ep_hw", [images], given, constants)
        return onnx.helper.make_model(drawn, opset_imports=[onnx.helper.make_opsetid("", OPERATORS)],
                                      ir_version=FORMAT, producer_name="ep-hw")
