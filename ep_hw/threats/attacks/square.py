"""Square attack: random search on the device itself, which it sees outputs of and nothing else.

    margin(x) = z_y(x) - max_{j != y} z_j(x),    x* <- x' where margin(x') < margin(x*)                        (20)

x' differs from the incumbent x* within a square window of side sqrt(p H W), at a place of its own for each image; p
falls from 0.8 as the search goes on. In linf the window becomes x + eps or x - eps in each channel. In l2 a window w2
gives up its part of the perturbation delta to a window w1 of the same size, which becomes, in each of the C channels,

    delta_w1 <- sqrt((eps^2 - |delta|^2) / C + |delta_{w1, w2}|^2) u / |u|,    u = +-eta + delta_w1 / |delta_w1|    (21)

with eta two piles of squares of opposite sign.

Squares are drawn for the whole batch, also for images that are broken already: so the squares that an image meets do
not depend on the other images. On a noisy machine an incumbent may have won by a lucky answer. There it is asked again
with every challenger, answers are means over several reads, and an image counts as broken only where a second answer
agrees.

Source: Andriushchenko et al. 2020; the repeated questions are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate
from ep_hw.threats.attacks.begun import BLACK_BOX
from ep_hw.threats.attacks.black_box import BlackBox
from ep_hw.threats.attacks.norms import project
from ep_hw.threats.attacks.settings import AttackSettings
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from mapping.errors import Refusal
from simulators.machine import Machine

FIRST_SHARE = 0.8   # of the pixels that the first window covers
HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)   # shares of the search after which p halves
SMALLEST = 5   # pixels along a side: the l2 attack starts from five patterns a row


@dataclass(frozen=True)
class Square(Attempt):
    """One search an image.

    Attributes:
        norm: of the ball.
        eps: its radius.
        queries: the most that the attack asks of one image, every read counted; it asks at least once.
        average: reads that make an answer.
    """

    norm: str
    eps: float
    queries: int = 1000
    average: int = 1

    uses_gradients = False

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        """See `Attempt.run`.

        Raises:
            Refusal: images smaller than 5 x 5 pixels, where the attack has no squares to draw.
        """
        if min(images.shape[2:]) < SMALLEST:
            raise Refusal("images too small for the square attack", where="square", got=tuple(images.shape[2:]),
                          allowed="5 x 5 pixels or more", remedy="use pgd_l2 or pgd_linf")
        device = BlackBox(machine, labels, self.average, generator)
        start, change = {"linf": (stripes, recolour), "l2": (tiles, exchange)}[self.norm]
        best, margin = images.clone(), images.new_full((len(images),), torch.inf)
        live, challengers = torch.arange(len(images), device=images.device), start(images, self.eps, generator)
        while True:
            moved = self._inside(images[live], challengers[live])
            answers = device.ask(moved, live)
            better = answers < margin[live]
            best[live[better]], margin[live[better]] = moved[better], answers[better]
            device.ask_again(best, margin, live[margin[live] < 0])
            live = live[(margin[live] >= 0) & (device.spent[live] + device.round <= self.queries)]
            if not len(live):
                return Candidate.of(best, queries=device.spent.to(images))
            device.ask_again(best, margin, live)
            side = window(int(device.spent[live].amin()) / self.queries, images.shape[2:])
            challengers = change(best - images, self.eps, side, generator)

    def __str__(self):
        return BLACK_BOX

    def _inside(self, images: Tensor, delta: Tensor) -> Tensor:
        """The images moved by `delta`, within the ball and within [0, 1]."""
        return (images + project(delta, self.eps, self.norm)).clamp(0, 1)


class SquareAttack(Attack):
    """The search with the settings' queries."""

    code, version, access = "square", 2, "black box"

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        return [Square(self.norm, strength, settings.queries, settings.reads(machine))]


register_attack(SquareAttack("square_l2", "l2"))
register_attack(SquareAttack("square_linf", "linf"))


def window(progress: float, size: Sequence[int]) -> int:
    """Side of the windows of (H, W) maps when a share `progress` of the search is done."""
    share = FIRST_SHARE / 2 ** sum(progress > point for point in HALVED_AT)
    h, w = size
    return min(max(round((share * h * w) ** 0.5), 1), min(h, w) - 1)


