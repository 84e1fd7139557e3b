"""A folder per class: sorted classes and files, and how bad trees are refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from dcpipe import images
from dcpipe.types import DataError


@pytest.fixture
def tree(tmp_path, png):
    """One folder per class; file names are in an order that a listing need not have."""

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


def test_folder_sorts_classes_and_files(tree, read_all):
    splits = folder(tree(PETS))
    train = splits["train"]
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 1, 1]
    names = ["train/cat/images/z.jpeg", "train/dog/a.png", "train/dog/b.JPG"]
    assert [name for _, name in read_all(train)] == names
    assert [int(images.decode(data, 2, "x")[0, 0, 0]) for data, _ in train.read(np.array([0, 2]))] == [2, 0]
    assert splits["test"].labels.tolist() == [0, 1]


def test_folder_takes_the_order_it_is_given(tree, tmp_path, read_all):
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
        ({"test": "test"}, r"^image folder .*/set/test not found; .*/set contains train, val, so correct"),
        (
            {"classes": ["cat"]},
            r"^class folder .*/set/train/dog is not on the class list; add or move it, or set only_li",
        ),
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
    with pytest.raises(DataError, match=r"not found; /nowhere contains no folders, so correct the path or"):
        folder("/nowhere")
    (root / "train" / "emu").mkdir()
    with pytest.raises(DataError, match=r"^class folder .*/train/emu has no images \(\.bmp, .*\); add some$"):
        folder(root)
    (root / "train" / "emu").rmdir()
    (root / "bare").mkdir()
    with pytest.raises(DataError, match=r"/bare has no class folders; put each class's images in one$"):
        folder(root, train="bare")


def test_folder_whose_file_vanishes(tree, read_all):
    root = tree(PETS)
    train = folder(root)["train"]
    (root / "train/dog/a.png").unlink()
    with pytest.raises(DataError, match=r"^image .*/a\.png cannot be read \(No such file or directory\); restore it"):
        read_all(train)


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


def test_listed_classes_alone_are_taken_where_asked_for(tree, read_all):
    root = tree({**PETS, "train/emu/1.png": None, "val/emu/1.png": None})
    splits = folder(root, classes=["emu", "cat"], only_listed=True)
    assert splits["train"].classes == ("emu", "cat")
    assert [name for _, name in read_all(splits["train"])] == ["train/emu/1.png", "train/cat/images/z.jpeg"]
    assert splits["test"].labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"^only_listed needs a list of classes; give images\.options\.classes$"):
        folder(root, only_listed=True)


def test_a_class_may_lack_test_images_but_not_train_images(tree):
    without = {name: content for name, content in PETS.items() if name != "val/dog/2.webp"}
    splits = folder(tree(without))
    assert splits["test"].labels.tolist() == [0] and splits["test"].classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"class folder .*train/emu not found"):
        folder(tree(PETS), classes=["cat", "dog", "emu"])


def test_tiny_imagenet_is_read_as_it_is_distributed(tree, tmp_path, read_all):
    root = tree(
        {
            "train/n01/images/n01_0.JPEG": None,
            "train/n01/n01_boxes.txt": b"",
            "train/n02/images/n02_0.JPEG": None,
            "val/images/val_0.JPEG": None,
            "val/images/val_1.JPEG": None,
            "val/images/val_2.JPEG": None,
            "val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t0\t8\t8\nval_1.JPEG\tn01\t0\t0\t8\t8\nval_2.JPEG\tn02\n",
        }
    )
    splits = folder(root)
    assert splits["train"].classes == ("n01", "n02") and splits["test"].labels.tolist() == [0, 1, 1]
    names = ["val/images/val_1.JPEG", "val/images/val_0.JPEG", "val/images/val_2.JPEG"]
    assert [name for _, name in read_all(splits["test"])] == names
    annotations = root / "val" / "val_annotations.txt"
    for text, sentence in (
        ("val_0.JPEG\tn02\nval_1.JPEG\tn01\n", "val_annotations.txt has no line for val/images/val_2.JPEG; add one"),
        ("val_0.JPEG n02\n", "val_annotations.txt: line 'val_0.JPEG n02' has no tab; give a file and its class per"),
        ("".join(f"val_{i}.JPEG\tn03\n" for i in range(3)), "class folder .*/val/n03 is not on the class list"),
    ):
        annotations.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=sentence):
            folder(root)


def test_names_of_any_bytes_are_read_and_escaped(tree, read_all):
    root = tree(PETS)
    (root / "train" / "dog" / "a.png").rename(root / "train" / "dog" / os.fsdecode(b"caf\xe9.png"))
    train = folder(root)["train"]
    assert sorted(name for _, name in read_all(train)) == [
        "train/cat/images/z.jpeg",
        "train/dog/b.JPG",
        "train/dog/caf\\xe9.png",
    ]
    (root / "train" / "cat").rename(root / "train" / os.fsdecode(b"c\xe9t"))
    with pytest.raises(DataError, match=r"class folder 'c\\\\xe9t' in .*train is not UTF-8; rename it"):
        folder(root)


def test_links_to_nothing_are_refused_because_an_image_is_missing(tree):
    root = tree(PETS)
    link = root / "train" / "dog" / "c.png"
    link.symlink_to(root / "nowhere.png")
    with pytest.raises(
        DataError, match=r"^image .*train/dog/c\.png is a link to .*nowhere\.png, which does not exist; "
    ):
        folder(root)
    link.unlink()
    (root / "train" / "bird").symlink_to(root / "nowhere")
    with pytest.raises(DataError, match=r"^class folder .*train/bird is a link to .*nowhere, which does not exist; re"):
        folder(root)


def test_images_in_linked_folders_are_read(tree, read_all):
    root = tree({**PETS, "elsewhere/7.png": None})
    (root / "train" / "cat" / "more").symlink_to(root / "elsewhere", target_is_directory=True)
    (root / "train" / "cat" / "round").symlink_to(root / "train", target_is_directory=True)
    names = [name for _, name in read_all(folder(root)["train"]) if name.startswith("train/cat/more")]
    assert names == ["train/cat/more/7.png"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[" * 100_000, r"cannot be read as JSON \(maximum recursion depth"),
        ('{"cat": 0, "dog": 1, "cat": 1}', r"cannot be read as JSON \(the key 'cat' is there twice\)"),
    ],
)
def test_class_lists_that_are_nested_or_ambiguous_are_refused(tree, tmp_path, content, sentence):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        folder(tree(PETS), classes=str(tmp_path / "list.json"))


def test_an_annotated_image_has_one_class(tree):
    root = tree({"train/cat/1.png": None, "train/dog/1.png": None, "val/images/1.png": None})
    (root / "val" / "val_annotations.txt").write_text("1.png\tcat\n1.png\tdog\n")
    with pytest.raises(DataError, match=r"gives 1\.png to classes 'cat' and 'dog'; keep one line$"):
        folder(root)


def test_folders_that_are_all_numbers_are_sorted_as_numbers(tree):
    numbers = [f"{split}/{n}/{n}.png" for split in ("train", "val") for n in (10, 9, 0, 1)]
    splits = folder(tree(dict.fromkeys(numbers)))
    assert splits["train"].classes == splits["test"].classes == ("0", "1", "9", "10")
    assert splits["train"].files == tuple(f"train/{n}/{n}.png" for n in (0, 1, 9, 10))
    assert splits["train"].labels.tolist() == splits["test"].labels.tolist() == [0, 1, 2, 3]
    assert folder(tree({"train/b/b.png": None}))["train"].classes == ("0", "1", "10", "9", "b")
