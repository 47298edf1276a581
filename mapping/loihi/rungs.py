"""The ladder that leads to a Loihi machine:

    reference --8-bit weights--> loihi:weights --integer states--> loihi --Lava processes--> lava
"""

from dataclasses import replace

from mapping.loihi.target import LoihiTarget
from mapping.registry import Rungs, from_reference


def loihi_rungs(target: LoihiTarget) -> Rungs:
    """Integer weights, integer states, changes above a threshold alone, Lava: whichever the target has."""
    whole = LoihiTarget("loihi", weight_bits=target.weight_bits, state_bits=target.state_bits, steps=target.steps)
    rungs = from_reference(target)
    if target.quantises_weights:
        rungs.append((replace(whole, name="loihi:weights"), f"{target.weight_bits}-bit weights"))
    if target.quantises_states:
        rungs.append((whole if target.quantises_weights else target, "integer states"))
    if target.quantises_weights and target.threshold is not None:
        rungs.append((replace(whole, threshold=target.threshold), "changes held back"))
    return [*rungs, (target, "Lava processes")] if target.on_lava else rungs
