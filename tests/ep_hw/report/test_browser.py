"""The page in a real browser: nothing fails, is clipped or overlaps at three widths; hover, keys and sorting work."""

import re
from dataclasses import replace

import numpy as np
import pytest
from browser import browser, found
from PIL import Image
from records import MASKED, WATERFALLS, named_bars, realistic_record, realistic_story, realistic_summary

from ep_hw.report import page as page_module
from ep_hw.report.frame import Drawn
from ep_hw.report.model_results import results_of
from ep_hw.report.story import told

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not found(), reason="no Chromium (set EP_HW_CHROMIUM)")]
WIDTHS = (420, 1280, 1920)
UNFOLD = "document.querySelectorAll('details').forEach(one => one.open = true)"
CLIPPED = """[...document.querySelectorAll('main *, nav')].filter(one => {
  const box = one.getBoundingClientRect(), scrolls = one.closest('.scroll, .contents, .markers, pre');
  return box.width && !scrolls && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(one => one.tagName + ' ' + one.className + ' ' + one.textContent.trim().slice(0, 40))"""
HIDDEN = """[...document.querySelectorAll(
  '.name, .written, h1, h2, h3, dd, dt, figcaption, .legend li, label, .answer')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != 'inline' && one.clientWidth)
  .map(one => one.className + ' ' + one.textContent.slice(0, 60))"""
SCROLLED_MAPS = """[...document.querySelectorAll('.scroll > .heat')].filter(
  one => one.offsetWidth > one.parentElement.clientWidth).length"""
STRAY = """[...document.querySelectorAll('.tick.aslant')].filter(one => {
  const box = one.getBoundingClientRect(), drawn = one.closest('.plot').getBoundingClientRect();
  return box.top < drawn.bottom - 1 || box.bottom > one.closest('.chart').getBoundingClientRect().bottom + 1;
}).map(one => one.textContent)"""
OVERLAPPING = """(() => {
  const found = [];
  document.querySelectorAll('.strip, .first, .contents ul, .facts, .legend, .plot').forEach(parent => {
    const boxes = [...parent.querySelectorAll(':scope > *, :scope > text.tick')].filter(one =>
      !parent.matches('.plot') || one.matches('text.tick')).map(one => [one, one.getBoundingClientRect()]);
    boxes.forEach(([a, x], i) => boxes.slice(i + 1).forEach(([b, y]) => {
      if (Math.min(x.right, y.right) - Math.max(x.left, y.left) > 1
          && Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top) > 1)
        found.push(parent.className.baseVal ?? parent.className, a.textContent, b.textContent);
    }));
  });
  return found;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files of the pages that are looked at."""
    folder = tmp_path_factory.mktemp("pages")
    long = "crossbar:pcm[age=1d,adc_bits=6,tile=128,terminals=opposite]"
    renamed = [{**one, "machine": one["machine"].replace("loihi", long)} for one in realistic_summary()]
    made = {"whole": replace(realistic_record(), checks=[MASKED]),
            "long": replace(realistic_record(), summary=renamed, waterfalls={
                long: [(name.replace("loihi", long), cause) for name, cause in WATERFALLS["loihi"]]})}
    for name, record in made.items():
        (folder / f"{name}.html").write_text(page_module.render(record, results_of(record)))
    story = realistic_story(long)
    (folder / "story.html").write_text(told(replace(story, pictures=[*story.pictures, Drawn("bars", named_bars())])))
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(found(), tmp_path_factory.mktemp("profile")) as one:
        yield one


def middle(tab, query, number=0):
    """Where an element's middle is, after it was scrolled to."""
    tab.run(f"document.querySelectorAll({query!r})[{number}].scrollIntoView({{block: 'center'}})")
    return tab.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
                   f"(document.querySelectorAll({query!r})[{number}].getBoundingClientRect())")


