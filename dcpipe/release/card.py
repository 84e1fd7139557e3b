"""The dataset card: README.md with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dcpipe.types import Score, reference_bytes

_FILES = {
    "images.parquet": "the images: lossless PNG, `label`, and `id`, which views are drawn from",
    "labels.safetensors": "compressed soft labels of augmented views; its header says how to decode it",
    "whitening.safetensors": "the ZCA transform that all images are seen through, in place of mean and std",
    "teacher.safetensors": "weights of the teacher that gave the soft labels",
    "scores.json": "the table above, one number a seed",
}


def card(
    meta: Mapping[str, Any],
    scores: Sequence[Score],
    versions: Mapping[str, str],
    leakage: str = "",
    source: Sequence[str] = (),
) -> str:
    """The Markdown of the card, from the metadata and scores of a release, the versions of the packages that made it, a
    clause about leakage, and the lines of the report of the source images."""
    sections = [
        front_matter(meta, "images.parquet"),
        _summary(meta),
        "## Scores",
        _score_table(meta, scores),
        *([f"Of the source, {leakage}: accuracy on those measures memory."] if leakage else []),
        "## Files",
        _file_table(meta),
        "## Loading",
        _loading(meta),
        *(["## Source images", "\n".join(f"- {_inert(line)}" for line in source)] if source else []),
        "## Licence and sources",
        _sources(meta, versions),
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(meta: Mapping[str, Any], data_file: str) -> str:
    """The YAML front matter of the card, which the Hub reads: the kind of dataset, its licence, and the image file."""
    content = {
        "pretty_name": meta["name"],
        "license": "other",
        "license_name": meta["licence"],
        "task_categories": ["image-classification"],
        "tags": ["dataset-condensation", "dataset-distillation", "dcpipe"],
        # Without this, the Hub would guess and read scores.json as data.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": data_file}]}],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---"


def _summary(meta: Mapping[str, Any]) -> str:
    labels = meta["labels"]
    if labels is None:
        carried = "Its labels are the images' own classes."
    elif "format" in meta["params"].get("import", {}):
        carried = (
            "Each image carries one soft label, which came with it and holds for all of its views, stored in "
            f"{meta['bytes']['labels.safetensors']:,} bytes."
        )
    else:
        views = f", {meta['view_bytes']:,} of them the views' crops and mixes" if "view_bytes" in meta else ""
        carrier = "image" if meta["grid"] == 1 else "decoded image"
        carried = (
            f"Each {carrier} carries soft labels of {labels['views']} augmented views by "
            f"{', '.join(meta['teachers']) or 'teachers that the source does not name'}, "
            f"stored by the codec `{labels['codec']}` in {meta['bytes']['labels.safetensors']:,} bytes{views} "
            f"({reference_bytes(labels, meta['ipc'], meta['grid'], meta.get('per_class')):,} in fp16)."
        )
    made = _making(meta["params"])
    by = "imported by dcpipe, which did not make it" if "import" in meta["params"] else "made with dcpipe"
    return (
        f"# {meta['name']}\n\nA condensed dataset for image classification, {by}: {_count(meta)} of each "
        f"of {len(meta['classes'])} classes, {meta['size']}x{meta['size']} pixels, {made}. {_grids(meta)}{carried}"
    )


def _count(meta: Mapping[str, Any]) -> str:
    """How many images there are of each class."""
    fewest = f" ({min(meta['per_class'])} where there are no more)" if "per_class" in meta else ""
    return f"{'up to ' if fewest else ''}{meta['ipc']} images{fewest}"


def _grids(meta: Mapping[str, Any]) -> str:
    f = meta["grid"]
    if f == 1:
        return ""
    return (
        f"Each stored image is a grid of {f} x {f} cells, and each cell, enlarged bilinearly to full size, is a "
        f"training image: {meta['images']} stored images decode to {meta['images'] * f * f}. "
    )


def _making(params: Mapping[str, Any]) -> str:
    source = params.get("import", {})
    if "format" in source:
        return (
            f"imported from {source['files']:,} file{'' if source['files'] == 1 else 's'} of another project "
            f"({source['bytes']:,} bytes in format `{source['format']}`); what was stated and assumed of them is below"
        )
    if source:
        return (
            f"imported from {params['import']['files']:,} files of another program's soft labels (layout "
            f"`{params['import']['layout']}`), who made images and labels being unknown"
        )
    method, refined = params["selection"]["method"], params["synthesis"]["method"]
    return f"picked by `{method}`" + ("" if refined == "none" else f" and refined by `{refined}`")


def _score_table(meta: Mapping[str, Any], scores: Sequence[Score]) -> str:
    lines = [
        "Top-1 accuracy in percent on the test split, after the last epoch unless its protocol tells of the best of "
        "several tests, mean ± standard deviation over seeds; "
        "every size is the measured size of files in bytes, `fp16` that of the same labels uncompressed."
        + (
            f" The row of {upper.name} is the upper bound: the same network, trained on them for {upper.epochs} epochs "
            f"by the recipe of {upper.protocol}."
            if (upper := next((score for score in scores if score.on_all_images), None))
            else ""
        ),
        "",
        "| row | protocol | student | images per class | accuracy | seeds | images | labels | teacher | fp16 |",
        "|-|-|-|-:|-:|-:|-:|-:|-:|-:|",
    ]
    lines += [
        f"| {s.name} | {s.protocol} | {s.student} | {s.ipc} | {s.mean:.1f} ± {s.std:.1f} | {len(s.accuracy)} "
        f"| {s.image_bytes:,} | {s.label_bytes:,} | {s.teacher_bytes:,} "
        f"| {0 if s.on_all_images else reference_bytes(meta['labels'], s.ipc, meta['grid'], meta.get('per_class')):,} |"
        for s in scores
    ]
    return "\n".join(lines) if scores else "No student was trained on this release."


def _file_table(meta: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {size:,} | {_FILES[name]} |" for name, size in meta["bytes"].items()]
    return "\n".join(
        ["| file | bytes | holds |", "|-|-:|-|", *rows, "", "`artifact.json` holds the SHA-256 of each file."]
    )


def _loading(meta: Mapping[str, Any]) -> str:
    stored = "" if meta["grid"] == 1 else ", as stored; `dcpipe export` writes them decoded"
    whitened = (
        ""
        if "whitening" not in meta
        else " Views of the dataset are ZCA-whitened; `release.whitening` whitens those that students are tested on."
    )
    return (
        "```python\nimport dcpipe\n\n"
        f'release = dcpipe.load("{meta["name"]}@vX.Y.Z", repo="URL of its repository")  # or this folder\n'
        "dataset = release.dataset()  # a torch dataset of (image view, soft label)\n"
        "dataset.set_epoch(0)\n```\n\n"
        "`ipc=` loads fewer images per class. The images alone also load with "
        f'`datasets.load_dataset("parquet", data_files="images.parquet")`{stored}.{whitened}'
    )


def _inert(line: str) -> str:
    """A line with the names of classes, which must not contain markup."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(" ".join(line.split()), quote=False))


def _sources(meta: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    named = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
    made = f"\n\n{'Imported' if 'import' in meta['params'] else 'Made'} with {named}." if named else ""
    params = yaml.safe_dump(dict(meta["params"]), sort_keys=False, allow_unicode=True)
    # Backticks in a value, such as a path, must not end the block; nor may the licence contain markup.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", params)), default=0))
    licence = html.escape(" ".join(meta["licence"].split()), quote=False)
    return (
        f"Licence of the source images: {licence}. The licence of dcpipe does not cover them.\n\n"
        f"Everything that decides this dataset's content:\n\n{fence}yaml\n{params}{fence}{made}"
    )
