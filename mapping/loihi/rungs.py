"""The ladder that leads to a Loihi machine:

    reference --8-bit weights--> loihi:weights --integer states--> loihi --Lava processes--> lava

with dead neurons, a lost core and changes held back, where there are any, a rung each before Lava.
"""

from dataclasses import replace

from mapping.loihi.target import LoihiTarget
from mapping.registry import Rungs, from_reference

_ADDED = {"dead": "dead neurons", "lost_core": "a lost core", "threshold": "changes held back"}   # option -> its cause


def loihi_rungs(target: LoihiTarget) -> Rungs:
    """Integer weights, integer states, what options add to them, Lava: whichever the target has."""
    usual = LoihiTarget("loihi")
    plain = replace(target, name="loihi", model=usual.model, dead=None, dead_seed=usual.dead_seed, lost_core=None,
                    threshold=None)
    rungs = from_reference(target)
    if target.quantises_weights:
        rungs.append((replace(plain, name="loihi:weights"), f"{target.weight_bits}-bit weights"))
    if target.quantises_states:
        rungs.append((plain if target.quantises_weights else target, "integer states"))
    for option, cause in _ADDED.items():
        if (value := getattr(target, option)) is not None:
            plain = replace(plain, **{option: value, "dead_seed": target.dead_seed})
            rungs.append((plain, cause))
    return [*rungs, (target, "Lava processes")] if target.on_lava else rungs
