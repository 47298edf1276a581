"""Device measurements: what is listed and plotted is what the device models say."""

import csv
import math

import pytest

from ep_hw import cli
from ep_hw.measurements.devices import ages_of, measure_devices, measured_presets
from mapping.crossbar.presets import PRESETS
from mapping.errors import Refusal


def test_every_preset_is_measured_over_its_own_ages_and_conductances():
    for preset in measured_presets([]):
        first, last = preset.age_domain_s
        assert all(first <= age <= last for age in ages_of(preset))
    rows = list(measure_devices(measured_presets(["reram_milo"]), 0))
    assert {row["age_s"] for row in rows} == {0.0}
    assert (rows[0]["target_us"], rows[-1]["target_us"]) == (50.0, 225.0)


def test_intervals_hold_95_percent_of_normal_errors():
    row = list(measure_devices([PRESETS["reram_milo"]], 1))[-1]
    sigma = 4.782321 - 0.009107 * 225
    assert row["programming_error_high_us"] == pytest.approx(1.96 * sigma, rel=0.06)
    assert row["programming_error_low_us"] == pytest.approx(-1.96 * sigma, rel=0.06)
    assert row["programming_error_median_us"] == pytest.approx(0, abs=0.06 * sigma)


def test_read_noise_of_devices_spreads_with_what_they_were_programmed_to():
    """Sonos: a (1 - exp(-I / b)) of each device's own current, its median that of the median device; nothing frozen."""
    rows = [row for row in measure_devices([PRESETS["sonos"]], 2) if row["age_s"] == 0]
    for row in rows[1:]:
        current_na = 100 * (row["target_us"] + row["aged_error_median_us"])
        sigma = 0.1258037 * (1 - math.exp(-current_na / 215.36557))
        assert row["fresh_noise_median_us"] == pytest.approx(sigma, rel=1e-3)
        assert row["fresh_noise_low_us"] < row["fresh_noise_median_us"] < row["fresh_noise_high_us"]
    assert not any(row["slow_noise_high_us"] for row in rows)


def test_an_unknown_device_is_refused():
    with pytest.raises(Refusal, match=r"unknown device.*'flash'.*pcm"):
        measured_presets(["flash"])


def test_the_command_lists_devices_and_writes_table_and_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ep-hw", "devices", "reram_wan", "sonos", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "Wan et al., Nature 608" in capsys.readouterr().out.replace("\n", " ")
    rows = list(csv.DictReader((tmp_path / "devices.csv").open()))
    assert {row["device"] for row in rows} == {"reram_wan", "sonos"}
    assert (tmp_path / "devices.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "devices.svg").read_bytes()
    assert b"data-tip" in (tmp_path / "report.html").read_bytes()
