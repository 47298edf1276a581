"""Every machine takes the same images and phases: any float type, empty batches; else it refuses in the same words."""

import pytest
import torch
from networks import random_images, small_network
from torch import nn

import mapping
import simulators
from mapping import Refusal
from simulators.module import ModuleMachine
from simulators.relaxation import Nudge

TARGETS = ("reference", "loihi:weights", "loihi[threshold=0.05]", "crossbar:ideal", "crossbar:pcm", "lava",
           "lava:float")
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def machines():
    """A machine of each kind, by name."""
    graph = small_network(3).lower()
    opened = {target: simulators.open(mapping.compile(graph, target)) for target in TARGETS}
    torch.manual_seed(0)
    opened["module"] = ModuleMachine(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), SHAPE, 10)
    yield opened
    for machine in opened.values():
        machine.close()


NOT_IMAGES = {
    "numpy": (random_images(2).numpy(), "no plain tensor; got ndarray"), "a list": ([[0.0]], "no plain tensor"),
    "sparse": (random_images(2).to_sparse(), "no plain tensor"),
    "bytes": (random_images(2).mul(255).byte(), "not floats"), "truths": (random_images(2) > 0.5, "not floats"),
    "complex": (random_images(2).to(torch.complex64), "not floats"), "one": (random_images(1)[0], "wrong shape"),
    "flat": (random_images(2).flatten(1), "wrong shape"), "last axis": (random_images(2).permute(0, 2, 3, 1), "wrong"),
    "nan": (random_images(2).where(random_images(2) > 0.1, torch.nan), "out of range"),
    "infinite": (random_images(2) / 0, "out of range"), "levels": (random_images(2) * 255, "out of range"),
    "below": (random_images(2) - 0.1, "out of range"),
}


@pytest.mark.parametrize("target", [*TARGETS, "module"])
def test_what_is_no_image_is_refused_by_every_machine_alike(machines, target):
    for images, words in NOT_IMAGES.values():
        with pytest.raises(Refusal, match=words):
            machines[target].relax(images)


@pytest.mark.parametrize("target", TARGETS)
def test_an_empty_batch_has_an_empty_answer(machines, target):
    machine, seen, nudge = machines[target], [], Nudge(torch.zeros(0, 10), 0.5)
    zeros = tuple(torch.zeros(0, *p.shape) for p in machine.graph.populations)
    for ask in ({}, {"steps": 3, "nudge": nudge}, {"states": zeros}, {"steps": 2, "trace": lambda *a: seen.append(a)}):
        end = machine.relax(torch.zeros(0, *SHAPE), **ask)
        assert [s.shape for s in end.states] == [s.shape for s in zeros]
        assert (end.logits.shape, end.prediction.shape) == ((0, 10), (0,))
        assert end.residual.shape == end.converged.shape == end.steps.shape == (0,)
    assert [(t, [s.shape for s in states]) for t, states in seen] == [(t, [s.shape for s in zeros]) for t in (1, 2)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_images_are_taken_as_the_nearest_float32(machines, target, kind):
    images = random_images(3, dtype=torch.float64).to(kind)
    ends = [machines[target].relax(x, generator=torch.Generator().manual_seed(1)) for x in (images, images.float())]
    assert torch.equal(ends[0].logits, ends[1].logits)
    assert all(map(torch.equal, ends[0].states, ends[1].states))


def phases(machine) -> dict[str, tuple[dict, str]]:
    eye, states = torch.eye(10)[:2], tuple(torch.zeros(2, *p.shape) for p in machine.graph.populations)
    return {
        "no steps": ({"steps": 0}, "no number of time steps"), "negative steps": ({"steps": -1}, "time steps"),
        "half a step": ({"steps": 2.5}, "time steps"), "a schedule": ({"schedule": "random"}, "schedule"),
        "one target": ({"nudge": Nudge(eye[:1], 0.5)}, "targets"),
        "labels": ({"nudge": Nudge(eye.argmax(1), 0.5)}, "targets"),
        "five classes": ({"nudge": Nudge(eye[:, :5], 0.5)}, "targets"),
        "few states": ({"states": states[:1]}, "states"),
        "one state": ({"states": tuple(s[:1] for s in states)}, "states"),
        "beta": ({"nudge": Nudge(eye, torch.nan)}, "not finite"), "push": ({"nudge": Nudge(eye, -torch.inf)}, "finite"),
        "no target": ({"nudge": Nudge(eye * torch.nan, 0.5)}, "not finite"),
        "nan": ({"states": tuple(s + torch.nan for s in states)}, "out of range"),
        "large": ({"states": tuple(s + 2 for s in states)}, "out of range")}


@pytest.mark.parametrize("target", TARGETS)
def test_a_phase_that_cannot_be_is_refused_by_every_machine_alike(machines, target):
    for ask, words in phases(machines[target]).values():
        with pytest.raises(Refusal, match=words):
            machines[target].relax(random_images(2), **ask)
