"""Read `params.yaml` into frozen, validated blocks: one per stage, with its name.

An unknown, missing or mistyped key, or a value out of range, is refused before any work with a sentence that lists the
valid ones. So are unknown names of methods, networks and protocols, and invalid `options` of a source, selector, method
or codec, which are the keyword-only arguments of its function (see `options` and `check`). Options are stored as they
are written; `check.resolved` fills in their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from dcpipe.config import budget, check, packages, protocols
from dcpipe.config.blocks import Block, GrownBlock, checked, read
from dcpipe.config.values import (
    LEARNED,
    AtLeastOne,
    Count,
    Distinct,
    LocalPath,
    Natural,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Seeds,
    Share,
    Side,
    Strategy,
)
from dcpipe.types import DataError, Decoder, Ensemble, Head, LabelShape, Mix, MixBox, Precision, ViewPolicy, require

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Baseline = Literal["random", "uncompressed", "online", "hard", "equal_bytes", "all_images"]
# The last two take more images than the set has, and all images more time than the rest of a pipeline may take, so they
# have to be asked for.
_BASELINES: list[Baseline] = [name for name in get_args(Baseline) if name not in ("equal_bytes", "all_images")]
Crops = Literal["stored", "full"]


class Images(Block):
    """Where images come from and how they are decoded.

    `on_corrupt`: whether images that cannot be decoded stop the stage, after all have been looked at, or are left out.

    With `copy: false`, data/images says where each image is in the source and what its SHA-256 is, instead of holding
    a copy. `max_leakage` is the share of the test images that may also be train images; more stop the stage. `decoder:
    draft` or `fast` decodes faster, to slightly other pixels (`dcpipe.images.decoding`). `test_crop` is the share of
    the shorter side that the central squares of test and minival keep: 0.875 is "resize the shorter side to 256, crop
    224", how networks that are trained on random crops of whole images are tested.
    """

    source: str
    options: dict[str, Any] = Field(default_factory=dict)
    size: Side
    minival: Share = 0.1
    seed: Seed = 0
    max_leakage: Share = 0.01
    on_corrupt: Literal["stop", "skip"] = "stop"
    copies: bool = Field(default=True, alias="copy")  # `copy` is a method of pydantic's models
    decoder: Decoder = "exact"
    test_crop: PositiveShare = 1.0

    @model_serializer(mode="wrap")
    def _as_in_the_file(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        return {"copy" if key == "copies" else key: value for key, value in content.items()}

    def content(self) -> dict[str, Any]:
        """All that decides what the images are, and no limit. `copy`, `on_corrupt`, `decoder` and `test_crop` are
        left out where they change nothing, so that such images have the digests that they had before these keys
        existed."""
        unchanged = self.unchanged("copies", "on_corrupt", "decoder", "test_crop")
        return self.model_dump(mode="json", exclude={"max_leakage", *unchanged})


class Augmentation(GrownBlock):
    """The views of training or labelling.

    Each view is a crop with an area between `scale_min` and `scale_max`, which is flipped with probability `flip`.
    Before that come `randaugment` operations of RandAugment and a `shuffle` x `shuffle` grid of shuffled patches (see
    `dcpipe.views.randaugment`); after it comes a strategy of `dcpipe.views.siamese`. `mix_share` is the probability of
    the mix in `softlabels`, if there is one, and `mix_box` how its box becomes pixels (see `dcpipe.views.boxes`).
    """

    scale_min: PositiveShare = 0.08
    scale_max: PositiveShare = 1.0
    flip: Share = 0.5
    randaugment: Annotated[int, Field(ge=0, le=16)] = 0
    shuffle: Annotated[int, Field(ge=1, le=16)] = 1
    siamese: Strategy = ""
    mix_share: Share = 1.0
    mix_box: MixBox = "rounded"
    added: ClassVar = ("mix_box",)

    def policy(self, seed: int, mix: Mix = "none") -> ViewPolicy:
        """The view policy with these settings."""
        return ViewPolicy(**self.model_dump(), mix=mix, seed=seed)


class TeacherNetwork(Block):
    """One teacher: the name of a network and, unless it is trained from scratch, its weights: a file, a package that
    contains them (`dcpipe.config.packages`) or a torchvision enum.

    With `head`, a new classifier for the classes of the images is trained on the pretrained weights: `linear` trains it
    alone, `finetune` with all other weights. `input_size` is the side in pixels to which images are resized just before
    the network, wherever it is used. `mean` and `std` are those of the pixels that it expects; by default those of the
    package or torchvision enum, else of train.
    """

    network: str
    weights: LocalPath | None = None
    head: Head | None = None
    input_size: Count | None = None
    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None

    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights file or of that in the package, or None if it is not on this machine."""
        if self.weights is None:
            return None
        path = packages.find(self.weights) if self.weights in packages.PACKAGES else Path(self.weights)
        return packages.sha256_of(path) if path is not None and path.is_file() else None

    def content(self) -> dict[str, Any]:
        """All that decides what the teacher is. `head` and `input_size` are left out where they change nothing, so that
        such teachers have the digests that they had before these keys existed."""
        unused = {key for key in ("head", "input_size") if getattr(self, key) is None}
        return self.model_dump(mode="json", exclude=unused)


