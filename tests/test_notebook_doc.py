"""The notebooks of the site run as they stand, and hold no outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"
NAMES = sorted(path.stem for path in DOCS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """A notebook's code cells, run once in an empty folder by this interpreter, and the folder."""
    known = {}

    def run(name):
        if name not in known:
            book = nbformat.read(DOCS / f"{name}.ipynb", as_version=4)
            folder = tmp_path_factory.mktemp(name)
            NotebookClient(book, timeout=300, kernel_name="python3",
                           resources={"metadata": {"path": str(folder)}}).execute()
            known[name] = [cell for cell in book.cells if cell.cell_type == "code"], folder
        return known[name]

    return run


def shown(cell, kind):
    return "".join(output["data"].get(kind, "") for output in cell.outputs if "data" in output)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_without_outputs(name):
    cells = [cell for cell in json.loads((DOCS / f"{name}.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_cell_complains(execute, name):
    cells, _ = execute(name)
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


@pytest.mark.slow
def test_the_first_answer_shows_what_it_is_about(execute):
    cells, folder = execute("first_answer")
    answer = shown(cells[0], "text/html")
    assert "<progress value=" in answer
    assert 'title="crossbar:pcm/aged[age=1y]">old</th>' in answer
    assert "Estimate(value=" in shown(cells[1], "text/plain")
    assert all(shown(cell, "image/png") for cell in cells[3:5])
    assert "Estimate(value=" in shown(cells[5], "text/plain")
    assert "crossbar:pcm" in shown(cells[6], "text/html")
    assert (folder / "first-answer" / "report.html").is_file()


@pytest.mark.slow
def test_devices_and_a_waterfall_are_shown(execute):
    cells, folder = execute("devices_waterfall")
    assert all(shown(cell, "image/png") for cell in cells[:3])
    assert "Estimate(value=" in shown(cells[3], "text/plain")
    said = "".join(output["text"] for output in cells[4].outputs if output.get("name") == "stdout")
    assert "crossbar:reram_wan[stuck_on=0.03,stuck_off=0.1] diverge" in said
    assert (folder / "waterfall" / "report.html").is_file()
