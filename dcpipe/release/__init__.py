"""Releases: one folder that a stranger can load, train from and check, and the tags that name its versions.

* `writing.py`     images, labels, teacher and scores into the folder, with its metadata
* `card.py`        README.md: the dataset card
* `reading.py`     the folder, or a tag, back into images, labels, teacher and scores: `dcpipe.load`
* `tags.py`        NAME@vX.Y.Z in git, and fetching a tag's folder through DVC
* `publishing.py`  making such a tag, after checking that everything it promises is there
* `exporting.py`   for other code: an ImageFolder with a dense label file, or one of the next two
* `huggingface.py` Parquet that `datasets.load_dataset` reads
* `ddranking.py`   DD-Ranking's pair of tensors
* `decoded.py`     a pack's labels and views as dense arrays, for exports

There is one manifest, `artifact.json`, as in every artifact: its `meta` says what the release is and what it was
made from, its `files` hold the size and SHA-256 of each file, and loading verifies all of it.
"""

from dcpipe.release.exporting import export
from dcpipe.release.publishing import publish
from dcpipe.release.reading import Release, load
from dcpipe.release.tags import pull
from dcpipe.release.writing import assemble

__all__ = ["Release", "assemble", "export", "load", "publish", "pull"]
