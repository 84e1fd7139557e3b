"""Protocols: a golden table of the papers, changes by params.yaml are in the name, and impossible ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_params import CUT, DIGITS, LABELS, OBJECTS, block, parsed

from dcpipe.config import protocols
from dcpipe.config.protocols import PROTOCOLS, Settings, describe, idc
from dcpipe.evaluation.students import protocol_of
from dcpipe.training import DECAYS, OPTIMIZERS
from dcpipe.training.losses import LOSSES
from dcpipe.training.schedules import SCHEDULES
from dcpipe.types import DataError

ADAMW = ("adamw", 1e-3, 0.01, "weights")
ADAM = ("adamw", 1e-3, 0.0, "all")  # without decay, AdamW is Adam
EDC_SGD, GVBSM_SGD = ("sgd", 0.1, 0.875, False, 5e-4, "weights"), ("sgd", 0.1, 0.9, False, 5e-4, "weights")
ZETA_2, COSINE, SSRS, LINEAR = ("smoothing", 2.0), ("smoothing", 1.0), ("ssrs", 2.0), ("linear", 2.0)
STEPS = ("multistep", [0.8, 0.9, 0.95], 0.5)
EDC, RDED = ("mse_gt", 0.025), ("kl_plain", 20.0)
# name: epochs, batch size, optimiser, schedule, loss, EMA, warm-up; views: least area, RandAugment, shuffle, mix
SGD, HARD = ("sgd", 0.01, 0.9, False, 5e-4, "all"), ("kl_plain", 1.0)
FIFTHS = ("multistep", [2 / 3, 5 / 6], 0.2)
GOLDEN: dict[str, tuple[Any, ...]] = {
    "edc/cifar10": (1000, 25, ADAMW, STEPS, EDC, 0.99, 0, (0.08, 2, 1, CUT)),
    "edc/cifar100": (1000, 50, ADAMW, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc/tiny-imagenet": (300, 100, ADAMW, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc/tiny-imagenet/ipc1": (1000, 100, ADAMW, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc/imagenet-10": (1000, 50, ADAMW, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc/imagenet-1k": (300, 100, ADAMW, ZETA_2, EDC, 0.99, 0, (0.5, 0, 1, CUT)),
    "edc-code/cifar10/ipc1": (1000, 10, ADAMW, STEPS, EDC, 0.99, 0, (0.08, 2, 1, CUT)),
    "edc-code/cifar100": (1000, 50, EDC_SGD, SSRS, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc-code/tiny-imagenet": (300, 100, EDC_SGD, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc-code/tiny-imagenet/ipc1": (1000, 100, EDC_SGD, ZETA_2, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc-code/imagenet-10": (1000, 50, ADAMW, SSRS, EDC, 0.99, 0, (0.5, 2, 1, CUT)),
    "edc-code/imagenet-1k": (300, 100, ADAMW, LINEAR, EDC, 0.99, 0, (0.5, 0, 1, CUT)),
    "sre2l/cifar100": (400, 128, (*ADAMW[:3], "all"), COSINE, ("kl_plain", 30.0), 0, 0, (0.08, 0, 1, "mixup")),
    "sre2l/tiny-imagenet": (
        *(100, 256, ("sgd", 0.2, 0.9, False, 1e-4, "all"), COSINE, ("kl", 20.0), 0, 5),
        (0.08, 0, 1, "none"),
    ),
    "sre2l/imagenet-1k": (300, 1024, ADAMW, COSINE, ("kl_plain", 20.0), 0, 0, (0.08, 0, 1, CUT)),
    **{
        f"rded/{name}/ipc{ipc}": (300, batch, ADAMW, ZETA_2, RDED, 0, 0, (least, 0, patches, CUT))
        for name, batches, least, patches in (
            ("cifar10", (10, 50, 100), 1.0, 1),
            ("cifar100", (20, 100, 200), 1.0, 1),
            ("imagenet-10", (10, 50, 100), 0.5, 2),
            ("imagenet-1k", (20, 100, 200), 0.5, 2),
        )
        for ipc, batch in zip((1, 10, 50), batches, strict=True)
    },
    "rded/cifar100/convnet": (300, 25, ("adamw", 2e-3, *ADAMW[2:]), ZETA_2, RDED, 0, 0, (1.0, 0, 1, CUT)),
    "rded/tiny-imagenet": (300, 100, ADAMW, ZETA_2, RDED, 0, 0, (1.0, 0, 1, CUT)),
    "gvbsm/cifar10": (1000, 100, ("adamw", 1e-3, 0.0, "weights"), COSINE, ("mse_gt", 0.15), 0, 0, (0.08, 0, 1, CUT)),
    "gvbsm/cifar100": (1000, 64, GVBSM_SGD, COSINE, ("mse_gt", 0.15), 0, 0, (0.08, 0, 1, CUT)),
    "gvbsm/tiny-imagenet": (100, 100, GVBSM_SGD, COSINE, ("mse_gt", 0.1), 0, 0, (0.08, 0, 1, CUT)),
    "gvbsm/imagenet-1k": (300, 1024, ADAMW, COSINE, ("mse_gt", 0.1), 0, 0, (0.08, 0, 1, CUT)),
    **{
        name: (1000, 64, SGD, FIFTHS, HARD, 0, 0, (1.0, 0, 1, mix))
        for name, mix in (
            *(("idc/cifar10", LABELS), ("idc/cifar100", LABELS), ("idc/svhn", LABELS), ("idc-i/svhn/ipc1", "none")),
            *(("idc/mnist", "none"), ("idc-i/mnist", LABELS), ("idc/fashion-mnist", LABELS)),
        )
    },
    **{
        f"{name}/imagenet-10/ipc{ipc}": (epochs, 64, SGD, FIFTHS, HARD, 0, 0, (0.5, 0, 1, LABELS))
        for name, lengths in (("idc", (2000, 1000, 1000, 500)), ("idc-i", (3000, 2000, 1500, 1500)))
        for ipc, epochs in zip((1, 10, 20, 50), lengths, strict=True)
    },
    **{
        f"{bench}/{dataset}/{name}": (n, 256, SGD, ("multistep", [step / n], 0.1), HARD, 0, 0, (1.0, ops, 1, "none"))
        for dataset in ("cifar10", "cifar100", "tiny-imagenet")
        for bench, short, long, early, late in (("dcbench", 300, 1000, 151, 501), ("dcbench-code", 301, 1001, 152, 502))
        for name, n, step, ops in (("plain", short, early, 0), ("dsa", long, late, 0), ("randaug", long, late, 1))
    },
}
GOLDEN |= {
    "rd3": (400, 50, ADAM, COSINE, ("kl_plain", 20.0), 0, 0, (0.08, 0, 1, CUT)),
    "rd3/other-students": (400, 50, ADAM, ZETA_2, ("kl_plain", 20.0), 0, 0, (0.08, 0, 1, CUT)),
    "hard": (400, 50, ADAM, COSINE, HARD, 0, 0, (0.08, 0, 1, "none")),
}
# name: what happens after the crop, and how many views are mixed, where it is not nothing and all
AFTER: dict[str, tuple[str, float]] = {
    "idc/cifar10": (OBJECTS, 0.5),
    "idc/cifar100": (OBJECTS, 0.5),
    "idc/fashion-mnist": (OBJECTS, 0.5),
    "idc/svhn": (DIGITS, 0.5),
    "idc-i/svhn/ipc1": ("color_crop_cutout_scale_rotate", 1.0),
    "idc/mnist": (DIGITS, 1.0),
    "idc-i/mnist": (DIGITS, 0.5),
    **{
        f"{bench}/{name}/dsa": ("dsa:color_crop_cutout_flip_scale_rotate", 1.0)
        for name in ("cifar10", "cifar100", "tiny-imagenet")
        for bench in ("dcbench", "dcbench-code")
    },
}


def test_every_name_is_in_the_table() -> None:
    assert set(PROTOCOLS) == {"score", *GOLDEN}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_protocol_is_its_papers(name: str) -> None:
    found = block(name)
    epochs, batch_size, optimiser, schedule, loss, ema, warmup, views = GOLDEN[name]
    assert (found.epochs, found.batch_size, found.ema, found.warmup) == (epochs, batch_size, ema, warmup)
    if found.optimizer == "adamw":
        assert (found.optimizer, found.lr, found.weight_decay, found.decay) == optimiser
    else:
        sgd = (found.optimizer, found.lr, found.momentum, found.nesterov, found.weight_decay, found.decay)
        assert sgd == optimiser
    if found.schedule == "multistep":
        assert (found.schedule, found.milestones, found.decay_factor) == schedule
    else:
        assert (found.schedule, found.zeta, found.milestones) == (*schedule, [])
    if found.loss == "mse_gt":
        assert (found.loss, found.gamma) == loss
    else:
        assert (found.loss, found.temperature, found.gamma) == (*loss, 0.0)
    seen = {**protocols.PLAIN_VIEWS, **(PROTOCOLS[name].views or {})}
    assert (seen["scale_min"], seen["randaugment"], seen["shuffle"], seen["mix"]) == views
    whole = name.split("/")[0] in {"idc", "idc-i", "dcbench", "dcbench-code"} and seen["scale_min"] == 1
    assert (seen["scale_max"], seen["flip"]) == (1.0, 0.0 if whole else 0.5)
    assert (seen.get("siamese", ""), seen.get("mix_share", 1.0)) == AFTER.get(name, ("", 1.0))
    assert found.precision == ("float32" if name.startswith("edc-code/") else "auto")
    protocol = protocol_of(found)  # the recipe and the loss accept it
    assert protocol.recipe.precision == found.precision
    assert protocol.name == name
    rates = [protocol.recipe.rate(epoch, []) for epoch in range(epochs)]
    assert max(rates) == pytest.approx(found.lr) and min(rates) >= 0
    if name == "edc/cifar10":
        assert rates == [1e-3] * 800 + [5e-4] * 100 + [2.5e-4] * 50 + [1.25e-4] * 50
    if name == "idc/cifar10":
        assert rates == pytest.approx([0.01] * 667 + [0.002] * 166 + [0.0004] * 167)
    if name == "dcbench/cifar10/plain":
        assert rates == pytest.approx([0.01] * 151 + [0.001] * 149)
    if name.startswith("dcbench-code/"):  # for ep in range(E + 1), and at E // 2 + 1 a new optimiser for the next ones
        full = (epochs - 1) // 2 + 2
        assert rates == pytest.approx([0.01] * full + [0.001] * (full - 3))
        assert [epoch for epoch in range(epochs) if protocol.recipe.restarts(epoch)] == [full]
    else:
        assert not any(protocol.recipe.restarts(epoch) for epoch in range(epochs))
    if name == "sre2l/tiny-imagenet":
        assert rates[:6] == pytest.approx([0.002, 0.0416, 0.0812, 0.1208, 0.1604, 0.2])


def test_score_is_what_it_was() -> None:
    """It needs the same keys as before, fills in the same values, and its description is only its name."""
    found = block(epochs=9, batch_size=4)
    protocol = protocol_of(found)
    recipe = protocol.recipe
    assert (recipe.epochs, recipe.optimizer, recipe.lr, recipe.weight_decay) == (9, "adamw", 1e-3, 0.01)
    assert (recipe.schedule, recipe.zeta, recipe.ema, recipe.decay, recipe.warmup) == ("smoothing", 1, 0, "all", 0)
    assert (recipe.momentum, recipe.nesterov) == (0.9, True)
    assert (protocol.batch_size, protocol.temperature, protocol.loss, protocol.gamma) == (4, 20.0, "kl", 0.0)
    every = {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.1, "temperature": 4.0, "zeta": 2.0, "ema": 0.5}
    assert protocol_of(block(epochs=9, batch_size=4, **every)).name == "score"
    assert describe(block(epochs=9, batch_size=4, loss="kl_plain", decay="weights"), {"scale_min": 0.7}) == (
        "score with loss kl_plain, decay weights"
    )
    for key, other in (("epochs", {"batch_size": 4}), ("batch_size", {"epochs": 9})):
        with pytest.raises(DataError) as error:
            block(**other)
        assert str(error.value) == f"p.yaml: 'evaluation.{key}' is missing; add it"


CHANGED: list[tuple[str, dict[str, Any], str]] = [
    ("edc/cifar10", {"epochs": 300, "batch_size": 50}, "edc/cifar10 with epochs 300, batch_size 50"),
    ("edc/cifar10", {"batch_size": 50, "epochs": 300}, "edc/cifar10 with epochs 300, batch_size 50"),
    ("edc/cifar10", {"epochs": 1000, "lr": 1e-3}, "edc/cifar10"),
    ("edc/cifar10", {"milestones": [800, 900]}, "edc/cifar10 with milestones [800, 900]"),
    ("edc-code/cifar100", {"nesterov": True}, "edc-code/cifar100 with nesterov true"),
    ("sre2l/imagenet-1k", {"lr": 5e-4, "warmup": 5}, "sre2l/imagenet-1k with lr 0.0005, warmup 5"),
    ("gvbsm/cifar10", {"weight_decay": 0.01}, "gvbsm/cifar10 with weight_decay 0.01"),
    ("rd3", {"zeta": 2.0}, "rd3 with zeta 2"),
    ("rd3/other-students", {"ema": 0.99, "epochs": 300}, "rd3/other-students with epochs 300, ema 0.99"),
    ("hard", {"epochs": 1000}, "hard with epochs 1000"),
]


@pytest.mark.parametrize(("name", "keys", "expected"), CHANGED)
def test_values_in_params_yaml_take_precedence_and_are_in_the_name(
    name: str, keys: dict[str, Any], expected: str
) -> None:
    found = block(name, **keys)
    assert {key: getattr(found, key) for key in keys} == keys
    assert protocol_of(found).name == expected


OTHER = {
    "epochs": 7,
    "batch_size": 3,
    "optimizer": "adamw",
    "lr": 0.3,
    "weight_decay": 0.3,
    "temperature": 3.0,
    "zeta": 3.0,
    "ema": 0.3,
    "loss": "kl_ce",
    "gamma": 0.3,
    "schedule": "constant",
    "milestones": [0.3],
    "decay_factor": 0.3,
    "restart": True,
    "momentum": 0.3,
    "nesterov": True,
    "decay": "all",
    "warmup": 3,
    "precision": "bfloat16",
}


@settings(deadline=None, max_examples=40)
@given(keys=st.sets(st.sampled_from(sorted(OTHER))))
def test_every_change_of_every_key_is_in_the_name_once(keys: set[str]) -> None:
    name = "edc-code/tiny-imagenet"
    assert set(OTHER) == set(Settings.model_fields) - {"protocol"}
    words = describe(Settings(protocol=name, **{key: OTHER[key] for key in keys}))
    changes = words.removeprefix(name).removeprefix(" with ")
    assert sorted(change.split()[0] for change in changes.split(", ") if change) == sorted(keys)


def test_keys_that_came_later_are_in_the_digest_only_where_they_are_used() -> None:
    plain = block("dcbench/cifar10/plain").model_dump()
    assert not {"restart", "precision"} & set(plain) and plain["decay_factor"] == 0.1
    assert block("dcbench-code/cifar10/plain").model_dump()["restart"] is True
    assert block("edc/cifar10", precision="float32").model_dump()["precision"] == "float32"
    whole = parsed("edc/cifar10")
    assert "ensemble" not in whole.softlabels.model_dump()
    assert "precision" not in whole.features.model_dump() and "precision" not in whole.teacher.training.content()
    changed = whole.teacher.training.model_copy(update={"precision": "float32"})
    assert changed.content()["precision"] == "float32"
    assert not any("precision" in part for part in (whole.content()["evaluation"], whole.content()["features"]))
    assert "precision" not in whole.content()["teacher"]["training"]


def test_epochs_on_imagenet_10_depend_on_training_images_a_class() -> None:
    wanted = {1: 3000, 2: 2000, 10: 2000, 11: 1500, 50: 1500, 51: 1000, 200: 1000, 201: 500, 500: 500, 501: 300}
    assert {images: idc.epochs(images) for images in wanted} == wanted


def test_milestones_move_with_the_epochs_that_params_yaml_asks_for() -> None:
    for name, steps in (("idc/cifar10", (7, 8)), ("dcbench/cifar10/dsa", (5,))):
        protocol = protocol_of(block(name, epochs=10))
        assert protocol.name == f"{name} with epochs 10"
        rates = [protocol.recipe.rate(epoch, []) for epoch in range(10)]
        assert [epoch for epoch in range(1, 10) if rates[epoch] < rates[epoch - 1]] == list(steps)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"protocol": "gvbsm/imagenet-10"},
        "evaluation.protocol is 'gvbsm/imagenet-10': unknown; choose one of gvbsm/cifar10, gvbsm/cifar100, "
        "gvbsm/tiny-imagenet, gvbsm/imagenet-1k",
    ),
    (
        {"protocol": "rded/cifar10"},
        "evaluation.protocol is 'rded/cifar10': unknown; choose one of "
        + ", ".join(name for name in PROTOCOLS if name.startswith("rded/")),
    ),
    (
        {"protocol": "mtt/cifar10"},
        f"evaluation.protocol is 'mtt/cifar10': unknown; choose one of {', '.join(PROTOCOLS)}",
    ),
    ({"protocol": 3}, "evaluation.protocol is 3: input should be a valid string"),
    (
        {"protocol": "edc/cifar10", "loss": "mse"},
        "evaluation.loss is 'mse': input should be 'kl', 'kl_plain', 'kl_ce' or 'mse_gt'",
    ),
    (
        {"protocol": "edc/cifar10", "schedule": "cos"},
        "evaluation.schedule is 'cos': input should be 'smoothing', 'constant', 'linear', 'ssrs', 'multistep', "
        "'alrs' or 'alrs_code'",
    ),
    (
        {"protocol": "edc/cifar10", "gammas": 1.0},
        "unknown key 'evaluation.gammas'; valid keys are protocol, epochs, batch_size, optimizer, lr, weight_decay, "
        "temperature, zeta, ema, loss, gamma, schedule, milestones, decay_factor, restart, momentum, nesterov, decay, "
        "warmup, precision, student, seeds, baselines, sizes, best_of; did you mean 'gamma'?",
    ),
]


@pytest.mark.parametrize(("keys", "sentence"), REFUSED, ids=[str(keys) for keys, _ in REFUSED])
def test_refusals(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        block(**keys)
    assert str(error.value) == f"p.yaml: {sentence}"


def test_a_loss_without_classes_asks_for_no_gamma() -> None:
    """EDC's gamma stays when only the loss is changed: the sentence says what to do."""
    with pytest.raises(DataError) as error:
        block("edc/cifar10", loss="kl")
    assert str(error.value) == (
        "p.yaml: evaluation: gamma is 0.025, but loss 'kl' has no cross-entropy term; set gamma to 0, or choose kl_ce "
        "or mse_gt"
    )
    changed = protocol_of(block("edc/cifar10", loss="kl", gamma=0.0))
    assert changed.name == "edc/cifar10 with loss kl, gamma 0"


@pytest.mark.parametrize(
    ("key", "table"), [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("decay", DECAYS), ("loss", LOSSES)]
)
def test_keys_take_the_names_of_their_tables(key: str, table: dict[str, Any]) -> None:
    plain = {"epochs": 1, "batch_size": 1}
    assert [getattr(Settings(**plain | {key: name}), key) for name in table] == list(table)
    with pytest.raises(DataError) as error:
        block(**plain | {key: "best"})
    *first, last = map(repr, table)
    assert str(error.value) == f"p.yaml: evaluation.{key} is 'best': input should be {', '.join(first)} or {last}"
