"""From a target to the model of its device: which equations each preset's `model` names."""

from mapping.crossbar.presets import Preset
from mapping.crossbar.target import CrossbarTarget, GenericOptions
from simulators.crossbar.devices import Device, Generic, Ideal
from simulators.crossbar.phase_change import PhaseChange
from simulators.crossbar.resistive import Polynomial, Relaxing, Spreading
from simulators.crossbar.sonos import Sonos

MODELS = {"ideal": Ideal, "generic": Generic, "phase_change": PhaseChange.of, "polynomial": Polynomial,
          "relaxing": Relaxing, "spreading": Spreading, "sonos": Sonos}


def model_of(target: CrossbarTarget) -> Device:
    """The device model of a target: its preset's, or what the options of a generic one ask for."""
    own = target.device
    if isinstance(own, GenericOptions):
        return Generic(target.preset.g_max_us, target.preset.g_min_us, own.additive, own.proportional, own.read_noise)
    return preset_model(target.preset)


def preset_model(preset: Preset) -> Device:
    """The device model of a preset with its published constants."""
    return MODELS[preset.model](g_max_us=preset.g_max_us, g_min_us=preset.g_min_us, **preset.constants)
