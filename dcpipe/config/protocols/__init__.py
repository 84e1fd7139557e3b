"""Protocols by name: how the papers train students, as values for the keys of `evaluation` that params.yaml leaves out.

`protocol: edc/cifar10` fills in EDC's Table 10. What params.yaml says is stronger, and is told wherever the score is:
`edc/cifar10 with epochs 300, batch_size 50`, so that nobody takes a changed protocol for the published one. A protocol
only checks the views, which `softlabels` decides: `edc/cifar10; views differ`.

`score` (SCORE, Sec. 6 and supplement Table 4) leaves its numbers to params.yaml, where each preset has its paper's.
Everything is scored at the last epoch, whatever a paper's code reports. Test images are what the images stage made.
To add one: a row in its paper's file, or a file and a line in `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dcpipe.config.protocols import dcbench, edc, gvbsm, idc, rded, sre2l
from dcpipe.config.protocols.row import PLAIN_VIEWS, Row
from dcpipe.config.values import BelowOne, Count, Natural, NotNegative, Positive, PositiveShare, one_of

__all__ = ["PROTOCOLS", "Settings", "describe"]

# Names of the tables where they are at work, which are imported when a name is checked.
Optimizer = Annotated[str, one_of("dcpipe.training.recipe:OPTIMIZERS")]
Loss = Annotated[str, one_of("dcpipe.training.losses:LOSSES")]
Schedule = Annotated[str, one_of("dcpipe.training.schedules:SCHEDULES")]
Decay = Annotated[str, one_of("dcpipe.training.recipe:DECAYS")]

SCORE = Row(
    constants={},
    views=None,
    free=("epochs", "batch_size", "optimizer", "lr", "weight_decay", "temperature", "zeta", "ema"),
)
PROTOCOLS: dict[str, Row] = {
    "score": SCORE,
    **edc.ROWS,
    **sre2l.ROWS,
    **rded.ROWS,
    **gvbsm.ROWS,
    **idc.ROWS,
    **dcbench.ROWS,
}


class Settings(BaseModel):
    """All of a student's training that a protocol may fix: see `training.Recipe` and `losses` for meanings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    protocol: str = "score"
    epochs: Count
    batch_size: Count
    optimizer: Optimizer = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    temperature: Positive = 20.0
    zeta: Positive = 1.0
    ema: BelowOne = 0.0
    loss: Loss = "kl"
    gamma: NotNegative = 0.0
    schedule: Schedule = "smoothing"
    milestones: list[int | float] = []
    decay_factor: PositiveShare = 0.5
    momentum: BelowOne = 0.9
    nesterov: bool = True
    decay: Decay = "all"
    warmup: Natural = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, content: Any) -> Any:
        """The protocol's constants under what was given."""
        if not isinstance(content, dict):
            return content
        name = content.get("protocol", "score")
        row = PROTOCOLS.get(name, SCORE) if isinstance(name, str) else SCORE  # a wrong name is refused below
        return {**row.constants, **content}

    @field_validator("protocol")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PROTOCOLS:
            method = name.split("/")[0]
            close = [other for other in PROTOCOLS if other.split("/")[0] == method] or list(PROTOCOLS)
            raise PydanticCustomError("protocol", "unknown; choose one of {names}", {"names": ", ".join(close)})
        return name


def describe(settings: Settings, views: Mapping[str, Any] | None = None) -> str:
    """The protocol's name with all that is not as published. `views` are softlabels' augmentation and mix, whose
    missing keys count as plain, or as different where a plain view has no such key; None: no view is compared."""
    row, fields = PROTOCOLS[settings.protocol], Settings.model_fields
    published = {key: row.constants.get(key, field.default) for key, field in fields.items() if key != "protocol"}
    changed = {
        key: getattr(settings, key)
        for key, value in published.items()
        if key not in row.free and getattr(settings, key) != value
    }
    name = settings.protocol
    if changed:
        name += f" with {', '.join(f'{key} {_as_written(value)}' for key, value in changed.items())}"
    if views is None or row.views is None:
        return name
    found = {**PLAIN_VIEWS, **views}
    differ = any(found.get(key) != value for key, value in {**PLAIN_VIEWS, **row.views}.items())
    return f"{name}; views differ" if differ else name


def _as_written(value: Any) -> str:
    """As params.yaml has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
