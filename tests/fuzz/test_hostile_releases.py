"""Releases that a stranger might make, with digests that are right: each is refused by the name of what is wrong."""

from __future__ import annotations

import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import releases
from PIL import Image
from safetensors.torch import load_file, save_file
from targets import resign, sign

import dcpipe
from dcpipe.store.images import image_table
from dcpipe.types import DataError, EncodedImage

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return releases.build(tmp_path_factory.mktemp("release") / "fish", releases.parts(grid=2)).path


@pytest.fixture
def fish(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "fish")
    return tmp_path / "fish"


def refusal(folder: Path) -> str:
    """What is said of it, without the folder's path; memory stays small."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            dcpipe.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    told = str(error.value)
    assert told.isprintable() and len(told) < 1000
    return told.replace(f"{folder}/", "").replace(str(folder), "fish")


def changed(folder: Path, change: Change) -> Path:
    """Change the manifest and make its digests right."""
    path = folder / "artifact.json"
    content = json.loads(path.read_bytes())
    change(content)
    sign(path, content)
    return folder


def put(*place: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def only(*names: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["files"] = {name: record for name, record in content["files"].items() if name in names}

    return change


FIELD = "artifact.json is damaged (in meta "
MANIFESTS: dict[str, tuple[Change, str]] = {
    "vouches for nothing": (only(), "artifact.json does not list images.parquet, so nothing vouches for its bytes"),
    "vouches for the card": (only("README.md"), "artifact.json does not list images.parquet, so nothing vouches"),
    "no labels listed": (
        only("images.parquet", "scores.json", "teacher.safetensors"),
        "artifact.json does not list labels.safetensors",
    ),
    "no teacher listed": (
        only("images.parquet", "scores.json", "labels.safetensors"),
        "artifact.json does not list teacher.safetensors",
    ),
    "a path out of the folder": (
        put("files", "../../../etc/hostname", value={"bytes": 1, "sha256": "0" * 64}),
        "artifact.json is damaged (files.../../../etc/hostname.[key]: a name of a file must be relative",
    ),
    "a path from the root": (
        put("files", "/etc/shadow", value={"bytes": 1, "sha256": "0" * 64}),
        "artifact.json is damaged (files./etc/shadow.[key]: a name of a file must be relative",
    ),
    "temperature 0": (put("meta", "params", "evaluation", "temperature", value=0), f"{FIELD}params.evaluation.temper"),
    "temperature NaN": (
        put("meta", "params", "evaluation", "temperature", value=float("nan")),
        f"{FIELD}params.evaluation.temperature: Input should be a finite number",
    ),
    "no params": (put("meta", "params", value={}), f"{FIELD}params.evaluation: Field required)"),
    "no meta": (put("meta", value={}), f"{FIELD}classes: Field required)"),
    "classes a number": (put("meta", "classes", value=3), f"{FIELD}classes: Input should be a valid list, got 3)"),
    "classes of numbers": (put("meta", "classes", value=[1, 2, 3]), f"{FIELD}classes.0: Input should be a valid str"),
    "a class twice": (
        put("meta", "classes", value=["tench"] * 3),
        "images.parquet: image set: class names repeat; make them distinct",
    ),
    "too few classes": (put("meta", "classes", value=["tench"]), "images.parquet: image set: labels span 0..2 but"),
    "grid a text": (put("meta", "grid", value="x"), f"{FIELD}grid: Input should be a valid integer, got 'x')"),
    "grid 2000": (put("meta", "grid", value=2000), "images.parquet: its images of 8x8 pixels cannot be grids of 2000"),
    "grid 1e9": (put("meta", "grid", value=10**9), f"{FIELD}grid: Input should be less than 65536"),
    "another grid": (put("meta", "grid", value=1), "labels.safetensors: label pack: 12 ids for 48 images"),
    "by": (put("meta", "by", value="rows"), f"{FIELD}by: Input should be 'images' or 'cells', got 'rows')"),
    "mean of two": (put("meta", "mean", value=[0.5, 0.5]), f"{FIELD}mean: List should have at least 3 items"),
    "std infinite": (put("meta", "std", value=[1.0, 1.0, float("inf")]), f"{FIELD}std.2: Input should be a finite"),
    "size": (put("meta", "size", value=224), "artifact.json says that size is 224, but its files have 8; get the"),
    "images": (put("meta", "images", value=10**12), "artifact.json says that images is 1000000000000, but its files"),
    "other views": (
        put("meta", "views", "flip", value=0.25),
        "artifact.json says that views is {'scale_min': 0.4, 'scale_max': 1.0, 'flip': 0.25",
    ),
    "a key of views": (
        put("meta", "views", value={"evil": 1}),
        "artifact.json is damaged (in the policy of its views,",
    ),
    "a seed of text": (
        put("meta", "views", "seed", value="x"),
        "artifact.json is damaged (in the policy of its views, seed: Input should be a valid integer, got 'x')",
    ),
    "other labels": (
        put("meta", "labels", "codec", value="svd"),
        "artifact.json says that labels is {'classes': 3, 'codec': 'svd'",
    ),
    "labels a text": (put("meta", "labels", value="pack"), f"{FIELD}labels: Input should be a valid dictionary"),
    "teacher a text": (put("meta", "teacher", value="main"), f"{FIELD}teacher: Input should be a valid dictionary"),
    "teacher without std": (put("meta", "teacher", "std", value=None), f"{FIELD}teacher.std: Input should be a valid"),
    "teacher of other classes": (
        put("meta", "teacher", "classes", value=["goldfish", "tench", "white shark"]),
        "artifact.json: teacher and images: class 0 is 'goldfish' on one side and 'tench' on the other",
    ),
    "name a list": (put("meta", "name", value=["fish"]), f"{FIELD}name: Input should be a valid string"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(case: str, fish: Path) -> None:
    change, sentence = MANIFESTS[case]
    told = refusal(changed(fish, change))
    assert told.startswith(sentence), told


# --- images.parquet ---


def png(width: int = 8, height: int = 8, colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return stream.getvalue()


def rows(n: int, data: bytes) -> pa.Table:
    return image_table([EncodedImage(i, data, f"{i}.png", i % 3) for i in range(n)], releases.CLASSES)


def write(table: pa.Table, **options: Any) -> Callable[[Path], object]:
    return lambda path: pq.write_table(table, path, **{"compression": "NONE", "use_dictionary": False, **options})


TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(b"garbage"), "images.parquet cannot be read as Parquet ("),
    "empty": (lambda path: path.write_bytes(b""), "images.parquet cannot be read as Parquet ("),
    "no image column": (
        write(rows(3, png()).drop_columns(["image"])),
        "images.parquet has no single column 'image' (its columns: ['id', 'label'])",
    ),
    "no id column": (write(rows(3, png()).drop_columns(["id"])), "images.parquet has no single column 'id'"),
    "a null image": (
        write(rows(3, png()).set_column(1, "image", pa.array([None] * 3, rows(1, b"").schema.field("image").type))),
        "images.parquet: row 0 has no image; pull or rebuild it",
    ),
    "null bytes": (write(rows(3, None)), "images.parquet: row 0 has no image; pull or rebuild it"),  # type: ignore[arg-type]
    "a null label": (
        write(rows(3, png()).set_column(2, "label", pa.array([0, None, 1], pa.int64()))),
        "images.parquet: 1 values of its column 'label' are missing",
    ),
    "labels of text": (
        write(rows(3, png()).set_column(2, "label", pa.array(["a", "b", "c"]))),
        "images.parquet: its column 'label' is 'string', expected int64",
    ),
    "no rows": (write(rows(0, png())), "images.parquet has no rows; pull or rebuild it"),
    "two sizes": (
        write(
            image_table(
                [EncodedImage(0, png(), "a", 0), EncodedImage(1, png(8, 9), "b", 1)],
                releases.CLASSES,
            )
        ),
        "image images.parquet: row 1 (b) is 8x9, others are 8x8; pull it again",
    ),
    "no images": (write(rows(3, b"GIF, said he")), "corrupt image images.parquet: row 0 (0.png): "),
    "another program's": (
        write(rows(3, b"%!PS-Adobe-3.0 EPSF-3.0\n")),
        "corrupt image images.parquet: row 0 (0.png): ",
    ),
    "packed": (write(rows(3000, png()), use_dictionary=True), "images.parquet: its column '"),
    "compressed": (
        write(rows(3, png()), compression="zstd"),
        "images.parquet: its column 'id' is packed, which dcpipe",
    ),
    "a wide image": (
        write(rows(200, png(9400, 9400))),
        "images.parquet: 200 images of 9400x9400 pixels, grid 2, in",
    ),
    "an image of 144 million pixels": (
        write(rows(1, png(12_000, 12_000))),
        "image images.parquet: row 0 (0.png) has mo",
    ),
    "ids twice": (
        write(rows(3, png()).set_column(0, "id", pa.array([1, 1, 2], pa.int64()))),
        "images.parquet: image set: ids repeat",
    ),
}


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images(case: str, fish: Path) -> None:
    damage, sentence = TABLES[case]
    damage(fish / "images.parquet")
    resign(fish)
    told = refusal(fish)
    assert told.startswith(sentence), told


# --- labels, teacher, scores ---


def repacked(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON text in the pack's header."""
    path = folder / "labels.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    content = json.loads(header["__metadata__"]["dcpipe"])
    text = change(content)
    header["__metadata__"]["dcpipe"] = text if isinstance(text, str) else json.dumps(content)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    resign(folder)


