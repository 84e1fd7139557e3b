"""Images as other projects store them: one file per family of formats, and one line in `FORMATS`.

* `pair.py`     MTT, DATM, DD-Ranking: two files with one tensor each
* `dc.py`       DC, DSA, DM: a dict of experiments
* `idc.py`      IDC, DREAM, MDC: a list of two tensors, whose images may be grids
* `folders.py`  SRe2L, CDA, EDC, RDED, D4M: image files in class folders
* `parquet.py`  the Hugging Face hub
* `base.py`     what a reader is given and returns

A format is recognised by its content. Files of torch.save are read without running code in them (`store.torch_files`).
"""

from __future__ import annotations

from pathlib import Path

from dcpipe.interop.sets import dc, folders, idc, pair, parquet
from dcpipe.interop.sets.base import Format, Found, Options, Source, the_one
from dcpipe.types import DataError, require

__all__ = ["FORMATS", "Found", "Options", "read_set"]

FORMATS: dict[str, Format] = {
    "parquet": parquet.FORMAT,
    "folders": folders.FORMAT,
    "pair": pair.FORMAT,
    "dc": dc.FORMAT,
    "idc": idc.FORMAT,
}


def read_set(path: Path, form: str, options: Options) -> tuple[str, Found]:
    """The format and the set of a file or folder; `form` is a name in `FORMATS`, or "auto" to recognise it.

    Raises `DataError` for a missing path, for one that is in no format, or not in that one, and for options that do not
    belong to it.
    """
    require(form in (*FORMATS, "auto"), f"unknown format {form!r}; choose one of auto, {', '.join(FORMATS)}")
    require(path.exists(), f"{path} is not there; give a file or folder that another project wrote")
    tried = FORMATS if form == "auto" else {form: FORMATS[form]}
    for name, one in tried.items():
        found = one.files(Source(path))
        source = Source(the_one(found, path) if found else path)
        if not one.owns(source):
            continue
        require(
            options.factor is None or name == "idc",
            f"{path} has format {name}, in which images are no grids, but --factor is given; leave it out",
        )
        return name, one.read(source, options)
    known = "; ".join(f"{key} ({one.summary})" for key, one in tried.items())
    raise DataError(f"{path} has the content of none of these formats: {known}; give another path or --format")
