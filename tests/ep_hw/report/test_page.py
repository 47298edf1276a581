"""The report of a realistic record: one file, every number, honest pooling, and the laws of a waterfall."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from records import (
    MASKED,
    PCM,
    WATERFALLS,
    N,
    bare_record,
    realistic_record,
    realistic_summary,
    row,
    rows_under,
    rungless,
    small_record,
)

from ep_hw.analysis.points import change, pool, waterfall
from ep_hw.analysis.rows import plain
from ep_hw.analysis.series import ladders, panels, telling, threats, without_rungs
from ep_hw.analysis.statistics import mcnemar, paired_interval, student, wilson
from ep_hw.evaluation.checks import Verdict
from ep_hw.report import GalleryItem, write_report
from ep_hw.report import page as page_module
from ep_hw.report.contents import BESIDE_BYTES, GALLERY_BYTES
from ep_hw.report.figures.inline import amplified, png
from ep_hw.report.figures.plots import curves_figure, shared_limits, styles, waterfall_figure
from ep_hw.report.model_results import results_of
from ep_hw.report.page import MOST_ROWS, SUMMARY_COLUMNS
from ep_hw.report.wording import findings, largest_loss
from ep_hw.threats.threat import CLEAN, Threat
from mapping import Refusal

few = settings(max_examples=25)
def render(record):
    return page_module.render(record, results_of(record))


class Page(HTMLParser):
    """What the tests ask of a page: its references, ids, tables, text and unclosed elements."""

    VOID = ("meta", "br", "img", "link", "hr", "input", "wbr")

    def __init__(self, html):
        super().__init__()
        self.references, self.ids, self.texts, self.tags, self.open, self.images = [], [], [], [], [], []
        self.cells, self.in_cells = [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.references += [v for k, v in attrs.items() if k in ("src", "href", "xlink:href", "action", "data")]
        self.references += re.findall(r"url\((.*?)\)", attrs.get("style", "") + attrs.get("clip-path", ""))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag in ("img", "svg") else []
        self.in_cells = attrs.get("id") == "table-cells" or (self.in_cells and tag != "table")
        if self.in_cells and tag == "tr":
            self.cells.append([])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.in_cells = self.in_cells and tag != "table"

    def handle_data(self, data):
        self.texts.append(data)
        if self.in_cells and self.open[-1] == "td":
            self.cells[-1].append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def html():
    return render(realistic_record())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.mark.parametrize(("numbers", "said"), [([200], "200"), ([9, 200], "9 or 200"), ([9, 31, 13, 12], "9 to 31")])
def test_it_says_on_how_many_images_it_is_based(numbers, said):
    rows = realistic_summary()
    counted = [{**row, "n": numbers[n % len(numbers)]} for n, row in enumerate(rows)]
    assert f"<dd>{said} images a cell" in render(replace(realistic_record(), summary=counted))


def test_the_page_is_one_file_with_its_figures_and_tables_beside_it_and_its_bytes_repeat(tmp_path):
    folder = tmp_path / "new"
    write_report(folder, replace(small_record(), cards=[("digits-loihi", {"model": "digits"})]))
    assert (folder / "report.html").read_text("utf-8") == render(small_record())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert files == {"report.html", "cards/digits-loihi.json", "figures/digits-square_linf.png",
                     "figures/digits-square_linf.svg", "figures/digits-waterfall-loihi-clean.png",
                     "figures/digits-waterfall-loihi-clean.svg", "tables/digits-accuracy.csv",
                     "tables/digits-corruption_means.csv", "tables/crossbar-pcm-tiles.csv"}


def test_the_page_refers_to_nothing_outside(html, page):
    assert len(page.references) > 20
    assert all(r.startswith(("data:", "#")) for r in page.references)
    assert not re.search(r"https?://|@import|//[a-z]+\.[a-z]", re.sub(r"base64,[^\"]*", "", html))
    assert page.tags.count("script") == 1


def test_the_page_is_well_formed_and_every_fragment_leads_somewhere(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    assert all(image.get("alt") or image.get("aria-label") or image.get("aria-hidden") for image in page.images)


def test_every_number_of_the_summary_is_in_the_page(page):
    summary = plain(realistic_summary())
    rows = [cells for cells in page.cells if cells]
    assert len(rows) == len(summary)
    for cells, expected in zip(rows, summary):
        for cell, column in zip(cells, SUMMARY_COLUMNS, strict=True):
            value = expected[column]
            if isinstance(value, (int, float)):
                assert float(cell) == pytest.approx(value, rel=1e-5)
            else:
                assert cell == ("\u2013" if value is None else value)


def test_the_json_in_the_page_is_the_summary(page):
    uri = next(r for r in page.references if r.startswith("data:application/json"))
    assert json.loads(base64.b64decode(uri.partition(",")[2])) == plain(realistic_summary())


@pytest.mark.slow
def test_sections_without_data_are_left_out():
    full = Page(render(replace(small_record(), checks=[MASKED])))
    sections = {"s0-waterfalls", "s0-curves", "s0-corruptions", "gallery", "mapping", "flags", "checks"}
    assert sections <= set(full.ids)
    page = Page(render(bare_record()))
    assert not sections & set(page.ids)
    assert {"answer", "s0-found", "provenance"} <= set(page.ids)
    assert Page(render(replace(bare_record(), summary=[]))).open == []


def test_budgets_over_decades_are_plain_numbers_beside_zero():
    points = pool([row("reference"), *(row("reference", "pgd_linf", eps, to_wrong=9) for eps in (0.003, 0.02, 0.4))])
    (panel,) = panels(points, attacks=True)
    axes = curves_figure(panel, styles(["reference"]), shared_limits([panel])).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.01", "0.1"]


def test_an_attack_of_strength_zero_is_drawn_at_zero_alone():
    rows = rungless([*rows_under("clean", 0.0, 0.0, 194), *rows_under("pgd_l2", 0.0, 0.0, 194)])
    panel, = panels(pool(rows), attacks=True)
    figure = curves_figure(panel, styles(["reference", "loihi", PCM]), shared_limits([panel]))
    assert {float(x) for line in figure.axes[0].lines[:1] for x in line.get_xdata()} == {0.0}
    assert "budget eps" in figure.axes[0].get_xlabel()


@pytest.mark.slow
def test_a_page_stays_below_three_megabytes():
    """Of as many cells as its table holds, and as many images of 3x32x32, of noise alone, as a run hands to it."""
    rng = np.random.default_rng(0)
    rows = [row(name, attack, eps, to_wrong=30) for attack in ("pgd_l2", "square_l2", "pgd_linf", "fog", "snow")
            for name in ("reference", *(f"crossbar:pcm[age={n}d,adc_bits=6]" for n in range(6)))
            for eps in range(1, MOST_ROWS // 35 + 1)]
    images = [GalleryItem(one["machine"], one["threat"], n, 3, *rng.random((2, 3, 32, 32)), 3, 4, 3)
              for n, one in enumerate(rows[:(GALLERY_BYTES + BESIDE_BYTES) // (3 * 3072)])]
    html = render(replace(bare_record(), summary=rows, gallery=images))
    assert len(rows) == MOST_ROWS
    assert len(images) > 50
    assert len(html.encode()) < 3e6


def test_more_cells_than_the_page_holds_stand_in_their_file(monkeypatch):
    monkeypatch.setattr(page_module, "MOST_ROWS", 1)
    page = Page(render(bare_record()))
    assert not any(page.cells)
    assert "summary.json, beside this page, has all 2 of them" in page.text


def test_flags_stand_above_the_answer():
    html = render(replace(bare_record(), checks=[MASKED]))
    assert html.index(str(MASKED.flags[0])) < html.index('id="s0-found"')
    assert "1 trust check violated" in Page(html).text


def test_checks_that_held_are_listed_with_how_often_they_were_made():
    held = [Verdict(name, None, "larger budgets never help", 5, 64, ()) for name in ("reference", "loihi")]
    page = Page(render(replace(bare_record(), checks=[MASKED, *held])))
    assert "no black box is stronger 1 4 11 1" in page.text
    assert "larger budgets never help 2 10 64 0" in page.text
    assert "flags" not in Page(render(replace(bare_record(), checks=held))).ids


def test_text_from_outside_is_escaped():
    name = "<b>x & 'y' $z$"
    record = replace(small_record(), title=name, command=name, notes=[name],
                     checks=[Verdict(name, None, name, 1, 8, (name,))],
                     summary=[{**r, "model": name, "machine": r["machine"].replace("loihi", name)}
                              for r in small_record().summary],
                     waterfalls={name: [("reference", name), (f"{name}:weights", name), (name, name)]})
    html = render(record)
    assert "<b>" not in html
    assert Page(html).text.count("<b>x & 'y' $z$") > 20


def test_models_are_never_pooled_together():
    summary = bare_record().summary
    page = Page(render(replace(bare_record(), summary=summary + [{**r, "model": "other"} for r in summary])))
    assert {"s0-found", "s1-found"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="file"):
        write_report(tmp_path / "file", replace(small_record(), summary=[], gallery=[]))


flips = st.tuples(st.integers(0, 40), st.integers(0, 6))


@few
@given(st.lists(flips, min_size=1, max_size=6), st.lists(st.lists(flips, min_size=3, max_size=3), max_size=3))
def test_the_changes_of_a_waterfall_add_up_to_the_whole_gap(single, chips):
    rows = [row("reference")] + [row(f"m{k}", to_wrong=a, to_right=b) for k, (a, b) in enumerate(single)]
    for k, flips_of_chips in enumerate(chips):
        rows += [row(f"c{k}", chip=c, to_wrong=a, to_right=b) for c, (a, b) in enumerate(flips_of_chips)]
    points = pool(rows)
    rungs = [(name, f"cause {name}") for name, *_ in points]
    steps = waterfall(rungs, points, CLEAN)
    total = steps[-1].point.accuracy.value - steps[0].point.accuracy.value
    assert sum(step.change.value for step in steps[1:]) == pytest.approx(total, abs=1e-12)
    assert all(s.change.low - 1e-9 <= s.change.value <= s.change.high + 1e-9 for s in steps[1:])


def test_the_waterfall_plots_the_changes_it_computes():
    points = pool(realistic_summary())
    ladder = next(fall for fall in ladders(points, WATERFALLS) if fall.target == PCM)
    figure = waterfall_figure(ladder, styles(["reference", PCM])[PCM])
    bars = list(figure.axes[0].patches)
    assert [bar.get_width() for bar in bars] == pytest.approx([100 * abs(s.change.value) for s in ladder.steps[1:]])
    left = 100 * ladder.steps[0].point.accuracy.value
    assert bars[0].get_x() + bars[0].get_width() == pytest.approx(left)
    labels = [float(t.get_text().replace("\u2212", "-")) for t in figure.axes[0].texts if t.get_weight() == "bold"]
    assert labels == pytest.approx([100 * s.change.value for s in ladder.steps[1:]], abs=0.0501)


def test_a_waterfall_needs_every_rung():
    points = pool([r for r in realistic_summary() if r["machine"] != PCM + "/aged"])
    assert {fall.target for fall in ladders(points, WATERFALLS)} == {"loihi"}


def test_waterfalls_cover_every_threat_with_all_rungs_clean_first():
    found = [(f.target, str(f.threat)) for f in ladders(pool(realistic_summary()), WATERFALLS)]
    assert found == [("loihi", "clean"), (PCM, "clean"), ("loihi", "pgd_l2@0.5"), (PCM, "pgd_l2@0.5")]


def test_a_waterfall_of_transferred_images_starts_from_the_attack_that_made_them():
    transfer = Threat("pgd_l2", 0.5, "reference")
    transferred = [r for r in rows_under(transfer.name, 0.5, 0.2, 90) if r["machine"] != "reference"]
    points = pool([*transferred, row("reference", "pgd_l2", 0.5, reference_right=90)])
    shown = ladders(points, WATERFALLS)
    assert [(f.target, f.threat) for f in shown] == [("loihi", transfer), (PCM, transfer)]
    assert shown[0].steps[0].point.accuracy.value == 90 / N
    assert all(machine in ("reference", "loihi", PCM) for machine, *_ in without_rungs(points, shown))


def test_waterfalls_show_each_threat_where_the_reference_keeps_half():
    summary = rows_under("clean", 0.0, 0.0, 194) + rows_under("contrast", 5.0, 0.5, 150) + rows_under(
        "contrast", 1.0, 0.1, 190)
    shown = telling(ladders(pool(summary), WATERFALLS), 194 / N)
    assert [(f.target, str(f.threat)) for f in shown] == [
        ("loihi", "clean"), (PCM, "clean"), ("loihi", "contrast@5"), (PCM, "contrast@5")]


def test_the_sentence_names_the_largest_cause():
    ladder = next(f for f in ladders(pool(realistic_summary()), WATERFALLS) if f.target == PCM)
    worst = min(ladder.steps[1:], key=lambda s: s.change.value)
    assert worst.cause == "programming noise"
    cost = f"{-100 * worst.change.value:.1f} points ["
    assert f"the largest cause is programming noise, which costs {cost}" in largest_loss(ladder)


def hull(*intervals):
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def test_intervals_hold_the_images_and_where_there_are_chips_the_chips_too():
    points = pool(realistic_summary())
    chips = [r["accuracy"] for r in realistic_summary() if r["machine"] == PCM and r["threat"] == CLEAN]
    pooled, single = points[PCM, CLEAN].accuracy, points["loihi", CLEAN].accuracy
    expected = hull(student(chips), wilson(round(np.mean(chips) * N), N))
    assert (pooled.low, pooled.high) == pytest.approx(expected)
    scattered = pool([row("c", chip=k, to_wrong=40 * k) for k in range(3)])["c", CLEAN].accuracy
    assert (scattered.low, scattered.high) == pytest.approx((max(0, student([.97, .77, .57]).low), 1.0))
    assert pooled.value == pytest.approx(np.mean(chips))
    assert (single.low, single.high) == pytest.approx(wilson(round(single.value * N), N))
    one_chip = pool([row(PCM, chip=3, to_wrong=4)])[PCM, CLEAN]
    assert (one_chip.accuracy.low, one_chip.accuracy.high) == pytest.approx(wilson(190, N))
    assert one_chip.p_value == mcnemar(4, 0)


def test_one_chip_reported_twice_is_refused():
    with pytest.raises(ValueError, match="one row a cell"):
        pool([row(PCM, chip=1), row(PCM, chip=1)])


def test_a_change_pairs_chips_and_images_and_widens_where_it_cannot():
    reference, weights = (pool([r])["m", CLEAN] for r in (row("m"), row("m", to_wrong=5, to_right=1)))
    exact = change(reference, weights)
    assert (exact.low, exact.high) == pytest.approx(paired_interval(5, 1, N))
    chips = [pool([row("c", chip=k, to_wrong=a) for k, a in enumerate(lost)])["c", CLEAN]
             for lost in ([3, 9, 6], [5, 11, 8])]
    steady = change(*chips)
    assert steady.value == pytest.approx(-2 / N)
    assert steady.low < -2 / N < steady.high, "chips that agree say nothing of other images"
    before, after = (pool([row("c", chip=k, to_wrong=a) for k, a in enumerate(lost)])["c", CLEAN]
                     for lost in ([0, 0, 0], [0, 60, 120]))
    scattered, by_chip = change(before, after), student([0, -60 / N, -120 / N])
    assert (scattered.low, scattered.high) == pytest.approx((by_chip.low, by_chip.high))
    own, transfer = Threat("pgd_l2", 0.5), Threat("pgd_l2", 0.5, "r")
    wide, narrow = (change(*(pool([row("m", threat.name, 0.5, to_wrong=a)])["m", threat] for a in (0, 5)))
                    for threat in (own, transfer))
    assert wide.value == narrow.value
    assert wide.high - wide.low > narrow.high - narrow.low


def test_adaptive_attacks_and_transfers_share_a_panel_from_the_clean_point():
    points = without_rungs(pool(realistic_summary()), ladders(pool(realistic_summary()), WATERFALLS))
    panel = panels(points, attacks=True)[0]
    assert panel.name == "pgd_l2"
    assert [(line.machine, line.crafted_on) for line in panel.lines] == [
        ("reference", None), ("loihi", None), ("loihi", "reference"), (PCM, None), (PCM, "reference")]
    assert all([p.strength for p in line.points] == [0, 0.25, 0.5, 1.0] for line in panel.lines)
    assert [p.name for p in panels(points, attacks=False)] == ["contrast", "gaussian_noise", "jpeg_compression"]
    low, high = shared_limits(panels(points, attacks=True))
    assert low < min(100 * p.accuracy.low for line in panel.lines for p in line.points)
    assert high > 97


def test_transfers_stand_beside_their_adaptive_form():
    names = [t.name for t in threats(pool(realistic_summary())) if t.strength == 0.5]
    assert names == ["pgd_l2", "transfer:reference:pgd_l2"]


def test_findings_refuse_to_flatter():
    rows = [row("reference"), row("loihi", to_wrong=1), row("loihi", "transfer:reference:pgd_l2", 0.5, to_wrong=50),
            row("loihi", "pgd_l2", 0.5, to_wrong=80)]
    refused = re.compile(r"15\.0 points \[\d.*\] that a transferred attack misses are not robustness")
    assert any(map(refused.search, findings(pool(rows))))
    rows[-1] = row("loihi", "pgd_l2", 0.5, to_wrong=20)
    assert any("no evidence of robustness" in s for s in findings(pool(rows)))


def test_attackers_on_unequal_samples_are_told_apart_by_their_interval_alone():
    transfer = row("loihi", "transfer:reference:pgd_l2", 0.5, n=10, reference_right=6)
    for right, words in ((6, "this sample cannot tell: loihi under pgd_l2 at 0.5"), (0, "a transferred attack misses")):
        rows = [row("reference"), row("loihi"), transfer, row("loihi", "pgd_l2", 0.5, n=9, reference_right=right)]
        assert any(words in s for s in findings(pool(rows))), findings(pool(rows))


def test_what_a_sample_cannot_tell_apart_is_said_once_for_all():
    alike = [row("reference"), *(row(f"m{n}", to_wrong=1) for n in range(5))]
    (sentence,) = findings(pool(alike))
    assert all(f"m{n} (" in sentence for n in range(5))
    clear, *rest = findings(pool([*alike, row("broken", to_wrong=90)]))
    assert clear.startswith("broken classifies 52.0 % of clean images: \u221245.0 points [")
    assert rest == [sentence]


def test_a_machine_keeps_its_colour():
    look = styles(["reference", "loihi", PCM])
    assert len({style.colour for style in look.values()}) == 3
    assert styles(["loihi", "reference", PCM]) == look


@few
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_images_survive_the_data_uri(channels, seed):
    image = np.random.default_rng(seed).random((channels, 5, 7))
    decoded = np.asarray(Image.open(BytesIO(base64.b64decode(png(image).partition(",")[2]))), dtype=float) / 255
    expected = image.transpose(1, 2, 0) if channels == 3 else image.mean(0)
    assert np.abs(decoded - expected).max() <= 1 / 255


@few
@given(st.floats(1e-4, 0.9), st.integers(0, 2**32))
def test_the_drawn_difference_is_the_difference(size, seed):
    rng = np.random.default_rng(seed)
    clean, adversarial = rng.random((1, 4, 4)), rng.random((1, 4, 4))
    adversarial = clean + size * (adversarial - clean)
    drawn, factor = amplified(clean, adversarial)
    assert (drawn - 0.5) / factor == pytest.approx(adversarial - clean, abs=1e-12)
    assert factor == 1 or (drawn.min() >= 0 and drawn.max() <= 1)


def test_templates_style_and_script_ship_beside_the_code():
    import ep_hw.report

    folder = Path(ep_hw.report.__file__).parent
    assert {path.name for path in folder.glob("*.*ml")} == {"evaluation.html", "frame.html", "parts.html"}
    assert all((folder / name).is_file() for name in ("page.css", "page.js"))


def test_classes_go_by_their_names_and_machines_by_theirs():
    names = tuple(f"kind {n} <b>" for n in range(9))
    page = render(replace(small_record(), class_names=names, names={"loihi": 'loihi[chips=2] "whole"'}))
    assert "kind 3 &lt;b&gt;, image 1400" in page
    assert ">kind 8 &lt;b&gt;</span>" in page
    assert '<span title="loihi[chips=2] &#34;whole&#34;">loihi</span>' in page
