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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from simulators.reference import FloatSubstrate, unpool
from simulators.relaxation import Nudge, Read, Relaxed, Residual, relax

Pair = tuple[Tensor, Tensor]   # of a layer: what belongs to its weight, and to its bias
Gradient = list[Pair]          # of a network, the readout last


@dataclass(frozen=True, eq=False)
class Opposed(Nudge):
    """Nudges of either sign in one batch.

    Attributes:
        sign: (B, 1), of each sample's, 1 or -1.
    """

    sign: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, target: Tensor, beta: float) -> "Opposed":
        """Of a batch that stands there twice, towards its targets (B, K) and then away from them."""
        ones = target.new_ones(len(target), 1)
        return cls(torch.cat([target, target]), beta, sign=torch.cat([ones, -ones]))

    def select(self, keep: Tensor | slice) -> "Opposed":
        return replace(self, target=self.target[keep], sign=self.sign[keep])

    def error(self, logits: Tensor) -> Tensor:
        return self.sign * super().error(logits)


def phi_gradient(substrate: FloatSubstrate, image: Tensor, states: Sequence[Tensor], nudge: Nudge,
                 generator: torch.Generator | None = None, reads: Sequence[Read] | None = None) -> Gradient:
    """dPhi, `ep_hw.learning.rule` (7) and (8), summed over the batch: one (weight, bias) pair a layer, readout last.

    Args:
        substrate: that the states are of.
        image: the encoded image, `substrate.encode(images)`.
        states: (B, C, H, W) of each population.
        nudge: of the phase that ended in these states.
        generator: of the noise of reading winners and logits, where the substrate has any.
        reads: forward reads of these states, where they are known.
    """
    pairs: Gradient = []
    for n, (projection, pre, s) in enumerate(zip(substrate.projections, (image, *states[:-1]), states)):
        own = projection.window
        winners = (projection.forward(pre, generator) if reads is None else reads[n])[1]
        z = unpool(s, winners, own.unpooled)
        weights = conv2d_weight(pre, (len(z[0]), pre.shape[1], *own.kernel), z, own.stride, own.padding)
        pairs.append((weights, z.sum((0, 2, 3))))
    error = nudge.beta * (nudge.target - F.softmax(substrate.logits(states[-1], generator), 1))
    pairs.append((torch.einsum("bk,bchw->kchw", error, states[-1]), error.sum(0)))
    return pairs


@torch.no_grad()
def ep_gradient(substrate: FloatSubstrate, images: Tensor, labels: Tensor, *, schedule: str, free_steps: int,
                nudged_steps: int, beta: float, pairs: int = 1, stop: Residual | None = None,
                generator: torch.Generator | None = None,
                phases: Callable[[], AbstractContextManager] = nullcontext,
                exact: bool = True) -> tuple[Gradient, Relaxed]:
    """Loss gradient of one batch by the symmetric rule, `ep_hw.learning.rule` (6).

    Args:
        substrate: that learns.
        images: (B, C, H, W) in [0, 1].
        labels: (B,) classes, or (B, K) a distribution over them for each image.
        schedule: of all phases.
        free_steps: time steps of the free phase.
        nudged_steps: time steps of each nudged phase.
        beta: strength of the nudges.
        pairs: nudged pairs averaged: on a noisy machine each reads afresh.
        stop: when an image's free phase is done before `free_steps`; None takes every step.
        generator: of read noise, where the substrate has any.
        phases: makes a context for each phase, lower precision for example; the contrast is taken outside of it.
        exact: what is read within it needs no second reading for the contrast.

    Returns:
        (weight, bias) gradient pairs, readout last, and the free equilibrium.
    """
    image = substrate.encode(images)
    target = (labels if labels.ndim == 2 else F.one_hot(labels, substrate.readout.window.unpooled[0])).to(image.dtype)
    with phases():
        free = relax(substrate, images, schedule=schedule, steps=free_steps, stop=stop, generator=generator)

    def ends(nudge: Nudge, copies: int = 1, reads: tuple[Read, ...] | None = None) -> Iterator[Relaxed]:
        """Of each copy of the batch, where a nudged phase ends."""
        with phases():
            end = relax(substrate, _times(images, copies), schedule=schedule, steps=nudged_steps, nudge=nudge,
                        states=tuple(_times(s, copies) for s in free.states), generator=generator,
                        reads=reads and tuple((_times(u, copies), w if w is None else _times(w, copies))
                                              for u, w in reads))
        return _parts(end, copies)

    nudges = [Nudge(target, strength) for strength in (beta, -beta)]
    if generator is None:   # all pairs are the same, and both nudges go as one batch
        reached = zip(nudges, ends(Opposed.of(target, beta), 2, free.reads))
        contrasts = pairs * [phi_gradient(substrate, image, end.states, nudge, reads=end.reads if exact else None)
                             for nudge, end in reached]
    else:
        contrasts = [phi_gradient(substrate, image, end.states, nudge, generator)
                     for nudge in nudges * pairs for end in ends(nudge)]
    return _difference(contrasts, -1 / (2 * beta * len(images) * pairs), _nudge_felt(substrate)), free


def _difference(contrasts: Sequence[Gradient], scale: float, felt: Sequence[float]) -> Gradient:
    """Contrasts under positive nudges less those under negative ones, which take turns; see `_nudge_felt`."""
    plus, minus = (map(_sum, zip(*contrasts[sign::2])) for sign in (0, 1))
    return [((wp - wm) * (scale / f), (bp - bm) * (scale / f)) for (wp, bp), (wm, bm), f in zip(plus, minus, felt)]


def _times(batch: Tensor, copies: int) -> Tensor:
    """The batch (B, ...) so many times, in the same order of memory."""
    return batch if copies == 1 else torch.cat([batch] * copies)


def _parts(end: Relaxed, copies: int) -> Iterator[Relaxed]:
    """The ends of equal batches that were relaxed as one."""
    size = len(end.steps) // copies
    for own in (slice(n * size, (n + 1) * size) for n in range(copies)):
        reads = end.reads and tuple((u[own], w if w is None else w[own]) for u, w in end.reads)
        yield Relaxed(tuple(s[own] for s in end.states), end.change[own], end.steps[own], reads)


def _nudge_felt(substrate: FloatSubstrate) -> list[float]:
    """gamma_{n+1} .. gamma_L of each layer; 1 for the top one and for the readout."""
    gains = [projection.feedback_gain for projection in substrate.projections[1:]]
    return [*(math.prod(gains[n:]) for n in range(len(gains) + 1)), 1.0]


def _sum(pairs: Sequence[Pair]) -> Pair:
    """(weight, bias) summed over some of them."""
    weights, biases = zip(*pairs)
    return sum(weights[1:], start=weights[0]), sum(biases[1:], start=biases[0])

