"""Stores that cannot be imported: each is refused in one sentence that names the file, and nothing in it is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import label_stores
import numpy as np
import pytest
import torch
from label_stores import N, write_images, write_store
from PIL import Image

from dcpipe.interop import import_labels
from dcpipe.interop.records import read_record
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")
Change = Callable[[list], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    pixels = write_images(root / "images")
    for layout in ("sre2l", "edc", "lpld"):
        write_store(root / layout, pixels, layout, epochs=2)
    return root


def refusal(made: Path, tmp_path: Path, kind: str = "edc", change: Change | None = None, **options: object) -> str:
    """The sentence for a store whose second batch is changed; paths in it are relative to the store."""
    folder = tmp_path / "store"
    if not folder.exists():
        shutil.copytree(made / kind, folder)
    if change is not None:
        path = folder / "epoch_0/batch_1.tar"
        torch.save(change(saved(path)), path)
    images = options.pop("images", made / "images")
    with pytest.raises(DataError) as error:
        import_labels(folder, images, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    return str(error.value).replace(f"{folder}/", "").replace(str(folder), "store")


def saved(path: Path) -> list:
    record = read_record(path)
    box = record.box
    assert record.mix_box is not None
    left, top, right, bottom = record.mix_box
    corners = [top, left, bottom, right]
    index = [] if record.index is None else [torch.from_numpy(record.index)]
    coords = torch.from_numpy(box[:, [1, 0, 3, 2]].copy())
    flip, logits = torch.from_numpy(record.flip) > 0, torch.from_numpy(record.logits)
    return [coords, flip, torch.from_numpy(record.mixed), 0.5, corners, logits, *index]


def put(place: int, value: object) -> Change:
    return lambda entries: [*entries[:place], value, *entries[place + 1 :]]


NAME = "epoch_0/batch_1.tar"
WRONG: dict[str, tuple[Change, str]] = {
    "no list": (lambda entries: {"logits": entries[5]}, "contains dict, expected a list of 6 to 8 entries"),
    "too short": (lambda entries: entries[:5], "contains a list of 5, expected a list of 6 to 8 entries"),
    "a string": (put(5, "logits"), "entry 5 (logits) is str, expected a tensor; the layout is another one"),
    "one logit": (put(5, torch.zeros(5)), "entry 5 (logits) is float32 [5]; the layout is another one"),
    "NaN": (put(5, torch.full((5, 4), np.nan)), "row 0 of its logits contains NaN or infinity in fp16"),
    "too large": (put(5, torch.eye(5, 4) * 1e6), "row 0 of its logits contains NaN or infinity in fp16"),
    "widths": (put(5, torch.zeros(5, 7)), "has logits of 7 classes, the images have 4"),
    "rows": (put(1, torch.zeros(4, dtype=torch.bool)), "its entries have [5, 4, 5, 5, 5] rows; they must agree"),
    "mixup": (put(4, None), "images were blended (mixup with lambda 0.5), not pasted; only CutMix and no mix can be"),
    "bbox": (put(4, [1, 2, 3]), "entry 4 (bbox) is [1, 2, 3], expected four integers"),
    "bbox turned": (put(4, [9, 2, 3, 4]), "bbox [9, 2, 3, 4] is not x1 <= x2, y1 <= y2"),
    "bbox outside": (put(4, [0, 2, 3, 17]), "pastes up to pixel 17, but views are assumed to have 16 pixels; give the"),
    "mix outside": (put(2, torch.arange(1, 6)), "mix points outside the batch of 5"),
    "crop outside": (put(0, torch.tensor([[0.5, 0, 0.6, 1]] * 5)), "a crop leaves the image; coords must be fractions"),
    "coords": (put(0, torch.ones(5, 3)), "coords are [5, 3], expected [b, 4]"),
    "index outside": (put(6, torch.arange(8, 13)), "has images 8..12, expected 0..11; give the labelled images"),
    "index twice": (put(6, torch.tensor([1, 2, 3, 2, 4])), "has image 2 twice; a batch shows an image once"),
    "a row repeated without bytes": (
        put(5, torch.zeros(1, 4, dtype=torch.float16).expand(2**40, 4)),
        "entry 5 (logits) is [1099511627776, 4], of which the file holds 8 bytes; copy it again",
    ),
    "no numbers": (put(5, torch.zeros(5, 4, device="meta")), "entry 5 (logits) is [5, 4], of which the file holds 0"),
    "a dtype of torch alone": (
        put(5, torch.zeros(5, 4).to(torch.float8_e5m2)),
        "entry 5 (logits) is torch.float8_e5m2; the layout is another one",
    ),
    "corners without numbers": (put(4, [torch.zeros((), device="meta").long()] * 4), "entry 4 (bbox) is ["),
    "patches": (lambda entries: [*entries, torch.ones(5, 2, 2)], "entry 7 (shuffle) is float32 [5, 2, 2]"),
    "shuffled": (lambda entries: [*entries, torch.ones(5, 2, 2).int()], "patches were shuffled before labelling"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_batch_that_does_not_fit_is_named(made: Path, tmp_path: Path, case: str) -> None:
    change, sentence = WRONG[case]
    told = refusal(made, tmp_path, change=change)
    assert told.startswith(NAME) and sentence in told and "\n" not in told


@pytest.mark.filterwarnings("ignore")  # torch is about to give quantised tensors up
def test_quantised_numbers_are_refused(made: Path, tmp_path: Path) -> None:
    told = refusal(
        made, tmp_path, change=lambda old: put(5, torch.quantize_per_tensor(old[5].float(), 0.1, 0, torch.qint8))(old)
    )
    assert told == f"{NAME}: entry 5 (logits) is [5, 4], of which the file holds 0 bytes; copy it again"


class Trap:
    """Runs a command when a careless reader opens it."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch trap-was-sprung",)


