"""Budgets: what is chosen fits by the measured rates, says what it can show, and is chosen once."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import saved, small_network

from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.evaluation.budget import (
    FEWEST,
    LEAST_QUERIES,
    TRIAL_QUERIES,
    BudgetPrices,
    Choice,
    choose,
    kept_choice,
    rates_of,
)
from ep_hw.evaluation.forecast import estimate
from ep_hw.evaluation.price import Price
from ep_hw.evaluation.suites import Request
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from ep_hw.workflow import plan_evaluation
from mapping.files import parse_signed, sign

PRICES = st.builds(Price, st.floats(0, 50), st.floats(0.001, 5))
RATES = st.builds(BudgetPrices, others=PRICES, square=PRICES | st.just(Price(0.0, 0.0)), probes=PRICES,
                  probed=st.integers(0, 64))


@given(rates=RATES, budget_s=st.floats(1, 1e6), asked=st.integers(LEAST_QUERIES, 5000), jobs=st.integers(1, 8))
@settings(max_examples=80)
def test_the_choice_fits_or_is_the_least_and_no_more_would_fit(rates, budget_s, asked, jobs):
    queries = rates.most_queries(budget_s, asked, jobs)
    images = rates.most_images(budget_s, queries, jobs)
    assert images >= FEWEST
    assert LEAST_QUERIES <= queries <= asked
    spent = rates.seconds(images, queries, jobs)
    assert spent <= budget_s * (1 + 1e-9) or images == FEWEST
    assert rates.seconds(images + 1, queries, jobs) > budget_s * (1 - 1e-9)
    if queries < asked and spent <= budget_s:
        assert rates.seconds(FEWEST, queries + 1, jobs) > budget_s * (1 - 1e-9)


def test_seconds_are_the_sum_of_what_cells_take():
    rates = BudgetPrices(others=Price(3, 4), square=Price(1, 2), probes=Price(5, 8), probed=16)
    assert rates.seconds(10, TRIAL_QUERIES, 1) == (3 + 40) + (1 + 20) + (5 + 80)
    assert rates.seconds(100, 5 * TRIAL_QUERIES, 2) == ((3 + 400) + 5 * (1 + 200) + (5 + 8 * 16)) / 2


@pytest.fixture(scope="module")
def plans_of(tmp_path_factory):
    path = saved(small_network(5), tmp_path_factory.mktemp("model"))
    threats = [parse_threat("pgd_l2@0.5"), parse_threat("square_l2@0.5")]
    quick = AttackSettings(gradients=("bptt@5",), iterations=2)
    return lambda images, queries: [plan_evaluation(str(path), Request(
        ["reference"], threats, images=images, settings=quick.model_copy(update={"queries": queries})))]


def test_a_budget_is_measured_once_and_printed_with_what_it_can_show(plans_of, tmp_path):
    choice = choose(plans_of, 300, 360, 1e4, tmp_path)
    assert (choice.images, choice.queries) == (360, 300), "nothing more than the data set and what was asked"
    assert choice.detectable == smallest_detectable(360)
    assert f"{100 * choice.detectable:.1f} points" in choice.sentence()
    file = tmp_path / "budget/choice.json"
    file.write_bytes(sign({**parse_signed(file.read_bytes()), "images": 99}))
    assert choose(plans_of, 300, 360, 1e4, tmp_path).images == 99
    (plan,) = plans_of(8, 100)
    fewer = replace(plan, asked=replace(plan.asked, threats=(parse_threat("pgd_l2@0.5"),)))
    assert choose(lambda images, queries: [fewer], 300, 360, 1e4, tmp_path).images == 360
    assert choose(plans_of, 200, 360, 1e4, tmp_path).images == 360, "another question"
    tight = choose(plans_of, 300, 360, 0.01, tmp_path)
    assert (tight.images, tight.queries) == (FEWEST, LEAST_QUERIES)
    assert "more than the budget" in tight.sentence()


def test_a_budget_pays_for_every_network(plans_of, tmp_path):
    """Twice the networks take twice as long, so that fewer images fit; of a budget that is tight for one."""
    trial = plans_of(FEWEST, TRIAL_QUERIES)
    one, two = (rates_of(estimate(plans, at_most_s=0.0), plans) for plans in (trial, trial * 2))
    assert two.seconds(500, 100, 1) == pytest.approx(2 * one.seconds(500, 100, 1), rel=0.01)
    budget_s = 1.5 * one.seconds(500, 100, 1)
    assert two.most_images(budget_s, 100, 1) < 500 < one.most_images(budget_s, 100, 1)


@pytest.mark.parametrize("damage", [
    lambda blob: b"", lambda blob: blob[:50], lambda blob: blob.replace(b'"images": 9', b'"images": 8'),
    lambda blob: b"[" * 9999, lambda blob: sign({**parse_signed(blob), "images": "9"}),
    lambda blob: sign({})])
def test_a_damaged_choice_is_measured_again_and_a_whole_one_is_kept(tmp_path, caplog, damage):
    file, choice = tmp_path / "choice.json", Choice("question", 9, 8, 7.0, 0.5, 60.0)
    assert kept_choice(file, "question", Choice) is None
    file.write_bytes(sign(asdict(choice)))
    assert kept_choice(file, "question", Choice) == choice
    assert kept_choice(file, "another", Choice) is None
    assert not caplog.messages
    file.write_bytes(damage(file.read_bytes()))
    assert kept_choice(file, "question", Choice) is None
    assert "a stored choice is damaged" in caplog.text


@pytest.mark.parametrize("extra", [("--budget", "soon"), ("--budget", "0s"), ("--budget", "5parsecs"),
                                   ("--budget", "30m", "--images", "70")])
def test_an_impossible_budget_is_refused(refused, extra):
    assert "no such budget" in refused("evaluate", "digits", "--on", "reference", *extra)