class TeacherTraining(Block):
    """How every teacher is trained.

    `epochs: 0` leaves pretrained weights as they are. `sync_batchnorm`: where several processes share a batch, whether
    batch norm uses the statistics of the whole batch, as one process does. `crops` are cut from the `stored` central
    squares, or from the `full` images at their original resolution, which are decoded anew in every epoch.
    `precision` of the network's passes: see `dcpipe.precision`.
    """

    epochs: Natural
    batch_size: Count = 128
    optimizer: protocols.Optimizer = "sgd"
    lr: Positive = 0.1
    weight_decay: NotNegative = 5e-4
    zeta: Positive = 1.0
    augmentation: Augmentation = Augmentation()
    seed: Seed = 0
    sync_batchnorm: bool = False
    crops: Crops = "stored"
    precision: Precision = "auto"

    def content(self) -> dict[str, Any]:
        """All that decides how a teacher is trained. Keys that were added later are left out at their default, so that
        such teachers have the lineage that they had before the keys existed."""
        return self.model_dump(mode="json", exclude=self.unchanged("sync_batchnorm", "crops", "precision"))


class TeacherBlock(Block):
    """The teachers by name, and their training."""

    networks: Annotated[dict[Name, TeacherNetwork], Field(min_length=1)]
    training: TeacherTraining


class Shortlist(Block):
    """R_C is measured only for the first `per_class` images per class of a greedy choice by R_I - alpha R_D.

    `per_class` should be several times the ipc. The stage `selection` prints how many picks come from the lower half.
    """

    per_class: Count
    alpha: NotNegative = 5.0
    eps2: Positive = 0.5


class LabelRate(Block):
    """How R_C (SCORE, Eq. 7) of a candidate is measured: see `dcpipe.coding_rate.label_rate`."""

    views: Count = 16
    stored_views: Count = 300
    input: Literal["logits", "probabilities", "tempered"] = "tempered"
    temperature: Positive = 20.0
    coefficient: Literal["literal", "sample"] = "literal"
    eps2: Positive = 0.5
    centre: bool = False
    unit_rows: bool = False
    shortlist: Shortlist | None = None


class FeaturesBlock(GrownBlock):
    """Which teacher extracts the features of the candidates, and the views that R_C is measured on. `precision` of the
    features: see `dcpipe.precision`; R_C is always computed from logits in float32."""

    teacher: str
    label_rate: LabelRate = LabelRate()
    augmentation: Augmentation = Augmentation()
    batch_size: Count = 256
    seed: Seed = 0
    precision: Precision = "auto"
    added: ClassVar = ("precision",)


class SelectionBlock(Block):
    """Which selector picks `ipc` images per class.

    `small_classes`: whether a class with fewer train images stops the pipeline or gives all that it has (`take_all`).
    """

    method: str
    ipc: Count
    small_classes: Literal["stop", "take_all"] = "stop"
    seed: Seed = 0
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def takes_all(self) -> bool:
        """Whether small classes give all that they have."""
        return self.small_classes == "take_all"

    def picked(self, counts: Sequence[int]) -> int:
        """How many images are picked of classes with these numbers of train images."""
        return sum(min(self.ipc, n) if self.takes_all else self.ipc for n in counts)

    def content(self) -> dict[str, Any]:
        """All that decides what is picked. `small_classes` is left out at its default, so that such selections have the
        lineage that they had before the key existed."""
        return self.model_dump(mode="json", exclude=self.unchanged("small_classes"))


class SynthesisBlock(Block):
    """How the picked images are refined; `none` leaves them as they are."""

    method: str = "none"
    seed: Seed = 0
    options: dict[str, Any] = Field(default_factory=dict)


