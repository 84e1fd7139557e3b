"""`import-images` from end to end: what a teacher says of the classes, what the release says of its source, and the
command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_sets import CLASSES, N, class_list, write_dc, write_idc, write_mtt
from PIL import Image

import dcpipe
from dcpipe import networks, store
from dcpipe.cli import commands as cli
from dcpipe.compression import CODECS
from dcpipe.interop import import_images, importing_images
from dcpipe.interop.pixels import Scale
from dcpipe.interop.sets import Options
from dcpipe.release import export
from dcpipe.types import DataError, Teacher

pytestmark = pytest.mark.usefixtures("scratch")
COLOURS, EACH, SIDE = 6, 8, 8
NAMES = tuple(f"colour {k}" for k in range(COLOURS))


def coloured(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """u8 [n, s, s, 3]: each class is a colour, with noise."""
    source = np.random.default_rng(seed)
    colours = np.array([[220, 60, 60], [60, 220, 60], [60, 60, 220], [200, 200, 60], [60, 200, 200], [200, 60, 200]])
    noise = source.normal(0, 25, (len(labels), SIDE, SIDE, 3))
    return np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that knows the colours."""
    torch.manual_seed(0)
    network = networks.build("convnet-d1-w8", COLOURS, SIDE)
    labels = np.repeat(np.arange(COLOURS), 20)
    inputs = (torch.from_numpy(coloured(labels, 1)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    made = Teacher("convnet-d1-w8", network.state_dict(), NAMES, (0.5,) * 3, (0.25,) * 3, SIDE, {"test": 100.0})
    return save(made, tmp_path_factory.mktemp("teacher") / "main")


def save(teacher: Teacher, out: Path) -> Path:
    folder = out.with_name(out.name + "-made")
    folder.mkdir()
    return store.publish(folder, out, "teacher", store.save_teacher(folder, teacher), {}).path


def write_coloured(folder: Path, order: np.ndarray, each: int = EACH) -> Path:
    """A set of IDC's kind whose label k shows colour `order[k]`."""
    labels = np.repeat(np.arange(COLOURS), each)
    pixels = coloured(order[labels])
    torch.save(
        [torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)], folder / "data.pt"
    )
    return folder / "data.pt"


STATED, SHUFFLED = np.arange(COLOURS), np.array([2, 0, 1, 5, 3, 4])
ONE = Options(factor=1)


def colours_of(release: Path) -> list[int]:
    """The colour of each image, by its mean pixel."""
    images = dcpipe.load(release).images
    known = coloured(np.arange(COLOURS), 2).reshape(COLOURS, -1, 3).mean(1)
    means = images.images.reshape(len(images), -1, 3).mean(1)
    return [int(np.abs(known - mean).sum(1).argmin()) for mean in means]


def test_a_teacher_names_and_confirms_the_classes(tmp_path: Path, teacher: Path) -> None:
    told = import_images(write_coloured(tmp_path, STATED), tmp_path / "out", options=ONE, teacher=teacher.parent)
    release = dcpipe.load(tmp_path / "out")
    assert release.classes == NAMES and colours_of(tmp_path / "out") == release.images.labels.tolist()
    assert "the teacher agrees with 100.0 % of labels (chance is 16.7 %)" in told.notes
    assert release.manifest["std"] == [0.25] * 3  # the teacher's
    assert "students normalise with the constants of the teacher: mean 0.5 0.5 0.5, std 0.25 0.25 0.25" in told.notes


def test_a_shuffled_order_is_found_and_applied_only_on_request(tmp_path: Path, teacher: Path) -> None:
    path = write_coloured(tmp_path, SHUFFLED)
    with pytest.raises(DataError) as error:
        import_images(path, tmp_path / "out", options=ONE, teacher=teacher)
    assert str(error.value) == (
        "the teacher agrees with 0.0 % of labels, but with 100.0 % in another order: label 0 (colour 0) is colour 2; "
        "1 (colour 1) is colour 0; 2 (colour 2) is colour 1; 3 (colour 3) is colour 5; 4 (colour 4) is colour 3; "
        "5 (colour 5) is colour 4; give --reorder to apply it, or the right --classes"
    )
    assert not (tmp_path / "out").exists()
    told = import_images(path, tmp_path / "out", options=ONE, teacher=teacher, reorder=True)
    images = dcpipe.load(tmp_path / "out").images
    assert colours_of(tmp_path / "out") == images.labels.tolist() == list(range(COLOURS)) * EACH
    assert any(
        note.endswith("4 (colour 4) is colour 3; 5 (colour 5) is colour 4; this order was applied")
        for note in told.notes
    )
    # Or the right classes, with which nothing has to be found.
    (tmp_path / "names.json").write_text(json.dumps([NAMES[k] for k in SHUFFLED]))
    import_images(path, tmp_path / "named", options=ONE, teacher=teacher, classes=tmp_path / "names.json")
    assert np.array_equal(dcpipe.load(tmp_path / "named").images.images, images.images)


def test_the_order_of_class_folders_is_told_and_checked(tmp_path: Path, teacher: Path) -> None:
    for name in NAMES:
        (tmp_path / "originals" / name).mkdir(parents=True)
        (tmp_path / "originals" / name / "a.png").touch()
    path = write_coloured(tmp_path, STATED)
    told = import_images(path, tmp_path / "out", options=ONE, teacher=teacher, classes=tmp_path / "originals")
    release = dcpipe.load(tmp_path / "out")
    assert release.classes == NAMES
    note = "class names are those of the folders in originals, sorted: colour 0, colour 1, colour 2, colour 3, colour 4"
    assert f"{note}, ..." in told.notes and f"{note}, ..." in release.manifest["params"]["import"]["notes"]


def test_soft_labels_move_with_their_classes(tmp_path: Path, teacher: Path) -> None:
    labels = np.repeat(np.arange(COLOURS), EACH)
    torch.save(torch.from_numpy(coloured(SHUFFLED[labels])).permute(0, 3, 1, 2).float() / 255, tmp_path / "images.pt")
    torch.save(5 * torch.eye(COLOURS)[torch.from_numpy(labels)], tmp_path / "labels.pt")
    import_images(tmp_path / "images.pt", tmp_path / "out", teacher=teacher, reorder=True)
    release = dcpipe.load(tmp_path / "out")
    targets = release.dataset().batch(np.arange(len(labels)))[1]
    assert targets.argmax(1).tolist() == release.images.labels.tolist() == colours_of(tmp_path / "out")


def test_a_teacher_to_which_images_are_noise_proves_nothing(tmp_path: Path, teacher: Path) -> None:
    """Then the order has to be stated."""
    noise = torch.rand(COLOURS * EACH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    torch.save([noise, torch.arange(COLOURS).repeat_interleave(EACH)], tmp_path / "data.pt")
    with pytest.raises(DataError, match=r": it cannot tell the order of the classes; state it by --classes$"):
        import_images(tmp_path / "data.pt", tmp_path / "out", options=ONE, teacher=teacher)
    told = import_images(tmp_path / "data.pt", tmp_path / "out", options=ONE, teacher=teacher, classes=teacher)
    assert any(note.endswith("it cannot tell the order of the classes") for note in told.notes)


def test_teachers_of_other_classes_or_none(tmp_path: Path, teacher: Path) -> None:
    path = write_coloured(tmp_path, STATED)
    other = save(replace(store.load_teacher(teacher), classes=(*NAMES[:-1], "grey")), tmp_path / "other")
    with pytest.raises(
        DataError, match=r"^class 'colour 5': --teacher lacks it; the set and --teacher must have the sam"
    ):
        import_images(path, tmp_path / "out", options=ONE, teacher=other, classes=teacher)
    with pytest.raises(DataError, match=r"is no folder; give data/teacher, or a release with a teacher"):
        import_images(path, tmp_path / "out", options=ONE, teacher=path)
    import_images(path, tmp_path / "out", options=ONE, classes=teacher)
    with pytest.raises(DataError, match=r"ships no teacher; give data/teacher, or a release with one"):
        import_images(path, tmp_path / "again", options=ONE, teacher=tmp_path / "out")
    with pytest.raises(DataError, match=r"has 0 teachers directly below it; give the folder of one"):
        (tmp_path / "empty").mkdir()
        import_images(path, tmp_path / "again", options=ONE, teacher=tmp_path / "empty")


def test_a_teacher_of_another_size_sees_the_images_resized(tmp_path: Path, teacher: Path) -> None:
    labels = np.repeat(np.arange(COLOURS), 2)
    large = torch.from_numpy(coloured(labels)).permute(0, 3, 1, 2).float() / 255
    torch.save([F.interpolate(large, scale_factor=3), torch.from_numpy(labels)], tmp_path / "data.pt")
    told = import_images(tmp_path / "data.pt", tmp_path / "out", options=ONE, teacher=teacher)
    assert told.side == 24 and "the teacher agrees with 100.0 % of labels (chance is 16.7 %)" in told.notes


# --- constants of students ---


def test_students_constants_come_from_the_images_if_nothing_else_says_them(tmp_path: Path) -> None:
    told = import_images(write_idc(tmp_path), tmp_path / "out", options=ONE, classes=class_list(tmp_path))
    release = dcpipe.load(tmp_path / "out")
    values = release.images.images.reshape(-1, 3) / 255
    assert release.manifest["mean"] == pytest.approx(values.mean(0), abs=1e-6)
    assert release.manifest["std"] == pytest.approx(values.std(0), abs=1e-6)
    assert any(note.startswith("students normalise with mean and std of these images: mean 0.4") for note in told.notes)


def test_images_of_one_colour_have_a_std_above_0(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"set/{name}/0.png")
    import_images(tmp_path / "set", tmp_path / "out")
    assert dcpipe.load(tmp_path / "out").manifest["std"] == [1 / 255] * 3


# --- honesty ---


def test_the_release_says_where_it_comes_from(tmp_path: Path) -> None:
    path = write_mtt(tmp_path / "logged")
    values = torch.load(path, weights_only=True)
    torch.save(values * 1.2, path)
    told = import_images(
        path, tmp_path / "out", scale=Scale("cifar10"), classes=class_list(tmp_path), licence="CC0-1.0"
    )
    release = dcpipe.load(tmp_path / "out")
    record = release.manifest["params"]["import"]
    sizes = path.stat().st_size + (tmp_path / "logged/labels_best.pt").stat().st_size
    assert record == {
        "format": "pair",
        "files": 2,
        "names": ["images_best.pt", "labels_best.pt"],
        "bytes": sizes,
        "sha256": record["sha256"],
        "clamped": round(told.clamped, 6),
        "notes": list(told.notes),
    }
    assert 0.05 < told.clamped < 0.25 and told.source_bytes == sizes
    assert release.manifest["teachers"] == [] and release.scores == () and release.teacher is None
    text = (tmp_path / "out/README.md").read_text()
    assert "imported by dcpipe, which did not make it" in text and "ade with dcpipe" not in text
    assert "Imported with dcpipe " in text
    assert f"imported from 2 files of another project ({sizes:,} bytes in format `pair`)" in text
    assert "Its labels are the images' own classes." in text and "Licence of the source images: CC0-1.0" in text
    assert told.image_bytes == (tmp_path / "out/images.parquet").stat().st_size


def test_the_card_of_soft_labels(tmp_path: Path) -> None:
    path = write_mtt(tmp_path / "logged", soft_labels=torch.eye(len(CLASSES)).repeat_interleave(3, 0))
    told = import_images(path, tmp_path / "out", scale=Scale("cifar10"), classes=class_list(tmp_path), temperature=2.0)
    text = (tmp_path / "out/README.md").read_text()
    sentence = "Each image carries one soft label, which came with it and holds for all of its views, stored in "
    assert f"{sentence}{told.label_bytes:,} bytes." in text
    release = dcpipe.load(tmp_path / "out")
    assert release.pack is not None and release.pack.codec == importing_images.CODEC in CODECS
    # Zeros of a one-hot label have a logarithm all the same; at T = 2 the label is softened.
    assert release.dataset(temperature=1.0).batch(np.arange(3))[1].max(1).values.tolist() == pytest.approx([1.0] * 3)
    assert release.dataset().temperature == 2.0


def test_equal_files_have_equal_releases(tmp_path: Path) -> None:
    path, classes = write_dc(tmp_path), class_list(tmp_path)
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        told = import_images(path, tmp_path / name / "out", scale=Scale("cifar10"), classes=classes)
        digests.add(told.digest)
    assert len(digests) == 1
    export(dcpipe.load(tmp_path / "a/out"), tmp_path / "png")  # `dcpipe export` takes it like any release
    assert len(list((tmp_path / "png").rglob("*.png"))) == N


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_dc(tmp_path)
    class_list(tmp_path)
    arguments = ["import-images", path.name, "out", "--classes", "classes.json"]
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert "so they are normalised; say with which constants by --normalised cifar10 or by --mean and --std" in told
    assert cli.main([*arguments, "--normalised", "cifar10", "--experiment", "0"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"Read 1 file of format dc, {path.stat().st_size:,} bytes on disk."
    assert told[1] == "36 images of 8x8, 12 classes, hard labels."
    assert told[2] == "Experiment 0 of 2; choose another by --experiment."
    assert told[3].endswith("mean [0.4914, 0.4822, 0.4465] and std [0.2023, 0.1994, 0.201] were undone.")
    assert told[5] == "Clamped: 0.00 % of values; pixels are rounded to 8 bits."
    assert told[-1] == "Imported to out. Next: dcpipe inspect out, or dcpipe.load('out')"
    assert len(dcpipe.load("out").images) == N
    assert cli.main([*arguments[:2], "other", "--mean", "0", "0", "0"]) == 2
    assert capsys.readouterr().err == "dcpipe: --mean and --std belong together; give both or none\n"
