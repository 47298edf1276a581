"""docs/lammie.md says what the suite does and what is printed."""

from pathlib import Path

from ep_hw.analysis import lammie
from ep_hw.evaluation.matched_noise import SOURCES
from ep_hw.evaluation.suites import LAMMIE
from ep_hw.networks.checkpoint import packaged_models
from ep_hw.networks.family import noise_trained
from mapping.registry import parse

DOC = (Path(__file__).parents[1] / "docs" / "lammie.md").read_text()


def test_grids_machines_and_sources_are_those_of_the_suite():
    rows = {line.split("`")[1]: line for line in DOC.splitlines() if line.startswith("| `")}
    for grid in LAMMIE.envelope.grids:
        for number in (*grid.strengths, *grid.efforts):
            assert f"{number:g}" in rows[grid.kind], grid
    assert all(f"`{machine}`" in DOC for machine in LAMMIE.machines[1:])
    assert f"chip of `{LAMMIE.machines[-1]}`" in DOC
    options = parse("crossbar:generic").options
    for source, name in SOURCES.items():
        assert source in options
        (row,) = [line for line in DOC.splitlines() if f"| `{source}`," in line]
        assert row.split("|")[1].strip().split(", in")[0] == name.split(", in")[0]


def test_networks_and_printed_numbers_are_those_that_are_used():
    for model in ("digits", "digits-bp-s11"):
        assert f"`{noise_trained(model, packaged_models())}`" in DOC
    printed = [*lammie.ACCURACY.values(), *lammie.DROP.values()]
    assert all(f"{100 * value:.2f}" in DOC for value in printed)
