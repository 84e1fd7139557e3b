"""DiT (Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023): the condition is a class by number.

It was trained on the classes of ImageNet-1K, and so were those that were fine-tuned from it (Minimax Diffusion, CVPR
2024). The text of a class says which it is: one of the names in the folder's `id2label`, or a number. The number after
the last class stands for none, and classifier-free guidance compares with it.

The official code guides the first three channels of the noise only; as diffusers does, we guide all four.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import torch

from dcpipe.synthesis.diffusion.model import LatentModel, guided
from dcpipe.types import DataError, require

_WORDNET = re.compile(r"n\d{8}")


class ByClass(LatentModel):
    """The model of a folder of a DiT on a device."""

    _wordnet: Mapping[str, int] = {}  # the classes of WordNet names, once `numbers` has seen all of them

    def _load(self) -> None:
        self.transformer = self._load_own("transformer", import_module("diffusers").DiTTransformer2DModel)

    def check(self, texts: Sequence[str], negative: str) -> None:
        """Raises `DataError` for texts that name no class of the model, for two that name the same, and for a negative
        text, which it cannot read."""
        method = self.folder.method
        require(
            negative == "", f"{method}: negative is {negative!r}, but a DiT reads no text; leave it out or set it to ''"
        )
        first: dict[int, str] = {}
        for text, number in zip(texts, self.numbers(texts), strict=True):
            other = first.setdefault(number, text)
            require(
                other == text,
                f"{method}: {other!r} and {text!r} are both class {number} of the model; give each class its own in "
                "prompts",
            )

    def numbers(self, texts: Sequence[str]) -> list[int]:
        """The class of the model for each text: the one that has it among its labels, or that has this number. The
        1,000 WordNet names of ImageNet-1K in their order are the classes in order, and any of them is known from then
        on. Raises `DataError` for a text that
        is neither."""
        n = len(self.folder.labels)
        if len(texts) == n == 1000 and all(map(_WORDNET.fullmatch, texts)) and sorted(texts) == [*texts]:
            self._wordnet = {text: number for number, text in enumerate(texts)}
        return [self._wordnet[text] if text in self._wordnet else self._number(text) for text in texts]

    @cached_property
    def _known(self) -> dict[str, set[int]]:
        """The classes of each label."""
        known: dict[str, set[int]] = {}
        for number, label in enumerate(self.folder.labels):
            for name in {label, *label.split(",")} - {""}:
                known.setdefault(name.strip().casefold(), set()).add(number)
        return known

    def _number(self, text: str) -> int:
        n, found = len(self.folder.labels), self._known.get(text.strip().casefold(), set())
        remedy = f"give a label or a number from 0 to {n - 1} in prompts, as in prompts: {{CLASS: '7'}}"
        if len(found) == 1:
            return next(iter(found))
        if found:
            both = ", ".join(map(str, sorted(found)))
            raise DataError(f"{self.folder.method}: the model has {text!r} as classes {both}; {remedy}")
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < n:
            return int(text)
        raise DataError(f"{self.folder.method}: the model has no class {text!r}; {remedy}")

    def conditions(self, texts: Sequence[str], negative: str) -> torch.Tensor:
        """The numbers i64 [2m]: m times the one of no class, and that of each text."""
        return torch.tensor([len(self.folder.labels)] * len(texts) + self.numbers(texts), device=self.device)

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, time: int, conditions: Any, guidance: float) -> torch.Tensor:
        """As `LatentModel.predict` says."""
        seen, classes = latents.to(self.type), conditions
        if guidance <= 1:
            return self._output(seen, time, classes[len(seen) :])
        return guided(self._output(torch.cat([seen, seen]), time, classes), guidance)

    def _output(self, latents: torch.Tensor, time: int, classes: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latents),), time, device=self.device)
        output: torch.Tensor = self.transformer(latents, timestep=times, class_labels=classes).sample
        return output.float()
