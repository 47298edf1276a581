"""Records of runs that are true of some predictions: `from records import realistic_record`."""

from dataclasses import replace

import numpy as np

from ep_hw.analysis.points import Estimate
from ep_hw.analysis.statistics import wilson
from ep_hw.evaluation.checks import Verdict
from ep_hw.measurements.charts import slice_charts
from ep_hw.measurements.landscape import STEPS, Slice
from ep_hw.report import GalleryItem, RunRecord
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import Curve, Value, bars_chart, curves_chart, heat_chart
from ep_hw.report.figures.scales import PERCENT, ordered
from ep_hw.report.frame import Drawn
from ep_hw.report.story import Story
from ep_hw.threats.threat import Threat
from mapping.program import Table

N = 200
PCM = "crossbar:pcm"
CAUSES = {PCM + "/levels": "conductance levels", PCM + "/programmed": "programming noise",
          PCM + "/aged": "drift", PCM + "/read": "read noise", PCM: "converters"}
WATERFALLS = {
    "loihi": [("reference", "digital reference"), ("loihi:weights", "8-bit weights"), ("loihi", "integer states")],
    PCM: [("reference", "digital reference"), ("crossbar:ideal", "mapping"), *CAUSES.items()]}
CHIPS = (0, 1, 2, 3, 4)
MASKED = Verdict(PCM, 3, "no black box is stronger", 4, 11, ("the black box beats the white box.",))


def row(machine, threat="clean", strength=0.0, chip=None, *, to_wrong=0, to_right=0, reference_right=194, n=N):
    """A summary row that is true of some predictions: the reference right on `reference_right` images of n."""
    correct = reference_right - to_wrong + to_right
    low, high = wilson(correct, n)
    return {"model": "digits", "dataset": "digits", "machine": machine, "threat": Threat.named(threat, strength),
            "chip_seed": chip, "n": n, "accuracy": correct / n, "ci_low": low, "ci_high": high,
            "agreement": 1 - (to_wrong + to_right) / n, "flips_to_wrong": to_wrong, "flips_to_right": to_right,
            "gap_low": -0.1, "gap_high": 0.05, "logit_rmse": 0.25, "logit_rmse_clean_correct": None,
            "zero_gradient": 0.0, "seconds": 0.137 + len(machine), "key": f"{machine}|{threat}|{strength}|{chip}"}


def rows_under(threat, strength, severity, reference_right):
    """All machines under one threat; `severity` 0 to 1 scales how many images the hardware loses."""
    flips = {"reference": (0, 0), "loihi:weights": (1, 1), "loihi": (2 + round(6 * severity), 1),
             "crossbar:ideal": (0, 0), PCM + "/levels": (1, 0)}
    rows = [row(name, threat, strength, to_wrong=a, to_right=b, reference_right=reference_right)
            for name, (a, b) in flips.items()]
    for step, name in enumerate((PCM + "/programmed", PCM + "/aged", PCM + "/read", PCM)):
        rows += [row(name, threat, strength, chip, to_wrong=4 + step + (3 * chip + step) % 4 + round(20 * severity),
                     to_right=chip % 2, reference_right=reference_right) for chip in CHIPS]
    return rows


def rungless(rows):
    return [r for r in rows if r["machine"] in ("reference", "loihi", PCM)]


def realistic_summary():
    rows = rows_under("clean", 0.0, 0.0, 194)
    for attack, budgets in (("pgd_l2", (0.25, 0.5, 1.0)), ("square_linf", (0.05, 0.1))):
        for k, eps in enumerate(budgets):
            adaptive = rows_under(attack, eps, 0.3 * k, 150 - 45 * k)
            transfer = rows_under(f"transfer:reference:{attack}", eps, 0.1, 165 - 35 * k)
            rows += adaptive if (attack, eps) == ("pgd_l2", 0.5) else rungless(adaptive)
            rows += [r for r in rungless(transfer) if r["machine"] != "reference"]
    for name, drop in (("gaussian_noise", 4), ("contrast", 9), ("jpeg_compression", 6)):
        for severity in (1, 2, 3, 4, 5):
            rows += rungless(rows_under(name, float(severity), severity / 10, 194 - drop * severity))
    return rows


