"""The study of sizes: its entries, the runs they take, sets joined, means worked out again, what is refused."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.config.blocks import checked
from dcpipe.reports import figures, tabular
from dcpipe.studies import sizes
from dcpipe.studies.sizes import Entry, Part, SizesBlock, SizesStudy
from dcpipe.types import DataError, ImageSet

CLASSES = ("a", "b", "c")


def block_of(**changes: Any) -> SizesBlock:
    content = {"methods": {"mdc": {}, "idc": {"baselines": ["C", "A", "B"]}}, "ipc": 4, "seeds": [0, 1, 5], **changes}
    return checked(SizesBlock, content, "s.yaml")


def rounds(count: int, first: int = 0, grid: int = 1) -> ImageSet:
    """`count` rounds of one image per class, ids from `first` on, each image filled with its id."""
    ids = np.arange(first, first + count * len(CLASSES))
    pixels = np.broadcast_to(ids.astype(np.uint8)[:, None, None, None], (len(ids), 4, 4, 3)).copy()
    return ImageSet(pixels, np.tile(np.arange(len(CLASSES)), count), ids, CLASSES, grid)


def test_entries_are_methods_and_the_baselines_of_bases_in_order() -> None:
    found = list(sizes.entries(block_of()))
    assert [str(entry) for entry in found] == ["mdc", "idc-A", "idc-B", "idc-C"]
    assert found[0] == Entry("mdc", None) and found[2] == Entry("idc", "B")


def test_sizes_are_all_unless_said() -> None:
    assert block_of().scored == (1, 2, 3, 4)
    assert block_of(sizes=[4, 1]).scored == (1, 4)


def test_a_cell_takes_the_images_of_its_runs() -> None:
    """B joins runs of one image per class with different seeds; equal sets are equal cells, whatever their entry."""
    study = SizesStudy("sizes", block_of(ipc=3), tiny.run_of("studies").params, tiny.PARAMS)
    cells = {str(cell): cell for cell in study.cells}
    assert list(cells) == [f"{name}-ipc{n}" for name in ("mdc", "idc-A", "idc-B", "idc-C") for n in (1, 2, 3)]
    runs = cells["idc-B-ipc3"].runs
    assert [run.rounds for run in runs] == [(0, 1), (1, 2), (2, 3)]
    assert [run.params.synthesis.seed for run in runs] == [0, 1, 2]
    assert all(cell.params.selection.ipc == 3 for cell in cells.values())

    def digest(name: str) -> str:
        return cells[name].digest("selection", "synthesis")

    assert digest("idc-A-ipc3") == digest("idc-C-ipc3") == digest("mdc-ipc3")
    assert digest("idc-A-ipc1") == digest("idc-B-ipc1") != digest("idc-C-ipc1")
    assert len({digest(name) for name in ("idc-A-ipc2", "idc-B-ipc2", "idc-C-ipc2")}) == 3


@settings(deadline=None)
@given(ipc=st.integers(1, 12), data=st.data())
def test_the_runs_of_baselines(ipc: int, data: st.DataObject) -> None:
    """As the paper counts them: A has one run per size, B as many as images, C and methods one for all."""
    size = data.draw(st.integers(1, ipc))
    a, b, c = (sizes.parts(Entry("idc", letter), size, ipc) for letter in ("A", "B", "C"))  # type: ignore[arg-type]
    assert c == sizes.parts(Entry("mdc", None), size, ipc) == (Part(0, ipc),)
    assert a == (Part(0, size),)
    assert len(b) == len(set(b)) == size
    assert [round_ for part in b for round_ in range(part.start, part.stop)] == list(range(size)), "starts are disjoint"
    assert [part.step for part in b] == list(range(size)), "and so are seeds"
    if size == 1:
        assert a == b
    if size == ipc:
        assert a == c


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4), grid=st.integers(1, 2))
def test_joined_sets_keep_rows_and_their_beginnings(counts: list[int], grid: int) -> None:
    starts = np.cumsum([0, *counts]) * len(CLASSES)
    sets = [rounds(count, int(first), grid) for count, first in zip(counts, starts, strict=False)]
    joined, whole = sizes.joined(sets), rounds(sum(counts), 0, grid)
    for key in ("images", "labels", "ids"):
        assert np.array_equal(getattr(joined, key), getattr(whole, key))
    assert (joined.classes, joined.grid) == (CLASSES, grid)
    assert np.array_equal(joined.prefix(counts[0]).ids, sets[0].ids)


def test_runs_are_entries_whose_seeds_differ() -> None:
    """Also from those that B joins; the first run is the only one's, so it is not made again."""
    methods = {"mdc": {"runs": 2}, "idc": {"baselines": ["A", "B"], "runs": 2}}
    block = block_of(ipc=3, methods=methods)
    names = ["mdc-run1", "mdc-run2", *("idc-A-run1", "idc-A-run2", "idc-B-run1", "idc-B-run2")]
    assert [str(entry) for entry in sizes.entries(block)] == names
    study = SizesStudy("sizes", block, tiny.run_of("studies").params, tiny.PARAMS)
    seeds = {str(cell): [run.params.synthesis.seed for run in cell.runs] for cell in study.cells}
    assert seeds["mdc-run1-ipc3"] == seeds["idc-A-run1-ipc3"] == [0]
    assert seeds["mdc-run2-ipc1"] == seeds["idc-A-run2-ipc2"] == [3]
    assert (seeds["idc-B-run1-ipc3"], seeds["idc-B-run2-ipc3"]) == ([0, 1, 2], [3, 4, 5])
    cells = {str(cell): cell for cell in study.cells}
    alone = SizesStudy("sizes", block_of(ipc=3, methods={"mdc": {}}), study.params, tiny.PARAMS)
    digests = [cell.digest("selection", "synthesis") for cell in alone.cells]
    assert digests == [cells[f"mdc-run1-ipc{n}"].digest("selection", "synthesis") for n in (1, 2, 3)]
    assert digests[0] != cells["mdc-run2-ipc1"].digest("selection", "synthesis")
    against = {"mdc-run1": "idc-A-run1", "mdc-run2": "idc-A-run1"}
    assert sizes.made_for_size(block) == against | {f"idc-B-run{k}": f"idc-A-run{k}" for k in (1, 2)}


