"""The commands: what they print, what they leave on disk, and that a mistake is one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import own_sets
import pytest
import releases

import dcpipe
from dcpipe import store
from dcpipe.cli import commands as cli
from dcpipe.config import presets
from dcpipe.images import report
from dcpipe.reports import columns, states, tables
from dcpipe.store.tensors import read_header
from dcpipe.types import Score

COMMANDS = ("init", "upgrade", "plan", "status", "inspect", "evaluate", "study", "publish", "pull", "export", "clean")


def test_help_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], *([command, "--help"] for command in COMMANDS)):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(f"\n    {command} " in told for command in COMMANDS)
    assert "dvc repro                 run the stages that are stale" in told  # line breaks are kept


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"dcpipe {dcpipe.__version__}\n"


def test_help_imports_neither_parameters_nor_torch() -> None:
    code = "import sys, dcpipe.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}print({{'torch', 'pydantic', 'pyarrow', 'dvc'}} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.splitlines()[-1] == "set()"


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As in `dcpipe init --list --json | head -1`."""
    command = [sys.executable, "-m", "dcpipe.cli", "init", "--list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_a_mistake_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "digit"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "dcpipe: unknown preset 'digit'; did you mean digits, digits-edc, digits-mdc or digits-mtt? "
    )
    assert captured.err.count("\n") == 1


def test_init_makes_a_workspace(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "digits", "some set"]) == 0
    made = workspace / "some set"
    assert (made / "params.yaml").read_text(encoding="utf-8") == presets.text("digits")
    assert (made / "dvc.yaml").is_file() and (made / ".dvc").is_dir() and (made / ".git").is_dir()
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"Made a workspace of preset digits in {made}. Next: cd 'some set' && dvc repro"


def test_init_in_a_workspace_writes_params_alone(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "dvc.yaml").touch()
    assert cli.main(["init", "imagenette-ipc10"]) == 0
    assert (workspace / "params.yaml").read_text(encoding="utf-8") == presets.text("imagenette-ipc10")
    assert capsys.readouterr().out == "Wrote params.yaml from preset imagenette-ipc10. Next: dvc repro\n"
    assert cli.main(["init", "digits"]) == 2
    assert capsys.readouterr().err == "dcpipe: params.yaml exists; --force replaces it\n"
    assert cli.main(["init", "digits", "--force"]) == 0
    assert (workspace / "params.yaml").read_text(encoding="utf-8") == presets.text("digits")
    assert {path.name for path in workspace.iterdir()} == {"dvc.yaml", "params.yaml"}
    assert cli.main(["init"]) == 2
    assert capsys.readouterr().err.endswith(
        "dcpipe: init needs the name of a preset; type `dcpipe init digits` for the smallest, `dcpipe init --list` to "
        "see all\n"
    )


def test_upgrade_says_what_it_does_and_does_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "digits"]) == 0
    assert cli.main(["upgrade"]) == 0
    assert "The workspace is up to date with dcpipe " in capsys.readouterr().out
    code = workspace / "code.yaml"
    text = code.read_text(encoding="utf-8")
    code.write_text(text.replace("images: ", "images: x"), encoding="utf-8")
    for arguments in (["upgrade", "--dry-run"], ["upgrade"]):
        assert code.read_text(encoding="utf-8") != text
        assert cli.main(arguments) == 0
        assert "the code of images has changed" in capsys.readouterr().out
    assert code.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("columns", ["40", "200"])
def test_init_list_has_a_line_for_each_preset(
    columns: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)  # a narrow terminal cuts nothing off
    assert cli.main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*presets.names()]
    assert any("1000 x 10" in line and "54.6 ± 0.2" in line and "12.2 h, GPU" in line for line in lines)
    assert cli.main(["init", "--list", "edc"]) == 0
    assert all("edc" in line for line in capsys.readouterr().out.splitlines()[1:])
    assert not (workspace / "params.yaml").exists()


def test_init_show_prints_the_file_and_writes_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--show", "cifar10-mdc-ipc10"]) == 0
    assert capsys.readouterr().out == presets.text("cifar10-mdc-ipc10")
    assert not (workspace / "params.yaml").exists()


def test_status_of_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    told = capsys.readouterr().out
    assert all(stage in told for stage in states.PLACES)
    assert "yes" not in told
    assert "No scores yet; `dvc repro` builds the stages that are missing" in told