HEAD = "labels.safetensors is damaged ("
POLICY = f"{HEAD}in the policy of its views, "
PACKS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no JSON": (lambda content: "{", f"{HEAD}Expecting property name"),
    "nested": (lambda content: "[" * 100_000, f"{HEAD}RecursionError"),
    "no codec": (lambda content: content.__delitem__("codec"), f"{HEAD}in its header codec: Field required)"),
    "codec a number": (lambda content: content.update(codec=3), f"{HEAD}in its header codec: Input should be"),
    "settings a list": (lambda content: content.update(settings=[]), f"{HEAD}in its header settings: Input"),
    "no views": (lambda content: content["shape"].update(views=0), f"{HEAD}in its header shape.views: Input should"),
    "many images": (
        lambda content: content["shape"].update(images=10**15),
        f"{HEAD}in its header shape.images: Input should be less than 2147483648",
    ),
    "images beyond the file": (
        lambda content: content["shape"].update(images=2**30),
        "labels.safetensors claims labels of 1,073,741,824 images in ",
    ),
    "an unknown key": (lambda content: content["policy"].update(evil=1), f"{POLICY}evil: Extra inputs are not"),
    "a seed of text": (lambda content: content["policy"].update(seed="x"), f"{POLICY}seed: Input should be"),
    "a seed of 100 bits": (lambda content: content["policy"].update(seed=2**100), f"{POLICY}seed: "),
    "flip a text": (lambda content: content["policy"].update(flip="x"), f"{POLICY}flip: Input should be a valid num"),
    "flip NaN": (lambda content: content["policy"].update(flip=float("nan")), f"{POLICY}flip: Input should be a fin"),
    "flip 2": (lambda content: content["policy"].update(flip=2), "labels.safetensors: views: flip is a probability"),
    "kept views without arrays": (
        lambda content: content.update(policy={"mix": "none", "size": 8}),
        f"{POLICY}size: Extra inputs are not permitted",
    ),
}


