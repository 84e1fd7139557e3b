"""Labels of a block of images: what one network says of one view at a time, however the work is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import networks, views
from dcpipe.softlabels.labelling import equal_scales, label_block
from dcpipe.types import MIXES, DataError, Mix, Teacher, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow", "dog")
N, VIEWS, SIZE = 7, 5, 8
IDS = np.array([31, 4, 15, 92, 65, 35, 8])
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8))
# Other batch sizes take other paths through a convolution: fp32 sums differ, and fp16 rounds them a step apart.
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def make_teacher(seed: int, mean: tuple[float, float, float] = (0.4, 0.5, 0.6)) -> Teacher:
    torch.manual_seed(seed)
    network = networks.build("convnet-d1-w5", len(CLASSES), SIZE)
    return Teacher("convnet-d1-w5", network.state_dict(), CLASSES, mean, (0.2, 0.25, 0.3), SIZE, {})


TEACHERS = (make_teacher(0), make_teacher(1, (0.1, 0.2, 0.3)))


def policy_of(mix: Mix) -> ViewPolicy:
    return ViewPolicy(scale_min=0.3, mix=mix, seed=2)


def labels(
    rows: np.ndarray | None = None,
    *,
    mix: Mix = "none",
    batch_size: int = 8,
    nouns: tuple[Teacher, ...] = TEACHERS[:1],
    policy: ViewPolicy | None = None,
    scales: list[float] | None = None,
) -> np.ndarray:
    return label_block(
        [networks.from_teacher(noun, CPU) for noun in nouns],
        list(nouns),
        PIXELS,
        IDS,
        np.arange(N) if rows is None else rows,
        policy=policy or policy_of(mix),
        n_views=VIEWS,
        size=SIZE,
        batch_size=batch_size,
        scales=scales,
    )


def said(noun: Teacher, policy: ViewPolicy, row: int, view: int) -> np.ndarray:
    """Logits of a single view, through a network in float64."""
    inputs, _ = views.render(PIXELS, policy, IDS, np.array([row]), np.array([view]), SIZE)
    network = networks.from_teacher(noun, CPU).double()
    mean, std = (torch.tensor(value, dtype=torch.float64)[:, None, None] for value in (noun.mean, noun.std))
    return network((inputs.double() - mean) / std)[0].numpy()


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("batch_size", [3, 50])
def test_teachers_of_equal_norms_count_equally_however_loud_one_is(mix: Mix, batch_size: int) -> None:
    """In float64, view by view: the Frobenius norm of a teacher is that of view 0 of every image."""
    last = list(TEACHERS[1].weights)[-2:]
    loud = replace(TEACHERS[1], weights={k: 9.0 * v if k in last else v for k, v in TEACHERS[1].weights.items()})
    nouns, policy = (TEACHERS[0], loud), policy_of(mix)
    found = equal_scales(
        [networks.from_teacher(noun, CPU) for noun in nouns],
        list(nouns),
        PIXELS,
        IDS,
        policy=policy,
        size=SIZE,
        batch_size=batch_size,
    )
    norms = [np.linalg.norm([said(noun, policy.labelling, row, 0) for row in range(N)]) for noun in nouns]
    assert norms[1] > 4 * norms[0]
    np.testing.assert_allclose(found, np.mean(norms) / norms, rtol=1e-5)
    factors = list(zip(nouns, np.mean(norms) / norms, strict=True))
    equal = labels(mix=mix, nouns=nouns, scales=found, batch_size=batch_size)
    slow = np.array(
        [
            [sum(f * said(noun, policy.labelling, row, view) for noun, f in factors) / 2 for view in range(VIEWS)]
            for row in range(N)
        ]
    )
    np.testing.assert_allclose(equal, slow, **CLOSE)
    assert np.abs(labels(mix=mix, nouns=nouns) - slow).max() > 0.1, "the mean as it is follows the loud one"


def test_equal_norms_leave_a_silent_teacher_as_it_is() -> None:
    assert networks.equal_norms(torch.tensor([2.0, 4.0, 0.0])).tolist() == [1.0, 0.5, 1.0]
    assert networks.equal_norms(torch.tensor([3.0])).tolist() == [1.0]


@pytest.mark.parametrize("mix", MIXES)
def test_labels_are_those_of_one_view_at_a_time(mix: Mix) -> None:
    """With `cutmix_labels` the teacher looks at clean views; with `cutmix_images` at mixed ones."""
    seen = policy_of("cutmix_images" if mix == "cutmix_images" else "none")
    expected = [[said(TEACHERS[0], seen, row, view) for view in range(VIEWS)] for row in range(N)]
    found = labels(mix=mix)
    assert found.dtype == np.float16 and found.shape == (N, VIEWS, len(CLASSES))
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert float(np.std(expected, axis=(0, 1)).min()) > 0.05  # labels differ by more than the tolerance


def test_mixed_images_have_labels_of_their_own() -> None:
    clean, mixed = labels(mix="none"), labels(mix="cutmix_images")
    assert np.array_equal(clean, labels(mix="cutmix_labels"))
    assert (np.abs(clean - mixed).max(axis=2) > 0.01).mean() > 0.5


@settings(deadline=None, max_examples=15)
@given(
    batch_size=st.integers(1, N * VIEWS + 2),
    rows=st.lists(st.integers(0, N - 1), min_size=1, max_size=N, unique=True),
    mix=st.sampled_from(MIXES),
)
def test_labels_do_not_depend_on_how_the_work_is_cut(batch_size: int, rows: list[int], mix: Mix) -> None:
    part = labels(np.array(rows), mix=mix, batch_size=batch_size)
    np.testing.assert_allclose(part, labels(mix=mix)[rows], **CLOSE)


def test_the_same_call_gives_the_same_bytes() -> None:
    assert labels(mix="cutmix_images").tobytes() == labels(mix="cutmix_images").tobytes()


def test_several_teachers_give_their_mean_each_with_its_own_normalisation() -> None:
    policy = policy_of("none")
    expected = [
        [np.mean([said(noun, policy, row, view) for noun in TEACHERS], axis=0) for view in range(VIEWS)]
        for row in range(N)
    ]
    np.testing.assert_allclose(labels(nouns=TEACHERS), expected, **CLOSE)
    same_colours = (TEACHERS[0], replace(TEACHERS[1], mean=TEACHERS[0].mean))
    assert np.abs(labels(nouns=same_colours) - labels(nouns=TEACHERS)).max() > 0.01


def test_the_policys_seed_changes_every_image() -> None:
    other = labels(policy=replace(policy_of("none"), seed=3))
    assert (np.abs(other - labels()).max(axis=(1, 2)) > 0.01).all()


@pytest.mark.parametrize("scale", [1e7, float("inf"), float("nan")])
def test_logits_that_fp16_cannot_store_are_refused_with_the_id_of_their_image(scale: float) -> None:
    """A large but finite logit becomes infinite only when it is rounded to fp16."""
    network = networks.from_teacher(TEACHERS[0], CPU)
    with torch.no_grad():
        list(network.parameters())[-1].mul_(0).add_(scale)
    with pytest.raises(DataError) as error:
        label_block(
            [network],
            [TEACHERS[0]],
            PIXELS,
            IDS,
            np.array([3, 1]),
            policy=policy_of("none"),
            n_views=VIEWS,
            size=SIZE,
            batch_size=8,
        )
    assert str(error.value) == (
        "soft labels of image 92 (row 3) contain NaN, infinity or a number beyond fp16 (65504) in view 0; check the "
        "teacher's weights and normalisation, then compute the labels again"
    )
