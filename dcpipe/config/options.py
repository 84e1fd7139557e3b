"""Options of methods in params.yaml, derived from the signatures of the methods.

The options of a method are its keyword-only arguments (or the fields of a dataclass), with types and ranges from the
annotations and values from the defaults. `Options.of` makes a pydantic model of them. `validated` makes a function
refuse the same values when it is called from Python.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial, wraps
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, ValidationError, create_model

from dcpipe.config.blocks import Block, remedy, said
from dcpipe.config.registry import Registry
from dcpipe.config.values import OptionsOf, Role
from dcpipe.types import DataError, require

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Rule = Callable[..., None]  # takes all options of a method by name; raises `DataError` if they contradict each other


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """The options of one method: their types, the defaults of optional ones, rules between options, and hidden names,
    which may not be given here."""

    hints: Mapping[str, Any]
    defaults: Mapping[str, Any]
    model: type[Block]
    rules: tuple[Rule, ...] = ()
    hidden: tuple[str, ...] = ()

    @staticmethod
    @cache
    def of(method: Callable[..., Any]) -> Options:
        """The options of a function, of a codec (those of its `plan`), or of a dataclass (its fields)."""
        taker = getattr(method, "plan", method)
        parameters = inspect.signature(taker).parameters.values()
        mine = [p for p in parameters if p.kind is p.KEYWORD_ONLY or dataclasses.is_dataclass(taker)]
        hints = _hints(taker, mine)
        defaults = {p.name: p.default for p in mine if p.default is not p.empty}
        # By alias, because an option may have a name that pydantic models use themselves.
        fields: dict[str, Any] = {
            f"option_{name}": (hint, Field(defaults.get(name, ...), alias=name)) for name, hint in hints.items()
        }
        model = create_model("Options", __base__=Block, **fields)
        return Options(hints, defaults, model, getattr(taker, "option_rules", ()))

    @property
    def names(self) -> list[str]:
        """The names that may be given."""
        return [name for name in self.hints if name not in self.hidden]

    def resolve(self, given: Mapping[str, Any], who: str, place: str = "", prefix: str = "") -> dict[str, Any]:
        """The given options and the defaults of the others, including nested options.

        Raises `DataError` for an unknown, missing, mistyped or out-of-range option, and for options that contradict
        each other. In its messages, `who` names the method, `place` is the key of params.yaml ("" in a call from
        Python), and `prefix` comes before the name of a nested option.
        """
        prefix = prefix or (f"{place}." if place else f"{who}: ")
        self._check_names(given, who, place)
        try:
            self.model.model_validate(dict(given))
        except ValidationError as error:
            raise DataError(self._sentence(error, given, prefix)) from error
        resolved = {**self.defaults, **given}
        for nested in self._nested(resolved):
            inner, where = f"{nested.who} of {who}", f"{place}.{nested.key}" if place else ""
            resolved[nested.key] = nested.options.resolve(nested.given, inner, where, f"{prefix}{nested.key}.")
        for rule in self.rules:
            try:
                rule(**resolved)
            except DataError as error:
                raise DataError(f"{place or who}: {error}") from error
        return {name: resolved[name] for name in self.names}

    def with_role(
        self, resolved: Mapping[str, Any], role: Literal["network", "teachers", "grid", "model"]
    ) -> Iterator[tuple[str, Any]]:
        """Key and value of each resolved option, including nested ones, that has this `values.Role`."""
        for key in self.names:
            if resolved[key] is not None and any(mark == Role(role) for mark in _marks(self.hints[key])):
                yield key, resolved[key]
        for nested in self._nested(resolved):
            for key, value in nested.options.with_role(nested.given, role):
                yield f"{nested.key}.{key}", value

    def _nested(self, resolved: Mapping[str, Any]) -> Iterator[_Nested]:
        """The options whose values are mappings of options."""
        for key in self.names:
            given = resolved[key]
            mark = next((mark for mark in _marks(self.hints[key]) if isinstance(mark, OptionsOf)), None)
            if mark is not None and (given is not None or mark.none_is_empty):
                who, method = mark.find(resolved)
                yield _Nested(key, who, dataclasses.replace(Options.of(method), hidden=mark.without), given or {})

    def _check_names(self, given: Mapping[str, Any], who: str, place: str) -> None:
        at, names = f"{place}: " if place else "", self.names
        for key in given:
            require(bool(names), f"{at}{who} takes no options; remove {key!r}")
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            require(key in names, f"{at}{who} has no option {key!r}; its options are {', '.join(names)}{hint}")
        for key in names:
            require(key in given or key in self.defaults, f"{at}{who} needs option {key!r}; add it")

    def _sentence(self, error: ValidationError, given: Mapping[str, Any], prefix: str) -> str:
        """A description of the first problem. If an option may have several types, it lists what each of them
        expects."""
        first, *others = error.errors()
        key = str(first["loc"][0])
        several = len([kind for kind in get_args(self.hints[key]) if kind is not type(None)]) > 1 and get_origin(
            self.hints[key]
        ) in (Union, types.UnionType)
        place = key if several else ".".join(str(part) for part in first["loc"])
        value = given[key] if several else first["input"]
        messages = [first, *(other for other in others if several and other["loc"][0] == key)]
        wanted = " or ".join(dict.fromkeys(said(message) for message in messages))
        return f"{prefix}{place} is {value!r}: {wanted}{remedy(value)}"


@dataclasses.dataclass(frozen=True, eq=False)
class _Nested:
    """An option `key` whose value `given` is a mapping of `options`, which belong to the method `who`."""

    key: str
    who: str
    options: Options
    given: Mapping[str, Any]


def _hints(taker: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """The annotations of some parameters, evaluated in the module of the function. Other annotations are not evaluated,
    because they may contain names that exist only for a type checker."""
    inside = inspect.unwrap(taker, stop=lambda layer: isinstance(layer, partial))
    module = inspect.getmodule(inside.func if isinstance(inside, partial) else inside)
    written = {p.name: Any if p.annotation is p.empty else p.annotation for p in parameters}
    holder = types.SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, globalns=vars(module) if module else {}, include_extras=True)


def _marks(hint: Any) -> Iterator[Any]:
    """All metadata of `Annotated` anywhere in a type."""
    yield from getattr(hint, "__metadata__", ())
    for part in get_args(hint):
        yield from _marks(part)


def check_options(table: Registry[Any], name: str, given: Mapping[str, Any]) -> None:
    """Raises `DataError` for a name that is not in the registry, and for invalid options of the method that it
    names."""
    Options.of(table[name]).resolve(given, f"{table.kind} {name!r}")


def validated(who: str, *rules: Rule) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator that makes a function refuse the options that are invalid in params.yaml too.

    Its error messages call the function `who`. `rules` refuse options that contradict each other.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def call(*arguments: Arguments.args, **given: Arguments.kwargs) -> Result:
            Options.of(call).resolve(given, who)
            return function(*arguments, **given)

        vars(call)["option_rules"] = rules
        return call

    return decorate


def variant(who: str, base: Callable[Arguments, Result], **defaults: Any) -> Callable[Arguments, Result]:
    """The method `base` with other defaults; signature, options and rules are derived from those of `base`."""
    changed = partial(inspect.unwrap(base), **defaults)
    method = validated(who, *getattr(base, "option_rules", ()))(changed)
    values = ", ".join(f"{name}={value!r}" for name, value in defaults.items())
    method.__doc__ = f"As `{base.__name__}`, with {values} by default.\n\n    {base.__doc__}"
    return method


def takes_fields_of(kind: type) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator for a function whose last parameter is `**others`. It replaces this parameter in the signature by the
    fields of the dataclass `kind`, with their types and defaults."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)
        *named, others = signature.parameters.values()
        assert others.kind is others.VAR_KEYWORD
        hints = get_type_hints(kind, include_extras=True)
        fields = [
            inspect.Parameter(field.name, others.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            for field in dataclasses.fields(kind)
        ]
        vars(function)["__signature__"] = signature.replace(parameters=[*named, *fields])
        return function

    return decorate
