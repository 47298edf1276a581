"""One-pixel attack: differential evolution of a few pixels' places and colours, by the machine's answers alone.

    child = r_1 + F (r_2 - r_3),    a parent gives way to its child where margin(child) <= margin(parent)     (22)

for every one of P candidates at once, with r_1, r_2, r_3 other candidates drawn at random and F = 1/2. A candidate is
K pixels, each a place (a row and a column, as fractions of the map) and C colours; the first colours are normal around
the middle of [0, 1], places uniform. The best candidate of all is the answer; an image that is broken is left alone.
On a noisy machine it counts as broken only where a second answer agrees.

Source: Su, Vargas and Sakurai 2019 (P 400, 100 generations); here P is a tenth of the queries, which leaves nine
generations.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate
from ep_hw.threats.attacks.black_box import BlackBox
from ep_hw.threats.attacks.settings import AttackSettings
from ep_hw.threats.definitions import PIXELS, Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine

FEWEST = 4           # candidates: a child has three parents beside the one it replaces
SHARE = 10           # of the queries that the first candidates take
DIFFERENCE = 0.5     # F
SPREAD = 0.5         # standard deviation of the first colours around 1/2


@dataclass(frozen=True)
class OnePixel(Attempt):
    """One evolution an image.

    Attributes:
        pixels: K, how many may change.
        queries: the most that the attack asks of one image, every read counted; it asks at least `FEWEST` times.
        average: reads that make an answer.
    """

    pixels: int
    queries: int = 1000
    average: int = 1

    uses_gradients = False

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        device = BlackBox(machine, labels, self.average, generator)
        size = max(FEWEST, self.queries // (SHARE * self.average))
        parents = self._first(images, size, generator)
        live = torch.arange(len(images), device=images.device)
        margins = self._ask(device, images, parents, live)
        while True:
            best, confirmed = self._best(device, images, parents, margins, live)
            live = live[~confirmed[live] & (device.spent[live] + self.average * (size + 1) <= self.queries)]
            if not len(live):
                return Candidate.of(best, queries=device.spent.to(images))
            children = _children(parents, generator)[live]
            asked = self._ask(device, images[live], children, live)
            better = asked <= margins[live]
            margins[live] = torch.where(better, asked, margins[live])
            parents[live] = torch.where(better[..., None, None], children, parents[live])

    def __str__(self):
        return "one_pixel"

    def _first(self, images: Tensor, size: int, generator: Generator) -> Tensor:
        """(B, P, K, 2 + C) candidates."""
        shape = len(images), size, self.pixels
        places = torch.rand((*shape, 2), generator=generator)
        colours = 0.5 + SPREAD * torch.randn((*shape, images.shape[1]), generator=generator)
        return torch.cat([places, colours.clamp(0, 1)], -1).to(images)

    def _ask(self, device: BlackBox, images: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """(B, P) margins, of as many candidates of every image at a time as a batch takes."""
        device.spent[index] += device.average * candidates.shape[1]
        return torch.cat([self._look(device, images, some, index)
                          for some in candidates.split(device.ahead(images), 1)], 1)

    def _look(self, device: BlackBox, images: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """(B, N) margins of N candidates of every image, in a batch."""
        count = candidates.shape[1]
        shown = painted(images.repeat(count, 1, 1, 1), candidates.transpose(0, 1).flatten(0, 1))
        return device.look(shown, index.repeat(count)).view(count, -1).T

    def _best(self, device: BlackBox, images: Tensor, parents: Tensor, margins: Tensor,
              live: Tensor) -> tuple[Tensor, Tensor]:
        """The best candidate's image of each sample, and which of them break it beyond doubt."""
        rows = torch.arange(len(images), device=images.device)
        margin, place = margins.min(1)
        best = painted(images, parents[rows, place])
        broken = live[margin[live] < 0]
        device.ask_again(best, margin, broken)
        margins[rows, place] = margin
        return best, margin < 0


def painted(images: Tensor, pixels: Tensor) -> Tensor:
    """Images (B, C, H, W) with pixels (B, K, 2 + C) painted on, the last of equals on top."""
    out, (h, w) = images.clone(), images.shape[2:]
    rows, columns = ((pixels[..., n] * side).long().clamp(0, side - 1) for n, side in enumerate((h, w)))
    samples = torch.arange(len(images), device=images.device)
    for k in range(pixels.shape[1]):
        out[samples, :, rows[:, k], columns[:, k]] = pixels[:, k, 2:]
    return out


def _children(parents: Tensor, generator: Generator) -> Tensor:
    """`attacks.one_pixel (22)`, places and colours kept within [0, 1].

    Drawn for the whole batch, also for images that are broken already: so an image does not depend on the others.
    """
    b, size = parents.shape[:2]
    others = torch.rand((b, size, size), generator=generator).to(parents.device)
    others.diagonal(dim1=1, dim2=2).fill_(2)   # never itself
    first, second, third = others.argsort(2)[:, :, :3].unbind(2)
    rows = torch.arange(b, device=parents.device)[:, None]
    return (parents[rows, first] + DIFFERENCE * (parents[rows, second] - parents[rows, third])).clamp(0, 1)


class OnePixelAttack(Attack):
    """The evolution with the settings' queries; its strength counts pixels."""

    code, version, access, strength = "one_pixel", 4, "black box", PIXELS

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        return [OnePixel(int(strength), settings.queries, settings.reads(machine))]


register_attack(OnePixelAttack("one_pixel", "l0"))
