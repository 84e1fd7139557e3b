"""DC, DSA, DM, IDC, DREAM and MDC as in the table of methods: options, errors, killed runs that resume."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching_scenes import NETWORK, KilledError, World, start_of

from dcpipe.config.options import check_options
from dcpipe.synthesis import METHODS, Progress, SynthesisContext
from dcpipe.synthesis.gradients import engine
from dcpipe.synthesis.gradients.choices import Choices
from dcpipe.types import DataError, ImageSet

TINY: dict[str, Any] = {"network": NETWORK, "outer": 2, "inner": 2, "real_batch": 4}
DEEP = "convnet-d1-w4"  # another network
IDC = TINY | {"lr": 100.0, "learn_images": 8}
BASE: dict[str, dict[str, Any]] = {
    "dc": TINY | {"learn_epochs": 2, "lr": 0.3},
    "dsa": TINY | {"learn_epochs": 2, "lr": 0.3},
    "dm": TINY | {"lr": 0.3},
    "idc": IDC,
    "dream": IDC | {"cluster": 1},
    "mdc": {"options": IDC | {"lr": 20.0, "factor": 1, "inner": 1, "outer": 4}, "period": 1},
}
COMMON: list[tuple[str, Any, dict[str, Any]]] = [
    ("network", DEEP, {}),
    ("outer", 3, {}),
    ("inner", 3, {}),
    ("lr", 1.0, {}),
    ("momentum", 0.0, {}),
    ("real_batch", 5, {}),
    ("subsets", {"begin": "code"}, {"subsets": {}}),
]
SMALL = [*COMMON, ("strategy", "flip", {}), ("initial", "start", {"initial": "noise"}), ("most", 1, {})]
NOISE = {"initial": "noise"}
GRIDS = [
    *COMMON,
    ("distance", "l1", {}),
    ("cluster", 2, {}),
    ("learn_images", 12, {}),
    ("early", 1, {}),
    ("cutmix", 1.0, {"cutmix": 0.0}),
    ("mix_box", "even", {"cutmix": 1.0}),
    ("strategy", "flip", {}),
    ("net_strategy", "", {}),
    ("factor", 1, {}),
    ("kind", "multi", {}),
    ("bound", 6, {"kind": "bound", "bound": 10}),
    ("most", 7, {}),
]
CHANGES = [
    *[(m, "clip", "step", NOISE) for m in ("dc", "dsa", "dm")],
    *[(m, *change) for m in ("dc", "dsa", "dm") for change in SMALL],
    *[(m, "learn_epochs", 1, {}) for m in ("dc", "dsa")],
    *[(m, *change) for m in ("idc", "dream") for change in GRIDS],
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(world: World, method: str, ipc: int = 2, seed: int = 0, **options: Any) -> ImageSet:
    """As the stage runs it, in a folder without a checkpoint."""
    check_options(METHODS, method, options)
    (world.folder / engine.CHECKPOINT).unlink(missing_ok=True)
    return METHODS[method](start_of(ipc), world.context, seed, world.progress, **options)


def options_of(method: str) -> set[str]:
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def test_every_option_has_its_change_here() -> None:
    for method in ("dc", "dsa", "dm", "idc", "dream"):
        # How many classes go through one pass must change nothing: see test_loss.py.
        assert {name for its, name, *_ in CHANGES if its == method} == options_of(method) - {"at_once"}


@pytest.fixture(scope="module")
def plainly(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., np.ndarray]:
    """Images of a method with the given options, made once."""
    world, made = World(tmp_path_factory.mktemp("plainly")), {}

    def images(method: str, **options: Any) -> np.ndarray:
        name = f"{method} {sorted(options.items())}"
        if name not in made:
            made[name] = run(world, method, **options).images
        return made[name]

    return images


@pytest.mark.parametrize(("method", "name", "value", "beside"), CHANGES)
def test_every_option_changes_something(
    world: World, plainly: Callable[..., np.ndarray], method: str, name: str, value: Any, beside: dict[str, Any]
) -> None:
    options = BASE[method] | beside
    assert not np.array_equal(run(world, method, **options | {name: value}).images, plainly(method, **options))


@pytest.mark.parametrize("method", list(BASE))
def test_methods_give_images_in_the_order_of_the_start(world: World, method: str) -> None:
    start, result = start_of(2), run(world, method, **BASE[method])
    assert result.images.dtype == np.uint8 and result.images.shape == start.images.shape
    assert np.array_equal(result.labels, start.labels) and np.array_equal(result.ids, start.ids)
    assert result.classes == start.classes
    assert result.grid == (2 if method in ("idc", "dream") else 1)
    assert not np.array_equal(result.images, run(world, method, seed=1, **BASE[method]).images)


def test_starts_are_of_their_class_and_order(world: World) -> None:
    for method in ("dsa", "dm"):
        result = run(world, method, **BASE[method] | {"lr": 1e-9})
        assert np.array_equal(result.images, start_of(2).images)


MDC = BASE["mdc"] | {"options": BASE["mdc"]["options"] | {"outer": 6, "lr": 2.0}}  # far from black and white


ACCURACY = {"metric": "accuracy", "epochs": 1, "judged": 10, "options": MDC["options"] | {"outer": 4}}


def test_every_option_of_mdc_changes_something(world: World) -> None:
    changes: dict[str, tuple[Any, dict[str, Any]]] = {
        "base": ("dm", {"options": {k: MDC["options"][k] for k in ("network", "outer", "inner", "real_batch")}}),
        "options": (MDC["options"] | {"lr": 1.0}, {}),
        "period": (2, {}),
        "weight": (0.1, {}),
        "metric": ("gradient", {}),
        "epochs": (3, ACCURACY),
        "judged": (5, ACCURACY),
        "rate": ("off", {}),
        "begin": ("code", {}),
        "freeze": ("none", {}),
        "class_wise": (True, {}),
        "by": ("cells", {"options": MDC["options"] | {"factor": 2}}),
    }
    assert set(changes) == options_of("mdc")
    for name, (value, beside) in changes.items():
        ipc, plain = (2, MDC | beside) if name == "by" else (4, MDC)
        one, other = (run(world, "mdc", ipc=ipc, **options).images for options in (plain, MDC | beside | {name: value}))
        assert not np.array_equal(one, other), name


def test_mdc_without_weight_is_its_base(world: World) -> None:
    """Without weight, only the freezing remains of the subset. Some processors round a last bit of f32 otherwise, which
    may move a pixel by one step of u8."""
    for base in ("idc", "dc", "dsa", "dm", "dream"):
        ours = run(world, "mdc", base=base, options=BASE[base], weight=0.0, freeze="none").images.astype(int)
        differences = np.abs(ours - run(world, base, **BASE[base]).images)
        assert differences.max() <= 1 and (differences > 0).mean() < 0.01, base


KILLS: dict[str, tuple[str, dict[str, Any]]] = {
    "dc": ("dc", BASE["dc"]),
    "dsa": ("dsa", BASE["dsa"]),
    "dm": ("dm", BASE["dm"] | {"subsets": {"period": 1}}),
    "idc": ("idc", IDC | {"early": 1, "most": 6}),
    "dream": ("dream", IDC | {"cluster": 2, "early": 1}),
    "mdc": ("mdc", {"options": IDC | {"lr": 60.0, "factor": 1, "early": 1}, "period": 1, "class_wise": True}),
    "mdc on dream": ("mdc", {"base": "dream", "options": IDC | {"cluster": 2}, "period": 2, "by": "cells"}),
    "mdc on dsa": ("mdc", {"base": "dsa", "options": BASE["dsa"], "period": 1, "metric": "gradient"}),
    "mdc by accuracy": ("mdc", {"options": IDC | {"factor": 1}, "period": 1, "metric": "accuracy", "epochs": 2}),
    "mdc on dm": ("mdc", {"base": "dm", "options": BASE["dm"], "period": 1, "rate": "relative", "freeze": "code"}),
}


PLACES = [0, 1, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8]  # steps begun by a run that is killed in steps 1, 3, 4 and 8


@pytest.mark.parametrize("name", list(KILLS))
def test_a_killed_run_resumes_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    method, options = KILLS[name]
    loops = {"outer": 3, "inner": 3}
    options = options | ({"options": options["options"] | loops} if method == "mdc" else loops)
    ipc = (
        2 if name in ("idc", "dream", "mdc on dream") else 3
    )  # grids begin with as many real images as they have cells
    monkeypatch.setattr(engine, "REPORT_SECONDS", -1.0)
    straight = World(tmp_path / "whole")
    whole = run(straight, method, ipc=ipc, **options)
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    world = World(tmp_path / "killed")
    for kill_at in (1, 3, 4, 8):  # in the middle of loops, at the begin of one, and in the last
        world.kill_at = kill_at
        with pytest.raises(KilledError):
            METHODS[method](start_of(ipc), world.context, 0, world.progress, **options)
    # The run resumes, and not from the start. For accuracies, two subsets report after each loop, and the first run
    # dies at 3.
    told = [0, 1, 1, 2, 3, 3, 3, 3, 4, 4, 5, 6, 6, 6, 7, 8] if "accuracy" in name else PLACES
    assert world.told == told
    world.kill_at = -1
    again = METHODS[method](start_of(ipc), world.context, 0, world.progress, **options)
    assert np.array_equal(again.images, whole.images)
    world.records.clear()
    told = list(world.told)
    finished = METHODS[method](start_of(ipc), world.context, 0, world.progress, **options)
    assert np.array_equal(finished.images, whole.images) and world.told == told
    last = dict(straight.records)  # of each table
    assert dict(world.records) == last, "what was decided is known in the end, whenever it was"
    assert bool(world.records) == ("mdc" in name or "subsets" in options)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("dm", {"at_once": 0}, "at_once is 0: input should be greater than or equal to 1"),
    ("mdc", {"base": "edc"}, "base is 'edc': input should be 'idc', 'dream', 'dc', 'dsa', 'dm' or 'mtt'"),
    (
        "mdc",
        {"base": "mtt", "metric": "accuracy"},
        "base 'mtt': metric 'accuracy' for subsets is not possible here; set metric: feature",
    ),
    (
        "mdc",
        {"options": IDC | {"kind": "multi"}, "by": "cells"},
        "base 'idc': subsets by cells need kind 'single', but kind is 'multi'; set by: images",
    ),
    (
        "mdc",
        {"base": "dm", "options": BASE["dm"], "metric": "gradient"},
        "base 'dm': metric 'gradient' for subsets needs a method that matches gradients; set metric: feature",
    ),
    (
        "dm",
        TINY | {"subsets": {"metric": "gradient"}},
        "metric 'gradient' for subsets needs a method that matches gradients; set metric: feature",
    ),
    ("mdc", {"metric": "loss"}, "metric is 'loss': input should be 'feature', 'gradient' or 'accuracy'"),
    ("mdc", {"epochs": 0}, "epochs is 0: input should be greater than or equal to 1"),
    ("mdc", {"judged": 0}, "judged is 0: input should be greater than or equal to 1"),
    ("mdc", {"by": "rows"}, "by is 'rows': input should be 'images' or 'cells'"),
    ("mdc", {"weight": -1.0}, "weight is -1.0: input should be greater than or equal to 0"),
    ("mdc", {"options": IDC, "rate": "slow"}, "rate is 'slow': input should be 'absolute', 'relative' or 'off'"),
    ("mdc", {"options": IDC, "begin": "now"}, "begin is 'now': input should be 'code' or 'paper'"),
    ("mdc", {"options": IDC, "freeze": "all"}, "freeze is 'all': input should be 'code', 'paper' or 'none'"),
    ("mdc", {"options": IDC, "period": 0}, "period is 0: input should be greater than or equal to 1"),
    ("idc", IDC | {"lr": -5.0}, "lr is -5.0: input should be greater than 0"),
    ("dm", TINY | {"lr": 0.0}, "lr is 0.0: input should be greater than 0"),
    ("dc", TINY | {"momentum": 1.0}, "momentum is 1.0: input should be less than 1"),
    ("dc", TINY | {"outer": 0}, "outer is 0: input should be greater than or equal to 1"),
    ("dsa", TINY | {"learn_epochs": 0}, "learn_epochs is 0: input should be greater than or equal to 1"),
    ("dream", IDC | {"cluster": -1}, "cluster is -1: input should be greater than or equal to 0"),
    ("idc", IDC | {"distance": "l2"}, "distance is 'l2': input should be 'mse', 'l1' or 'cosine'"),
    ("dc", TINY | {"initial": "real"}, "initial is 'real': input should be 'noise' or 'start'"),
    ("idc", IDC | {"cutmix": 2.0}, "cutmix is 2.0: input should be less than or equal to 1"),
    ("idc", IDC | {"kind": "all"}, "kind is 'all': input should be 'single', 'multi' or 'bound'"),
    (
        "idc",
        IDC | {"kind": "bound"},
        "kind is 'bound' and bound is None; give a bound with kind 'bound' and with no other",
    ),
]


@pytest.mark.parametrize(("method", "options", "sentence"), REFUSED)
def test_wrong_options_are_refused(method: str, options: dict[str, Any], sentence: str) -> None:
    """Before the images are read: here there are none."""
    with pytest.raises(DataError) as caught:
        METHODS[method](None, None, 0, None, **options)
    assert str(caught.value) == f"synthesis method {method!r}: {sentence}"


NESTED: list[tuple[str, dict[str, Any], str]] = [
    (
        "mdc",
        {"base": "dm", "options": {"learn_images": 3}},
        "base 'dm' of synthesis method 'mdc' has no option 'learn_images'; its options are network, outer, inner, lr, "
        "momentum, real_batch, strategy, initial, clip, most, at_once",
    ),
    (
        "mdc",
        {"options": {"subsets": {}}},
        "base 'idc' of synthesis method 'mdc' has no option 'subsets'; its options are network, outer, inner, lr, "
        "momentum, distance, real_batch, cluster, learn_images, early, cutmix, mix_box, strategy, net_strategy, "
        "factor, kind, bound, most, at_once",
    ),
    (
        "idc",
        IDC | {"subsets": {"start": "code"}},
        "option 'subsets' of synthesis method 'idc' has no option 'start'; its options are period, rate, begin, "
        "freeze, class_wise, weight, metric, by, epochs, judged",
    ),
    (
        "mdc",
        {"options": {"lr": "1e-3"}},
        "synthesis method 'mdc': options.lr is '1e-3': input should be a valid number; YAML needs a point, "
        "as in 1.0e-3",
    ),
    (
        "idc",
        IDC | {"subsets": {"period": 0}},
        "synthesis method 'idc': subsets.period is 0: input should be greater than or equal to 1",
    ),
]


@pytest.mark.parametrize(("method", "options", "sentence"), NESTED)
def test_nested_options_are_checked_in_the_same_way(method: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        METHODS[method](None, None, 0, None, **options)
    assert str(caught.value) == sentence


UNSUITABLE: list[tuple[str, dict[str, Any], str]] = [
    (
        "idc",
        IDC | {"subsets": {}, "most": 7},
        "synthesis: 8 training images per class are more than the 7 matched in a step, so subsets would be "
        "incomplete; set most: 8 or more",
    ),
    (
        "dm",
        TINY | {"real_batch": 11},
        "synthesis: real_batch is 11, but class 2 has 10 images; lower real_batch to 10",
    ),
]


@pytest.mark.parametrize(("method", "options", "sentence"), UNSUITABLE)
def test_options_that_do_not_suit_the_images_are_refused(
    world: World, method: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError) as caught:
        run(world, method, **options)
    assert str(caught.value) == sentence


def test_unknown_strategies_and_networks_are_named(world: World) -> None:
    for name in ("strategy", "net_strategy"):
        with pytest.raises(DataError, match="siamese: invalid strategy 'blur'; join different names"):
            run(world, "idc", **IDC | {name: "blur"})
    with pytest.raises(DataError, match="unknown network 'convnet'; use one of convnet-dN-wN"):
        run(world, "idc", **IDC | {"network": "convnet"})


@pytest.mark.parametrize("base", ["idc", "dream", "dc", "dsa", "dm"])
def test_one_image_per_class_has_no_smaller_set(world: World, base: str) -> None:
    with pytest.raises(DataError) as caught:
        run(world, "mdc", ipc=1, base=base, options=BASE[base])
    assert str(caught.value) == (
        "subsets: ipc must be at least 2, got 1; a single image has no smaller set, use plain IDC"
    )


def chosen(monkeypatch: pytest.MonkeyPatch, world: World, method: str, ipc: int) -> Choices:
    """The choices that a method passes to the engine by default."""
    seen: list[Choices] = []

    def listening(
        start: ImageSet, context: SynthesisContext, seed: int, progress: Progress, choices: Choices
    ) -> ImageSet:
        seen.append(choices)
        return start

    monkeypatch.setattr(importlib.import_module(f"dcpipe.synthesis.{method}"), "match", listening)
    METHODS[method](start_of(ipc), world.context, 0, world.progress)
    return seen[0]


def test_lr_of_idc_grows_with_images_per_class(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    for ipc, lr in ((1, 5e-4), (10, 5e-3), (20, 1e-2), (50, 2.5e-2)):  # CIFAR-10's, official code
        assert chosen(monkeypatch, world, "idc", ipc).lr == pytest.approx(lr)


def test_loops_of_dc_follow_the_official_table(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    for ipc, loops in ((1, (1, 1)), (10, (10, 50)), (12, (10, 50)), (30, (30, 20)), (70, (50, 10))):
        choices = chosen(monkeypatch, world, "dc", ipc)
        assert (choices.inner, choices.learn_epochs) == loops
