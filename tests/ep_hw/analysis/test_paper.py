"""The paper's numbers, the suites made of them, and what may be laid beside what."""

import numpy as np
import pytest

from ep_hw.analysis import paper
from ep_hw.analysis.corruption import corruption_rows, means
from ep_hw.analysis.points import pool
from ep_hw.analysis.statistics import wilson
from ep_hw.analysis.worst import Met, worst_cases
from ep_hw.evaluation.suites import SUITES, suite
from ep_hw.report.published import published
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import CLEAN, OFFICIAL, Threat, parse_threat
from mapping import Refusal

CIFAR = "cifar10"
N = 500


def row(machine, threat="clean", strength=0.0, accuracy=0.8, chip=None, dataset=CIFAR):
    correct = round(accuracy * N)
    low, high = wilson(correct, N)
    return {"model": "net", "dataset": dataset, "machine": machine, "threat": Threat.named(threat, strength),
            "chip_seed": chip, "n": N, "accuracy": correct / N, "ci_low": low, "ci_high": high, "agreement": 1.0,
            "flips_to_wrong": 0, "flips_to_right": 0}


def everything(machine, accuracy=lambda attack, strength: 0.5):
    """Clean images and every attack of the paper's tables."""
    attacks = {(attack, s) for (_, attack), labels in paper.STRENGTHS.items() for s in labels.values()}
    return [row(machine), *(row(machine, attack, s, accuracy(attack, s)) for attack, s in sorted(attacks))]


def test_every_printed_cell_is_read_once():
    cells = [(p.table, p.dataset, p.model, p.label) for p in paper.printed()]
    assert len(cells) == len(set(cells)) == 4 * 2 * 5 * 5
    for (table, attack), labels in paper.STRENGTHS.items():
        rows = [p for p in paper.printed() if p.table == table]
        assert {p.attack for p in rows} == {attack}
        assert {p.label for p in rows} == {"clean", *labels}
    assert all(0 <= p.accuracy <= 1 for p in paper.printed())
    assert len(paper.mean_robustness()) == 10


def test_labels_round_what_was_run():
    for labels in paper.STRENGTHS.values():
        for label, strength in labels.items():
            named = parse_threat(f"pgd_l2@{label.removeprefix('c=')}").strength
            assert strength == pytest.approx(named, abs=0.6 / 255 if "/" in label else 0.01)
    l2, linf = paper.STRENGTHS["table 3", "pgd_l2"], paper.STRENGTHS["table 4", "autoattack_linf"]
    assert np.round(list(l2.values()), 4).tolist() == [0.0788, 0.3085, 0.4862, 1.0]
    assert np.round(255 * np.array(list(linf.values())), 2).tolist() == [1.18, 2.55, 5.49, 8.0]
    assert set(l2.values()) <= set(paper.L2_GRID)
    assert set(linf.values()) <= set(paper.LINF_GRID)
    assert len(paper.L2_GRID) == len(paper.LINF_GRID) == 11


def test_the_inconsistencies_are_in_the_numbers():
    """Each sentence that speaks of printed numbers, against these."""
    def printed(table, model, dataset=CIFAR):
        return [p.accuracy for p in paper.printed() if (p.table, p.model, p.dataset) == (table, model, dataset)]

    assert printed("table 4", "EP-CNN") == printed("table 3", "EP-CNN")
    assert printed("table 4", "EP-CNN", "cifar100") != printed("table 3", "EP-CNN", "cifar100")
    attacked = [p.accuracy for p in paper.printed() if (p.model, p.dataset) == ("EP-CNN", CIFAR) and p.label != "clean"]
    with_clean = [p.accuracy for p in paper.printed() if (p.model, p.dataset) == ("EP-CNN", CIFAR)]
    assert paper.recomputed_mean(CIFAR, "EP-CNN") == np.mean(attacked)
    assert [round(np.mean(attacked), 2), round(np.mean(with_clean), 2)] == [0.49, 0.57]
    assert paper.mean_robustness()[CIFAR, "EP-CNN"] == 0.58
    risen = {p.model for p in paper.printed() if p.label != "clean" and p.table != "table 6"
             and p.accuracy > printed(p.table, p.model, p.dataset)[0]}
    assert risen == {"Adv-CNN(0.5)", "Adv-CNN(1.0)"}


def test_the_paper_suite_runs_every_strength_behind_a_label_and_every_corruption():
    threats = set(SUITES["paper"].threats)
    assert len(threats) == len(SUITES["paper"].threats) == 11 + 11 + 3 * 4 + 19 * 5
    for (_, attack), labels in paper.STRENGTHS.items():
        for label, strength in labels.items():
            assert parse_threat(f"{attack}@{strength!r}") in threats
            assert SUITES["paper"].labels[attack, strength] == label
    assert {(t.kind, t.strength) for t in threats if t.is_corruption} == {(c, s) for c in ALL
                                                                         for s in (1, 2, 3, 4, 5)}
    assert SUITES["paper"].settings.iterations == 20
    assert SUITES["paper"].settings.ensemble == "paper"


def test_unknown_suites_are_refused():
    with pytest.raises(Refusal, match="quick"):
        suite("thorough")


