"""Feed-forward networks that EP-CNNs are compared with: trained by backpropagation, mapped onto no machine.

They share data, normalisation and evaluation with the EP-CNN; `reference` is their only machine.
"""

from ep_hw.networks.baselines.network import Baseline, CNNSpec, ViTSpec

__all__ = ["Baseline", "CNNSpec", "ViTSpec"]
