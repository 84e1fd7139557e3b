"""Packs that were written once can always be decoded: their labels, their contents and the items of their epochs."""

import json
from pathlib import Path

import numpy as np
import pytest
from codec_cases import decode, held_pairs

from dcpipe import compression, store
from dcpipe.compression import CODECS

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "compression"
CASES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def test_every_codec_has_one() -> None:
    assert {case.split("-")[0] for case in CASES} == set(CODECS)


@pytest.mark.parametrize("case", CASES)
def test_decodes(case: str) -> None:
    images = 2 if case == "rpca-wide" else 5
    pack = store.read_pack(FOLDER / f"{case}.safetensors", np.arange(images))
    expected = json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
    codec = compression.rebuild(pack, CODECS)
    assert codec.settings == expected["settings"]
    assert np.stack(held_pairs(codec, pack.shape), axis=1).tolist() == expected["held"]
    replays = [[part.tolist() for part in codec.replay(epoch, pack.shape)] for epoch in range(3)]
    assert replays == expected["replay"]
    rows = np.array([label["row"] for label in expected["labels"]])
    stored = np.array([label["view"] for label in expected["labels"]])
    decoded = decode(codec, pack.arrays, rows, stored, pack.shape)
    np.testing.assert_allclose(decoded, [label["logits"] for label in expected["labels"]], rtol=1e-5, atol=1e-5)
