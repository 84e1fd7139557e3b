"""The condensed set of the workspace, and as many random images, for studies of what a set is good for."""

from __future__ import annotations

from typing import Any

from dcpipe import store
from dcpipe.config.params import Params
from dcpipe.evaluation.contenders import Contender, hard_contender
from dcpipe.evaluation.lineup import random_images
from dcpipe.studies.base import Study, StudyContext
from dcpipe.types import ImageSet

CONDENSED, RANDOM = "condensed", "random"
HARD = ", hard labels"


class OwnSetStudy(Study):
    """Abstract base of studies of the condensed set of params.yaml, whose results depend on all of its parameters."""

    @property
    def settings(self) -> dict[str, Any]:
        return {"study": self.block.model_dump(mode="json"), "params": self.params.content()}


def names(params: Params) -> list[str]:
    """The names of `contender`, in the order of tables: without soft labels in params.yaml, all have hard ones."""
    return [
        name + suffix
        for name in (CONDENSED, RANDOM)
        for suffix in ("", HARD)
        if suffix or params.softlabels.method == "stored"
    ]


def contender(name: str, params: Params, context: StudyContext) -> Contender:
    """One of `names`. The condensed set has the labels of its pack; random images, of the seed that the evaluation
    takes, are labelled and packed in the same way."""
    what = name.removesuffix(HARD)
    notes = context.notes.within(f"images-{what}")
    labeller = context.labeller(params.softlabels, params.compression)
    if what == CONDENSED:
        images, file = context.condensed, context.artifacts["synthesis"] / "images.parquet"
        policy = params.softlabels.policy
        made = hard_contender(name, name, images, policy, file.stat().st_size, context.device, file)
        if name == what:
            made = made.with_pack(store.load_pack(context.artifacts["compression"], images.decoded_ids), context.device)
        return made
    images = random_of(params, context)
    if name != what:
        return labeller.hard(what, images, notes).renamed(name, name)
    teachers = {key: context.teachers[key] for key in params.softlabels.teachers}
    return labeller.contender(what, images, teachers, notes).renamed(name, name)


def random_of(params: Params, context: StudyContext) -> ImageSet:
    """As many random images per class as params.yaml selects, of its seed."""
    block = params.selection
    return random_images(context.train, block.ipc, block.seed, block.takes_all)
