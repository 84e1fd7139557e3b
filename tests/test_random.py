"""Random numbers: the generator is NumPy's Philox, and every stream has an entry."""

from __future__ import annotations

import ast
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of, pool_of_vectors

from dcpipe.random import (
    Allocation,
    Draw,
    Row,
    Stream,
    matcher_seed,
    permutation,
    philox,
    real_images_seed,
    uniform,
    words_from,
)
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.gradmatch import gradmatch
from dcpipe.selection.k_center import k_center
from dcpipe.selection.random import random
from dcpipe.synthesis.mosaics import Search, draw_candidates

GOLDEN = json.loads((Path(__file__).parent / "golden" / "views.json").read_text(encoding="utf-8"))
WORD = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**64 - 1), view=WORD, image=WORD, draw=st.integers(0, 12))
def test_words_are_numpys_philox(seed: int, view: int, image: int, draw: int) -> None:
    # NumPy adds one to its 256-bit counter before use: start one below (draw, 0, image, 0), with borrow.
    counter = (draw + (image << 128) - 1) % 2**256
    limbs = [(counter >> (64 * limb)) % 2**64 for limb in range(4)]
    reference = np.random.Philox(key=np.array([seed, view], np.uint64), counter=np.array(limbs, np.uint64))
    assert philox(seed, view, draw, image).tolist() == reference.random_raw(4).tolist()


def test_words_broadcast_over_views_and_images() -> None:
    table = philox(5, np.arange(3)[:, None], 2, np.arange(4))
    assert table.shape == (3, 4, 4)
    assert table[2, 1].tolist() == philox(5, 2, 2, 1).tolist()


def test_uniform_is_the_top_53_bits() -> None:
    words = np.array([0, 2**11 - 1, 2**11, 2**63, 2**64 - 1], dtype=np.uint64)
    assert uniform(words).tolist() == [0.0, 0.0, 2.0**-53, 0.5, 1 - 2.0**-53]


