"""code.yaml: what it holds, and which stages a change makes stale."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from dcpipe.config.params import Params
from dcpipe.types import DataError
from dcpipe.workspace import digests
from dcpipe.workspace.code import code_digest


def test_there_is_a_digest_for_each_stage() -> None:
    found = digests.installed()
    assert list(found) == ["dcpipe", "schema", *Params.model_fields, "studies"]
    assert found["release"] == code_digest("flows.release")[:16]
    assert len(set(found.values())) == len(found)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert digests.recorded(tmp_path) is None
    content = {"dcpipe": "1.0", "schema": "1", "images": "0123456789012345", "teacher": "1e10"}
    digests.write(tmp_path, content)  # digests that look like numbers stay texts
    assert digests.recorded(tmp_path) == content


@pytest.mark.parametrize("text", ["images: 3\n", "images: [a]\n", "3\n", "a: b: c\n"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "code.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"code\.yaml"):
        digests.recorded(tmp_path)


def test_stages_with_other_code_are_stale() -> None:
    after = {"dcpipe": "2", "schema": "1", "images": "a", "teacher": "b", "studies": "c"}
    assert digests.changed({**after, "dcpipe": "1"}, after) == []
    assert digests.changed({**after, "teacher": "x"}, after) == ["teacher"]
    assert digests.changed({"schema": "1", "images": "a"}, after) == ["teacher", "studies"]
    assert digests.changed({**after, "schema": "0"}, after) == ["images", "teacher", "studies"]
    assert digests.changed(None, after) == ["images", "teacher", "studies"]


def test_a_workspace_of_another_version_is_remarked_on(tmp_path: Path) -> None:
    assert digests.remark(tmp_path) == digests.remark(tmp_path, "images", "x") == "", "the checkout has no code.yaml"
    digests.write(tmp_path, {"dcpipe": version("dcpipe"), "images": "0123456789abcdef"})
    assert digests.remark(tmp_path) == digests.remark(tmp_path, "images", "0123456789abcdef" + 48 * "0") == ""
    assert digests.remark(tmp_path, "images", 64 * "0") == (
        "this version of dcpipe has other code for images than code.yaml says; run `dcpipe upgrade`"
    )
    digests.write(tmp_path, {"dcpipe": "0.0", "images": "0123456789abcdef"})
    assert digests.remark(tmp_path).startswith("made with dcpipe 0.0, and ")
    assert digests.remark(tmp_path, "images", "0123456789abcdef") == ""
