"""The first screen: which threat it is about, and that its sentences say no more than the sample shows."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.analysis.points import change, pool
from ep_hw.analysis.statistics import wilson
from ep_hw.report import wording
from ep_hw.report.overview import ALIKE, answer, attacked, gaps, quote, telling_threat
from ep_hw.threats.threat import CLEAN, Threat

N = 200
few = settings(max_examples=25)


def row(machine, right, threat="clean", strength=0.0, chip=None):
    low, high = wilson(right, N)
    return {"model": "net", "dataset": "digits", "machine": machine, "threat": Threat.named(threat, strength),
            "chip_seed": chip, "n": N, "accuracy": right / N, "ci_low": low, "ci_high": high, "agreement": 0.9,
            "flips_to_wrong": 20, "flips_to_right": 0, "seconds": 1.0, "key": "k"}


def run(**attacked_right):
    """Clean images and one attack on the machines that are named, the reference at 100 of 200 under it."""
    rows = [row("reference", 190), row("reference", 100, "pgd_l2", 0.5)]
    for machine, right in attacked_right.items():
        rows += [row(machine, 188), row(machine, right, "pgd_l2", 0.5)]
    return pool(rows)


def test_it_is_about_the_attack_that_halves_the_reference():
    rows = [row("reference", 190)]
    rows += [row("reference", right, "pgd_l2", eps) for eps, right in ((0.1, 180), (0.5, 90), (1.0, 3))]
    assert telling_threat(pool(rows)) == Threat("pgd_l2", 0.5)
    assert telling_threat(pool([*rows, row("reference", 95, "square_l2", 1.0)])) == Threat("pgd_l2", 0.5)
    assert telling_threat(pool([rows[0], row("reference", 95, "fog", 5.0), row("reference", 99, "snow", 5.0)])) == (
        Threat("fog", 5.0))
    assert telling_threat(pool(rows[:1])) == CLEAN


def test_it_is_about_what_the_most_machines_met():
    rows = [row(machine, 190) for machine in ("reference", "loihi", "crossbar:pcm")]
    rows += [row(machine, 95, "cw_l2", 0.1) for machine in ("reference", "loihi")]
    assert telling_threat(pool(rows)) == Threat("cw_l2", 0.1)
    rows += [row(machine, 30, "pgd_l2", 0.5) for machine in ("reference", "loihi", "crossbar:pcm")]
    assert telling_threat(pool(rows)) == Threat("pgd_l2", 0.5)


@few
@given(st.integers(0, 200), st.integers(0, 200))
def test_a_machine_is_set_apart_only_where_the_interval_excludes_none(first, second):
    points = run(loihi=first, pcm=second)
    said = answer("net", points)
    told, _, untold = said.partition(ALIKE)
    for gap in gaps(points, Threat("pgd_l2", 0.5)):
        low, high = change(points["reference", gap.point.threat], gap.point).low, gap.change.high
        named = f"{wording.percent(gap.point.accuracy.value)} on {gap.point.machine} ("
        assert (named in untold, named in told) == ((low <= 0 <= high), not (low <= 0 <= high))
    assert said.startswith("Under pgd_l2 at 0.5, net keeps 50.0 % [")
    assert said.count("this sample") <= 1


def test_many_machines_take_no_more_than_a_sentence():
    said = answer("net", run(**{f"m{n}": 99 for n in range(9)}, bad=10, worse=5, worst=1, fair=40, poor=30))
    assert "as much on 9 machines, whose gaps lie within [" in said
    assert re.search(r", but 0\.5 % on worst \(.*\), 20\.0 % on fair \(.*\), and 3 more", said)


def test_a_paper_is_told_interval_chips_effort_and_version():
    rows = [row("reference", 190), row("reference", 100, "pgd_l2", 0.5),
            *(row("pcm", 60 + chip, "pgd_l2", 0.5, chip) for chip in range(3))]
    said = quote("net", "digits", pool(rows), {"gradients": ["bptt@5", "ep@2"], "iterations": 7}, "9.9")
    for part in ("On 200 test images of digits", "50.0 % (95 % CI 43.1 to 56.9)", "bptt@5, ep@2, 7 iterations",
                 "simulated pcm (mean of 3 chips)", "points (95 % CI \u2212", "(ep-hw 9.9)"):
        assert part in said
    assert quote("net", "digits", pool(rows[:1]), {}, "9.9") == ""


def test_a_machine_without_an_attack_of_its_own_is_shown_under_one_that_it_met():
    points = pool([row("reference", 190), row("reference", 100, "pgd_l2", 0.5), row("lava", 190),
                   row("lava", 90, "transfer:loihi:pgd_l2", 0.5)])
    assert attacked(points, "lava", Threat("pgd_l2", 0.5)).threat.source == "loihi"
    assert attacked(points, "lava", Threat("pgd_l2", 1.0)) is None
    assert [gap.point.machine for gap in gaps(points, Threat("pgd_l2", 0.5))] == []


def test_without_a_reference_nothing_is_compared():
    assert "nothing here is compared" in answer("net", pool([row("loihi", 3)]))
