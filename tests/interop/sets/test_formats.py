"""Each format is imported from files in exactly the layout that its project writes, pixel by pixel and label by
label."""

from __future__ import annotations

import json
from pathlib import Path

import foreign_sets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from foreign_sets import CLASSES, PER_CLASS, SIDE, N, class_list, write_dc, write_folders, write_idc, write_mtt
from PIL import Image

import dcpipe
from dcpipe.interop import ImportedImages, import_images
from dcpipe.interop.pixels import Scale
from dcpipe.interop.sets import Options
from dcpipe.release import Release, export
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")
CIFAR = Scale("cifar10")


def imported(source: Path, root: Path, **options: object) -> tuple[Release, ImportedImages]:
    chosen = {"classes": class_list(root)} | options
    told = import_images(source, root / "out", **chosen)  # type: ignore[arg-type]
    return dcpipe.load(root / "out"), told


def check(release: Release, pixels: np.ndarray | None = None) -> None:
    """The images of the release are those of the file, in rounds of one per class; ids are rows of the file."""
    images = release.images
    wanted = foreign_sets.pixels() if pixels is None else pixels
    assert images.labels.tolist() == list(range(len(CLASSES))) * PER_CLASS
    assert images.ids.tolist() == [c * PER_CLASS + i for i in range(PER_CLASS) for c in range(len(CLASSES))]
    assert images.classes == CLASSES
    assert np.array_equal(images.images, wanted[images.ids])


def test_mtt(tmp_path: Path) -> None:
    path = write_mtt(tmp_path / "logged")
    release, told = imported(path, tmp_path, scale=CIFAR)
    check(release)
    assert (told.form, told.soft, told.clamped) == ("pair", False, 0.0)
    assert release.manifest["mean"] == [0.4914, 0.4822, 0.4465] and release.pack is None
    inputs, targets = release.dataset().batch(np.arange(N))
    assert torch.equal(targets, torch.eye(len(CLASSES))[torch.from_numpy(release.images.labels)])
    wanted = foreign_sets.raw()[torch.from_numpy(release.images.ids)]
    torch.testing.assert_close(inputs, wanted, rtol=0, atol=1e-6)  # whole images, as nothing is known of augmentation


def test_a_folder_with_one_pair_is_that_pair_and_one_with_several_is_asked_about(tmp_path: Path) -> None:
    write_mtt(tmp_path / "logged", "0")
    check(imported(tmp_path / "logged", tmp_path, scale=CIFAR)[0])
    write_mtt(tmp_path / "logged", "100")
    with pytest.raises(
        DataError, match=r"logged has 2 sets \(images_0.pt, images_100.pt\); give the path of one of th"
    ):
        import_images(tmp_path / "logged", tmp_path / "other", scale=CIFAR)


def test_whitened_images_are_taken_where_whitening_is_undone(tmp_path: Path) -> None:
    """MTT with ZCA writes both, and labels once."""
    path = write_mtt(tmp_path / "logged")
    torch.save(torch.randn(N, 3, SIDE, SIDE), path)
    torch.save(foreign_sets.normalised(), tmp_path / "logged/images_zca_best.pt")
    release, told = imported(tmp_path / "logged", tmp_path, scale=CIFAR)
    check(release)
    assert "whitening was undone by the project that wrote it" in told.notes
    with pytest.raises(
        DataError, match=r"is ZCA-whitened, as images_zca_best.pt beside it shows, and no picture; give"
    ):
        import_images(path, tmp_path / "other", scale=CIFAR)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_datm_has_soft_labels_one_for_all_views_of_an_image(tmp_path: Path, kind: str) -> None:
    logits = foreign_sets.soft()
    stored = logits if kind == "logits" else logits.softmax(1)
    release, told = imported(write_mtt(tmp_path / "logged", soft_labels=stored), tmp_path, scale=CIFAR)
    check(release)
    assert told.soft and any(f"soft labels are {kind}" in note for note in told.notes)
    assert any("images are stored class by class, 3 of each; " in note for note in told.notes)
    dataset = release.dataset()
    for epoch in (0, 5):
        dataset.set_epoch(epoch)
        wanted = logits.softmax(1)[torch.from_numpy(release.images.ids)]
        torch.testing.assert_close(dataset.batch(np.arange(N))[1], wanted, rtol=0, atol=3e-3)  # fp16 of logits


