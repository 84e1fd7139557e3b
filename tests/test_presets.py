"""Presets: every file is valid, says where it comes from and what it costs, and the paper's numbers are the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpipe import images, networks, params, presets, selection
from dcpipe.types import DataError

ROOT = Path(__file__).resolve().parent.parent
PAPER = [name for name in presets.names() if "-ipc" in name]

# SCORE (arXiv 2503.13935), supplement Table 4: alpha, beta, min scale, lr, weight decay, T, batch size.
# Values for IPC 1 and 100 are those of IPC 10 and 50.
TABLE_4 = {
    ("imagenet-1k", 10): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("imagenet-1k", 50): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("tiny-imagenet", 10): (5, 0.001, 0.3, 0.001, 0.01, 20, 50),
    ("tiny-imagenet", 50): (10, 0.001, 0.4, 0.001, 0.01, 20, 50),
    **{("imagewoof", ipc): (5, 0.1, 0.3, 0.001, 0.01, 20, 64) for ipc in (1, 10, 50, 100)},
    **{("imagenette", ipc): (0.1, 0.1, 0.2, 0.0005, 0.01, 10, 10) for ipc in (1, 10, 50, 100)},
}
# Uncompressed accuracy of ResNet-18: Tables 1 and 3, supplement Table 2.
PUBLISHED = {
    "imagenet-1k-ipc10": "54.6 ± 0.2",
    "imagenet-1k-ipc50": "63.0 ± 0.3",
    "tiny-imagenet-ipc10": "51.3 ± 0.2",
    "tiny-imagenet-ipc50": "58.4 ± 0.1",
    "imagewoof-ipc1": "17.9 ± 0.8",
    "imagewoof-ipc10": "45.1 ± 1.7",
    "imagewoof-ipc50": "74.1 ± 1.2",
    "imagewoof-ipc100": "75.1 ± 0.2",
    "imagenette-ipc1": "29.5 ± 0.7",
    "imagenette-ipc10": "71.6 ± 0.2",
    "imagenette-ipc50": "84.5 ± 0.2",
    "imagenette-ipc100": "86.6 ± 0.5",
}


def load(name: str) -> params.Params:
    return params.load(ROOT / "dcpipe" / "presets" / f"{name}.yaml")


def test_there_is_one_for_each_row() -> None:
    rows = {f"{dataset}-ipc{ipc}" for dataset, ipc in TABLE_4}
    assert set(presets.names()) == {"digits", "cifar10-small", "tiny-imagenet-50-small", *rows}
    assert presets.names()[0] == "digits"


@pytest.mark.parametrize("name", presets.names())
def test_is_valid(name: str) -> None:
    content = load(name)
    options = content.images.options
    params.check_options("images.source", content.images.source, images.SOURCES, options)
    params.check_options("selection.method", content.selection.method, selection.SELECTORS, content.selection.options)
    assert content.compression.ratio is not None
    assert content.compression.ratio > 0
    size = content.images.size
    for network in (content.evaluation.student, *(t.network for t in content.teacher.networks.values())):
        networks.build(network, 2, size)


def test_release_names_are_distinct() -> None:
    released = [load(name).release.name for name in presets.names()]
    assert len(set(released)) == len(released)


@pytest.mark.parametrize("name", presets.names())
def test_header_names_source_accuracy_and_cost(name: str) -> None:
    told = presets.header(name)
    assert {"source", "published", "cost"} <= told.keys()
    if name in PAPER:
        assert "arXiv 2503.13935" in told["source"]
        assert "estimate" in told["cost"]
        assert PUBLISHED[name] in told["published"]
        for word in ("eps2", "normalisation", "epochs", "views for R_C"):
            assert word in told["unstated"], word


def test_header_joins_lines_until_another_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yaml").write_text(
        "# Title\n# source: a\n#   b\n# aside\n#   c\n# cost: 1\nimages:\n# published: no\n"
    )
    monkeypatch.setattr(presets, "_FOLDER", tmp_path)
    assert presets.header("x") == {"source": "a b", "cost": "1"}


@pytest.mark.parametrize(("dataset", "ipc"), TABLE_4)
def test_values_are_those_of_the_paper(dataset: str, ipc: int) -> None:
    content = load(f"{dataset}-ipc{ipc}")
    chosen, student = content.selection.options, content.evaluation
    assert content.softlabels.augmentation == content.features.augmentation
    assert content.softlabels.augmentation.scale_max == 1
    found = (
        chosen["alpha"],
        chosen["beta"],
        content.softlabels.augmentation.scale_min,
        student.lr,
        student.weight_decay,
        student.temperature,
        student.batch_size,
    )
    assert found == TABLE_4[dataset, ipc]
    assert (content.selection.ipc, content.softlabels.views, student.epochs) == (ipc, 300, 300)
    assert student.optimizer == "adamw"
    assert len(student.seeds) == 3
    assert content.features.label_rate.stored_views == content.softlabels.views


def test_the_default_is_the_repositorys_own() -> None:
    assert presets.text("digits") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(DataError, match=r"^unknown preset 'digit'; choose one of digits, cifar10-small, imagenet-1k"):
        presets.text("digit")
