"""`params.yaml` to frozen, validated blocks: one a stage, named like it.

Every value enters here once. An unknown, missing or mistyped key, or a value out of range, stops before any work
with a sentence that lists the legal ones. The `options` of a source, selector, method or codec are that
function's own keyword arguments, checked by `check_options` where the function is at hand.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dcpipe import protocols
from dcpipe.types import DataError, Mix, ViewPolicy, require

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Strategy = Annotated[str, AfterValidator(lambda name: ViewPolicy(siamese=name).siamese)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Block(BaseModel):
    """Frozen; unknown keys are errors; no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Checked = TypeVar("Checked", bound=Block)


class Images(Block):
    """Where images come from and how they are decoded."""

    source: str
    options: dict[str, Any] = {}
    size: Count
    minival: Share = 0.1
    seed: int = 0


class Augmentation(Block):
    """The views of a training or labelling: crop area range and probability of a flip; before that, the number of
    RandAugment's operations and the grid of shuffled patches (see `dcpipe.augment`); after it, a strategy of
    `dcpipe.siamese`. `mix_share` is the probability of softlabels' mix, where there is one."""

    scale_min: Annotated[float, Field(gt=0, le=1)] = 0.08
    scale_max: Annotated[float, Field(gt=0, le=1)] = 1.0
    flip: Share = 0.5
    randaugment: Annotated[int, Field(ge=0, le=16)] = 0
    shuffle: Annotated[int, Field(ge=1, le=16)] = 1
    siamese: Strategy = ""
    mix_share: Share = 1.0

    def policy(self, seed: int, mix: Mix = "none") -> ViewPolicy:
        """The view policy these choices make."""
        return ViewPolicy(**self.model_dump(), mix=mix, seed=seed)


class TeacherNetwork(Block):
    """One teacher: a network's name and, unless trained from scratch, a weights file or torchvision enum.

    `mean` and `std` of the pixels it expects: by default those a torchvision enum states, else those of train.
    """

    network: str
    weights: str | None = None
    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None


class TeacherTraining(Block):
    """How every teacher is trained. `epochs: 0` keeps pretrained weights as they are."""

    epochs: Annotated[int, Field(ge=0)]
    batch_size: Count = 128
    optimizer: str = "sgd"
    lr: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    zeta: Positive = 1.0
    augmentation: Augmentation = Augmentation()
    seed: int = 0


class TeacherBlock(Block):
    """The teachers by name, and their training."""

    networks: Annotated[dict[Name, TeacherNetwork], Field(min_length=1)]
    training: TeacherTraining


class Shortlist(Block):
    """R_C only for the `per_class` images of a class that the greedy choice by R_I - alpha R_D takes first: several
    times the ipc to select, of which the selection stage tells how many came from the lower half."""

    per_class: Count
    alpha: Annotated[float, Field(ge=0)] = 5.0
    eps2: Positive = 0.5


class LabelRate(Block):
    """How R_C (SCORE, Eq. 7) of a candidate is measured: see `dcpipe.label_rate`."""

    views: Count = 16
    stored_views: Count = 300
    input: Literal["logits", "probabilities", "tempered"] = "tempered"
    temperature: Positive = 20.0
    coefficient: Literal["literal", "sample"] = "literal"
    eps2: Positive = 0.5
    shortlist: Shortlist | None = None


class FeaturesBlock(Block):
    """Which teacher looks at the candidates, and through which views."""

    teacher: str
    label_rate: LabelRate = LabelRate()
    augmentation: Augmentation = Augmentation()
    batch_size: Count = 256
    seed: int = 0


class SelectionBlock(Block):
    """Which selector picks `ipc` images per class."""

    method: str
    ipc: Count
    seed: int = 0
    options: dict[str, Any] = {}


class SynthesisBlock(Block):
    """How the picked images are refined; `none` keeps them."""

    method: str = "none"
    seed: int = 0
    options: dict[str, Any] = {}


class SoftLabelsBlock(Block):
    """K views of every image through one teacher, or the mean logits of several. `method: none` is hard labels."""

    method: Literal["stored", "none"] = "stored"
    teachers: Annotated[list[str], Field(min_length=1)]
    views: Count
    augmentation: Augmentation = Augmentation()
    mix: Mix = "none"
    batch_size: Count = 256
    seed: int = 0


class CompressionBlock(Block):
    """Which codec, and its budget: bytes per image, or a ratio to labels in fp16 (LPLD's 1x) or in fp32 (SCORE's)."""

    codec: str
    ratio: Annotated[float, Field(ge=1)] | None = None
    reference: Literal["fp16", "fp32"] = "fp16"
    bytes_per_image: Positive | None = None
    options: dict[str, Any] = {}


