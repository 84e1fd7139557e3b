"""Images: any source to an `ImageTable`. One file a kind of source, one line in `SOURCES`.

A source is a function of its options that returns the splits `train` and `test`. It lists labels at once and reads
encoded bytes only when asked, so nothing larger than a part is ever in memory.

* `digits.py`, `folder.py`, `parquet.py`, `vision.py`  the sources
* `seam.py`        what every source gives and what is checked of it; the cut of minival
* `decoding.py`    file bytes to pixels
* `inspection.py`  every image decoded once: soundness, pixel statistics, duplicates
* `reading.py`     pixels of a table: a part, some rows, everything, or a stream
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.images.base import Source, split_minival
from dcpipe.images.decoding import decode
from dcpipe.images.digits import digits
from dcpipe.images.folder import imagefolder
from dcpipe.images.inspection import PartReport, duplicates, inspect_part, merge_reports
from dcpipe.images.parquet import parquet
from dcpipe.images.reading import PART_ROWS, decoded_bytes, read_all, read_part, read_parts, read_rows, stream
from dcpipe.images.vision import torchvision

__all__ = [
    "PART_ROWS",
    "SOURCES",
    "PartReport",
    "Source",
    "decode",
    "decoded_bytes",
    "duplicates",
    "inspect_part",
    "merge_reports",
    "read_all",
    "read_part",
    "read_parts",
    "read_rows",
    "split_minival",
    "stream",
]

SOURCES: dict[str, Callable[..., dict[str, Source]]] = {
    "digits": digits,
    "imagefolder": imagefolder,
    "parquet": parquet,
    "torchvision": torchvision,
}
