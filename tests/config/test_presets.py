"""Presets by name: all are valid, none is missing, a list of them fits a screen, and a wrong name gets a hint."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from loaded import built, load, note
from rich.console import Console

from dcpipe.config import presets
from dcpipe.config.presets.composing import families
from dcpipe.types import DataError

OWN = {
    "digits",
    "digits-edc",
    "digits-mdc",
    "digits-mtt",
    "cifar10-small",
    "cifar10-edc-small",
    "tiny-imagenet-50-small",
} | {"cifar10-pretrained-small"}


def test_the_default_comes_first_and_numbers_are_in_order() -> None:
    assert set(families()["ours"].rows) == OWN
    assert presets.names()[0] == "digits"
    edc = [name for name in presets.names() if name.startswith("cifar10-edc-ipc")]
    assert edc == ["cifar10-edc-ipc1", "cifar10-edc-ipc10", "cifar10-edc-ipc50"]


@pytest.mark.parametrize("name", presets.names())
def test_is_valid(name: str) -> None:
    content = load(name)
    limits = content.compression.ratio, content.compression.bytes_per_image
    assert (limits == (None, None)) == (content.compression.codec == "none")
    assert (content.compression.codec == "none") == (content.softlabels.method == "none")
    size = content.images.size
    for network in (content.evaluation.student, *(t.network for t in content.teacher.networks.values())):
        built(network, size)


def test_release_names_are_distinct() -> None:
    released = [load(name).release.name for name in presets.names()]
    assert len(set(released)) == len(released)


@pytest.mark.parametrize("name", presets.names())
def test_source_accuracy_and_cost_are_stated(name: str) -> None:
    stated = presets.preset(name).notes
    assert list(stated)[:3] == ["source", "published", "cost"] and all(stated.values())


UNKNOWN = {
    "digit": "did you mean digits, digits-edc, digits-mdc or digits-mtt? `dcpipe init --list` shows all 75",
    "tiny-imagenet-ipc1": "did you mean tiny-imagenet-ipc10? `dcpipe init --list` shows all 75",
    "cifar10-mcd-ipc10": "did you mean cifar10-mdc-ipc10, cifar100-mdc-ipc10 or cifar10-dc-ipc10? `dcpipe init --list` "
    "shows all 75",
    "": "`dcpipe init --list` shows all 75",
    "zzz": "`dcpipe init --list` shows all 75",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_preset_is_refused_with_those_most_like_it(name: str) -> None:
    with pytest.raises(DataError) as error:
        presets.text(name)
    assert str(error.value) == f"unknown preset {name!r}; {UNKNOWN[name]}"


def listed(word: str = "") -> list[str]:
    shown = StringIO()
    Console(file=shown, width=presets.WIDTH).print(presets.listing(word))
    return [line.rstrip() for line in shown.getvalue().splitlines()]


def test_the_list_has_a_line_for_each_preset_and_fits_a_screen() -> None:
    lines = listed()
    assert [line.split()[0] for line in lines] == ["preset", *presets.names()]
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines)
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert re.split(r"  +", rows["imagenette-ipc1"]) == ["SCORE, suppl. Table 2", "10 x 1", "29.5 ± 0.7", "8 min, GPU"]
    assert re.split(r"  +", rows["svhn-mdc-ipc50"]) == ["MDC, Table 1b", "10 x 50", "76.47 average", "28 + 3.5 h, GPU"]
    assert re.split(r"  +", rows["digits"]) == ["none", "10 x 10", "none", "2 min, CPU"]


@pytest.mark.parametrize("name", presets.names())
def test_the_list_has_the_published_figure_and_the_cost_of_the_notes(name: str) -> None:
    columns, published, cost = presets.preset(name).listed, note(name, "published"), note(name, "cost")
    assert columns["published"].removesuffix(" average") in published
    if "GPU" in columns["cost"]:
        assert all(f"{number} " in cost for number in re.findall(r"[\d.]+", columns["cost"]))


@pytest.mark.parametrize(("word", "number"), [("edc", 17), ("SCORE", 14), ("svhn", 4), ("Tiny-ImageNet", 6)])
def test_a_word_chooses_what_is_listed(word: str, number: int) -> None:
    assert len(listed(word)) == number + 1


def test_a_word_that_no_preset_has_is_refused() -> None:
    with pytest.raises(DataError) as error:
        presets.listing("mnist")
    wanted = "no preset has 'mnist' in its name, paper or set; `dcpipe init --list` shows all"
    assert str(error.value) == wanted
