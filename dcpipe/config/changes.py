"""Change some keys of a parameter file: for a variant of params.yaml in a study, and for a preset on top of its bases.

Mappings are merged key by key, anything else is replaced, and null removes a key. A change of the source, method, codec
or protocol of a block discards the other keys of the block, because they are options of the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.config.params import NOT_OF_STUDIES

# By block: the key that discards the other keys when it is changed, and the keys that are kept, which mean the same for
# every choice.
ANEW: dict[str, tuple[str, tuple[str, ...]]] = {
    "images": ("source", ("size", "minival", "seed")),
    "selection": ("method", ("ipc", "seed")),
    "synthesis": ("method", ("seed",)),
    "compression": ("codec", ("ratio", "reference", "bytes_per_image")),
    "evaluation": ("protocol", ("student", *NOT_OF_STUDIES)),
}


def changed(content: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a parameter file with the keys of some blocks changed."""
    result = dict(content)
    for name, block_changes in changes.items():
        block = result.get(name) or {}
        chooses, kept = ANEW.get(name, ("", ()))
        if chooses in block_changes:
            block = {key: value for key, value in block.items() if key in kept}
        result[name] = merged(block, block_changes)
    return result


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the keys of `new`, mapping by mapping; keys that are null in `new` are removed."""
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            earlier = result.get(key)
            result[key] = merged(earlier if isinstance(earlier, Mapping) else {}, value)
        else:
            result[key] = value
    return result
