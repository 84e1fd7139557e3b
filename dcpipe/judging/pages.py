"""A judgement as tables for the terminal and Markdown, and as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dcpipe import logs
from dcpipe.judging import fairness
from dcpipe.judging.judgement import ENOUGH, Judgement, Row, table
from dcpipe.reports import figures
from dcpipe.reports.columns import human

COLUMNS = ("set", "accuracy", "to the set", "ipc", "images", "labels", "in fp16", "teacher", "total", "images seen")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}td+td{white-space:nowrap}img{max-width:100%}p.note{color:#555}"
)


@dataclass(frozen=True)
class Shown:
    """A table with its title and notes, for the terminal or a page."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def table(self) -> Table:
        """For the terminal."""
        shown = Table(title=_shown(self.title), box=SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(self.columns):
            shown.add_column(name, justify="right" if index else "left", no_wrap=True)
        for line in self.lines:
            shown.add_row(*map(_shown, line))
        return shown

    def html(self) -> str:
        """As a part of a page."""
        notes = "".join(map(_noted, self.notes))
        return f"<p>{html.escape(self.title)}</p>{_grid([self.columns, *self.lines])}{notes}"

    def markdown(self) -> list[str]:
        """As lines of Markdown."""
        return [f"{_plain(self.title)}:", "", *_pipes([self.columns, *self.lines]), ""]


def _shown(text: str) -> str:
    """A text for the terminal, which names from a stranger must not style or drive."""
    return escape(logs.printable(text))


def tables(judgement: Judgement) -> list[Shown]:
    """One table per network and, if there are several, one that compares them."""
    students = judgement.students()
    found = [Shown(conditions(judgement, student), COLUMNS, cells(judgement, student)) for student in students]
    if len(students) > 1:
        head, *lines = across(judgement)
        found.append(Shown("Other networks, with the gap to the first", head, lines))
    return found


def cells(judgement: Judgement, student: str) -> list[tuple[str, ...]]:
    """The lines of the table of one network, as texts in the order of `COLUMNS`."""
    rows = judgement.of(student)
    own = rows[0]
    return [
        (
            judgement.named(row),
            row.told(),
            "" if row is own else f"{row.mean - own.mean:+.1f}",
            f"{row.ipc:,}",
            human(row.image_bytes),
            human(row.label_bytes),
            human(row.fp16_label_bytes) if row.label_bytes else "",
            human(row.teacher_bytes),
            human(row.total_bytes),
            f"{row.images_seen:,}",
        )
        for row in rows
    ]


def conditions(judgement: Judgement, student: str) -> str:
    """What the rows of a network have in common, in one sentence."""
    row, data = judgement.of(student)[0], judgement.data
    return (
        f"student {student}, protocol {row.protocol}, {row.epochs} epochs, {_seeds(row)}; top-1 on "
        f"{data.test:,} test images of {data.classes:,} classes ({data.source}, {data.size} x {data.size} pixels)"
    )


def across(judgement: Judgement) -> list[tuple[str, ...]]:
    """The cross-architecture table (SCORE, Table 4; EDC, Table 2): one line per set and one column per network, with
    the gap to the first network. The first line is the header."""
    first, *others = judgement.students()
    lines = [("set", first, *others)]
    for row in judgement.of(first):
        line = [judgement.named(row), row.told()]
        for student in others:
            other = judgement.row(row.kind, student)
            line.append("" if other is None else f"{other.told()} ({other.mean - row.mean:+.1f})")
        lines.append(tuple(line))
    return lines


def notes(judgement: Judgement) -> Iterator[str]:
    """What the reader of a table has to know, in sentences."""
    yield from judgement.remarks
    yield (
        "Accuracy is top-1 on test in percent after the last epoch, unless the protocol says otherwise, "
        f"as mean and standard deviation over seeds; with fewer than {ENOUGH} seeds, the numbers themselves."
    )
    yield (
        "Bytes are those of files on disk. `images seen` are the training images of all epochs together. Rows that "
        "were not run are absent."
    )
    if _lacks_teacher(judgement):
        yield (
            "No teacher was at hand, so random images have hard labels: compare them with the set's hard labels, not "
            "with its soft ones. The rows of uncompressed labels, of the teacher online and of random images with soft "
            "labels are absent for this reason. To get them, judge again with `--teacher FOLDER`, where FOLDER has the "
            "teacher that labelled the set, such as data/teacher/KEY in its workspace."
        )
    kinds = {row.kind for row in judgement.rows}
    if (upper := next((row for row in judgement.rows if row.kind == "all_images"), None)) is not None:
        yield (
            "`all training images` is the upper bound: the same network, trained on their classes by a recipe of its "
            f"own (teacher.training) for {upper.epochs} epochs. Neither `--epochs` nor `--protocol` changes it."
        )
    if "all_images_at_compute" in kinds:
        yield (
            "`all training images, equal compute` is that recipe for as many epochs as fit in the images that students "
            "of the set see."
        )
    if "equal_bytes" in kinds:
        yield "`equal bytes` are as many random images with hard labels as fit in the bytes of the set with its labels."
    if "equal_bytes_soft" in kinds:
        yield (
            "Random images in equal bytes with soft labels are as many as fit in the bytes of the set with its labels, "
            "with labels that are made and packed as those of the row `random`."
        )
    for student in judgement.students():
        yield from fairness.sentences(judgement, student)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(judgement.versions.items()))
    yield f"Judged with {versions}, on {judgement.device}; digest of the set {judgement.digest[:12]}."


