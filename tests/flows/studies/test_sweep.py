"""The study of sweeps in a tiny workspace: its rows are those of `syntheses` with the same settings written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from tiny import table
from variant_studies import EDC, STUDY, run_study, watch

FOLDER = Path("data/study")


def test_a_grid_gives_the_rows_of_its_variants(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"selection": {"method": "random"}, "synthesis": EDC}
    grid = {"synthesis.options.flatness": ["logits", "sam"], "evaluation.batch_size": {"few": 5, "many": 10}}
    sweeps = {
        "whole": {"base": base, "grid": grid, "ipc": [1]},
        "other": {"of": "mdc", "grid": {"evaluation.zeta": [1.0]}, "ipc": [500]},  # not run, so nothing of it matters
    }
    shared = {"seeds": STUDY["seeds"]}
    written = {
        f"{flatness}-{size}": {
            "selection": {"method": "random"},
            "synthesis": {**EDC, "options": {**EDC["options"], "flatness": flatness}},
            "evaluation": {"batch_size": size},
        }
        for flatness in ("logits", "sam")
        for size in (5, 10)
    }
    tiny.write_studies(
        sweep={"run": "whole", "sweeps": sweeps, **shared}, syntheses={"variants": written, "ipc": [1], **shared}
    )
    calls = watch(monkeypatch)
    run_study("sweep")
    assert calls["edc"] == 2 and calls["score"] == 4 * 3, "images are made once for both sizes of a batch"
    rows = table(FOLDER / "sweep/results.csv")
    assert list(dict.fromkeys(row["variant"] for row in rows)) == [
        f"flatness-{flatness}_{size}" for flatness in ("logits", "sam") for size in ("few", "many")
    ]
    run_study("syntheses")
    expected = table(FOLDER / "syntheses/results.csv")
    assert [{**row, "variant": ""} for row in rows] == [{**row, "variant": ""} for row in expected]
    assert len({row["accuracy"] for row in rows}) > 1
    assert (FOLDER / "sweep/figure.png").is_file() and (FOLDER / "sweep/gallery.png").is_file()
