"""Trust checks on planted machines: masked gradients raise every flag they should, honest ones none."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from linear import LinearMachine

import simulators
from ep_hw.analysis.statistics import wilson
from ep_hw.data import Split
from ep_hw.evaluation.checks import verdicts
from ep_hw.evaluation.plan import Asked, Attacks, Limits, Plan, cells_of, evaluate
from ep_hw.evaluation.probes import harder, probe, probe_plan, telling
from ep_hw.threats.attacks import AttackSettings, attack, majority, noise_like, perturbation, read
from ep_hw.threats.threat import Threat, parse_threat
from mapping.targets import ReferenceTarget
from simulators.module import Interface, ModuleProgram

SHAPE, IMAGES = (1, 6, 6), 48
SETTINGS = AttackSettings(gradients=("bptt@1", "bptt@1:margin"), iterations=10, queries=150, votes=5)
THREATS = ("pgd_l2@0.3", "pgd_l2@0.6", "square_l2@0.6", "autoattack_l2@0.6",
           "transfer:reference:pgd_l2@0.3", "transfer:reference:pgd_l2@0.6")


def linear(sharpness=1.0):
    layer = torch.nn.Linear(36, 10)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        layer.weight.copy_(sharpness * torch.randn(10, 36, generator=generator))
        layer.bias.zero_()
    return layer


class Masked(torch.nn.Module):
    """The honest classifier behind inputs of eight levels and logits that saturate: correct, and without a slope."""

    def __init__(self):
        super().__init__()
        self.layer = linear(1e4)

    def forward(self, images):
        return self.layer((images * 7).round().div(7).flatten(1))


def honest():
    return torch.nn.Sequential(torch.nn.Flatten(), linear())


def images():
    x = 0.3 + 0.4 * torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = (x * 7).round() / 7
    with torch.no_grad():
        labels = honest()(x).argmax(1)
    return Split("linear", x, labels, torch.arange(IMAGES))


PROBED = Limits(probed=24)


def plan_of(programs, threats, limits=PROBED):
    return Plan(model="planted", images=images(), programs=programs, limits=limits,
                attacks=Attacks(settings=SETTINGS, joined=True),
                asked=Asked(machines=tuple(programs), threats=tuple(map(parse_threat, threats))))


def flags_of(programs, folder, threats=THREATS):
    plan = plan_of(programs, threats)
    summary, cells = evaluate(plan, folder)
    checks = [*verdicts(summary), *probe([(plan, folder, cells)])[0]]
    return summary, [flag for verdict in checks for flag in verdict.flags]


def test_probes_are_announced_and_called_so(tmp_path):
    """None of the cells that nobody asked for appears without a word."""
    heard = []
    plan = plan_of({"reference": module(honest())}, THREATS)
    plan = plan.showing(lambda what, *counted: heard.append((str(what), *counted)))
    _, cells = evaluate(plan, tmp_path)
    asked = len(heard)
    made, = probe([(plan, tmp_path, cells)])
    (announced, *none), *probes = heard[asked:]
    assert len({verdict.check for verdict in made}) == 3
    assert announced.startswith("now probes")
    assert "pgd_linf@1" in announced
    assert none == [0, 0]
    assert probes
    assert all(what.startswith("probe: reference") for what, _, _ in probes)
    assert not any("pgd_linf@1" in what for what, _, _ in heard[:asked])


def module(of):
    return ModuleProgram(of, Interface(SHAPE, 10))


def test_an_honest_machine_raises_no_flag(tmp_path):
    summary, flags = flags_of({"reference": module(honest()), "loihi": module(honest())}, tmp_path)
    assert flags == []
    assert min(row["accuracy"] for row in summary) < 0.5


@pytest.mark.parametrize("words", ["saw a zero gradient", "black-box attack", "by its black box alone",
                                   "without its images, the transfer", "random noise as large",
                                   "without any bound leaves 1.000", "in a random direction on"])
def test_a_masked_machine_raises_every_flag(masked, words):
    assert any(flag.machine == "loihi" and words in flag.finding for flag in masked[1]), masked[1]


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return flags_of({"reference": module(honest()), "loihi": module(Masked())}, tmp_path_factory.mktemp("masked"))


@pytest.mark.parametrize(("n", "lost", "won", "raised"), [(8, 2, 0, False), (8, 6, 0, True), (64, 12, 1, True),
                                                          (64, 10, 3, False)])
def test_a_transfer_must_win_by_more_than_chance(n, lost, won, raised):
    def row(threat, broken):
        low, high = wilson(n - broken, n)
        return {"machine": "crossbar:pcm", "chip_seed": 0, "threat": parse_threat(threat), "n": n,
                "accuracy": 1 - broken / n, "ci_low": low, "ci_high": high, "zero_gradient": 0.0,
                "unaware_only": lost / n if threat == "pgd_l2@1" else 0.0}

    found = verdicts([row("pgd_l2@1", lost + won), row("transfer:reference:pgd_l2@1", lost)])
    assert any("without its images" in finding for verdict in found for finding in verdict.findings) == raised


@pytest.mark.parametrize(("n", "lost", "won", "raised"), [(8, 2, 0, False), (8, 6, 0, True), (64, 12, 1, True),
                                                          (64, 10, 3, False), (64, 1, 12, False)])
def test_an_attack_on_another_machine_must_find_more_than_by_chance(n, lost, won, raised):
    low, high = wilson(n // 2, n)
    row = {"machine": "reference", "chip_seed": None, "threat": Threat("pgd_l2", 1.0), "n": n, "accuracy": 0.5,
           "ci_low": low, "ci_high": high, "zero_gradient": 0.0, "others": {"loihi": [lost, won]}}
    found = [finding for verdict in verdicts([row]) for finding in verdict.findings]
    words = f"pgd_l2@1 made on loihi breaks {lost} images that its own attack left standing, and misses {won}"
    assert any(words in finding for finding in found) == raised


def test_a_reference_that_masks_its_gradients_is_shown_up_by_the_other_machines(tmp_path):
    """Its own attack finds nothing; the images of an honest machine do, are taken over, and a flag says so."""
    summary, flags = flags_of({"reference": module(Masked()), "loihi": module(honest())}, tmp_path, ("pgd_l2@0.6",))
    own, honest_row = (next(r for r in summary if (r["machine"], str(r["threat"])) == (name, "pgd_l2@0.6"))
                       for name in ("reference", "loihi"))
    assert own["accuracy"] < 0.5
    assert own["accuracy"] + own["others_only"] == 1
    assert own["others"] == {"loihi": [round(own["n"] * own["others_only"]), 0]}
    assert honest_row["others"] == {}
    assert any(flag.machine == "reference" and "made on loihi breaks" in flag.finding for flag in flags)
    assert not any("made on" in flag.finding for flag in flags if flag.machine == "loihi")


def test_an_attack_of_fewer_images_is_no_source_for_one_of_more():
    programs = {name: module(honest()) for name in ("reference", "loihi", "crossbar:pcm")}
    met = Limits(image_limits={("reference", "pgd_l2"): 40, ("loihi", "pgd_l2"): 20, ("crossbar:pcm", "pgd_l2"): 40})
    plan = plan_of(programs, ["pgd_l2@1"], met)
    threat = parse_threat("pgd_l2@1")
    assert {name: plan.others(name, threat) for name in programs} == {
        "reference": ["crossbar:pcm"], "loihi": ["crossbar:pcm"], "crossbar:pcm": []}
    skipped = replace(met, skipped=frozenset({("crossbar:pcm", "pgd_l2")}))
    assert replace(plan, limits=skipped).others("loihi", threat) == []
    assert replace(plan, attacks=Attacks()).others("loihi", threat) == []
    assert plan.others("loihi", parse_threat("square_l2@1")) == []


def test_its_accuracy_is_the_worst_case_all_the_same(masked):
    rows = {row["threat"]: row for row in masked[0] if row["machine"] == "loihi"}
    for eps in (0.3, 0.6):
        adaptive, transfer = rows[Threat("pgd_l2", eps)], rows[Threat("pgd_l2", eps, "reference")]
        assert adaptive["accuracy"] == transfer["accuracy"] < 1
        assert adaptive["unaware_only"] == pytest.approx(1 - adaptive["accuracy"])
        assert adaptive["zero_gradient"] == pytest.approx(1)


class NoiseMachine(LinearMachine):
    """Logits that are noise, whatever the image; it draws its own, as hardware does, the same in every test run."""

    has_feedback = False

    def __init__(self):
        super().__init__(torch.zeros(10, 36), torch.zeros(10), SHAPE, sigma=1.0)
        self.source = torch.Generator().manual_seed(0)

    def relax(self, images, steps=None, nudge=None, generator=None, **settings):
        return super().relax(images, steps, nudge, self.source, **settings)


@dataclass(frozen=True)
class NoiseProgram:
    """The program of a `NoiseMachine`."""

    target: ReferenceTarget = ReferenceTarget("reference")  # noqa: RUF009 - frozen

    def digest(self):
        return "noise"

    def chip_seeds(self, count):
        return [None]


simulators.register_machine(NoiseProgram, lambda program, chip_seed, device: NoiseMachine())


def test_a_classifier_of_pure_noise_never_counts_as_robust(tmp_path):
    """An attack cannot hurt it: its accuracy is chance before and after, and an unbounded attack shows it."""
    summary, flags = flags_of({"reference": module(honest()), "loihi": NoiseProgram()}, tmp_path, ("pgd_l2@0.6",))
    mine = [row for row in summary if row["machine"] == "loihi"]
    assert len(mine) == 2
    assert all(row["ci_low"] < 0.1 and row["accuracy"] < 0.3 for row in mine)
    assert all(abs(row["read_accuracy"] - 0.1) < 0.1 for row in mine)
    assert any(flag.machine == "loihi" and "without any bound" in flag.finding for flag in flags)


def test_noise_is_as_far_as_the_attack_went_and_everywhere():
    split = images()
    moved = (split.images + 0.05).clamp(0, 1)
    for norm in ("l2", "linf"):
        noisy = noise_like(split.images, moved, norm, torch.Generator().manual_seed(0))
        sizes = [perturbation(split.images, other, norm) for other in (noisy, moved)]
        assert torch.allclose(*sizes, atol=1e-5)
        assert not torch.equal(noisy, moved)


def test_the_transferred_image_is_the_last_attempt_and_only_where_nothing_else_won():
    machine, split = LinearMachine(linear().weight.detach(), torch.zeros(10), SHAPE), images()
    far = (split.images.flip(0)).clamp(0, 1)
    found = attack(machine, Threat("pgd_l2", 0.01), split.images, split.labels, SETTINGS, torch.Generator(), far)
    wrong = majority(read(machine, far, 1, None)) != split.labels
    taken = torch.tensor([by == "transfer:reference" for by in found.broken_by])
    alone = attack(machine, Threat("pgd_l2", 0.01), split.images, split.labels, SETTINGS, torch.Generator())
    own = torch.tensor([bool(by) for by in alone.broken_by])
    assert torch.equal(taken, wrong & ~own)
    assert torch.equal(found.images[taken], far[taken])
    assert all(mine == before for mine, before, t in zip(found.broken_by, alone.broken_by, taken) if not t)


def test_a_plan_without_white_boxes_or_probes_is_not_probed():
    programs = {"reference": module(honest())}
    assert probe_plan(plan_of(programs, ["square_l2@1"])) is None
    assert probe_plan(plan_of(programs, ["pgd_l2@1"], Limits(probed=0))) is None
    assert probe_plan(plan_of(programs, ["pgd_l2@1"])) is not None


def test_the_middle_strength_of_each_attack_is_tried_harder():
    threats = "pgd_l2@1", "pgd_l2@0.1", "pgd_l2@0.5", "pgd_linf@0.1", "cw_l2@1", "fog@3"
    plan = plan_of({"reference": module(honest())}, threats)
    chosen = probe_plan(plan)
    assert list(map(str, chosen.asked.threats)) == ["pgd_linf@1", "pgd_l2@0.5", "pgd_linf@0.1"]
    made = chosen.attacks.settings
    assert (made.iterations, made.restarts, made.patience) == (10, 2, 1.0)
    met = {str(cell.configuration.threat): cell.configuration.settings for cell in cells_of(chosen, Path())
           if cell.shown and cell.configuration.threat.is_attack}
    assert (met["pgd_linf@1"].iterations, met["pgd_linf@1"].restarts) == (20, 1)
    assert met["pgd_l2@0.5"] == met["pgd_linf@0.1"] == chosen.attacks.settings
    both = {**plan.programs, "loihi": module(honest())}
    for kind, machines in (("pgd_l2", {"reference"}), ("cw_l2", {"reference", "loihi"})):
        chosen = probe_plan(plan_of(both, threats, Limits(skipped=frozenset({("loihi", kind)}))))
        assert {cell.configuration.machine for cell in cells_of(chosen, Path()) if
                cell.configuration.threat.is_attack} == machines


TRIED = "pgd_l2@0.5", "pgd_linf@1", "square_l2@1", "transfer:reference:pgd_l2@0.5"


def tried_harder(text, n, first, then):
    """What the check says where `first` of n images stood, and `then` of them after more iterations."""
    (low, high), threat = wilson(then, n), parse_threat(text)
    row = {"machine": "loihi", "chip_seed": None, "threat": threat, "n": n, "ci_low": low, "ci_high": high}
    before = {("loihi", parse_threat(name)): first / n for name in TRIED}
    return list(harder(row, before, {("loihi", threat): then / n}))


@pytest.mark.parametrize(("n", "first", "then", "said"), [
    (64, 32, 10, "lower the accuracy under pgd_l2@0.5 from 0.500 to 0.156"), (64, 10, 32, "raise the accuracy"),
    (64, 32, 25, None), (64, 25, 32, None), (400, 200, 150, "lower"), (8, 4, 2, None), (64, 32, 32, None)])
def test_an_attack_that_more_effort_changes_beyond_chance_is_not_trusted(n, first, then, said):
    (images, finding), = tried_harder("pgd_l2@0.5", n, first, then)
    assert images == n
    assert (said is None) == (finding is None)
    assert said is None or said in finding


@pytest.mark.parametrize("threat", ["pgd_linf@1", "square_l2@1", "transfer:reference:pgd_l2@0.5", "pgd_l2@1"])
def test_more_effort_is_compared_of_ascents_that_were_tried_before(threat):
    assert tried_harder(threat, 64, 64, 0) == []


def test_a_slice_goes_as_far_as_the_attack_that_breaks_half_of_what_was_right():
    rows = {(machine, parse_threat(text)): accuracy for machine, text, accuracy in (
        ("loihi", "clean", 0.8), ("loihi", "pgd_l2@0.1", 0.75), ("loihi", "pgd_l2@1", 0.35),
        ("loihi", "pgd_linf@1", 0.0), ("loihi", "transfer:reference:pgd_l2@1", 0.4), ("reference", "pgd_l2@0.5", 0.4))}
    assert telling(rows, "loihi") == parse_threat("pgd_l2@1")
    assert telling(rows, "crossbar:pcm") is None
