"""What a torch module computes, as a chain of operations on the one value that runs through it.

torch.fx runs the module's own Python once, on a stand-in for its images. Every step that its answer follows from must
read one value alone. Numbers that are no value of an image (weights, sizes) are looked up.
"""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from ep_hw.networks.lowering.chain import Chain, Operation
from ep_hw.networks.lowering.readers import FUNCTIONS, METHODS, VALUE, is_normalisation, read_module
from ep_hw.networks.shapes import Shape
from mapping.errors import Refusal

ALLOWED = ("Conv2d, BatchNorm2d, ReLU, ReLU6, Hardtanh from 0, MaxPool2d by 2, AvgPool2d, AdaptiveAvgPool2d, Flatten, "
           "Linear, Dropout, Identity and their functions, each reading the one before it alone")


def refusal(where: str, got: object) -> Refusal:
    """The refusal of a part of a module that is no part of a chain."""
    return Refusal("not a chain of layers", where=where, got=got, allowed=ALLOWED,
                   remedy="rewrite this part, or evaluate the module on the reference or on tiles of a crossbar")


def chain_of(module: nn.Module, image_shape: Shape) -> Chain:
    """The layers of a module, of images of that shape.

    Raises:
        Refusal: a part that is no part of a chain, by its qualified name.
    """
    chain = Chain(image_shape)
    for node in _steps(module, _Tracer().traced(module)):
        where, kind = _place(module, node)
        try:
            for operation in _read(module, node):
                chain = operation.join(chain)
        except (ValueError, TypeError) as error:
            raise refusal(where, f"{kind}: {error}") from None
    return chain


class _Tracer(fx.Tracer):
    """torch's own tracer; what Python cannot do without pixels is refused by the innermost module that tries it."""

    def traced(self, module: nn.Module) -> fx.Graph:
        return self._guarded(type(module).__name__, lambda: self.trace(module))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...],
                    kwargs: dict[str, Any]) -> Any:
        return self._guarded(self.path_of_module(m), lambda: super(_Tracer, self).call_module(m, forward, args, kwargs))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_normalisation(m) or super().is_leaf_module(m, module_qualified_name)

    def _guarded(self, where: str, trace: Callable[[], Any]) -> Any:
        try:
            return trace()
        except Refusal:
            raise
        except Exception as error:   # of foreign code, on a stand-in for images
            raise refusal(where, f"Python that needs the values of its images: {error}") from error


def _steps(module: nn.Module, graph: fx.Graph) -> list[fx.Node]:
    """The steps that lead from the images to the answer.

    Raises:
        Refusal: one that reads several values; the first one.
    """
    plain, needed = _plain(graph), _needed(graph)
    steps = [node for node in graph.nodes if node in needed and node not in plain and node.op != "placeholder"]
    for node in steps:
        if (count := len(set(node.all_input_nodes) - plain)) != 1:
            where, kind = _place(module, node)
            raise refusal(where, f"{kind} of {count} values")
    return steps


def _plain(graph: fx.Graph) -> set[fx.Node]:
    """Steps that give no value of an image: weights, sizes, and what follows from them alone."""
    plain: set[fx.Node] = set()
    for node in graph.nodes:
        size = node.target in ("size", "dim") or (node.target is getattr and node.args[1:] == ("shape",))
        if size or node.op == "get_attr" or (node.all_input_nodes and plain.issuperset(node.all_input_nodes)):
            plain.add(node)
    return plain


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """Steps that the module's answer, where there is one, follows from."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed:
            needed.update(node.all_input_nodes)
    return needed


def _place(module: nn.Module, node: fx.Node) -> tuple[str, str]:
    """Qualified name of the part of the module that a step is in, and what the step is."""
    if node.op == "call_module":
        return str(node.target), type(module.get_submodule(str(node.target))).__name__
    inside = list(node.meta.get("nn_module_stack", {}).values())
    name = getattr(node.target, "__name__", str(node.target))
    return (inside[-1][0] if inside else "") or type(module).__name__, name


def _read(module: nn.Module, node: fx.Node) -> list[Operation]:
    if node.op == "call_module":
        return read_module(module.get_submodule(str(node.target)))
    reader = (METHODS if node.op == "call_method" else FUNCTIONS).get(node.target)  # type: ignore[arg-type, call-overload]
    if reader is None:
        raise ValueError("no operation of a chain")
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: _known(module, n))
    return reader(*args, **kwargs)


def _known(module: nn.Module, node: fx.Node) -> Any:
    """What stands for another step among a step's arguments: a tensor of the module, or no number."""
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        return getattr(module.get_submodule(path), name)
    return VALUE
