"""Protocols by name: how papers train students, as values for the keys of `evaluation` that params.yaml leaves out.

`protocol: edc/cifar10` fills in EDC's Table 10. Values in params.yaml take precedence, and the name of the protocol
then shows them in every score, as in `edc/cifar10 with epochs 300, batch_size 50`, so that a changed protocol cannot be
mistaken for the published one. A protocol does not set the views, which `softlabels` decides, but compares them:
`edc/cifar10; views differ`.

`score` (SCORE, Sec. 6 and supplement Table 4) leaves its numbers to params.yaml, where each preset has those of its
paper. Students are tested at the last epoch, whatever the code of a paper reports. Test images are those of the stage
`images`. To add a protocol, add a row to the file of its paper, or a file and a line in `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dcpipe.config.blocks import GrownBlock
from dcpipe.config.protocols import dcbench, edc, gvbsm, hard, idc, rd3, rded, sre2l
from dcpipe.config.protocols.row import PLAIN_VIEWS, Row
from dcpipe.config.values import BelowOne, Count, Natural, NotNegative, Positive, PositiveShare, Rate
from dcpipe.types import Precision

__all__ = ["PROTOCOLS", "Settings", "describe"]

# The names in the tables of `dcpipe.training`, written out because importing it takes seconds; a test compares them.
Optimizer = Literal["adamw", "sgd"]
Loss = Literal["kl", "kl_plain", "kl_ce", "mse_gt"]
Schedule = Literal["smoothing", "constant", "linear", "ssrs", "multistep", "alrs", "alrs_code"]
Decay = Literal["all", "weights"]

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
    **rd3.ROWS,
    **hard.ROWS,
}


class Settings(GrownBlock):
    """The settings of a student's training that a protocol may set; `training.Recipe` and `losses` explain them."""

    protocol: str = "score"
    epochs: Count
    batch_size: Count
    optimizer: Optimizer = "adamw"
    lr: Rate = 1e-3
    weight_decay: NotNegative = 0.01
    temperature: Positive = 20.0
    zeta: Positive = 1.0
    ema: BelowOne = 0.0
    loss: Loss = "kl"
    gamma: NotNegative = 0.0
    schedule: Schedule = "smoothing"
    milestones: list[int | float] = Field(default=[])
    decay_factor: PositiveShare = 0.5
    restart: bool = False
    momentum: BelowOne = 0.9
    nesterov: bool = True
    decay: Decay = "all"
    warmup: Natural = 0
    precision: Precision = "auto"
    added: ClassVar = ("restart", "precision")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, content: Any) -> Any:
        """Fill in the constants of the protocol for keys that are not given."""
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
    """The name of the protocol, with all settings that differ from the published ones.

    `views` are the augmentation and the mix of `softlabels`. Missing keys count as those of plain views, or as
    different if plain views have no such key. With None, views are not compared.
    """
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
    used = {**PLAIN_VIEWS, **views}
    differ = any(used.get(key) != value for key, value in {**PLAIN_VIEWS, **row.views}.items())
    return f"{name}; views differ" if differ else name


def _as_written(value: Any) -> str:
    """A value as it is written in params.yaml."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
