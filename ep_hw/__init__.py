"""ep_hw: equilibrium-propagation networks on simulated neuromorphic and analog hardware.

    net = ep_hw.load("digits")
    program = mapping.compile(net.lower(), "crossbar:pcm")
    with simulators.open(program) as machine:
        machine.relax(images)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ep_hw.networks.checkpoint import load, save_checkpoint
    from ep_hw.networks.lowering import lower, network_of
    from ep_hw.networks.network import EPNetwork
    from ep_hw.networks.own import register_module
    from ep_hw.workflow import evaluate
    from mapping.errors import Refusal

__version__ = "0.16.0"
_HOMES = {"evaluate": "ep_hw.workflow",
          "load": "ep_hw.networks.checkpoint", "save_checkpoint": "ep_hw.networks.checkpoint",
          "lower": "ep_hw.networks.lowering", "network_of": "ep_hw.networks.lowering",
          "EPNetwork": "ep_hw.networks.network", "register_module": "ep_hw.networks.own", "Refusal": "mapping.errors"}
__all__ = ["EPNetwork", "Refusal", "__version__", "evaluate", "load", "lower", "network_of", "register_module",
           "save_checkpoint"]


def __getattr__(name: str) -> object:
    """Load the public names when first used, so that importing the package is cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ep_hw' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
