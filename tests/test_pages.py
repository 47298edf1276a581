"""The site and the README are true: their commands stand, their links lead somewhere, nothing public is left out."""

import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from commands import COMMANDS, ELSEWHERE, PARSED, check, examples_of, lines_of, reason_not_to_run, smaller

import ep_hw
import mapping
import simulators
from ep_hw.cli.application import GROUPS
from ep_hw.evaluation.checks import CHECKS
from ep_hw.networks.checkpoint import packaged_models

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YOURS = ["mine.npz", "slurm.toml"]   # files that only a reader has


def named(page: Path) -> list[str]:
    """Files that a page shows, by the name in their first line."""
    return re.findall(r"```(?:python|toml)\n# (\S+)\n", page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page.read_text())], ids=lambda page: page.name)
def test_every_command_of_a_page_stands(page):
    """Its options are there, and each name in it is known, or was made by a command before it."""
    made = [*YOURS, *named(page), "small.toml", "chip"]
    for arguments in lines_of(page.read_text()):
        if not arguments[0].startswith("-"):
            params = check(arguments, made)
            made += [str(params["out"])] if params.get("out") else ["ep-hw-demo"]
            made += [f"{params['out']}/{params['model']}.{end}" for end in ("pt", "toml") if arguments[0] == "export"]


@pytest.mark.shown
@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page.read_text()) and page.name not in ELSEWHERE],
                         ids=lambda page: page.name)
def test_the_commands_of_a_page_run(ep_hw, tmp_path, page):
    """One after the other in one folder with the page's files, at the sizes of `commands.SMALL`."""
    for name, text in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", page.read_text(), re.DOTALL):
        (tmp_path / name).write_text(text)
    shutil.copy(packaged_models()["digits"], tmp_path / "mine.safetensors")   # as if it were trained
    for arguments in lines_of(page.read_text()):
        if not arguments[0].startswith("-") and not reason_not_to_run(arguments):
            code, out, err = ep_hw(*smaller(arguments))
            assert code == 0, f"{arguments}: {err}"
            assert out


def test_what_is_not_run_is_shown_somewhere():
    """No reason outlives its command."""
    lines = [*(line for page in PAGES for line in lines_of(page.read_text())),
             *(line for name in COMMANDS for line in examples_of(name))]
    assert all(any(" ".join(line).startswith(start) for line in lines) for start in PARSED)
    assert {*ELSEWHERE} <= {*COMMANDS, *(page.name for page in PAGES)}


def test_the_check_sees_a_command_that_does_not_stand():
    (arguments,) = lines_of("```sh\nuv run ep-hw evaluate digits --on prog   # never compiled\n```")
    with pytest.raises(mapping.Refusal, match="prog"):
        check(arguments, YOURS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_are_there_with_the_equations_it_cites(page):
    """`room/module.py`, (3) names an equation of that module."""
    for path, cited in re.findall(r"`((?:ep_hw|mapping|simulators)/[\w/]+\.\w+)`(?:,\s\((\d+)\))?", page.read_text()):
        assert (ROOT / path).is_file(), path
        assert f"({cited})" in (ROOT / path).read_text() or not cited, f"{path} has no ({cited})"


def test_the_page_on_trust_lists_every_check_on_rows():
    listed = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "trust.md").read_text(), re.MULTILINE)
    assert listed[2:] == list(CHECKS)


def test_the_result_of_the_readme_is_one_of_the_results():
    """Row by row; the page has more columns and more rows."""
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md"))
    rows = [line.rstrip("| ") for line in readme.splitlines() if re.search(r"\| \d+\.\d \|", line)]
    assert len(rows) >= 4
    assert not [row for row in rows if f"\n{row} |" not in page]


def test_every_page_has_its_place():
    """In the table of contents of the site, as have the notebooks."""
    index = (ROOT / "docs" / "index.md").read_text()
    places = [name for toc in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
              for name in toc.splitlines() if re.fullmatch(r"\w+", name)]
    there = {path.stem for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")} - {"index"}
    assert sorted(places) == sorted(there)


def test_the_page_of_commands_shows_all_in_their_groups():
    page = (ROOT / "docs" / "commands.md").read_text()
    groups = {title: re.findall(r"```\{help\} (\S+)\n", text) for title, text in
              re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)}
    assert {title: tuple(names) for title, names in groups.items()} == GROUPS


def test_every_picture_is_one_that_a_script_makes():
    spec = spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    spec.loader.exec_module(script := module_from_spec(spec))
    there = {path.name for path in script.PLACE.iterdir()}
    shown = {name for page in PAGES for name in re.findall(r"pictures/([\w.]+)\)", page.read_text())}
    assert there == shown == {script.SCREEN, script.MEASURED, *(f"{name}.svg" for name in script.PICTURES)}


@pytest.mark.parametrize("package", [ep_hw, mapping, simulators], ids=lambda package: package.__name__)
def test_the_interface_leaves_out_no_public_name(package):
    page = (ROOT / "docs" / "api.md").read_text()
    shown = set(re.findall(rf"\.\. auto\w+:: {package.__name__}\.(\w+)$", page, re.MULTILINE))
    assert shown | {"REGISTRY", "Refusal", "__version__"} == {*package.__all__} | {"REGISTRY", "Refusal", "__version__"}
    assert all(hasattr(package, name) for name in shown)


def test_a_chain_of_layers_compiles_as_the_page_says(capsys):
    (code,) = re.findall(r"```python\n(# own_chain.py\n.*?)```", (ROOT / "docs" / "networks.md").read_text(), re.DOTALL)
    exec(compile(code, "own_chain.py", "exec"), {})
    assert capsys.readouterr().out.strip()
