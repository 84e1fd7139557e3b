"""R_C against the errors of packs, on labels whose rank is planted for each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from dcpipe.coding_rate.label_rate import label_rate
from dcpipe.compression.budget import Budget
from dcpipe.compression.fidelity import Fidelity, fidelity
from dcpipe.compression.foresight import describe, foresight, foresight_of
from dcpipe.types import DataError, Features, LabelPack, SoftLabels, ViewPolicy

CPU = torch.device("cpu")


def planted(n: int = 60, views: int = 24, classes: int = 20) -> SoftLabels:
    """Labels of images that vary in 1 to 12 directions, and a confidence that is independent of that."""
    rng = np.random.Generator(np.random.Philox(5))
    ranks, sure = 1 + np.arange(n) % 12, 10 + 20 * rng.random(n)
    logits = np.zeros((n, views, classes))
    for i, rank in enumerate(ranks):
        logits[i] = 0.5 * rng.standard_normal((views, rank)) @ rng.standard_normal((rank, classes))
        logits[i, :, rng.integers(classes)] += sure[i]
    names = tuple(map(str, range(classes)))
    return SoftLabels(logits.astype(np.float16), ViewPolicy(scale_min=0.3, seed=1), np.arange(n), names, ("made",))


def packed(labels: SoftLabels, folder: Path) -> LabelPack:
    def run(task, items, name, **options):  # type: ignore[no-untyped-def]  # the flow's map, one item after another
        return [task(item) for item in items]

    return Budget(codec="svd", ratio=4.0).compress(labels, folder, CPU, run)


def test_centred_and_logit_rates_foretell_the_error_of_svd_and_literal_ones_do_not(tmp_path: Path) -> None:
    labels = planted()
    measured = fidelity(packed(labels, tmp_path), labels, (4.0, 20.0), CPU)
    logits = torch.from_numpy(np.asarray(labels.logits)).float()
    found = {
        name: foresight(label_rate(logits, stored_views=24, **options).numpy(), measured)
        for name, options in {
            "literal": {"temperature": 20.0},
            "centre": {"temperature": 20.0, "centre": True},
            "logits": {"input": "logits"},
        }.items()
    }
    assert found["centre"]["kl_t20"] > 0.8 and found["logits"]["kl_t20"] > 0.8
    assert found["literal"]["kl_t20"] < 0 and found["literal"]["kl_t4"] < 0


def test_rates_are_found_by_the_ids_of_the_images(tmp_path: Path) -> None:
    labels, order = planted(), np.random.Generator(np.random.Philox(9)).permutation(80)
    rates, zeros = np.arange(80.0), np.zeros((80, 1), dtype=np.float32)
    features = Features(zeros, zeros, rates[order], order, np.zeros(80, dtype=np.int64))
    pack = packed(labels, tmp_path)
    expected = foresight(rates[:60], fidelity(pack, labels, [4.0], CPU))
    assert foresight_of(features, pack, labels, [4.0], CPU) == expected != {}
    strangers = replace(features, ids=features.ids + 1000)
    assert foresight_of(strangers, pack, labels, [4.0], CPU) == {}


def made(n: int, seed: int) -> Fidelity:
    rng = np.random.Generator(np.random.Philox(seed))
    views, error, size, kl = rng.integers(1, 5, n).astype(float), rng.random(n), rng.random(n), rng.random(n)
    return Fidelity(views, error, size, {4.0: kl}, np.zeros(n))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_correlation_of_ranks(seed: int) -> None:
    some, rates = made(30, seed), np.random.Generator(np.random.Philox(seed + 50)).integers(0, 9, 30).astype(float)
    for name, error in (("relative_error", np.sqrt(some.error / some.size)), ("kl_t4", some.kl[4.0] / some.views)):
        expected = np.corrcoef(rankdata(rates), rankdata(error))[0, 1]
        assert foresight(rates, some)[name] == pytest.approx(expected)


def test_images_without_a_rate_or_a_finite_error_are_left_out() -> None:
    some, rates = made(30, 1), np.arange(30.0)
    kept = np.r_[2:30]
    fewer = Fidelity(some.views[kept], some.error[kept], some.size[kept], {4.0: some.kl[4.0][kept]}, some.agreed[kept])
    rates[0], some.error[1], some.kl[4.0][1] = np.inf, np.inf, np.inf
    assert foresight(rates, some) == foresight(rates[kept], fewer)


def test_where_nothing_differs_there_is_no_correlation() -> None:
    some = made(30, 2)
    assert foresight(np.ones(30), some) == {}
    exact = Fidelity(some.views, np.zeros(30), some.size, {4.0: np.zeros(30)}, some.views)
    assert foresight(np.arange(30.0), exact) == {}
    assert foresight(np.arange(9.0), made(9, 3)) == {}


def test_another_number_of_rates_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        foresight(np.ones(3), made(12, 4))
    assert str(error.value) == "foresight: 3 label rates for a pack of 12 images; give one for each image"


def test_the_sentence_names_the_errors_and_the_number_of_images() -> None:
    assert describe({"relative_error": 0.25, "kl_t20": -0.5}, 1200) == (
        "Spearman correlation of R_C with the error of 1,200 images: +0.25 with the relative error of logits, "
        "-0.50 with KL at T = 20; near +1, R_C tells which labels compress well"
    )


def test_only_the_first_images_of_a_large_pack_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = planted()
    pack, rates = packed(labels, tmp_path), np.arange(60.0) % 7
    zeros = np.zeros((60, 1), dtype=np.float32)
    features = Features(zeros, zeros, rates, np.arange(60), np.zeros(60, dtype=np.int64))
    whole = fidelity(pack, labels, [4.0], CPU)
    first = Fidelity(whole.views[:12], whole.error[:12], whole.size[:12], {4.0: whole.kl[4.0][:12]}, whole.agreed[:12])
    monkeypatch.setattr("dcpipe.compression.foresight.MOST", 12)
    assert foresight_of(features, pack, labels, [4.0], CPU) == foresight(rates[:12], first) != {}
