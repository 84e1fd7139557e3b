"""Checks of params.yaml as a whole, made when it is read, of what a block cannot check by itself.

Names and options of methods are looked up in the registries. These are imported by name, because configuration is a
layer below all methods. Whether a budget can be met depends on the number of classes; `budget` checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dcpipe.config import packages
from dcpipe.config.bases import base_of
from dcpipe.config.blocks import WHOLE
from dcpipe.config.options import Options
from dcpipe.config.registry import Registry
from dcpipe.config.values import import_name
from dcpipe.types import DataError, NotApplicableError, check_whitened_size, require

if TYPE_CHECKING:
    from dcpipe.config.params import Params


@dataclass(frozen=True)
class Choice:
    """A block whose `key` names a method of `registry`, and which contains the options of the method."""

    block: str
    key: str
    registry: str

    def table(self) -> Registry[Callable[..., Any]]:
        """The registry of the methods that can be chosen."""
        table: Registry[Callable[..., Any]] = import_name(self.registry)
        return table

    def resolved(self, params: Params) -> tuple[Options, dict[str, Any]]:
        """The options of the chosen method, and their values with all defaults. Raises `DataError` for the first
        invalid one."""
        block, table = getattr(params, self.block), self.table()
        name = getattr(block, self.key)
        with at(f"{self.block}.{self.key}"):
            options = Options.of(table[name])
        return options, options.resolve(block.options, f"{table.kind} {name!r}", f"{self.block}.options")


SOURCES = Choice("images", "source", "dcpipe.images:SOURCES")
SELECTORS = Choice("selection", "method", "dcpipe.selection:SELECTORS")
SYNTHESIS = Choice("synthesis", "method", "dcpipe.synthesis:METHODS")
CODECS = Choice("compression", "codec", "dcpipe.compression:CODECS")
CHOICES = (SOURCES, SELECTORS, SYNTHESIS, CODECS)


@contextmanager
def at(place: str) -> Iterator[None]:
    """Adds the key of params.yaml to the errors that are raised inside; they keep their kind."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{place}: {error}") from error


def problems(params: Params) -> Iterator[DataError]:
    """The first problem of every kind, except those that depend on the images."""
    for check in (*(choice.resolved for choice in CHOICES), *CHECKS):
        try:
            check(params)
        except DataError as error:
            yield error


def resolved(params: Params) -> dict[str, Any]:
    """The content of params.yaml as JSON values, with all defaults filled in, including those of options."""
    content = params.model_dump(mode="json", context=WHOLE)
    for choice in CHOICES:
        content[choice.block]["options"] = choice.resolved(params)[1]
    return content


def _teachers_are_known(params: Params) -> None:
    teachers = params.teacher.networks
    wanted = [("features.teacher", [params.features.teacher]), ("softlabels.teachers", params.softlabels.teachers)]
    for key, names in [*wanted, *_with_role(params, "teachers")]:
        for name in names:
            # A study that names other teachers is right in itself: it does not apply to this workspace.
            if name not in teachers:
                raise NotApplicableError(
                    f"{key} names {name!r}, which is not in teacher.networks; choose one of {', '.join(teachers)}"
                )


def _augmentations_are_ranges(params: Params) -> None:
    for key, augmentation in (
        ("teacher.training", params.teacher.training.augmentation),
        ("features", params.features.augmentation),
        ("softlabels", params.softlabels.augmentation),
    ):
        low, high = augmentation.scale_min, augmentation.scale_max
        require(low <= high, f"{key}.augmentation has scale_min {low} above scale_max {high}; swap them")


def _teachers_are_trained_or_loaded(params: Params) -> None:
    epochs = params.teacher.training.epochs
    for key, network in params.teacher.networks.items():
        where = f"teacher.networks.{key}"
        require(
            epochs > 0 or network.weights is not None,
            f"teacher.training.epochs is 0 but {network.network!r} has no weights; give weights or train it",
        )
        require(
            network.head is None or network.weights is not None,
            f"{where}.head is {network.head!r}, but there are no weights to put it on; give weights, or leave head out "
            "to train the whole network from scratch",
        )
        require(
            network.head is None or epochs > 0,
            f"{where}.head is {network.head!r}, but teacher.training.epochs is 0, so it would not be trained; raise "
            "epochs, or leave head out if the weights have the classes of the images",
        )
        if network.weights in packages.PACKAGES:
            with at(where):
                packages.check(network.weights, network.network)


def _sizes_are_possible(params: Params) -> None:
    sizes, ipc, labels = params.evaluation.sizes, params.selection.ipc, params.softlabels
    for size in sizes:
        require(size <= ipc, f"evaluation.sizes has {size}, but selection.ipc is {ipc}; raise ipc or remove the size")
    require(
        not any(size < ipc for size in sizes) or labels.method == "none" or labels.mix != "cutmix_images",
        "evaluation.sizes has smaller sets, but softlabels.mix is cutmix_images, so labels are of images pasted "
        "together; choose mix none or cutmix_labels, or method none",
    )


def _all_images_can_be_trained_on(params: Params) -> None:
    require(
        "all_images" not in params.evaluation.baselines or params.teacher.training.epochs > 0,
        "evaluation.baselines has all_images, whose students are trained by the recipe of teacher.training, but "
        "teacher.training.epochs is 0; leave all_images out, or give the teachers in weights and epochs",
    )


