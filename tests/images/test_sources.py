"""The four sources: what they list, what they read, and how they refuse bad input."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dcpipe import images
from dcpipe.images import vision
from dcpipe.types import DataError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def read_all(source):
    return source.read(np.arange(len(source.labels)))


# digits


def test_digits_are_scikit_learns_in_two_disjoint_splits():
    splits = images.SOURCES["digits"]()
    expected = load_digits()
    rows = []
    for source in splits.values():
        assert source.classes == tuple("0123456789")
        for label, (data, name) in zip(source.labels, read_all(source), strict=True):
            row = int(name.removesuffix(".png"))
            rows.append(row)
            assert label == expected.target[row]
            grey = np.array([[int(v * 255 / 16 + 0.5) for v in line] for line in expected.images[row]])
            np.testing.assert_array_equal(images.decode(data, 8, name), grey[:, :, None].repeat(3, axis=2))
    assert sorted(rows) == list(range(1797))
    assert [len(source.labels) for source in splits.values()] == [1438, 359]
    assert read_all(splits["test"])[5][1] == "0019.png"


def test_digits_follow_share_and_seed():
    test = images.SOURCES["digits"](test_share=0.5, seed=1)["test"]
    assert abs(np.bincount(test.labels) * 2 - np.bincount(load_digits().target)).max() <= 1
    assert read_all(test) != read_all(images.SOURCES["digits"](test_share=0.5, seed=2)["test"])


# parquet


@pytest.fixture
def write_set(tmp_path, png):
    """(file, labels, …) -> a Parquet shard below `tmp_path`, image r a flat colour r."""

    def write(file, labels, names=("cat", "dog"), group=3, column=None, feature="label", **columns):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        data = [{"bytes": png(np.full((2, 2, 3), r, np.uint8)), "path": f"{r}.png"} for r in range(len(labels))]
        columns = columns or {"image": pa.array(data, STRUCT), "label": pa.array(labels)}
        info = {"info": {"features": {feature: {"names": list(names or []), "_type": "ClassLabel"}}}}
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(info)} if names else None)
        pq.write_table(table, path, row_group_size=group)
        return str(tmp_path)

    return write


def parquet(path, **options):
    return images.SOURCES["parquet"](path=str(path), **options)


def test_parquet_reads_rows_across_shards_and_groups(write_set):
    write_set("data/train-00000-of-00002.parquet", [0, 1, 0, 1, 0, 1, 0])
    write_set("data/train-00001-of-00002.parquet", [1, 1, 0, 0, 1])
    path = write_set("data/test-00000-of-00001.parquet", [1, 0])
    splits = parquet(path)
    train = splits["train"]
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1]
    assert train.labels.dtype == np.int64
    rows = np.array([0, 2, 3, 6, 7, 11])
    got = [(int(images.decode(data, 2, name)[0, 0, 0]), name) for data, name in train.read(rows)]
    assert got == [(r, f"{r}.png") for r in (0, 2, 3, 6, 0, 4)]
    assert train.read(np.array([], dtype=np.int64)) == []
    assert splits["test"].labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"rows must ascend within 0\.\.11"):
        train.read(np.array([3, 2]))


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_parquet_falls_back_to_validation_only_where_test_was_not_named(write_set, name):
    write_set("train-0.parquet", [0, 1])
    path = write_set(f"{name}-0.parquet", [1, 1, 0])
    assert parquet(path)["test"].labels.tolist() == [1, 1, 0]
    with pytest.raises(DataError, match=rf"has no dev-\*\.parquet; it has train-0\.parquet, {name}-0\.parquet$"):
        parquet(path, test="dev")


def test_parquet_prefers_test_to_validation(write_set):
    write_set("validation-0.parquet", [1, 0])
    write_set("train-0.parquet", [0, 1])
    assert parquet(write_set("test-0.parquet", [0]))["test"].labels.tolist() == [0]


def test_parquet_class_names_may_be_given(write_set):
    path = write_set("train-0.parquet", [0, 1], names=None)
    write_set("test-0.parquet", [0], names=None)
    with pytest.raises(DataError, match=r"train-0\.parquet does not name its classes; give images\.options\.classes"):
        parquet(path)
    assert parquet(path, classes=["n01", "n02"])["test"].classes == ("n01", "n02")
    with pytest.raises(DataError, match=r"^classes must be a list of names, got 'n01'; write them as a YAML list$"):
        parquet(path, classes="n01")
    write_set("train-0.parquet", [0, 1])
    with pytest.raises(DataError, match=r"train-0\.parquet names 2 classes but options give 3; give one name each"):
        parquet(path, classes=["a", "b", "c"])


def test_parquet_columns_may_have_other_names(write_set, png):
    columns = {
        "img": pa.array([{"bytes": png(np.zeros((2, 2, 3), np.uint8))}] * 2, pa.struct([("bytes", pa.binary())])),
        "fine": pa.array([0, 1], pa.int8()),
    }
    path = write_set("train-0.parquet", [], feature="fine", **columns)
    write_set("test-0.parquet", [], feature="fine", **columns)
    train = parquet(path, image_column="img", label_column="fine")["train"]
    assert train.labels.tolist() == [0, 1]
    assert [name for _, name in train.read(np.array([1]))] == ["train-0.parquet:1"]
    with pytest.raises(DataError, match=r"has no column 'image'; it has img, fine: set image_column and label_column$"):
        parquet(path, label_column="fine")


def test_parquet_refuses_what_it_cannot_use(write_set, tmp_path, png):
    with pytest.raises(DataError, match=r"^parquet folder /nowhere not found; correct images\.options\.path$"):
        parquet("/nowhere")
    with pytest.raises(DataError, match=r"has no train-\*\.parquet; it has no Parquet file$"):
        parquet(tmp_path)
    path = write_set("train-0.parquet", [0, 1])
    test = tmp_path / "test-0.parquet"
    test.write_bytes(b"<!doctype html>")
    with pytest.raises(
        DataError, match=r"test-0\.parquet cannot be read as Parquet \(.+\); download or build it again$"
    ):
        parquet(path)
    picture = {"bytes": png(np.zeros((2, 2, 3), np.uint8)), "path": None}
    image = pa.array([picture] * 2, STRUCT)
    for columns, sentence in (
        ({"image": image, "label": pa.array([0, -1])}, "some labels are negative .* choose a split whose labels are p"),
        ({"image": image, "label": pa.array([0, None])}, "1 labels are null; give every image a label$"),
        ({"image": image, "label": pa.array([0, 2])}, r"test: labels span 0\.\.2 but there are 2 classes; check the"),
        ({"image": image, "label": pa.array(["a", "b"])}, "column 'label' is string, expected integers; encode labels"),
        ({"image": pa.array(["a", "b"]), "label": pa.array([0, 1])}, "column 'image' is string, expected struct<bytes"),
        ({"image": image[:0], "label": pa.array([], pa.int64())}, "test holds no images; check the path and the split"),
    ):
        write_set("test-0.parquet", [], **columns)
        with pytest.raises(DataError, match=sentence):
            parquet(path)
    write_set("test-0.parquet", [0], names=("dog", "cat"))
    with pytest.raises(DataError, match="train and test: class 0 is 'cat' on one side and 'dog' on the other"):
        parquet(path)
    empty = pa.array([picture, {"bytes": None, "path": "elsewhere.png"}], STRUCT)
    write_set("test-0.parquet", [], image=empty, label=pa.array([0, 1]))
    with pytest.raises(DataError, match=r"test-0\.parquet: row 1 holds no image bytes; embed the files in the Parquet"):
        read_all(parquet(path)["test"])


def test_parquet_misses_no_shard(write_set):
    write_set("test-00000-of-00001.parquet", [0])
    path = write_set("train-00000-of-00003.parquet", [0, 1])
    write_set("train-00002-of-00003.parquet", [0, 1])
    with pytest.raises(
        DataError, match=r"holds 2 shards of 'train' but train-00000-of-00003\.parquet promises 3; downl"
    ):
        parquet(path)


def test_parquet_of_damaged_metadata(write_set, tmp_path):
    path = write_set("test-0.parquet", [0])
    write_set("train-0.parquet", [0, 1])
    table = pq.read_table(tmp_path / "train-0.parquet").replace_schema_metadata({"huggingface": "{"})
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(
        DataError, match=r"train-0\.parquet: its 'huggingface' metadata is damaged \(.+\); write the fi"
    ):
        parquet(path)


def test_real_cifar10(real_data):
    splits = parquet(real_data / "cifar10")
    train = splits["train"]
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert train.classes == tuple(names.split())
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(splits["test"].labels).tolist() == [1000] * 10
    rows = np.arange(3000)
    encoded, report = images.inspect_part(train, rows, train.classes, 32, rows)
    first = images.decode(encoded[0].data, 32, encoded[0].path)
    stored = pq.ParquetFile(next((real_data / "cifar10").glob("train-00000*"))).read_row_group(0)["image"][0].as_py()
    assert first.shape == (32, 32, 3)
    assert encoded[0].data == stored["bytes"]
    # The set's published means, within what 3,000 of 50,000 images in random order allow.
    mean, std = images.merge_reports([report])
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.01)
    np.testing.assert_allclose(std, [0.2470, 0.2435, 0.2616], atol=0.005)


def test_real_sets_with_grey_and_jpeg_images(real_data):
    fashion = parquet(real_data / "fashion-mnist")["test"]
    assert len(fashion.labels) == 10_000
    data, name = fashion.read(np.array([9_999]))[0]
    pixels = images.decode(data, 28, name)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    tiny = parquet(real_data / "tiny-imagenet-50")
    assert (len(tiny["train"].labels), len(tiny["test"].labels), len(tiny["test"].classes)) == (25_000, 2_500, 50)
    rows = np.arange(1000)
    _, report = images.inspect_part(tiny["test"], rows, tiny["test"].classes, 64, rows)
    assert report.count == 1000


# imagefolder


@pytest.fixture
def tree(tmp_path, png):
    """A folder a class; file names in an order that listing need not give."""

    def plant(layout):
        for number, (file, content) in enumerate(layout.items()):
            path = tmp_path / "set" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.full((2, 2, 3), number, np.uint8)) if content is None else content)
        return tmp_path / "set"

    return plant


PETS = {
    "train/dog/b.JPG": None,
    "train/dog/a.png": None,
    "train/cat/images/z.jpeg": None,
    "train/cat/notes.txt": b"x",
    "train/.cache/x.png": None,
    "train/loose.png": None,
    "val/cat/1.png": None,
    "val/dog/2.webp": None,
}


def folder(path, **options):
    return images.SOURCES["imagefolder"](path=str(path), **options)


def test_folder_sorts_classes_and_files(tree):
    splits = folder(tree(PETS))
    train = splits["train"]
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 1, 1]
    names = ["train/cat/images/z.jpeg", "train/dog/a.png", "train/dog/b.JPG"]
    assert [name for _, name in read_all(train)] == names
    assert [int(images.decode(data, 2, "x")[0, 0, 0]) for data, _ in train.read(np.array([0, 2]))] == [2, 0]
    assert splits["test"].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "hidden",
    ["._1.png", ".ipynb_checkpoints/0-checkpoint.png", "deep/.cache/1.png", "__MACOSX/._2.png", ".DS_Store.jpg"],
)
def test_hidden_files_and_folders_are_no_images(tree, hidden):
    before = folder(tree(PETS))["train"].files
    assert folder(tree({f"train/cat/{hidden}": None}))["train"].files == before


def test_a_hidden_folder_above_the_images_is_no_reason_to_pass_over_them(tree, tmp_path):
    moved = tmp_path / ".cache" / "images"
    moved.parent.mkdir()
    tree(PETS).rename(moved)
    assert len(folder(moved)["train"].files) == 3


def test_folder_takes_the_order_it_is_given(tree, tmp_path):
    root = tree(PETS)
    listed, indexed = tmp_path / "list.json", tmp_path / "index.json"
    listed.write_text('["dog", "cat"]')
    indexed.write_text('{"cat": 1, "dog": 0}')
    for classes in (["dog", "cat"], str(listed), str(indexed)):
        splits = folder(root, classes=classes)
        assert splits["train"].classes == splits["test"].classes == ("dog", "cat")
        assert splits["train"].labels.tolist() == [0, 0, 1]
        assert read_all(splits["train"])[0][1] == "train/dog/a.png"


def test_folder_refuses_what_it_cannot_use(tree, tmp_path):
    root = tree(PETS)
    for options, sentence in (
        ({"test": "test"}, r"^image folder .*/set/test not found; .*/set has train, val$"),
        ({"classes": ["cat"]}, r"^class folder .*/set/train/dog is not on the class list; add or move it$"),
        ({"classes": ["cat", "dog", "emu"]}, r"^class folder .*/train/emu not found; create it or take 'emu' off"),
        ({"classes": ["cat", "dog", "dog"]}, "class names repeat; make them distinct$"),
    ):
        with pytest.raises(DataError, match=sentence):
            folder(root, **options)
    for text, sentence in (
        ("{", "cannot be read as JSON"),
        ('"cat"', "holds neither a list nor"),
        ('{"cat": 0, "dog": 2}', r"indices must be 0\.\.1, each once; correct the file$"),
        ('{"cat": false, "dog": true}', r"indices must be 0\.\.1, each once"),
        ("[1, 2]", r"^classes must be a list of names, got \[1, 2\]"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(DataError, match=sentence):
            folder(root, classes=str(tmp_path / "c.json"))
    with pytest.raises(DataError, match=r"not found; /nowhere has no folders$"):
        folder("/nowhere")
    (root / "train" / "emu").mkdir()
    with pytest.raises(DataError, match=r"^class folder .*/train/emu holds no images \(\.bmp, .*\); add some$"):
        folder(root)
    (root / "train" / "emu").rmdir()
    (root / "bare").mkdir()
    with pytest.raises(DataError, match=r"/bare has no class folders; put each class's images in one$"):
        folder(root, train="bare")


def test_folder_whose_file_vanishes(tree):
    root = tree(PETS)
    train = folder(root)["train"]
    (root / "train/dog/a.png").unlink()
    with pytest.raises(DataError, match=r"^image .*/a\.png cannot be read \(No such file or directory\); restore it"):
        read_all(train)


# torchvision


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


def test_torchvision_in_one_piece(stand_ins):
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
    assert vision._arguments(name) == (train, test)


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
