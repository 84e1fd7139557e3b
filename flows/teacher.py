"""teacher: train one network on the whole train split (or load pretrained weights) and measure its accuracy.

The stage runs once per key of teacher.networks in params.yaml. Output: data/teacher/KEY, with accuracy on minival and
test, and the learning curve. DCPIPE_PROCESSES=8 trains in 8 processes, each with a GPU of its own where there are GPUs.
"""

from __future__ import annotations

import json

from dcpipe import images, store, teacher, training
from dcpipe.shards import progress
from dcpipe.teacher import ranks
from dcpipe.teacher.jobs import Job, Outcome
from dcpipe.types import IntArray, require
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def teacher_stage(run: Run, key: str) -> None:
    """Train or load the network, measure its accuracy and publish it."""
    networks, block = run.params.teacher.networks, run.params.teacher.training
    require(key in networks, f"teacher {key!r} is not in teacher.networks: {', '.join(networks)}")
    inputs, network = Inputs.open("images"), networks[key]
    tables = {split: store.table_of(inputs["images"], split) for split in inputs["images"].meta["splits"]}
    train = tables["train"]
    mean, std = teacher.expected_colours(network.weights, network.mean, network.std, train)
    recipe = (
        training.Recipe(
            block.epochs, block.optimizer, block.lr, block.weight_decay, zeta=block.zeta, precision=block.precision
        )
        if block.epochs
        else None
    )
    settings = {**block.content(), "network": network.content()}
    if (sha256 := network.weights_sha256()) is not None:
        settings["network"]["weights_sha256"] = sha256
    with run.staging(f"data/teacher/{key}", settings, inputs) as staging:
        job = Job(
            network=network.network,
            weights=network.weights,
            head=network.head,
            input_size=network.input_size,
            images=store.Verified.of(inputs["images"]),
            policy=block.augmentation.policy(block.seed),
            recipe=recipe,
            batch_size=block.batch_size,
            sync_batchnorm=block.sync_batchnorm,
            seed=block.seed,
            mean=mean,
            std=std,
            checkpoint=str(staging.notes / "checkpoint.pt"),
            device=str(run.device),
            full_crops=block.crops == "full",
        )

        def report(row: dict[str, float]) -> None:
            progress.epoch(f"teacher {key}", row, block.epochs)

        def fit(_: str) -> Outcome:
            progress.report(f"teacher {key}", 0, block.epochs)
            return ranks.train(job, report)

        def measure(split: str) -> IntArray:
            batches = teacher.plain_batches(images.read_parts(tables[split]), mean, std, block.batch_size, run.device)
            return training.confusion(trained, batches, len(train.classes), run.device)

        [(trained, history)] = run.map(fit, [key], lambda key: f"train[{key}]", progress=f"train {key}")
        splits = [split for split in ("minival", "test") if len(tables[split])] or ["train"]
        measured = run.map(measure, splits, lambda split: f"accuracy[{split}]", progress="accuracy")
        accuracy = {split: training.accuracy_of(matrix) for split, matrix in zip(splits, measured, strict=True)}
        made = teacher.make(
            network.network,
            trained,
            train.classes,
            mean,
            std,
            train.size,
            accuracy,
            confusion=max(measured, key=lambda matrix: int(matrix.sum())),
            trained_here=network.weights is None or network.head is not None,
            input_size=network.input_size,
        )
        tested = {f"accuracy/{split}": value for split, value in accuracy.items()}
        run.metrics.step(progress.Step(f"teacher {key}", block.epochs, block.epochs, values=tested))
        meta = store.save_teacher(staging.root, made)
        (staging.root / "history.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
        run.reporter.table(f"accuracy {key}", [{"split": s, "top-1 %": round(v, 2)} for s, v in accuracy.items()])
        staging.publish("teacher", meta)
    run.log.info("%s, accuracy on %s", network.network, ", ".join(f"{s} {v:.2f} %" for s, v in accuracy.items()))


if __name__ == "__main__":
    if ranks.is_follower():
        ranks.follow()
    else:
        main(teacher_stage, "teacher", keyed=True)
