"""`ep-hw evaluate` and `ep-hw demo`: attack and corrupt a model on machines."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ep_hw.cli import completion
from ep_hw.cli.application import app
from ep_hw.cli.data import DataOptions
from ep_hw.cli.folder import asked, claimed, place
from ep_hw.cli.options import (
    MOST_CHIPS,
    MOST_IMAGES,
    PROCESSORS,
    Jobs,
    Machines,
    Model,
    Out,
    counted,
    measured,
    placed,
    seeded,
)
from ep_hw.cli.printing import print_table, remarks_last, say
from ep_hw.cli.running import RunOptions
from ep_hw.evaluation.progress import Progress, progress
from mapping.errors import Refusal
from mapping.program import Table

if TYPE_CHECKING:   # these load torch
    from ep_hw.analysis.rows import Case, SummaryRow
    from ep_hw.data.source import DataSource
    from ep_hw.evaluation.execution import Run
    from ep_hw.evaluation.folders import Question
    from ep_hw.evaluation.plan import Plan
    from ep_hw.evaluation.suites import Request
    from ep_hw.networks.family import Member
    from ep_hw.threats.attacks import AttackSettings
    from ep_hw.threats.threat import Threat

    PlansOf = Callable[[int, int], list[Plan]]   # by images and queries, of all networks

LONGEST_BUDGET_S = 3.2e8   # ten years
Ensemble = Literal["standard", "rand", "paper"]
Label = Literal["true", "predicted"]


@app.command(examples=("demo", "demo --out first-look --jobs 1"))
def demo(out: Annotated[Path, placed("folder to write into; the same command goes on there")] = Path("ep-hw-demo"),
         jobs: Jobs = PROCESSORS):
    """Run the main job on the packaged digits network.

    About a minute on two idle cores. Reference, Loihi twin, real Lava processes and three PCM chips are attacked and
    corrupted; the page to open in a browser is named at the end.
    """
    from ep_hw import workflow
    from ep_hw.demo import demo_plan
    from ep_hw.evaluation.execution import Run
    from ep_hw.networks.checkpoint import packaged_models
    from ep_hw.networks.family import members, one_of_each

    plan = demo_plan(Run(jobs=jobs))
    others = workflow.family_plans(plan, one_of_each(members(plan.model, packaged_models())))
    _evaluate(plan, out, None, others=others)


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How attacks are made, where the suite does not say it or says otherwise."""

    gradient: Annotated[list[str] | None, typer.Option(help="bptt@STEPS[xLAST], adjoint@ITERATIONS, ep@BETA[:margin], "
                                                       "apgd@STEPS for Auto-PGD, or eot@STEPS through noisy reads; "
                                                       "own for STEPS is the machine's own relaxation (repeatable)")
                        ] = None
    iterations: Annotated[int | None, counted("of PGD; AutoAttack and Carlini-Wagner take five times as many "
                                              "[default: 20]")] = None
    restarts: Annotated[int | None, counted("of PGD, all but the first from a random start [default: 1]")] = None
    queries: Annotated[int | None, counted("most queries of a square attack, an image [default: 1000]")] = None
    average: Annotated[int | None, counted("queries read for one answer of a noisy machine to a square attack "
                                           "[default: 1]")] = None
    searches: Annotated[int | None, counted("values of c that Carlini-Wagner tries; 1 keeps the one in cw_l2@C "
                                            "[default: 1]")] = None
    patience: Annotated[float | None, measured("least share of its steps or queries that a search has before it gives "
                                               "up an image that hardly yields; 1 gives up none [default: 0.1]", 0, 1)
                        ] = None
    ensemble: Annotated[Ensemble | None, typer.Option(help="members of AutoAttack [default: standard; rand on noisy "
                                                      "machines]")] = None
    label: Annotated[Label | None, typer.Option(help="what attacks flee: the true label or the predicted one "
                                                "[default: true]")] = None
    eot: Annotated[int | None, counted("gradients averaged where each meets fresh noise, as of eot@STEPS "
                                       "[default: 4]")] = None
    votes: Annotated[int | None, counted("reads whose majority decides on noisy machines [default: 5]")] = None

    def settings(self, suite: "AttackSettings") -> "AttackSettings":
        """Those of a suite with what the options say otherwise."""
        from ep_hw.threats.attacks import parse_gradient

        gradients = tuple(dict.fromkeys(str(parse_gradient(text)) for text in self.gradient or ()))
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "gradient"}
        return suite.model_copy(update={name: value for name, value in (said | {"gradients": gradients or None}).items()
                                        if value is not None})


