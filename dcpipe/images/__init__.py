"""Images: convert any source to an `ImageTable`. Each kind of source is one file and one line in `SOURCES`.

A source is a function of its options that returns the splits `train` and `test`. It reads all labels at once but the
encoded images only on demand, so nothing larger than a part is ever in memory.

* `digits.py`, `folder.py`, `listed.py`, `parquet.py`, `vision.py`, `webdataset.py`  the sources
* `places.py`      files on this machine and at URLs, with the same operations
* `shard_files.py` finds the files of a split in a set of shards
* `tars.py`        finds the images and labels in a tar shard
* `base.py`        what a source provides, how its splits are checked, and how minival is cut off
* `ahead.py`       prepares the next piece of data while one is in use
* `decoding.py`    decodes file bytes to pixels
* `inspection.py`  decodes every image once: damaged files, pixel statistics, duplicates
* `corruption.py`  what becomes of damaged files
* `leakage.py`     test images that are also train images
* `report.py`      what to know of a source: images per class, sizes, crops, duplicates
* `listing.py`     lists the files of a source, so that changes of it are noticed
* `outside.py`     what the stage `sources` writes about everything that is read from outside the workspace
* `index.py`       images that were not copied: where they are, and whether they changed
* `reading.py`     reads the pixels of a table: one part, some rows, a selection, everything, or a stream
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.config.registry import Registry
from dcpipe.images.base import Source, order_note, reads_files, split_minival
from dcpipe.images.decoding import decode
from dcpipe.images.index import located
from dcpipe.images.inspection import PartReport, duplicates, inspect_part, merge_reports
from dcpipe.images.listing import Listing, list_source
from dcpipe.images.reading import PART_ROWS, read_all, read_part, read_parts, read_rows, read_selection, stream

__all__ = [
    "PART_ROWS",
    "SOURCES",
    "Listing",
    "PartReport",
    "Source",
    "decode",
    "duplicates",
    "inspect_part",
    "list_source",
    "located",
    "merge_reports",
    "order_note",
    "read_all",
    "read_part",
    "read_parts",
    "read_rows",
    "read_selection",
    "reads_files",
    "split_minival",
    "stream",
]

SOURCES: Registry[Callable[..., dict[str, Source]]] = Registry(
    "image source",
    "dcpipe.sources",
    {
        "csv": "dcpipe.images.listed:csv",
        "digits": "dcpipe.images.digits:digits",
        "imagefolder": "dcpipe.images.folder:imagefolder",
        "parquet": "dcpipe.images.parquet:parquet",
        "torchvision": "dcpipe.images.vision:torchvision",
        "webdataset": "dcpipe.images.webdataset:webdataset",
    },
    (),
)
