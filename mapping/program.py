"""Programs: what a compiler makes and a simulator runs, saved and loaded to the same bytes.

A program folder holds `program.json` (format, version, target, network, settings, digest of all of these and of the
arrays) and `program.safetensors` (arrays). Nothing in it is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population
from mapping.targets import Target, parse

VERSION = 2


@dataclass(frozen=True)
class Table:
    """A mapping report: a title, column names, rows of plain values, and sentences below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Program(ABC):
    """A network compiled for a target. Subclasses add typed arrays and say how to pack them."""

    target: Target
    graph: EPGraph
    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type["Program"]]] = {}

    def __init_subclass__(cls):
        Program.kinds[cls.kind] = cls

    @abstractmethod
    def pack(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and JSON settings beyond target and graph."""

    @classmethod
    @abstractmethod
    def unpack(cls, target: Target, graph: EPGraph, arrays: dict[str, np.ndarray], settings: dict) -> "Program":
        """Inverse of `pack`."""

    def verify(self):  # noqa: B027 - most programs claim nothing that their arrays could belie
        """Check what a file cannot be trusted with. Raises ValueError."""

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
        folder = Path(folder)
        if folder.exists():
            raise Refusal("output folder exists", where=str(folder), got="an existing path", allowed="a new path",
                          remedy="choose another --out or remove it")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".program-") as scratch:
                staged = Path(scratch) / "program"
                staged.mkdir()
                for name, blob in self.files().items():
                    (staged / name).write_bytes(blob)
                os.replace(staged, folder)
        except OSError as error:
            raise Refusal("cannot write the program", where=str(folder), got=error.strerror,
                          allowed="a writable folder", remedy="choose another --out") from None

    def files(self) -> dict[str, bytes]:
        """File name -> content of a program folder; the last one says that the others are whole."""
        arrays, settings = self.pack()
        network, graph_arrays = pack_graph(self.graph)
        blob = save({k: np.ascontiguousarray(v) for k, v in {**graph_arrays, **arrays}.items()})
        header = {"format": "ep-hw program", "version": VERSION, "kind": self.kind, "target": str(self.target),
                  "network": network, "settings": settings, "digest": self.digest()}
        return {"program.safetensors": blob,
                "program.json": json.dumps(header, indent=1, sort_keys=True).encode() + b"\n"}

    def chip_seeds(self, count: int) -> list[int | None]:
        """The chips that `count` chips are; [None] where there are no chips to tell apart."""
        return list(range(count)) if self.target.has_chips else [None]

    def digest(self) -> str:
        """sha256 over everything that decides what this program computes."""
        arrays, settings = self.pack()
        network, graph_arrays = pack_graph(self.graph)
        content = hashlib.sha256(json.dumps([str(self.target), network, settings], sort_keys=True).encode())
        for name, array in sorted({**graph_arrays, **arrays}.items()):
            content.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class FloatProgram(Program):
    """The graph as it is, for machines that compute in floats (`reference`, `lava:float`)."""

    kind: ClassVar[str] = "float"

    def pack(self):
        return {}, {}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        return cls(target, graph)

    def report(self):
        rows = tuple((c.name, "x".join(map(str, c.pre)), "x".join(map(str, c.post)), int(np.prod(c.post)),
                      c.weight.size, 32) for c in (*self.graph.couplings, self.graph.readout))
        return Table(f"{self.target}: float", ("layer", "in", "out", "neurons", "weights", "bits"), rows)


def load_program(folder: Path) -> Program:
    """Read a program written by `Program.save`.

    Raises:
        Refusal: a missing, truncated or altered file, or another version.
    """
    folder = Path(folder)
    remedy = "compile the model again with this version"
    try:
        header = json.loads((folder / "program.json").read_text())
        arrays = load((folder / "program.safetensors").read_bytes())
        if header["version"] != VERSION:
            raise Refusal("program of another version", where=str(folder), got=header["version"], allowed=VERSION,
                          remedy=remedy)
        graph = unpack_graph(header["network"], arrays)
        program = Program.kinds[header["kind"]].unpack(parse(header["target"]), graph, arrays, header["settings"])
        program.verify()
        digest, promised = program.digest(), header["digest"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal("not a readable program", where=str(folder), got=f"{type(error).__name__}: {error}",
                      allowed="a folder of 'ep-hw compile'", remedy=remedy) from None
    if digest != promised:
        raise Refusal("program is damaged", where=str(folder), got=f"digest {digest[:12]}", allowed=promised[:12],
                      remedy=remedy)
    return program


def pack_graph(graph: EPGraph) -> tuple[dict, dict[str, np.ndarray]]:
    """A graph as JSON and arrays (its calibration activity left out: programs no longer need it)."""
    layers = (*graph.couplings, graph.readout)
    header = {"image_shape": graph.image_shape, "schedule": graph.schedule, "steps": graph.steps,
              "tolerance": graph.tolerance, "slopes": [p.slope for p in graph.populations],
              "populations": [p.name for p in graph.populations],
              "couplings": [{"name": c.name, "padding": c.padding, "pool": c.pool, "pre": c.pre} for c in layers]}
    arrays = {"graph.mean": graph.mean, "graph.scale": graph.scale}
    for c in layers:
        arrays |= {f"graph.{c.name}.weight": c.weight, f"graph.{c.name}.bias": c.bias}
    return header, arrays


def unpack_graph(header: dict, arrays: dict[str, np.ndarray]) -> EPGraph:
    """Inverse of `pack_graph`."""
    layers = [Coupling(c["name"], arrays[f"graph.{c['name']}.weight"], arrays[f"graph.{c['name']}.bias"],
                       c["padding"], c["pool"], tuple(c["pre"])) for c in header["couplings"]]
    populations = tuple(Population(name, c.post, slope)
                        for name, slope, c in zip(header["populations"], header["slopes"], layers))
    return EPGraph(tuple(header["image_shape"]), arrays["graph.mean"], arrays["graph.scale"], populations,
                   tuple(layers[:-1]), layers[-1], header["schedule"], header["steps"], header["tolerance"])
