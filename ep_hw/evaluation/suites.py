"""Suites: threats, settings and measurements that belong together, as data.

    ep-hw evaluate MODEL --suite paper
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ep_hw.analysis import paper
from ep_hw.analysis.corruption_error import SEVERITIES
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions import ALL
from ep_hw.threats.threat import OFFICIAL, Threat
from mapping.errors import Refusal
from mapping.names import suggesting
from mapping.targets import REFERENCE, Target

FEW_CHIPS = 3   # the fewest whose spread says something of other chips


@dataclass(frozen=True)
class Temporal:
    """Accuracy against attack time and free-phase steps, see `ep_hw.evaluation.temporal`.

    Attributes:
        eps: of PGD l2.
        times: synchronous iterations that gradients go through.
        steps: of the machine before it predicts.
        iterations: of PGD.
    """

    eps: float
    times: tuple[int, ...]
    steps: tuple[int, ...]
    iterations: int


@dataclass(frozen=True)
class Grid:
    """Where an attack is made.

    Attributes:
        kind: of the attack.
        strengths: rising; what they mean its definition says.
        efforts: rising; iterations of a white box, queries of a black box.
    """

    kind: str
    strengths: tuple[float, ...]
    efforts: tuple[int, ...]


@dataclass(frozen=True)
class Envelope:
    """How often attacks succeed, over effort and strength, see `ep_hw.evaluation.envelope`.

    Attributes:
        grids: of each attack; sources of noise meet the first one.
        repeats: how often images are shown to a noisy machine.
        drops: of clean accuracy, at which sources of noise are compared.
    """

    grids: tuple[Grid, ...]
    repeats: int
    drops: tuple[float, ...]


@dataclass(frozen=True)
class Suite:
    """What to evaluate a model under.

    Attributes:
        meaning: one line for users.
        threats: that every machine meets.
        settings: of the attacks.
        images: how many, unless a user says otherwise.
        chips: how many, unless a user says otherwise.
        machines: where a user names none; those usual for the model if empty.
        temporal: attack times to measure, or None.
        envelope: adversarial success to measure, or None; the model's feed-forward twin and the noise-trained networks
            of both are then evaluated beside it, see `ep_hw.networks.family.protocol_members`.
        explained: threats that every rung on the way to a machine meets too.
        labels: strength -> how tables name it, for attacks whose tables round.
        of_families: whether the packaged model's whole family meets them, see `ep_hw.networks.family`.
    """

    meaning: str
    threats: tuple[Threat, ...]
    settings: AttackSettings
    images: int
    chips: int
    machines: tuple[str, ...] = ()
    temporal: Temporal | None = None
    envelope: Envelope | None = None
    explained: tuple[Threat, ...] = ()
    labels: dict[tuple[str, float], str] = field(default_factory=dict)
    of_families: bool = False


def _attacks(kind: str, strengths: Iterable[float]) -> tuple[Threat, ...]:
    return tuple(Threat(kind, strength) for strength in strengths)


def _corruptions(names: Iterable[str], severities: Iterable[float]) -> tuple[Threat, ...]:
    return tuple(Threat(name, float(severity)) for name in names for severity in severities)


_TABLES = {attack: labels for (_, attack), labels in paper.STRENGTHS.items()}
PAPER = Suite(
    "the paper's grids of PGD, AutoAttack, Square and Carlini-Wagner, 15 + 4 corruptions, attack times",
    (*_attacks("pgd_l2", paper.L2_GRID), *_attacks("pgd_linf", paper.LINF_GRID),
     *(threat for kind in ("autoattack_linf", "square_linf", "cw_l2") for threat in _attacks(
         kind, _TABLES[kind].values())), *_corruptions(ALL, SEVERITIES)),
    # on digits as strong as PGD through all of the paper's attack times, at half their price
    AttackSettings(gradients=("bptt@15:margin", "bptt@own:margin", "apgd@29", "apgd@own", "ep@0.5:margin"),
                   iterations=20, queries=1000, ensemble="paper"),
    images=600, chips=5, temporal=Temporal(paper.STRENGTHS["table 3", "pgd_l2"]["0.49"], (10, 15, 25, 29, 60, 70),
                                           (10, 20, 40, 60, 100, 250), 20),
    explained=_attacks("pgd_l2", [paper.STRENGTHS["table 3", "pgd_l2"]["0.49"]]),
    labels={(kind, strength): label for kind, labels in _TABLES.items() for label, strength in labels.items()},
    of_families=True)
QUICK = Suite(
    "up to ten minutes on digits: PGD, Square, five corruptions, attack times",
    (*_attacks("pgd_l2", (0.25, 0.5, 1.0)), *_attacks("pgd_linf", (0.05, 0.1)), *_attacks("square_l2", (0.5,)),
     *_corruptions(("gaussian_noise", "contrast", "jpeg_compression", "zoom_blur", "fog"), (3, 5))),
    AttackSettings(gradients=("bptt@5", "bptt@10:margin", "bptt@29", "bptt@own:margin", "ep@2"), iterations=5,
                   queries=50, eot=1, votes=3),
    images=64, chips=3, temporal=Temporal(0.5, (5, 10, 29), (5, 10, 20, 40), 5))
CIFAR_C = Suite(
    "the published images of CIFAR-10-C or CIFAR-100-C, 15 + 4 corruptions",
    _corruptions([OFFICIAL + name for name in ALL], SEVERITIES), AttackSettings(), images=10_000, chips=5)
LAMMIE = Suite(
    "adversarial success on five platforms and under six sources of noise, as Lammie et al. 2025 measure it",
    (), AttackSettings(gradients=("bptt@15",), eot=1, votes=1), images=48, chips=1,
    machines=("reference", "digital", "crossbar:hermes_2"), envelope=Envelope(
        (Grid("pgd_linf", (0.02, 0.05, 0.1, 0.2), (1, 3, 10)), Grid("square_linf", (0.1, 0.2), (10, 40)),
         Grid("one_pixel", (1, 3), (20, 40))), repeats=10, drops=(0.05, 0.1)))
BARE = Suite("clean images, and the threats that are named", (), AttackSettings(), images=200, chips=5)
SUITES = {"paper": PAPER, "quick": QUICK, "cifar-c": CIFAR_C, "lammie": LAMMIE}


@dataclass(frozen=True)
class Request:
    """What an evaluation is asked; what is left open its suite says.

    Attributes:
        machines: names, or folders of compiled programs; those usual for the model if None and the suite names none.
            The reference is always among them.
        threats: besides those of the suite.
        suite: threats and settings by name.
        images: how many test images, drawn by `seed`.
        chips: how many of each machine that has chips.
        seed: of images, corruptions, attacks and read noise.
        settings: of the attacks.
        explained: threats besides those of the suite whose toll is traced rung by rung, each rung attacked itself.
        baseline: what the mCE is relative to: one of the machines, or another model of the same data, which is then
            corrupted beside them.
        extra_pairs: (machine, threat) beyond every machine under every threat.
    """

    machines: Sequence[str] | None = None
    threats: Sequence[Threat] = ()
    suite: Suite = BARE
    images: int | None = None
    chips: int | None = None
    seed: int = 0
    settings: AttackSettings | None = None
    explained: Sequence[Threat] = ()
    baseline: str = REFERENCE
    extra_pairs: Sequence[tuple[Target, Threat]] = ()


def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        Refusal: unknown name.
    """
    if name not in SUITES:
        raise Refusal("unknown suite", where="--suite", got=repr(name), **suggesting(
            name, SUITES, remedy="choose one of these, and add to it with --attack and --corruption"))
    return SUITES[name]


def tables_only(suite: Suite) -> Suite:
    """A suite without what no table shows: other strengths of attacks, attack times, and rungs under attack; a few
    chips.
    """
    shown = tuple(t for t in suite.threats if not t.is_attack or (t.kind, t.strength) in suite.labels)
    return replace(suite, threats=shown, chips=min(FEW_CHIPS, suite.chips), temporal=None, explained=())
