"""Teachers: how a split is fed, that a network learns, and what is refused as a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dcpipe import networks, teacher, training, views
from dcpipe.training import Recipe
from dcpipe.types import DataError, ImageTable, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("red", "green", "blue")
N, SIZE, NAME = 61, 8, "convnet-d1-w4"
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
POLICY = ViewPolicy(scale_min=0.5, seed=3)


def toy(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with one bright channel, which is the class; ids are not positions."""
    source = np.random.default_rng(seed)
    labels = source.integers(0, 3, n)
    images = source.integers(0, 150, (n, SIZE, SIZE, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels] += 100
    return images, labels, source.permutation(10 * n)[:n]


def whole(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return teacher.plain_batches(iter([(images, labels)]), MEAN, STD, 16, CPU)


# --- feeding ---


@settings(deadline=None, max_examples=200)
@given(n=st.integers(0, 500), batch_size=st.integers(1, 70))
def test_even_batches_cover_every_row_once_and_are_even(n: int, batch_size: int) -> None:
    pieces = teacher.even_batches(n, batch_size)
    assert [row for piece in pieces for row in piece.tolist()] == list(range(n))
    assert len(pieces) == -(-n // batch_size)
    sizes = {len(piece) for piece in pieces}
    if n:
        assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert 1 not in sizes or n == 1 or batch_size < 3


def test_a_feed_shows_each_image_once_an_epoch_with_its_own_label_and_id() -> None:
    images, labels, ids = toy()
    feed = teacher.memory_feed(images, labels, ids, 8, 4, CPU)
    row_of = {int(i): row for row, i in enumerate(ids)}
    orders = []
    for epoch in range(3):
        order = []
        for pixels, said, named in feed(epoch):
            rows = [row_of[int(i)] for i in named]
            assert np.array_equal(pixels.numpy(), images[rows]) and np.array_equal(said, labels[rows])
            order += rows
        assert sorted(order) == list(range(N))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    again = [int(i) for _, _, named in feed(1) for i in named]
    assert [row_of[i] for i in again] == orders[1]
    other = [int(i) for _, _, named in teacher.memory_feed(images, labels, ids, 8, 5, CPU)(1) for i in named]
    assert sorted(other) == sorted(again) and other != again


def test_an_image_is_trained_on_in_the_view_that_its_id_and_the_epoch_name() -> None:
    images, labels, ids = toy()
    feed = teacher.memory_feed(images, labels, ids, 8, 0, CPU)
    batches = teacher.training_batches(feed, POLICY, 6, MEAN, STD)
    for epoch in (0, 2):
        for (inputs, target), (pixels, said, named) in zip(batches(epoch), feed(epoch), strict=True):
            assert target.tolist() == said.tolist()
            for position, image in enumerate(named):
                drawn = views.draw(POLICY, np.array([image]), np.array([epoch]), 1)
                crop = views.crop(pixels[position : position + 1], drawn, 6)[0]
                expected = (crop - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
                torch.testing.assert_close(inputs[position], expected, rtol=0, atol=1e-5)


def test_whole_images_come_in_order_and_normalised() -> None:
    images, labels, _ = toy()
    parts = iter([(images[:20], labels[:20]), (images[20:20], labels[20:20]), (images[20:], labels[20:])])
    batches = list(teacher.plain_batches(parts, MEAN, STD, 16, CPU))
    assert max(len(target) for _, target in batches) <= 16
    assert torch.cat([target for _, target in batches]).tolist() == labels.tolist()
    expected = (images / 255.0 - np.array(MEAN)) / np.array(STD)
    found = torch.cat([inputs for inputs, _ in batches])
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, atol=1e-5)


# --- training ---


def train(recipe: Recipe | None, weights: str | None = None, seed: int = 0) -> tuple[torch.nn.Module, list]:
    images, labels, ids = toy()
    return teacher.train(
        NAME,
        weights,
        teacher.memory_feed(images, labels, ids, 16, 0, CPU),
        policy=POLICY,
        recipe=recipe,
        classes=CLASSES,
        size=SIZE,
        mean=MEAN,
        std=STD,
        seed=seed,
        device=CPU,
    )


def test_a_network_learns_classes_that_a_glance_tells_apart() -> None:
    network, history = train(Recipe(8, lr=0.01))
    assert training.accuracy(network, whole(*toy(90, seed=1)[:2]), CPU) > 90
    assert [row["epoch"] for row in history] == list(range(8))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert not network.training


def test_the_seed_decides_the_first_weights() -> None:
    first, second, again = (train(None, seed=seed)[0].state_dict()["0.weight"] for seed in (0, 1, 0))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_without_a_recipe_weights_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(9)
    state = networks.build(NAME, len(CLASSES), SIZE).state_dict()
    save_file(state, tmp_path / "given.safetensors")
    network, history = train(None, str(tmp_path / "given.safetensors"))
    assert history == [] and not network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    tuned, _ = train(Recipe(1, lr=1e-6), str(tmp_path / "given.safetensors"))
    torch.testing.assert_close(tuned.state_dict()["0.weight"], state["0.weight"], rtol=0, atol=1e-4)
    assert not torch.equal(tuned.state_dict()["0.weight"], state["0.weight"])


# --- the noun ---


def make(trained_here: bool = True, **accuracy: float) -> teacher.Teacher:
    network = networks.build(NAME, 3, SIZE)
    return teacher.make(NAME, network, CLASSES, MEAN, STD, SIZE, accuracy, trained_here=trained_here)


@pytest.mark.parametrize("value", [0.0, 33.3, 50.0])
@pytest.mark.parametrize("trained_here", [True, False])
def test_a_teacher_no_better_than_chance_is_refused(value: float, trained_here: bool) -> None:
    sentence = (
        rf"^teacher convnet-d1-w4: minival accuracy is {value:.1f} %, but chance is 33\.3 %; "
        r"check the class order of its weights, or train it longer$"
    )
    with pytest.raises(DataError, match=sentence):
        make(trained_here, test=99.0, minival=value)


def test_only_minival_may_refuse_a_teacher_that_was_trained_here() -> None:
    """Test is for reporting: nothing may be chosen by it. Whether weights have another class order is no choice."""
    assert make(test=1.0).accuracy == {"test": 1.0}
    assert make(minival=50.1, test=1.0).accuracy["minival"] == 50.1
    with pytest.raises(DataError, match=r"^teacher convnet-d1-w4: test accuracy is 1\.0 %, but chance is 33\.3 %"):
        make(trained_here=False, test=1.0)


def confused(order: list[int], right: float, images: int = 30, seed: int = 0) -> np.ndarray:
    """The confusion matrix of a network that takes class i for `order[i]` with a probability, else for any."""
    rng, n = np.random.default_rng(seed), len(order)
    counts = np.zeros((n, n), dtype=np.int64)
    for label, output in enumerate(order):
        hit = rng.random(images) < right
        np.add.at(counts[label], np.where(hit, output, rng.integers(0, n, images)), 1)
    return counts


NAMES = tuple("abcdefghij")


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "'a' at 'b', 'b' at 'c', 'c' at 'd', 'd' at 'e', 'e' at 'f' and 5 more"),
        ([0, 1, 2, 4, 5, 6, 7, 8, 9, 3], "'d' at 'e', 'e' at 'f', 'f' at 'g', 'g' at 'h', 'h' at 'i' and 2 more"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 9, 8], "'i' at 'j', 'j' at 'i'"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], "'a' at 'j', 'b' at 'i', 'c' at 'h', 'd' at 'g', 'e' at 'f' and 5 more"),
    ],
)
@pytest.mark.parametrize("right", [0.75, 0.95])
def test_classes_in_another_order_are_refused_and_named(order: list[int], first: str, right: float) -> None:
    counts = confused(order, right, images=100)
    moved = sum(place != label for label, place in enumerate(order))
    with pytest.raises(DataError) as error:
        teacher.check_class_order("x", {"test": 20.0}, counts, NAMES)
    sentence = str(error.value)
    assert sentence.startswith(f"teacher x: {moved} of 10 classes are at another class's output ({first}), and in the ")
    assert sentence.endswith("; give the images' classes in the order of its weights")


