"""The tensors of the baselines' modules, from their specs alone: type and shape of each, as `state_dict` names them.

A checkpoint is compared with these before any module is built.
"""

from ep_hw.networks.shapes import ConvolutionalSpec, TransformerSpec
from mapping.sealed import Layout


def convolutional_layout(spec: ConvolutionalSpec) -> Layout:
    """Of `modules.convolutional`: a convolution without bias and a batch norm a layer, then the readout."""
    layout: Layout = {}
    place, inputs = 1, spec.image_shape[0]
    for channels, kernel, pool in zip(spec.channels, spec.kernels, spec.pools):
        layout |= _floats({f"{place}.weight": (channels, inputs, *kernel)})
        layout |= _batch_norm(str(place + 1), channels)
        place, inputs = place + (4 if pool > 1 else 3), channels
    _, height, width = spec.geometry()[-1][2]
    return layout | _dense(str(place + 1), inputs * height * width, spec.classes)


def transformer_layout(spec: TransformerSpec) -> Layout:
    """Of `modules.VisionTransformer`."""
    dim, patch = spec.dim, (spec.dim, spec.image_shape[0], spec.patch, spec.patch)
    layout = _floats({"token": (1, 1, dim), "positions": (1, spec.tokens, dim), "patches.weight": patch,
                      "patches.bias": (dim,)})
    for n in range(spec.layers):
        block = f"blocks.{n}"
        layout |= _norm(f"{block}.before_attention", dim) | _norm(f"{block}.before_mlp", dim)
        layout |= _dense(f"{block}.query_key_value", dim, 3 * dim) | _dense(f"{block}.mix", dim, dim)
        layout |= _dense(f"{block}.mlp.0", dim, spec.hidden) | _dense(f"{block}.mlp.2", spec.hidden, dim)
    return layout | _norm("norm", dim) | _dense("readout", dim, spec.classes)


def _batch_norm(name: str, channels: int) -> Layout:
    running = _floats({f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)})
    return _norm(name, channels) | running | {f"{name}.num_batches_tracked": ("int64", ())}


def _norm(name: str, size: int) -> Layout:
    return _floats({f"{name}.weight": (size,), f"{name}.bias": (size,)})


def _dense(name: str, inputs: int, outputs: int) -> Layout:
    return _floats({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})


def _floats(shapes: dict[str, tuple[int, ...]]) -> Layout:
    return {name: ("float32", shape) for name, shape in shapes.items()}
