"""Options: a method's signature is what params.yaml may say to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from dcpipe.compression import CODECS
from dcpipe.config.options import Options, check_options, takes_fields_of, validated, variant
from dcpipe.config.registry import Registry
from dcpipe.config.values import Count, GridSide, Network, OptionsOf, Positive, TeacherNames
from dcpipe.images import SOURCES
from dcpipe.selection import SELECTORS
from dcpipe.synthesis import METHODS
from dcpipe.types import DataError, require

if TYPE_CHECKING:
    from nowhere import Nothing

OWN = [(table, name) for table in (SOURCES, SELECTORS, METHODS, CODECS) for name in table.builtin]


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as error:
        call()
    return str(error.value)


def _ordered(*, low: float, high: float, **others: Any) -> None:
    require(low <= high, f"low {low} is above high {high}; swap them")


@validated("method 'plain'", _ordered)
def plain(images: Nothing, seed: int = 0, *, low: Positive, high: float = 5.0, kind: Literal["a", "b"] = "a") -> Any:
    """Options with and without defaults, and a type that exists for a type checker alone."""
    return images, seed, low, high, kind


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"low": 0}, "low is 0: input should be greater than 0"),
        ({"low": "1e-3"}, "low is '1e-3': input should be a valid number; YAML needs a point, as in 1.0e-3"),
        ({"low": 1, "kind": "c"}, "kind is 'c': input should be 'a' or 'b'"),
        ({"low": 6}, "low 6 is above high 5.0; swap them"),
    ],
)
def test_a_call_is_refused_what_params_yaml_is(given: dict[str, Any], sentence: str) -> None:
    assert refusal(lambda: plain(1, **given)) == f"method 'plain': {sentence}"
    by_place = refusal(lambda: Options.of(plain).resolve(given, "method 'plain'", "block.options"))
    assert by_place == (f"block.options: {sentence}" if "above" in sentence else f"block.options.{sentence}")


def test_what_is_given_reaches_the_method_as_it_is() -> None:
    assert plain(1, 2, low=3, kind="b") == (1, 2, 3, 5.0, "b")
    assert type(plain(1, low=3)[2]) is int
    assert Options.of(plain).resolve({"low": 3}, "it") == {"low": 3, "high": 5.0, "kind": "a"}


def test_names_are_checked_first() -> None:
    for place, at in (("", ""), ("block.options", "block.options: ")):

        def said(given: dict[str, Any], place: str = place) -> str:
            return refusal(lambda: Options.of(plain).resolve(given, "method 'plain'", place))

        assert said({"hihg": 1}) == (
            f"{at}method 'plain' has no option 'hihg'; its options are low, high, kind; did you mean 'high'?"
        )
        assert said({"seed": 1}) == f"{at}method 'plain' has no option 'seed'; its options are low, high, kind"
        assert said({"high": 1}) == f"{at}method 'plain' needs option 'low'; add it"
    assert refusal(lambda: check_options(SELECTORS, "random", {"alpha": 1})) == (
        "selector 'random' takes no options; remove 'alpha'"
    )
    assert refusal(lambda: check_options(SELECTORS, "rnadom", {})).startswith(
        "unknown selector 'rnadom'; choose one of"
    )


def several(*, both: Annotated[float, "ignored"] | Literal["fitted"] = 1.0, names: list[str] | None = None) -> None:
    """Types that are one of several."""


def test_of_several_types_each_says_what_it_wants() -> None:
    options = Options.of(several)
    assert refusal(lambda: options.resolve({"both": "best"}, "it")) == (
        "it: both is 'best': input should be a valid number or input should be 'fitted'"
    )
    assert refusal(lambda: options.resolve({"names": ["a", 3]}, "it")) == (
        "it: names.1 is 3: input should be a valid string"
    )
    assert refusal(lambda: options.resolve({"names": "a"}, "it")) == "it: names is 'a': input should be a valid list"


def free(*, json, copy: str = "x", model_config: int = 1) -> None:
    """Names that pydantic's models use themselves, and one without a type."""


def test_options_may_have_any_name() -> None:
    assert Options.of(free).resolve({"json": object, "copy": "y"}, "it") == {
        "json": object,
        "copy": "y",
        "model_config": 1,
    }
    assert refusal(lambda: Options.of(free).resolve({"json": 1, "copy": 2}, "it")) == (
        "it: copy is 2: input should be a valid string"
    )


# --- options inside options ---


@dataclass(frozen=True)
class Inner:
    """Fields as options."""

    size: Count = 2
    network: Network = "small"


def base(
    start: int, *, lr: Positive = 0.1, side: GridSide = 3, inner: Any = None, who: TeacherNames | None = None
) -> Any:
    """What `outer` builds on."""


BASES: dict[str, Callable[..., Any]] = {"base": base}
BaseOptions = Annotated[
    dict[str, Any] | None,
    OptionsOf(lambda given: (f"base {given['name']!r}", BASES[given["name"]]), without=("inner",), none_is_empty=True),
]
InnerOptions = Annotated[dict[str, Any] | None, OptionsOf(lambda given: ("its inner part", Inner))]


