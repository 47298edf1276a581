"""Numbers as users write them: plain digits, finite, each option once; whatever is written back reads the same."""

import re
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_images, small_network

import mapping
from mapping import Refusal
from mapping.crossbar.target import Causes, Tile
from mapping.crossbar.writing import WRITINGS, parse_writing
from mapping.options import duration, number, spell_duration, spell_number, whole
from mapping.registry import parse
from simulators.crossbar.chip import CrossbarMachine
from simulators.relaxation import Nudge

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
    target = parse("crossbar:pcm").having(age=age, adc_margin=margin, stuck_on=stuck)
    assert parse(str(target)) == target


NUMERIC = [(name, option) for name in ("reference", "loihi", "lava", "crossbar:pcm", "crossbar:generic")
           for option, f in parse(name).options.items() if f.metadata.get("low") is not None]


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


OTHER = {"age": 86400.0, "levels": 4, "encoding": "offset", "scaling": "column", "on_off": 3.0, "stuck_on": 0.2,
         "stuck_off": 0.2, "tile": Tile(18, 18), "arrays": "separate", "drift_compensation": False, "adc_bits": 3,
         "dac_bits": 3, "adc_margin": 0.3, "wire_ohm": 50.0, "terminals": "opposite", "signed_drive": "two_phase",
         "bit_ohm": 7.0, "sinh_v": 0.1, "inputs": "bits", "temperature": 400.0, "adc_rounding": "floor",
         "input_read": "once", "relaxation_time": 0.5, "dt": 0.5, "readout_steps": 3, "winners_held": 1, "steps": 9,
         "g_max_us": 5.0, "additive": 0.1, "proportional": 0.2, "read_noise": 0.3, "slices": 3,
         "output_noise": 0.1, "output_offset": 0.1, "gain_noise": 0.1, "gain_error": 0.1,
         "without": Causes(("programmed",))}
MACHINES = ("crossbar:ideal", "crossbar:generic", "crossbar:generic[additive=0.05,read_noise=0.1]",
            "crossbar:generic[output_noise=0.2]", "crossbar:pcm",
            "crossbar:pcm[wire_ohm=5,levels=9,encoding=slices,stuck_on=0.1]", "crossbar:reram_wan",
            "crossbar:reram_milo", "crossbar:reram_cmo", "crossbar:sonos")
CHOICES = [(name, option) for name in MACHINES for option in parse(name).options if option != "tuned"]


@pytest.fixture(scope="module")
def effect():
    """What a machine comes to: everything that its options can change, once for each name."""
    graph, images = small_network(3, channels=(2, 4), steps=6).lower(), random_images(2)
    nudge = Nudge(torch.eye(10)[:2], 0.5)

    @cache
    def of(target):
        program = mapping.compile(graph, target)
        machine = CrossbarMachine(program, 1)
        chip = [tensor.numpy().tobytes() for _, tensor in sorted(machine.chip.tensors().items())]
        free, pulled = (machine.relax(images, steps, nudge=pull, generator=torch.Generator().manual_seed(0)).logits
                        for steps, pull in ((None, None), (4, nudge)))
        return chip, free.tolist(), pulled.tolist(), machine.cost(), program.report().rows

    return of


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_an_option_changes_something_or_is_refused(effect, name, option):
    target = parse(name)
    try:
        changed = target.having(**{option: OTHER[option]})
    except Refusal as refusal:
        words = str(refusal)
    else:
        assert effect(changed) != effect(target)
        return
    assert re.search(rf"(has no meaning here; got {option}=|{option}: age outside|on_off: conductance outside)", words)


@pytest.mark.parametrize(("name", "meant"), [
    ("crossbar:generic[age=30d]", "a device that ages"), ("crossbar:ideal[age=1d]", "a device that ages"),
    ("crossbar:generic[drift_compensation=off]", "on devices that age"), ("crossbar:ideal[stuck_on=0.1]", "generic"),
    ("crossbar:ideal[on_off=10]", "generic"), ("crossbar:sonos[relaxation_time=1s]", "slow and fast noise"),
    ("crossbar:reram_wan[input_read=once]", "read noise"), ("crossbar:generic[input_read=once]", "read noise"),
    ("crossbar:generic[without=aged]", "causes that the device has"), ("crossbar:pcm[slices=3]", "encoding=slices"),
    ("crossbar:pcm/aged[terminals=opposite]", "wire_ohm"), ("lava:float[weight_bits=4]", "on lava, loihi"),
    ("lava:float[state_bits=9]", "on lava, loihi"), ("lava:float[weights=unrolled]", "on lava, loihi"),
    ("lava:float[chips=2]", "on lava, loihi"), ("loihi:states[threshold=0.1]", "on loihi, lava"),
    ("loihi[model=structural]", "on lava, lava:float")])
def test_an_option_without_meaning_is_refused_and_says_where_it_has_one(name, meant):
    with pytest.raises(Refusal, match=meant):
        parse(name)


@pytest.mark.parametrize("option", ["noise=0.3", "asymmetry=0.1", "saturation=0.5", "pulse_energy_j=1e-9",
                                    "endurance=10"])
def test_without_pulses_nothing_of_a_pulse_can_be_set(option):
    with pytest.raises(Refusal, match=rf"exact: .*{option.partition('=')[0]}.*with a step above 0"):
        parse_writing(f"exact[{option}]")
    assert parse_writing("reram[step=0]").noise == WRITINGS["reram"].noise