def test_classes_of_soft_labels_are_places_unless_these_are_refuted(tmp_path: Path) -> None:
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    path = write_mtt(tmp_path / "logged", soft_labels=foreign_sets.soft(20)[shuffled])
    torch.save(foreign_sets.normalised()[shuffled], path)
    sentence = (
        r"images are not stored class by class, 3 of each: \d+\.\d % of soft labels agree with it, and chance is 8\.3"
    )
    with pytest.raises(DataError, match=sentence):
        imported(path, tmp_path, scale=CIFAR)
    release, _ = imported(path, tmp_path, scale=CIFAR, options=Options(classes_from="labels"))
    found = dict(zip(release.images.ids.tolist(), release.images.labels.tolist(), strict=True))
    assert found == {row: int(old) // PER_CLASS for row, old in enumerate(shuffled)}


def test_what_ddranking_reads_comes_back(tmp_path: Path) -> None:
    """Our own export has the layout of DD-Ranking: images, mean logits and the constants are the same."""
    first, _ = imported(write_mtt(tmp_path / "logged", soft_labels=foreign_sets.soft()), tmp_path, scale=CIFAR)
    export(first, tmp_path / "theirs", form="ddranking")
    told = import_images(tmp_path / "theirs", tmp_path / "again", scale=CIFAR, classes=tmp_path / "classes.json")
    again = dcpipe.load(tmp_path / "again")
    assert (told.form, told.files) == ("pair", 2)
    check(again)
    assert first.pack is not None and again.pack is not None
    assert np.array_equal(first.pack.arrays["logits"][:], again.pack.arrays["logits"][:])


@pytest.mark.parametrize("number", [None, 1])
def test_dc_dsa_and_dm(tmp_path: Path, number: int | None) -> None:
    release, told = imported(write_dc(tmp_path), tmp_path, scale=CIFAR, options=Options(experiment=number))
    check(release, np.rot90(foreign_sets.pixels(), number or 0, (1, 2)))
    assert told.form == "dc"
    assert f"experiment {number or 0} of 2; choose another by --experiment" in told.notes


@pytest.mark.parametrize("name", ["data.pt", "data100.pt"])
@pytest.mark.parametrize("factor", [1, 2])
def test_idc_dream_and_mdc(tmp_path: Path, name: str, factor: int) -> None:
    release, told = imported(write_idc(tmp_path, name), tmp_path, options=Options(factor=factor))
    check(release)
    assert (told.form, release.images.grid, told.grid) == ("idc", factor, factor)
    inputs, targets = release.dataset().batch(np.arange(N * factor**2))
    assert targets.argmax(1).tolist() == np.repeat(release.images.labels, factor**2).tolist()
    if factor == 2:  # IDC decodes so: tiles in row-major order, enlarged bilinearly
        stored = foreign_sets.raw()[torch.from_numpy(release.images.ids)]
        tile = torch.nn.functional.interpolate(stored[5:6, :, :4, 4:], (SIDE, SIDE), mode="bilinear")
        torch.testing.assert_close(inputs[5 * 4 + 1 : 5 * 4 + 2], tile, rtol=0, atol=0.51 / 255)


def test_subsets_of_mdc_by_cells(tmp_path: Path) -> None:
    release, _ = imported(write_idc(tmp_path), tmp_path, options=Options(factor=2, by="cells"))
    assert release.images.by == "cells"
    smaller = dcpipe.load(tmp_path / "out", ipc=1).images
    assert len(smaller) == 4 * len(CLASSES) and smaller.grid == 1


def test_the_factor_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say whether its images are grids; give --factor 2 or 3 as they were"):
        imported(write_idc(tmp_path), tmp_path)
    with pytest.raises(DataError, match=r"factor is 0; give 1 or more"):
        imported(tmp_path / "data.pt", tmp_path, options=Options(factor=0))
    write_mtt(tmp_path / "logged")
    with pytest.raises(DataError, match=r"has format pair, in which images are no grids, but --factor is given; leave"):
        imported(tmp_path / "logged", tmp_path, options=Options(factor=2))


@pytest.mark.parametrize("kind", ["sre2l", "edc", "rded", "d4m", "names"])
def test_class_folders(tmp_path: Path, kind: str) -> None:
    folder = write_folders(tmp_path / "syn", kind)
    (folder / ".cache").mkdir()
    options = {} if kind != "names" else {"classes": None}
    release, told = imported(folder, tmp_path, **options)
    check(release)
    assert (told.form, told.files) == ("folders", N)
    assert told.source_bytes == sum(path.stat().st_size for path in folder.rglob("*.png"))


def test_named_folders_take_the_order_of_a_list(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "syn", "names")
    order = tmp_path / "order.txt"
    order.write_text("\n".join(reversed(CLASSES)))
    release, _ = imported(folder, tmp_path, classes=order)
    assert release.classes == CLASSES[::-1]
    first = release.images.images[release.images.labels == len(CLASSES) - 1]  # class a is the last one now
    assert np.array_equal(first, foreign_sets.pixels()[:PER_CLASS])
    order.write_text("\n".join([*CLASSES[:-1], "zebra"]))
    with pytest.raises(DataError, match=r"^class 'class l': --classes lacks it; the set and --classes must have the s"):
        import_images(folder, tmp_path / "other", classes=order)


def test_jpegs_keep_their_pixels(tmp_path: Path) -> None:
    for c, name in enumerate(("new000", "new001")):
        (tmp_path / "syn" / name).mkdir(parents=True)
        Image.fromarray(foreign_sets.pixels()[c]).save(tmp_path / f"syn/{name}/class00{c}_id000.jpg", quality=90)
    (tmp_path / "classes.txt").write_text("one\n\ntwo\n")
    release, _ = imported(tmp_path / "syn", tmp_path, classes=tmp_path / "classes.txt")
    for c in (0, 1):
        decoded = np.asarray(Image.open(tmp_path / f"syn/new00{c}/class00{c}_id000.jpg"))
        assert np.array_equal(release.images.images[c], decoded)


# --- Parquet ---


def table(label: str, values: object, names: bool) -> pa.Table:
    encoded = [{"bytes": encode_png(image), "path": None} for image in foreign_sets.pixels()]
    features = {"image": {"_type": "Image"}}
    if names:
        features[label] = {"_type": "ClassLabel", "names": list(CLASSES)}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    found = pa.table({"image": encoded, label: values})
    return found.replace_schema_metadata(metadata)


NUMBERS = foreign_sets.labels().tolist()


@pytest.mark.parametrize(
    ("label", "values", "names"),
    [
        ("label", NUMBERS, True),
        ("fine_label", NUMBERS, True),
        ("class_id", pa.array(NUMBERS, pa.int32()), False),  # the exports of soft-label projects
        ("label", [CLASSES[number] for number in NUMBERS], False),
    ],
)
def test_parquet_of_the_hub(tmp_path: Path, label: str, values: object, names: bool) -> None:
    pq.write_table(table(label, values, names), tmp_path / "0000.parquet")
    release, told = imported(tmp_path / "0000.parquet", tmp_path)
    check(release)
    assert told.form == "parquet" and told.source_bytes == (tmp_path / "0000.parquet").stat().st_size


def test_a_parquet_folder_is_read_for_its_train_split(tmp_path: Path) -> None:
    whole = table("label", NUMBERS, True)
    (tmp_path / "set/data").mkdir(parents=True)
    for part in (0, 1):
        pq.write_table(whole.slice(part * 20, 20), tmp_path / f"set/data/train-0000{part}-of-00002.parquet")
    pq.write_table(whole.slice(0, 1), tmp_path / "set/data/test-00000-of-00001.parquet")
    release, told = imported(tmp_path / "set", tmp_path, classes=None)
    check(release)
    assert told.files == 2


def test_columns_and_classes_of_parquet_are_asked_for(tmp_path: Path) -> None:
    pq.write_table(table("class_id", NUMBERS, False).append_column("other", [NUMBERS]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no column 'label', only image, class_id, other; set --label-column to one"):
        imported(tmp_path / "x.parquet", tmp_path)
    chosen = Options(label_column="class_id", image_column="image")
    with pytest.raises(DataError, match=r"does not name its classes; give --classes in label order$"):
        imported(tmp_path / "x.parquet", tmp_path, options=chosen, classes=None)
    check(imported(tmp_path / "x.parquet", tmp_path, options=chosen)[0])
    with pytest.raises(DataError, match=r"has no column 'picture', .*; give --image-column and --label-column$"):
        import_images(
            tmp_path / "x.parquet", tmp_path / "o", options=Options(None, image_column="picture", label_column="other")
        )


# --- recognising ---


def test_a_format_is_recognised_by_content_and_can_be_stated(tmp_path: Path) -> None:
    """A list of two tensors is IDC's, whatever it is called; another format stated for it is refused."""
    path = write_idc(tmp_path, "condensed.pth")
    check(imported(path, tmp_path, options=Options(factor=1))[0])
    with pytest.raises(
        DataError, match=r"condensed.pth has the content of none of these formats: dc \(res_….pt: DC, DS"
    ):
        import_images(path, tmp_path / "other", form="dc")
    with pytest.raises(DataError, match=r"^unknown format 'zip'; choose one of auto, parquet, folders, pair, dc, idc$"):
        import_images(path, tmp_path / "other", form="zip")
    with pytest.raises(DataError, match="nowhere is not there; give a file or folder that another project wrote"):
        import_images(tmp_path / "nowhere", tmp_path / "other")
