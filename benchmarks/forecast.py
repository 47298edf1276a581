"""How well what an evaluation will take is foreseen: packaged studies, the quick suite, devices with curves; then run.

    python -m benchmarks.forecast [JOBS [NAME ...]]

Predicted and real seconds by the clock, their ratio, and the share of the prediction that measuring took. Where other
programs share the cores, the clock tells of them too: `cores` are those that this program had, while it measured and
while it ran, a worker, and `alike` is the ratio as if it had had as many both times.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.turns import help_if_asked
from ep_hw import workflow
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.forecast import Forecast, estimate
from ep_hw.evaluation.plan import Plan
from ep_hw.evaluation.probes import probe_plan
from ep_hw.evaluation.suites import QUICK, Request
from ep_hw.networks.checkpoint import packaged_models
from ep_hw.networks.family import members, one_of_each
from ep_hw.studies.execution import plan_study
from ep_hw.studies.outcome import run_study
from ep_hw.studies.study import figure_count, load_study, with_numbers
from ep_hw.threats.threat import parse_threat

STUDIES = {"wires": 10, "age": 10, "converters": 10}   # images; of one chip
QUICK_IMAGES, CURVES_IMAGES = 16, 16
HEADER = f"{'':12} {'jobs':>4} {'predicted':>9} {'real':>7} {'ratio':>6} {'measuring':>9} {'cores':>11} {'alike':>6}"
Question = tuple[Callable[[], Forecast], Callable[[Path], object]]   # how to predict it, and how to run it


class Clock(NamedTuple):
    """Seconds by the clock, and of processors."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Clock":
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def since(self) -> "Clock":
        now = Clock.now()
        return Clock(now.wall - self.wall, now.cpu - self.cpu)

    @property
    def cores(self) -> float:
        return self.cpu / self.wall


def study(name: str, jobs: int) -> Question:
    """A packaged study on a few images and one chip."""
    wanted = with_numbers(load_study(name), images=STUDIES[name], chips=1)
    plan = plan_study(wanted, run=Run(jobs=jobs))
    return lambda: estimate([plan], figures=figure_count(wanted)), lambda out: run_study(wanted, plan, out)


def quick(jobs: int) -> Question:
    """The quick suite of digits with its probes and one member of each kind of its family."""
    plan = replace_chips(workflow.plan_evaluation("digits", Request(suite=QUICK, images=QUICK_IMAGES),
                                                  run=Run(jobs=jobs)))
    others = workflow.family_plans(plan, one_of_each(members("digits", packaged_models())))
    plans = [plan, *(other for _, other in others)]
    probes = [probe for one in plans if (probe := probe_plan(one))]
    return (lambda: estimate([*plans, *probes]),
            lambda out: workflow.run(plan, out, command="quick", title="quick", others=others))


def curves(jobs: int) -> Question:
    """Digits on devices with curves behind wires, whose reads are solved, beside straight ones."""
    machines = [f"crossbar:pcm[without=read,steps=2,tile=32,wire_ohm=1{more}]" for more in ("", ",sinh_v=0.1")]
    request = Request(machines=machines, threats=[parse_threat("contrast@3")], images=CURVES_IMAGES, chips=1)
    plan = workflow.plan_evaluation("digits", request, run=Run(jobs=jobs))
    return lambda: estimate([plan]), lambda out: workflow.run(plan, out, command="curves", title="curves")


def replace_chips(plan: Plan) -> Plan:
    """The same on one chip."""
    return replace(plan, asked=replace(plan.asked, chips=1))


def row(name: str, jobs: int) -> str:
    """Predict and run."""
    predict, run = OTHERS[name](jobs) if name in OTHERS else study(name, jobs)
    begun = Clock.now()
    known = predict()
    measuring = begun.since()
    with TemporaryDirectory() as folder:
        begun = Clock.now()
        run(Path(folder))
        real = begun.since()
    cores = measuring.cores, real.cores / known.workers
    ratio = known.seconds / real.wall
    return (f"{name:12} {jobs:4} {known.seconds:9.0f} {real.wall:7.0f} {ratio:6.2f} "
            f"{measuring.wall / known.seconds:9.1%} {cores[0]:5.2f} {cores[1]:5.2f} {ratio * cores[0] / cores[1]:6.2f}")


OTHERS = {"quick": quick, "curves": curves}


def main():
    help_if_asked(__doc__)
    jobs, *names = sys.argv[1:] or ["2"]
    print(HEADER)
    for name in names or [*STUDIES, *OTHERS]:
        print(row(name, int(jobs)), flush=True)


if __name__ == "__main__":
    main()
