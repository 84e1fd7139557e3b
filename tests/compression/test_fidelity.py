"""Fidelity of packs: every measure worked out view by view in float64, and its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import views
from dcpipe.compression import CODECS, join
from dcpipe.compression.fidelity import fidelity
from dcpipe.types import DataError, LabelPack, LabelShape, SoftLabels, ViewPolicy

CPU = torch.device("cpu")
POLICY = ViewPolicy(scale_min=0.3, seed=3)
TEMPERATURES = (1.0, 4.0, 20.0)


def labels_of(n: int, k: int, c: int, seed: int = 0) -> SoftLabels:
    source = np.random.default_rng(seed)
    logits = (source.normal(0, 3, (n, 1, c)) + source.normal(0, 1, (n, k, c))).astype(np.float16)
    return SoftLabels(logits, POLICY, source.permutation(10 * n)[:n], tuple(map(str, range(c))), ("main",))


def pack_of(labels: SoftLabels, name: str, ratio: float, **options: Any) -> LabelPack:
    shape = LabelShape(*labels.logits.shape)
    codec = CODECS[name].plan(shape, int(shape.reference_bytes / ratio), **options)
    rows = np.arange(shape.images)
    drawn = views.draw(
        POLICY, np.repeat(labels.ids, shape.views), np.tile(np.arange(shape.views), len(rows)), len(rows)
    )
    arrays = join([codec.encode(torch.from_numpy(np.asarray(labels.logits)).float(), rows, shape, drawn)])
    return LabelPack(name, codec.settings, dict(arrays), shape, POLICY, labels.ids)


def decoded_one_by_one(pack: LabelPack) -> dict[tuple[int, int], np.ndarray]:
    codec = CODECS[pack.codec](**pack.settings)
    arrays = {name: torch.from_numpy(np.asarray(array[:])) for name, array in pack.arrays.items()}
    found = {}
    for row in range(pack.shape.images):
        for view in range(pack.shape.views):
            at = (np.array([row]), np.array([view]))
            if codec.holds(*at, pack.shape)[0]:
                drawn = views.draw(POLICY, pack.ids[at[0]], at[1], pack.shape.images)
                found[row, view] = codec.decode(arrays, *at, pack.shape, drawn)[0].numpy().astype(np.float64)
    return found


def softmax(z: np.ndarray) -> np.ndarray:
    weights = np.exp(z - z.max())
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("name", "ratio", "options"),
    [
        ("none", 1, {}),
        ("svd", 2, {}),
        ("lowrank_int8", 4, {}),
        ("field", 4, {}),
        ("prune", 3, {"granularity": "batch", "batch_size": 2}),
        ("topk", 2, {"kind": "marginal_smoothing"}),
    ],
)
def test_measures_are_those_of_every_view_by_itself(name: str, ratio: float, options: dict[str, Any]) -> None:
    labels = labels_of(5, 12, 9)
    pack = pack_of(labels, name, ratio, **options)
    found = decoded_one_by_one(pack)
    error = size = agreed = 0.0
    kl = dict.fromkeys(TEMPERATURES, 0.0)
    for (row, view), y in found.items():
        z = np.asarray(labels.logits[row, view], dtype=np.float64)
        error += ((y - y.mean() - z + z.mean()) ** 2).sum()
        size += ((z - z.mean()) ** 2).sum()
        agreed += y.argmax() == z.argmax()
        for t in TEMPERATURES:
            p, q = softmax(z / t), softmax(y / t)
            kl[t] += t * t * (p * np.log(p / q)).sum()
    its = fidelity(pack, labels, TEMPERATURES, CPU).over()
    assert its["held"] == len(found) / 5
    assert its["relative_error"] == pytest.approx((error / size) ** 0.5, abs=1e-5)
    assert its["agreement"] == pytest.approx(agreed / len(found))
    for t in TEMPERATURES:
        assert its[f"kl_t{t:g}"] == pytest.approx(kl[t] / len(found), abs=2e-4)


def test_uncompressed_labels_are_exact() -> None:
    labels = labels_of(3, 5, 4)
    its = fidelity(pack_of(labels, "none", 1), labels, TEMPERATURES, CPU).over()
    assert its == {"held": 5, "relative_error": 0, "kl_t1": 0, "kl_t4": 0, "kl_t20": 0, "agreement": 1}


def test_classes_without_probability_are_infinitely_far() -> None:
    labels = labels_of(3, 5, 8)
    its = fidelity(pack_of(labels, "topk", 3, kind="marginal_renorm"), labels, [1], CPU).over()
    assert (its["relative_error"], its["kl_t1"], its["agreement"]) == (float("inf"), float("inf"), 1)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 6),
    k=st.integers(2, 20),
    c=st.integers(2, 30),
    block=st.integers(1, 10**5),
    seed=st.integers(0, 99),
)
def test_blocks_do_not_matter_and_images_add_up(n: int, k: int, c: int, block: int, seed: int) -> None:
    labels = labels_of(n, k, c, seed)
    pack = pack_of(labels, "svd", 1)
    whole = fidelity(pack, labels, [4], CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcpipe.compression.fidelity.BLOCK_BYTES", block)
        parts = fidelity(pack, labels, [4], CPU)
    np.testing.assert_allclose(whole.error, parts.error, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.kl[4], parts.kl[4], rtol=1e-3, atol=1e-4)
    assert whole.over()["kl_t4"] == pytest.approx(np.mean(whole.kl[4] / whole.views), abs=1e-6)


def test_a_pack_of_other_labels_is_refused() -> None:
    labels = labels_of(3, 5, 4)
    pack = pack_of(labels, "none", 1)
    for other in (replace(labels, ids=labels.ids[::-1].copy()), labels_of(3, 6, 4)):
        with pytest.raises(DataError, match="their ids or sizes differ; compare a pack with what it was made of"):
            fidelity(pack, other, [1], CPU)
