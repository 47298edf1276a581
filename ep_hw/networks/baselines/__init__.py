"""Feed-forward networks that EP-CNNs are compared with: trained by backpropagation.

They share data, normalisation and evaluation with the EP-CNN. The convolutional ones run on every machine.
"""

from ep_hw.networks.baselines.network import Baseline, CNNSpec, ViTSpec

__all__ = ["Baseline", "CNNSpec", "ViTSpec"]
