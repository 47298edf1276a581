"""Programs: what a compiler makes and a simulator runs, saved and loaded to the same bytes.

A program folder holds one sealed file (mapping.sealed): its header says kind, target, network and settings, and what
arrays there are follows from these. Nothing in it is ever unpickled.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field, model_validator

from mapping.definitions import is_again
from mapping.errors import Refusal
from mapping.fields import ImageShape, Name, Padding, PerLayer, Positive, Stated, Steps
from mapping.files import write_folder
from mapping.graph import Coupling, EPGraph, Population
from mapping.names import in_a_line
from mapping.sealed import Layout, Ranges, seal
from mapping.targets import ReferenceTarget, Target

FORM, FILE = "ep-hw program 3", "program.safetensors"
REMEDY = "compile the model again with this version"
Shape = tuple[int, int, int, int]
Weights = dict[str, Shape]   # shape of each coupling's weights by name, the readout's last
Arrays = dict[str, np.ndarray]
T = TypeVar("T", bound=Target)


class Link(Stated):
    """What `pack_graph` says of a coupling."""

    name: Name
    padding: Padding
    pool: Literal[1, 2]
    pre: ImageShape
    stride: Annotated[int, Field(ge=1, le=2**16)] = 1
    feedback_gain: Annotated[float, Field(ge=0)] = 1.0


class Network(Stated):
    """What `pack_graph` says of a graph; a ceiling of null is none."""

    image_shape: ImageShape
    schedule: Literal["synchronous", "alternating", "sequential"]
    steps: Steps
    tolerance: Annotated[float, Field(gt=0)]
    slopes: PerLayer[Positive]
    ceilings: PerLayer[Positive | None] | None = None
    populations: PerLayer[Name]
    couplings: PerLayer[Link]

    @model_validator(mode="after")
    def _chain(self) -> "Network":
        names = {link.name for link in self.couplings}
        if not len(names) - 1 == len(self.couplings) - 1 == len(self.slopes) == len(self.populations):
            raise ValueError("one population and slope is needed below each coupling, and a name of its own for each")
        if self.ceilings is not None and len(self.ceilings) != len(self.populations):
            raise ValueError("each population needs a ceiling, or none has one of its own")
        return self

    def weights(self, layout: Layout) -> Weights:
        """The shapes that a file has under the names of these couplings.

        Raises:
            ValueError: none, or not four dimensions of sizes that a layer can have.
        """
        shapes: Weights = {}
        for link in self.couplings:
            shape = layout.get(f"graph.{link.name}.weight", ("", ()))[1]
            if len(shape) != 4 or not all(1 <= size <= 2**16 for size in shape):
                raise ValueError(f"weights of layer {link.name} have shape {shape}")
            c_out, c_in, k_h, k_w = shape
            shapes[link.name] = c_out, c_in, k_h, k_w
        return shapes


class ProgramHeader(Stated):
    """What the file of a program says of it; `settings` are what its kind says they are (`Program.settings`)."""

    kind: str
    target: str
    network: Network
    settings: dict


@dataclass(frozen=True)
class Table:
    """A mapping report: a title, column names, rows of plain values, and sentences below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """What notebooks show."""
        rows = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in self.rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        head = _cells(self.columns, "th")
        return f"<table><caption>{escape(self.title)}</caption><tr>{head}</tr>{rows}</table>{notes}"


def _cells(values: Sequence[object], kind: str) -> str:
    shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
    return "".join(f"<{kind}>{escape(text)}</{kind}>" for text in shown)


