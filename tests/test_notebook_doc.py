"""docs/first_answer.ipynb runs as it stands, and holds no outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FILE = Path(__file__).parents[1] / "docs" / "first_answer.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Its code cells, run in an empty folder by this interpreter."""
    book = nbformat.read(FILE, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in book.cells if cell.cell_type == "code"], folder


def shown(cell, kind):
    return "".join(output["data"].get(kind, "") for output in cell.outputs if "data" in output)


def test_it_is_kept_without_outputs():
    cells = [cell for cell in json.loads(FILE.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_is_about(executed):
    cells, folder = executed
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    answer = shown(cells[0], "text/html")
    assert "<progress value=" in answer
    assert 'title="crossbar:pcm/aged[age=1y]">old</th>' in answer
    assert "Estimate(value=" in shown(cells[1], "text/plain")
    assert all(shown(cell, "image/png") for cell in cells[3:5])
    assert "Estimate(value=" in shown(cells[5], "text/plain")
    assert "crossbar:pcm" in shown(cells[6], "text/html")
    assert (folder / "first-answer" / "report.html").is_file()
