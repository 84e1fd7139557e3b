"""What a card needs to know of a release."""

from __future__ import annotations

META = {
    "name": "x",
    "licence": "unstated",
    "labels": None,
    "params": {"selection": {"method": "random"}, "synthesis": {"method": "none"}},
    "ipc": 1,
    "classes": ["a", "b"],
    "size": 8,
    "grid": 1,
    "images": 2,
    "bytes": {},
}
