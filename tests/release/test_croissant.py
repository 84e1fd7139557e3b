"""Croissant: the reference reader finds nothing wrong with it, and reads the release by it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import releases
from releases import logits_of

import dcpipe
from dcpipe import release
from dcpipe.release.croissant import File, describe, written
from dcpipe.store.hashing import sha256

# In a process of its own: once `datasets` is imported, its extension types break the reader's way through pandas.
READ = """
import json, sys, mlcroissant, numpy as np
found = []
for path in sys.argv[1:]:
    about = mlcroissant.Dataset(jsonld=path)  # raises for anything against the standard
    found.append({name: list(about.records(name)) for name in ("classes", "images")})
def plain(value):
    return value.decode() if isinstance(value, bytes) else np.asarray(value).tolist()
print(json.dumps(found, default=plain))
"""


def read(*paths: Path) -> list[dict[str, list[dict[str, Any]]]]:
    """The records of both sets of each description."""
    done = subprocess.run([sys.executable, "-c", READ, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_exports_and_releases_are_read_by_it(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    for labels in (False, True):
        release.export(found, tmp_path / str(labels), form="parquet", labels=labels)
    files = {path.name: File.of(path, path.name) for path in sorted(made.iterdir())}
    table = files.pop("images.parquet")
    about = describe(found.manifest, table, others=list(files.values()), url="https://example.org/fish")
    pushed = tmp_path / "pushed"
    pushed.mkdir()
    for path in made.iterdir():
        (pushed / path.name).symlink_to(path)
    (pushed / "croissant.json").write_text(written(about), encoding="utf-8")
    folders = [tmp_path / "False", tmp_path / "True", pushed]
    read_back = read(*(folder / "croissant.json" for folder in folders))
    for folder, records in zip(folders, read_back, strict=True):
        assert [(row["classes/label"], row["classes/name"]) for row in records["classes"]] == list(
            enumerate(releases.CLASSES)
        )
        images = records["images"]
        assert [row["images/id"] for row in images] == found.images.ids.tolist()
        assert [row["images/label"] for row in images] == found.images.labels.tolist()
        np.testing.assert_array_equal(np.array([row["images/image"] for row in images]), found.images.images)
        assert ("images/logits" in images[0]) == (folder.name == "True")
        content = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
        assert content["license"] == "CC0-1.0" and content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
        for each in content["distribution"]:
            assert each["sha256"] == sha256(folder / each["name"])
            assert each["contentSize"] == f"{(folder / each['name']).stat().st_size} B"
    assert found.pack is not None
    logits, box, flip = (
        np.array([row[f"images/{name}"] for row in read_back[1]["images"]]) for name in ("logits", "box", "flip")
    )
    np.testing.assert_array_equal(logits.astype(np.float16), logits_of(found.pack).numpy().astype(np.float16))
    assert box.shape == (12, 5, 4) and flip.shape == (12, 5)


def test_equal_releases_have_equal_descriptions(made: Path) -> None:
    meta, table = dcpipe.load(made).manifest, File("images.parquet", 1, "0" * 64)
    assert written(describe(meta, table)) == written(describe(json.loads(json.dumps(meta)), table))
