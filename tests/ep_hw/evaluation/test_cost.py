"""Costs: a few cells say what all take, on a tenth of the time; what was not measured is priced by its like."""

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ep_hw.data.splits import Split
from ep_hw.evaluation.cost import CAUTION, MEASURING, SAMPLES, Costs, Kind, Price, Sample, estimate
from ep_hw.evaluation.plan import Asked, Attacks, Limits, Plan, evaluate
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from simulators.module import Interface, ModuleProgram

FACTORS = st.lists(st.floats(0.01, 100), min_size=2, max_size=4)
PRICES = st.builds(Price, st.floats(0, 100), st.floats(0.01, 20))


@given(price=PRICES, noise=st.floats(-1, 1))
def test_a_price_is_the_line_through_two_measurements(price, noise):
    """Where the clock's noise bends it too far, its end stays; its slope is neither nothing nor above the mean."""
    found = Price.through({4: price.of(4), 8: price.of(8)})
    mean = price.of(8) / 8
    assert found.of(8) == pytest.approx(price.of(8))
    assert found.each == pytest.approx(max(price.each, mean / CAUTION))
    bent = Price.through({4: max(0, price.of(4) + 50 * noise), 8: price.of(8)})
    assert bent.of(8) == pytest.approx(price.of(8))
    assert mean / CAUTION <= bent.each * (1 + 1e-9)
    assert bent.fixed >= -1e-9 * price.of(8)
    assert Price.through({64: 32.0}) == (0.0, 0.5)


@given(platforms=FACTORS, works=FACTORS)
def test_a_kind_that_was_not_measured_costs_what_the_others_make_of_it(platforms, works):
    """Where a platform is so many times dearer whatever its work, that is exact."""
    price = {Kind((str(p),), str(w)): Price(a * b, 2 * a * b) for p, a in enumerate(platforms)
             for w, b in enumerate(works)}
    missing = Kind((str(len(platforms) - 1),), str(len(works) - 1))
    costs = Costs(tuple(Sample(kind, 0.0, p, 0.0) for kind, p in price.items() if kind != missing))
    assert costs.of(missing) == pytest.approx(price[missing])
    for kind, p in price.items():
        assert kind == missing or costs.of(kind) == pytest.approx(p)


class Slow(torch.nn.Module):
    """Takes its time: so much for a call, so much for an image."""

    def __init__(self, call_s: float, image_s: float):
        super().__init__()
        self.layer, self.call_s, self.image_s = torch.nn.Linear(36, 10), call_s, image_s

    def forward(self, images):
        time.sleep(self.call_s + self.image_s * len(images))
        return self.layer(images.flatten(1))


def slow_plan(images=24):
    programs = {name: ModuleProgram(Slow(0.01, 0.008), Interface((1, 6, 6), 10)) for name in ("reference", *"abc")}
    x = torch.rand(images, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    threats = tuple(parse_threat(f"contrast@{n}") for n in (1, 3, 5))
    return Plan(model="slow", images=Split("linear", x, torch.zeros(images).long(), torch.arange(images)),
                programs=programs, asked=Asked(machines=tuple(programs), threats=threats), limits=Limits(probed=0),
                attacks=Attacks(settings=AttackSettings(gradients=("bptt@1",), iterations=2)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, plan = tmp_path_factory.mktemp("slow"), slow_plan()
    known = estimate([("", plan)], folder)
    begun = time.perf_counter()
    evaluate(plan, folder)
    return plan, folder, known, time.perf_counter() - begun


def test_an_estimate_is_right_within_half_as_much_again(run):
    _, _, known, real_s = run
    assert 1 / 1.5 < known.seconds / real_s < 1.5


def test_measuring_takes_a_tenth_of_what_it_predicts_at_most(run):
    _, _, known, _ = run
    assert 0 < known.spent_s <= MEASURING * known.seconds
    assert len(known.costs.samples) <= SAMPLES * len(known.weights())
    assert known.unmeasured() == []


def test_what_is_computed_costs_nothing(run):
    plan, folder, _, _ = run
    known = estimate([("", plan)], folder)
    assert (known.jobs, known.seconds, known.costs.samples) == ((), 0.0, ())


def test_measuring_ends_where_it_was_told_to_and_names_what_it_left():
    """An attack is a kind of its own; with no time left, nothing but the first kind is measured."""
    plan = slow_plan()
    plan = replace(plan, asked=replace(plan.asked, threats=(*plan.asked.threats, parse_threat("square_l2@1"))))
    known = estimate([("", plan)], at_most_s=1e-9)
    assert len(known.costs.samples) == 1
    assert [kind.work.partition(",")[0] for kind in known.unmeasured()] == ["square_l2"]


def test_twice_the_workers_share_the_cells(run):
    _, _, known, _ = run
    shared = replace(known, workers=2)
    assert shared.seconds == pytest.approx(known.seconds / 2 + len(known.jobs) * known.costs.after_s / 2)
