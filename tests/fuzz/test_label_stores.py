"""Batches of another program's labels, damaged: each is read, or refused in one sentence, and nothing in it is run."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import mutations
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_stores import write_images, write_store

from dcpipe.interop.records import read_record
from dcpipe.types import DataError


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    write_store(root / "store", write_images(root / "images"), "edc", epochs=1)
    return root / "store/epoch_0/batch_0.tar"


def inside(data: bytes, draw: random.Random) -> bytes:
    """One member of the archive damaged, its checksum right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as copy:
        names = archive.namelist()
        chosen = draw.choice(names)
        for name in names:
            member = archive.read(name)
            copy.writestr(name, mutations.any_bytes(member, draw) if name == chosen else member)
    return out.getvalue()


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_batch_is_read_or_refused(batch: Path, seed: int) -> None:
    draw, whole = random.Random(seed), batch.read_bytes()
    damaged = batch.with_name("damaged.tar")
    damaged.write_bytes(inside(whole, draw) if draw.random() < 0.7 else mutations.any_bytes(whole, draw))
    try:
        assert np.isfinite(read_record(damaged).logits).all()
    except DataError as error:
        assert str(error).startswith(str(damaged)) and len(str(error).splitlines()) == 1


def test_an_archive_of_several_disks_is_refused(batch: Path) -> None:
    """Python's own check of archives raises on one."""
    whole = batch.read_bytes()
    damaged = batch.with_name("disks.tar")
    locator = b"PK\x06\x07" + bytes(12) + (2).to_bytes(4, "little")
    damaged.write_bytes(whole[:-22] + locator + whole[-22:])
    with pytest.raises(DataError, match=r"disks.tar is truncated or not a file of torch.save; copy it again$"):
        read_record(damaged)
