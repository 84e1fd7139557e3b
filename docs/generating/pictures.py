"""Draw the pictures of docs/pictures that explain: `python docs/generating/pictures.py` in the repository.

With the folder of a release as argument, the picture of views and their labels is drawn from it too.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
# What each stage hands on.
PIPELINE = (
    ("images", "train, minival, test"),
    ("teacher", "trained networks"),
    ("features", "a vector for each image"),
    ("selection", "ipc images of each class"),
    ("synthesis", "condensed images"),
    ("softlabels", "logits of K views"),
    ("compression", "a pack of bytes"),
    ("evaluation", "accuracy of students"),
    ("release", "a folder with a version"),
)
_WIDE, _HIGH, _STEP, _ROW, _COLUMNS = 156, 58, 196, 112, 5


def pipeline() -> str:
    """The nine stages as SVG, in two rows, with what each hands on."""
    width, height = _STEP * _COLUMNS - (_STEP - _WIDE) + 24, _ROW + _HIGH + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>The nine stages of the pipeline and what each hands on</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#546e7a"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    corners = [(12 + _STEP * (n % _COLUMNS), 12 + _ROW * (n // _COLUMNS)) for n in range(len(PIPELINE))]
    for (x, y), (after_x, after_y) in pairwise(corners):
        middle = y + _HIGH / 2
        if y == after_y:
            path = f"M{x + _WIDE} {middle}H{after_x - 2}"
        else:  # to the beginning of the next row
            between, centre = y + _HIGH + (_ROW - _HIGH) / 2, after_x + _WIDE / 2
            path = f"M{x + _WIDE / 2} {y + _HIGH}V{between}H{centre}V{after_y - 2}"
        parts.append(f'<path d="{path}" fill="none" stroke="#546e7a" stroke-width="2" marker-end="url(#arrow)"/>')
    for (x, y), (name, gives) in zip(corners, PIPELINE, strict=True):
        centre = x + _WIDE / 2
        parts += [
            f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="8" fill="#e8eaf6" stroke="#3f51b5"/>',
            f'<text x="{centre}" y="{y + 24}" text-anchor="middle" font-size="16" font-weight="bold" fill="#1a237e">'
            f"{name}</text>",
            f'<text x="{centre}" y="{y + 44}" text-anchor="middle" font-size="12" fill="#37474f">{gives}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def views(release: Path, target: Path, row: int = 92, shown: int = 6) -> None:
    """One image of a release, some of its views, and their soft labels."""
    import matplotlib.pyplot as plt

    import dcpipe

    dataset = dcpipe.load(release).dataset()
    figure, axes = plt.subplots(2, shown + 1, figsize=(1.35 * (shown + 1), 2.9), height_ratios=[1.2, 1])
    columns = [("the image", dataset.images.images[row], None)]
    for epoch in range(shown):
        dataset.set_epoch(epoch)
        pixels, label = dataset[row]
        columns.append((f"view {epoch}", pixels.permute(1, 2, 0).numpy(), label.numpy()))
    classes = range(len(dataset.images.classes))
    for (above, below), (title, pixels, label) in zip(axes.T, columns, strict=True):
        above.imshow(pixels)
        above.set_title(title, fontsize=9)
        above.axis("off")
        if label is None:
            below.axis("off")
            below.text(0.5, 0.5, "soft labels:\nprobability\nof each class", ha="center", va="center", fontsize=8)
            continue
        below.bar(classes, label, color="#3f51b5")
        below.set_ylim(0, 1)
        below.set_xticks(classes, dataset.images.classes, fontsize=5)
        below.set_yticks([0, 1], ["0", "1"], fontsize=6)
    figure.tight_layout(pad=0.4)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    (FOLDER / "pipeline.svg").write_text(pipeline(), encoding="utf-8")
    if len(sys.argv) > 1:
        views(Path(sys.argv[1]), FOLDER / "views.png")
