"""Forecasts: stored rates, how much slower this computer is at a few cells, and never more than a tenth to measure."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from networks import small_network

from ep_hw.data.splits import Split
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.forecast import MEASURING, SAMPLES, Forecast, estimate
from ep_hw.evaluation.plan import Asked, Attacks, Plan, compile_all, evaluate
from ep_hw.evaluation.price import NOISE, SHOWN, SUCCESS, TIMES, Kind, jobs_of
from ep_hw.evaluation.suites import Envelope, Grid, Temporal
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from mapping.registry import parse

MACHINES = ("reference", "loihi", "crossbar:ideal", "crossbar:pcm", "crossbar:pcm[wire_ohm=1]")
SETTINGS = AttackSettings(gradients=("bptt@2",), iterations=2, queries=4, votes=2)
SLOWNESS = st.floats(-4, 6).map(lambda power: 10**power)


def plan_of(images=16, machines=MACHINES, threats=("contrast@1", "fog@3", "pgd_l2@0.5", "square_l2@0.5"),
            attack=SETTINGS, **asked):
    x = torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = dict.fromkeys(("reference", *machines))
    return Plan(model="small", images=Split("small", x, torch.zeros(images).long(), torch.arange(images)),
                programs=compile_all(small_network(5), map(parse, names)), attacks=Attacks(settings=attack),
                asked=Asked(machines=tuple(machines), threats=tuple(map(parse_threat, threats)), chips=2, **asked))


PLAN = plan_of(temporal=Temporal(0.5, (2,), (3,), 2))
JOBS = jobs_of(PLAN)


def measured(known, slowness):
    """All that would be measured, where a cell takes `slowness()` times what the stored rates say; each forecast."""
    while chosen := known.next_sample():
        job, images = chosen
        stored_s = job.price.of(images)
        known = known.with_sample(job.kind, stored_s, slowness(job.kind) * stored_s)
        yield known


@given(seed=st.integers(0, 2**32 - 1), workers=st.integers(1, 4), count=st.integers(1, len(JOBS)))
@settings(max_examples=40, deadline=None, phases=[Phase.generate])   # of a seed nothing is simpler
def test_measuring_takes_a_tenth_of_what_it_predicts_whatever_a_cell_takes(seed, workers, count):
    rng = np.random.default_rng(seed)
    for known in measured(Forecast.of(JOBS[-count:], workers), lambda kind: 10 ** rng.uniform(-4, 6)):
        assert known.spent_s <= MEASURING * known.seconds * (1 + 1e-9)
        assert all(known.taken(kind) <= SAMPLES for kind in known.stored_s)


@given(slowness=SLOWNESS, workers=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_slower_computer_takes_that_much_longer_at_everything(slowness, workers):
    stored = Forecast.of(JOBS, workers)
    *_, known = measured(stored, lambda kind: slowness)
    assert known.seconds == pytest.approx(slowness * stored.seconds)
    assert known.price(JOBS[0]) == pytest.approx(JOBS[0].price.times(slowness))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_kind_is_priced_by_its_own_cells_and_by_all_where_it_has_none(seed):
    rng = np.random.default_rng(seed)
    factors = {kind: rng.uniform(1, 1.5) for kind in dict.fromkeys(job.kind for job in JOBS)}
    *_, known = measured(Forecast.of(JOBS, 1), factors.__getitem__)
    assert known.measured
    assert {kind for kind in factors if not known.taken(kind)} == set(known.unmeasured())
    for kind, factor in factors.items():
        if known.taken(kind):
            assert known.slowness(kind) == pytest.approx(factor)
        else:
            assert known.slowness(kind) == known.slowness()
    assert min(factors.values()) <= known.slowness() * (1 + 1e-9)
    assert known.slowness() <= max(factors.values()) * (1 + 1e-9)


def test_where_measuring_would_take_too_long_the_stored_rates_stand():
    one = Forecast.of(JOBS[:1], 1)
    assert one.next_sample() is None
    assert one.seconds > JOBS[0].price.of(JOBS[0].images) > 0
    assert "stored rates" in one.basis()
    known = estimate([PLAN], at_most_s=1e-9)
    assert (known.measured, known.unmeasured()) == ({}, list(known.stored_s))


def test_workers_share_the_cells_as_far_as_there_are_processors(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2})
    alone, two, many = (Forecast.of(JOBS, Run(jobs=jobs).workers) for jobs in (1, 2, 50))
    work_s = sum(job.price.of(job.images) for job in JOBS)
    assert (alone.workers, two.workers, many.workers) == (1, 2, 3)
    assert alone.seconds - alone.alone_s == pytest.approx(work_s)
    assert two.seconds - two.alone_s == pytest.approx(work_s / 2)


class Lent:
    """A cluster of forty workers."""

    def workers(self):
        return 40


def test_workers_of_a_cluster_share_the_cells_however_many_processors_there_are():
    known = estimate([replace(PLAN, run=Run(jobs=1, cluster=Lent()))], at_most_s=1e-9)
    assert known.workers == 40
    assert known.seconds - known.alone_s == pytest.approx(sum(job.price.of(job.images) for job in JOBS) / 40)


def price_of(plan, platform, work):
    """Stored seconds of all jobs of a kind."""
    return Forecast.of(jobs_of(plan), 1).stored_s[Kind(platform, work)]


@pytest.mark.parametrize(("work", "harder"), [("pgd", {"iterations": 20}), ("pgd", {"restarts": 9}),
                                              ("pgd", {"eot": 40, "gradients": ("eot@2",)}),
                                              ("square", {"queries": 40}),
                                              ("square", {"average": 10}), (SHOWN, {"votes": 20})])
def test_what_an_attack_does_more_often_costs_more(work, harder):
    """Ten times as often takes up to ten times as long; what is averaged or voted on, on noisy machines alone."""
    plan = plan_of(attack=SETTINGS.model_copy(update=harder))
    ratio = price_of(plan, "noisy crossbar", work) / price_of(PLAN, "noisy crossbar", work)
    assert 1.1 < ratio < 10
    if harder.keys() & {"average", "votes", "eot"}:
        assert price_of(plan, "loihi", work) == price_of(PLAN, "loihi", work)


def test_every_kind_of_work_has_a_kind_and_one_machine_opened_a_task():
    """Attacks of one code are one kind, whatever their norm and strength; clean images open the machine of a task."""
    kinds = {job.kind for job in JOBS}
    assert {kind.work for kind in kinds} == {SHOWN, "pgd", "square", TIMES}
    assert {kind.platform for kind in kinds} == {"reference", "loihi", "crossbar", "noisy crossbar",
                                                 "noisy crossbar with wires"}
    shown = [job for job in JOBS if job.kind == Kind("loihi", SHOWN)]
    assert [job.opens for job in shown] == [True, False, False]
    assert all(job.opens for job in JOBS if job.kind.work != SHOWN)


def test_a_white_box_that_is_put_together_costs_what_showing_its_images_does():
    """Its own attack costs what an attack does, on every chip."""
    jobs = jobs_of(replace(PLAN, attacks=Attacks(settings=SETTINGS, joined=True)))
    assert sum(bool(job.what.configuration.joined) for job in jobs if job.kind.work == SHOWN) == len(MACHINES) + 2
    for job in (job for job in jobs if job.kind.work != TIMES):
        c = job.what.configuration
        assert (job.kind.work != SHOWN) == (c.threat.is_attack and not c.joined)


ENVELOPE = Envelope((Grid("pgd_linf", (0.1,), (1, 2)), Grid("one_pixel", (1.0,), (4,))), repeats=2, drops=(0.1,))


def test_adversarial_success_is_priced_by_effort_and_reads_and_once_measured_costs_nothing(tmp_path):
    """A job for each attack of each platform, clean images among them, and for each source of noise and for none."""
    plan = plan_of(2, ("reference", "crossbar:generic[steps=2,read_noise=0.1]"), (), envelope=ENVELOPE)
    kinds = [job.kind.work for job in jobs_of(plan)]
    assert (kinds.count(SUCCESS), kinds.count(NOISE)) == (2 * 4, 7)
    harder = [plan_of(2, ("reference",), (), envelope=replace(ENVELOPE, grids=(Grid("pgd_linf", (0.1,), (effort,)),)))
              for effort in (1, 100)]
    few, many = (price_of(one, "reference", SUCCESS) for one in harder)
    assert many > 10 * few
    known = estimate([plan])
    assert {kind.work for kind in known.stored_s} >= {SUCCESS, NOISE}
    for job in jobs_of(plan, tmp_path):
        if job.kind.work in (SUCCESS, NOISE):
            job.what.measure()
    assert not {SUCCESS, NOISE} & {job.kind.work for job in jobs_of(plan, tmp_path)}


def test_reads_that_are_solved_are_no_kind_of_products():
    """Their price does not follow from that of others: a rung without wires, or drives as pulses, is another kind."""
    machines = [str(parse(f"crossbar:pcm[without=read,tile=32,{more}]")) for more in (
        "wire_ohm=1", "sinh_v=0.1", "sinh_v=0.1,wire_ohm=1", "sinh_v=0.1,wire_ohm=1,inputs=pulses")]
    jobs = jobs_of(plan_of(1, machines, ("contrast@1",)))
    price = {job.what.configuration.machine: (job.kind.platform, job.price.each) for job in jobs if job.opens}
    kinds, each = zip(*(price[name] for name in machines))
    assert kinds == ("crossbar with wires", "crossbar", *(
        f"crossbar with curves{more}" for more in ("", ", driven by pulses")))
    assert 1000 * each[0] < each[2] < each[3]


def test_an_estimate_runs_small_cells_of_every_sort_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    heard = []
    plan = plan_of(96, threats=(*(f"contrast@{n}" for n in range(1, 6)), "pgd_l2@0.5", "pgd_l2@1",
                                "transfer:reference:pgd_l2@0.5"), temporal=Temporal(0.5, (2,), (3,), 2))
    known = estimate([plan.showing(lambda *shown: heard.append(shown))])
    assert {kind.work for kind in known.measured} >= {SHOWN, "pgd"}
    assert known.spent_s <= MEASURING * known.seconds
    assert 0 < len(heard) <= known.all_measured.cells
    assert not list(tmp_path.iterdir())


def test_what_is_computed_costs_nothing(tmp_path):
    plan = plan_of(2, ("reference",), ("contrast@1",))
    assert len(estimate([plan], tmp_path).jobs) == 2
    evaluate(plan, tmp_path)
    known = estimate([plan], tmp_path, figures=3)
    assert (known.jobs, known.seconds, known.measured) == ((), 0.0, {})
    more = replace(plan, asked=replace(plan.asked, threats=(*plan.asked.threats, parse_threat("fog@1"))))
    assert len(estimate([more], tmp_path).jobs) == 1
