"""Test images that are also train images: how many there are, and whether that many are allowed.

Only images that are equal in every pixel are counted (see `inspection.duplicates`). Accuracy on such images measures
memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcpipe.store.documents import reading
from dcpipe.types import require


def describe(duplicates: Mapping[str, Any], n_test: int) -> str:
    """One clause about the result of `inspection.duplicates` for `n_test` test images; empty without duplicates."""
    n = int(duplicates["test_images"])
    return (
        f"{n:,} of {n_test:,} test images ({100 * n / n_test:.2f} %) are also train images, pixel by pixel" if n else ""
    )


def check(duplicates: Mapping[str, Any], n_test: int, allowed: float) -> None:
    """Raises `DataError` if more than the share `allowed` of the test images are also train images."""
    first = (duplicates["first"] or [[0, 0]])[0]
    require(
        duplicates["test_images"] <= allowed * n_test,
        f"{describe(duplicates, n_test)}, for example test image {first[1]} and train image {first[0]}; "
        f"images.max_leakage allows {100 * allowed:g} %; remove them from a split, or raise it (up to 1)",
    )


def recorded(folder: Path) -> str:
    """As `describe`, of a finished artifact of images; empty where there is none."""
    found, manifest = folder / "duplicates.json", folder / "artifact.json"
    if not (found.is_file() and manifest.is_file()):
        return ""
    with reading(folder, "an artifact of images", f"remove {folder} and run `dvc repro`"):
        counts = json.loads(manifest.read_text(encoding="utf-8"))["meta"]["counts"]
        return describe(json.loads(found.read_text(encoding="utf-8")), counts["test"])
