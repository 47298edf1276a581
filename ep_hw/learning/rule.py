"""Equilibrium propagation: weight gradients from the states of a free and two nudged phases.

    Phi(s) = sum_n <s_n, u_n> - beta CE(logits(s), y)                                          (5)
    -dLoss/dw_n = [dPhi/dw_n(s^{+beta}) - dPhi/dw_n(s^{-beta})] / (2 beta B gamma_{n+1} .. gamma_L)   (6)
    dPhi/dw_n = sum over images of conv_weight(s_{n-1}, Z_n),   Z_n = unpool(s_n, I_n)          (7)
    dPhi/dW_out = beta (y - softmax(logits)) s_L^T                                              (8)

The rule needs only states, and the winners and logits that the machine itself reads from them: any substrate with two
directions can learn, a crossbar as well as the floats.

The feedback gains gamma of mapping.graph (2) weigh the layers' terms of the energy, simulators.reference (1): a layer
that is nudged through weak feedback moves less, and learns as much.

Source: Scellier and Bengio 2017 (the rule); Laborieux et al. 2021 (symmetric nudges, (6)).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from simulators.reference import FloatSubstrate, unpool
from simulators.relaxation import Nudge, Relaxed, Residual, relax

Pair = tuple[Tensor, Tensor]   # of a layer: what belongs to its weight, and to its bias
Gradient = list[Pair]          # of a network, the readout last


def phi_gradient(substrate: FloatSubstrate, image: Tensor, states: Sequence[Tensor], nudge: Nudge,
                 generator: torch.Generator | None = None) -> Gradient:
    """dPhi, `ep_hw.learning.rule` (7) and (8), summed over the batch: one (weight, bias) pair a layer, readout last.

    Args:
        substrate: that the states are of.
        image: the encoded image, `substrate.encode(images)`.
        states: (B, C, H, W) of each population.
        nudge: of the phase that ended in these states.
        generator: of the noise of reading winners and logits, where the substrate has any.
    """
    pairs: Gradient = []
    for projection, pre, s in zip(substrate.projections, (image, *states[:-1]), states):
        own = projection.window
        z = unpool(s, projection.forward(pre, generator)[1], own.unpooled)
        weights = conv2d_weight(pre, (len(z[0]), pre.shape[1], *own.kernel), z, own.stride, own.padding)
        pairs.append((weights, z.sum((0, 2, 3))))
    error = nudge.beta * (nudge.target - F.softmax(substrate.logits(states[-1], generator), 1))
    pairs.append((torch.einsum("bk,bchw->kchw", error, states[-1]), error.sum(0)))
    return pairs


@torch.no_grad()
def ep_gradient(substrate: FloatSubstrate, images: Tensor, labels: Tensor, *, schedule: str, free_steps: int,
                nudged_steps: int, beta: float, pairs: int = 1, stop: Residual | None = None,
                generator: torch.Generator | None = None,
                phases: Callable[[], AbstractContextManager] = nullcontext
                ) -> tuple[Gradient, Relaxed]:
    """Loss gradient of one batch by the symmetric rule, `ep_hw.learning.rule` (6).

    Args:
        substrate: that learns.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        schedule: of all phases.
        free_steps: time steps of the free phase.
        nudged_steps: time steps of each nudged phase.
        beta: strength of the nudges.
        pairs: nudged pairs averaged: on a noisy machine each reads afresh.
        stop: when an image's free phase is done before `free_steps`; None takes every step.
        generator: of read noise, where the substrate has any.
        phases: makes a context for each phase, lower precision for example; the contrast is taken outside of it.

    Returns:
        (weight, bias) gradient pairs, readout last, and the free equilibrium.
    """
    image = substrate.encode(images)
    target = F.one_hot(labels, substrate.readout.window.unpooled[0]).to(image.dtype)
    with phases():
        free = relax(substrate, images, schedule=schedule, steps=free_steps, stop=stop, generator=generator)
    contrasts: list[Gradient] = []
    for strength in (beta, -beta) * pairs:
        nudge = Nudge(target, strength)
        with phases():
            end = relax(substrate, images, schedule=schedule, steps=nudged_steps, states=free.states, nudge=nudge,
                        generator=generator)
        contrasts.append(phi_gradient(substrate, image, end.states, nudge, generator))
    plus, minus = (map(_sum, zip(*contrasts[sign::2])) for sign in (0, 1))
    scale = -1 / (2 * beta * len(images) * pairs)
    gradient = [((wp - wm) * (scale / felt), (bp - bm) * (scale / felt))
                for (wp, bp), (wm, bm), felt in zip(plus, minus, _nudge_felt(substrate))]
    return gradient, free


def _nudge_felt(substrate: FloatSubstrate) -> list[float]:
    """gamma_{n+1} .. gamma_L of each layer; 1 for the top one and for the readout."""
    gains = [projection.feedback_gain for projection in substrate.projections[1:]]
    return [*(math.prod(gains[n:]) for n in range(len(gains) + 1)), 1.0]


def _sum(pairs: Sequence[Pair]) -> Pair:
    """(weight, bias) summed over some of them."""
    weights, biases = zip(*pairs)
    return sum(weights[1:], start=weights[0]), sum(biases[1:], start=biases[0])

