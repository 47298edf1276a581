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

A simulator without noise is asked ahead: about the challengers of several steps in a batch, each made as if none before
it won. The first that wins is the new incumbent, and those after it are made again from it, with the same draws: what
is drawn and found does not change. Queries are those of the search one by one, which is what an attacker of a device
would need: answers that are thrown away do not count. There, images without `attempt.hope` are asked about no more.

Source: Andriushchenko et al. 2020; the repeated questions are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, hope
from ep_hw.threats.attacks.begun import BLACK_BOX
from ep_hw.threats.attacks.black_box import AHEAD, BlackBox
from ep_hw.threats.attacks.norms import project
from ep_hw.threats.attacks.settings import AttackSettings
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from mapping.errors import Refusal
from simulators.machine import Machine

FIRST_SHARE = 0.8   # of the pixels that the first window covers
HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)   # shares of the search after which p halves
FEWEST = 4   # challengers of an image in a batch, where one has just won
SMALLEST = 5   # pixels along a side: the l2 attack starts from five patterns a row


@dataclass(frozen=True)
class Square(Attempt):
    """One search an image.

    Attributes:
        norm: of the ball.
        eps: its radius.
        queries: the most that the attack asks of one image, every read counted; it asks at least once.
        average: reads that make an answer.
        ahead: pixels of the challengers that are asked about at once where nothing is noisy; at least one of each image
            is asked about.
        patience: least share of the queries that images have, see `attempt.hope`.
    """

    norm: str
    eps: float
    queries: int = 1000
    average: int = 1
    ahead: int = AHEAD
    patience: float = 0.1

    uses_gradients = False

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        """See `Attempt.run`.

        Raises:
            Refusal: images smaller than 5 x 5 pixels, where the attack has no squares to draw.
        """
        if min(images.shape[2:]) < SMALLEST:
            raise Refusal("images too small for the square attack", where="square", got=tuple(images.shape[2:]),
                          allowed="5 x 5 pixels or more", remedy="use pgd_l2 or pgd_linf")
        return _Search(self, BlackBox(machine, labels, self.average, generator), images, generator).run()

    def __str__(self):
        return BLACK_BOX


class Change(NamedTuple):
    """How perturbations begin and change in a norm.

    Attributes:
        start: (images, eps, generator) -> (B, C, H, W) first perturbations.
        draw: (images, side, generator) -> (B, D) integers, what is random of a step.
        apply: (perturbations, eps, side, drawn) -> changed ones, (N, C, H, W) for (N, D) that were drawn.
    """

    start: Callable[[Tensor, float, Generator], Tensor]
    draw: Callable[[Tensor, int, Generator], Tensor]
    apply: Callable[[Tensor, float, int, Tensor], Tensor]


class _Step(NamedTuple):
    """What a step draws, for every image of the batch: the side of its windows, and the generator's state before."""

    side: int
    drawn: Tensor
    state: Tensor


