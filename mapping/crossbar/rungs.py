"""The ladder that leads to a crossbar: its weights on tiles, then one cause of error after the other."""

from dataclasses import replace

from mapping.crossbar.target import CrossbarTarget
from mapping.registry import Rungs, from_reference

_CAUSES = {"mapped": "mapping to tiles", "levels": "conductance levels", "stuck": "stuck cells",
           "programmed": "programming noise", "aged": "drift and slow noise", "read": "read noise, fixed steps",
           "converters": "DAC and ADC", "curves": "currents not in proportion", "wires": "resistance of the wires"}


def crossbar_rungs(target: CrossbarTarget) -> Rungs:
    """The rungs of the device that change anything; of tuned chips, those of programmed ones and then tuning."""
    if target.tuned:
        return [*crossbar_rungs(replace(target, tuned=False)), (target, "tuning in situ")]
    ideal = CrossbarTarget.named("crossbar:ideal").having(tile=target.array.tile, steps=target.steps)
    rungs, last = [*from_reference(target), (ideal, _CAUSES["mapped"])], (target.rung, *target.rungs)[-1]
    rungs += [(replace(target, name=f"crossbar:{target.preset.name}/{rung}"), _CAUSES[rung])
              for rung in target.rungs if rung != last]
    return rungs if target == ideal else [*rungs, (target, _CAUSES[last])]
