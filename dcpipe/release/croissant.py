"""Croissant 1.0, MLCommons' description of datasets for machines: a JSON-LD file `croissant.json` beside the card.

It names each file with its size and SHA-256, the columns of the table of images, and the classes in label order
(http://mlcommons.org/croissant/1.0). Exports to Parquet have one, and so does a release that is pushed to the Hub. The
folder of a release has none, because another file would change the digests of releases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpipe.store.hashing import sha256
from dcpipe.types import LabelPack

CROISSANT = "croissant.json"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {".parquet": "application/x-parquet", ".json": "application/json", ".md": "text/markdown"}


@dataclass(frozen=True)
class File:
    """A file of the dataset: its path in the folder, its size in bytes and its SHA-256."""

    name: str
    n_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str) -> File:
        """The file `path`, which the folder calls `name`."""
        return cls(name, path.stat().st_size, sha256(path))


def describe(
    meta: Mapping[str, Any], table: File, pack: LabelPack | None = None, others: Sequence[File] = (), url: str = ""
) -> dict[str, Any]:
    """The description of a dataset, from the metadata of its release.

    Args:
        meta: the metadata of the release.
        table: the Parquet file with the columns `id`, `image` and `label`.
        pack: the soft labels that are columns of the table too, if any.
        others: the other files.
        url: the page of the dataset, if it has one.
    """
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": meta["name"],
        "description": (
            f"A condensed dataset for image classification: images of {meta['size']}x{meta['size']} pixels, "
            f"{len(meta['classes'])} classes."
        ),
        "license": meta["licence"],
        "keywords": ["dataset condensation", "dataset distillation", "image classification"],
        "distribution": [_file(file) for file in (table, *others)],
        "recordSet": [_classes(meta["classes"]), _images(table, pack)],
    }
    return content | ({"url": url} if url else {})


def written(content: Mapping[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _file(file: File) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.n_bytes} B",
        "encodingFormat": _FORMATS.get(Path(file.name).suffix, "application/octet-stream"),
        "sha256": file.sha256,
    }


def _classes(names: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "The names of the classes, by label.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [
            {"@type": "cr:Field", "@id": "classes/label", "name": "label", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": "classes/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": [{"classes/label": label, "classes/name": name} for label, name in enumerate(names)],
    }


def _images(table: File, pack: LabelPack | None) -> dict[str, Any]:
    fields = [
        _field(table, "id", "sc:Integer", "The id of the image, which is no position."),
        _field(table, "image", "sc:ImageObject", "The image, as a lossless PNG.", transform={"jsonPath": "bytes"}),
        _field(table, "label", "sc:Integer", "The class of the image.")
        | {"references": {"field": {"@id": "classes/label"}}},
    ]
    if pack is not None:
        k, c = pack.shape.views, pack.shape.classes
        told = {
            "logits": ("sc:Float", f"The logits of {k} views of {c} classes, {k} lists of {c} numbers."),
            "box": ("sc:Float", f"The crop of each view: {k} lists of left, top, width and height as fractions."),
            "flip": ("sc:Integer", f"Whether each of {k} views is flipped, 0 or 1."),
        }
        fields += [_field(table, name, kind, text) | {"repeated": True} for name, (kind, text) in told.items()]
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "The training images with their labels.",
        "key": {"@id": "images/id"},
        "field": fields,
    }


def _field(table: File, column: str, kind: str, told: str, **more: Any) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"images/{column}",
        "name": column,
        "description": told,
        "dataType": kind,
        "source": {"fileObject": {"@id": table.name}, "extract": {"column": column}, **more},
    }
