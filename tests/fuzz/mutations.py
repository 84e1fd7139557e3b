"""Damage to files, random and from a seed: of their bytes, and of the values in JSON and in safetensors headers."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# What a value is replaced by: other types, limits of integers, names that lead elsewhere, text that is none.
HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**12,
    10**40,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "none",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "a\x00b",
    "\ud800",
    "\x1b[2J",
    "9" * 5000,
    "convnet-d3-w1000000",
    "wrn-999994-9",
    [],
    {},
    [[]],
    [0] * 5,
    {"": ""},
    {"a": {"b": {"c": 1}}},
]


def any_bytes(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut off, put in, or moved."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        at = draw.randrange(len(changed) + 1)
        length = draw.choice([1, 1, 2, 4, 8, 64])
        how = draw.randrange(6)
        if how <= 2 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 3:
            del changed[at : at + length]
        elif how == 4:
            changed[at:at] = draw.choice([b"\x00", b"\xff", b"\x80", draw.randbytes(1)]) * length
        else:
            changed[at : at + length] = draw.choice([b"\x00", b"\xff", b"\x7f", draw.randbytes(1)]) * length
    return bytes(changed[: draw.randrange(len(changed) + 1)] if draw.random() < 0.05 else changed)


def any_value(value: Any, draw: random.Random) -> Any:
    """A JSON value with one to three of the values inside it replaced, removed, renamed or doubled."""
    content = {"": copy.deepcopy(value)}
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        places = list(_places(content))
        holder, key = draw.choice(places)
        how = draw.randrange(6)
        if how <= 2 or holder is content:
            holder[key] = copy.deepcopy(draw.choice(HOSTILE))
        elif how == 3:
            del holder[key]
        elif how == 4 and isinstance(holder, dict):
            holder[str(draw.choice(HOSTILE))] = holder.pop(key)
        elif isinstance(holder, dict):
            holder[str(draw.choice(HOSTILE))] = copy.deepcopy(holder[key])
        else:
            holder.insert(key, copy.deepcopy(holder[key]))
    return content[""]


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def json_file(data: bytes, draw: random.Random) -> bytes:
    """A JSON file with damaged bytes, damaged values, or nested far too deep."""
    how = draw.random()
    if how < 0.3:
        return any_bytes(data, draw)
    if how < 0.32:
        return b'{"a":' * 100_000
    return json.dumps(any_value(json.loads(data), draw), indent=1, sort_keys=False).encode()


def safetensors_file(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with damaged bytes, or whose header, or the JSON text in it, has damaged values."""
    how = draw.random()
    length = int.from_bytes(data[:8], "little")
    if how < 0.3:
        return any_bytes(data, draw)
    if how < 0.4:
        return data[:8] + any_bytes(data[8 : 8 + length], draw) + data[8 + length :]
    header = json.loads(data[8 : 8 + length])
    inside = header.get("__metadata__", {}).get("dcpipe")
    if inside is not None and draw.random() < 0.7:
        text = json_file(inside.encode(), draw).decode("utf-8", "replace")
        header["__metadata__"]["dcpipe"] = text
    else:
        header = any_value(header, draw)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + data[8 + length :]
