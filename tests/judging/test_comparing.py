"""Comparisons: differences in pairs of seeds, and their p-values against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judgements import judgement, row
from scipy import stats

from dcpipe.judging import comparing
from dcpipe.types import DataError

A = judgement(row("own", [70.0, 72.0, 71.0]), what="a")
B = judgement(row("own", [73.0, 74.5, 73.0]), row("random", [60.0, 61.0, 63.0]), what="b")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=8))
def test_p_values_are_those_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    found = comparing.p_value(second - first)
    if (second == first).all():
        assert found is None
    elif np.std(second - first) > 1e-6:
        assert found == pytest.approx(stats.ttest_rel(second, first).pvalue, abs=1e-9)


def test_only_seeds_that_both_have_are_compared() -> None:
    first = row("own", [70.0, 72.0, 71.0], seeds=[0, 1, 2])
    assert comparing.paired(first, row("own", [80.0, 90.0], seeds=[2, 5])) == comparing.Paired(9.0, None, 1)
    assert comparing.paired(first, row("own", [80.0], seeds=[7])) is None


def test_every_row_is_compared_with_the_first_set() -> None:
    lines = [line[:5] for line in comparing.lines({"a": A, "b": B}, "net")]
    p = stats.ttest_rel([73.0, 74.5, 73.0], [70.0, 72.0, 71.0]).pvalue
    assert lines[0] == ("a", "set, own", "71.0 ± 1.0", "", "")
    assert lines[1] == ("b", "set, own", "73.5 ± 0.9", "+2.5", f"{p:.3f}")
    assert lines[2][:4] == ("b", "set, random", "61.3 ± 1.5", "-9.7")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="compare needs two or more judgements"):
        comparing.check({"a": A})
    other = judgement(row("own", [1.0]), data=A.data.model_copy(update={"test": 10}))
    with pytest.raises(DataError, match="b was tested on 10 images of 10 classes, a on 359 of 10; judge both with the"):
        comparing.check({"a": A, "b": other})
    for changes, sentence in (
        (
            {"size": 16},
            "b was tested on images of 16 x 16 pixels, a on those of 8 x 8; judge both with the same --data",
        ),
        ({"test_digest": "2"}, "b was tested on other images than a: there are as many, but their pixels or their"),
    ):
        first = A.model_copy(update={"data": A.data.model_copy(update={"test_digest": "1"})})
        other = judgement(row("own", [1.0]), data=first.data.model_copy(update=changes))
        with pytest.raises(DataError) as error:
            comparing.check({"a": first, "b": other})
        assert sentence in str(error.value)
    with pytest.raises(DataError, match=r"no student in common \(net; resnet18\)"):
        comparing.shared_students([A, judgement(row("own", [1.0], "resnet18"))])
    comparing.check({"a": A, "b": B})
    assert comparing.shared_students([A, B]) == ["net"]


def test_what_is_unequal_is_told() -> None:
    longer = judgement(row("own", [1.0], protocol="rded/cifar10", epochs=300))
    told = " ".join(comparing.warnings({"a": A, "b": longer}, "net"))
    assert "protocols differ (a: score; b: rded/cifar10)" in told and "a 30, b 300" in told
    tested = A.data.model_copy(update={"digest": "0", "test_digest": "5"})
    first = judgement(row("own", [1.0]), data=tested)
    assert list(comparing.warnings({"a": first, "b": first}, "net")) == []
    other = judgement(row("own", [1.0]), data=tested.model_copy(update={"digest": "1"}))
    comparing.check({"a": first, "b": other})
    [note] = comparing.warnings({"a": first, "b": other}, "net")
    assert "rows of random and of all training images are not of the same images" in note
    earlier = judgement(row("own", [1.0]), data=tested.model_copy(update={"test_digest": ""}))
    comparing.check({"a": first, "b": earlier})
    [note] = comparing.warnings({"a": first, "b": earlier}, "net")
    assert note.startswith("Whether students were tested on the same images is not known, because an earlier version")