@dataclass(frozen=True, kw_only=True)
class WantedOptions:
    """What a model is asked."""

    on: Machines = None
    attack: Annotated[list[str] | None, typer.Option(autocompletion=completion.attacks,
                                                     help="e.g. pgd_l2@0.5, cw_l2@C (repeatable)")] = None
    corruption: Annotated[list[str] | None, typer.Option(autocompletion=completion.corruptions,
                                                         help="e.g. jpeg_compression@3 (repeatable)")] = None
    suite: Annotated[str | None, typer.Option(help="threats and settings by name: paper, quick, cifar-c, lammie; what "
                                              "is named beside it is added, and options override its settings")] = None
    explain: Annotated[list[str] | None, typer.Option(autocompletion=completion.threats,
                                                      help="attack or corruption whose toll is traced to its causes: "
                                                      "every rung on the way meets it too (repeatable)")] = None
    images: Annotated[int | None, counted("test images, drawn by --seed [default: 200]", high=MOST_IMAGES)] = None
    chips: Annotated[int | None, counted("chips programmed for machines that have chips [default: 5]",
                                         high=MOST_CHIPS)] = None
    seed: Annotated[int, seeded("of images, corruptions, attacks and read noise")] = 0
    baseline: Annotated[str, typer.Option(help="what the mCE is relative to: a machine of this run, or another "
                                          "model of the same data")] = "reference"

    def request(self, attacks: AttackOptions) -> "Request":
        """What the options say.

        Raises:
            Refusal: an unknown suite, gradient or threat, or one of the other kind.
        """
        from ep_hw.evaluation import suites
        from ep_hw.evaluation.naming import called

        suite = suites.suite(self.suite) if self.suite else suites.BARE
        threats = [_expect(called(text, self.on), "is_attack", "--attack") for text in self.attack or ()]
        threats += [_expect(called(text, self.on), "is_corruption", "--corruption") for text in self.corruption or ()]
        return suites.Request(self.on, threats, suite, self.images, self.chips, self.seed,
                              attacks.settings(suite.settings), [called(text, self.on) for text in self.explain or ()],
                              self.baseline)


@dataclass(frozen=True, kw_only=True)
class ExtentOptions:
    """How much of the answer is made, how it is shown and where it goes."""

    out: Out = None
    budget: Annotated[str | None, typer.Option(help="time to spend, as 30m or 2h: chooses --images (64 or more) and "
                                               "--queries from cells measured first; of a family, fewer images for "
                                               "attacks that take long")] = None
    only: Annotated[list[str] | None, typer.Option(metavar="MACHINE:THREAT", help="make this part alone, without the "
                                                   "report; * for all machines or threats (repeatable)")] = None
    again: Annotated[list[str] | None, typer.Option(metavar="MACHINE:THREAT", help="compute this part once more "
                                                    "(repeatable)")] = None
    alone: Annotated[bool, typer.Option("--alone", help="without the baselines that were trained beside a packaged "
                                        "model")] = False
    each_chip: Annotated[bool, typer.Option("--each-chip", help="print a line a chip, not their mean")] = False


@dataclass(frozen=True)
class _Asked:
    """A model and those beside it, and what they are asked.

    Attributes:
        model: as it was named.
        request: what all of them are asked.
        source: where the images lie.
        run: where the cells run.
        others: the networks beside the model.
        absent: machines that cannot run here, and why; the question is the same.
    """

    model: str
    request: "Request"
    source: "DataSource"
    run: "Run"
    others: "tuple[Member, ...]" = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """Of square attacks, as asked."""
        return (self.request.settings or self.request.suite.settings).queries

    def plan(self, images: int | None = None, queries: int | None = None) -> "Plan":
        """The model's own, with other numbers where they are given."""
        from ep_hw import workflow

        settings = self.request.settings or self.request.suite.settings
        request = replace(self.request, images=images or self.request.images,
                          settings=settings.model_copy(update={"queries": queries or self.queries}))
        return workflow.plan_evaluation(self.model, request, data_source=self.source, run=self.run).without(self.absent)

    def beside(self, plan: "Plan") -> "list[tuple[Member, Plan]]":
        """The others' plans, as the model's is."""
        from ep_hw import workflow

        return workflow.family_plans(plan, self.others, self.source)

    def plans(self, images: int, queries: int) -> "list[Plan]":
        """Of all networks."""
        plan = self.plan(images, queries)
        return [plan, *(other for _, other in self.beside(plan))]