def outer(*, name: Literal["base"] = "base", options: BaseOptions = None, inner: InnerOptions = None) -> None:
    """Two options that are mappings of options: of a method that another names, and of a dataclass."""


def test_nested_options_are_filled_and_checked() -> None:
    options = Options.of(outer)
    filled = {"lr": 0.1, "side": 3, "who": None}
    assert options.resolve({}, "outer") == {"name": "base", "options": filled, "inner": None}
    assert options.resolve({"options": {"lr": 2}, "inner": {"size": 5}}, "outer") == {
        "name": "base",
        "options": filled | {"lr": 2},
        "inner": {"size": 5, "network": "small"},
    }
    for given, sentence in (
        ({"options": {"inner": {}}}, "base 'base' of outer has no option 'inner'; its options are lr, side, who"),
        ({"options": {"lr": 0}}, "outer: options.lr is 0: input should be greater than 0"),
        ({"inner": {"size": 0}}, "outer: inner.size is 0: input should be greater than or equal to 1"),
        (
            {"inner": {"sise": 1}},
            "its inner part of outer has no option 'sise'; its options are size, network; did you ",
        ),
    ):
        assert refusal(lambda given=given: options.resolve(given, "outer")).startswith(sentence)
    assert refusal(lambda: options.resolve({"options": {"lr": 0}}, "outer", "a.b")) == (
        "a.b.options.lr is 0: input should be greater than 0"
    )
    assert refusal(lambda: options.resolve({"inner": {"x": 0}}, "outer", "a.b")).startswith(
        "a.b.inner: its inner part of outer has no option 'x'"
    )


def test_options_say_what_they_name() -> None:
    options = Options.of(outer)
    values = options.resolve({"options": {"who": ["t"]}, "inner": {}}, "outer")
    assert list(options.with_role(values, "network")) == [("inner.network", "small")]
    assert list(options.with_role(values, "teachers")) == [("options.who", ["t"])]
    assert list(options.with_role(values, "grid")) == [("options.side", 3)]
    assert list(options.with_role(options.resolve({}, "outer"), "teachers")) == []


# --- methods made of others ---


def test_a_variant_is_its_base_with_other_defaults() -> None:
    other = variant("method 'other'", plain, low=1.5, kind="b")
    assert other(7) == (7, 0, 1.5, 5.0, "b") and other(7, low=2, kind="a") == (7, 0, 2, 5.0, "a")
    assert Options.of(other).defaults == {"low": 1.5, "high": 5.0, "kind": "b"}
    assert refusal(lambda: other(7, low=6)) == "method 'other': low 6 is above high 5.0; swap them"
    assert (
        refusal(lambda: other(7, high=float("inf"))) == "method 'other': high is inf: input should be a finite number"
    )
    assert "low=1.5" in (other.__doc__ or "") and "exists for a type checker alone" in (other.__doc__ or "")


def test_a_function_may_take_the_fields_of_a_dataclass() -> None:
    @validated("it")
    @takes_fields_of(Inner)
    def taking(seed: int, *, name: str = "x", **rest: Any) -> Mapping[str, Any]:
        return rest

    assert list(inspect.signature(taking).parameters) == ["seed", "name", "size", "network"]
    assert taking(1, size=4) == {"size": 4}
    assert refusal(lambda: taking(1, size=0)) == "it: size is 0: input should be greater than or equal to 1"
    assert refusal(lambda: taking(1, sizes=0)).startswith(
        "it has no option 'sizes'; its options are name, size, network"
    )


# --- dcpipe's own ---


def hints(table: Registry[Any], name: str) -> Options:
    return Options.of(table[name])


@pytest.mark.parametrize(("table", "name"), OWN, ids=lambda part: getattr(part, "kind", part))
def test_every_default_is_a_valid_value_and_every_option_has_a_type(table: Registry[Any], name: str) -> None:
    options = hints(table, name)
    needed = {key: "x" for key in options.hints if key not in options.defaults}
    resolved = options.resolve(needed, name)
    assert set(resolved) == set(options.hints)
    assert all(hint is not Any for hint in options.hints.values())
    again = options.resolve(resolved, name)
    assert again == resolved, "the filled-in values are valid again"


@pytest.mark.parametrize(("table", "name"), OWN, ids=lambda part: getattr(part, "kind", part))
def test_every_method_with_options_refuses_text_for_a_number(table: Registry[Any], name: str) -> None:
    """Called as it is, not through params.yaml."""
    thing = table[name]
    numbers = [key for key, value in Options.of(thing).defaults.items() if type(value) in (int, float)]
    arguments = [None] * len(table.arguments)
    needed = {key: "x" for key in Options.of(thing).hints if key not in Options.of(thing).defaults}
    for key in numbers:
        sentence = refusal(lambda key=key: getattr(thing, "plan", thing)(*arguments, **needed, **{key: "1e-3"}))
        assert sentence.startswith(f"{table.kind} {name!r}: {key} is '1e-3': input should be ")
