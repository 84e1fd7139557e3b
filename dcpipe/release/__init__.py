"""Releases: a folder that others can load, verify and train on, and the tags that name its versions.

* `writing.py`     writes images, labels, teacher and scores into the folder, with its metadata
* `card.py`        README.md, the dataset card
* `reading.py`     loads images, labels, teacher and scores from a folder, a URL or a tag: `dcpipe.load`
* `pulling.py`     copies a release from a URL or a tag
* `remote.py`      releases at s3://, gs://, hf:// and https://, of which only the files that are used are downloaded
* `tags.py`        the git tags NAME@vX.Y.Z, and fetching the folder of a tag through DVC
* `publishing.py`  creates such a tag, after checking that everything it needs exists
* `exporting.py`   writes a release for other code, in one of the next three formats
* `folders.py`     an ImageFolder with a dense label file
* `huggingface.py` Parquet that `datasets.load_dataset` reads
* `ddranking.py`   the pair of tensors that DD-Ranking reads
* `croissant.py`   a description for machines, which exports to Parquet and the Hub have
* `hub.py`         copies a release into a dataset repository of Hugging Face

As every artifact, a release has one manifest, `artifact.json`. Its `meta` describes the release and what it was made
from, and its `files` have the size and SHA-256 of each file, which are verified when the release is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcpipe.release.exporting import export
    from dcpipe.release.publishing import publish
    from dcpipe.release.pulling import pull
    from dcpipe.release.reading import Release, load
    from dcpipe.release.writing import assemble

__all__ = ["Release", "assemble", "export", "load", "publish", "pull"]

_ELSEWHERE = {
    "Release": "dcpipe.release.reading",
    "assemble": "dcpipe.release.writing",
    "export": "dcpipe.release.exporting",
    "load": "dcpipe.release.reading",
    "publish": "dcpipe.release.publishing",
    "pull": "dcpipe.release.pulling",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'dcpipe.release' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)