@settings(deadline=None, max_examples=40)
@given(seed=WORD, stream=WORD, n=st.integers(0, 300))
def test_permutation_is_a_bijection(seed: int, stream: int, n: int) -> None:
    order = permutation(seed, stream, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_differ_by_seed_and_stream() -> None:
    orders = [tuple(permutation(seed, stream, 20).tolist()) for seed in range(5) for stream in range(5)]
    assert len(set(orders)) == 25
    assert tuple(range(20)) not in orders


def test_golden_words_and_orders() -> None:
    words = philox(7, np.array(GOLDEN["views"]), 3, np.array(GOLDEN["ids"]))
    assert [[int(word) for word in row] for row in words] == GOLDEN["words"]
    for name, order in GOLDEN["permutation"].items():
        seed, stream = map(int, name.split())
        assert permutation(seed, stream, 12).tolist() == order


# --- streams ---

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(path for top in ("dcpipe", "flows") for path in (ROOT / top).rglob("*.py"))
HOME = ROOT / "dcpipe" / "random.py"
EVERY = [entry for kind in (Draw, Stream, Row) for entry in kind]
SIZES = [129] * 10  # about the digits' classes


def overlap(one: Allocation, other: Allocation) -> bool:
    return max(one.numbers.start, other.numbers.start) < min(one.numbers.stop, other.numbers.stop)


@pytest.mark.parametrize("kind", [Draw, Stream, Row])
def test_entries_that_share_numbers_say_why_and_no_others_share(kind: type[Allocation]) -> None:
    shared = set()
    for one, other in combinations(kind, 2):
        if overlap(one, other):
            assert one.shared or other.shared, f"{one!r} and {other!r} have numbers in common; move one, or say why"
            shared |= {one, other}
    assert {entry for entry in kind if entry.shared} <= shared, "a reason for sharing stands where nothing is shared"


def test_numbers_of_a_range_follow_its_first() -> None:
    assert list(Draw.SIAMESE.numbers) == [320, 321, 322] and Draw.SIAMESE + 1 == 321
    assert all(entry.count >= 1 for entry in EVERY)


def test_entries_stay_where_they_are() -> None:
    """Coresets, packs and views of earlier versions were drawn with these; new entries are added, none is changed."""
    assert {entry.name: (int(entry), entry.count) for entry in Draw} == {
        "CROP": (0, 10),
        "FLIP": (10, 1),
        "MIX": (11, 1),
        "RANDAUGMENT": (32, 16),
        "PATCHES": (256, 64),
        "SIAMESE": (320, 3),
        "PERMUTATION": (12, 1),
        "RDED_CANDIDATES": (13, 1),
        "K_CENTER_START": (14, 1),
        "GRADMATCH_FILL": (15, 1),
        "POOL": (16, 1),
        "RSVD": (17, 1),
        "CUR": (18, 1),
        "RECOVERY_SHIFT": (101, 1),
        "RECOVERY_DROP": (102, 1),
        "CUTMIX": (340, 1),
        "CENTROIDS": (500, 1),
        "SUBSET_TEST": (1000, 1),
        "EXPERT": (1001, 1),
        "SEGMENT": (1002, 1),
        "PROTOTYPES": (1006, 1),
        "DENOISING": (1007, 1),
        "NOISE": (1024, 2**62),
        "BADGE": (0, 2**32),
        "PURSUIT": (0, 1),
    }
    first = {entry.name: int(entry) for entry in Stream if entry}
    assert first == {"MATCHED": 2**33, "MINIVAL": 2**48, "TEST": 2**48 + 1}
    assert (int(Row.IMAGE), int(Row.CLASS)) == (0, 2**33)


def test_seeds_made_of_others_differ_from_them() -> None:
    made = [real_images_seed(seed, label) for seed in (0, 1, 2) for label in range(1000)]
    assert len({*made, 0, 1, 2}) == len(made) + 3
    assert [matcher_seed(seed) for seed in (0, 1, 6)] == [1, 0, 7]


def test_a_row_of_words_is_that_of_one_draw_after_the_other() -> None:
    expected = [philox(3, 0, Draw.NOISE + k, 5) for k in range(3)]
    assert words_from(3, Draw.NOISE, 5, 10).tolist() == np.concatenate(expected)[:10].tolist()


# What `random` picks is compared with what these make, so it must not be part of them.


def random_picks(ipc: int) -> list[list[int]]:
    """Places within each class."""
    rows = random(pool_of_vectors(np.zeros((sum(SIZES), 2)), SIZES), ipc, 0, Progress()).rows.reshape(ipc, -1)
    return (rows - np.cumsum([0, *SIZES[:-1]])).T.tolist()


def test_random_picks_are_among_rdeds_candidates_no_oftener_than_by_chance() -> None:
    labels = np.repeat(np.arange(len(SIZES)), SIZES)
    chosen = draw_candidates(labels, np.full(len(SIZES), True), Search(seed=0, candidates=100)).reshape(len(SIZES), -1)
    among = [chosen[label, places].sum() for label, places in enumerate(random_picks(10))]
    assert chosen.sum(1).tolist() == [100] * 10
    assert min(among) < 10, "all of random's picks are candidates"
    assert abs(sum(among) - 100 * 100 / 129) < 4 * np.sqrt(100 * 100 / 129 * 29 / 129)


def test_a_random_start_of_k_center_is_not_what_random_picks_first() -> None:
    pool = pool_of_vectors(np.random.default_rng(0).normal(size=(sum(SIZES), 3)), SIZES)
    rows = k_center(pool, 1, 0, Progress(), start="random").rows - np.cumsum([0, *SIZES[:-1]])
    same = [start == picks[0] for start, picks in zip(rows.tolist(), random_picks(1), strict=True)]
    assert sum(same) <= 1


def test_gradmatch_does_not_fill_up_with_what_random_picks() -> None:
    n, c = sum(SIZES), len(SIZES)
    sure = np.where(np.repeat(np.arange(c), SIZES)[:, None] == np.arange(c), 900.0, -900.0)  # all gradients are 0
    pool: Candidates = pool_of(np.ones((n, 2)), sure, SIZES)
    rows = gradmatch(pool, 5, 0, Progress()).rows.reshape(5, -1) - np.cumsum([0, *SIZES[:-1]])
    assert not any(filled == picks for filled, picks in zip(rows.T.tolist(), random_picks(5), strict=True))
    shared = sum(len({*filled} & {*picks}) for filled, picks in zip(rows.T.tolist(), random_picks(5), strict=True))
    assert shared <= 8, "about 2 of 50 by chance"


# No number of a stream or draw stands anywhere but in dcpipe/random.py.


def names_in(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def traced(tree: ast.Module, enum: str) -> set[str]:
    """The enum, and every name that a module makes from it: assigned, looped over or annotated."""
    known = {enum}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and enum in names_in(node.value):
            known |= {name for target in node.targets for name in names_in(target)}
        elif isinstance(node, ast.For | ast.comprehension) and enum in names_in(node.iter):
            known |= names_in(node.target)
        elif isinstance(node, ast.arg) and node.annotation and enum in names_in(node.annotation):
            known.add(node.arg)
    return known


def handed(tree: ast.Module) -> set[str]:
    """Parameters of lambdas, and of functions where they are called `draw`: the caller gives the number."""
    parameters = {arg.arg for node in ast.walk(tree) if isinstance(node, ast.Lambda) for arg in node.args.args}
    return parameters | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == "draw"}


def argument(call: ast.Call, place: int, name: str) -> set[str]:
    """Names in an argument of a call, given by place or by name."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return {found for node in named or call.args[place : place + 1] for found in names_in(node)}


def has_no_entry(call: ast.Call, draws: set[str], streams: set[str]) -> bool:
    """Whether a call draws by a number that no enum gave, or seeds torch's generator with a number made on the spot."""
    match ast.unparse(call.func).rpartition(".")[2]:
        case "philox":
            return not draws & argument(call, 2, "draw")
        case "words_from":
            return not draws & argument(call, 1, "draw")
        case "permutation":
            return not (draws & argument(call, 3, "draw") or streams & argument(call, 1, "stream"))
        case "manual_seed":
            return any(isinstance(arg, ast.BinOp) for arg in call.args)
        case _:
            return False


def is_numbering(sum_: ast.BinOp) -> bool:
    """Powers of two from 2**32 on, and seeds made of others."""
    if isinstance(sum_.op, ast.BitXor):
        return "seed" in ast.unparse(sum_)
    exponent = sum_.right.value if isinstance(sum_.right, ast.Constant) else 0
    return isinstance(sum_.op, ast.Pow | ast.LShift) and isinstance(exponent, int) and exponent >= 32


def by_number(tree: ast.Module) -> list[str]:
    """What draws by a stream or draw that is in no enum, with its line."""
    draws, streams = traced(tree, "Draw") | handed(tree), traced(tree, "Stream")
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and has_no_entry(node, draws, streams))
        or (isinstance(node, ast.BinOp) and is_numbering(node))
    ]


