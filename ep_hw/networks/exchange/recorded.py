"""The options that a checkpoint of other code was trained with, where it records them.

The options are those of the training script of Laborieux et al. (main.py), which other EP code took over.
"""

from typing import Any

from ep_hw.data.pickles import Call, Text, word

ENTRIES = ("args", "arguments", "config", "hparams", "hyperparameters", "opt")
_WORDS: dict[str, tuple[str, dict[Any, str | float]]] = {   # option -> field of a key map, and what its values mean
    "loss": ("loss", {"cel": "cross-entropy", "mse": "mse"}),
    "softmax": ("readout", {True: "outside", False: "inside"}),
    "pool": ("pool", {"max": "max", "avg": "average"}),
    "act": ("slope", {"my_hard_sig": 0.5, "hard_sigmoid": 1.0, "mysig": "a sigmoid's", "sigmoid": "a sigmoid's",
                      "tanh": "a tanh's", "ctrd_hard_sig": "a centred sigmoid's"})}
_LISTS = ("strides", "paddings")


def recorded(content: object) -> dict[str, object]:
    """The fields of a `KeyMap` that follow from the options in a file.

    Args:
        content: the file's content as `ep_hw.data.pickles` notes it.
    """
    if not isinstance(content, dict):
        return {}
    fields: dict[str, object] = {}
    for entry in ENTRIES:
        fields |= _fields(content.get(entry))
    return fields


def _fields(noted: object) -> dict[str, object]:
    options = noted.state if isinstance(noted, Call) else noted   # of argparse's Namespace
    if not isinstance(options, dict):
        return {}
    plain = {name: word(value) if isinstance(value, Text) and len(value) < 80 else value
             for name, value in options.items()}
    words = {field: meanings.get(plain[name]) for name, (field, meanings) in _WORDS.items()
             if isinstance(plain.get(name), str | bool)}
    fields: dict[str, object] = {field: meaning for field, meaning in words.items() if meaning is not None}
    fields |= {name: plain[name] for name in _LISTS if _is_integers(plain.get(name))}
    return fields | _pools(plain.get("pools"))


def _is_integers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _pools(letters: object) -> dict[str, object]:
    """One letter a layer: m for a max-pool by 2, a for an average pool by 2, i for none."""
    if not isinstance(letters, str) or not letters or set(letters) - set("mai"):
        return {}
    kinds = ["average" if letter == "a" else "max" for letter in letters]
    pooled = {kind for kind, letter in zip(kinds, letters) if letter != "i"}
    pool = {"pool": kinds if len(pooled) > 1 else pooled.pop()} if pooled else {}
    return {"pools": [1 if letter == "i" else 2 for letter in letters], **pool}
