"""ep_hw: equilibrium-propagation networks on simulated neuromorphic and analog hardware.

    net = ep_hw.load("digits")
    program = mapping.compile(net.lower(), "crossbar:pcm")
    with simulators.open(program) as machine:
        machine.relax(images)
"""

__version__ = "0.4.0"
__all__ = ["EPNetwork", "Refusal", "__version__", "load"]


def __getattr__(name):
    """Load the public names when first used, so that importing the package is cheap."""
    if name == "load":
        from ep_hw.networks.checkpoint import load as value
    elif name == "EPNetwork":
        from ep_hw.networks.network import EPNetwork as value
    elif name == "Refusal":
        from mapping.errors import Refusal as value
    else:
        raise AttributeError(f"module 'ep_hw' has no attribute {name!r}")
    return value
