"""Attacks of a user: registered by a decorator, checked before they count, known to keys by their file."""

import hashlib
import importlib.util
import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_images, small_network
from registries import restored

import mapping
from ep_hw import versions
from ep_hw.threats import attack, parse_threat
from ep_hw.threats.attacks import AttackSettings, Candidate
from ep_hw.threats.attacks import attack as attacked
from ep_hw.threats.registry import ATTACKS
from mapping.errors import Refusal
from simulators.module import Interface, ModuleProgram
from simulators.reference import ReferenceMachine

IMAGES = random_images(6)
EPS = 0.25


@pytest.fixture(autouse=True)
def attacks():
    """Attacks that a test registers are known to it alone."""
    with restored(ATTACKS):
        yield


@pytest.fixture(scope="module")
def machine():
    return ReferenceMachine(small_network(1).lower())


def run(machine, threat, images=IMAGES):
    labels = machine.relax(images).prediction
    return attacked(machine, parse_threat(threat), images, labels, AttackSettings(), torch.Generator().manual_seed(0))


def test_a_function_and_a_class_are_the_same_attack(machine):
    @attack(norm="linf", access="black")
    def darker(machine, images, labels, eps, generator):
        return (images - eps).clamp(0, 1)

    @attack(norm="linf", access="black")
    class Darker:
        def __init__(self, eps):
            self.eps = eps

        def __call__(self, machine, images, labels, generator):
            return Candidate.of((images - self.eps).clamp(0, 1), queries=torch.ones(len(images)))

    one, other = (run(machine, f"{name}@{EPS}") for name in ("darker", "Darker"))
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.images, (IMAGES - EPS).clamp(0, 1))
    assert {*one.broken_by} <= {"", "darker"}
    assert other.queries.tolist() == [1.0] * len(IMAGES)
    assert parse_threat("darker@0.1").is_black_box
    assert parse_threat("darker@0.1").attack.is_bounded


def test_a_white_box_may_use_gradients(machine):
    @attack(norm="l2", access="white")
    def uphill(machine, images, labels, eps, generator):
        images = images.clone().requires_grad_()
        torch.nn.functional.cross_entropy(machine.relax(images, 5).logits, labels, reduction="sum").backward()
        step = images.grad / images.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return (images.detach() + eps * step).clamp(0, 1)

    assert parse_threat("uphill@0.5").is_white_box
    seen = run(machine, "uphill@0.5")
    labels = machine.relax(IMAGES).prediction
    losses = [torch.nn.functional.cross_entropy(machine.relax(x).logits, labels) for x in (seen.images, IMAGES)]
    assert losses[0] > losses[1]


FAULTS = {
    "left its ball": lambda x, eps: (x + 1.1 * eps * torch.where(x > 0.5, -1, 1)),
    "left the range": lambda x, eps: x + eps * torch.where(x > 0.5, 1, -1),
    "other images": lambda x, eps: x[:, :, 1:],
    "other images than it was given; got torch.float64": lambda x, eps: x.double(),
    "left the range of pixels; got nan": lambda x, eps: x * torch.nan,
    "other images than it was given; got NoneType": lambda x, eps: None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_breaks_the_rules_is_refused_under_its_name(machine, fault):
    @attack(norm="linf", access="black")
    def broken(machine, images, labels, eps, generator):
        return FAULTS[fault](images, eps)

    with pytest.raises(Refusal, match=f"broken@0.25, broken: an attack .*{fault}"):
        run(machine, f"broken@{EPS}", torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]))


@given(st.sampled_from(["l2", "linf"]), st.floats(0.01, 3), st.floats(0.5, 1.5), st.integers(0, 10**6))
def test_a_candidate_counts_exactly_if_it_is_in_the_ball(norm, eps, share, seed):
    machine = ReferenceMachine(small_network(1).lower())
    towards = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    towards = towards / (towards.norm() if norm == "l2" else towards.abs().max())
    images = torch.full((1, 1, 8, 8), 0.5)
    made = images + share * eps * towards
    inside = made.min() >= 0 and made.max() <= 1 and share <= 1 + 1e-6
    ATTACKS.pop("moved", None)

    @attack(norm=norm, access="black")
    def moved(machine, images, labels, eps, generator):
        return made

    if inside:
        run(machine, f"moved@{eps}", images)
    elif not 1 < share < 1 + 1e-4:
        with pytest.raises(Refusal, match="moved"):
            run(machine, f"moved@{eps}", images)


