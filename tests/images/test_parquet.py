"""Parquet folders: rows across shards and row groups, class names, and how bad ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcpipe import images
from dcpipe.types import DataError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


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
    with pytest.raises(DataError, match=r"rows must ascend strictly within 0\.\.11"):
        train.read(np.array([3, 2]))


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_parquet_falls_back_to_validation_only_where_test_was_not_named(write_set, name):
    write_set("train-0.parquet", [0, 1])
    path = write_set(f"{name}-0.parquet", [1, 1, 0])
    assert parquet(path)["test"].labels.tolist() == [1, 1, 0]
    with pytest.raises(DataError, match=rf"has no dev-\*\.parquet \(found train-0\.parquet, {name}-0\.parquet\); cor"):
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
    with pytest.raises(DataError, match=r"^image source 'parquet': classes is 'n01': input should be a valid list$"):
        parquet(path, classes="n01")
    write_set("train-0.parquet", [0, 1])
    with pytest.raises(DataError, match=r"train-0\.parquet has 2 classes but images\.options\.classes has 3; give one"):
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
    assert parquet(path)["train"].labels.tolist() == [0, 1], "the metadata says which column is which"
    with pytest.raises(DataError, match=r"has no column 'picture', only img, fine; set image_column and label_column$"):
        parquet(path, image_column="picture")


def test_parquet_finds_columns_only_where_there_is_no_doubt(write_set, png):
    picture = pa.array([{"bytes": png(np.zeros((2, 2, 3), np.uint8))}], pa.struct([("bytes", pa.binary())]))
    columns = {"front": picture, "back": picture, "fine": pa.array([0]), "coarse": pa.array([0])}
    path = write_set("train-0.parquet", [], feature="fine", **columns)
    with pytest.raises(
        DataError,
        match=r"has no column 'image', only front, back, fine, coarse; set images\.options\.image_column to one of",
    ):
        parquet(path, test_share=0.5)
    write_set("train-0.parquet", [], names=None, **columns)
    with pytest.raises(
        DataError, match=r"has no column 'label', .*; set images\.options\.label_column to one of them$"
    ):
        parquet(path, image_column="front", test_share=0.5)


def test_labels_that_are_texts_name_the_classes(write_set, png):
    picture = {"bytes": png(np.zeros((2, 2, 3), np.uint8)), "path": None}

    def write(split, names):
        return write_set(
            f"{split}-0.parquet", [], names=None, image=pa.array([picture] * len(names), STRUCT), label=names
        )

    write("train", ["dog", "cat", "dog", "eel"])
    path = write("test", ["eel", "cat"])
    splits = parquet(path)
    assert splits["train"].classes == splits["test"].classes == ("cat", "dog", "eel")
    assert (splits["train"].labels.tolist(), splits["test"].labels.tolist()) == ([1, 0, 1, 2], [2, 0])
    write("test", ["fox"])
    with pytest.raises(DataError, match="label 'fox' of column 'label' is not on the class list"):
        parquet(path)


def test_parquet_refuses_what_it_cannot_use(write_set, tmp_path, png, read_all):
    with pytest.raises(DataError, match=r"^parquet folder /nowhere not found; correct images\.options\.path$"):
        parquet("/nowhere")
    with pytest.raises(DataError, match=r"has no train-\*\.parquet \(found no Parquet files\); correct path or the na"):
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
        ({"image": image, "label": pa.array([0.5, 1.5])}, "column 'label' is double, expected integers; encode the la"),
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
    with pytest.raises(DataError, match=r"test-0\.parquet: row 1 has no image bytes; embed the files in the Parquet"):
        read_all(parquet(path)["test"])


def test_parquet_misses_no_shard(write_set):
    write_set("test-00000-of-00001.parquet", [0])
    path = write_set("train-00000-of-00003.parquet", [0, 1])
    write_set("train-00002-of-00003.parquet", [0, 1])
    with pytest.raises(DataError, match=r"has 2 shards of 'train' but train-00000-of-00003\.parquet promises 3; downl"):
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


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("name", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_every_arrow_type_of_bytes_and_names_is_read(write_set, png, kind, name):
    data = [{"bytes": png(np.full((2, 2, 3), r, np.uint8)), "path": f"{r}.png"} for r in range(4)]
    column = pa.array(data, pa.struct([("bytes", kind), ("path", name)]))
    write_set("train-0.parquet", [0, 1, 0, 1], group=4, image=column, label=pa.array([0, 1, 0, 1]))
    path = write_set("test-0.parquet", [1, 0])
    got = parquet(path)["train"].read(np.array([1, 3]))
    assert [(int(images.decode(content, 2, "x")[0, 0, 0]), file) for content, file in got] == [
        (1, "1.png"),
        (3, "3.png"),
    ]


def test_a_plain_column_of_bytes_is_read_and_rows_are_named_by_their_place(write_set, png):
    column = pa.array([png(np.full((2, 2, 3), r, np.uint8)) for r in range(2)], pa.binary())
    write_set("train-0.parquet", [0, 1], image=column, label=pa.array([0, 1]))
    path = write_set("test-0.parquet", [1, 0])
    got = parquet(path)["train"].read(np.array([1]))
    assert int(images.decode(got[0][0], 2, "x")[0, 0, 0]) == 1 and got[0][1] == "train-0.parquet:1"
    numbers = pa.array([list(b"abc"), list(b"def")], pa.list_(pa.uint8()))
    write_set("train-0.parquet", [0, 1], image=numbers, label=pa.array([0, 1]))
    with pytest.raises(DataError, match=r"column 'image' is list<.*uint8>, expected struct<bytes, path> or binary"):
        parquet(path)


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0, 1, 0]).dictionary_encode(),
        pa.array([0, 1, 0], pa.uint8()),
        pa.array(["cat", "dog", "cat"]),
        pa.array(["cat", "dog", "cat"], pa.string_view()),
        pa.array(["cat", "dog", "cat"], pa.large_string()),
        pa.array(["cat", "dog", "cat"]).dictionary_encode(),
    ],
    ids=lambda labels: str(labels.type),
)
def test_labels_may_be_dictionaries_and_names(write_set, png, labels):
    column = pa.array([{"bytes": png(np.zeros((2, 2, 3), np.uint8)), "path": "x"}] * 3, STRUCT)
    write_set("train-0.parquet", [0, 1, 0], image=column, label=labels)
    path = write_set("test-0.parquet", [1, 0])
    assert parquet(path)["train"].labels.tolist() == [0, 1, 0]


def test_a_name_that_is_no_class_is_refused(write_set, png):
    column = pa.array([{"bytes": png(np.zeros((2, 2, 3), np.uint8)), "path": "x"}] * 2, STRUCT)
    write_set("train-0.parquet", [0, 1], image=column, label=pa.array(["cat", "emu"]))
    path = write_set("test-0.parquet", [1, 0])
    with pytest.raises(DataError, match=r"label 'emu' of column 'label' is not on the class list; correct images"):
        parquet(path)


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ("[]", r"its 'huggingface' metadata is damaged \(TypeError: "),
        ('{"info": null}', r"its 'huggingface' metadata is damaged \(TypeError: "),
        ("[" * 100_000, r"its 'huggingface' metadata is damaged \(RecursionError: "),
        ('{"info": {"features": {"label": {"names": 2}}}}', r"class names in .* must be a list of texts, got 2; write"),
        # In this order of its keys, it would name class 0 "dog".
        (
            '{"info": {"features": {"label": {"names": {"dog": 1, "cat": 0}}}}}',
            r"must be a list of texts, got \{'dog': 1, 'cat': 0\}; write the file again",
        ),
    ],
)
def test_parquet_refuses_metadata_of_another_shape(write_set, tmp_path, info, sentence):
    path = write_set("train-0.parquet", [0, 1])
    table = pq.read_table(tmp_path / "train-0.parquet").replace_schema_metadata({"huggingface": info})
    pq.write_table(table, tmp_path / "train-0.parquet")
    write_set("test-0.parquet", [0])
    with pytest.raises(DataError, match=sentence):
        parquet(path)


@pytest.mark.parametrize("name", ["x" * 1001, "\ud800"])
def test_parquet_refuses_class_names_that_no_later_stage_could_read(write_set, name):
    path = write_set("train-0.parquet", [0, 1], names=("cat", name))
    write_set("test-0.parquet", [0], names=("cat", name))
    with pytest.raises(DataError, match=r"class name '.* cannot be stored; give it at most 1000 characters of valid"):
        parquet(path)


@pytest.mark.parametrize("split", ["tr*", "tr[a]in", "**", "", "/etc/pass"])
def test_parquet_takes_the_name_of_a_split_literally(write_set, split):
    path = write_set("train-0.parquet", [0, 1])
    write_set("test-0.parquet", [0])
    with pytest.raises(DataError, match=r"-\*\.parquet \(found test-0\.parquet, train-0\.parquet\); correct path or"):
        parquet(path, train=split)


@pytest.mark.parametrize("value", [7, b"\xff", ["a"]])
def test_parquet_names_images_whose_path_is_no_text_by_their_row(write_set, png, value):
    data = [{"bytes": png(np.full((2, 2, 3), row, np.uint8)), "path": value} for row in range(2)]
    columns = {"image": pa.array(data), "label": pa.array([0, 1])}
    write_set("test-0.parquet", [0])
    train = parquet(write_set("train-0.parquet", [0, 1], **columns))["train"]
    assert [name for _, name in train.read(np.arange(2))] == ["train-0.parquet:0", "train-0.parquet:1"]


def test_parquet_says_that_an_unsigned_label_is_too_large(write_set, png):
    image = pa.array([png(np.zeros((2, 2, 3), np.uint8))] * 2)
    write_set("test-0.parquet", [0])
    path = write_set("train-0.parquet", [0, 1], image=image, label=pa.array([2**64 - 1, 0], pa.uint64()))
    with pytest.raises(DataError, match=r"label 18446744073709551615 is too large; number the classes from 0$"):
        parquet(path)
