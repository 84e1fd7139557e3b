"""Studies: many settings under one protocol. `studies/params.yaml` to entries, results to summaries.

A study runs entries x ipc x seeds; an entry is a selector with its options. A seed is that of selecting and that of the
student alike, so a standard deviation covers both. `selection` compares selectors (SCORE, Sec. 6.3, Fig. 2),
`coefficients` moves alpha and beta of `score` (Fig. 4), `resilience` packs the labels of every selector's coreset at
ever smaller budgets (Fig. 5). `labels` compares codecs: one set of labels, every codec at every budget (Fig. 3).
What surrounds them (teachers, labels, budget, students) is that of params.yaml, so that accuracies compare with each
other and with the workspace's own table. `syntheses` and `ladder` compare whole variants of params.yaml: see
`variants`; `sizes` does so at every smaller size of each one's set: see `sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import Field

from dcpipe.config.blocks import Block, Count, Positive, checked, read
from dcpipe.studies.sizes import SizesStudy
from dcpipe.studies.variants import EntryName, VariantsStudy
from dcpipe.types import DataError, LabelShape, require

FILE = Path("studies/params.yaml")
Weight = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=1)]
Seeds = Annotated[list[int], Field(min_length=3)]
Split = Literal["test", "minival"]


class SelectorEntry(Block):
    """A selector and its options, as in params.yaml's block `selection`; `method` is the entry's name by default."""

    method: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class SelectionStudy(Block):
    """Selectors by the names that rows and pictures get."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ipc: Annotated[list[Count], Field(min_length=1)]
    seeds: Seeds
    split: Split = "test"


class Coefficients(Block):
    """The point that both sweeps pass through."""

    alpha: Weight
    beta: Weight


class CoefficientsStudy(Block):
    """`score` with alpha moved and beta of `base`, then beta moved and alpha of `base`; `options` are its others."""

    base: Coefficients
    alpha: Annotated[list[Weight], Field(min_length=1)]
    beta: Annotated[list[Weight], Field(min_length=1)]
    options: dict[str, Any] = Field(default_factory=dict)
    ipc: Count
    seeds: Seeds
    split: Split = "minival"


class CodecEntry(Block):
    """A codec and its options, as in params.yaml's block `compression`; `codec` is the entry's name by default."""

    codec: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class LabelsStudy(Block):
    """Codecs by the names that rows get, each at every ratio to fp16. `temperatures` are those of the divergences;
    `students` names the entries that students are trained on, at every ratio that they reach."""

    codecs: Annotated[dict[EntryName, CodecEntry], Field(min_length=1)]
    ratios: Annotated[list[Ratio], Field(min_length=1)]
    temperatures: Annotated[list[Positive], Field(min_length=1)] = Field(default=[1.0, 4.0, 20.0])
    students: list[EntryName] = Field(default=[])
    seeds: Seeds
    split: Split = "test"


