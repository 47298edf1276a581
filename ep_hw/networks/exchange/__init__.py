"""EP networks from other code, and back: state dicts of torch whose keys a `KeyMap` names."""

from ep_hw.networks.exchange.bring_in import import_checkpoint, trial
from ep_hw.networks.exchange.give_out import export_checkpoint
from ep_hw.networks.exchange.keys import KeyMap, load_map

__all__ = ["KeyMap", "export_checkpoint", "import_checkpoint", "load_map", "trial"]
