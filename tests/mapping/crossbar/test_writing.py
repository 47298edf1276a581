"""Write models by name: what is published of each device, options, and what is refused."""

import pytest

import mapping
from mapping import Refusal
from mapping.crossbar.presets import PRESETS
from mapping.crossbar.writing import WRITINGS, parse_writing, writing_of


@pytest.mark.parametrize("name", WRITINGS)
def test_a_write_model_is_spelled_as_it_is_parsed(name):
    plain = parse_writing(name)
    assert plain == WRITINGS[name]
    assert str(plain) == name
    changed = parse_writing(f"{name}[step=0.015,noise=0.25,asymmetry=-0.1]")
    assert parse_writing(str(changed)) == changed
    assert (changed.noise, changed.asymmetry, changed.step) == (0.25, -0.1, 0.015)
    assert plain.source
    if not plain.step:
        with pytest.raises(Refusal, match="no meaning here; got asymmetry"):
            parse_writing(f"{name}[asymmetry=-0.1]")


def test_every_preset_has_its_write_model_or_none_is_published():
    with pytest.raises(Refusal, match="no write model"):
        writing_of("sonos")
    assert all(writing_of(device).name in WRITINGS for device in set(PRESETS) - {"sonos"})
    assert writing_of("hermes_2").name == "pcm"
    assert writing_of("ideal").name == "exact"


@pytest.mark.parametrize("text", ["pulses", "pcm[step=0.9]", "pcm[speed=1]", "reram[noise=2", "linear[depresses=no]"])
def test_what_is_not_a_write_model_is_refused(text):
    with pytest.raises(Refusal) as refused:
        parse_writing(text)
    assert "\n" not in str(refused.value)


def test_no_compiler_makes_a_tuned_chip(random_graph):
    with pytest.raises(Refusal, match="tuned while it runs"):
        mapping.compile(random_graph(0), "crossbar:ideal[tuned=on]")
