"""The layers of a network in a state dict: checked to be all there and to make a network before any is read."""

import logging
import math

import torch

from ep_hw.data.pickles import Call
from ep_hw.networks.exchange.archive import StoredTensor, TorchArchive, is_tensor
from ep_hw.networks.exchange.formats import SAVE, not_tensors
from ep_hw.networks.exchange.keys import KeyMap
from mapping.errors import Refusal, printable

Layer = tuple[torch.Tensor, torch.Tensor]
Size = tuple[int, ...]


def read_layers(archive: TorchArchive, keys: KeyMap) -> list[Layer]:
    """(weight, bias) of each layer in float32, the readout, (classes, units of the last map), last.

    Raises:
        Refusal: tensors are missing, unknown or unreadable, or make no network in the map's terms.
    """
    state = state_dict(archive, keys.state_dict)
    names = [(keys.key("weight", n), keys.key("bias", n)) for n in range(_depth(archive, state, keys))]
    _check_names(archive, state, names)
    stored = [(archive.stored(weight, state[weight]), archive.stored(bias, state[bias])) for weight, bias in names]
    sizes = [_size(keys, n, weight) for n, (weight, _) in enumerate(stored)]
    for size, (_, bias), (_, name) in zip(sizes, stored, names):
        if bias.size != size[:1]:
            raise _unfit(archive, name, f"a bias of size {bias.size} for a weight of {size}",
                         f"one of size {size[:1]}", "name the layers in --map")
    *hidden, (readout, _) = zip(sizes, [name for name, _ in names])
    last = _last_map(archive, keys, hidden)
    if len(readout) != 2 or readout[1] != math.prod(last):
        raise _unfit(archive, names[-1][0], f"a readout of size {readout}, above a last map of {last}",
                     f"one of size (classes, {math.prod(last)})", "correct paddings, strides and pools in --map; a "
                     "network with dilation or other padding than zeros cannot be represented")
    if any(tensor.dtype is torch.float64 for tensors in stored for tensor in tensors):
        logging.getLogger(__name__).warning("%s: weights in float64 are rounded to float32",
                                            printable(str(archive.path)))
    return [(_outputs_first(keys, n, archive.tensor(names[0], weight)), archive.tensor(names[1], bias))
            for n, (names, (weight, bias)) in enumerate(zip(names, stored))]


def _size(keys: KeyMap, n: int, weight: StoredTensor) -> Size:
    """Of layer n's weight; of a dense one, (outputs, features)."""
    if keys.has_outputs_last(n) and len(weight.size) > 1:
        return weight.size[-1], math.prod(weight.size[:-1])
    return weight.size