@app.command(examples=("evaluate digits --on loihi --on crossbar:pcm --attack pgd_l2@0.5",
                       'evaluate digits --on "old=crossbar:pcm[age=1y]" --corruption fog@3'))
def evaluate(context: typer.Context, model: Model, wanted: WantedOptions, attacks: AttackOptions, extent: ExtentOptions,
             running: RunOptions, data: DataOptions):
    """Attack and corrupt a model on machines, image by image.

    Every machine is compared with the reference on the same images, attacks are probed for whether they can be
    believed, and a report is written.
    """
    from ep_hw import workflow
    from ep_hw.evaluation.plan import check_some

    seconds = _seconds(extent.budget, wanted.images) if extent.budget else None
    every = _Asked(model, wanted.request(attacks), data.source(), running.run(context))
    with remarks_last():
        first = every.plan(1 if seconds else None)
        every = replace(every, others=workflow.beside(model, first, every.request.suite, extent.alone))
        beside = every.beside(first)
        question = asked(context, first.images.digest, *workflow.keys([first, *(other for _, other in beside)]))
        parts = workflow.parts_of(first, place(context, first.model, lambda: question), beside)
        check_some(parts, extent.only or [], extent.again or [])
    every = replace(every, absent=workflow.absent(parts))
    out = claimed(context, first.model, question)
    plan = _within(seconds, every, out) if seconds else first.without(every.absent)
    beside = every.beside(plan)
    if not _made_some(plan, out, beside, extent.only or [], extent.again or []):
        _evaluate(plan, out, question, extent.each_chip, beside)


def _made_some(plan: "Plan", out: Path, others: "Sequence[tuple[Member, Plan]]", only: list[str],
               again: list[str]) -> bool:
    """Whether the parts that were asked for are all there is to do."""
    from ep_hw.evaluation.plan import evaluate_some
    from ep_hw.workflow import parts_of

    with progress("evaluating") as show:
        missing = evaluate_some(parts_of(plan.showing(show), out, others), only, again)
    if missing is not None:
        say(f"{out}: {missing} cells are missing; the same command without --only makes them and the report")
    return missing is not None


def _within(seconds: float, every: _Asked, out: Path) -> "Plan":
    """The model's plan that a budget of `seconds` for all networks allows; those of the others follow from it."""
    from ep_hw.evaluation.allocation import allocate
    from ep_hw.evaluation.budget import choose
    from ep_hw.evaluation.suites import tables_only

    suite = every.request.suite
    if every.others and suite.of_families:
        every = replace(every, request=replace(every.request, suite=tables_only(suite)))
        with progress("measuring a trial") as show:
            allocation = allocate(_shown(every.plans, show), every.queries, _available(every), seconds, out)
        plan = every.plan(allocation.images, allocation.queries)
        say(allocation.sentence(plan))
        return allocation.of(plan)
    with progress("measuring a trial") as show:
        choice = choose(_shown(every.plans, show), every.queries, _available(every), seconds, out)
    say(choice.sentence())
    return every.plan(choice.images, choice.queries)


def _available(every: _Asked) -> int:
    """Images in the data set."""
    return len(every.plan(sys.maxsize, 1).images)


def _shown(plans_of: "PlansOf", show: Progress) -> "PlansOf":
    """The same plans, the first of which shows its progress."""
    def shown(images: int, queries: int) -> "list[Plan]":
        plan, *others = plans_of(images, queries)
        return [plan.showing(show), *others]

    return shown