def _lacks_teacher(judgement: Judgement) -> bool:
    """Whether a set with soft labels is compared with random images that nobody could label softly."""
    own, random = judgement.rows[0], judgement.row("random", judgement.students()[0])
    return bool(own.label_bytes) and random is not None and not random.label_bytes and not random.teacher_bytes


def markdown(judgement: Judgement) -> str:
    """The tables and notes as Markdown."""
    lines = [f"# {_plain(judgement.what)}, judged", ""]
    for shown in tables(judgement):
        lines += shown.markdown()
    return "\n".join([*lines, *(f"{html.escape(note, quote=False)}\n" for note in notes(judgement))])


def _pipes(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *rows = lines
    yield f"| {' | '.join(head)} |"
    yield f"|-|{'-:|' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """A text whose signs mean nothing in Markdown; names come from strangers."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("`", "\\`").replace("\n", " ")


def pareto(judgements: Mapping[str, Judgement]) -> bytes:
    """Accuracy over bytes of all rows of the first network of each judgement, as PNG. With several judgements, the name
    of each stands before its sets."""
    several = len(judgements) > 1
    rows = [
        # A dollar sign would start a formula of matplotlib.
        {**row, "set": (f"{name}: {row['set']}" if several else row["set"]).replace("$", r"\$")}
        for name, judgement in judgements.items()
        for row in table(judgement.model_copy(update={"rows": judgement.of(judgement.students()[0])}))
    ]
    one = next(iter(judgements.values()))
    title = "; ".join(dict.fromkeys(_short(j) for j in judgements.values()))
    return figures.png(figures.pareto(rows, "test", title.replace("$", r"\$") or conditions(one, one.students()[0])))


def _short(judgement: Judgement) -> str:
    row = judgement.rows[0]
    return f"{row.student}, {row.protocol}, {row.epochs} epochs, {_seeds(row)}"


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"


def page(judgement: Judgement, pictures: Mapping[str, bytes]) -> str:
    """One HTML file with the tables, the notes and PNG pictures by title; it loads nothing from anywhere."""
    title = f"{judgement.what}, judged"
    told = map(_noted, notes(judgement))
    body = [f"<h1>{html.escape(title)}</h1>", *(shown.html() for shown in tables(judgement)), *told]
    return document(title, body, pictures)


def _noted(note: str) -> str:
    """A note in HTML, where what stands between backticks is code, as in Markdown."""
    coded = re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(note))
    return f'<p class="note">{coded}</p>'


def document(title: str, body: Sequence[str], pictures: Mapping[str, bytes]) -> str:
    """An HTML file from parts of its body, with pictures below."""
    shown = [
        f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for name, content in pictures.items()
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join([*body, *shown])
        + "\n</body></html>\n"
    )


def _grid(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    first = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    others = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n<tr>" + first + "</tr>\n" + "\n".join(others) + "\n</table>"
