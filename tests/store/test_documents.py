"""Values and errors of strangers' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from dcpipe.store.documents import MAX_DEPTH, Open, Strict, checked, loads, of, parse, read_bytes, reading, shown
from dcpipe.types import DataError

PATH = Path("folder/file")


class Inner(Strict):
    number: float


class Outer(Strict):
    inner: dict[str, Inner]
    count: int = Field(ge=1)


def refusal(value: Any, model: type[Strict] | type[Open] = Outer) -> str:
    with pytest.raises(DataError) as error:
        checked(model, value, PATH, "mend it", "in meta")
    return str(error.value)


def test_the_first_wrong_field_is_named_with_what_was_found() -> None:
    assert checked(Outer, {"inner": {"a": {"number": 1}}, "count": 2}, PATH, "mend it").count == 2
    assert refusal({"inner": {}, "count": 0}) == (
        "folder/file is damaged (in meta count: Input should be greater than or equal to 1, got 0); mend it"
    )
    assert refusal({"inner": {}}) == "folder/file is damaged (in meta count: Field required); mend it"
    for wrong in (float("nan"), float("inf")):
        assert "inner.a.number: Input should be a finite number" in refusal(
            {"inner": {"a": {"number": wrong}}, "count": 1}
        )
    for wrong in ("1", True, None, [1]):
        assert "inner.a.number: Input should be" in refusal({"inner": {"a": {"number": wrong}}, "count": 1})
    assert "x: Extra inputs are not permitted" in refusal({"inner": {}, "count": 1, "x": 1})
    for wrong in ([], None, 3, "text"):
        assert refusal(wrong).startswith("folder/file is damaged (in meta Input should be a valid dictionary")


def test_names_and_values_in_messages_are_short_and_plain() -> None:
    told = refusal({"inner": {"\x1b[2J" + "x" * 5000: {"number": "y\n" * 5000}}, "count": 1})
    assert len(told) < 300 and told.isprintable()
    assert shown("\u202e") == "'\\u202e'" and shown("猫") == "'猫'" and len(shown("x" * 1000)) == 60


def test_metadata_may_have_other_keys() -> None:
    class Meta(Open):
        count: int

    assert checked(Meta, {"count": 1, "later": [1]}, PATH, "mend it").count == 1


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a": 1, "a": 2}', "[" * 100_000, '"\\udfff"', '{"\\ud800": 1}'])
def test_text_that_is_refused(text: str) -> None:
    with pytest.raises(DataError) as error:
        parse(text, PATH, "mend it")
    assert str(error.value).startswith("folder/file is damaged (") and str(error.value).endswith("); mend it")


def test_depth() -> None:
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
        loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_read_as_it_is(value: Any) -> None:
    import json

    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), MemoryError(), OSError("no"), TypeError("a\nb")])
def test_errors_of_readers_become_one_sentence(error: Exception) -> None:
    with pytest.raises(DataError) as caught, reading(PATH, "Parquet", "mend it"):
        raise error
    told = str(caught.value)
    assert (
        told.startswith("folder/file cannot be read as Parquet (") and told.endswith("); mend it") and "\n" not in told
    )


def test_a_data_error_stays_and_gets_the_files_name_once() -> None:
    for sentence in ("image set: no", "folder/file: no"):
        with pytest.raises(DataError) as caught, of(PATH), reading(PATH, "Parquet", "mend it"):
            raise DataError(sentence)
        assert str(caught.value) == ("folder/file: image set: no" if "set" in sentence else sentence)


def test_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5, "mend it") == b"12345"
    with pytest.raises(DataError, match="file has 5 bytes, more than the 4 it may have; mend it"):
        read_bytes(path, 4, "mend it")
    with pytest.raises(DataError, match="cannot be read as a file"):
        read_bytes(tmp_path, 10**9, "mend it")