class EvaluationBlock(protocols.Settings, Block):
    """The students' protocol. `baselines` are the rows shown beside the condensed set's own."""

    student: str
    seeds: Annotated[list[int], Field(min_length=3)] = [0, 1, 2]
    baselines: list[Literal["random", "uncompressed", "online", "hard"]] = ["random", "uncompressed", "online", "hard"]


class ReleaseBlock(Block):
    """The release's name (lowercase and dashes), and whether the first soft-label teacher travels with it."""

    name: Name
    teacher: bool = False
    licence: str = "unstated"


class Params(Block):
    """The whole of `params.yaml`: one workspace is one condensed dataset."""

    images: Images
    teacher: TeacherBlock
    features: FeaturesBlock
    selection: SelectionBlock
    synthesis: SynthesisBlock
    softlabels: SoftLabelsBlock
    compression: CompressionBlock
    evaluation: EvaluationBlock
    release: ReleaseBlock


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a parameter file; raises `DataError` with one sentence for the first thing that is wrong."""
    require(path.is_file(), f"{path} not found; run `dcpipe init PRESET` or change to the workspace's folder")
    return parse(read(path, f"one block a stage: {', '.join(Params.model_fields)}"), str(path))


def read(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; `DataError` says what was `wanted` when it holds none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}; correct it there") from error
    require(isinstance(content, dict), f"{path} must hold {wanted}")
    return dict(content)


def checked(model: type[Checked], content: Mapping[str, Any], where: str) -> Checked:
    """`content` as a block; `DataError` tells the first problem, with the legal keys where one is unknown."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{where}: {_sentence(error, model)}") from error


def parse(content: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """As `load`, from a mapping."""
    params = checked(Params, content, where)
    teachers = params.teacher.networks
    for key, names in (
        ("features.teacher", [params.features.teacher]),
        ("softlabels.teachers", params.softlabels.teachers),
    ):
        for name in names:
            require(
                name in teachers,
                f"{where}: {key} names {name!r}, which teacher.networks lacks; it has {', '.join(teachers)}",
            )
    for key, augmentation in (
        ("teacher.training", params.teacher.training.augmentation),
        ("features", params.features.augmentation),
        ("softlabels", params.softlabels.augmentation),
    ):
        low, high = augmentation.scale_min, augmentation.scale_max
        require(low <= high, f"{where}: {key}.augmentation has scale_min {low} above scale_max {high}; swap them")
    for network in teachers.values():
        require(
            params.teacher.training.epochs > 0 or network.weights is not None,
            f"{where}: teacher.training.epochs is 0 but {network.network!r} has no weights; give weights or train it",
        )
    budget = params.compression
    require(
        budget.codec == "none" or (budget.ratio is None) != (budget.bytes_per_image is None),
        f"{where}: compression needs exactly one of ratio and bytes_per_image for codec {budget.codec!r}",
    )
    return params


def _sentence(error: ValidationError, model: type[Block]) -> str:
    """The first problem, with the legal keys where a key is unknown."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        legal = _keys_at(model, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), legal, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown key {place!r}; legal ones are {', '.join(legal)}{hint}"
    if first["type"] == "missing":
        return f"{place!r} is missing; add it"
    sentence = f"{place} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    # YAML 1.1 reads 1e-3 as text: the commonest slip in a parameter file deserves its remedy.
    number = isinstance(first["input"], str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", first["input"])
    return f"{sentence}; YAML wants a point, as in 1.0e-3" if number else sentence


def _keys_at(model: type[Block], location: tuple[int | str, ...]) -> list[str]:
    """Legal keys of the block at a location inside `model`."""
    block: Any = model
    for part in location:
        if isinstance(block, type) and issubclass(block, BaseModel):
            block = block.model_fields[str(part)].annotation
            block = get_args(block)[0] if type(None) in get_args(block) else block  # `Block | None`
        else:  # a mapping of names to blocks
            block = get_args(block)[-1]
    return list(block.model_fields)


def check_options(kind: str, name: str, table: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> None:
    """`name` must be in `table`, and `options` be keyword-only arguments of what it names; `DataError` lists them."""
    require(name in table, f"unknown {kind} {name!r}; choose one of {', '.join(table)}")
    parameters = inspect.signature(table[name]).parameters.values()
    legal = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for key in options:
        require(
            key in legal,
            f"{kind} {name!r} has no option {key!r}; legal ones are {', '.join(legal) or 'none: it takes no option'}",
        )
    for key, parameter in legal.items():
        require(
            parameter.default is not inspect.Parameter.empty or key in options,
            f"{kind} {name!r} needs option {key!r}; add it under options",
        )
