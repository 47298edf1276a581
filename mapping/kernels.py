"""The four maps of an EP layer in numpy, for integers and floats alike.

They are what Lava's process models compute and what the compilers use to size converters. All arrays are
(B, C, H, W); every function returns the dtype of its first argument.

Floats are summed in float64 and rounded once: BLAS takes the terms of a sum in an order that depends on the row, so
that in float32 equal patches get unequal sums, and rounding would decide which of them wins a max-pool. Integers are
summed in the type of the weights; where that is a float, the caller knows that it holds every sum exactly.
"""

import numpy as np


def patches(x: np.ndarray, k_h: int, k_w: int, padding: int, stride: int = 1) -> np.ndarray:
    """(B H' W', C k_h k_w) rows of the receptive fields of `x`, zeros around it."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x, (k_h, k_w), axis=(2, 3))  # type: ignore[call-overload]  # numpy's stub knows a single axis
    windows = windows[:, :, ::stride, ::stride]
    b, c, h, w = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(b * h * w, c * k_h * k_w)


def rounded_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in the dtype of `a`, summed in float64 and rounded once: the same bits with any BLAS."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype)


def convolve(x: np.ndarray, weight: np.ndarray, padding: int, stride: int = 1) -> np.ndarray:
    """Cross-correlation of (B, C_in, H, W) with (C_out, C_in, k_h, k_w): (B, C_out, H', W')."""
    c_out, _, k_h, k_w = weight.shape
    h, w = ((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:], (k_h, k_w)))
    summed = weight.dtype if np.issubdtype(x.dtype, np.integer) else np.dtype(np.float64)
    rows = patches(x.astype(summed, copy=False), k_h, k_w, padding, stride)
    flat = rows @ weight.reshape(c_out, -1).T.astype(summed, copy=False)
    return np.ascontiguousarray(flat.reshape(len(x), h, w, c_out).transpose(0, 3, 1, 2), x.dtype)


def convolve_transpose(z: np.ndarray, weight: np.ndarray, padding: int, stride: int = 1,
                       uncovered: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Adjoint of `convolve` in x: (B, C_out, H', W') -> (B, C_in, H, W).

    Args:
        uncovered: rows and columns of x that no place of the kernel reaches (`mapping.graph.Window.uncovered`).
    """
    z = _spread(z, stride, uncovered)
    rest = [k - 1 - padding for k in weight.shape[2:]]   # zeros still to add around z; where negative, rows to crop
    z = np.pad(z, ((0, 0), (0, 0), *((max(r, 0), max(r, 0)) for r in rest)))
    full = convolve(z, np.ascontiguousarray(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]), 0)
    rows, columns = (slice(max(-r, 0), n - max(-r, 0)) for r, n in zip(rest, full.shape[2:]))
    return np.ascontiguousarray(full[:, :, rows, columns])


def _spread(z: np.ndarray, stride: int, uncovered: tuple[int, int]) -> np.ndarray:
    """The places of a kernel of stride 1 of which `z` holds every `stride`-th, zeros at the others."""
    if stride == 1:
        return z
    h, w = (stride * (n - 1) + 1 + rest for n, rest in zip(z.shape[2:], uncovered))
    out = np.zeros((*z.shape[:2], h, w), z.dtype)
    out[:, :, ::stride, ::stride][:, :, :z.shape[2], :z.shape[3]] = z
    return out


def max_pool(a: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Max-pool: values (B, C, H, W) and winners, the place 0 .. side^2 - 1 in each window, first of equals."""
    if side == 1:
        return a, None
    b, c, h, w = a.shape
    h, w = h // side, w // side
    windows = a[:, :, :h * side, :w * side].reshape(b, c, h, side, w, side).transpose(0, 1, 2, 4, 3, 5)
    windows = windows.reshape(b, c, h, w, side * side)
    winners = windows.argmax(-1)
    return np.take_along_axis(windows, winners[..., None], -1)[..., 0], winners


def unpool(s: np.ndarray, winners: np.ndarray | None, side: int, unpooled: tuple[int, int, int]) -> np.ndarray:
    """Put each value of `s` at its window's winner in zeros of shape (B, *unpooled)."""
    if winners is None:
        return s
    b, c, h, w = s.shape
    windows = np.zeros((b, c, h, w, side * side), s.dtype)
    np.put_along_axis(windows, winners[..., None], s[..., None], -1)
    out = np.zeros((b, *unpooled), s.dtype)
    tiled = windows.reshape(b, c, h, w, side, side).transpose(0, 1, 2, 4, 3, 5)
    out[:, :, :h * side, :w * side] = tiled.reshape(b, c, h * side, w * side)
    return out