def stripes(images: Tensor, eps: float, generator: Generator) -> Tensor:
    """Vertical stripes of +-eps, (B, C, H, W)."""
    b, c, h, w = images.shape
    return (eps * _signs((b, c, 1, w), generator, images)).expand(b, c, h, w)


def recolour(delta: Tensor, eps: float, side: int, generator: Generator) -> Tensor:
    """A window of every perturbation (B, C, H, W) becomes +-eps, one sign a channel."""
    inside = _Windows.at_random(delta, side, generator).mask
    return torch.where(inside, eps * _signs((*delta.shape[:2], 1, 1), generator, delta), delta)


def tiles(images: Tensor, eps: float, generator: Generator) -> Tensor:
    """Five patterns a row and column with signs of their own, of norm eps, (B, C, H, W)."""
    b, c, h, w = images.shape
    side = min(h, w) // SMALLEST
    pattern = piles(side, generator, images).repeat(h // side + 1, w // side + 1)[:h, :w]
    signs = _signs((b, c, h // side + 1, w // side + 1), generator, images)
    delta = pattern * signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :h, :w]
    return eps * delta / _norm(delta, (1, 2, 3))


def exchange(delta: Tensor, eps: float, side: int, generator: Generator) -> Tensor:
    """`attacks.square (21)` on perturbations (B, C, H, W)."""
    side = min(max(side | 1, 3), min(delta.shape[2:]) - 1)
    to, of = (_Windows.at_random(delta, side, generator) for _ in range(2))
    old = delta * to.mask
    eta = to.place(piles(side, generator, delta)) * _signs((*delta.shape[:2], 1, 1), generator, delta)
    fresh = eta + old / _norm(old, (2, 3))
    spare = (eps**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / delta.shape[1]
    freed = (delta * (to.mask | of.mask)).square().sum((2, 3), keepdim=True)
    moved = torch.where(to.mask, fresh / _norm(fresh, (2, 3)) * (spare + freed).sqrt(),
                        torch.where(of.mask, 0.0, delta))
    return eps * moved / _norm(moved, (1, 2, 3))


def piles(side: int, generator: Generator, like: Tensor) -> Tensor:
    """(side, side) pattern eta of norm 1: two piles of ever smaller squares, one positive and one negative."""
    upper = side // 2
    halves = [sign * _pile(rows, side, like) for rows, sign in ((upper, 1), (side - upper, -1)) if rows]
    pattern = torch.cat(halves) / _norm(torch.cat(halves), (0, 1))
    return pattern.T if torch.rand((), generator=generator) < 0.5 else pattern


def _pile(rows: int, columns: int, like: Tensor) -> Tensor:
    """Squares around the middle of (rows, columns), the k-th of half-width k adding 1 / (k + 1)^2; of norm 1."""
    far = torch.maximum((torch.arange(rows) - rows // 2).abs()[:, None], (torch.arange(columns) - columns // 2).abs())
    heights = torch.stack([(far <= k) / (k + 1) ** 2 for k in range(int(far.max()) + 1)]).sum(0).to(like)
    return heights / _norm(heights, (0, 1))


@dataclass(frozen=True, eq=False)
class _Windows:
    """Square windows, one a map: `rows` (B, 1, H, 1) and `columns` (B, 1, 1, W) count pixels from their corners."""

    side: int
    rows: Tensor
    columns: Tensor

    @classmethod
    def at_random(cls, maps: Tensor, side: int, generator: Generator) -> "_Windows":
        """Windows at uniform places of maps (B, C, H, W)."""
        b, _, h, w = maps.shape
        corners = [torch.randint(0, n - side + 1, (b, 1, 1, 1), generator=generator).to(maps.device) for n in (h, w)]
        return cls(side, torch.arange(h, device=maps.device)[:, None] - corners[0],
                   torch.arange(w, device=maps.device) - corners[1])

    @property
    def mask(self) -> Tensor:
        """(B, 1, H, W), true within."""
        return ((self.rows >= 0) & (self.rows < self.side)) & ((self.columns >= 0) & (self.columns < self.side))

    def place(self, pattern: Tensor) -> Tensor:
        """(B, 1, H, W) with the pattern (side, side) in every window and zeros around."""
        last = self.side - 1
        return pattern[self.rows.clamp(0, last), self.columns.clamp(0, last)] * self.mask


def _signs(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    return (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(like)


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.square().sum(dims, keepdim=True).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
