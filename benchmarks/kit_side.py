"""What runs in aihwkit's interpreter (benchmarks.kit starts it): torch, numpy and aihwkit, nothing of ours.

    python kit_side.py chips IN.npz OUT.npz      python kit_side.py time IN.npz

IN holds a feed-forward network as `benchmarks.kit.packed` wrote it. `chips` programs chips of PCM devices and reads
them at every age; `time` answers each line, the name of a configuration, with CPU seconds of one pass.
"""

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType, WeightNoiseType
from torch import Tensor, nn

G_MAX_US, TILE, BITS = 25.0, 256, 8
READ_NOISE = 0.0175   # of aihwkit's documented PCM settings
Arrays = Mapping[str, np.ndarray]


class PairsKept(PCMLikeNoiseModel):
    """Both devices of a pair drift: by itself aihwkit gives their difference back to one of them after programming."""

    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list]:
        targets, scale = self.g_converter.convert_to_conductances(weights)
        pair = [(self.apply_programming_noise_to_conductance(g), self.generate_drift_coefficients(g)) for g in targets]
        return self.g_converter.convert_back_to_weights([g for g, _ in pair], scale), [scale, *pair]

    def apply_drift_noise(self, weights: Tensor, drift_noise_parameters: list, t_inference: float) -> Tensor:
        scale, *pair = drift_noise_parameters
        aged = [self.apply_drift_noise_to_conductance(g, nu, t_inference) for g, nu in pair]
        return self.g_converter.convert_back_to_weights(aged, scale)


class Unit(nn.Module):
    """clamp(slope x, 0, ceiling)."""

    def __init__(self, slope: float, ceiling: float):
        super().__init__()
        self.slope, self.ceiling = slope, ceiling

    def forward(self, x: Tensor) -> Tensor:
        return (self.slope * x).clamp(0, self.ceiling)


def network(arrays: Arrays) -> nn.Sequential:
    """The layers of a feed-forward network, the readout a dense one."""
    *hidden, last = range(sum(key.endswith(".weight") for key in arrays))
    return nn.Sequential(*(part for n in hidden for part in _hidden(n, arrays)), nn.Flatten(), _holding(
        nn.Linear(arrays[f"{last}.weight"][0].size, len(arrays[f"{last}.weight"])), last, arrays)).eval()


def _hidden(n: int, arrays: Arrays) -> list[nn.Module]:
    (c_out, c_in, *kernel), (stride, padding, pool) = arrays[f"{n}.weight"].shape, arrays[f"{n}.window"].tolist()
    convolution = _holding(nn.Conv2d(c_in, c_out, kernel, stride, padding), n, arrays)
    return [convolution, *[nn.MaxPool2d(pool)] * (pool > 1), Unit(*arrays[f"{n}.unit"].tolist())]


def _holding(layer: nn.Module, n: int, arrays: Arrays) -> nn.Module:
    layer.weight.data = torch.tensor(arrays[f"{n}.weight"]).view_as(layer.weight)
    layer.bias.data = torch.tensor(arrays[f"{n}.bias"])
    return layer


def configuration(kind: type = InferenceRPUConfig, noise: type = PCMLikeNoiseModel, tile: int = 0):
    """Devices of PCM, each layer filling their range, digital biases, one drift compensation a tile.

    Args:
        tile: rows and columns of a tile, 0 for one as large as the layer.
    """
    made = kind(noise_model=noise(g_max=G_MAX_US), drift_compensation=GlobalDriftCompensation())
    made.mapping.digital_bias, made.mapping.weight_scaling_omega = True, 1.0
    made.mapping.weight_scaling_columnwise = False
    made.mapping.max_input_size = made.mapping.max_output_size = tile
    return made


def perfect(noise: type):
    """Nothing but the devices: no converters, no noise of a read's own."""
    made = configuration(noise=noise)
    made.forward.is_perfect = True
    return made


def converted(kind: type, read_noise: float = 0.0):
    """Converters of fixed ranges, and fresh noise at every read."""
    made, resolution = configuration(kind, tile=TILE), 1 / (2**BITS - 2)
    forward = made.forward
    forward.inp_res, forward.out_res, forward.out_noise = resolution, resolution, 0.0
    forward.bound_management, forward.noise_management = BoundManagementType.NONE, NoiseManagementType.NONE
    made.pre_post.input_range.enable = True
    if read_noise:
        forward.w_noise_type, forward.w_noise = WeightNoiseType.PCM_READ, read_noise
    return made


def chips(arrays: Arrays, noise: type) -> dict[str, np.ndarray]:
    """Of each chip at every age, (chips, ages, ...): logits of the images, and what layer n senses of each input alone.
    """
    model, images = convert_to_analog(network(arrays), perfect(noise)).eval(), torch.tensor(arrays["images"])
    tiles = [part.analog_module for part in model if hasattr(part, "analog_module")]
    found: dict[str, list] = {"logits": [], **{str(n): [] for n in range(len(tiles))}}
    for seed in range(int(arrays["chips"])):
        torch.manual_seed(seed)
        model.program_analog_weights()
        for age in arrays["ages"].tolist():
            model.drift_analog_weights(age)
            for name, read in (("logits", model(images)), *((str(n), _sensed(tile)) for n, tile in enumerate(tiles))):
                found[name].append(read.numpy())
    shape = int(arrays["chips"]), len(arrays["ages"])
    return {name: np.array(reads).reshape(*shape, *reads[0].shape) for name, reads in found.items()}


def _sensed(tile: nn.Module) -> Tensor:
    """(outputs, inputs), without the digital bias."""
    return (tile(torch.eye(tile.in_size)) - tile(torch.zeros(1, tile.in_size))).T


def write_chips(arrays: Arrays, path: str):
    """Chips as aihwkit makes them ("merged."), and chips whose pairs are kept ("kept.")."""
    kinds = {"merged": PCMLikeNoiseModel, "kept": PairsKept}
    np.savez(path, **{f"{kind}.{name}": values for kind, noise in kinds.items()
                      for name, values in chips(arrays, noise).items()})


def answer_with_times(arrays: Arrays):
    """A line in, CPU seconds of a pass of that configuration out; the first line says that all are ready."""
    works = {name: _pass(arrays, made) for name, made in (
        ("noisy", converted(InferenceRPUConfig, READ_NOISE)), ("quantised", converted(InferenceRPUConfig)),
        ("torch", converted(TorchInferenceRPUConfig)))}
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.process_time()
        works[line.strip()]()
        print(time.process_time() - start, flush=True)


def _pass(arrays: Arrays, made) -> Callable[[], Tensor]:
    model, images = convert_to_analog(network(arrays), made).eval(), torch.tensor(arrays["images"])
    model.program_analog_weights()
    model.drift_analog_weights(float(arrays["ages"][0]))
    return lambda: model(images)


def main():
    torch.set_num_threads(1)
    what, arrays = sys.argv[1], dict(np.load(sys.argv[2]))
    with torch.no_grad():
        write_chips(arrays, sys.argv[3]) if what == "chips" else answer_with_times(arrays)


if __name__ == "__main__":
    main()
