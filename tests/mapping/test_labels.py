"""Labels of machines: they name what is shown and decide nothing; short names tell machines apart."""

import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network

import mapping
from mapping import Refusal
from mapping.labels import labels_of, shown_names, split_label
from mapping.registry import REGISTRY, parse

MACHINES = ["loihi", "crossbar:pcm[age=1d,adc_bits=6]", "crossbar:pcm/aged[tile=64]", "reference[steps=7]",
            "lava:float"]
LABELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,20}[A-Za-z0-9_]", fullmatch=True).filter(
    lambda label: label not in REGISTRY)


@settings(max_examples=25)
@given(LABELS, st.sampled_from(MACHINES))
def test_a_label_names_a_target_and_is_no_part_of_it(label, machine):
    named, plain = parse(f"{label}={machine}"), parse(machine)
    assert (named.label, named.shown, plain.label, plain.shown) == (label, label, "", machine)
    assert (named, hash(named), str(named), repr(named)) == (plain, hash(plain), str(plain), repr(plain))
    assert parse(str(named)).label == ""
    assert named.having(steps=9).label == label


def test_a_label_is_no_part_of_a_program(tmp_path):
    graph = small_network(3).lower()
    named, plain = (mapping.compile(graph, text) for text in ("mine=loihi", "loihi"))
    assert named.digest() == plain.digest()
    assert named.files() == plain.files()
    assert [table.title.replace("mine", "loihi") for table in named.tables()] == [t.title for t in plain.tables()]


WRONG = {"=loihi": "no label", "a b=loihi": "no label", "../a=loihi": "unknown machine", ".a=loihi": "no label",
         "a.=loihi": "no label", f"{'a' * 41}=loihi": "no label", "a:b=loihi": "no label", "\u00e9=loihi": "no label",
         "loihi=lava": "is a machine's name", "x=reference": "takes no label", "x=lohi": "did you mean loihi",
         "x=y=loihi": "unknown machine"}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_label_is_refused(text):
    with pytest.raises(Refusal, match=WRONG[text]):
        parse(text)


@pytest.mark.parametrize("text", ["a=1/b", "crossbar:pcm[age=1d]", "runs/a=b", "./a=b"])
def test_equals_signs_of_options_and_folders_are_no_labels(text):
    assert split_label(text) == (("a", "1/b") if text == "a=1/b" else ("", text))


OPTIONS = st.fixed_dictionaries({}, optional={"age": st.sampled_from(["1h", "1d"]), "tile": st.sampled_from(
    ["64", "256"]), "adc_bits": st.sampled_from(["5", "6"])})
NAMES = st.sampled_from(["crossbar:pcm", "crossbar:pcm/aged", "crossbar:reram_wan"])


@settings(max_examples=30)
@given(st.lists(st.tuples(NAMES, OPTIONS), min_size=1, max_size=6))
def test_short_names_are_told_apart_and_keep_what_differs(machines):
    targets = [parse(name).having(**{option: parse(f"crossbar:pcm[{option}={text}]").values[option]
                                     for option, text in options.items()}) for name, options in machines]
    names = shown_names(targets)
    assert list(names) == list(dict.fromkeys(map(str, targets)))
    assert len(set(names.values())) == len(names)
    for one, other in combinations(targets, 2):
        if one.name == other.name:
            told = {option for option in one.chosen.keys() | other.chosen.keys()
                    if one.chosen.get(option) != other.chosen.get(option)}
            assert all((f"{option}=" in names[str(one)]) == (option in one.chosen) for option in told)
    for target in targets:
        assert set(re.findall(r"\w+=\w+", names[str(target)])) <= set(re.findall(r"\w+=\w+", str(target)))
        if names[str(target)] != str(target):
            with pytest.raises(Refusal, match="unknown option"):   # no machine has that name
                parse(names[str(target)])
        if [other.name for other in set(targets)].count(target.name) == 1:
            assert names[str(target)] == str(target)


def test_what_all_machines_of_a_name_share_is_left_out():
    texts = ["reference", "crossbar:pcm[age=1d,adc_bits=6]", "crossbar:pcm[age=1d]", "q=crossbar:pcm", "loihi[chips=2]"]
    assert list(shown_names(map(parse, texts)).values()) == [
        "reference", "crossbar:pcm[adc_bits=6,...]", "crossbar:pcm[...]", "q", "loihi[chips=2]"]
    texts = ["crossbar:pcm[age=1d,tile=64]", "crossbar:pcm[age=2h,tile=64]", "crossbar:pcm"]
    assert list(shown_names(map(parse, texts)).values()) == texts


@pytest.mark.parametrize("machines", [("a=loihi", "a=lava"), ("a=loihi", "b=loihi"), ("a=loihi", "loihi")])
def test_a_machine_has_one_label_and_a_label_one_machine(machines):
    with pytest.raises(Refusal, match=r"two machines have one label|a machine has two labels"):
        shown_names(map(parse, machines))
    with pytest.raises(Refusal, match="two machines have one label"):
        labels_of(("a=loihi", "a=lava"))
    assert labels_of(("a=loihi", "lava", "a=loihi")) == {"a": "loihi"}