@pytest.mark.parametrize("n", [6, 10, 40])
@pytest.mark.parametrize("right", [0.4, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_a_weak_teacher_in_the_right_order_passes(n: int, right: float, seed: int) -> None:
    """Its mistakes go anywhere: chance alone displaces no two classes by a majority of their images."""
    counts = confused(list(range(n)), right, images=20, seed=seed)
    teacher.check_class_order("x", {"minival": 100 * right}, counts, tuple(map(str, range(n))))


def test_classes_that_are_mistaken_for_others_have_not_changed_places() -> None:
    """'a' is taken for 'b' and 'b' for 'c', but 'c' is where it belongs."""
    counts = np.diag(np.full(10, 20))
    counts[0, 0], counts[0, 1], counts[1, 1], counts[1, 2] = 2, 18, 2, 18
    teacher.check_class_order("x", {"minival": 82.0}, counts, NAMES)


def test_one_pair_of_look_alikes_among_many_classes_is_no_other_order() -> None:
    order = list(range(300))
    order[7], order[8] = 8, 7
    names = tuple(map(str, order))
    teacher.check_class_order("x", {"minival": 90.0}, confused(order, 0.9), names)
    order[20], order[21] = 21, 20
    with pytest.raises(DataError, match=r"^teacher x: 4 of 300 classes"):
        teacher.check_class_order("x", {"minival": 90.0}, confused(order, 0.9), names)


def test_without_a_confusion_matrix_only_a_plainly_right_teacher_passes() -> None:
    teacher.check_class_order("x", {"minival": 50.0, "test": 93.0}, None, NAMES)
    with pytest.raises(DataError, match=r"^teacher x: its accuracy is 49\.9 % and there is no confusion matrix "):
        teacher.check_class_order("x", {"minival": 49.9, "test": 93.0}, None, NAMES)


def test_the_noun_holds_the_networks_weights_and_what_it_needs_to_be_used() -> None:
    network = networks.build(NAME, 3, SIZE)
    noun = teacher.make(NAME, network, CLASSES, MEAN, STD, SIZE, {"minival": 80.0})
    assert (noun.network, noun.classes, noun.mean, noun.std, noun.size) == (NAME, CLASSES, MEAN, STD, SIZE)
    assert not any(value.requires_grad for value in noun.weights.values())
    inputs = torch.rand(5, 3, SIZE, SIZE)
    assert torch.equal(networks.from_teacher(noun, CPU)(inputs), network(inputs))


# --- how a split is fed, and what a network expects of its pixels ---


def test_a_streamed_feed_gives_the_batches_of_its_epoch() -> None:
    def stream(epoch: int):
        for batch in range(2):
            pixels = np.full((3, SIZE, SIZE, 3), 10 * epoch + batch, dtype=np.uint8)
            yield pixels, np.array([0, 1, 2]), np.array([7, 8, 9]) + batch

    batches = list(teacher.stream_feed(stream, CPU)(4))
    assert [int(pixels[0, 0, 0, 0]) for pixels, _, _ in batches] == [40, 41]
    assert [ids.tolist() for _, _, ids in batches] == [[7, 8, 9], [8, 9, 10]]
    assert all(isinstance(pixels, torch.Tensor) and pixels.dtype == torch.uint8 for pixels, _, _ in batches)


def test_colours_are_those_given_then_those_of_the_weights_then_those_of_the_table() -> None:
    table = ImageTable((), 4, np.zeros(0, dtype=int), np.zeros(0, dtype=int), CLASSES, SIZE, MEAN, STD)
    given = [0.1, 0.2, 0.3]
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    enum = "ResNet18_Weights.IMAGENET1K_V1"
    assert teacher.expected_colours(None, None, None, table) == (MEAN, STD)
    assert teacher.expected_colours("weights.safetensors", None, None, table) == (MEAN, STD)
    assert teacher.expected_colours(enum, None, None, table) == imagenet
    assert teacher.expected_colours(enum, given, None, table) == ((0.1, 0.2, 0.3), imagenet[1])
    assert teacher.expected_colours(None, None, given, table) == (MEAN, (0.1, 0.2, 0.3))