class _Search:
    """A search under way.

    Attributes:
        best, margin: (B, C, H, W) and (B,) of the incumbents.
        steps: that were drawn.
        first: (B,) margins of the first perturbations.
        done: (B,) how many of them each image has taken.
        refused: (B,) challengers since one won: the longer ago, the further ahead it is asked.
    """

    def __init__(self, attack: Square, device: BlackBox, images: Tensor, generator: Generator):
        self.attack, self.device, self.images, self.generator = attack, device, images, generator
        self.change, self.steps = CHANGES[attack.norm], list[_Step]()
        self.best, self.margin = images.clone(), images.new_full((len(images),), torch.inf)
        self.done, self.refused = (torch.zeros_like(device.spent) for _ in range(2))

    def run(self) -> Candidate:
        live = torch.arange(len(self.images), device=self.images.device)
        first = self._inside(live, self.change.start(self.images, self.attack.eps, self.generator))
        self._accept(live, first[:, None], self.device.look(first, live)[:, None], torch.ones_like(live))
        self.first = self.margin.clone()
        while len(live := self._standing(live)):
            self.device.ask_again(self.best, self.margin, live)
            self.done[live] += self._accept(live, *self._challenged(live))
        if len(self.steps) > (taken := int(self.done.max())):
            self.generator.set_state(self.steps[taken].state)
        return Candidate.of(self.best, queries=self.device.spent.to(self.images))

    def _standing(self, live: Tensor) -> Tensor:
        """Samples that are not broken and may be asked about."""
        device, margin = self.device, self.margin[live]
        return live[(margin >= 0) & (device.spent[live] + device.round <= self._most(live))]

    def _most(self, live: Tensor) -> Tensor:
        """(L,) queries that are asked about images at most, fewer of those without hope."""
        queries = torch.full_like(live, self.attack.queries)
        if not self.device.machine.deterministic or self.device.probable:
            return queries
        return (queries * hope(1 - self.margin[live] / self.first[live], self.attack.patience)).long()

    def _challenged(self, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Challengers (L, K, C, H, W) of the next steps, their margins (L, K), and how many there are of each, (L,)."""
        left = (self._most(live) - self.device.spent[live]) // self.attack.average
        counts = torch.minimum(self.refused[live] + FEWEST, left).clamp(
            max=self.device.ahead(self.images[live], self.attack.ahead))
        shape = len(live), int(counts.max())
        rows, offsets = (torch.arange(shape[1], device=live.device) < counts[:, None]).nonzero().unbind(1)
        made = self._make(live, live[rows], self.done[live[rows]] + offsets)
        moved, answers = made.new_zeros(*shape, *made.shape[1:]), made.new_full(shape, torch.inf)
        moved[rows, offsets], answers[rows, offsets] = made, self.device.look(made, live[rows])
        return moved, answers, counts

    def _make(self, live: Tensor, index: Tensor, steps: Tensor) -> Tensor:
        """(N, C, H, W) challengers of the samples `index`, (N,), at steps of theirs, (N,)."""
        first, last = int(steps.min()), int(steps.max())
        while len(self.steps) <= last:
            self.steps.append(self._draw(live))
        drawn = torch.stack([step.drawn for step in self.steps[first:last + 1]])[steps - first, index]
        sides = torch.tensor([step.side for step in self.steps[first:last + 1]], device=index.device)[steps - first]
        delta = self.best[index] - self.images[index]
        for side in sides.unique().tolist():
            there = sides == side
            delta[there] = self.change.apply(delta[there], self.attack.eps, side, drawn[there])
        return self._inside(index, delta)

    def _draw(self, live: Tensor) -> _Step:
        """The next step."""
        behind = len(self.steps) - int(self.done[live].amin())
        asked = int(self.device.spent[live].amin()) + behind * self.attack.average
        state = self.generator.get_state()
        side = window(asked / self.attack.queries, self.images.shape[2:])
        return _Step(side, self.change.draw(self.images, side, self.generator), state)

    def _inside(self, index: Tensor, delta: Tensor) -> Tensor:
        """Images moved by `delta`, within the ball and within [0, 1]."""
        return (self.images[index] + project(delta, self.attack.eps, self.attack.norm)).clamp(0, 1)

    def _accept(self, live: Tensor, moved: Tensor, answers: Tensor, counts: Tensor) -> Tensor:
        """The first challengers that win are incumbents now; (L,) how many were met until then."""
        wins = answers < self.margin[live, None]
        won, first = wins.any(1), wins.int().argmax(1)
        taken = torch.where(won, first + 1, counts)
        self.device.spent[live] += taken * self.attack.average
        self.refused[live] = torch.where(won, 0, self.refused[live] + taken)
        index = live[won]
        self.best[index], self.margin[index] = moved[won, first[won]], answers[won, first[won]]
        self.device.ask_again(self.best, self.margin, live[self.margin[live] < 0])
        return taken


class SquareAttack(Attack):
    """The search with the settings' queries."""

    code, version, access = "square", 6, "black box"

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        return [Square(self.norm, strength, settings.queries, settings.reads(machine), patience=settings.patience)]


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
    return (eps * _signs((b, c, 1, w), generator, images).to(images)).expand(b, c, h, w)


def recolouring(images: Tensor, side: int, generator: Generator) -> Tensor:
    """(B, 2 + C) corners of windows, and signs."""
    return torch.cat([_corners(images, side, generator), _signs(images.shape[:2], generator, images)], 1)


def recolour(delta: Tensor, eps: float, side: int, drawn: Tensor) -> Tensor:
    """A window of every perturbation (N, C, H, W) becomes +-eps, one sign a channel."""
    inside = _Windows.of(delta, side, drawn[:, :2]).mask
    return torch.where(inside, eps * drawn[:, 2:, None, None].to(delta), delta)


def tiles(images: Tensor, eps: float, generator: Generator) -> Tensor:
    """Five patterns a row and column with signs of their own, of norm eps, (B, C, H, W)."""
    b, c, h, w = images.shape
    side = min(h, w) // SMALLEST
    pattern = piles(side, images)
    pattern = (pattern.T if _lies(generator) else pattern).repeat(h // side + 1, w // side + 1)[:h, :w]
    signs = _signs((b, c, h // side + 1, w // side + 1), generator, images).to(images)
    delta = pattern * signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :h, :w]
    return eps * delta / _norm(delta, (1, 2, 3))


def exchanging(images: Tensor, side: int, generator: Generator) -> Tensor:
    """(B, 5 + C) corners of both windows, whether piles lie on their sides, and signs."""
    corners = [_corners(images, _odd(side, images), generator) for _ in range(2)]
    lying = torch.full((len(images), 1), int(_lies(generator)), device=images.device)
    return torch.cat([*corners, lying, _signs(images.shape[:2], generator, images)], 1)


def exchange(delta: Tensor, eps: float, side: int, drawn: Tensor) -> Tensor:
    """`attacks.square (21)` on perturbations (N, C, H, W)."""
    side = _odd(side, delta)
    to, of = (_Windows.of(delta, side, drawn[:, n:n + 2]) for n in (0, 2))
    old = delta * to.mask
    eta = to.place(piles(side, delta), drawn[:, 4]) * drawn[:, 5:, None, None].to(delta)
    fresh = eta + old / _norm(old, (2, 3))
    spare = (eps**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / delta.shape[1]
    freed = (delta * (to.mask | of.mask)).square().sum((2, 3), keepdim=True)
    moved = torch.where(to.mask, fresh / _norm(fresh, (2, 3)) * (spare + freed).sqrt(),
                        torch.where(of.mask, 0.0, delta))
    return eps * moved / _norm(moved, (1, 2, 3))


CHANGES = {"linf": Change(stripes, recolouring, recolour), "l2": Change(tiles, exchanging, exchange)}


def _odd(side: int, maps: Tensor) -> int:
    """The side of windows that hold piles, within maps (B, C, H, W)."""
    return min(max(side | 1, 3), min(maps.shape[2:]) - 1)


def piles(side: int, like: Tensor) -> Tensor:
    """(side, side) pattern eta of norm 1: two piles of ever smaller squares, a positive one above a negative one."""
    upper = side // 2
    halves = [sign * _pile(rows, side, like) for rows, sign in ((upper, 1), (side - upper, -1)) if rows]
    return torch.cat(halves) / _norm(torch.cat(halves), (0, 1))


def _lies(generator: Generator) -> bool:
    """Whether piles lie beside each other instead."""
    return bool(torch.rand((), generator=generator) < 0.5)


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
    def of(cls, maps: Tensor, side: int, corners: Tensor) -> "_Windows":
        """Windows of maps (B, C, H, W) from their corners, (B, 2)."""
        (h, w), (top, left) = maps.shape[2:], corners.view(-1, 2, 1, 1, 1).unbind(1)
        return cls(side, torch.arange(h, device=maps.device)[:, None] - top,
                   torch.arange(w, device=maps.device) - left)

    @property
    def mask(self) -> Tensor:
        """(B, 1, H, W), true within."""
        return ((self.rows >= 0) & (self.rows < self.side)) & ((self.columns >= 0) & (self.columns < self.side))

    def place(self, pattern: Tensor, lying: Tensor) -> Tensor:
        """(B, 1, H, W) with the pattern (side, side) in every window, transposed where (B,) is 1, and zeros around."""
        last, both = self.side - 1, torch.stack([pattern, pattern.T])
        return both[lying.view(-1, 1, 1, 1), self.rows.clamp(0, last), self.columns.clamp(0, last)] * self.mask


def _corners(images: Tensor, side: int, generator: Generator) -> Tensor:
    """(B, 2) of windows at uniform places."""
    b, (h, w) = len(images), images.shape[2:]
    return torch.cat([torch.randint(0, n - side + 1, (b, 1), generator=generator) for n in (h, w)], 1).to(images.device)


def _signs(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    """Each 1 or -1."""
    return (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(like.device)


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.square().sum(dims, keepdim=True).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
