"""teacher: train one network on the whole train split (or take pretrained weights) and measure it.

One run a key of teacher.networks in params.yaml. Output: data/teacher/KEY, with accuracy on minival and test, and the
learning curve.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from dcpipe import images, store, teacher, training
from dcpipe.config.params import TeacherNetwork
from dcpipe.networks import expected_pixels
from dcpipe.types import Colour, ImageTable, IntArray, require
from flows.running.runtime import Run, main

# Decoded train splits up to this size stay in device memory; larger ones are streamed.
MEMORY_BYTES = 6 * 2**30


def teacher_stage(run: Run, key: str) -> None:
    """Train or load, measure, publish."""
    networks, block = run.params.teacher.networks, run.params.teacher.training
    require(key in networks, f"teacher {key!r} is not in teacher.networks: {', '.join(networks)}")
    source = store.open_artifact(Path("data/images"), "images")
    tables = {split: store.table_of(source, split) for split in source.meta["splits"]}
    train, network = tables["train"], networks[key]
    mean, std = expected(network, train)
    recipe = (
        training.Recipe(block.epochs, block.optimizer, block.lr, block.weight_decay, zeta=block.zeta)
        if block.epochs
        else None
    )
    settings = {**block.model_dump(mode="json"), "network": network.model_dump(mode="json")}
    with run.staging(f"data/teacher/{key}", settings, {"images": source}) as staging:

        def fit(_: str) -> tuple[torch.nn.Module, list[dict[str, float]]]:
            return teacher.train(
                network.network,
                network.weights,
                make_feed(train, block.batch_size, block.seed, run.device),
                policy=block.augmentation.policy(block.seed),
                recipe=recipe,
                classes=train.classes,
                size=train.size,
                mean=mean,
                std=std,
                seed=block.seed,
                device=run.device,
                checkpoint=staging.notes / "checkpoint.pt",
                report=lambda row: run.reporter.progress(
                    f"teacher {key}", int(row["epoch"]) + 1, block.epochs, f"loss {row['loss']:.4f}"
                ),
            )

        [(trained, history)] = run.map(fit, [key], lambda key: f"train[{key}]", progress=f"train {key}")

        def measure(split: str) -> IntArray:
            batches = teacher.plain_batches(images.read_parts(tables[split]), mean, std, block.batch_size, run.device)
            return training.confusion(trained, batches, len(train.classes), run.device)

        splits = [split for split in ("minival", "test") if len(tables[split])] or ["train"]
        counts = dict(
            zip(splits, run.map(measure, splits, lambda s: f"accuracy[{s}]", progress="accuracy"), strict=True)
        )
        accuracy = {split: training.accuracy_of(matrix) for split, matrix in counts.items()}
        noun = teacher.make(
            network.network,
            trained,
            train.classes,
            mean,
            std,
            train.size,
            accuracy,
            confusion=max(counts.values(), key=lambda matrix: int(matrix.sum())),
            trained_here=network.weights is None,
        )
        meta = store.save_teacher(staging.root, noun)
        (staging.root / "history.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
        run.reporter.table(f"accuracy {key}", [{"split": s, "top-1 %": round(v, 2)} for s, v in accuracy.items()])
        staging.publish("teacher", meta)
    print(f"teacher {key}: {network.network}, " + ", ".join(f"{s} {v:.2f} %" for s, v in accuracy.items()))


def expected(network: TeacherNetwork, train: ImageTable) -> tuple[Colour, Colour]:
    """Mean and std of the pixels the network expects: as told, else as its weights state, else those of train."""
    stated = expected_pixels(network.weights) or (train.mean, train.std)
    mean, std = network.mean or stated[0], network.std or stated[1]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def make_feed(table: ImageTable, batch_size: int, seed: int, device: torch.device) -> teacher.Feed:
    """The train split, in device memory when it fits, else streamed part by part."""
    if images.decoded_bytes(table) <= MEMORY_BYTES:
        return teacher.memory_feed(images.read_all(table), table.labels, table.ids, batch_size, seed, device)

    def feed(epoch: int) -> Iterator[tuple[torch.Tensor, IntArray, IntArray]]:
        for pixels, labels, ids in images.stream(table, seed, epoch, batch_size):
            yield torch.from_numpy(pixels).to(device, non_blocking=True), labels, ids

    return feed


if __name__ == "__main__":
    main(teacher_stage, "teacher", keyed=True)
