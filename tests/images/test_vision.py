"""Sets of torchvision: labels, class names and splits, whatever a set calls them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dcpipe import images
from dcpipe.images import vision
from dcpipe.types import DataError


@pytest.fixture
def cifar10_on_disk(tmp_path, monkeypatch):
    """CIFAR-10's file layout (five pickled batches of rows R, G, B) with twenty random images a batch."""
    from torchvision import datasets

    generator = np.random.default_rng(0)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pixels = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = generator.integers(0, 256, (20, 3072), dtype=np.uint8)
        pixels[name] = rows.reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)
        with (base / name).open("wb") as stream:
            pickle.dump({"data": rows, "labels": [i % 10 for i in range(20)]}, stream)
    with (base / "batches.meta").open("wb") as stream:
        pickle.dump({"label_names": [f"kind {i}" for i in range(10)]}, stream)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return tmp_path, pixels


def test_torchvision_cifar10(cifar10_on_disk):
    root, pixels = cifar10_on_disk
    splits = images.SOURCES["torchvision"](name="CIFAR10", root=str(root))
    train, test = splits["train"], splits["test"]
    assert (len(train.labels), len(test.labels)) == (100, 20)
    assert train.classes == test.classes == tuple(f"kind {i}" for i in range(10))
    assert train.labels[:12].tolist() == [*range(10), 0, 1]
    for data, row in zip(train.read(np.array([0, 25, 99])), (0, 5, 19), strict=True):
        batch = {0: 1, 5: 2, 19: 5}[row]
        np.testing.assert_array_equal(images.decode(data[0], 32, data[1]), pixels[f"data_batch_{batch}"][row])
    assert test.read(np.array([3]))[0][1] == "CIFAR10-test-00000003.png"


class Vision:
    """A set like torchvision's: `split=`, no list of labels, no class names."""

    modes = ("train", "test")

    def __init__(self, root, split="train", download=False):
        if split not in self.modes:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        if root == "/nowhere":
            raise RuntimeError("Dataset not found. You can use download=True to download it.")
        self.colours = [10, 20, 30] if split != "test" else [40, 50]

    def __len__(self):
        return len(self.colours)

    def __getitem__(self, row):
        return Image.new("CMYK" if row == 1 else "L", (4, 4), self.colours[row]), np.int64(row)


class Pets(Vision):
    modes = ("trainval", "test")


class Whole:
    """A set that comes in one piece, with a list of labels and synonyms for names."""

    classes = (("tench", "Tinca tinca"), ("hen",))

    def __init__(self, root):
        self._labels = np.arange(10, dtype=np.uint8) % 2
        self.labels = None

    def __len__(self):
        return 10

    def __getitem__(self, row):
        assert 0 <= row < 10
        return Image.new("L", (4, 4), int(row)), "not looked at"


class Boxes(Vision):
    """Targets that are no class index."""

    def __getitem__(self, row):
        return None, {"box": 1}


@pytest.fixture
def stand_ins(monkeypatch):
    from torchvision import datasets

    for name, cls in {"SVHN": Vision, "OxfordIIITPet": Pets, "EuroSAT": Whole, "Kitti": Boxes}.items():
        monkeypatch.setattr(datasets, name, cls)


def vision_set(name, root="data", **options):
    return images.SOURCES["torchvision"](name=name, root=root, **options)


@pytest.mark.parametrize("name", ["SVHN", "OxfordIIITPet"])
def test_torchvision_by_split_without_lists(stand_ins, name):
    splits = vision_set(name)
    assert splits["train"].classes == splits["test"].classes == ("0", "1", "2")
    assert splits["train"].labels.tolist() == [0, 1, 2]
    assert splits["test"].labels.tolist() == [0, 1]
    (grey, _), (ink, _) = splits["train"].read(np.array([0, 1]))
    assert (images.decode(grey, 4, "x") == 10).all()
    assert images.decode(ink, 4, "x")[0, 0].tolist() == [235, 255, 255]  # 20/255 of cyan


def test_torchvision_in_one_piece(stand_ins, read_all):
    splits = vision_set("EuroSAT", test_share=0.4, seed=3)
    assert splits["train"].classes == ("tench, Tinca tinca", "hen")
    assert np.bincount(splits["test"].labels).tolist() == [2, 2]
    names = [name for source in splits.values() for _, name in read_all(source)]
    assert sorted(names) == [f"EuroSAT-{row:08d}.png" for row in range(10)]
    for data, name in read_all(splits["test"]):
        assert images.decode(data, 4, name)[0, 0, 0] == int(name[-6:-4])