class SoftLabelsBlock(GrownBlock):
    """K views of every image, labelled by one teacher or by the mean logits of several. `method: none` is hard labels,
    and `learned` is the labels that the synthesis learned with the images, one per image, which hold for all views.
    With `ensemble: equal_norms`, the logits of several teachers are scaled to the same norm first."""

    method: Literal["stored", "learned", "none"] = "stored"
    teachers: Annotated[list[str], Field(min_length=1), Distinct]
    views: Count
    augmentation: Augmentation = Augmentation()
    mix: Mix = "none"
    batch_size: Count = 256
    seed: Seed = 0
    ensemble: Ensemble = "mean"
    added: ClassVar = ("ensemble",)

    @property
    def policy(self) -> ViewPolicy:
        """The policy of the labelled views."""
        return self.augmentation.policy(self.seed, self.mix)


class CompressionBlock(Block):
    """The codec and its budget: bytes per image, or a ratio to labels in fp16 (1x of LPLD) or in fp32 (1x of SCORE)."""

    codec: str
    ratio: AtLeastOne | None = None
    reference: Literal["fp16", "fp32"] = "fp16"
    bytes_per_image: Positive | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def bytes_of(self, shape: LabelShape) -> int | None:
        """The bytes that the whole file may take; None for the codec `none`, which needs no budget."""
        return shape.budget(self.ratio, self.bytes_per_image, self.reference)


# Keys of `evaluation` that a study sets itself or does not use.
NOT_OF_STUDIES = ("seeds", "baselines", "sizes")


class EvaluationBlock(protocols.Settings):
    """The protocol of students.

    `lr: learned` is the step size that the synthesis learned with the images.

    `baselines` are the rows in addition to that of the condensed set: `equal_bytes` are as many random images with hard
    labels as fit in its bytes, and `all_images` is the student trained on all train images with the recipe of
    `teacher.training`, the upper bound. `sizes` are smaller sets that are evaluated too:
    the first n images of each class. With `best_of` above 1, an accuracy is the best of so many tests during training,
    which the name of the protocol then shows; with 1, it is that of the test after the last epoch.
    """

    student: str
    seeds: Seeds = Field(default=[0, 1, 2])
    baselines: Annotated[list[Baseline], Distinct] = Field(default=_BASELINES)
    sizes: Annotated[list[Count], Distinct] = Field(default=[])
    best_of: Count = 1

    @property
    def learns_rate(self) -> bool:
        """Whether the rate is the one that was learned with the images."""
        return cast(object, self.lr) == LEARNED

    def at_rate(self, rate: float | None) -> EvaluationBlock:
        """The block with the learned rate, if it asks for it. Raises `DataError` if that is not known."""
        if not self.learns_rate:
            return self
        if rate is None:
            raise DataError(
                "evaluation.lr is learned, but there is no learned step size in data/synthesis; run `dvc repro "
                "synthesis`, or set evaluation.lr to a number"
            )
        return self.model_copy(update={"lr": rate})


class ReleaseBlock(Block):
    """The name of the release (lowercase letters, digits and dashes), and whether it includes the first teacher of the
    soft labels."""

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

    def content(self) -> dict[str, Any]:
        """All that decides what the condensed dataset is.

        A parameter that was added with a default that changes nothing is left out at this default, so that equal
        releases have equal digests in every version.
        """
        content = self.model_dump(mode="json") | {
            "images": self.images.content(),
            "selection": self.selection.content(),
        }
        for name in ("centre", "unit_rows"):
            if not content["features"]["label_rate"][name]:
                del content["features"]["label_rate"][name]
        for name in self.teacher.training.unchanged("crops", "precision"):
            del content["teacher"]["training"][name]
        content["teacher"]["networks"] = {key: block.content() for key, block in self.teacher.networks.items()}
        return content


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a parameter file. Raises `DataError` with one sentence about the first mistake.

    If the stage `images` has run, the number of classes is known, and the budget is checked too.
    """
    params = load_blocks(path)
    check_whole(params, str(path))
    recorded = budget.recorded(params.images, path.parent / "data" / "images")
    if recorded is not None:
        with check.at(str(path)):
            budget.planned(params, *recorded)
    return params


def check_whole(params: Params, where: str) -> None:
    """Raises `DataError` about the first mistake that the blocks do not find by themselves; see `check`."""
    with check.at(where):
        for problem in check.problems(params):
            raise problem


def load_blocks(path: Path) -> Params:
    """As `load`, but each block is only checked by itself."""
    require(path.is_file(), f"{path} not found; run `dcpipe init PRESET` or change to the workspace's folder")
    return checked(Params, read(path, f"one block per stage: {', '.join(Params.model_fields)}"), str(path))


def parse(content: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """As `load`, from a mapping."""
    params = checked(Params, content, where)
    check_whole(params, where)
    return params
