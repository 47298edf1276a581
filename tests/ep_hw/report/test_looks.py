"""What pages look like, beside stored pictures of the same records: colours, charts and tables are where they were.

Pages are shown in fonts that matplotlib ships, the same everywhere. Pictures are stored at a quarter of their size and
compared as tiles of `TILE` pixels, whose mean colours may differ by `LEVELS` of 255 in each channel, and by more in
`MOST` tiles: how a machine smooths letters and draws a checkbox is no difference.

    EP_HW_STORE_PICTURES=1 uv run pytest tests/ep_hw/report/test_looks.py     # a look that is meant to change
"""

import base64
import io
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from browser import browser, found
from PIL import Image
from records import realistic_record, realistic_story

from ep_hw.report import page as page_module
from ep_hw.report.model_results import results_of
from ep_hw.report.story import told

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not found(), reason="no Chromium (set EP_HW_CHROMIUM)")]
STORED = Path(__file__).parent / "looks"
TILE, STORED_AT = 16, 4   # pixels
LEVELS, MOST = 20, 3
HEIGHTS = {"report": 900, "story": 2000}
SHOWN = [("report", 420, "light"), ("report", 1280, "light"), ("report", 1920, "light"), ("report", 1280, "dark"),
         ("story", 1280, "light")]
FACES = {"Shown": ("DejaVuSans.ttf", 400), "Shown bold": ("DejaVuSans-Bold.ttf", 700),
         "Shown fixed": ("DejaVuSansMono.ttf", 400)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder, record = tmp_path_factory.mktemp("pages"), realistic_record()
    made = {"report": page_module.render(record, results_of(record)), "story": told(realistic_story("crossbar:pcm"))}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text.replace("</style>", f"{fonts()}</style>", 1))
    return folder


def fonts():
    """Style that shows everything in the fonts of matplotlib."""
    folder = resources.files("matplotlib") / "mpl-data/fonts/ttf"
    faces = "".join(
        f"@font-face {{ font-family: {'Fixed' if 'fixed' in name else 'Shown'}; font-weight: {weight}; "
        f"src: url(data:font/ttf;base64,{base64.b64encode((folder / file).read_bytes()).decode()}); }}"
        for name, (file, weight) in FACES.items())
    return faces + "* { font-family: Shown !important; } code, pre { font-family: Fixed !important; }"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(found(), tmp_path_factory.mktemp("profile")) as one:
        yield one


def taken(tab, pages, name, width, scheme, change="0"):
    """A picture of a page at the size of the stored ones, after a change to it."""
    tab.open(pages / f"{name}.html", width, HEIGHTS[name], scheme)
    tab.run(f"document.fonts.ready.then(() => {{ {change}; }})")
    with Image.open(io.BytesIO(tab.picture())) as picture:
        return picture.convert("RGB").reduce(STORED_AT)


def stored(name, width, scheme):
    with Image.open(STORED / f"{name}-{width}-{scheme}.png") as picture:
        return picture.convert("RGB")


def other_tiles(first, second):
    """(x, y) in pixels of the tiles whose mean colour differs by more than `LEVELS` in any channel."""
    assert first.size == second.size
    tiles = [np.asarray(one.reduce(TILE // STORED_AT), float) for one in (first, second)]
    apart = np.abs(tiles[0] - tiles[1]).max(-1) > LEVELS
    return [(TILE * int(x), TILE * int(y)) for y, x in zip(*np.nonzero(apart))]


@pytest.mark.parametrize(("name", "width", "scheme"), SHOWN)
def test_pages_look_as_they_did(tab, pages, tmp_path, name, width, scheme):
    picture = taken(tab, pages, name, width, scheme)
    if os.environ.get("EP_HW_STORE_PICTURES"):
        STORED.mkdir(exist_ok=True)
        picture.save(STORED / f"{name}-{width}-{scheme}.png", optimize=True)
    picture.save(tmp_path / "now.png")
    there = other_tiles(stored(name, width, scheme), picture)
    assert len(there) <= MOST, f"{tmp_path / 'now.png'} looks otherwise at {there[:9]}; see the module"


@pytest.mark.parametrize("change", [
    "document.documentElement.style.setProperty('--c1', '#b5558f')",
    "document.querySelector('.chart').remove()",
    "document.querySelector('.mapping').style.cssText = 'display: block; width: 12rem; overflow: hidden'",
    "document.querySelector('.answer').style.fontSize = '1rem'"],
    ids=["another colour", "a chart is missing", "a table is clipped", "smaller letters"])
def test_what_looks_otherwise_is_seen(tab, pages, change):
    name = "story" if "mapping" in change else "report"
    there = other_tiles(stored(name, 1280, "light"), taken(tab, pages, name, 1280, "light", change))
    assert len(there) > MOST


def test_letters_that_are_smoothed_otherwise_are_no_difference(tab, pages):
    smoothed = "document.body.style.cssText = 'text-rendering: geometricPrecision; -webkit-text-stroke: .15px'"
    there = other_tiles(stored("report", 1280, "light"), taken(tab, pages, "report", 1280, "light", smoothed))
    assert len(there) <= MOST


def test_stored_pictures_are_those_that_are_compared_and_small():
    files = {path.name: path.stat().st_size for path in STORED.iterdir()}
    assert set(files) == {f"{name}-{width}-{scheme}.png" for name, width, scheme in SHOWN}
    assert sum(files.values()) < 600_000