@pytest.mark.parametrize("case", PACKS)
def test_packs(case: str, fish: Path) -> None:
    change, sentence = PACKS[case]
    repacked(fish, change)
    told = refusal(fish)
    assert told.startswith(sentence), told
    with pytest.raises(DataError) as error:
        dcpipe.load_labels(fish / "labels.safetensors")
    assert str(error.value).replace(f"{fish}/", "").startswith(sentence)


@pytest.mark.parametrize("settings", [{"rank": "x"}, {"rank": 10**30}, {"evil": 1}])
def test_settings_that_no_codec_has(settings: dict[str, Any], fish: Path) -> None:
    repacked(fish, lambda content: content.update(codec="svd", settings=settings))
    changed(fish, put("meta", "labels", "codec", value="svd"))
    with pytest.raises(DataError, match=r"^label pack "):
        dcpipe.load(fish).dataset()


def test_a_pickle_in_place_of_weights(fish: Path) -> None:
    (fish / "teacher.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch sprung'\ntR.")
    resign(fish)
    assert refusal(fish).startswith("teacher.safetensors cannot be read as safetensors (its header is longer than")
    assert not Path("sprung").exists()


def test_weights_of_another_network(fish: Path) -> None:
    weights = load_file(fish / "teacher.safetensors")
    for change, sentence in (
        ({"extra": weights["0.bias"]}, "'extra' has shape [4], expected none (1 such tensors)"),
        ({"0.weight": None}, "'0.weight' has shape none, expected [4, 3, 3, 3] (1 such tensors)"),
    ):
        held = {key: value for key, value in {**weights, **change}.items() if value is not None}
        save_file({key: value.clone() for key, value in held.items()}, fish / "teacher.safetensors")
        resign(fish)
        with pytest.raises(DataError) as error:
            dcpipe.load(fish).dataset(labels="teacher")
        assert str(error.value) == (
            f"teacher 'convnet-d1-w4': its weights are of another network: {sentence}; get the teacher again"
        )


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("convnet-d3-w100000", "its weights are of another network"),
        ("convnet-d3-w1000000", "is larger than any network"),
        ("convnet-d999999999999-w1", "is larger than any network"),
        ("wrn-99994-1", "is larger than any network"),
        ("resnet18-w99999", "its weights are of another network"),
        ("../../x", "unknown network '../../x'"),
    ],
)
def test_a_network_larger_than_its_weights_is_not_built(network: str, sentence: str, fish: Path) -> None:
    changed(fish, put("meta", "teacher", "network", value=network))
    with pytest.raises(DataError, match=sentence.replace(".", r"\.")):
        dcpipe.load(fish).dataset(labels="teacher")


