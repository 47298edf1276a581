"""Edits of JSON and TOML: values that no one means, doubled and foreign keys, depth, texts that break a terminal."""

import copy
import json
import re
from collections.abc import Iterator
from random import Random

HUGE = ("1e400", "-1e400", "NaN", "Infinity", "-Infinity", str(10**18), str(2**63), str(-2**63), "1" + "0" * 400,
        "9" * 5000)
SMALL = ("0", "-1", "-0.0", "0.5", "1e-320", "65536", str(2**31), str(10**9), "true", "null")
TEXTS = ("", "x" * 1_000_000, "\x00", "\x1b[31mred\x1b[0m", "../../etc/passwd", "a/b", "$\\frac{$", "[/bold]", "\ud800",
         "a\nb", "\u202e", "NaN", "1")
SHAPES = ("[]", "{}", "[[]]", "[null]", '{"": null}', "[" * 500 + "]" * 500, "[" * 100_000 + "]" * 100_000,
          "[" + "0," * 100_000 + "0]", "{" + ",".join(f'"{n}":0' for n in range(50_000)) + "}")


class Raw(str):
    """JSON that is written as it stands."""


class Twin(str):
    """A key that stands beside itself in one dictionary."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def spell(node, like: str = "") -> str:
    """JSON of a tree with `Raw` leaves and `Twin` keys, spaced as another text is."""
    comma, colon = (", ", ": ") if '": ' in like else (",", ":")
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        pairs = (json.dumps(str(key)) + colon + spell(value, like) for key, value in node.items())
        return "{" + comma.join(pairs) + "}"
    if isinstance(node, (list, tuple)):
        return "[" + comma.join(spell(value, like) for value in node) + "]"
    return json.dumps(node)


def edit_tree(rng: Random, tree) -> tuple[str, object]:
    """What was changed, and a copy of a JSON tree with one thing changed."""
    tree = copy.deepcopy(tree)
    owner, key = rng.choice(list(_places(tree)))
    kind = rng.choice(("value", "value", "value", "number", "text", "missing", "twin", "foreign", "renamed", "wrapped"))
    where = f"{key!r:.40}"
    if kind == "value":
        owner[key] = Raw(rng.choice((*HUGE, *SMALL, *SHAPES, *map(json.dumps, TEXTS))))
        return f"{where} = {owner[key]:.40}", tree
    if kind == "number":
        owner[key] = _nudged(rng, owner[key])
        return f"{where} = {owner[key]!s:.40}", tree
    if kind == "text":
        owner[key] = rng.choice(TEXTS)
        return f"{where} = {owner[key]!r:.40}", tree
    if kind == "wrapped":
        owner[key] = rng.choice(([owner[key]], {"value": owner[key]}, str(owner[key])))
        return f"{where} wrapped", tree
    if isinstance(owner, dict):
        return _edit_key(rng, owner, key, kind), tree
    del owner[key]
    return f"{where} missing", tree


def _edit_key(rng: Random, owner: dict, key: str, kind: str) -> str:
    if kind == "twin":
        owner[Twin(key)] = rng.choice((owner[key], _nudged(rng, owner[key]), Raw("1")))
    elif kind == "foreign":
        owner[rng.choice(("foreign", "", "__proto__", "\x1b[31m", "x" * 100_000))] = rng.choice((0, "", [], {}))
    else:
        value = owner.pop(key)
        if kind == "renamed":
            owner[rng.choice((key.upper(), f"{key} ", f"_{key}"))] = value
    return f"{key!r:.40} {kind}"


def _nudged(rng: Random, value):
    """A value of the same type nearby: what a careful forger writes."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 7, 1000, 10**6))
    if isinstance(value, float):
        return value * rng.choice((-1, 1 + 1e-12, 1.1, 1e30)) or 1e-3
    if isinstance(value, str):
        return value[:-1] if value and rng.random() < 0.5 else value + rng.choice(("0", "a", "/"))
    return value


def _places(tree) -> Iterator[tuple]:
    """(owner, key) of everything in a tree."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def edited_json(rng: Random, blob: bytes) -> bytes:
    """A JSON file with one thing changed."""
    tree = json.loads(blob)
    if rng.random() < 0.1:
        return rng.choice((b"\xef\xbb\xbf" + blob, blob.decode().encode("utf-16"), blob + blob, b"[" + blob + b"]",
                           blob.rstrip()[:-1] + b",}", b"null", b"0", b'"x"', b"[]", b"{}", b"// x\n" + blob))
    return spell(edit_tree(rng, tree)[1], blob.decode()).encode()


_LINE = re.compile(r"^([A-Za-z_]+)( *= *)(.*)$", re.M)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
TOML_HUGE = ("1e400", "-1e400", "nan", "inf", "-inf", str(10**18), str(2**63), str(-2**63), "1" + "0" * 400, "9" * 5000)


def huge_number_in_toml(rng: Random, blob: bytes) -> bytes:
    """A number that no setting may have, in the place of another."""
    text = blob.decode()
    number = rng.choice([m for m in _NUMBER.finditer(text) if not _is_in_words(text[:m.start()])])
    return (text[:number.start()] + rng.choice(TOML_HUGE) + text[number.end():]).encode()


def _is_in_words(before: str) -> bool:
    """Whether what follows stands in a comment or a string."""
    line = before.rpartition("\n")[2]
    return "#" in line or line.count('"') % 2 == 1


def broken_toml(rng: Random, blob: bytes) -> bytes:
    """A field doubled, unknown, missing or of another type; depth; texts that no one means."""
    text = blob.decode()
    entry = rng.choice(list(_LINE.finditer(text)))
    line, key, value = entry.group(0), entry.group(1), entry.group(3)
    new = rng.choice((f"{line}\n{line}", f"{line}\nforeign = 1", "", f"{key} = {{}}", f"{key} = [[{value}]]",
                      f"{key} = {'[' * 100_000}{']' * 100_000}", f"{key} = {'[' * 300}{']' * 300}",
                      f"{key}{'.a' * 100_000} = 1", f"{key} = 1979-05-27", f"{key} = true", f"{key} = \"\"",
                      f"{key} = {json.dumps('x' * 1_000_000)}", f'{key} = "\\u001b[31m"', f"{key} = -1", f"{key} = 0",
                      f"{key} = []", f"{key} = 0x7fffffffffffffff", f"[{key}]", f"{key} = {json.dumps(value)}"))
    return (text[:entry.start()] + new + text[entry.end():]).encode("utf-8", "surrogatepass")