def test_slimmed_sets_are_cells_of_the_whole_run() -> None:
    """At the ipc of the study they are the run itself; below, no two have equal digests, and none has that of C."""
    methods = {"idc": {"synthesis": {"method": "idc"}, "baselines": ["lbs", "lfs", "C"]}}
    study = SizesStudy("sizes", block_of(ipc=3, methods=methods), tiny.run_of("studies").params, tiny.PARAMS)
    cells = {str(cell): cell for cell in study.cells}
    names = [f"idc-{baseline}" for baseline in ("C", "lfs", "lbs")]
    assert list(cells) == [f"{name}-ipc{n}" for name in names for n in (1, 2, 3)]
    assert {name: cell.slimming for name, cell in cells.items() if cell.slimming} == {
        f"idc-{baseline}-ipc{n}": baseline for baseline in ("lfs", "lbs") for n in (1, 2)
    }
    digests = {name: cell.digest("selection", "synthesis") for name, cell in cells.items()}
    assert len({digests[f"{name}-ipc3"] for name in names}) == 1 and len(set(digests.values())) == 7
    assert {len(cell.runs) for cell in cells.values()} == {1}
    alone = SizesStudy("sizes", block_of(ipc=3, methods={"idc": {"synthesis": {"method": "idc"}}}), *parts_of(study))
    assert [cell.digest("selection", "synthesis") for cell in alone.cells] == [
        digests[f"idc-C-ipc{n}"] for n in (1, 2, 3)
    ], "other entries have the digests that they had"


def parts_of(study: SizesStudy) -> tuple[Any, Any]:
    return study.params, study.content


def test_training_components_needs_a_method_with_a_matching_loss() -> None:
    methods = {"x": {"synthesis": {"method": "edc"}, "baselines": ["lbs"]}}
    study = SizesStudy("sizes", block_of(methods=methods), tiny.run_of("studies").params, tiny.PARAMS)
    with pytest.raises(DataError) as error:
        _ = study.cells
    assert str(error.value) == (
        "studies/params.yaml: sizes, x: lbs trains with the loss of the method that made the set, but 'edc' does not "
        "match gradients or features; use lfs, or one of the methods mdc, idc, dream, dc, dsa, dm"
    )


def test_resources_are_those_of_table_2c() -> None:
    """R = (20, 210) for LBS and (1, 20) for LFS and MDC."""
    every = range(1, 21)
    found = {baseline: sizes.resources(baseline, every, 20) for baseline in (None, "A", "B", "C", "lfs", "lbs")}
    assert found == {
        **dict.fromkeys((None, "C", "lfs"), (1, 20)),
        "A": (20, 210),
        "B": (20, 20),
        "lbs": (20, 210),
    }
    assert sizes.resources("lbs", (2, 5), 10) == (3, 17), "the whole set is condensed, scored or not"
    assert sizes.resources("A", (2, 5), 10) == (2, 7)
    block = block_of(ipc=2, methods={"idc": {"baselines": ["C", "lbs"]}})
    summary = [{"entry": entry, "size": size} for entry in ("idc-C", "idc-lbs") for size in (1, 2, "average")]
    sizes.add_resources(summary, block)
    assert [(row["condensations"], row["stored"]) for row in summary] == [
        *[("", ""), ("", ""), (1, 2)],
        *[("", ""), ("", ""), (2, 3)],
    ]


