"""Columns of terminal tables: what each shows of a row, and of rows that have no number."""

from __future__ import annotations

import pytest

from dcpipe.reports.columns import (
    Column,
    decimals,
    human,
    mean_and_std,
    protocol_line,
    size,
    table_of,
    text,
    unless_noted,
    when_tested,
)

ROW = {"name": "score", "accuracy": "97.25", "std": "0.25", "bytes": "44500", "gain": "1.5", "note": ""}


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (text("name"), "score"),
        (mean_and_std("accuracy"), "97.2 ± 0.2"),
        (mean_and_std("of gain", "gain", "std"), "1.5 ± 0.2"),
        (size("labels", "bytes"), "44.5 kB"),
        (decimals("accuracy", 1), "97.2"),
        (decimals("a number", 0, "bytes", ","), "44,500"),
        (decimals("gain", 1, form="+"), "+1.5"),
        (unless_noted(size("labels", "bytes"), "not reached"), "44.5 kB"),
    ],
)
def test_a_column_shows_its_part_of_a_row(column: Column, shown: str) -> None:
    assert column.show(ROW) == shown


@pytest.mark.parametrize("column", [mean_and_std("accuracy"), decimals("accuracy", 1)])
def test_where_there_is_no_number_nothing_is_shown(column: Column) -> None:
    assert column.show({**ROW, "accuracy": "", "std": ""}) == ""


def test_a_row_with_a_note_shows_that_it_has_no_number() -> None:
    row = {**ROW, "bytes": "0", "note": "codec 'svd': its arrays take at least 22000 bytes"}
    assert unless_noted(size("labels", "bytes"), "not reached").show(row) == "not reached"
    assert unless_noted(mean_and_std("accuracy")).show(row) == ""


def test_a_column_knows_its_key() -> None:
    assert [text("name").key, mean_and_std("x").key, size("labels", "bytes").key, decimals("gain", 1).key] == [
        *("name", "accuracy", "bytes", "gain")
    ]
    assert (decimals("a number", 0, "bytes").key, unless_noted(size("labels", "bytes")).key) == ("bytes", "bytes")


def test_a_table_has_one_line_per_row_and_numbers_at_the_right() -> None:
    table = table_of("a title", [ROW, {**ROW, "name": "random"}], [text("name"), size("labels", "bytes")])
    assert (str(table.title), table.row_count) == ("a title", 2)
    assert [(str(c.header), list(c.cells), c.justify) for c in table.columns] == [
        ("name", ["score", "random"], "left"),
        ("labels", ["44.5 kB", "44.5 kB"], "right"),
    ]


def test_a_table_says_when_students_were_tested_and_by_which_protocol() -> None:
    assert when_tested(["score", "edc/cifar10"]) == "last epoch"
    best = "last epoch, or the best of several tests where the protocol says so"
    assert when_tested(["score", "idc/cifar10; best of 4 tests on test"]) == best
    assert protocol_line([{"protocol": "score"}, {"protocol": "score"}]) == "score"
    assert protocol_line([{"protocol": "score"}, {"protocol": "idc"}]) == "protocols differ: see summary.csv"


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12345, "12.3 kB"), (2 * 10**6, "2.0 MB"), (10**16, "10.0 PB")],
)
def test_bytes_are_in_powers_of_a_thousand(n_bytes: int, shown: str) -> None:
    assert human(n_bytes) == shown