def against_small_classes(params: Params) -> str:
    """Why small classes cannot give fewer images than others, and what to choose instead; "" if they can."""
    method, synthesis = params.selection.method, params.synthesis.method
    if not import_name("dcpipe.selection:allows_small_classes")(method):
        return (
            f"selector {method!r} chooses in all classes together; choose another, such as facility_location, or lower "
            "ipc and leave small_classes out"
        )
    if synthesis != "none":
        return (
            f"synthesis {synthesis!r} needs equally many images of each class; set synthesis.method: none, or lower "
            "ipc and leave small_classes out"
        )
    return ""


def _small_classes_are_allowed(params: Params) -> None:
    problem = against_small_classes(params) if params.selection.takes_all else ""
    require(not problem, f"selection.small_classes is take_all, but {problem}")


def _base(params: Params) -> tuple[str, dict[str, Any]]:
    """The method that moves the images, with all its options: the base of `mdc`, any other method itself."""
    return base_of(params.synthesis.method, SYNTHESIS.resolved(params)[1])


def _said(params: Params) -> str:
    """The synthesis method in words."""
    method, (base, _) = params.synthesis.method, _base(params)
    return repr(method) if base == method else f"{method!r} with base {base!r}"


def _learned_labels_exist(params: Params) -> None:
    labels = params.softlabels
    if labels.method != "learned":
        return
    _, options = _base(params)
    where = "softlabels.method is learned"
    require(
        options.get("lr_labels") is not None,
        f"{where}, but synthesis {_said(params)} learns none; set synthesis.method: mtt with lr_labels in its "
        "options, or softlabels.method: stored or none",
    )
    require(labels.views == 1, f"{where}: one label per image holds for all views; set softlabels.views: 1")
    codec = params.compression.codec
    require(
        codec == "mean_label", f"{where}, but codec {codec!r} ties labels to views; set compression.codec: mean_label"
    )


def _learned_rate_exists(params: Params) -> None:
    _, options = _base(params)
    require(
        not params.evaluation.learns_rate or "lr_rate" in options,
        f"evaluation.lr is learned, but synthesis {_said(params)} learns no step size; set evaluation.lr "
        "to a number, or synthesis.method: mtt",
    )


def whitening_of(params: Params) -> float | None:
    """The eps of the ZCA transform that the synthesis makes images for; None if it does not whiten."""
    eps = _base(params)[1].get("whitening")
    return None if eps is None else float(eps)


def _whitening_is_possible(params: Params) -> None:
    if whitening_of(params) is None:
        return
    with at("synthesis.options"):
        check_whitened_size(params.images.size)
    require(
        params.softlabels.method != "stored",
        "softlabels.method is stored, but synthesis.options has whitening, and teachers do not see whitened images; "
        "set softlabels.method: none, or leave whitening out",
    )
    require(
        params.softlabels.augmentation.randaugment == 0,
        "softlabels.augmentation has randaugment, which is not possible on whitened images; set randaugment: 0, or "
        "leave whitening out",
    )


def _there_is_one_budget(params: Params) -> None:
    budget = params.compression
    require(
        budget.codec == "none" or (budget.ratio is None) != (budget.bytes_per_image is None),
        f"compression needs exactly one of ratio and bytes_per_image for codec {budget.codec!r}",
    )


def _networks_take_the_images(params: Params) -> None:
    """Every network in params.yaml must exist and take images of `images.size`; one whose gradients or weights are
    matched must treat each image by itself."""
    fit, matched = import_name("dcpipe.networks.fitting:check_size"), _with_role(params, "network")
    for key, block in params.teacher.networks.items():
        with at(f"teacher.networks.{key}.network"):
            fit(block.network, block.input_size or params.images.size)
    for key, name in [("evaluation.student", params.evaluation.student), *matched]:
        with at(key):
            fit(name, params.images.size)
    for key, name in matched:
        with at(key):
            import_name("dcpipe.synthesis.gradients.choices:check_network")(name, params.images.size)


def _trainings_can_run(params: Params) -> None:
    """Recipes and the loss refuse values that contradict each other."""
    recipe, loss = import_name("dcpipe.training:Recipe"), import_name("dcpipe.training.losses:choose")
    teacher, student = params.teacher.training, params.evaluation.at_rate(1.0)  # what is learned is above 0
    if teacher.epochs > 0:
        with at("teacher.training"):
            recipe(teacher.epochs, teacher.optimizer, teacher.lr, teacher.weight_decay, zeta=teacher.zeta)
    loss(student.loss, student.gamma)
    with at("evaluation"):
        known = {field.name: getattr(student, field.name) for field in fields(recipe) if hasattr(student, field.name)}
        recipe(**known | {"milestones": tuple(student.milestones)})


CHECKS: tuple[Callable[[Params], Any], ...] = (
    _teachers_are_known,
    _augmentations_are_ranges,
    _teachers_are_trained_or_loaded,
    _sizes_are_possible,
    _all_images_can_be_trained_on,
    _small_classes_are_allowed,
    _learned_labels_exist,
    _learned_rate_exists,
    _whitening_is_possible,
    _there_is_one_budget,
    _trainings_can_run,
    _networks_take_the_images,
)


def _with_role(params: Params, role: Any) -> list[tuple[str, Any]]:
    """The synthesis options that have a role in the rest of params.yaml, by key; none if the options are invalid."""
    try:
        options, values = SYNTHESIS.resolved(params)
    except DataError:
        return []
    return [(f"synthesis.options.{key}", value) for key, value in options.with_role(values, role)]
