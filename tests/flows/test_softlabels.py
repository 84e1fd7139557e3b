"""The stage of soft labels: of stored grids, it is the decoded images that are labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from condensed import decoded_by_hand
from releases import CLASSES, SIZE, VIEWS, parts

from dcpipe import networks, softlabels, store
from dcpipe.config import params, presets
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.softlabels import softlabels_stage

CPU = torch.device("cpu")


def run_of(**changes: object) -> Run:
    whole = params.parse(yaml.safe_load(presets.text("digits")))
    block = {"teachers": ["main"], "views": VIEWS, "mix": "none", **changes}
    updates = {"softlabels": whole.softlabels.model_copy(update=block)}
    return Run("softlabels", whole.model_copy(update=updates), Plain("softlabels"), device=CPU)


def test_the_stage_labels_decoded_images(scratch: Path) -> None:
    some, data = parts(grid=2), scratch.parent / "data"
    for noun, folder, save in (
        ("synthesis", data / "synthesis", lambda staging: store.save_set(staging, some.images)),
        ("teacher", data / "teacher" / "main", lambda staging: store.save_teacher(staging, some.teacher)),
    ):
        folder.parent.mkdir(exist_ok=True, parents=True)
        staging = scratch.parent / f"{noun}-staging"
        staging.mkdir()
        store.publish(staging, folder, noun, save(staging), {})
    run, whole = run_of(), decoded_by_hand(some.images)
    softlabels_stage(run)
    artifact = store.open_artifact(data / "softlabels", "softlabels")
    assert artifact.meta["teacher_bytes"] == (data / "teacher/main/weights.safetensors").stat().st_size
    labels = store.load_soft_labels(data / "softlabels")
    assert "ids" not in artifact.meta and labels.ids.tolist() == whole.ids.tolist() and labels.classes == CLASSES
    expected = softlabels.label_block(
        [networks.from_teacher(some.teacher, CPU)],
        [some.teacher],
        torch.from_numpy(whole.images),
        whole.ids,
        np.arange(len(whole)),
        policy=run.params.softlabels.policy,
        n_views=VIEWS,
        size=SIZE,
        batch_size=run.params.softlabels.batch_size,
    )
    np.testing.assert_allclose(labels.logits[:], expected, rtol=2e-3, atol=2e-3)
    # Hard labels need no teacher and leave a note.
    softlabels_stage(run_of(method="none", teachers=["nobody"]))
    assert store.open_artifact(data / "softlabels", "softlabels").meta == {"method": "none"}
