"""Scores of a judgement that compare images fairly: DD-Ranking's, and the accuracy at equal compute.

The formulas are those of `dcpipe.evaluation.ranking`; here they get the rows that they need. A score whose rows were
not run is absent.
"""

from __future__ import annotations

from collections.abc import Iterator

from dcpipe.evaluation import ranking
from dcpipe.judging.judgement import Judgement, Row


def fractions(row: Row) -> list[float]:
    """The accuracies of a row in 0..1, which the formulas are made for."""
    return [value / 100 for value in row.accuracy]


def label_robust(judgement: Judgement, student: str) -> ranking.RunScores | None:
    """The label-robust score (LRS) of the set, of its hard or its soft labels; None without the rows for it."""
    own, whole = judgement.of(student)[0], judgement.row("all_images", student)
    hard, random = judgement.row("hard", student), judgement.row("random", student)
    if whole is None or hard is None or random is None:
        return None
    if own.kind == "hard":
        return ranking.hard_label_robust(fractions(whole), fractions(hard), fractions(random))
    if not random.label_bytes:  # no teacher was at hand to label random images
        return None
    return ranking.label_robust(fractions(whole), fractions(hard), fractions(own), fractions(random))


def augmentation_robust(judgement: Judgement, student: str) -> ranking.RunScores | None:
    """The augmentation-robust score (ARS) of the set; None without the rows for it. Labels are of one kind in all four
    rows: hard, or the teachers' as the set stores them or as they give them online."""
    plain, random_plain = judgement.row("plain", student), judgement.row("random_plain", student)
    if plain is None or random_plain is None:
        return None
    soft = plain.teacher_bytes > 0
    ours = judgement.of(student)[0] if soft else judgement.row("hard", student)
    names = ("random",) if soft else ("random_hard", "random")
    found = [row for name in names if (row := judgement.row(name, student)) and bool(row.label_bytes) == soft]
    if ours is None or not found:
        return None
    return ranking.augmentation_robust(fractions(ours), fractions(found[0]), fractions(plain), fractions(random_plain))


def at_equal_compute(judgement: Judgement, student: str) -> tuple[int, dict[str, float | None]] | None:
    """The number of images that the student with the fewest has seen, and the accuracy in percent of each row at that
    number; None unless tests in the course of training were asked for. The upper bound has its own recipe and is left
    out."""
    curves = {
        row.name: ([(int(epoch), accuracy) for epoch, accuracy in row.curve], row.images)
        for row in judgement.of(student)
        if row.curve
    }
    return ranking.at_equal_compute(curves) if len(curves) > 1 else None


def sentences(judgement: Judgement, student: str) -> Iterator[str]:
    """The scores of a network in words, for those whose rows were run."""
    for name, scores in (
        ("Label-robust score (LRS, DD-Ranking)", label_robust(judgement, student)),
        ("Augmentation-robust score (ARS, DD-Ranking)", augmentation_robust(judgement, student)),
    ):
        if scores is not None:
            spread = f" ± {100 * scores.std:.1f}" if len(scores.scores) > 1 else ""
            yield f"{name} of {student}: {100 * scores.mean:.1f}{spread}; 26.9 is a set no better than random images."
    if (equal := at_equal_compute(judgement, student)) is not None:
        seen, accuracies = equal
        told = ", ".join(f"{name} {value:.1f}" for name, value in accuracies.items() if value is not None)
        yield f"Accuracy of {student} after at most {seen:,} images: {told}."