def test_an_attack_that_fails_is_refused_with_its_line(machine):
    @attack(norm="linf", access="black")
    def failing(machine, images, labels, eps, generator):
        raise ValueError("no such thing")

    line = failing.__code__.co_firstlineno + 2
    with pytest.raises(Refusal, match=f"failing: .*ValueError: no such thing, line {line} of test_own.py"):
        run(machine, "failing@0.1")


def test_a_line_within_an_installed_package_is_that_which_led_to_it(machine):
    @attack(norm="linf", access="black")
    def failing(machine, images, labels, eps, generator):
        return torch.nn.functional.cross_entropy(images, labels.double())

    line = failing.__code__.co_firstlineno + 2
    with pytest.raises(Refusal, match=f"line {line} of test_own.py"):
        run(machine, "failing@0.1")


@pytest.mark.parametrize("stated", [{"norm": "l0", "access": "black"}, {"norm": "l2", "access": "grey"}])
def test_a_norm_or_an_access_that_is_none_is_refused(stated):
    with pytest.raises(Refusal, match="not an attack"):
        attack(**stated)


def test_a_name_that_is_taken_is_refused():
    def pgd_l2(machine, images, labels, eps, generator):
        return images

    with pytest.raises(Refusal, match="'pgd_l2'"):
        attack(norm="l2", access="black")(pgd_l2)


def test_keys_of_cells_hold_the_file_of_a_users_code_and_no_file_of_ours():
    @attack(norm="linf", access="black")
    def kept(machine, images, labels, eps, generator):
        return images

    program = mapping.compile(small_network(0).lower(), "reference")
    own, ours = (versions.code_of([program], parse_threat(text)) for text in ("kept@0.1", "pgd_linf@0.1"))
    assert re.fullmatch("[0-9a-f]{64}", own["test_own.py"])
    assert not [name for name in ours if name.endswith(".py")]


def typed(text):
    """A function as a notebook has it, in no file."""
    known = {"__name__": "typed_here"}
    exec(compile(text, "<stdin>", "exec"), known)   # as Python itself does
    return known["typed"]


@pytest.mark.parametrize("kind", ["function", "class"])
def test_keys_of_cells_hold_each_code_that_was_typed(kind):
    text = {"function": "def typed(machine, images, labels, eps, generator): return images",
            "class": "class typed: pass"}[kind]
    program, keys = mapping.compile(small_network(0).lower(), "reference"), []
    for made_by in map(typed, [text, text]):
        ATTACKS.pop("typed", None)
        attack(norm="linf", access="black")(made_by)
        keys += [versions.code_of([program], parse_threat("typed@0.1")) for _ in range(2)]
    assert keys[0] == keys[1]
    assert keys[1] != keys[2] == keys[3]


def test_keys_of_cells_hold_all_files_of_a_name(tmp_path):
    """A module and an attack of files of the same name, in different packages."""
    texts = {"one": "import torch\nclass Net(torch.nn.Flatten): pass",
             "two": "def moved(machine, images, labels, eps, generator): return images"}
    parts = {}
    for folder, text in texts.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(text)
        spec = importlib.util.spec_from_file_location(f"{folder}_parts", tmp_path / folder / "parts.py")
        sys.modules[spec.name] = parts[folder] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(parts[folder])
    attack(norm="linf", access="black")(parts["two"].moved)
    program = ModuleProgram(parts["one"].Net(), Interface((1, 2, 5), 10))
    held = versions.code_of([program], parse_threat("moved@0.1"))["parts.py"]
    for folder in texts:
        del sys.modules[f"{folder}_parts"]
    assert held == "".join(hashlib.sha256(text.encode()).hexdigest() for text in texts.values())
