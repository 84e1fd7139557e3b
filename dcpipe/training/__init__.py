"""The training loop that teachers and students share, with recipes, losses and learning-rate schedules."""

from __future__ import annotations

from dcpipe.training.loop import (
    Batch,
    accuracy,
    accuracy_of,
    checkpoint_pause,
    confusion,
    fit,
    pick_device,
    save_checkpoint,
)
from dcpipe.training.losses import cross_entropy, divergence, soften
from dcpipe.training.memory import keep_freed_memory
from dcpipe.training.processes import ALONE, Group
from dcpipe.training.recipe import DECAYS, OPTIMIZERS, Recipe, grouped

__all__ = [
    "ALONE",
    "DECAYS",
    "OPTIMIZERS",
    "Batch",
    "Group",
    "Recipe",
    "accuracy",
    "accuracy_of",
    "checkpoint_pause",
    "confusion",
    "cross_entropy",
    "divergence",
    "fit",
    "grouped",
    "keep_freed_memory",
    "pick_device",
    "save_checkpoint",
    "soften",
]