def test_torchvision_refusals(stand_ins):
    with pytest.raises(DataError, match=r"^torchvision has no set 'CIFAR_10'; did you mean CIFAR100?, CIFAR100?"):
        vision_set("CIFAR_10")
    with pytest.raises(DataError, match=r"^torchvision has no set 'FakeData'"):
        vision_set("FakeData")
    with pytest.raises(
        DataError, match=r"^torchvision SVHN cannot be loaded from /nowhere \(Dataset not found\. You .*"
    ):
        vision_set("SVHN", root="/nowhere")
    with pytest.raises(DataError, match=r"^Kitti-train has no class index for each image \(.+\); choose a classificat"):
        vision_set("Kitti")


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("CIFAR100", {"train": True}, {"train": False}),
        ("FashionMNIST", {"train": True}, {"train": False}),
        ("Flowers102", {"split": "train"}, {"split": "test"}),
        ("Food101", {"split": "train"}, {"split": "test"}),
        ("GTSRB", {"split": "train"}, {"split": "test"}),
        ("STL10", {"split": "train"}, {"split": "test"}),
        ("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
        ("ImageNet", {"split": "train"}, {"split": "val"}),
        ("EuroSAT", {}, {}),
    ],
)
def test_torchvision_signatures(name, train, test):
    assert vision._arguments(name, {}) == (train, test)


def idx_file(path, array):
    """A file in the format of MNIST: the number of dimensions, their sizes, and bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_torchvision_emnist_takes_its_split_as_an_argument(tmp_path):
    """`train` selects train and test of each of its six splits; the letters are counted from 1."""
    draw = np.random.default_rng(0)
    for part, n in (("train", 52), ("test", 26)):
        stem = tmp_path / "EMNIST" / "raw" / f"emnist-letters-{part}"
        idx_file(stem.with_name(f"{stem.name}-images-idx3-ubyte"), draw.integers(0, 256, (n, 28, 28)))
        idx_file(stem.with_name(f"{stem.name}-labels-idx1-ubyte"), np.arange(n) % 26 + 1)
    splits = vision_set("EMNIST", str(tmp_path), arguments={"split": "letters"})
    assert splits["train"].classes == splits["test"].classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert splits["train"].labels.tolist() == [*range(26), *range(26)]
    assert (len(splits["train"].labels), len(splits["test"].labels)) == (52, 26)
    with pytest.raises(DataError, match=r"^torchvision EMNIST needs the argument 'split'; give images.options.argum"):
        vision_set("EMNIST", str(tmp_path))
    with pytest.raises(DataError, match=r"cannot be loaded from .*letterz.*; correct images\.options\.arguments$"):
        vision_set("EMNIST", str(tmp_path), arguments={"split": "letterz"})
    with pytest.raises(
        DataError, match=r"^torchvision EMNIST has no argument 'size' to choose; images.*may have split$"
    ):
        vision_set("EMNIST", str(tmp_path), arguments={"size": 3})
    assert vision._count(name="EMNIST", arguments={"split": "letters"}) == 26
    assert vision._count(name="EMNIST") is None


def test_torchvision_places365(tmp_path, monkeypatch):
    """Its test split is `val`; `small` chooses the images of 256 pixels; classes have the numbers of its file."""
    monkeypatch.setattr("torchvision.datasets.places365.check_integrity", lambda *_, **__: True)
    (tmp_path / "categories_places365.txt").write_text("/a/zoo 0\n/a/alley 1\n")
    lists = {"train_standard": ["/a/zoo/1.jpg 0", "/a/alley/1.jpg 1"], "val": ["1.jpg 1", "2.jpg 0"]}
    for name, lines in lists.items():
        (tmp_path / f"places365_{name}.txt").write_text("\n".join(lines))
    for place in ("data_256_standard/a/zoo/1", "data_256_standard/a/alley/1", "val_256/1", "val_256/2"):
        path = tmp_path / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (256, 256), len(place)).save(path)
    splits = vision_set("Places365", str(tmp_path), arguments={"small": True})
    assert splits["train"].classes == ("/a/zoo", "/a/alley")
    assert splits["train"].labels.tolist() == [0, 1] and splits["test"].labels.tolist() == [1, 0]
    assert len(splits["test"].read(np.array([0, 1]))) == 2
    assert vision._arguments("Places365", {"split": "train-challenge"}) == (
        {"split": "train-challenge"},
        {"split": "val"},
    )


def test_torchvision_imagenet_has_two_cranes(tmp_path):
    """ImageNet-1K calls two of its classes "crane": they get their WordNet ids."""
    words = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}
    torch.save((words, []), tmp_path / "meta.bin")
    for split in ("train", "val"):
        for identifier in words:
            (tmp_path / split / identifier).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / split / identifier / f"{identifier}_1.JPEG")
    classes = vision_set("ImageNet", str(tmp_path))["train"].classes
    assert classes == ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")


def test_repeated_class_names_without_identifiers_get_their_index():

    assert vision._distinct(["a", "b", "a"], None) == ("a (0)", "b", "a (2)")