IDC = {"method": "idc", "options": {"outer": 20, "factor": 1}}


def test_runs_may_start_from_the_images_of_the_first() -> None:
    """Also those that B joins, each from its own."""
    methods = {"idc": {"synthesis": IDC, "baselines": ["B", "C"], "runs": 2, "same_start": True}}
    study = SizesStudy("sizes", block_of(ipc=3, methods=methods), tiny.run_of("studies").params, tiny.PARAMS)
    starts = {str(cell): [run.start_seed for run in cell.runs] for cell in study.cells}
    assert starts["idc-C-run1-ipc3"] == [None], "its own seed"
    assert starts["idc-C-run2-ipc3"] == [0]
    assert (starts["idc-B-run1-ipc3"], starts["idc-B-run2-ipc3"]) == ([None] * 3, [0, 1, 2])
    digests = {cell.digest("selection", "synthesis") for cell in study.cells if cell.entry.run == 2}
    apart = {"idc": {**methods["idc"], "same_start": False}}
    other = SizesStudy("sizes", block_of(ipc=3, methods=apart), study.params, tiny.PARAMS)
    assert digests.isdisjoint(cell.digest("selection", "synthesis") for cell in other.cells)


def test_snapshots_are_entries_before_the_last_images() -> None:
    methods = {"idc": {"synthesis": IDC, "baselines": ["A", "C"], "runs": 2, "snapshots": [10, 0]}}
    block = block_of(ipc=2, methods=methods)
    runs = [[f"idc-C-loop0-run{k}", f"idc-C-loop10-run{k}", f"idc-C-run{k}"] for k in (1, 2)]
    assert [str(entry) for entry in sizes.entries(block)] == ["idc-A-run1", "idc-A-run2", *runs[0], *runs[1]]
    study = SizesStudy("sizes", block, tiny.run_of("studies").params, tiny.PARAMS)
    cells = {str(cell): cell for cell in study.cells}
    assert [run.keeps for run in cells["idc-A-run1-ipc2"].runs] == [(0, 10)], "which is the run of C"
    assert [run.keeps for run in cells["idc-A-run1-ipc1"].runs] == [()]
    digests = [cells[f"{name}-ipc{n}"].digest("selection") for name in runs[0] for n in (1, 2)]
    assert len(set(digests)) == 6
    assert sizes.made_for_size(block)["idc-C-loop0-run2"] == "idc-A-run2"
    rows = [
        {"entry": name, "size": "average", "seconds": k, "accuracy": k, "std": 0, "seeds": 3}
        for k, name in enumerate(["idc-A-run1", *runs[0]])
    ]
    found = sizes.by_loop(rows, list(sizes.entries(block)), {"idc": 20})
    assert [(row["entry"], row["loop"], row["seconds"]) for row in found] == [
        ("idc-C-run1", 0, 1),
        ("idc-C-run1", 10, 2),
        ("idc-C-run1", 20, 3),
    ]
    none = block_of(methods={"idc": {"synthesis": IDC}})
    assert sizes.by_loop(rows[:0], list(sizes.entries(none)), {"idc": 20}) == []


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (
            {"synthesis": IDC, "snapshots": [5, 20]},
            "snapshots has 20, but the run has 20 outer loops, whose end is scored anyway; give numbers from 0 to 19",
        ),
        (
            {"synthesis": {"method": "mdc", "options": {"base": "dm", "options": {"outer": 7}}}, "snapshots": [7]},
            "snapshots has 7, but the run has 7 outer loops, whose end is scored anyway; give numbers from 0 to 6",
        ),
        (
            {"synthesis": {"method": "edc"}, "snapshots": [0]},
            "snapshots are of outer loops, which synthesis method 'edc' has not; remove snapshots, or choose one of "
            "mdc, idc, dream, dc, dsa, dm, mtt",
        ),
        (
            {"synthesis": {"method": "mdc", "options": {"base": "mtt", "options": {"iterations": 9}}}}
            | {"snapshots": [9]},
            "snapshots has 9, but the run has 9 outer loops, whose end is scored anyway; give numbers from 0 to 8",
        ),
        (
            {"synthesis": IDC, "baselines": ["A", "B"], "snapshots": [0]},
            "snapshots are of the run at the whole size, but baselines is ['A', 'B']; add C, or remove snapshots",
        ),
    ],
)
def test_snapshots_that_no_run_makes_are_refused(method: dict[str, Any], sentence: str) -> None:
    study = SizesStudy("sizes", block_of(methods={"it": method}), tiny.run_of("studies").params, tiny.PARAMS)
    with pytest.raises(DataError) as error:
        _ = study.cells
    assert str(error.value) == f"studies/params.yaml: sizes, it: {sentence}"


