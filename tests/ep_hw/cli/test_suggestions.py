"""Names with a mistake in them: whatever they are of, the refusal suggests the name that was meant."""

import re
import string
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ep_hw
import mapping
from ep_hw.data import load_data
from ep_hw.data.registry import DATA_SETS
from ep_hw.evaluation.suites import SUITES, suite
from ep_hw.learning.training.recipe import load_recipe, recipes
from ep_hw.measurements.devices import measured_presets
from ep_hw.networks.checkpoint import model_names
from ep_hw.networks.exchange import load_map
from ep_hw.networks.exchange.keys import PACKAGED
from ep_hw.studies.study import load_study, studies
from ep_hw.threats import parse_threat
from ep_hw.threats.attacks.gradients import parse_gradient
from ep_hw.threats.registry import ATTACKS, CORRUPTIONS
from mapping.crossbar.presets import PRESETS
from mapping.crossbar.writing import WRITINGS, parse_writing
from mapping.errors import Refusal
from mapping.loihi.integers import LOSSES
from mapping.names import FEW, nearest

DOORS = {   # what is named -> names, and what refuses another
    "machine": (mapping.REGISTRY, mapping.parse),
    "option": (mapping.parse("crossbar:pcm").options, lambda name: mapping.parse(f"crossbar:pcm[{name}=1]")),
    "option of Loihi": (mapping.parse("lava").options, lambda name: mapping.parse(f"lava[{name}=1]")),
    "attack": (ATTACKS, lambda name: parse_threat(f"{name}@0.5")),
    "transferred attack": (ATTACKS, lambda name: parse_threat(f"transfer:reference:{name}@0.5")),
    "machine of a transfer": (mapping.REGISTRY, lambda name: parse_threat(f"transfer:{name}:pgd_l2@0.5")),
    "corruption": (CORRUPTIONS, lambda name: parse_threat(f"{name}@3")),
    "published corruption": (CORRUPTIONS, lambda name: parse_threat(f"official:{name}@3")),
    "gradient": (("bptt", "apgd", "adjoint", "ep"), lambda name: parse_gradient(f"{name}@10")),
    "loss of a gradient": (LOSSES, lambda name: parse_gradient(f"bptt@10:{name}")),
    "model": (model_names(), ep_hw.load), "recipe": (recipes(), load_recipe), "study": (studies(), load_study),
    "suite": (SUITES, suite), "data set": (DATA_SETS, lambda name: load_data(name, "test")),
    "split": (("train", "validation", "test"), lambda name: load_data("digits", name)),
    "device": ([name for name, preset in PRESETS.items() if preset.constants], lambda name: measured_presets([name])),
    "write model": (WRITINGS, parse_writing), "key map": (PACKAGED, lambda name: load_map(name, {}))}
LETTERS = string.ascii_lowercase + string.digits + "_"


@cache
def edits(a: str, b: str) -> int:
    """Characters to insert, delete, replace or swap with their neighbour, the fewest that turn one into the other."""
    if not a or not b:
        return len(a) + len(b)
    swapped = edits(a[2:], b[2:]) + 1 if len(b) > 1 and a[:2] == b[1::-1] else len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]), swapped)


@st.composite
def mistakes(draw, names):
    """A name, and the same with one mistake in it that makes it no other's."""
    name = draw(st.sampled_from(sorted(names)))
    place, letter = draw(st.integers(0, len(name) - 1)), draw(st.sampled_from(LETTERS))
    before, this, after = name[:place], name[place], name[place + 1:]
    typed = draw(st.sampled_from([before + after, before + letter + this + after, before + letter + after,
                                  before + after[:1] + this + after[1:]]))
    return name, typed


def suggested(refuse, typed) -> list[str]:
    with pytest.raises(Refusal) as caught:
        refuse(typed)
    found = re.search(r"did you mean ([^?]*)\?", str(caught.value))
    assert found, caught.value
    return found[1].split(" or ")


@pytest.mark.parametrize("what", DOORS)
@settings(max_examples=40)
@given(data=st.data())
def test_one_mistake_in_a_name_is_seen_whatever_it_names(what, data):
    names, refuse = DOORS[what]
    name, typed = data.draw(mistakes(names).filter(lambda pair: pair[1] and pair[1] not in (*names, "clean")))
    near = suggested(refuse, typed)
    assert name in near or (len(near) == FEW and max(edits(typed, other) for other in near) <= 2)


@pytest.mark.parametrize(("refuse", "typed", "meant"), [
    (ep_hw.load, "digit", ["digits"]), (mapping.parse, "lohi", ["loihi"]), (mapping.parse, "LOIHI", ["loihi"]),
    (parse_threat, "pgd@0.5", ["pgd_l2", "pgd_linf"]), (mapping.parse, "sonos", ["crossbar:sonos"]),
    (mapping.parse, "crossbar:pcm[adc_bit=6]", ["adc_bits"])])
def test_mistakes_that_were_made(refuse, typed, meant):
    assert suggested(refuse, typed)[:len(meant)] == meant


def test_many_names_give_way_to_those_meant_and_few_stay():
    with pytest.raises(Refusal, match=r"allowed: loihi, and \d\d others; remedy: did you mean loihi\? run 'ep-hw mach"):
        mapping.parse("lohi")
    with pytest.raises(Refusal, match=r"allowed: paper, quick, cifar-c, lammie; remedy: did you mean paper\?"):
        suite("papers")


def test_what_is_like_nothing_is_told_all_names():
    for typed in ("spinnaker", "x" * 10**6, ""):
        assert nearest(typed, mapping.REGISTRY) == []
        with pytest.raises(Refusal, match="allowed: reference, loihi"):
            mapping.parse(typed)
