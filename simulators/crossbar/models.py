"""Which equations each preset's `model` names, and the model of a target's device."""

import inspect
from collections.abc import Callable

from mapping.crossbar.presets import Preset
from mapping.crossbar.target import CrossbarTarget, GenericOptions
from mapping.definitions import is_again
from mapping.errors import Refusal
from mapping.names import suggesting
from simulators.crossbar.devices import Device, Generic, Ideal
from simulators.crossbar.measured import MeasuredDevice
from simulators.crossbar.phase_change import PhaseChange
from simulators.crossbar.resistive import Polynomial, Relaxing, Spreading
from simulators.crossbar.sonos import Sonos

_MODELS: dict[str, Callable[..., Device]] = {}


def register_device_model(name: str, model: Callable[..., Device]):
    """Make equations known by the name that a preset's `model` gives them.

    Args:
        name: of the equations.
        model: a `Device`, or what makes one, from g_max_us, g_min_us and a preset's constants by their names.

    Raises:
        Refusal: other equations have this name.
    """
    if not is_again(model, _MODELS.setdefault(name, model)):
        raise Refusal("the device model is registered already, and otherwise", where="register_device_model",
                      got=name, allowed="a new name, or the same model again", remedy="choose another name")
    _MODELS[name] = model


def model_of(target: CrossbarTarget) -> Device:
    """The device model of a target: its preset's, or what the options of a generic one ask for."""
    own = target.device
    if isinstance(own, GenericOptions):
        return Generic(target.g_max_us, target.preset.g_min_us, own.additive, own.proportional, own.read_noise)
    return preset_model(target.preset)


def preset_model(preset: Preset) -> Device:
    """The device model of a preset with its published constants.

    Raises:
        Refusal: equations that nobody registered, or that have other constants.
    """
    if preset.model not in _MODELS:
        raise Refusal("no such device model", where=f"preset {preset.name}, model", got=preset.model, **suggesting(
            preset.model, _MODELS, remedy="register one of your own with simulators.register_device_model"))
    make = _MODELS[preset.model]
    parameters = {"g_max_us": preset.g_max_us, "g_min_us": preset.g_min_us, **preset.constants}
    try:
        inspect.signature(make).bind(**parameters)
    except TypeError as error:
        raise Refusal("other constants than the device model's", where=f"preset {preset.name}, constants", got=error,
                      allowed=f"parameters of {preset.model}: {inspect.signature(make)}",
                      remedy="correct the device file") from None
    return make(**parameters)


_KNOWN: dict[str, Callable[..., Device]] = {
    "ideal": Ideal, "generic": Generic, "phase_change": PhaseChange.of, "polynomial": Polynomial,
    "relaxing": Relaxing, "spreading": Spreading, "sonos": Sonos, "measured": MeasuredDevice.of}
for _name, _model in _KNOWN.items():
    register_device_model(_name, _model)