def _seconds(budget: str, images: int | None) -> float:
    """The time that a budget names.

    Raises:
        Refusal: no time, or images named beside it.
    """
    from mapping.options import duration

    try:
        seconds = duration(budget)
    except (ValueError, KeyError):
        seconds = 0.0
    if images is not None or not 0 < seconds <= LONGEST_BUDGET_S:
        raise Refusal("no such budget", where="--budget", got=budget if images is None else f"{budget} and --images",
                      allowed="a time above 0 and up to 10y, as 90s, 30m or 2h, without --images",
                      remedy="leave one of them out, or choose such a time")
    return seconds


def _expect(threat: "Threat", kind: str, option: str) -> "Threat":
    if not getattr(threat, kind):
        raise Refusal("wrong kind of threat", where=option, got=str(threat), allowed="attacks with --attack, "
                      "corruptions with --corruption", remedy="use the other option; clean is always included")
    return threat


def _evaluate(plan: "Plan", out: Path, question: "Question | None", each_chip: bool = False,
              others: "Sequence[tuple[Member, Plan]]" = ()) -> None:
    from ep_hw.evaluation.folders import command_line
    from ep_hw.evaluation.naming import shown_plan, shown_rows
    from ep_hw.workflow import run, title_of

    with progress("evaluating") as show:
        found = run(plan.showing(show), out, command=command_line(), title=title_of(plan), others=others,
                    question=question)
    rows = shown_rows(found.summary, plan.asked.names)
    table = (_chip_table if each_chip else _summary_table)(shown_plan(plan), rows)
    print_table(replace(table, notes=tuple(f"{shown} is {full}" for full, shown in plan.asked.names.items()
                                           if shown != full)))
    if success := found.envelopes:
        for table in success.tables:
            print_table(table)
        for sentence in success.answers:
            say(sentence)
    for flag in found.flags:
        say(f"TRUST CHECK VIOLATED: {flag}", err=True)
    say(f"{found.report}: open it in a browser; summary.json, results.parquet, figures, tables and cards are beside it")


def _summary_table(plan: "Plan", summary: Sequence["SummaryRow"]) -> Table:
    """A line a machine and threat, rungs on the way left to the report; chips averaged, with its intervals."""
    from ep_hw.analysis.points import pool
    from ep_hw.analysis.series import ladders, without_rungs
    from ep_hw.report.contents import waterfalls

    points = pool(summary)
    shown = without_rungs(points, ladders(points, waterfalls(plan)))
    rows = tuple((p.machine, len(p.chips) or "", p.threat.label, f"{p.accuracy.value:.3f}",
                  f"{p.accuracy.low:.3f} to {p.accuracy.high:.3f}", f"{p.agreement:.3f}", f"{p.to_wrong:.1f}",
                  f"{p.to_right:.1f}") for p in (shown[case] for case in as_asked(plan, shown)))
    columns = ("machine", "chips", "threat", "accuracy", "95 %", "agreement", "to wrong", "to right")
    return Table("summary", columns, rows)


def _chip_table(plan: "Plan", summary: Sequence["SummaryRow"]) -> Table:
    """A line a machine, chip and threat."""
    cases: dict[Case, list[SummaryRow]] = {}
    for row in summary:
        cases.setdefault((row["machine"], row["threat"]), []).append(row)
    rows = tuple((r["machine"], "" if r["chip_seed"] is None else r["chip_seed"], r["threat"].label,
                  f"{r['accuracy']:.3f}", f"{r['ci_low']:.3f} to {r['ci_high']:.3f}", f"{r['agreement']:.3f}",
                  r["flips_to_wrong"], r["flips_to_right"]) for case in as_asked(plan, cases) for r in cases[case])
    columns = ("machine", "chip", "threat", "accuracy", "95 %", "agreement", "to wrong", "to right")
    return Table("summary", columns, rows)


def as_asked(plan: "Plan", cases: Collection["Case"]) -> list["Case"]:
    """Cases by machine and then by threat, both in the order of the plan; an attack before its transferred forms."""
    from ep_hw.threats.threat import CLEAN

    machines = list(dict.fromkeys([*plan.asked.machines, *(machine for machine, _ in cases)]))
    direct = (replace(threat, source=None) for threat in (CLEAN, *plan.asked.threats, *(threat for _, threat in cases)))
    threats = list(dict.fromkeys(direct))
    return sorted(cases, key=lambda case: (machines.index(case[0]), threats.index(replace(case[1], source=None)),
                                           case[1].source or ""))
