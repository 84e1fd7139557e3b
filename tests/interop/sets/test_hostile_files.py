"""Files that are no sets, or are made to harm: each is refused in one sentence that names it; nothing in it is run, and
no memory is taken that its bytes do not explain."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import foreign_sets
import numpy as np
import pytest
import torch
from foreign_sets import CLASSES, SIDE, N, class_list, write_dc, write_folders, write_idc, write_mtt
from PIL import Image

import dcpipe
from dcpipe.interop import import_images
from dcpipe.interop.pixels import Scale
from dcpipe.interop.sets import Options
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")
Make = Callable[[], object]


def refusal(source: Path, root: Path, **options: object) -> str:
    """The sentence, with paths relative to the test's folder."""
    chosen: dict[str, object] = {"classes": class_list(root), "scale": Scale("cifar10")} | options
    if source.suffix == ".pt" and source.name.startswith("data"):
        chosen |= {"scale": Scale("none"), "options": Options(factor=1)}
    with pytest.raises(DataError) as error:
        import_images(source, root / "out", **chosen)  # type: ignore[arg-type]
    assert not (root / "out").exists()
    told = str(error.value)
    assert "\n" not in told
    return told.replace(f"{root}/", "")


def list_of(images: Make, labels: Make = foreign_sets.labels) -> Make:
    return lambda: [images(), labels()]


def zeros(*shape: int, **options: object) -> torch.Tensor:
    return torch.zeros(*shape, **options)  # type: ignore[call-overload,no-any-return]


