"""The ladder that leads to a crossbar: its weights on tiles, then one cause of error after the other."""

from dataclasses import replace

from mapping.crossbar.target import CrossbarTarget
from mapping.registry import Rungs, from_reference

_CAUSES = {"mapped": "mapping to tiles", "levels": "conductance levels", "stuck": "stuck cells",
           "programmed": "programming noise", "aged": "drift and slow noise", "read": "read noise, fixed steps",
           "converters": "DAC and ADC", "curves": "currents not in proportion", "wires": "resistance of the wires"}


_REFINED = {   # rung -> (option, its value where it changes nothing, cause that it is), each a rung after that one
    "aged": (("drift_compensation", (True, False), "drift compensation of each column"),),
    "read": (("temperature", (None,), "thermal noise of devices"),),
    "converters": (("adc_rounding", ("nearest",), "ADCs that give the code below"),
                   ("inputs", ("levels", "pulses"), "drives read bit by bit")),
    "wires": (("bit_ohm", (None,), "bit lines of another resistance"),)}


def crossbar_rungs(target: CrossbarTarget) -> Rungs:
    """The rungs of the device that change anything, each followed by what options add to it; of tuned chips, those of
    programmed ones and then tuning.
    """
    if target.tuned:
        return [*crossbar_rungs(replace(target, tuned=False)), (target, "tuning in situ")]
    ideal = CrossbarTarget.named("crossbar:ideal").having(tile=target.array.tile, steps=target.steps)
    rungs, last = [*from_reference(target), (ideal, _CAUSES["mapped"])], (target.rung, *target.rungs)[-1]
    for rung in target.rungs:
        own = target if rung == last else replace(target, name=f"crossbar:{target.preset.name}/{rung}")
        rungs += _refined(own, rung)
    return rungs if target == ideal or target.rungs else [*rungs, (target, _CAUSES[last])]


def _refined(target: CrossbarTarget, rung: str) -> Rungs:
    """The rung without what options add to it, then with one of them after the other."""
    added = [(option, usual[0], cause) for option, usual, cause in _REFINED.get(rung, ())
             if target.values[option] not in usual]
    plain = target.having(**{option: usual for option, usual, _ in added})
    rungs: Rungs = [(plain, _CAUSES[rung])]
    for option, _, cause in added:
        plain = plain.having(**{option: target.values[option]})
        rungs.append((plain, cause))
    return rungs