@pytest.mark.parametrize("place", [3, 5, 6])
def test_nothing_in_a_file_is_run(made: Path, tmp_path: Path, place: int) -> None:
    told = refusal(made, tmp_path, change=put(place, Trap()))
    assert (
        told == f"{NAME} contains something other than tensors and plain numbers; it was refused, and no code was run"
    )
    assert not list(tmp_path.rglob("trap-was-sprung")) and not Path("trap-was-sprung").exists()


@pytest.mark.parametrize("value", [np.zeros(5), slice(3), torch.nn.Linear(1, 1)], ids=["array", "slice", "module"])
def test_objects_are_refused(made: Path, tmp_path: Path, value: object) -> None:
    assert "contains something other than tensors and plain numbers" in refusal(made, tmp_path, change=put(5, value))


def test_a_file_cut_short(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "edc", tmp_path / "store")
    path = tmp_path / "store" / NAME
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert refusal(made, tmp_path) == f"{NAME} is truncated or not a file of torch.save; copy it again"


def test_stores_that_are_none(made: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    sentence = "store has no epoch_*/batch_*.tar; give the folder that SRe2L's scripts call fkd_path"
    assert refusal(made, tmp_path) == sentence
    (tmp_path / "store/epoch_0").mkdir()
    assert refusal(made, tmp_path) == sentence
    with pytest.raises(DataError, match=r"is not a folder; give the one that contains epoch_0, epoch_1, \.\.\.$"):
        import_labels(tmp_path / "nowhere", made / "images", tmp_path / "out")


def test_an_image_that_never_appears(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "edc", tmp_path / "store")
    for epoch in (0, 1):
        for batch in (1, 2):
            (tmp_path / f"store/epoch_{epoch}/batch_{batch}.tar").unlink()
    told = refusal(made, tmp_path)
    assert told.endswith("never appears in store; remove it or label it")
    assert told.startswith("image images/") and "(index " in told


@pytest.mark.parametrize("layout", ["sre2l", "lpld"])
def test_other_images_than_those_labelled(made: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(made / "images", tmp_path / "images")
    for name in label_stores.CLASSES:
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / name / "more.png")
    told = refusal(made, tmp_path, layout, images=tmp_path / "images")
    if layout == "sre2l":
        assert told == ("epoch_0/batch_2.tar has 2 rows, others have 5; batches must be of one size")
    else:
        assert "never appears in store" in told


def test_a_list_that_does_not_fit(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "lpld", tmp_path / "store")
    path = tmp_path / "store/sampler_indices_epoch.json"
    path.write_text('{"0": [1, 2, 3, 4, 5, 6]}')
    told = refusal(made, tmp_path, "lpld")
    assert told == "sampler_indices_epoch.json lists 1 images for epoch_0/batch_1.tar of 5; they must agree"
    for text in ("[1, 2]", "[" * 100_000, '{"0": [[1], [2, 3]]}', '{"x": [1]}', "3"):
        path.write_text(text)
        assert "sampler_indices_epoch.json cannot be read as {epoch: [image, ...]}" in refusal(made, tmp_path, "lpld")


def test_layouts(made: Path, tmp_path: Path) -> None:
    told = refusal(made, tmp_path, "sre2l", layout="tar")
    assert told == "unknown layout 'tar'; choose one of auto, edc, lpld, sre2l"
    told = refusal(made, tmp_path, "sre2l", layout="edc")
    assert told == "epoch_0/batch_0.tar has no dataset index; choose another layout than edc"


def test_images_of_other_sizes(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "images", tmp_path / "images")
    odd = tmp_path / "images/bee/001.png"
    Image.new("RGB", (16, 15)).save(odd)
    assert refusal(made, tmp_path, images=tmp_path / "images") == (
        "image images/bee/001.png is 16x15, others are 16x16; give one size"
    )
    for path in (tmp_path / "images").rglob("*.png"):
        Image.new("RGB", (16, 15)).save(path)
    told = refusal(made, tmp_path, images=tmp_path / "images")
    assert told == "image images/ant/000.png is 16x15; label stores of this kind only have crops of square images"
    assert refusal(made, tmp_path, size=12).startswith(
        "images have 16 pixels but views 12: the teacher's views were shrunk"
    )


def test_every_number_of_the_scripts_is_read(made: Path) -> None:
    """Corners are NumPy integers in real stores, as `np.clip` makes them."""
    for layout in ("sre2l", "edc"):
        record = read_record(made / layout / NAME)
        assert len(record) == 5 and record.mix_box is not None and all(type(edge) is int for edge in record.mix_box)
    assert N == 12