@dataclass(frozen=True, eq=False)
class Program(ABC, Generic[T]):
    """A network compiled for a target. Subclasses add typed arrays and say how to pack them.

    Attributes:
        target: what it was compiled for.
        graph: the network.
        kind: names the class in a file.
        settings: type of what `pack` gives beside arrays.
        kinds: every class by its kind.

    Raises:
        Refusal: a class of a kind that another class has.
    """

    target: T
    graph: EPGraph
    kind: ClassVar[str]
    settings: ClassVar[type[Stated]]
    kinds: ClassVar[dict[str, type["Program"]]] = {}

    def __init_subclass__(cls):
        if not is_again(cls, first := Program.kinds.setdefault(cls.kind, cls)):
            raise Refusal("two classes of programs of one kind", where=f"{cls.__module__}.{cls.__name__}, kind",
                          got=repr(cls.kind), allowed=f"a kind that {first.__name__} has not",
                          remedy="give the class a kind of its own")
        Program.kinds[cls.kind] = cls
        if "__repr__" not in vars(cls):   # a dataclass writes its own, of all arrays, where its class has none
            type.__setattr__(cls, "__repr__", Program.__repr__)

    @abstractmethod
    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON settings beyond target and graph."""

    @classmethod
    @abstractmethod
    def unpack(cls, target: T, graph: EPGraph, arrays: Arrays, settings: dict[str, Any]) -> "Program[T]":
        """Inverse of `pack`."""

    @classmethod
    @abstractmethod
    def takes(cls, target: Target) -> bool:
        """Whether programs for a target are of this kind."""

    @classmethod
    @abstractmethod
    def layout(cls, target: T, weights: Weights, settings: Any, present: Collection[str]) -> Layout:
        """Type and shape of each array beyond the graph's.

        Args:
            target: one that this kind takes.
            weights: of the network.
            settings: of type `cls.settings`.
            present: names of the arrays that a file has, of which some are optional.

        Raises:
            ValueError: settings that do not fit the target or the network.
        """

    @classmethod
    @abstractmethod
    def ranges(cls, target: T, layout: Layout) -> Ranges:
        """Lowest and highest value of these arrays."""

    def verify(self):
        """Check what a file cannot be trusted with. Raises ValueError."""

    def on_rung(self, target: Target, graph: EPGraph) -> "Program":
        """The program of a machine that leads to this one.

        It holds this program's own arrays, not freshly compiled ones: what is wrong in them then shows at the first
        rung whose cause it belongs to.

        Args:
            target: a rung of this program's target.
            graph: the network as it was lowered.
        """
        changed: Program = self   # whatever its target's type
        return replace(changed, target=target)

    @property
    def size(self) -> str:
        """How much of a machine it takes, in a few words."""
        return f"{sum(c.weight.size for c in (*self.graph.couplings, self.graph.readout))} weights"

    def __repr__(self):
        return in_a_line(self, f"of {len(self.graph.couplings) + 1} layers for {self.target}: {self.size}")

    def _repr_html_(self) -> str:
        """What notebooks show: its name and its tables."""
        return f"<p>{escape(repr(self))}</p>" + "".join(table._repr_html_() for table in self.tables())

    @abstractmethod
    def report(self) -> Table:
        """Layer by layer: where it went, how much it uses, how much is allowed."""

    def tables(self) -> tuple[Table, ...]:
        """The report and what else the compiler has to say."""
        return (self.report(),)

    def save(self, folder: Path):
        """Write the program; the folder appears whole or not at all.

        Raises:
            Refusal: the folder exists already or cannot be written.
        """
        write_folder(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """File name -> content of a program folder."""
        arrays, settings = self.pack()
        network, graph_arrays = pack_graph(self.graph)
        header = {"kind": self.kind, "target": str(self.target), "network": network, "settings": settings}
        return {FILE: seal(FORM, header, {**graph_arrays, **arrays})}

    def chip_seeds(self, count: int) -> list[int | None]:
        """The chips that `count` chips are; [None] where there are no chips to tell apart."""
        return [*range(count)] if self.target.has_chips else [None]

    def digest(self) -> str:
        """sha256 over everything that decides what this program computes."""
        arrays, settings = self.pack()
        network, graph_arrays = pack_graph(self.graph)
        content = hashlib.sha256(json.dumps([str(self.target), network, settings], sort_keys=True).encode())
        for name, array in sorted({**graph_arrays, **arrays}.items()):
            content.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class FloatProgram(Program[T]):
    """The graph as it is, for machines that compute in floats (`reference`, `lava:float`)."""

    kind: ClassVar[str] = "float"
    settings: ClassVar[type[Stated]] = Stated

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        return {}, {}

    @classmethod
    def unpack(cls, target: T, graph: EPGraph, arrays: Arrays, settings: dict[str, Any]) -> "FloatProgram[T]":
        return cls(target, graph)

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, ReferenceTarget) or target.name == "lava:float"

    @classmethod
    def layout(cls, target: T, weights: Weights, settings: Any, present: Collection[str]) -> Layout:
        return {}

    @classmethod
    def ranges(cls, target: T, layout: Layout) -> Ranges:
        return {}

    def report(self) -> Table:
        rows = tuple((c.name, "x".join(map(str, c.pre)), "x".join(map(str, c.post)), int(np.prod(c.post)),
                      c.weight.size, 32) for c in (*self.graph.couplings, self.graph.readout))
        return Table(f"{self.target.shown}: float", ("layer", "in", "out", "neurons", "weights", "bits"), rows)


def compile_floats(graph: EPGraph, target: T) -> FloatProgram[T]:
    """Compile for a machine that computes in floats: nothing changes."""
    return FloatProgram(target, graph)


def pack_graph(graph: EPGraph) -> tuple[dict[str, Any], Arrays]:
    """A graph as JSON and arrays (its calibration activity left out: programs no longer need it).

    What only some networks have is left out where it is as usual, so that the digest of all others stays.
    """
    layers = (*graph.couplings, graph.readout)
    header: dict[str, Any] = {"image_shape": graph.image_shape, "schedule": graph.schedule, "steps": graph.steps,
              "tolerance": graph.tolerance, "slopes": [p.slope for p in graph.populations],
              "populations": [p.name for p in graph.populations],
              "couplings": [{"name": c.name, "padding": c.padding, "pool": c.pool, "pre": c.pre, **_unusual(c)}
                            for c in layers]}
    if any(p.ceiling != 1 for p in graph.populations):
        header["ceilings"] = [p.ceiling if math.isfinite(p.ceiling) else None for p in graph.populations]
    arrays = {"graph.mean": graph.mean, "graph.scale": graph.scale}
    for c in layers:
        arrays |= {f"graph.{c.name}.weight": c.weight, f"graph.{c.name}.bias": c.bias}
    return header, arrays


def _unusual(coupling: Coupling) -> dict[str, float]:
    return {name: value for name in ("stride", "feedback_gain") if (value := getattr(coupling, name)) != 1}


def graph_layout(network: Network, weights: Weights) -> Layout:
    """Type and shape of the arrays of `pack_graph`."""
    channels = network.image_shape[:1]
    layout: Layout = {"graph.mean": ("float32", channels), "graph.scale": ("float32", channels)}
    for name, shape in weights.items():
        layout |= {f"graph.{name}.weight": ("float32", shape), f"graph.{name}.bias": ("float32", shape[:1])}
    return layout


def unpack_graph(header: dict[str, Any], arrays: Arrays) -> EPGraph:
    """Inverse of `pack_graph`."""
    layers = [Coupling(c["name"], arrays[f"graph.{c['name']}.weight"], arrays[f"graph.{c['name']}.bias"],
                       c["padding"], c["pool"], tuple(c["pre"]), c.get("stride", 1), c.get("feedback_gain", 1.0))
              for c in header["couplings"]]
    ceilings = header.get("ceilings") or [1.0] * len(layers)
    populations = tuple(Population(name, c.post, slope, math.inf if ceiling is None else ceiling)
                        for name, slope, ceiling, c in zip(header["populations"], header["slopes"], ceilings, layers))
    return EPGraph(tuple(header["image_shape"]), arrays["graph.mean"], arrays["graph.scale"], populations,
                   tuple(layers[:-1]), layers[-1], header["schedule"], header["steps"], header["tolerance"])
