"""release: put images, label pack, scores, manifest and card into one folder that needs nothing else.

Output: data/release. `dcpipe publish NAME@vX.Y.Z` tags and pushes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.images import leakage, report
from dcpipe.release.writing import assemble
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def release_stage(run: Run) -> None:
    """Assemble the folder and publish it."""
    block, first = run.params.release, run.params.softlabels.teachers[0]
    inputs = Inputs.open("synthesis", "compression", "scores", teachers=[first])
    settings, source = params_of(run, inputs), report.recorded(Path("data/images"))
    with run.staging("data/release", settings, inputs) as staging:

        def gather(name: str) -> dict[str, object]:
            images = store.load_set(inputs.path("synthesis"))
            hard = inputs["compression"].meta["hard"]
            transform = store.whitening_file(inputs["synthesis"])
            return assemble(
                staging.root,
                name=name,
                images=images,
                pack=None if hard else store.load_pack(inputs.path("compression"), images.decoded_ids),
                teacher=store.teacher_of(inputs.teachers[first], weights=block.teacher),
                with_teacher=block.teacher,
                scores=store.load_scores(inputs.path("scores")),
                params=settings,
                lineage=staging.lineage,
                licence=block.licence,
                stored=inputs["synthesis"].file("images.parquet"),
                leakage=leakage.recorded(Path("data/images")),
                source=source.lines() if source else (),
                whitening=None if transform is None else store.read_whitening(transform),
            )

        [meta] = run.map(gather, [block.name], lambda name: f"assemble[{name}]", retries=2, progress="assemble")
        run.reporter.markdown("card", (staging.root / "README.md").read_text(encoding="utf-8"))
        staging.publish("release", meta)


def params_of(run: Run, inputs: Inputs) -> dict[str, Any]:
    """The parameters that the release tells, in which a learned rate is its number."""
    evaluation = run.params.evaluation.at_rate(store.learned_rate(inputs["synthesis"]))
    return run.params.model_copy(update={"evaluation": evaluation}).content()


if __name__ == "__main__":
    main(release_stage, "release")