WRONG: dict[str, tuple[Make, str]] = {
    "no square": (
        list_of(lambda: zeros(N, 3, 8, 6)),
        "data.pt: images is float32 [36, 3, 8, 6], expected square images",
    ),
    "channels": (
        list_of(lambda: zeros(N, 4, 8, 8)),
        "images is float32 [36, 4, 8, 8], expected square images [n, 3 or",
    ),
    "flat": (list_of(lambda: zeros(N, 3 * 64)), "images is float32 [36, 192]; give images as a tensor [n, channels, "),
    "none": (list_of(lambda: zeros(0, 3, 8, 8)), "images is float32 [0, 3, 8, 8], expected square images"),
    "empty": (list_of(lambda: zeros(N, 3, 0, 0)), "images is float32 [36, 3, 0, 0], expected square images"),
    "huge": (
        list_of(lambda: zeros(1).expand(2**30, 3, 8, 8)),
        "is [1073741824, 3, 8, 8], of which the file holds 4 by",
    ),
    "wide": (
        list_of(lambda: zeros(1).expand(1, 3, 2**15, 2**15)),
        "is [1, 3, 32768, 32768], of which the file holds 4",
    ),
    "NaN": (
        list_of(lambda: foreign_sets.raw().index_fill(0, torch.tensor(5), torch.nan)),
        "image 5 contains NaN or inf",
    ),
    "infinity": (
        list_of(lambda: torch.full((N, 3, 8, 8), torch.inf)),
        "data.pt: image 0 contains NaN or infinity; make",
    ),
    "complex": (
        list_of(lambda: zeros(N, 3, 8, 8, dtype=torch.complex64)),
        "images is complex64 [36, 3, 8, 8]; give im",
    ),
    "integers": (
        list_of(lambda: zeros(N, 3, 8, 8, dtype=torch.int64)),
        "images is int64 [36, 3, 8, 8]; give images as a",
    ),
    "float8": (
        list_of(lambda: zeros(N, 3, 8, 8).to(torch.float8_e5m2)),
        "images is torch.float8_e5m2; give images as a",
    ),
    "meta": (
        list_of(lambda: zeros(N, 3, 8, 8, device="meta")),
        "images is [36, 3, 8, 8], of which the file holds 0 by",
    ),
    "label rows": (
        list_of(foreign_sets.raw, lambda: zeros(3).long()),
        "data.pt: labels has 3 labels for 36 images; give",
    ),
    "label kind": (
        list_of(foreign_sets.raw, lambda: zeros(N)),
        "data.pt: labels is float32 [36]; give class numbers as a",
    ),
    "negative": (
        list_of(foreign_sets.raw, lambda: foreign_sets.labels() - 1),
        "labels has label -1; number the classes",
    ),
    "too high": (
        list_of(foreign_sets.raw, lambda: foreign_sets.labels() + 1),
        "data.pt has label 12, but there are 12 cl",
    ),
    "no image": (
        list_of(foreign_sets.raw, lambda: foreign_sets.labels().clamp(max=10)),
        "has no image of class 11 ('clas",
    ),
    "three entries": (
        lambda: [foreign_sets.raw(), foreign_sets.labels(), 0],
        "has the content of none of these formats: p",
    ),
    "a string": (lambda: "images", "data.pt has the content of none of these formats: parquet (Parquet of the Hugging"),
    "an object array": (
        lambda: np.array([None]),
        "contains something other than tensors and plain numbers; it was ref",
    ),
    "an object number": (
        lambda: [np.zeros(1, dtype=object), 1],
        "contains something other than tensors and plain numb",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_set_is_named(tmp_path: Path, case: str) -> None:
    make, sentence = WRONG[case]
    torch.save(make(), tmp_path / "data.pt")
    assert sentence in refusal(tmp_path / "data.pt", tmp_path)


@pytest.mark.filterwarnings("ignore")  # torch warns of both kinds
@pytest.mark.parametrize("kind", ["sparse", "nested"])
def test_tensors_that_are_no_arrays_are_refused(tmp_path: Path, kind: str) -> None:
    images = foreign_sets.raw().to_sparse() if kind == "sparse" else torch.nested.nested_tensor([zeros(3, 8, 8)] * 2)
    torch.save([images, foreign_sets.labels()], tmp_path / "data.pt")
    told = refusal(tmp_path / "data.pt", tmp_path)
    assert f"images is a {kind} tensor" in told or "contains something other than tensors and plain numbers" in told


@pytest.mark.parametrize("change", ["channels last", "half", "double", "bfloat16", "parameter", "reversed labels"])
def test_unusual_tensors_of_the_same_images_are_read(tmp_path: Path, change: str) -> None:
    images, labels = foreign_sets.raw(), foreign_sets.labels()
    images = {
        "channels last": lambda: images.to(memory_format=torch.channels_last),
        "half": images.half,
        "double": images.double,
        "bfloat16": images.bfloat16,
        "parameter": lambda: torch.nn.Parameter(images),
    }.get(change, lambda: images)()
    kept = labels.flip(0).clone().flip(0) if change == "reversed labels" else labels
    torch.save([images, kept], tmp_path / "data.pt")
    import_images(tmp_path / "data.pt", tmp_path / "out", classes=class_list(tmp_path), options=Options(factor=1))
    found = dcpipe.load(tmp_path / "out").images
    far = np.abs(found.images.astype(int) - foreign_sets.pixels()[found.ids]).max()
    assert far <= (1 if change == "bfloat16" else 0)


class Trap:
    """Runs a command when a careless reader opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("place", ["whole", "inside", "beside"])
def test_nothing_in_a_file_is_run(tmp_path: Path, place: str) -> None:
    trap, path = Trap(tmp_path / "sprung"), tmp_path / "data.pt"
    if place == "beside":
        path = write_mtt(tmp_path / "logged")
        torch.save(trap, tmp_path / "logged/labels_best.pt")
    else:
        torch.save(trap if place == "whole" else {"data": [[foreign_sets.raw(), trap]]}, path)
    told = refusal(path, tmp_path)
    assert "contains something other than tensors and plain numbers; it was refused, and no code was run; " in told
    assert told.endswith(("save only its images and labels, as a list of two tensors", "save the labels as one tensor"))
    assert not (tmp_path / "sprung").exists()


def test_the_pickle_beside_mdcs_data_is_never_read(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "regularizer_1.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    write_idc(tmp_path, "data_1.pt")
    torch.save(7, tmp_path / "it.pt")
    told = import_images(tmp_path, tmp_path / "out", classes=class_list(tmp_path), options=Options(factor=1))
    assert told.files == 1 and not (tmp_path / "sprung").exists()


def test_archives_that_unpack_to_more_than_they_are_get_no_memory(tmp_path: Path) -> None:
    """A packed entry of zeros: PyTorch would unpack it."""
    plain, bomb = write_idc(tmp_path), tmp_path / "bomb.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    told = refusal(bomb, tmp_path, options=Options(factor=1))
    assert told.startswith("bomb.pt has packed entries, which torch.save does not write; save its tensors again")


def test_storage_that_claims_more_than_its_entry(tmp_path: Path) -> None:
    """The header of an entry says one number of bytes, the pickle another."""
    plain, lie = write_idc(tmp_path), tmp_path / "lie.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(lie, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, data[:8] if "/data/" in entry.filename else data)
    assert "lie.pt is damaged (" in refusal(lie, tmp_path, options=Options(factor=1))


def test_files_of_old_versions_are_saved_again_by_the_command_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    torch.save([foreign_sets.raw(), foreign_sets.labels()], path, _use_new_zipfile_serialization=False)
    told = refusal(path, tmp_path)
    assert told.startswith(
        "data.pt was written by PyTorch before 1.6, whose files are not read; save it again: python -c"
    )
    code = told.partition('-c "')[2].partition('"')[0]
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "data_new.pt"], check=True)
    import_images(tmp_path / "data_new.pt", tmp_path / "out", classes=class_list(tmp_path), options=Options(factor=1))
    assert len(dcpipe.load(tmp_path / "out").images) == N


@pytest.mark.parametrize("kind", ["pair", "dc", "idc", "parquet", "text"])
def test_random_damage_is_refused_or_read(tmp_path: Path, kind: str) -> None:
    """Whatever bytes change: a release, or one sentence; never another error."""
    made = {
        "pair": lambda: write_mtt(tmp_path / "logged"),
        "dc": lambda: write_dc(tmp_path),
        "idc": lambda: write_idc(tmp_path),
    }.get(kind, lambda: tmp_path / f"x.{kind}")()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        from dcpipe.store.encoding import encode_png

        images = [{"bytes": encode_png(image), "path": None} for image in foreign_sets.pixels()]
        pq.write_table(pa.table({"image": images, "label": foreign_sets.labels().tolist()}), made)
    elif kind == "text":
        made.write_text("no set at all\n" * 100)
    whole, classes = made.read_bytes(), class_list(tmp_path)
    scale = Scale("none") if kind == "idc" else Scale("cifar10")
    refused = 0
    for seed in range(25):
        source = random.Random(seed)
        data = bytearray(whole)
        for _ in range(source.choice((1, 3, 20))):
            place = source.randrange(len(data)) if seed % 2 else source.randrange(min(3000, len(data)))
            data[place] = source.randrange(256)
        made.write_bytes(bytes(data[: source.randrange(len(data))] if seed % 5 == 0 else data))
        try:
            import_images(
                made,
                tmp_path / f"out{seed}",
                classes=classes,
                scale=None if kind == "parquet" else scale,
                options=Options(factor=1 if kind == "idc" else None),
            )
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused >= 5  # those that are cut off


# --- folders and pairs that contradict themselves ---


def test_labels_beside_images(tmp_path: Path) -> None:
    path = write_mtt(tmp_path / "logged")
    (tmp_path / "logged/labels_best.pt").rename(tmp_path / "logged/labels_last.pt")
    assert refusal(path, tmp_path) == (
        "logged/images_best.pt has no labels_best.pt beside it; put the labels of these images there"
    )
    path = path.rename(tmp_path / "logged/syn_best.pt")
    assert "whose labels are looked for by its name; call them images….pt and labels….pt" in refusal(path, tmp_path)


SOFT: list[tuple[Make, str]] = [
    (lambda: foreign_sets.soft()[1:], "labels_best.pt has 35 labels for 36 images; give the labels of these images"),
    (
        lambda: foreign_sets.soft()[:, :11],
        "labels_best.pt: 36 images are not the same number of each of 11 classes; give",
    ),
    (lambda: foreign_sets.soft()[:, :9], "has soft labels of 9 classes, but there are 12; give its classes"),
    (lambda: foreign_sets.soft().index_fill(0, torch.tensor(2), torch.nan), "row 2 contains NaN or infinity; correct"),
    (lambda: torch.zeros(N, 1), "labels_best.pt has labels of 1 class; give one column per class"),
    (lambda: foreign_sets.soft() * 1e6, "contain NaN, infinity or a number beyond fp16 (65504)"),
]


@pytest.mark.parametrize(("make", "sentence"), SOFT)
def test_soft_labels_that_do_not_fit(tmp_path: Path, make: Make, sentence: str) -> None:
    stored = make()
    assert isinstance(stored, torch.Tensor)
    assert sentence in refusal(write_mtt(tmp_path / "logged", soft_labels=stored), tmp_path)


def test_experiments_that_are_not_there(tmp_path: Path) -> None:
    path = write_dc(tmp_path)
    for number in (2, -1):
        told = refusal(path, tmp_path, options=Options(experiment=number))
        assert told.endswith(f"2 experiments, so experiment {number} is none of them; give --experiment 0 to 1")
    torch.save({"data": [[foreign_sets.raw()]]}, path)
    assert "experiment 0 is list, expected a list of images and labels" in refusal(path, tmp_path)
    torch.save({"data": []}, path)
    assert "has 0 experiments, so experiment 0 is none of them; give a file with a result" in refusal(path, tmp_path)


def test_folders_that_contradict_themselves(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "syn", "rded")
    stray = folder / "00003/class00002_id00007.png"
    (folder / "00002/class00002_id00000.png").rename(stray)
    told = refusal(folder, tmp_path, scale=None)
    assert (
        told
        == f"image syn/{stray.parent.name}/{stray.name} is of class 00002 by its name, but in folder 00003; move it"
    )
    stray.rename(folder / "00002/class00002_id00001_iter0500.png")
    told = refusal(folder, tmp_path, scale=None)
    assert "class00002_id00001" in told and told.endswith("too; keep the one that counts")
    (folder / "00002/class00002_id00001_iter0500.png").unlink()
    (folder / "3").mkdir()
    assert "has folders with the same number, as 3 and 003; keep one of each" in refusal(folder, tmp_path, scale=None)
    (folder / "3").rename(folder / "14")
    assert "has 13 class folders, but none is number 12; number the classes from 0" in refusal(
        folder, tmp_path, scale=None
    )
    (folder / "14").rmdir()
    assert "holds pictures, which are not normalised; leave out --normalised cifar10" in refusal(folder, tmp_path)
    Image.new("RGB", (SIDE, SIDE - 1)).save(folder / "00004/class00004_id00001.png")
    assert "class00004_id00001.png is 8x7, others are 8x8; give one size" in refusal(folder, tmp_path, scale=None)
    for path in folder.rglob("*.png"):
        Image.new("RGB", (SIDE, SIDE - 1)).save(path)
    assert refusal(folder, tmp_path, scale=None).endswith("is 8x7; releases have square images; crop them")
    (folder / "00004/class00004_id00001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "corrupt image syn/00004/class00004_id00001.png" in refusal(folder, tmp_path, scale=None)


def test_a_folder_without_any_set(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", tmp_path).startswith("empty has the content of none of these formats: parquet (")


def test_the_output_and_the_options_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    path, classes = write_mtt(tmp_path / "logged"), class_list(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match=r"there exists; give a folder that does not, or remove it$"):
        import_images(path, tmp_path / "there", classes=classes)
    with pytest.raises(DataError, match=r"^the set is a URL \(https://…\), but it has to be on this machine"):
        import_images(Path("https://host/images.pt"), tmp_path / "out")
    with pytest.raises(DataError, match=r"^--reorder applies the order that a teacher found; give --teacher too$"):
        import_images(path, tmp_path / "out", reorder=True)
    with pytest.raises(DataError, match=r"^temperature is 0; give a finite number above 0"):
        import_images(path, tmp_path / "out", temperature=0)
    with pytest.raises(DataError, match=r"does not name its classes; give --classes with a list in the order of its"):
        import_images(path, tmp_path / "out", scale=Scale("cifar10"))
    assert len(CLASSES) == 12 and not (tmp_path / "out").exists()