def test_nothing_is_drawn_by_number() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CODE if path != HOME}
    store = ROOT / "dcpipe" / "store"  # its powers of two are limits of bytes, and it draws nothing
    silent = [path for path in trees if store in path.parents]
    assert silent and not any("dcpipe.random" in ast.unparse(trees.pop(path)) for path in silent)
    found = [f"{path.relative_to(ROOT)}, {line}" for path, tree in trees.items() for line in by_number(tree)]
    assert not found, f"{found}: give it an entry of Draw or Stream in dcpipe/random.py"


def test_every_entry_is_used() -> None:
    used = set()
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add((node.value.id, node.attr))
    unused = {(type(entry).__name__, entry.name) for entry in EVERY} - used
    assert unused == {("Row", "IMAGE")}, "images are rows 0, 1, ... as they come"


@pytest.mark.parametrize(
    "line",
    [
        "philox(seed, view, 7, image)",
        "philox(seed, view, _DRAW, image)",
        "philox(seed, view, draw=16, image=0)",
        "random.philox(seed, label, step, 0)",
        "words_from(seed, 1024, row, n)",
        "permutation(seed, label, n)",
        "permutation(seed, 2**20 + step, n)",
        "permutation(seed, label, n, draw=13)",
        "_STREAM = 2**33",
        "rows = 1 << 40",
        "torch.manual_seed(seed * 1_000_003 + epoch)",
        "own = self.seed ^ 1",
    ],
)
def test_a_number_is_found(line: str) -> None:
    assert by_number(ast.parse(line))


@pytest.mark.parametrize(
    "code",
    [
        "philox(seed, view, Draw.POOL, image)",
        "for attempt in Draw.CROP.numbers:\n    philox(seed, view, attempt, image)",
        "permutation(seed, Stream.REAL_IMAGES + epoch, n)",
        "first = Stream.TABLE_PARTS + epoch\npermutation(seed, first + step, n)",
        "permutation(seed, label, n, draw=Draw.RDED_CANDIDATES)",
        "draw(policy, lambda number: philox(seed, views, number, ids))",
        "def cut(labels, seed, stream: Stream):\n    return permutation(seed, stream, n)",
        "torch.manual_seed(seed)\nBYTES = 2**20",
    ],
)
def test_an_entry_is_not(code: str) -> None:
    assert not by_number(ast.parse(code))


def test_orders_of_two_draws_differ() -> None:
    orders = [permutation(0, 3, 50, draw=draw).tolist() for draw in (Draw.PERMUTATION, 13, 14, 15)]
    assert orders[0] == permutation(0, 3, 50).tolist()
    assert len({tuple(order) for order in orders}) == 4
