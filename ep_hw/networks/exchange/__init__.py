"""EP networks from other code, and back: state dicts of torch whose keys a `KeyMap` names; and NIR and ONNX."""

from ep_hw.networks.exchange.as_nir import from_nir, nir_file, to_nir
from ep_hw.networks.exchange.as_onnx import onnx_file, to_onnx
from ep_hw.networks.exchange.bring_in import import_checkpoint, trial
from ep_hw.networks.exchange.give_out import export_checkpoint
from ep_hw.networks.exchange.keys import KeyMap, load_map

__all__ = ["KeyMap", "export_checkpoint", "from_nir", "import_checkpoint", "load_map", "nir_file", "onnx_file",
           "to_nir", "to_onnx", "trial"]
