"""Resilience: how much accuracy a coreset loses when its soft labels are compressed (SCORE, Sec. 6.3, Fig. 5).

Idea. One codec packs the labels of every selector's coreset to ever smaller files. Where labels compress well, students
lose little; R_C in the selection of `score` is there for that.

Formula. With a(s, r, k) the accuracy in percent of the student of seed k taught the coreset of selector s from labels r
times smaller than fp16, and a(s, k) that of the same student taught the same coreset from uncompressed labels, the drop
is d(s, r, k) = a(s, k) - a(s, r, k), in points; below 0 where compressing helped. Drops are paired by seed: coreset,
student's first weights and order of batches are the same on both sides, so the deviation of d is of compression alone,
while that of a also holds what other picks and other first weights make.

Cost. The teacher labels a coreset once; each ratio is a pack and a student a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Row = Mapping[str, Any]


def summary(results: Sequence[Row], fp16_bytes: int) -> list[dict[str, Any]]:
    """One row a selector and ratio ("" for uncompressed) of `results` (one row a seed), in their order.

    Accuracy in percent and drop in points are means over seeds, with standard deviations over n - 1; bytes and label
    rate are means too. A row whose pack was not made for every seed has a note instead of numbers. `fp16_bytes`: what
    the soft labels of one coreset take uncompressed.
    """
    groups: dict[tuple[str, Any], list[Row]] = {}
    for row in results:
        groups.setdefault((row["selector"], row["ratio"]), []).append(row)
    return [_summed(rows, groups[selector, ""], fp16_bytes) for (selector, _), rows in groups.items()]


def _summed(rows: Sequence[Row], whole: Sequence[Row], fp16_bytes: int) -> dict[str, Any]:
    before = {row["seed"]: row["accuracy"] for row in whole}
    note = next((row["note"] for row in rows if row["note"]), "")
    told: dict[str, Any] = dict.fromkeys(("accuracy", "std", "drop", "drop_std"), "")
    if not note:
        accuracies = [row["accuracy"] for row in rows]
        drops = [before[row["seed"]] - row["accuracy"] for row in rows]
        for name, spread, values in (("accuracy", "std", accuracies), ("drop", "drop_std", drops)):
            told |= {name: round(fmean(values), 3), spread: round(stdev(values), 3)}
    return {
        **{key: rows[0][key] for key in ("selector", "ipc", "ratio")},
        **told,
        "seeds": 0 if note else len(rows),
        "image_bytes": round(fmean(row["image_bytes"] for row in rows)),
        "label_bytes": 0 if note else round(fmean(row["label_bytes"] for row in rows)),
        "fp16_label_bytes": fp16_bytes,
        "label_rate": round(fmean(row["label_rate"] for row in rows), 3),
        "note": note,
    }