class ResilienceStudy(Block):
    """Selectors as in `selection`; the labels of each one's coreset are packed at every ratio to fp16 by the codec of
    params.yaml's block `compression`, whose own budget is not used."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ratios: Annotated[list[Ratio], Field(min_length=1)]
    ipc: Count
    seeds: Seeds
    split: Split = "test"


class Studies(Block):
    """The whole of `studies/params.yaml`; a study that is not run needs no block."""

    selection: SelectionStudy | None = None
    coefficients: CoefficientsStudy | None = None
    labels: LabelsStudy | None = None
    resilience: ResilienceStudy | None = None
    syntheses: VariantsStudy | None = None
    ladder: VariantsStudy | None = None
    sizes: SizesStudy | None = None


STUDIES = tuple(Studies.model_fields)
VARIANTS = ("syntheses", "ladder")
SWEEP = ("swept", "alpha", "beta")  # columns of a study whose entries are points of sweeps


@dataclass(frozen=True)
class Entry:
    """One selector with its options. `swept` is the coefficient that a sweep moves, "" for none."""

    name: str
    method: str
    options: dict[str, Any]
    swept: str = ""


@dataclass(frozen=True)
class Study:
    """What one study runs: every entry at every ipc with every seed, students tested on `split`; with `ratios`, labels
    at each of them and uncompressed instead of at the workspace's budget."""

    name: str
    entries: tuple[Entry, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    split: Split
    ratios: tuple[float, ...] = ()

    @property
    def sweeps(self) -> bool:
        """Whether entries are points of sweeps rather than selectors of their own."""
        return any(entry.swept for entry in self.entries)

    def place(self, entry: Entry) -> dict[str, Any]:
        """The columns that say which entry a row is of."""
        sweep = dict(zip(SWEEP, (entry.swept, entry.options.get("alpha"), entry.options.get("beta")), strict=True))
        return {"selector": entry.name, **(sweep if self.sweeps else {})}


def load(name: str, path: Path = FILE) -> Study:
    """A study of selectors; raises `DataError` with one sentence for the first thing that is wrong."""
    check_name(name)
    return parse(name, _content(path), str(path))


def load_labels(path: Path = FILE) -> LabelsStudy:
    """The study of codecs; raises `DataError` with one sentence for the first thing that is wrong."""
    return parse_labels(_content(path), str(path))


def load_variants(name: str, path: Path = FILE) -> VariantsStudy:
    """A study of variants, `syntheses` or `ladder`; raises `DataError` with one sentence for the first thing wrong."""
    require(name in VARIANTS, f"study {name!r} is not of variants; choose one of {', '.join(VARIANTS)}")
    block: VariantsStudy = _block(_content(path), name, str(path))
    return block


def load_sizes(path: Path = FILE) -> SizesStudy:
    """The study of sizes; raises `DataError` with one sentence for the first thing that is wrong."""
    block: SizesStudy = _block(_content(path), "sizes", str(path))
    block.check(str(path))
    return block


def _content(path: Path) -> Mapping[str, Any]:
    require(path.is_file(), f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there")
    return read(path, f"one block a study: {', '.join(STUDIES)}")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Errors inside say where in studies/params.yaml their cause is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{FILE}: {where}: {error}") from error


def check_name(name: str | None) -> None:
    """Raises `DataError` listing the studies unless `name` is one of them."""
    legal = ", ".join(STUDIES)
    require(name is not None, f"name a study: {legal}")
    require(name in STUDIES, f"unknown study {name!r}; choose one of {legal}")


def parse(name: str, content: Mapping[str, Any], where: str = str(FILE)) -> Study:
    """As `load`, from a mapping."""
    if name == "coefficients":
        return _sweeps(_block(content, name, where), where)
    require(name != "labels", "study 'labels' is of codecs, not of selectors; run `dcpipe study labels`")
    variants = (*VARIANTS, "sizes")
    require(name not in variants, f"study {name!r} is of variants, not of selectors; run `dcpipe study {name}`")
    block = _block(content, name, where)
    entries = [Entry(key, entry.method or key, entry.options) for key, entry in block.selectors.items()]
    if name == "resilience":
        study = _study(name, entries, [block.ipc], block)
        return replace(study, ratios=tuple(sorted(block.ratios)))
    return _study(name, entries, block.ipc, block)


def _sweeps(block: CoefficientsStudy, where: str) -> Study:
    for key in ("alpha", "beta"):
        require(key not in block.options, f"{where}: coefficients.options has {key!r}; say it in coefficients.base")
    base = {**block.options, **block.base.model_dump()}
    sweeps = [("alpha", block.alpha), ("beta", block.beta)]
    entries = [
        Entry(f"{swept}-{value:.12g}", "score", {**base, swept: value}, swept)
        for swept, values in sweeps
        for value in sorted(values)
    ]
    return _study("coefficients", [Entry("random", "random", {}), *entries], [block.ipc], block)


def parse_labels(content: Mapping[str, Any], where: str = str(FILE)) -> LabelsStudy:
    """As `load_labels`, from a mapping."""
    block: LabelsStudy = _block(content, "labels", where)
    unknown = [name for name in block.students if name not in block.codecs]
    require(
        not unknown, f"{where}: labels.students names {unknown[:1]}, which is not in labels.codecs; add it there first"
    )
    return block


def _block(content: Mapping[str, Any], name: str, where: str) -> Any:
    """A study's block of a whole file in whose lists nothing repeats."""
    file = checked(Studies, content, where)
    for study, block in file:
        for key, values in block or ():
            again = [v for index, v in enumerate(values) if v in values[:index]] if isinstance(values, list) else []
            require(not again, f"{where}: {study}.{key} is {values} and repeats {again[:1]}; say each once")
    block = getattr(file, name)
    require(block is not None, f"{where}: {name!r} is missing; add it")
    return block


def _study(
    name: str, entries: list[Entry], ipc: list[int], block: SelectionStudy | CoefficientsStudy | ResilienceStudy
) -> Study:
    return Study(name, tuple(entries), tuple(sorted(ipc)), tuple(block.seeds), block.split)


def summary(results: Sequence[Mapping[str, Any]], fp16_bytes: Mapping[int, int]) -> list[dict[str, Any]]:
    """One row an entry and ipc of `results` (one row a seed, with the seconds its selecting took), in their order.

    Accuracy in percent is the mean over seeds, with the standard deviation over n - 1; bytes and seconds are means too.
    `fp16_bytes`: by ipc, what the soft labels take uncompressed (0 for hard labels).
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["selector"], row["ipc"]), []).append(row)
    return [
        {
            **{key: rows[0][key] for key in ("selector", *SWEEP, "ipc") if key in rows[0]},
            "accuracy": round(fmean(row["accuracy"] for row in rows), 3),
            "std": round(stdev(row["accuracy"] for row in rows), 3),
            "seeds": len(rows),
            "image_bytes": round(fmean(row["image_bytes"] for row in rows)),
            "label_bytes": round(fmean(row["label_bytes"] for row in rows)),
            "fp16_label_bytes": fp16_bytes[ipc],
            "seconds": round(fmean(row["seconds"] for row in rows), 3),
        }
        for (_, ipc), rows in groups.items()
    ]


def label_row(
    facts: Mapping[str, Any], shape: LabelShape, temperatures: Sequence[float], accuracies: Sequence[float]
) -> dict[str, Any]:
    """A row of the study of codecs: bytes of the file beside what fp16 and fp32 take (bits per class: of all images and
    views), how near the labels are, and mean and standard deviation (n - 1) of `accuracies`; "" for what was not
    measured."""
    size, reference = facts["bytes"], shape.reference_bytes
    measured = ("held", "relative_error", *(f"kl_t{t:g}" for t in temperatures), "agreement")
    return {
        "codec": facts["codec"],
        "ratio": facts["ratio"],
        "bytes": size,
        "fp16_bytes": reference,
        "fp32_bytes": 2 * reference,
        "times_fp16": round(reference / size, 2) if size else "",
        "bits_per_class": round(8 * size / shape.classes, 1),
        **{key: round(facts[key], 5) if key in facts else "" for key in measured},
        "accuracy": round(fmean(accuracies), 3) if accuracies else "",
        "std": round(stdev(accuracies), 3) if accuracies else "",
        "seeds": len(accuracies),
        "seconds": round(facts["seconds"], 3) if "seconds" in facts else "",
        "note": facts["note"],
    }
