"""How hard to attack, and which gradients a machine allows for it."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from ep_hw.threats.attacks.gradients import Gradient, Unrolled, parse_gradient
from mapping.errors import Refusal
from mapping.fields import Count, Stated
from simulators.machine import Machine

Ensemble = Literal["standard", "rand", "paper"]
DEFAULT_UNROLL = 29   # synchronous steps through which attacks differentiate where no bptt@STEPS is among the gradients


class AttackSettings(Stated):
    """How hard to attack; part of every cell's key.

    Attributes:
        gradients: tried in turn on the images that still stand, each from `restarts` starts, the cheap and strong ones
            first. Auto-PGD climbs those of `apgd@STEPS`. Those of `bptt@own` and `apgd@own` go through the machine's
            own relaxation, where it ends within `DEFAULT_UNROLL` iterations; there the attacks that are no PGD do so
            too.
        iterations: of PGD's first gradient and of Auto-PGD's first; the others go on from there, in half as many.
        queries: the most that a black box asks of one image.
        average: how many of the queries are read for each answer of a noisy machine.
        eot: gradients that are averaged where each meets fresh noise: those of `eot@STEPS`, and all of machines whose
            differentiable model is noisy. A gradient that is measured by nudging is one pair, of `ep@BETAxPAIRS` more.
        votes: reads of a noisy machine that decide by majority.
        restarts: starts of PGD, all but the first at random.
        label: attacks flee the true label, or what the machine predicts of the clean image: then images that it gets
            wrong are attacked too, and may come right.
        searches: how many prices c the Carlini-Wagner attack tries.
        patience: least share of its steps or queries that a search has before it may give up an image without hope, see
            `attempt.hope` and `attacks.carlini_wagner (15)`; 1 gives up none.
        ensemble: names the members of AutoAttack; None takes "standard", and "rand" for noisy machines.
    """

    gradients: tuple[str, ...] = ("bptt@5:margin", "apgd@15", "ep@0.5:margin", "bptt@own:margin", "apgd@own")
    iterations: Count = 20
    queries: Count = 1000
    average: Count = 1
    eot: Count = 4
    votes: Count = 5
    restarts: Count = 1
    label: Literal["true", "predicted"] = "true"
    searches: Count = 1
    patience: Annotated[float, Field(ge=0, le=1)] = 0.1
    ensemble: Ensemble | None = None

    def draws(self, machine: Machine) -> int:
        """Gradients that are averaged on a machine."""
        return 1 if machine.deterministic else self.eot

    def reads(self, machine: Machine) -> int:
        """Reads of a machine whose mean is one answer to a black box."""
        return 1 if machine.deterministic else self.average


def possible_gradients(machine: Machine, settings: AttackSettings) -> list[Gradient]:
    """Those of the settings' gradients that a machine allows.

    Gradients through its own relaxation (`bptt@own`, `apgd@own`) are allowed where it ends within `DEFAULT_UNROLL`
    iterations. On a machine without feedback the number of steps does not matter: of its gradients one of each kind and
    loss is kept.

    Raises:
        Refusal: there are none.
    """
    gradients = [g for g in map(parse_gradient, settings.gradients) if _is_possible(g, machine)]
    if not gradients:
        raise Refusal("this machine has no such gradient", where=machine.name, got=", ".join(settings.gradients),
                      allowed="bptt@STEPS", remedy="add --gradient bptt@1")
    if machine.has_feedback:
        return gradients
    return list({(type(g), g.loss): replace(g, last=None) for g in gradients if isinstance(g, Unrolled)}.values())


def unroll_of(machine: Machine, settings: AttackSettings) -> int | None:
    """Steps through which attacks that are no PGD differentiate; None: see `gradients.unrolled`.

    Raises:
        Refusal: see `possible_gradients`.
    """
    times = [g.steps for g in possible_gradients(machine, settings) if isinstance(g, Unrolled)]
    return None if None in times else max((t for t in times if t is not None), default=DEFAULT_UNROLL)


def _is_possible(gradient: Gradient, machine: Machine) -> bool:
    if isinstance(gradient, Unrolled) and gradient.steps is None:
        return machine.has_feedback and machine.graph.steps <= DEFAULT_UNROLL * machine.graph.period
    return machine.has_feedback or isinstance(gradient, Unrolled)