@pytest.mark.parametrize("name", ["whole", "long", "story"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_fails_is_clipped_or_overlaps(tab, pages, name, width):
    tab.open(pages / f"{name}.html", width)
    tab.run(UNFOLD)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(CLIPPED) == []
    assert tab.run(HIDDEN) == []
    assert tab.run(OVERLAPPING) == []
    assert tab.run(STRAY) == []
    assert tab.run(SCROLLED_MAPS) == 0
    assert tab.errors == []


def test_a_planted_fault_is_seen(tab, pages):
    tab.open(pages / "whole.html", 420)
    tab.run("document.querySelector('.answer').style.whiteSpace = 'nowrap'")
    assert tab.run("document.documentElement.scrollWidth") > 420 or tab.run(HIDDEN)
    tab.run("document.querySelector('.strip .written').style.gridColumn = 1")
    assert tab.run(OVERLAPPING)
    tab.run("setTimeout(() => planted(), 0)")
    tab.run("new Promise(done => setTimeout(done, 20))")
    assert tab.errors
    tab.open(pages / "story.html", 420)
    tab.run("document.querySelectorAll('.heat td').forEach(one => one.style.minWidth = '9rem')")
    assert tab.run(SCROLLED_MAPS)
    tab.run("document.querySelectorAll('.tick.aslant').forEach(one => one.style.transformBox = 'border-box')")
    assert tab.run(STRAY)


def test_a_pointer_reads_the_numbers_and_a_click_shows_the_images(tab, pages):
    tab.open(pages / "whole.html", 1280)
    tab.move(*middle(tab, ".rows .mark", 2))
    told = tab.run("document.getElementById('tip').textContent")
    assert re.fullmatch(r"loihi, clean: 96\.5 % \[.*\], 200 images", told)
    tab.run("document.getElementById('s0-found').open = true")
    tab.click(*middle(tab, "a[href^='#images-']"))
    assert tab.run("document.getElementById('viewer').open")
    assert tab.run("document.querySelectorAll('#viewer .shot').length") >= 1
    tab.press("Escape")
    assert not tab.run("document.getElementById('viewer').open")


def test_the_keyboard_walks_through_a_chart(tab, pages):
    tab.open(pages / "whole.html", 1280)
    tab.run("document.querySelector('.chart').focus()")
    told = []
    for _ in range(2):
        tab.press("ArrowRight")
        told.append(tab.run("document.getElementById('tip').textContent"))
    assert [one.partition(":")[0] for one in told] == ["reference, clean", "reference, pgd_l2 at 0.5"]


def test_tables_sort_by_a_click_and_filter_by_words(tab, pages):
    tab.open(pages / "whole.html", 1280)
    tab.run("document.getElementById('s0-found').open = true")
    column = ("[...document.querySelector('.headline tbody').rows].filter(row => !row.hidden)"
              ".map(row => +row.cells[2].textContent)")
    before = tab.run(column)
    tab.click(*middle(tab, ".headline thead th:nth-child(3) button"))
    assert tab.run(column) == sorted(before) != before
    tab.click(*middle(tab, ".headline thead th:nth-child(3) button"))
    assert tab.run(column) == sorted(before, reverse=True)
    tab.run("(box => { box.value = 'loihi CONTRAST'; box.dispatchEvent(new Event('input')); })"
            "(document.querySelector('.filter'))")
    assert 0 < len(tab.run(column)) < len(before)
    kept = "row => /loihi[^]*contrast/.test(row.textContent)"
    assert tab.run(column) == tab.run(column.replace("row => !row.hidden", kept))


def test_a_machine_and_a_threat_are_switched_off_everywhere(tab, pages):
    tab.open(pages / "whole.html", 1280)
    tab.run(UNFOLD)
    shown = ("[...document.querySelectorAll('[data-%s=\"1\"]')].filter(one => one.getClientRects().length).length")
    for group in ("machine", "threat"):
        assert tab.run(shown % group) > 3
        tab.click(*middle(tab, f".switches input[name={group}][value='1']"))
        assert tab.run(shown % group) == 0
        tab.click(*middle(tab, f".switches input[name={group}][value='1']"))
        assert tab.run(shown % group) > 3


def test_contents_lead_to_sections_and_stay_in_sight(tab, pages):
    tab.open(pages / "whole.html", 420)
    links = tab.run("[...document.querySelectorAll('.contents a')].map(one => one.hash)")
    for link in links:
        tab.run(f"location.hash = {link!r}; new Promise(done => setTimeout(done, 30))")
        assert tab.run(f"document.querySelector({link!r}).open ?? true")
        assert tab.run("document.querySelector('.contents').getBoundingClientRect().top") == 0


def test_dark_and_light_pages_can_be_read_and_print_on_a4(tab, pages, tmp_path):
    def contrast():
        """The least ratio of contrast (WCAG 2.1) of texts to the page, of ink, soft text, links and colours."""
        names = ["paper", "ink", "soft", "link", *(f"c{n}" for n in range(1, 7))]
        spelled = tab.run(f"(s => {names}.map(name => s.getPropertyValue('--' + name).trim()))"
                          "(getComputedStyle(document.documentElement))")
        paper, *others = [luminance(colour) for colour in spelled]
        return [(max(paper, one) + 0.05) / (min(paper, one) + 0.05) for one in others]

    for scheme in ("light", "dark"):
        tab.open(pages / "whole.html", 1280, scheme=scheme)
        assert min(contrast()[:3]) > 4.5
        assert min(contrast()[3:]) > 3
    assert tab.printed().startswith(b"%PDF")


def luminance(colour):
    """Relative luminance of #rrggbb, WCAG 2.1."""
    levels = np.array([int(colour[n:n + 2], 16) for n in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_what_is_drawn_is_where_the_numbers_say(tab, pages, tmp_path):
    """The pixels of the first picture: each filled marker has its colour at its place."""
    tab.open(pages / "whole.html", 1280)
    places = [middle(tab, ".rows:not(.waterfall) .mark:not(.hollow)", n) for n in range(3)]
    (tmp_path / "page.png").write_bytes(tab.picture())
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    for (x, y), colour in zip(places, ((0x1b, 0x1e, 0x23), (0x00, 0x72, 0xb2), (0xc0, 0x7a, 0x00))):
        assert np.abs(pixels[round(y), round(x)] - colour).max() < 12
