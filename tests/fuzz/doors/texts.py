"""Doors of what a user writes: recipes, studies, key maps, and names in one line."""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from ep_hw.learning.training.recipe import load_recipe
from ep_hw.networks.checkpoint import load
from ep_hw.networks.exchange.keys import load_map
from ep_hw.studies.study import NetworkStudy, load_study, swept_machines
from ep_hw.threats.attacks import parse_gradient
from ep_hw.threats.threat import parse_threat
from mapping.crossbar.devices import read_devices
from mapping.crossbar.writing import parse_writing
from mapping.registry import parse
from tests.fuzz import texts
from tests.fuzz.documents import broken_toml, huge_number_in_toml
from tests.fuzz.door import Door
from tests.fuzz.edits import BYTE_EDITS, in_one_file, replaced

ASSUMED = re.compile(rb"^\[assumed\].*$", re.M)   # before what a packaged key map leaves to the user: here it is stated


class Toml(Door):
    """A TOML file; what is legal after an edit is another input, but no setting may be huge or not finite."""

    edits = (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS),
             *[in_one_file(huge_number_in_toml)] * 6, *[in_one_file(broken_toml, strict=False)] * 8)

    def __init__(self, name: str, folder: str, read: Callable):
        self.name, self.folder, self.read = name, folder, read

    def make(self):
        paths = sorted(Path(str(resources.files("ep_hw"))).joinpath(self.folder).glob("*.toml"))
        return [{"file.toml": ASSUMED.sub(b"", path.read_bytes())} for path in paths]

    def open(self, folder):
        return self.read(folder / "file.toml")


LAB = b"""
[lab]
title = "a cell"
source = "a definition"
g_min_us = 2.0
g_max_us = 60.0
age_domain_s = [0.0, 1e7]
levels = 64
stuck_off = 0.01
read = {energy_j = 2e-8, time_s = 2e-7}
[lab.constants]
programming = {g_us = [2.0, 30.0, 60.0], sigma_us = [1.2, 1.5, 1.8]}
drift = {exponent = 0.02, spread = 0.005, t0_s = 1.0}
read_noise = 0.01
"""


class Devices(Toml):
    """The project's own device file, and a user's."""

    def make(self):
        own = resources.files("mapping.crossbar").joinpath("devices.toml").read_bytes()
        return [{"file.toml": text} for text in (own, LAB)]


class Line(Door):
    """A name in one line."""

    edits = (texts.edited,)

    def __init__(self, name: str, read: Callable, *good: str):
        self.name, self.read, self.texts = name, read, good

    def make(self):
        return [{"text": text.encode()} for text in self.texts]

    def open(self, folder):
        return self.read((folder / "text").read_bytes().decode("utf-8", "surrogatepass"))


def _study(path):
    study = load_study(path)
    if isinstance(study, NetworkStudy):
        return study, list(map(parse, study.machines)), list(map(parse_threat, study.threats))
    return study, swept_machines(study), study.threats_named()


def _spelled_again(parse_text: Callable) -> Callable:
    """A reader whose answers, spelled, must be read again as the same."""
    def read(text):
        read = parse_text(text)
        if (again := parse_text(str(read))) != read:
            raise AssertionError(f"{read} is read again as {again}")
        return read
    return read


MACHINES = ("reference[steps=7]", "loihi[weight_bits=6,state_bits=10,steps=90]", "loihi[threshold=0.05]",
            "lava[model=structural]", "loihi:weights[chips=3]", "crossbar:ideal[tile=18]",
            "crossbar:pcm/aged[age=1d]", "crossbar:pcm[age=1d,adc_bits=6,wire_ohm=0.35]",
            "crossbar:generic[g_max_us=25,stuck_on=0.01,tile=128x64]", "crossbar:reram_wan[stuck_off=0.1]")
DOORS = (Toml("recipe", "learning/training/recipes", load_recipe), Toml("study", "studies", _study),
         Toml("key map", "networks/exchange", lambda path: load_map(str(path))), Devices("devices", "", read_devices),
         Line("machine", _spelled_again(parse), *MACHINES),
         Line("threat", _spelled_again(parse_threat), "clean", "pgd_l2@0.5", "pgd_linf@8/255", "jpeg_compression@3",
              "official:fog@2", "transfer:crossbar:pcm[age=1d]:pgd_l2@0.25", "cw_l2@0.1"),
         Line("gradient", _spelled_again(parse_gradient), "bptt@10", "bptt@70x10:margin", "apgd@15", "adjoint@10x20",
              "ep@0.5x4", "bptt@own"),
         Line("write model", _spelled_again(parse_writing), "reram", "linear[step=0.01,asymmetry=0.2,endurance=1000]"),
         Line("model name", load, "digits"))
