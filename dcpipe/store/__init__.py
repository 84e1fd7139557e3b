"""Write artifacts to disk and read them. No other part of dcpipe writes artifacts.

An artifact is a folder with `artifact.json`, which contains the kind of artifact, its metadata, the SHA-256 of every
file and the lineage (digests of inputs, parameters, code, versions). Loading verifies every byte. There are no pickles,
timestamps or host names, so equal content has equal bytes. A folder is filled in scratch, where it survives a kill, and
is published by one rename.

* `artifact.py`  folders, digests, verification, publishing
* `staging.py`   scratch folders that survive a kill: fingerprint, lock, free space
* `notes.py`     unfinished work, from which an interrupted run resumes
* `hashing.py`   SHA-256 of files, once as long as they do not change; `digests.py` is what processes share of it
* `files.py`     files and folders that are written atomically
* `urls.py`      objects of s3://, gs://, hf:// and https:// addresses
* `images.py`, `teacher.py`, `features.py`, `selection.py`, `labels.py`, `scores.py`: the files of each kind of artifact
* `image_index.py`  where images are that were not copied
* `encoding.py`  condensed images as PNG, in threads, and only once
* `learned.py`   labels and step size that were learned with condensed images
* `whitening.py`  the ZCA transform that they were made for
* `blocks.py`    chunked, sharded Zarr arrays that are filled shard by shard
* `tensors.py`   safetensors files that are written without having them in memory
* `columns.py`   small Parquet files of plain columns
* `sorting.py`   rows grouped by class, on scratch disk

`docs/formats.md` describes the bytes.
"""

from dcpipe.store.artifact import SCHEMA, Artifact, Verified, digest_of, folder_bytes, open_artifact, publish
from dcpipe.store.blocks import Blocks, array_path, array_size, chunk_views, create_blocks, open_blocks, shard_rows
from dcpipe.store.columns import read_columns, write_columns
from dcpipe.store.features import load_features
from dcpipe.store.files import replacing
from dcpipe.store.image_index import write_index
from dcpipe.store.images import SetFile, load_set, save_set, set_of, source_meta, table_of, write_part
from dcpipe.store.labels import (
    describe_views,
    load_pack,
    load_soft_labels,
    pack_metadata,
    read_pack,
    save_label_keys,
    save_pack,
    view_specs,
)
from dcpipe.store.learned import learned_rate, load_learned, save_learned
from dcpipe.store.notes import Notes
from dcpipe.store.scores import load_scores, save_scores
from dcpipe.store.selection import load_selection, save_selection
from dcpipe.store.sorting import RowsSortedWhenRead, by_label, sorted_rows
from dcpipe.store.staging import StagingDir, clean, need_space, scratch_root, staging_dir
from dcpipe.store.teacher import load_teacher, save_teacher, teacher_of
from dcpipe.store.tensors import header_bytes
from dcpipe.store.whitening import read_whitening, save_whitening, whitening_file

__all__ = [
    "SCHEMA",
    "Artifact",
    "Blocks",
    "Notes",
    "RowsSortedWhenRead",
    "SetFile",
    "StagingDir",
    "Verified",
    "array_path",
    "array_size",
    "by_label",
    "chunk_views",
    "clean",
    "create_blocks",
    "describe_views",
    "digest_of",
    "folder_bytes",
    "header_bytes",
    "learned_rate",
    "load_features",
    "load_learned",
    "load_pack",
    "load_scores",
    "load_selection",
    "load_set",
    "load_soft_labels",
    "load_teacher",
    "need_space",
    "open_artifact",
    "open_blocks",
    "pack_metadata",
    "publish",
    "read_columns",
    "read_pack",
    "read_whitening",
    "replacing",
    "save_label_keys",
    "save_learned",
    "save_pack",
    "save_scores",
    "save_selection",
    "save_set",
    "save_teacher",
    "save_whitening",
    "scratch_root",
    "set_of",
    "shard_rows",
    "sorted_rows",
    "source_meta",
    "staging_dir",
    "table_of",
    "teacher_of",
    "view_specs",
    "whitening_file",
    "write_columns",
    "write_index",
    "write_part",
]
