"""The stage `synthesis` by matching gradients or features: DC, DSA, DM, IDC, DREAM and MDC. All images are matched
together, so it runs on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpipe.config.bases import base_of
from dcpipe.planning.stages import BASE, READ_GROWTH, Setting, manifest
from dcpipe.planning.work import Remedy, Stage, Work, batches
from dcpipe.synthesis.dc import LOOPS
from dcpipe.views import multiformation

# What the network learns from between two steps of matching.
LEARNS = {"dc": "condensed", "dsa": "condensed", "dm": "nothing", "idc": "real", "dream": "real"}
METHODS = (*LEARNS, "mdc")
_TAUGHT_BATCH = 256  # of DC and DSA


def matching(setting: Setting, method: str, options: Mapping[str, Any]) -> Stage:
    """The stage with a method of `METHODS` and its resolved options. Of MDC's ways to choose subsets, `accuracy` trains
    networks, which is left out."""
    subsets = options if method == "mdc" else options.get("subsets") or {}
    omitted = "the trainings of MDC's metric accuracy" if subsets.get("metric") == "accuracy" else ""
    base, chosen = base_of(method, options)
    counts, size, ipc = setting.counts, setting.params.images.size, setting.params.selection.ipc
    name, outer, real = chosen["network"], chosen["outer"], chosen["real_batch"]
    loops = LOOPS[min(LOOPS, key=lambda known: abs(known - ipc))]
    inner = chosen["inner"] or loops[0]
    made = len(multiformation.owners(ipc, chosen.get("factor", 1), chosen.get("kind", "single"), chosen.get("bound")))
    matched, steps = min(made, chosen["most"]), outer * inner
    theirs, ours = (steps * counts.classes * each for each in (real, matched))
    work = [setting.decode(counts.train), setting.encode(setting.stored)]
    if base == "dm":
        work.append(Work("forward", theirs, name=name, size=size, batch=real * counts.classes))
        work.append(Work("train", ours, steps=steps, name=name, size=size, batch=matched * counts.classes))
    else:
        batch = (real + matched) * counts.classes
        work.append(Work("match", theirs + ours, steps=steps, name=name, size=size, batch=batch))
    between = outer * (inner - 1)  # after the last step of a loop a new network follows
    if LEARNS[base] == "condensed":
        epochs = between * (chosen["learn_epochs"] or loops[1])
        taught, each, batch = (
            epochs * counts.classes * made,
            batches(counts.classes * made, _TAUGHT_BATCH),
            _TAUGHT_BATCH,
        )
        work.append(Work("train", taught, steps=epochs * each, name=name, size=size, batch=batch))
    if LEARNS[base] == "real":
        lessons = between * batches(chosen["learn_images"], real)
        lessons += outer * chosen["early"] * max(1, counts.train // real)
        work.append(Work("train", lessons * real, steps=lessons, name=name, size=size, batch=real))
        if chosen["cluster"]:
            looks = outer * batches(inner, chosen["cluster"]) * counts.train
            work.append(Work("forward", looks, name=name, size=size, batch=512))
    found, real_pixels = setting.figures(name, size), setting.decoded(counts.train)
    together = min(chosen["at_once"] or counts.classes, counts.classes)
    return Stage(
        "synthesis",
        (*work, Work("read", setting.table_bytes)),
        n_bytes=setting.set_bytes + manifest(2),
        files=4 if method == "mdc" else 2,
        scratch=8 * setting.pixels + 2 * found.weights,
        host=BASE + real_pixels + int(READ_GROWTH * setting.pixels),
        device=real_pixels + 12 * setting.pixels + together * (real + 2 * matched) * found.outputs,
        remedy=Remedy(disk="selection.ipc", host="images.size", device="synthesis.options.at_once"),
        omitted=omitted,
    )
