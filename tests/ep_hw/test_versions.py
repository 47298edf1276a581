"""Every kind of code that decides a cell's outcome keeps an outcome beside its version number (outcomes.json).

Red where an outcome moved and its number did not: raise the number where it is kept, so that nobody takes old cells
for new ones, and store the new outcome with `EP_HW_STORE_OUTCOMES=1 uv run pytest tests/ep_hw/test_versions.py`.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_images, small_network

import mapping
import simulators
from ep_hw import versions
from ep_hw.data import Split
from ep_hw.evaluation.cells import Cell, Configuration, run_cell
from ep_hw.evaluation.stored_attacks import Place, StoredAttack, make
from ep_hw.evaluation.temporal import measure_time
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions import ALL, corrupt
from ep_hw.threats.registry import ATTACKS, code_versions
from ep_hw.threats.threat import CLEAN, parse_threat
from mapping.crossbar.presets import PRESETS
from simulators.module import ModuleMachine

FILE = Path(__file__).with_name("outcomes.json")
STORING = os.environ.get("EP_HW_STORE_OUTCOMES") == "1"
TOLERANCE = 2e-4   # other processors round otherwise
SETTINGS = AttackSettings(gradients=("bptt@4", "bptt@6:margin", "apgd@5", "ep@0.5:margin"), iterations=2, queries=20,
                          restarts=2)
STRENGTHS = {"cw_l2": 0.1, "deepfool_l2": 1.0, "square_linf": 0.1, "autoattack_linf": 0.05, "pgd_linf": 0.05,
             "pgd_unclipped_linf": 0.05, "one_pixel": 2}
CROSSBARS = ("crossbar:ideal", "crossbar:pcm[arrays=separate]", "crossbar:pcm[wire_ohm=0.35,tile=32x32]",
             "crossbar:generic[stuck_on=0.05,stuck_off=0.1,levels=16,encoding=slices]",
             *(f"crossbar:{name}" for name in PRESETS if name not in ("ideal", "generic")))
OPTIONS = ("crossbar:pcm[sinh_v=0.05]", "crossbar:pcm[sinh_v=0.05,wire_ohm=5,tile=32,without=read,steps=6]",
           "crossbar:pcm[inputs=bits]")


@pytest.fixture(scope="module")
def graph():
    return small_network(5).lower()


@pytest.fixture(scope="module")
def split(graph):
    return asked(graph, 1)


def asked(graph, seed: int) -> Split:
    """Three images of a seed from which no attack here goes long ways, which end elsewhere on other processors."""
    images = random_images(3, seed=seed)
    return Split("digits", images, reference(graph).relax(images).prediction, torch.arange(3))


def reference(graph):
    return simulators.open(mapping.compile(graph, "reference"))


def numbers(*parts) -> list[float]:
    return [round(float(x), 6) for part in parts for x in np.ravel(np.asarray(part, float))]


def relaxed(graph, names) -> list[float]:
    """Logits after 12 steps of noisy machines, at rest of others; steps; a changed rule of stopping moves them."""
    found = []
    for name in names:
        with simulators.open(mapping.compile(graph, name), chip_seed=1) as machine:
            end = machine.relax(random_images(3), 12 if mapping.parse(name).is_noisy else None,
                                generator=torch.Generator().manual_seed(2))
        found += numbers(end.logits, end.steps)
    return found


MACHINES = {"reference": ("reference",), "loihi": ("loihi:weights", "loihi:states", "loihi", "loihi[threshold=0.05]"),
            "lava": ("lava", "lava:float"), "digital": ("digital/weights", "digital"), "crossbar": CROSSBARS,
            "generic": ("crossbar:generic[g_max_us=8,additive=0.03,proportional=0.05,read_noise=0.02]",)}


@pytest.mark.parametrize("kind", MACHINES)
def test_a_machine_answers_as_its_version_says(graph, kind):
    check(kind, versions.machines()[kind], relaxed(graph, MACHINES[kind]))


def test_options_answer_as_the_version_of_crossbars_says(graph):
    check("crossbar options", versions.machines()["crossbar"], relaxed(graph, OPTIONS))


def test_a_module_answers_as_its_version_says():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    check("module", versions.machines()["module"], numbers(ModuleMachine(module, (1, 8, 8), 10).relax(
        random_images(3)).logits))


@pytest.mark.parametrize("kind", sorted({attack.code for attack in ATTACKS.values()}))
def test_an_attack_ends_as_its_version_says(graph, split, tmp_path, kind):
    """Norms, what broke each image, and where: rows of a cell on the reference and on a machine with noise."""
    found = []
    for name in (name for name in ATTACKS if ATTACKS[name].code == kind):
        threat = parse_threat(f"{name}@{STRENGTHS.get(name, 0.5)}")
        rows, images = cell_of(graph, split, threat, tmp_path, "reference")
        found += numbers(rows["norm"], rows["prediction"], rows["queries"], [len(x) for x in rows["broken_by"]],
                         images.mean((1, 2, 3)))
    check(kind, code_versions()[kind], found)


def test_corruptions_end_as_their_version_says():
    """Means of the quarters of a small image, which is no multiple of a level."""
    image = random_images(1, (3, 32, 32)).numpy()
    found = [corrupt(image, name, 3, np.random.default_rng(0)).reshape(3, 2, 16, 2, 16).mean((2, 4))
             for name in ALL if name != "frost"]
    check("corruption", code_versions()["corruption"], numbers(*found))


def test_a_verdict_is_made_as_its_version_says(graph, split, tmp_path):
    """All numbers in the rows of a cell on a machine with read noise."""
    rows, _ = cell_of(graph, split, CLEAN, tmp_path, "crossbar:pcm[steps=8]")
    kept = [[float(x) for x in values] for values in rows.values() if isinstance(values[0], int | float)]
    check("verdict", versions.VERDICT, numbers(*kept))


def test_attack_times_end_as_their_version_says(graph, split):
    point = measure_time(reference(graph), split, 0.5, 5, (2, 10, 40), 3, seed=0)
    check("temporal", versions.TEMPORAL, numbers(point.correct))


def test_adversarial_success_ends_as_its_version_says(graph, tmp_path):
    """What PGD and the one-pixel attack make, and answers to it, on a chip with read noise."""
    place, split = Place(mapping.compile(graph, "crossbar:pcm[steps=8]"), 1), asked(graph, 6)
    found = []
    for threat, effort in ((parse_threat("pgd_linf@0.1"), 2), (parse_threat("one_pixel@2"), 8)):
        one = StoredAttack(threat, effort, place, (place,), split, SETTINGS, 2, 0, "cpu", tmp_path)
        made = make(place.open("cpu"), threat, effort, split, SETTINGS, torch.Generator().manual_seed(0))
        found += numbers(made.mean((1, 2, 3)), one.compute()["right"])
    check("envelope", versions.ENVELOPE, found)


def test_what_is_drawn_does_not_depend_on_the_versions_of_libraries(graph, split, tmp_path, monkeypatch):
    place = Place(mapping.compile(graph, "crossbar:pcm[steps=8]"), 1)
    seen = []
    for version in "12":
        monkeypatch.setattr("ep_hw.evaluation.cells.libraries", lambda version=version: {"numpy": version})
        monkeypatch.setattr("ep_hw.evaluation.kept.libraries", lambda version=version: {"numpy": version})
        cell = a_cell(CLEAN, split, "reference", tmp_path)
        kept = StoredAttack(CLEAN, 1, place, (place,), split, SETTINGS, 2, 0, "cpu", tmp_path)
        seen.append((cell.stem, kept.key, cell.generator("x").initial_seed(), kept.generator("x").initial_seed()))
    assert [one == other for one, other in zip(*seen)] == [False, False, True, True]


def test_every_version_has_an_outcome_and_every_machine_a_version():
    others = {"verdict", "temporal", "envelope", "crossbar options"}
    kinds = {*versions.machines(), *code_versions(), *others} - {"clean"}   # clean images are as they are
    assert set(stored()) == kinds
    assert {re.split("[:/]", name)[0] for name in mapping.REGISTRY} <= set(versions.machines())


def cell_of(graph, split, threat, folder, name) -> tuple[dict, np.ndarray]:
    """Columns and adversarial images of a cell run on a machine."""
    cell = a_cell(threat, split, name, folder)
    with simulators.open(mapping.compile(graph, name), chip_seed=1) as machine:
        clean = reference(graph)
        run_cell(cell, clean if name == "reference" else machine, clean)
    return cell.read().to_pydict(), cell.adversarial().numpy() if threat.is_attack else split.images.numpy()


def a_cell(threat, split, name, folder) -> Cell:
    return Cell(Configuration(model="small", dataset="digits", machine=name, program="", reference="", code={},
                              threat=threat, chip_seed=None, seed=0, votes=3,
                              settings=SETTINGS if threat.is_attack else None), split, folder)


def stored() -> dict:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def check(kind: str, version: int, outcome: list[float]):
    """The stored outcome of this version is the one found; or, where outcomes are stored, the new one is kept."""
    assert any(outcome)
    known = stored().get(kind)
    if STORING and (known is None or known["version"] != version):
        kept = {**stored(), kind: {"version": version, "outcome": outcome}}
        FILE.write_text("{\n" + ",\n".join(f' "{k}": {json.dumps(kept[k])}' for k in sorted(kept)) + "\n}\n")
        return
    assert known is not None, "no outcome is stored: EP_HW_STORE_OUTCOMES=1"
    assert known["version"] == version, "the version was raised: store the new outcome with EP_HW_STORE_OUTCOMES=1"
    assert known["outcome"] == pytest.approx(outcome, rel=0, abs=TOLERANCE), f"raise the version of {kind!r}"