def test_means_over_runs() -> None:
    """As in Table 6; a method with one run has no such row."""
    block = block_of(methods={"mdc": {"runs": 4}, "idc": {}}, ipc=1)
    found = (58.37, 58.73, 58.90, 59.55)
    summary = [{"entry": f"mdc-run{k}", "size": "average", "accuracy": a} for k, a in enumerate(found, 1)]
    summary.append({"entry": "idc", "size": "average", "accuracy": 53.15})
    [row] = sizes.summarise_runs(summary, list(sizes.entries(block)))
    mean, std = statistics.fmean(found), statistics.stdev(found)
    assert row == {"entry": "mdc", "size": "average", "accuracy": round(mean, 3), "std": round(std, 3), "runs": 4}
    assert sizes.summarise_runs(summary[-1:], list(sizes.entries(block))) == []


def test_sets_that_do_not_fit_are_not_joined() -> None:
    with pytest.raises(DataError) as error:
        sizes.joined([rounds(1), rounds(1, 3, grid=2)])
    assert str(error.value) == "sets to join differ in classes, grid or by; make them by one method from one source"
    with pytest.raises(DataError, match=r"^image set: ids repeat; "):
        sizes.joined([rounds(1), rounds(1)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": [1, 5]}, "sizes.sizes has [5], but sizes.ipc is 4; raise ipc or remove larger sizes"),
        (
            {"methods": {"idc": {"baselines": ["A", "A"]}}},
            "s.yaml: methods.idc.baselines is ['A', 'A']: 'A' is listed more than once; list each once",
        ),
        ({"seeds": [0, 1]}, "s.yaml: seeds is [0, 1]: give at least 3 entries"),
        (
            {"methods": {"idc": {"baselines": ["D"]}}},
            "s.yaml: methods.idc.baselines.0 is 'D': input should be 'A', 'B'",
        ),
        ({"sizes": [0]}, "s.yaml: sizes.0 is 0: input should be greater than or equal to 1"),
        (
            {"methods": {"idc": {"baseline": ["A"]}}},
            "s.yaml: unknown key 'methods.idc.baseline'; valid keys are selection, synthesis, softlabels, compression, "
            "evaluation, labels, baselines, runs, same_start, snapshots; did you mean 'baselines'?",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        block_of(**changes).check("sizes")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


# --- the summary, its table and its figure ---


def test_degradation_is_counted_from_the_runs_made_for_each_size() -> None:
    """Those of the same method if there are any, else the only ones in the study."""
    both = block_of(methods={"mdc": {}, "idc": {"baselines": ["C", "A"]}, "dream": {"baselines": ["C"]}})
    assert sizes.made_for_size(both) == {"mdc": "idc-A", "idc-C": "idc-A", "dream-C": "idc-A"}
    two = block_of(methods={"mdc": {}, "idc": {"baselines": ["A", "B"]}, "dream": {"baselines": ["A", "C"]}})
    assert sizes.made_for_size(two) == {"idc-B": "idc-A", "dream-C": "dream-A"}
    assert sizes.made_for_size(block_of(methods={"mdc": {}, "idc": {"baselines": ["C"]}})) == {}


def results_of(entries: tuple[str, ...], judged: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row an entry, size and seed of three, accuracies without a pattern."""
    chance = np.random.default_rng(7)
    return [
        {"entry": entry, "size": size, "seed": seed, "accuracy": float(chance.uniform(20, 90))}
        | {"image_bytes": 100 * size, "label_bytes": 7, "protocol": "score", "seconds": 1.5}
        for entry in entries
        for size in judged
        for seed in (0, 1, 5)
    ]


def test_the_summary_has_every_size_and_then_the_average() -> None:
    results = results_of(("mdc", "idc-A"), (1, 3))
    rows = sizes.summarise_sizes(results, {"mdc": 4.5, "idc-A": 9.0}, {"mdc": "idc-A"})
    assert [(row["entry"], row["size"]) for row in rows] == [
        (entry, size) for entry in ("mdc", "idc-A") for size in (1, 3, "average")
    ]
    assert list(rows[0]) == [
        *("entry", "size", "accuracy", "std", "seeds", "image_bytes", "label_bytes", "protocol", "seconds"),
        "degradation",
    ]
    for row in rows:
        own = [r for r in results if r["entry"] == row["entry"] and row["size"] in (r["size"], "average")]
        by_seed = [statistics.fmean(r["accuracy"] for r in own if r["seed"] == seed) for seed in (0, 1, 5)]
        assert row["accuracy"] == pytest.approx(statistics.fmean(by_seed), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(by_seed), abs=1e-3)
        assert row["seeds"] == 3
    assert (rows[1]["image_bytes"], rows[1]["seconds"]) == (300, 1.5)
    for own, made in zip(rows[:3], rows[3:], strict=True):
        assert own["degradation"] == pytest.approx(made["accuracy"] - own["accuracy"], abs=1e-3)
        assert made["degradation"] == "", "what is made for each size lacks nothing"
    assert (rows[5]["image_bytes"], rows[5]["label_bytes"], rows[5]["protocol"], rows[5]["seconds"]) == (
        *("", "", "score"),
        9.0,
    )


def test_the_table_has_a_column_a_size(tmp_path: Any) -> None:
    rows = sizes.summarise_sizes(results_of(("mdc", "idc-A"), (1, 3)), {"mdc": 4.5, "idc-A": 9.0}, {"mdc": "idc-A"})
    path = tmp_path / "summary.csv"
    tabular.write_csv(path, rows)
    shown = SizesStudy.table(path)
    assert [str(column.header) for column in shown.columns] == ["entry", "1", "3", "average", "degradation", "seconds"]
    assert str(shown.title) == "top-1 in percent, last epoch, mean ± std over 3 seeds\nscore"
    cells = [list(column.cells) for column in shown.columns]
    assert cells[0] == ["mdc", "idc-A"] and cells[5] == ["4.5", "9.0"]
    assert cells[4] == [f"{rows[2]['degradation']:.1f}", ""]
    assert cells[1] == [f"{row['accuracy']:.1f}" for row in rows if row["size"] == 1]
    assert cells[3] == [f"{row['accuracy']:.1f} ± {row['std']:.1f}" for row in rows if row["size"] == "average"]
    sizes.add_resources(rows, block_of(ipc=3, methods={"mdc": {}, "idc": {"baselines": ["A"]}}))
    tabular.write_csv(path, rows)
    *_, condensations, stored = [(str(column.header), list(column.cells)) for column in SizesStudy.table(path).columns]
    assert condensations == ("condensations", ["1", "3"]) and stored == ("stored", ["3", "6"])
    rows[0]["protocol"] = "edc/cifar10"
    tabular.write_csv(path, rows)
    assert str(SizesStudy.table(path).title).endswith("\nprotocols differ: see summary.csv")
    rows[0]["protocol"] = "idc/cifar10; best of 4 tests on test"
    tabular.write_csv(path, rows)
    assert "percent, last epoch, or the best of several tests where the protocol says so, mean" in str(
        SizesStudy.table(path).title
    )


def test_the_figure_has_one_line_per_entry() -> None:
    rows = sizes.summarise_sizes(
        results_of(("mdc", "idc-A", "idc-C"), (1, 3, 4)), dict.fromkeys(("mdc", "idc-A", "idc-C"), 1), {}
    )
    for row in rows:
        row["baseline"] = row["entry"].partition("-")[2]
    figure = figures.sizes(rows, "test", "conditions")
    [panel] = figure.axes
    drawn = {container.get_label().split(":")[0]: container for container in panel.containers}
    assert list(drawn) == ["mdc", "idc-A", "idc-C"]
    for name, container in drawn.items():
        *own, average = [row for row in rows if row["entry"] == name]
        line = container.lines[0]
        assert line.get_xdata().tolist() == [1, 3, 4]
        assert line.get_ydata().tolist() == [row["accuracy"] for row in own]
        assert line.get_linestyle() == ("-" if name == "mdc" else "--")
        assert container.get_label() == f"{name}: {average['accuracy']:.1f} on average"
    assert all(tick == int(tick) for tick in panel.get_xticks())
    assert panel.get_ylabel() == "top-1 accuracy on test (%)"
    assert figures.png(figure).startswith(b"\x89PNG")