def test_status_measures_what_is_made(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.parts()
    assert some.pack is not None
    for key in ("first", "second"):
        bench = workspace / f"bench-{key}"
        bench.mkdir()
        store.publish(bench, workspace / "data/teacher" / key, "teacher", store.save_teacher(bench, some.teacher), {})
    bench = workspace / "bench-compression"
    bench.mkdir()
    store.save_pack(bench / "labels.safetensors", some.pack)
    store.publish(bench, workspace / "data/compression", "compression", {"hard": False}, {})
    scores = [*some.scores, Score("score, none", "score", "resnet18", 2, (50.0,), 1_234_567, 12)]
    bench = workspace / "bench-scores"
    bench.mkdir()
    store.publish(bench, workspace / "data/evaluation/scores", "scores", store.save_scores(bench, scores), {})
    assert cli.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [teacher] = [line for line in lines if "teacher/first" in line]
    size = columns.human(store.folder_bytes(workspace / "data/teacher/first"))
    assert size in teacher
    assert "yes" in teacher
    [row] = [line for line in lines if "score, none" in line and "convnet" in line]
    # 2 bytes x 12 images x 5 views x 3 classes; half of it for half the images
    for cell in ("61.0 ± 1.0", "4.3 kB", "999 B", "360 B"):
        assert cell in row, cell
    [row] = [line for line in lines if "resnet18" in line]
    for cell in ("50.0 ± 0.0", "1.2 MB", "12 B", "180 B"):
        assert cell in row, cell


def test_facts_that_all_rows_share_are_above_them() -> None:
    scores = [Score(name, "score", "resnet18", 10, (50.0, 52.0), 1, 2, epochs=300) for name in ("a", "b")]
    table = tables.score_table(scores, {"images": 20, "views": 5, "classes": 2})
    assert "protocol score, student resnet18, epochs 300, ipc 10\nseeds 2, labels in fp16 400 B" in str(table.title)
    assert [column.header for column in table.columns] == ["set", "accuracy", "images", "labels", "teacher", "total"]


def test_status_counts_the_labels_of_small_classes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.uneven()
    for kind in ("compression", "synthesis", "scores"):
        (workspace / kind).mkdir()
    assert some.pack is not None
    store.save_pack(workspace / "compression/labels.safetensors", some.pack)
    store.publish(workspace / "compression", workspace / "data/compression", "compression", {"hard": False}, {})
    meta = store.save_set(workspace / "synthesis", some.images)
    store.publish(workspace / "synthesis", workspace / "data/synthesis", "synthesis", meta, {})
    scores = [some.scores[0], Score("score, first 2", "score", "resnet18", 2, (50.0,), 1, 2)]
    meta = store.save_scores(workspace / "scores", scores)
    store.publish(workspace / "scores", workspace / "data/evaluation/scores", "scores", meta, {})
    assert cli.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 2 bytes x 7 or 5 images x 5 views x 3 classes
    for row, size in (("score, none", "210 B"), ("score, first 2", "150 B")):
        [line] = [line for line in lines if row in line]
        assert size in line


def test_status_tells_what_the_images_are_like(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report.Report(
        counts={"train": 9, "minival": 0, "test": 3},
        classes=2,
        per_class=report.PerClass(fewest=4, median=4.5, most=5, smallest=[], counts=[4, 5]),
        size=8,
        sides={"smallest": [1, 2], "median": [8, 8], "largest": [90, 9]},
        enlarged_2x=0.25,
        enlarged_4x=0.0001,
        cropped=0.0,
        grey=1.0,
        repeated=0,
        leaked=0,
        skipped=2,
    )
    (workspace / "images").mkdir()
    store.publish(workspace / "images", workspace / "data/images", "images", {}, {"report": found.model_dump()})
    assert cli.main(["status"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Images: sizes 1x2 to 90x9, median 8x8, read at 8x8." in told
    assert "Images: 25.0 % are enlarged more than 2x, under 0.1 % more than 4x;" in told
    assert "Images: 2 corrupt images were left out." in told


def test_a_damaged_manifest_is_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "data/images").mkdir(parents=True)
    (workspace / "data/images/artifact.json").write_text("{")
    assert cli.main(["status"]) == 2
    assert "data/images/artifact.json is damaged (Expecting property name" in capsys.readouterr().err


def test_inspect_accounts_for_every_byte(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.parts()
    assert some.pack is not None
    releases.build(workspace / "fish", some)
    assert cli.main(["inspect", "fish"]) == 0
    told = capsys.readouterr().out
    total = sum(path.stat().st_size for path in (workspace / "fish").iterdir())
    assert f"{total:,}" in told
    header = read_header(workspace / "fish" / "labels.safetensors")
    inside = sum(entry.n_bytes for entry in header.arrays.values())
    assert header.n_bytes + inside == (workspace / "fish" / "labels.safetensors").stat().st_size
    assert f" {header.n_bytes:,}" in next(line for line in told.splitlines() if " header " in line)
    for name, array in some.pack.arrays.items():
        entry = header.arrays[name]
        assert (entry.dtype, entry.shape, entry.n_bytes) == ("F16", array.shape, 2 * 12 * 5 * 3)
        [line] = [line for line in told.splitlines() if f" {name} " in line]
        assert str(list(array.shape)) in line and " 360 " in line
    assert json.loads(header.metadata["dcpipe"])["codec"] == "none"
    assert '"codec":"none"' in told
    [rows_line] = [line for line in told.splitlines() if " rows " in line]
    assert "[12]" in rows_line


def test_inspect_of_a_zarr_array_counts_it_once(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    import zarr

    zarr.save_array(workspace / "folder" / "vectors.zarr", np.ones((4, 2), dtype=np.float32))
    assert cli.main(["inspect", "folder"]) == 0
    told = capsys.readouterr().out
    assert "vectors.zarr" in told
    assert "zarr.json" not in told
    assert "[4, 2]" in told
    assert "float32" in told


def test_inspect_refuses_what_is_not_there_or_not_whole(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "nothing"]) == 2
    assert (
        capsys.readouterr().err
        == "dcpipe: nothing is neither a folder, a file nor a tag NAME@vX.Y.Z; give one of them\n"
    )
    (workspace / "torn.safetensors").write_bytes(b"\xff" * 20)
    assert cli.main(["inspect", "torn.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "dcpipe: torn.safetensors cannot be read as safetensors (its header is longer than the file); "
        "pull or rebuild it\n"
    )


def test_export(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases.build(workspace / "data/release", releases.parts())
    assert cli.main(["export", "out", "--ipc", "2", "--images-only"]) == 0
    assert capsys.readouterr().out == "Exported 6 images of 3 classes to out.\n"
    assert len(list((workspace / "out").glob("*/*.png"))) == 6
    assert not (workspace / "out/labels.safetensors").exists()


def test_publish_and_pull_reach_the_library(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publish", "fish"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: 'fish' is not a release tag; write NAME@vX.Y.Z")
    assert cli.main(["pull", "fish@v1.0.0", "--repo", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: git ls-remote failed: ")


def test_clean_removes_only_abandoned_staging_folders(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = workspace / "scratch"
    monkeypatch.setenv("DCPIPE_SCRATCH", str(scratch))
    with pytest.raises(RuntimeError), store.staging_dir(Path("data/features"), {"seed": 0}) as bench:
        (bench.root / "shard").write_bytes(b"x" * 1500)
        (bench.notes / "note").write_bytes(b"x" * 100)
        raise RuntimeError("killed")
    foreign = scratch / "data-features-of-someone-else"
    foreign.mkdir()
    with store.staging_dir(Path("data/softlabels"), {"seed": 0}) as running:
        assert cli.main(["clean"]) == 0
        assert running.root.is_dir()
    assert not bench.root.exists()
    assert not bench.notes.exists()
    assert foreign.is_dir()
    told = capsys.readouterr().out
    assert told == "Skipped data-softlabels: a run is writing it.\nFreed 1.6 kB of unfinished work.\n"


def test_clean_of_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == "Freed 0 B of unfinished work.\n"


def test_names_in_strangers_files_do_not_drive_the_terminal(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", "\x1b[2Jx"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: \\x1b[2Jx is neither a folder")


def test_options_of_codecs_are_plain_values(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("rank=!!python/object/apply:os.system [touch x]", "rank=[", "rank"):
        assert cli.main(["import-labels", "store", "images", "out", "--option", option]) == 2
        assert capsys.readouterr().err.startswith("dcpipe: --option takes NAME=VALUE")
    assert not (workspace / "x").exists()


@pytest.mark.parametrize("order", [["my set", "--data", "pics"], ["--data", "pics", "--ipc", "2", "my set"]])
def test_init_looks_at_images_of_ones_own(
    order: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_sets.folders("pics")(workspace)
    assert cli.main(["init", "my-images", *order]) == 0
    text = (workspace / "my set/params.yaml").read_text(encoding="utf-8")
    assert "options: {path: ../pics, train: ., test_share: 0.2}" in text and "name: my-set\n" in text
    assert ("ipc: 2\n" in text) == ("--ipc" in order)
    assert capsys.readouterr().out.endswith("Next: cd 'my set' && dvc repro\n")


def test_init_of_ones_own_images_needs_to_know_where_they_are(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", "my-images", "there"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: init my-images needs --data; --data takes class folders (with")
    assert cli.main(["init", "digits", "--data", "pics"]) == 2
    assert capsys.readouterr().err == (
        "dcpipe: --data and --ipc are for images of your own: `dcpipe init my-images --data PATH`, not digits\n"
    )
    assert cli.main(["init", "my-images", "--show"]) == 0
    assert capsys.readouterr().out == presets.text("my-images") and not list(workspace.iterdir())
    for wrong in (["init", "digits", "a", "b"], ["status", "x"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(wrong)
        assert caught.value.code == 2 and "unrecognized arguments: " in capsys.readouterr().err
