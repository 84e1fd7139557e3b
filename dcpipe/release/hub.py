"""Copy a release into a dataset repository of the Hugging Face Hub, from which `dcpipe.load("hf://…")` loads it.

The files are those of the release, byte for byte, so that its digest is the same there. The card's front matter names
`images.parquet`, so `datasets.load_dataset(repo_id)` reads images and class names. `croissant.json` is added.
"""

from __future__ import annotations

from pathlib import Path

from dcpipe import store
from dcpipe.release.croissant import CROISSANT, File, describe, written
from dcpipe.store import urls
from dcpipe.store.images import IMAGES
from dcpipe.store.manifest import MANIFEST
from dcpipe.types import DataError


def push(folder: Path, repo_id: str, token: str | None, private: bool | None) -> str:
    """Push the release in a folder in one commit; see `Release.push_to_hub`."""
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError as error:
        package, install = urls.PACKAGES["hf"]
        raise DataError(f"push_to_hub needs the package {package}; run `{install}`") from error
    found = store.open_artifact(folder, "release", again=True)
    files = {name: File(name, record["bytes"], record["sha256"]) for name, record in found.files.items()}
    table = files.pop(IMAGES)
    where = f"hf://datasets/{repo_id}"
    try:
        hub = HfApi(token=token)
        page = hub.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        about = written(describe(found.meta, table, others=list(files.values()), url=str(page)))
        added = [CommitOperationAdd(name, found.path / name) for name in (*found.files, MANIFEST)]
        hub.create_commit(
            repo_id,
            [*added, CommitOperationAdd(CROISSANT, about.encode())],
            repo_type="dataset",
            commit_message=f"Release {found.meta['name']}, digest {found.digest[:12]}",
        )
    except Exception as error:  # those of the Hub, of its HTTP client and of names that it refuses have no common class
        told = urls.sentence(where, error)
        raise DataError(told if not token else told.replace(token, "…")) from error
    return where
