"""Pages: every row with its difference, several networks side by side, and a file that loads nothing."""

from __future__ import annotations

import io
import re

from judgements import NO_LABELS, judgement, row
from PIL import Image
from rich.console import Console

from dcpipe.judging import pages

OWN, HARD = row("own", [98.0, 98.2, 98.4]), row("hard", [95.0, 95.2, 95.4], **NO_LABELS)
OTHER = row("own", [90.0, 91.0, 92.0], "other")


def test_cells_are_those_of_the_row() -> None:
    first, second = pages.cells(judgement(OWN, HARD), "net")
    assert first == ("set, own", "98.2 ± 0.2", "", "10", "22.5 kB", "49.8 kB", "200.0 kB", "0 B", "72.3 kB", "3,000")
    assert second == ("set, hard", "95.2 ± 0.2", "-3.0", "10", "22.5 kB", "0 B", "", "0 B", "22.5 kB", "3,000")


def test_other_networks_are_compared_with_the_first() -> None:
    alone, both = judgement(OWN, HARD), judgement(OWN, HARD, OTHER)
    assert len(pages.tables(alone)) == 1 and len(pages.tables(both)) == 3
    assert pages.across(both) == [
        ("set", "net", "other"),
        ("set, own", "98.2 ± 0.2", "91.0 ± 1.0 (-7.2)"),
        ("set, hard", "95.2 ± 0.2", ""),
    ]


def test_notes_explain_the_rows_that_are_there() -> None:
    upper = row("all_images", [99.0], **NO_LABELS, epochs=60)
    assert not any("upper bound" in note or "equal compute" in note for note in pages.notes(judgement(OWN)))
    told = " ".join(pages.notes(judgement(OWN, upper)))
    assert "for 60 epochs. Neither `--epochs` nor `--protocol` changes it." in told and "equal compute" not in told
    same = row("all_images_at_compute", [90.0], **NO_LABELS, epochs=1)
    assert "`all training images, equal compute` is that recipe" in " ".join(pages.notes(judgement(OWN, same)))
    assert "upper bound" in told and "dcpipe 0.1.0, torch 2" in told and "0123456789ab" in told


def test_a_row_of_other_epochs_states_them_wherever_it_is_shown() -> None:
    found = judgement(OWN, row("all_images", [99.0], **NO_LABELS, epochs=60), row("less", [9.0], epochs=1))
    assert [line[0] for line in pages.cells(found, "net")] == [
        "set, own",
        "set, all_images, 60 epochs",
        "set, less, 1 epoch",
    ]
    for text in (pages.markdown(found), pages.page(found, {})):
        assert "set, all_images, 60 epochs" in text
    both = judgement(*found.rows, OTHER)
    assert pages.across(both)[2][0] == "set, all_images, 60 epochs"


def test_remarks_on_this_set_come_before_what_holds_for_all() -> None:
    found = judgement(OWN, remarks=["The set is stored at 64 x 64 pixels."])
    assert next(iter(pages.notes(found))) == "The set is stored at 64 x 64 pixels."
    for text in (pages.markdown(found), pages.page(found, {})):
        assert "The set is stored at 64 x 64 pixels." in text


def test_a_name_from_a_stranger_is_text() -> None:
    evil = row("own", [1.0], "[/red]s\x1b[2J", name="<script>alert(1)</script> | `x`")
    found = judgement(evil, what="[bold]x[/bold]<img src=x>", remarks=["<img src=y>"])
    text, page = pages.markdown(found), pages.page(found, {})
    assert "<script>" not in text + page and "<img" not in text + page
    assert "\\|" in text and "\\`x\\`" in text
    console = Console(file=io.StringIO(), width=200)
    console.print(pages.tables(found)[0].table())
    assert isinstance(console.file, io.StringIO) and "<script>alert(1)</script> | `x`" in console.file.getvalue()
    assert "[/red]s" in console.file.getvalue() and "\x1b[2J" not in console.file.getvalue()
    assert pages.pareto({"a": judgement(row("own", [1.0], name=r"$\frac$"))})


def test_a_page_is_one_file() -> None:
    found = judgement(OWN, HARD, OTHER)
    picture = pages.pareto({"set@v1.0.0": found})
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG" and min(image.size) > 300
    page = pages.page(found, {"accuracy by bytes": picture})
    assert page.count("<table>") == 3 and "98.2 ± 0.2" in page
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == [] and "http" not in page


def test_a_table_without_a_teacher_says_what_is_absent_and_how_to_get_it() -> None:
    own, hard = row("own", [60.0, 61.0, 62.0]), row("hard", [40.0, 41.0, 42.0], **NO_LABELS)
    random = row("random", [50.0, 50.0, 50.0], **NO_LABELS)
    told = pages.markdown(judgement(own, hard, random))
    assert "No teacher was at hand, so random images have hard labels" in told and "`--teacher FOLDER`" in told
    online = row("random", [50.0, 50.0, 50.0], **{**NO_LABELS, "teacher_bytes": 7})
    for others in (
        (own, hard, row("random", [50.0, 50.0, 50.0])),
        (own, hard, online),
        (hard, random),  # the labels of the set are hard too
        (own, hard),
    ):
        assert "No teacher was at hand" not in pages.markdown(judgement(*others))
