"""Releases: one folder that a stranger can load, train from and check, and the tags that name its versions.

* `assemble.py`  images, labels, teacher and scores into the folder, with its metadata
* `card.py`      README.md: the dataset card
* `reading.py`   the folder, or a tag, back into images, labels, teacher and scores: `dcpipe.load`
* `tags.py`      NAME@vX.Y.Z in git, and fetching a tag's folder through DVC
* `publish.py`   making such a tag, after checking that everything it promises is there
* `export.py`    an ImageFolder and a dense label file, for code that knows neither Parquet nor dcpipe

There is one manifest, `artifact.json`, as in every artifact: its `meta` says what the release is and what it was
made from, its `files` hold the size and SHA-256 of each file, and loading verifies all of it.
"""

from dcpipe.release.assemble import assemble
from dcpipe.release.export import export
from dcpipe.release.publish import publish
from dcpipe.release.reading import Release, load
from dcpipe.release.tags import pull

__all__ = ["Release", "assemble", "export", "load", "publish", "pull"]
