"""Publishing: every check before the first act, and two versions pulled from a clone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import releases
import yaml
from object_store import Bucket

import dcpipe
from dcpipe import release, store
from dcpipe.release import publishing, tags
from dcpipe.store import urls
from dcpipe.types import DataError


def test_publish_checks_before_it_acts(repository: Path) -> None:
    def refused(tag: str) -> str:
        with pytest.raises(DataError) as caught:
            release.publish(tag, workspace=repository)
        return str(caught.value)

    assert refused("fish") == "'fish' is not a release tag; write NAME@vX.Y.Z, e.g. digits-score@v1.0.0"
    assert (
        refused("cat@v1.0.0")
        == "tag 'cat@v1.0.0' names 'cat', but release.name in params.yaml is 'fish'; make them equal"
    )
    tags.git("tag", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    assert refused("fish@v1.0.0") == "tag fish@v1.0.0 exists; a release never changes, so raise the version"
    (repository / "new.txt").write_text("x")
    remedy = "run `git add -A` and `git commit -m Build`, or remove what does not belong to the release"
    assert refused("fish@v1.0.1") == f"git has 1 uncommitted change, first '?? new.txt'; {remedy}"
    (repository / "other.txt").write_text("x")
    assert refused("fish@v1.0.1").startswith("git has 2 uncommitted changes, first '?? new.txt'; run `git add -A`")


def test_publish_needs_a_repository_and_dvc_in_the_workspace(repository: Path, tmp_path: Path) -> None:
    below = repository / "project"
    below.mkdir()
    shutil.copy(repository / "params.yaml", below / "params.yaml")
    with pytest.raises(
        DataError, match=r"project is a subfolder of the git repository .*; run `dvc init --subdir` in it, then commit$"
    ):
        release.publish("fish@v1.0.0", workspace=below)
    outside = tmp_path / "outside"
    shutil.copytree(below, outside)
    with pytest.raises(
        DataError, match=r"outside is in no git repository; run `git init` and `dvc init`, then commit$"
    ):
        release.publish("fish@v1.0.0", workspace=outside)


def test_publish_needs_everything_reproduced(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_dvc", lambda *arguments, cwd: '{"synthesis": [{"changed deps": {}}]}')
    with pytest.raises(DataError, match=r"^not reproduced: synthesis would run again; run `dvc repro`, then commit"):
        release.publish("fish@v1.0.0", workspace=repository)
    assert tags.release_tags(str(repository)) == {}


def test_publish_needs_a_name_before_it_pushes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for key in ("name", "email"):
        tags.git("config", f"user.{key}", "", cwd=repository)
    tags.git("config", "user.useConfigOnly", "true", cwd=repository)
    called: list[str] = []
    monkeypatch.setattr(publishing, "_dvc", lambda *arguments, cwd: called.append(arguments[0]) or "{}")
    with pytest.raises(DataError) as error:
        release.publish("fish@v1.0.0", workspace=repository)
    assert str(error.value) == (
        "git does not know who makes the tag; run `git config user.name NAME` and `git config user.email ADDRESS`, "
        "then publish again"
    )
    assert called == ["status"], "nothing was pushed"


@pytest.mark.parametrize(
    ("remote", "sentence"),
    [
        ("s3://other", "the default DVC remote is 'near' (s3://bucket/x); leave --remote out, or run `dvc remote add "),
        ("-x", "--remote is '-x'; give a folder or a URL"),
        (" ", "--remote is ' '; give a folder or a URL"),
        ("ssh://user:secret@host/x", "the URL of --remote has a password, which .dvc/config would keep; give it witho"),
    ],
)
def test_a_remote_that_cannot_be_is_refused(remote: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"core.remote": "near\n", "remote.near.url": "s3://bucket/x\n"}
    monkeypatch.setattr(publishing, "_dvc", lambda *arguments, cwd: config[arguments[1]])
    with pytest.raises(DataError) as error:
        publishing._remote_to_set(Path(), remote)
    assert str(error.value).startswith(sentence) and "secret" not in str(error.value)
    assert publishing._remote_to_set(Path(), "near") is publishing._remote_to_set(Path(), "s3://bucket/x") is None


def _commit_version(root: Path, seed: int) -> store.Artifact:
    """Prepare a release, reproduce the stage that takes it, commit."""
    shutil.rmtree(root / "prepared", ignore_errors=True)
    artifact = releases.build(root / "prepared", releases.parts(seed=seed))
    publishing._dvc("repro", "--quiet", cwd=root)
    tags.git("add", "-A", cwd=root)
    tags.git("commit", "--quiet", "-m", f"Version {seed}", cwd=root)
    return artifact


def _remote_has(folder: Path, content: bytes) -> bool:
    files = [path for path in (folder / "remote").rglob("*") if path.is_file()]
    assert len(files) > 3
    return content in {path.read_bytes() for path in files}


def _set_up_stages(root: Path, *, initialise: bool = True) -> None:
    """DVC, a stage that takes a prepared release, and one whose output is not for others."""
    if initialise:
        publishing._dvc("init", "--quiet", cwd=root)
    (root / ".gitignore").write_text("/data\n")
    stage = {"cmd": "mkdir -p data && cp -r prepared data/release", "deps": ["prepared"], "outs": ["data/release"]}
    images = {"cmd": "mkdir -p data && printf 'as if they were images' > data/images", "outs": ["data/images"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"images": images, "release": stage}}))


@pytest.mark.pipeline
def test_a_release_goes_through_a_remote_in_a_bucket(repository: Path, tmp_path: Path, bucket: Bucket) -> None:
    _set_up_stages(repository)
    publishing._dvc("remote", "add", "--default", "storage", f"{bucket.url}/remote", cwd=repository)
    made = _commit_version(repository, 0)
    release.publish("fish@v1.0.0", workspace=repository, say=lambda line: None)
    kept = [file.size for file in urls.list_files(f"{bucket.url}/remote")]
    assert len(kept) == len(releases.FILES) + 1, "the release, and the list of its files; nothing of other stages"
    clone = tmp_path / "clone"
    tags.git("clone", "--quiet", "--bare", str(repository), str(clone))
    assert dcpipe.load("fish@v1.0.0", repo=clone).digest == made.digest


@pytest.mark.pipeline
def test_a_workspace_in_a_folder_of_a_repository(repository: Path, tmp_path: Path) -> None:
    below = repository / "sets" / "one"
    below.mkdir(parents=True)
    (repository / "params.yaml").rename(below / "params.yaml")
    publishing._dvc("init", "--quiet", "--subdir", cwd=below)
    _set_up_stages(below, initialise=False)
    made = _commit_version(below, 0)
    (repository / "elsewhere.txt").write_text("not committed, and not in the workspace")
    said: list[str] = []
    release.publish("fish@v1.0.0", workspace=below, say=said.append, remote=str(tmp_path / "shared"))
    assert said[0] == (
        f"No DVC remote is set: {tmp_path / 'shared'} becomes the default one, and .dvc/config, which names it, is "
        "committed."
    )
    assert list((tmp_path / "shared").rglob("*")) and not (tmp_path / "remote").exists()
    shutil.rmtree(below / ".dvc/cache")
    clone = tmp_path / "clone"
    tags.git("clone", "--quiet", "--bare", str(repository), str(clone))
    assert release.pull("fish@v1.0.0", clone, tmp_path / "pulled").digest == made.digest
    assert dcpipe.load("fish@v1.0.0", repo=repository).digest == made.digest
    for place in ("../one", "sets//one", "/sets/one", "sets/one\\n", ".git"):
        tags.git("tag", "-a", "-f", "fish@v1.0.0", "-m", f"x\n\nworkspace {place}", cwd=repository)
        with pytest.raises(DataError, match=r"tag fish@v1\.0\.0 says that its workspace is "):
            release.pull("fish@v1.0.0", repository, tmp_path / "again")


@pytest.mark.pipeline
def test_publish_and_pull_two_versions(repository: Path, tmp_path: Path) -> None:
    said: list[str] = []
    root = repository
    _set_up_stages(root)
    tags.git("tag", "-a", "fish@v0.1.0", "-m", "before there was DVC", cwd=root)
    versions = {}
    for seed, tag in enumerate(("fish@v1.0.0", "fish@v1.1.0")):
        versions[tag] = _commit_version(root, seed).digest
        release.publish(tag, workspace=root, say=said.append)
    assert _remote_has(tmp_path, b"as if they were images") is False, "only the release is for others"
    assert not any("Pushing" in line for line in said)
    assert said[0].startswith(f"No DVC remote is set: {tmp_path / 'remote'} becomes the default one, and .dvc/config,")
    assert said[-1] == "Next: git push origin HEAD fish@v1.1.0"
    assert versions["fish@v1.0.0"] != versions["fish@v1.1.0"]
    assert tags.git("status", "--porcelain", cwd=root) == ""
    assert tags.git("cat-file", "-t", "fish@v1.0.0", cwd=root) == "tag\n"  # annotated, as gto makes them
    # A clone has the tags but no data: bytes come from the remote.
    clone = tmp_path / "clone"
    tags.git("clone", "--quiet", "--bare", str(root), str(clone))
    for seed, (tag, digest) in enumerate(versions.items()):
        out = tmp_path / tag
        assert release.pull(tag, clone, out).digest == digest
        found = dcpipe.load(out)
        np.testing.assert_array_equal(found.images.images, releases.parts(seed=seed).images.images)
        inputs, targets = found.dataset().batch(np.arange(12))
        assert inputs.shape == (12, 3, 8, 8)
        assert targets.shape == (12, 3)
        assert dcpipe.load(tag, repo=clone).digest == digest
    with pytest.raises(DataError, match=r"exists; give a folder that does not, or remove it$"):
        release.pull("fish@v1.0.0", clone, tmp_path / "fish@v1.0.0")
    with pytest.raises(DataError, match=r"clone does not track data/release at fish@v0.1.0; give the repository"):
        release.pull("fish@v0.1.0", clone, tmp_path / "gone")
    # Everything, on request, and said before it is pushed.
    told: list[str] = []
    release.publish("fish@v1.2.0", with_stages=True, workspace=root, say=told.append)
    size = store.folder_bytes(root / "data/release")
    assert told[:5] == [
        "Pushing the outputs of all stages, each version of a file once:",
        "    images                22 bytes",
        f"    release  {size:15,} bytes",
        f"    together {size + 22:15,} bytes",
        "The source images are among them. The licence in params.yaml is CC-BY-4.0: it must permit passing them on.",
    ]
    assert _remote_has(tmp_path, b"as if they were images")
    # The data is gone from the remote: an error that says whom to ask, and nothing half-made at `out`.
    shutil.rmtree(tmp_path / "remote" / "files")
    with pytest.raises(DataError, match=r"^fish@v1.0.0 is in no storage that .*clone names .* ask its owner to run"):
        release.pull("fish@v1.0.0", clone, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    assert not list(tmp_path.glob(".pull-*"))
