"""Numbers as users write them: plain digits, finite, each option once; whatever is written back reads the same."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapping import REGISTRY, Refusal
from mapping.options import duration, number, spell_duration, spell_number, whole
from mapping.targets import parse
from mapping.writing import WRITINGS, parse_writing

ODD = ("nan", "inf", "-inf", "1e400", "1e-400", "0x1", "1_0", "\u0661", "\u00b2", " 1", "1 ", "1\n", "+1", "--1",
       "1e", "e1", ".", "", "1e1e1", "1,0", "one", "1" * 50, "None", "True")


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("read", [whole, number, duration])
def test_odd_spellings_are_no_numbers(read, text):
    with pytest.raises((ValueError, KeyError)):
        read(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_as_it_is_spelled(value):
    assert number(spell_number(value)) == value
    assert str(number(spell_number(value))) == str(value + 0.0)


@given(st.integers(-10**17, 10**17))
def test_a_whole_number_is_read_back(value):
    assert whole(str(value)) == value


@given(st.floats(0, 1e12) | st.integers(0, 10**9).map(float))
def test_a_time_is_read_back_as_it_is_spelled(seconds):
    assert duration(spell_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["1e400h", "1e308y", "5e-324ns", "1 h", "1H", "1hh", "h", "1e3e", "-"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises((ValueError, KeyError)):
        duration(text)


@given(st.floats(60.0, 1e6), st.floats(0.1, 100), st.floats(1e-6, 0.5))
def test_a_machine_of_any_options_is_rebuilt_from_its_name(age, margin, stuck):
    target = replace(parse("crossbar:pcm"), age=age, adc_margin=margin, stuck_on=stuck)
    assert parse(str(target)) == target


NUMERIC = [(name, f.name) for name in ("reference", "loihi", "lava", "crossbar:pcm", "crossbar:generic")
           for f in fields(REGISTRY[name][0]) if f.metadata.get("low") is not None]


@pytest.mark.parametrize(("name", "option"), NUMERIC)
def test_every_number_of_every_machine_is_read_strictly_and_once(name, option):
    for text in ("nan", "inf", "1e400", "1_0", "\u0661", "0x1", "1e30", "-1", ""):
        with pytest.raises(Refusal, match=rf"{option}: (option out of range|age outside)"):
            parse(f"{name}[{option}={text}]")
    with pytest.raises(Refusal, match=f"{option}: an option is given twice"):
        parse(f"{name}[steps=5,{option}=5,{option}=5,steps=5]")


def test_write_models_are_read_alike():
    for name in WRITINGS:
        for text in ("noise=nan", "noise=1e400", "noise=1_0", "asymmetry=-1"):
            with pytest.raises(Refusal, match="option out of range"):
                parse_writing(f"{name}[{text}]")
        with pytest.raises(Refusal, match="given twice"):
            parse_writing(f"{name}[noise=0,noise=0]")