def realistic_gallery():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:8, :8]
    items = []
    for k, (machine, eps) in enumerate([("loihi", 0.5), (PCM, 0.5), (PCM, 1.0)]):
        clean = np.exp(-((x - 3.5) ** 2 + (y - 2.0 - k) ** 2) / 6)[None]
        noise = rng.normal(size=clean.shape)
        adversarial = np.clip(clean + eps * noise / np.linalg.norm(noise), 0, 1)
        items.append(GalleryItem(machine, Threat("pgd_l2", eps), 1400 + k, 3, clean, adversarial, 3, 8 - k, 3))
    return items


def realistic_record():
    table = Table("crossbar:pcm: tiles", ("layer", "tiles", "rows", "columns", "weights", "used of tile"),
                  (("conv1", 1, 9, 32, 288, 0.0176), ("conv2", 2, 288, 64, 18432, 0.5625),
                   ("readout", 1, 256, 10, 2560, 0.1563)), ("Tiles of 256 x 256 devices, two devices a weight.",))
    return RunRecord(
        title="Digits on simulated hardware", command="ep-hw evaluate digits --on loihi --on crossbar:pcm --chips 5",
        summary=realistic_summary(), gallery=realistic_gallery(), mapping=[table], waterfalls=WATERFALLS,
        versions={"ep-hw": "0.1.0", "python": "3.10.14", "torch": "2.6.0"},
        seeds={"evaluation": 0, "chips": "0 1 2 3 4", "attack": {"steps": 20, "restarts": 1}},
        notes=["Noisy machines are judged by the majority of 5 reads."], checks=[])


def small_record():
    """Every section once: clean images, one attack, one corruption, the Loihi waterfall."""
    rows = [r for r in realistic_summary() if r["machine"] in ("reference", "loihi:weights", "loihi")]
    rows = [r for r in rows if str(r["threat"]) in ("clean", "square_linf@0.1", "contrast@5")]
    return replace(realistic_record(), summary=rows, gallery=realistic_gallery()[:1])


def bare_record():
    """Clean images on two machines: a record without figures."""
    return replace(small_record(), summary=[row("reference"), row("loihi", to_wrong=2)], gallery=[], mapping=[])


def named_bars():
    """A bar a group, with names too long to stand side by side."""
    values = [Value(Estimate(share, share - 0.1, share + 0.1), f"said {share}") for share in (0.3, 0.4, 0.5, 0.6, 0.7)]
    return bars_chart([f"gain {value.estimate.value}, by hand" for value in values],
                      [("clean", look, values) for look in looks_of(["clean"]).values()], "bars")


def realistic_story(machine):
    """A map, curves with bands, a figure and a table, as a study or a measurement shows them."""
    values = [Value(Estimate(share, share - 0.1, share + 0.1), f"said {share}") for share in (0.3, 0.5, 0.7)]
    loss = Slice(machine, "bptt@10", np.linspace(-1, 1, STEPS), np.ones((STEPS, STEPS)), 0.9, 50)
    curves = [Curve(name, look, list(enumerate(values))) for name, look in looks_of([machine, "loihi"]).items()]
    steps = ordered(["1h", "1d", "1y"])
    return Story(title="What does age do?", answer=f"Less than {machine} can tell.", facts=[("machines", machine)],
                 pictures=[Drawn(machine, heat_chart(["64", "256"], ["4", "6", "8"], {(1, n): value for n, value in
                                                     enumerate(values)}, ("tile", "bits"), (0, 1), "a map"))] * 3,
                 sections=[("Along age", [Drawn(machine, curves_chart(curves, steps, PERCENT, "age", "a", bands=True)),
                                          *slice_charts([loss])])],
                 tables=[Table("numbers", ("machine", "what it is"), tuple((machine, "word " * 40) for _ in range(9)))])