def test_measured_rows_hold_what_was_measured_and_printed_ones_what_was_printed():
    points = pool(everything("reference", lambda attack, s: min(0.8, 0.1 / (s + 0.2))))
    tables = {table.name: table for table in published("net", CIFAR, points, "paper")}
    assert list(tables) == ["table 1", "table 3", "table 4", "table 5", "table 6"]
    for (name, attack), labels in paper.STRENGTHS.items():
        *printed, measured = tables[name].rows
        assert {(r.name, label): cell for r in printed for label, cell in r.cells.items()} == {
            (p.model, p.label): p.accuracy for p in paper.printed() if (p.table, p.dataset) == (name, CIFAR)}
        assert (measured.name, measured.n) == ("net on reference", N)
        assert measured.cells["clean"] == points["reference", CLEAN].accuracy
        assert {label: measured.cells[label] for label in labels} == {
            label: points["reference", Threat(attack, s)].accuracy for label, s in labels.items()}
    mean = np.mean([p.accuracy.value for (_, threat), p in points.items() if threat.strength])
    assert tables["table 1"].rows[-1].cells == {"printed": None, "mean of Tables 3 to 6": pytest.approx(mean)}


@pytest.mark.parametrize(("rows", "ensemble", "shown"), [
    (everything("reference"), "paper", {"table 1", "table 3", "table 4", "table 5", "table 6"}),
    (everything("reference"), None, {"table 3", "table 5", "table 6"}),       # another AutoAttack
    ([row("reference"), row("reference", "pgd_l2", 0.31)], None, set()),      # as labelled, not as run
    ([row("reference"), row("loihi", "transfer:reference:pgd_l2", 1.0)], None, set()),
    ([row("reference", dataset="digits"), row("reference", "pgd_l2", 1.0, dataset="digits")], None, set())])
def test_nothing_is_laid_beside_another_threat_or_data_set(rows, ensemble, shown):
    assert {t.name for t in published("net", rows[0]["dataset"], pool(rows), ensemble)} == shown


def corrupted(machine, accuracy, names=ALL, severities=(1, 2, 3, 4, 5)):
    return [row(machine, name, float(s), accuracy(name, s)) for name in names for s in severities]


def test_means_over_corruptions():
    def reference(name, severity):
        return 0.9 - 0.1 * severity - 0.002 * list(ALL).index(name)

    def machine(name, severity):
        return reference(name, severity) - 0.05

    points = pool([*corrupted("reference", reference), *corrupted("loihi", machine)])
    assert [r.name for r in corruption_rows(points)] == list(ALL)
    named = means(points, "loihi", "reference")
    every = {name: np.mean([machine(name, s) for s in (1, 2, 3, 4, 5)]) for name in ALL}
    errors = [(1 - every[name]) / (1 - every[name] - 0.05) for name in MAIN]
    assert list(named.values()) == pytest.approx([np.mean([every[name] for name in MAIN]),
                                                  np.mean(list(every.values())), np.mean(errors)])
    assert means(points, "reference", "reference")["mCE against reference"] == pytest.approx(1)
    assert means(points, "reference", "loihi")["mCE against loihi"] == pytest.approx(
        np.mean([1 / error for error in errors]))


def test_published_images_have_rows_and_means_of_their_own():
    official = [row("reference", OFFICIAL + name, float(s), 0.4) for name in ALL for s in (1, 2, 3, 4, 5)]
    points = pool([*corrupted("reference", lambda name, s: 0.5), *official])
    assert [r.name for r in corruption_rows(points)] == [*ALL, *(OFFICIAL + name for name in ALL)]
    named = means(points, "reference", "reference")
    assert (named["mean of all 19"], named["official:mean of all 19"]) == (pytest.approx(0.5), pytest.approx(0.4))
    assert named["official:mCE against reference"] == pytest.approx(1)
    assert {(t.corruption, t.strength) for t in SUITES["cifar-c"].threats if t.is_official} == {
        (name, s) for name in ALL for s in (1, 2, 3, 4, 5)}


@pytest.mark.parametrize(("names", "severities", "complete"), [
    (ALL, (1, 2, 3, 4), (False, False)), (ALL[1:], (1, 2, 3, 4, 5), (False, False)),
    (MAIN, (1, 2, 3, 4, 5), (True, False))])
def test_incomplete_sets_have_no_mean(names, severities, complete):
    points = pool(corrupted("reference", lambda name, s: 0.5, names, severities))
    over_15, over_19, mce = means(points, "reference", "reference").values()
    assert (over_15 is not None, over_19 is not None) == complete
    assert (mce is not None) == complete[0]


def image(threat, strength, image_id, right, chip=None):
    return Met("m", chip, Threat.named(threat, strength), image_id, right)


def test_the_worst_case_stands_only_under_every_attack_of_its_budget():
    rows = [image("pgd_l2", 0.5, 0, True), image("square_l2", 0.5, 0, True), image("pgd_l2", 0.5, 1, False),
            image("square_l2", 0.5, 1, True), image("transfer:reference:pgd_l2", 0.5, 1, True),
            image("transfer:reference:pgd_l2", 0.5, 0, True), image("pgd_l2", 1.0, 0, False),
            *(image("square_l2", 0.5, k, True) for k in range(2, 9)),
            image("pgd_linf", 0.5, 0, False), image("cw_l2", 0.5, 0, False), image("contrast", 0.5, 0, False),
            image("pgd_unclipped_l2", 0.5, 0, False)]
    cases = {(w.norm, w.budget): w for w in worst_cases(rows)}
    assert set(cases) == {("l2", 0.5), ("l2", 1.0), ("linf", 0.5)}
    assert (cases["l2", 0.5].accuracy.value, cases["l2", 0.5].n) == (0.5, 2), "of images that met all three"
    assert cases["l2", 0.5].names == ["pgd_l2", "square_l2", "transfer:reference:pgd_l2"]
    chips = worst_cases([image("pgd_l2", 1.0, k, k < 2 + chip, chip) for chip in (0, 1) for k in range(4)])
    assert chips[0].accuracy.value == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert chips[0].n == 4
    assert worst_cases([image("pgd_l2", 1.0, 0, True), image("square_l2", 1.0, 1, True)]) == []