SCORES = {
    "no JSON": (b"[{", "scores.json is damaged (Expecting property name"),
    "no list": (b"{}", "scores.json is damaged (rows: Input should be a valid list"),
    "no rows in a row": (b"[[]]", "scores.json is damaged (rows.0: Input should be a valid dictionary"),
    "nested": (b"[" * 100_000, "scores.json is damaged (RecursionError"),
    "no keys": (b"[{}]", "scores.json is damaged (rows.0.name: Field required)"),
    "no Unicode": (b'[{"name": "\xff"}]', "scores.json is damaged ('utf-8' codec can't decode"),
}


@pytest.mark.parametrize("case", SCORES)
def test_scores(case: str, fish: Path) -> None:
    text, sentence = SCORES[case]
    (fish / "scores.json").write_bytes(text)
    resign(fish)
    told = refusal(fish)
    assert told.startswith(sentence), told


def test_scores_out_of_range_and_of_other_keys(fish: Path) -> None:
    content = json.loads((fish / "scores.json").read_bytes())
    for change, sentence in (
        ({"accuracy": [101.0]}, "scores.json: score score, none: accuracy 101.0 is not in 0..100 percent"),
        ({"accuracy": []}, "scores.json is damaged (rows.0.accuracy: List should have at least 1 item"),
        ({"accuracy": "60"}, "scores.json is damaged (rows.0.accuracy: Input should be a valid list"),
        ({"ipc": -1}, "scores.json is damaged (rows.0.ipc: Input should be greater than or equal to 0"),
        ({"evil": 1}, "scores.json is damaged (rows.0.evil: Extra inputs are not permitted"),
    ):
        (fish / "scores.json").write_text(json.dumps([{**content[0], **change}]), encoding="utf-8")
        resign(fish)
        assert refusal(fish).startswith(sentence)


def test_a_link_in_a_release(fish: Path, tmp_path: Path) -> None:
    (fish / "images.parquet").rename(tmp_path / "elsewhere")
    (fish / "images.parquet").symlink_to(tmp_path / "elsewhere")
    assert refusal(fish).startswith("images.parquet is a symbolic link that leads out of DVC's cache")


def test_a_whole_release_is_read(fish: Path) -> None:
    found = dcpipe.load(changed(fish, lambda content: None))
    assert len(found.dataset()) == 48 and isinstance(found.images.images, np.ndarray)
