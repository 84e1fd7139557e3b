"""The landscape in a tiny workspace: rows worked out again, a killed study that goes on, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import table
from variant_studies import EDC, PARAMS, counting, run_study

from dcpipe import networks, store
from dcpipe.evaluation import contenders
from dcpipe.studies import landscape
from dcpipe.synthesis import hessian
from dcpipe.training.losses import cross_entropy
from dcpipe.types import DataError, NotApplicableError
from dcpipe.views import normalise

FOLDER = Path("data/study/landscape")
STUDY: dict[str, Any] = {
    "zetas": [1.0, 2.0],
    "radius": 0.1,
    "ascents": 2,
    "products": 2,
    "points": 3,
    "recoveries": {
        "without": {"synthesis": {**EDC, "options": {**EDC["options"], "flat": 0.0}}},
        "flatness": {"synthesis": EDC},
    },
    "every": 4,
    "probes": 1,
    "batches": [5, 20],
    "draws": 3,
    "seeds": [0, 1, 5],
}


@pytest.fixture
def desk(with_set: Path) -> Path:
    tiny.write_studies(landscape=STUDY)
    return with_set


def test_a_study_that_was_stopped_goes_on_and_its_rows_are_worked_out(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, int] = {}
    with monkeypatch.context() as patch:
        patch.setattr(hessian, "norms", counting(calls, hessian.norms, dies_at=5))
        patch.setattr(contenders, "train_student", counting(calls, contenders.train_student))
        with pytest.raises(KeyboardInterrupt):
            run_study("landscape")
    with monkeypatch.context() as patch:
        patch.setattr(hessian, "norms", counting(calls, hessian.norms))
        patch.setattr(contenders, "train_student", counting(calls, contenders.train_student))
        run_study("landscape")
    steps, runs = 3, 2 * 3  # 0, 4 and 6, the last
    assert calls == {"train_student": 2 * 3 + 3, "norms": steps * runs + 1}
    students = table(FOLDER / "results.csv")
    assert [(row["zeta"], row["seed"]) for row in students] == [(z, s) for z in ("1.0", "2.0") for s in ("0", "1", "5")]
    for row in students:
        assert float(row["ascent"]) >= float(row["sam"]) and float(row["sam"]) > float(row["loss"]) > 0
    lines = table(FOLDER / "lines.csv")
    middle = [row for row in lines if float(row["place"]) == 0]
    for row, own in zip(middle, table(FOLDER / "summary.csv"), strict=True):
        assert float(row["loss"]) == pytest.approx(float(own["loss"]), abs=1e-5), "where the weights are"
        assert row["seeds"] == own["seeds"] == "3"
    norms = table(FOLDER / "hessian.csv")
    assert [(row["recovery"], row["step"]) for row in norms] == [
        (name, step) for name in ("without", "flatness") for step in ("0", "4", "6")
    ]
    assert norms[0]["norm"] == norms[3]["norm"], "before the first step, the images are the same"
    assert norms[2]["norm"] != norms[5]["norm"]
    cosines = {(r["network"], r["set"], r["batch"]): float(r["cosine"]) for r in table(FOLDER / "gradients.csv")}
    for network in ("new", "half trained"):
        for name in ("condensed", "random"):
            assert cosines[network, name, "20"] == pytest.approx(1), "2 images of each of 10 classes: the whole set"
            assert cosines[network, name, "5"] < 1
        assert cosines[network, "real", "5"] < cosines[network, "real", "20"] < 1
    assert float(next(iter(cosines.values()))) == pytest.approx(
        np.mean([cosine_of(seed) for seed in (0, 1, 5)]), abs=1e-4
    )


def cosine_of(seed: int) -> float:
    """Of batches of 5 real images with the whole split, in a new student, all images at once."""
    train = store.table_of(store.open_artifact(Path("data/images"), "images"), "train")
    torch.manual_seed(seed)
    network = networks.build("convnet-d1-w4", 10, 8).eval()
    from dcpipe.images import read_rows

    pixels = torch.from_numpy(read_rows(train, np.arange(len(train)))).permute(0, 3, 1, 2).float() / 255
    inputs, labels = normalise(pixels, train.mean, train.std), torch.from_numpy(train.labels)

    def gradient(rows: torch.Tensor) -> torch.Tensor:
        loss = cross_entropy(network(inputs[rows]), labels[rows])
        return torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, list(network.parameters()))])

    whole, generator = gradient(torch.arange(len(train))), torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(train), generator=generator) for _ in range(3)]
    return float(np.mean([torch.cosine_similarity(gradient(order[:5]), whole, dim=0).item() for order in orders]))


def test_students_of_params_yaml_alone(desk: Path) -> None:
    tiny.write_studies(landscape={**STUDY, "zetas": [], "recoveries": {}, "batches": []})
    run_study("landscape")
    [row] = table(FOLDER / "summary.csv")
    assert row["zeta"] == "" and row["seeds"] == "3"
    assert {path.name for path in FOLDER.iterdir() if path.suffix == ".csv"} == {
        "results.csv",
        "summary.csv",
        "lines.csv",
    }


REFUSED: list[tuple[dict[str, Any], type[DataError], str]] = [
    (
        {"recoveries": {"mosaics": {"synthesis": {"method": "rded"}}}},
        DataError,
        "studies/params.yaml: landscape, recoveries, mosaics: synthesis.method is 'rded', which matches no statistics; "
        "choose one of sre2l, cda, gvbsm, edc, edc-code",
    ),
    (
        {"recoveries": {"bn": {"synthesis": {"method": "sre2l", "options": {"observers": ["main"]}}}}},
        DataError,
        "studies/params.yaml: landscape, recoveries, bn: observer 'main': network 'convnet-d1-w8' has no BatchNorm2d "
        "layer to observe; leave it out",
    ),
    (
        {"zetas": [0.5]},
        DataError,
        "schedule linear needs zeta of at least 1, got 0.5",
    ),
    (
        {"zetas": [2.0]},
        NotApplicableError,
        "studies/params.yaml: landscape, zetas: schedule 'multistep' has no zeta; give no zetas, or choose one of "
        "smoothing, linear, ssrs",
    ),
]


@pytest.mark.parametrize(("changes", "kind", "sentence"), REFUSED)
def test_what_could_not_be_finished_is_refused_before_any_work(
    desk: Path, changes: dict[str, Any], kind: type[DataError], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landscape, "synthesised", None)
    monkeypatch.setattr(contenders, "train_student", None)
    tiny.write_studies(landscape={**STUDY, **changes})
    schedule = "multistep" if kind is NotApplicableError else "linear"
    milestones = [0.5] if schedule == "multistep" else []
    with pytest.raises(kind) as told:
        run_study("landscape", evaluation={**PARAMS["evaluation"], "schedule": schedule, "milestones": milestones})
    assert sentence in str(told.value)