def _outputs_first(keys: KeyMap, n: int, weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(0, -2).T.contiguous() if keys.has_outputs_last(n) else weight


def state_dict(archive: TorchArchive, entry: str | None) -> dict[str, Call]:
    """The state dict in a file: the whole of it, or one of its entries.

    A list of tensors is one of all biases, then all weights, `bias.N` and `weight.N`, as the code of Scellier et al.
    saves them.

    Raises:
        Refusal: there is none.
    """
    content = archive.content
    if isinstance(content, Call):
        raise not_tensors(archive.path, f"a pickled {content.function!r}, which only its own code can open",
                          f"{SAVE} instead of the model itself")
    state = content.get(entry, content) if isinstance(content, dict) else content
    if isinstance(state, list) and len(state) % 2 == 0:
        state = {f"{kind}.{n}": t for kind, half in zip(("bias", "weight"), _halves(state)) for n, t in enumerate(half)}
    if not isinstance(state, dict) or not all(isinstance(name, str) and is_tensor(t) for name, t in state.items()):
        got = f"entries {', '.join(map(repr, list(state)[:6]))}" if isinstance(state, dict) else type(state).__name__
        raise Refusal("not a state dict", where=str(archive.path), got=got, allowed="names with their tensors",
                      remedy=f"{SAVE}, and name its entry as state_dict in --map where it is one of several")
    return state


def _halves(items: list) -> tuple[list, list]:
    return items[:len(items) // 2], items[len(items) // 2:]


def _depth(archive: TorchArchive, state: dict, keys: KeyMap) -> int:
    """How many layers there are: convolutions, hidden dense layers if any, and the readout.

    Raises:
        Refusal: another number of convolutions than the map has.
    """
    depth = next(n for n in range(len(state) + 1) if keys.key("weight", n) not in state)
    names = [keys.key("weight", n) for n in range(depth - 1)]
    convolutions = sum(len(_size(keys, n, archive.stored(name, state[name]))) != 2 for n, name in enumerate(names))
    if depth and convolutions != len(keys.paddings):
        raise _unfit(archive, "state dict", f"{convolutions} convolutions below the readout",
                     f"{len(keys.paddings)}: one for each of the paddings in --map", "name by --map a TOML file whose "
                     "paddings, strides and pools have an entry for each convolution")
    return max(depth, len(keys.paddings) + 1)


def _check_names(archive: TorchArchive, state: dict, names: list[tuple[str, str]]):
    """Refuse other tensors than those of the map."""
    wanted = [name for pair in names for name in pair]
    missing, more = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    weights, biases = zip(*names)
    if missing and not more and set(missing) <= set(biases):
        bias, weight = missing[0], weights[biases.index(missing[0])]
        raise _unable(archive, bias, f"no bias, as in {len(missing)} layers", "a bias in every layer",
                      f"with biases, or add zeros: state[{bias!r}] = torch.zeros(len(state[{weight!r}])) and so on")
    if missing or more:
        raise _unfit(archive, "state dict", _some(more) or f"no {_some(missing)}", _some(wanted),
                     "name the layers as weight and bias in --map; a network with other tensors, of normalisation or "
                     "of feedback, cannot be represented")


def _last_map(archive: TorchArchive, keys: KeyMap, hidden: list[tuple[Size, str]]) -> Size:
    """Shape (C, H, W) of the map that the readout reads."""
    shape = tuple(keys.image_shape)
    for (size, name), padding, stride, pool in zip(hidden, keys.paddings, keys.strides, keys.pools):
        _check_convolution(archive, name, size, shape[0])
        sides = [(max(side + 2 * padding - k, -1) // stride + 1) // pool for side, k in zip(shape[1:], size[2:])]
        if min(sides) < 1:
            raise _unfit(archive, name, f"nothing left of a map of {shape[1]}x{shape[2]}",
                         f"kernel {size[2]}x{size[3]}, padding {padding}, stride {stride} and pool {pool} that fit",
                         "correct paddings, strides and pools in --map")
        shape = (size[0], *sides)
    for size, name in hidden[len(keys.paddings):]:
        if len(size) != 2 or size[1] != math.prod(shape):
            raise _unfit(archive, name, f"a dense layer of size {size}, above a map of {shape}",
                         f"one of size (units, {math.prod(shape)})", "name the layers in their order in --map")
        shape = (size[0], 1, 1)
    return shape


def _check_convolution(archive: TorchArchive, name: str, size: Size, channels: int):
    if len(size) != 4:
        raise _unable(archive, name, f"a weight of size {size}", "convolutions, (C_out, C_in, k_h, k_w), then dense "
                      "layers", "with such layers")
    if size[1] != channels and channels % size[1] == 0:
        raise _unable(archive, name, f"{size[1]} of {channels} channels below: a convolution in "
                      f"{channels // size[1]} groups", "convolutions that read every channel", "without groups")
    if size[1] != channels:
        raise _unfit(archive, name, f"{size[1]} channels to read", f"the {channels} of the map below",
                     "name the layers in their order in --map")


def _unfit(archive: TorchArchive, where: str, got: str, allowed: str, remedy: str) -> Refusal:
    """The refusal of tensors that the map does not describe."""
    return Refusal("the state dict does not fit the key map", where=f"{archive.path}, {where}", got=got,
                   allowed=allowed, remedy=remedy)


def _unable(archive: TorchArchive, where: str, got: str, allowed: str, training: str) -> Refusal:
    """The refusal of a network that no checkpoint can hold."""
    return Refusal("a network that cannot be represented", where=f"{archive.path}, {where}", got=got, allowed=allowed,
                   remedy=f"train one {training}")


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")
