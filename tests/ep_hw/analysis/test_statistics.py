"""Intervals and tests against closed forms, enumeration and scipy, and the laws they obey."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ep_hw.analysis.statistics import (
    difference_interval,
    mcnemar,
    paired_bootstrap,
    paired_interval,
    smallest_detectable,
    student,
    unpaired_interval,
    wilson,
)

Z = 1.959963984540054
few = settings(max_examples=40)
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@few
@given(counts)
def test_wilson_is_where_the_score_test_just_rejects(case):
    correct, n = case
    estimate = wilson(correct, n)
    p_hat = correct / n
    for p in (estimate.low, estimate.high):
        if 1e-9 < p < 1 - 1e-9:
            assert abs(p_hat - p) == pytest.approx(Z * math.sqrt(p * (1 - p) / n), rel=1e-6)


@few
@given(counts)
def test_wilson_contains_the_estimate_and_mirrors(case):
    correct, n = case
    estimate, mirrored = wilson(correct, n), wilson(n - correct, n)
    assert 0 <= estimate.low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= estimate.high <= 1
    assert estimate == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-12)


@few
@given(counts, st.integers(2, 20))
def test_wilson_shrinks_with_images_and_grows_with_level(case, factor):
    correct, n = case
    estimate, more, surer = wilson(correct, n), wilson(correct * factor, n * factor), wilson(correct, n, 0.99)
    assert more.high - more.low < estimate.high - estimate.low < surer.high - surer.low


def test_wilson_covers_as_often_as_it_says():
    """Coverage averaged over p, by enumeration of every outcome: within two points of 95 %."""
    n = 60
    intervals = [wilson(k, n) for k in range(n + 1)]
    covered = [sum(stats.binom.pmf(k, n, p) for k, i in enumerate(intervals) if i.low <= p <= i.high)
               for p in np.linspace(0.05, 0.95, 91)]
    assert abs(np.mean(covered) - 0.95) < 0.02


def test_wilson_refuses_more_correct_than_images():
    with pytest.raises(ValueError, match="k"):
        wilson(11, 10)


def test_student_uses_the_published_quantile_for_five_seeds():
    values = [0.91, 0.93, 0.92, 0.95, 0.90]
    estimate = student(values)
    assert estimate.high - np.mean(values) == pytest.approx(2.776445 * np.std(values, ddof=1) / math.sqrt(5), rel=1e-6)


@few
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_student_agrees_with_scipy(values):
    estimate = student(values)
    if np.std(values) > 1e-6:
        interval = stats.ttest_1samp(values, 0).confidence_interval()
        assert estimate == pytest.approx((interval.low, interval.high))
    assert estimate.low - 1e-12 <= np.mean(values) <= estimate.high + 1e-12


def test_student_refuses_a_single_chip():
    with pytest.raises(ValueError, match="two"):
        student([0.9])


@few
@given(st.integers(0, 14), st.integers(0, 14))
def test_mcnemar_counts_the_outcomes_at_least_as_uneven(b, c):
    outcomes = [math.comb(b + c, k) for k in range(b + c + 1) if abs(2 * k - b - c) >= abs(b - c)]
    assert mcnemar(b, c) == pytest.approx(sum(outcomes) / 2 ** (b + c))
    assert mcnemar(b, c) == mcnemar(c, b)


def test_six_flips_one_way_are_the_fewest_that_show_a_difference():
    assert mcnemar(5, 0) > 0.05 > mcnemar(6, 0)


@few
@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 400))
def test_paired_interval_contains_the_difference_and_mirrors(b, c, n):
    estimate, mirrored = paired_interval(b, c, n), paired_interval(c, b, n)
    assert estimate.low <= (c - b) / n <= estimate.high
    assert estimate.low < estimate.high
    assert estimate == pytest.approx((-mirrored.high, -mirrored.low))


@few
@given(st.integers(0, 20), st.integers(0, 20), st.floats(0, 30))
def test_an_overstated_discordance_only_widens(b, c, extra):
    estimate, wider = paired_interval(b, c, 200), paired_interval(b + extra, c + extra, 200)
    assert wider.low <= estimate.low + 1e-12
    assert wider.high >= estimate.high - 1e-12


def test_paired_interval_covers_as_often_as_it_says():
    """Exact coverage over all (b, c) of a trinomial, n = 80: 95 % within two points."""
    n, p_b, p_c = 80, 0.10, 0.04
    covered = 0.0
    for b in range(40):
        for c in range(40):
            estimate = paired_interval(b, c, n)
            if estimate.low <= p_c - p_b <= estimate.high:
                covered += stats.multinomial.pmf([b, c, n - b - c], n, [p_b, p_c, 1 - p_b - p_c])
    assert abs(covered - 0.95) < 0.02


@few
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300))
def test_differences_of_two_machines_have_the_paired_interval(b, c, equal):
    differences = [-1.0] * b + [1.0] * c + [0.0] * (equal + 1)
    low, high = difference_interval(differences)
    assert (max(-1, low), min(1, high)) == pytest.approx(paired_interval(b, c, len(differences)), abs=1e-12)


def test_differences_of_any_size_are_covered_as_often_as_it_says():
    """Sums of two differences, their mean 0.15, as the interaction of two causes has them."""
    rng = np.random.default_rng(3)
    found = [difference_interval(rng.choice([-1, 0, 1], (2, 80), p=[0.1, 0.725, 0.175]).sum(0)) for _ in range(1000)]
    assert 0.93 < np.mean([low <= 0.15 <= high for low, high in found]) < 0.97


def test_unpaired_interval_reproduces_newcombes_example():
    """Newcombe 1998, table II, example (a), method 10: 56/70 - 48/80 is 0.2, 95 % interval 0.0524 to 0.3339."""
    assert unpaired_interval(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@few
@given(counts, counts)
def test_unpaired_interval_mirrors_and_stays_a_difference(first, second):
    estimate, mirrored = unpaired_interval(*first, *second), unpaired_interval(*second, *first)
    difference = second[0] / second[1] - first[0] / first[1]
    assert -1 - 1e-12 <= estimate.low <= difference + 1e-12
    assert difference - 1e-12 <= estimate.high <= 1 + 1e-12
    assert estimate == pytest.approx((-mirrored.high, -mirrored.low))


def test_paired_bootstrap_agrees_with_scipys_resampling():
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.9
    second = np.where(rng.random(300) < 0.1, rng.random(300) < 0.5, first)
    ours = paired_bootstrap(first, second, np.random.default_rng(1), resamples=20_000)
    theirs = stats.bootstrap((second.astype(float) - first,), np.mean, n_resamples=20_000, method="percentile",
                             rng=np.random.default_rng(2), batch=1000).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1 / 300)
    assert ours.low < second.mean() - first.mean() < ours.high


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(0, 2**32))
def test_paired_bootstrap_repeats_and_keeps_the_extremes(pairs, seed):
    first, second = np.array(pairs).T
    estimate = paired_bootstrap(first, second, np.random.default_rng(seed), resamples=500)
    assert estimate == paired_bootstrap(first, second, np.random.default_rng(seed), resamples=500)
    difference = second.astype(int) - first
    assert difference.min() - 1e-12 <= estimate.low <= estimate.high <= difference.max() + 1e-12


def test_paired_bootstrap_refuses_arrays_that_do_not_pair():
    with pytest.raises(ValueError, match="paired"):
        paired_bootstrap([1, 0], [1], np.random.default_rng(0))


def test_three_hundred_and_sixty_images_show_about_two_points():
    assert smallest_detectable(360) == pytest.approx(0.0218, abs=5e-4)


@pytest.mark.parametrize("psi", [0.05, 0.15])
def test_the_detectable_difference_is_detected_with_the_stated_power(psi):
    """Power of exact McNemar by enumeration. The exact test is conservative, hence up to 12 points below 80 %."""
    n = 300
    delta = smallest_detectable(n, psi)
    p_b, p_c = (psi + delta) / 2, (psi - delta) / 2
    power = 0.0
    for discordant in range(n + 1):
        chance = stats.binom.pmf(discordant, n, psi)
        if chance > 1e-9:
            b = np.arange(discordant + 1)
            shown = np.array([mcnemar(int(k), discordant - int(k)) < 0.05 for k in b])
            power += chance * stats.binom.pmf(b, discordant, p_b / psi)[shown].sum()
    assert p_c >= 0
    assert 0.68 < power < 0.84


@few
@given(st.integers(1, 5000), st.floats(0, 1))
def test_more_images_detect_less_and_more_discordance_hides_more(n, psi):
    assert smallest_detectable(2 * n, psi) <= smallest_detectable(n, psi) <= 1
    assert smallest_detectable(n) <= smallest_detectable(n, psi) <= smallest_detectable(n, min(1.0, psi + 0.1))
