"""Registries: names of code that is imported on first use, built in or from other packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_plugin
import torch
from torch import nn

import dcpipe
from dcpipe import networks, selection, store
from dcpipe.compression import CODECS
from dcpipe.config import params
from dcpipe.config.registry import GROUPS, Registry, plugin_versions
from dcpipe.images import SOURCES
from dcpipe.networks import BUILDERS
from dcpipe.selection import SELECTORS
from dcpipe.synthesis import METHODS
from dcpipe.types import DataError, ImageSet
from flows.running.inputs import Inputs
from flows.running.reporting import Plain
from flows.running.runtime import Run

ALL: list[Registry[Any]] = [SELECTORS, CODECS, METHODS, SOURCES, BUILDERS]
OWN = {"floor": "math:floor", "ceil": "math:ceil"}


def table(**own: str) -> Registry[Callable[[float], int]]:
    return Registry("rounding", "dcpipe.selectors", own or OWN, ("x",))


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as error:
        call()
    return str(error.value)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_plugin.install(tmp_path / "site", monkeypatch)


def test_it_is_a_mapping() -> None:
    rounding = table()
    assert rounding["floor"](1.5) == 1 and list(rounding) == ["floor", "ceil"] and len(rounding) == 2
    assert "ceil" in rounding and "round" not in rounding and 3 not in rounding
    assert rounding.get("round") is None and dict(rounding.items())["ceil"](1.5) == 2
    with pytest.raises(KeyError):
        rounding["round"]


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest() -> None:
    assert refusal(lambda: table()["flor"]) == (
        "unknown rounding 'flor'; choose one of floor, ceil; did you mean 'floor'?"
    )
    assert refusal(lambda: table()["xyz"]) == "unknown rounding 'xyz'; choose one of floor, ceil"


def test_a_process_may_set_its_own() -> None:
    rounding = table()
    rounding["round"] = round
    assert rounding["round"](1.7) == 2 and list(rounding) == ["floor", "ceil", "round"] and "round" in rounding
    assert rounding.builtin == ("floor", "ceil")
    del rounding["round"]
    assert "round" not in rounding


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.kind)
def test_every_own_name_leads_to_code_that_takes_what_its_kind_takes(registry: Registry[Any]) -> None:
    assert len(registry.builtin) >= 4 and registry.group in GROUPS
    for name in registry.builtin:
        assert registry.positional_arguments(registry[name]) == list(registry.arguments), name


def test_listing_names_imports_no_method() -> None:
    code = (
        "import sys; import dcpipe.selection as s, dcpipe.synthesis as y, dcpipe.images as i, dcpipe.networks as n\n"
        "assert len(list(s.SELECTORS)) > 9 and 'edc' in y.METHODS and 'digits' in i.SOURCES and n.BUILDERS\n"
        "print(*(name for name in sys.modules if name.startswith('dcpipe.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dcpipe.selection.base" in loaded
    methods = {"selection.score", "selection.bait", "synthesis.edc", "images.vision", "images.digits", "networks.wrn"}
    assert not {f"dcpipe.{name}" for name in methods} & loaded


# --- other packages ---


def test_names_of_an_installed_package_are_listed_after_our_own(plugin: Path) -> None:
    assert list(SELECTORS)[-3:] == ["broken", "last", "narrow"] and "last" not in SELECTORS.builtin
    assert ("mean" in CODECS, "mirror" in METHODS, "squares" in SOURCES, "flat" in BUILDERS) == (True,) * 4
    assert "choose one of random, score" in refusal(lambda: SELECTORS["lst"])
    assert refusal(lambda: SELECTORS["lst"]).endswith("grand, broken, last, narrow; did you mean 'last'?")


def test_a_selector_of_a_package_selects_and_counts_as_drawing(plugin: Path) -> None:
    draw = np.random.default_rng(0)
    vectors, labels = draw.normal(size=(12, 4)), np.tile([0, 1, 2], 4)
    rows = dcpipe.select(vectors, labels, "last", ipc=2, skip=1)
    assert rows.tolist() == [6, 7, 8, 3, 4, 5]
    assert selection.uses_seed("last") and selection.uses_seed("badge") and not selection.uses_seed("score")
    assert refusal(lambda: dcpipe.select(vectors, labels, "last", ipc=2, skip=-1)) == (
        "selector 'last': skip is -1: input should be greater than or equal to 0"
    )


def test_a_codec_of_a_package_compresses(plugin: Path, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(30, 50, 6))
    labels = dcpipe.compress(logits, "mean", ratio=10, rounding="float32")
    labels.save(tmp_path / "labels.safetensors")
    decoded = dcpipe.load_labels(tmp_path / "labels.safetensors").decode()
    mean = logits.astype(np.float16).astype(np.float32).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(decoded, np.broadcast_to(mean, decoded.shape), atol=1e-6)
    assert refusal(lambda: dcpipe.compress(logits, "mean", ratio=10, rounding="int8")) == (
        "codec 'mean': rounding is 'int8': input should be 'float16' or 'float32'"
    )


def test_a_method_of_a_package_condenses_and_a_network_is_built(plugin: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    start = ImageSet(pixels, np.arange(2), np.arange(2), ("a", "b"))
    made = METHODS["mirror"](start, None, 0, None)  # type: ignore[arg-type]  # it looks at the images alone
    assert np.array_equal(made.images, pixels[:, :, ::-1])
    assert isinstance(networks.build("flat", 5, 8), nn.Sequential)
    assert networks.build("flat", 5, 8)(torch.zeros(1, 3, 8, 8)).shape == (1, 5)


def content(**changes: Any) -> dict[str, Any]:
    """Parameters that name something of the package in every block."""
    whole = {
        "images": {"source": "squares", "size": 8, "options": {"side": 3}},
        "teacher": {"networks": {"main": {"network": "flat"}}, "training": {"epochs": 2}},
        "features": {"teacher": "main"},
        "selection": {"method": "last", "ipc": 3, "options": {"skip": 2}},
        "synthesis": {"method": "mirror", "options": {"copy": False}},
        "softlabels": {"teachers": ["main"], "views": 8},
        "compression": {"codec": "mean", "ratio": 4, "options": {"rounding": "float16"}},
        "evaluation": {"student": "flat", "epochs": 3, "batch_size": 10},
        "release": {"name": "tiny"},
    }
    for path, value in changes.items():
        block, _, key = path.partition("__")
        whole[block][key] = value
    return whole


def test_params_yaml_may_name_all_of_it(plugin: Path) -> None:
    parsed = params.parse(content())
    assert (parsed.selection.method, parsed.synthesis.options) == ("last", {"copy": False})
    for changes, sentence in (
        ({"images__options": {}}, "images.options: image source 'squares' needs option 'side'; add it"),
        (
            {"synthesis__options": {"copy": "no"}},
            "synthesis.options.copy is 'no': input should be a valid boolean",
        ),
        (
            {"compression__options": {"round": "float16"}},
            "compression.options: codec 'mean' has no option 'round'; its options are rounding; did you mean "
            "'rounding'?",
        ),
    ):
        assert refusal(lambda changes=changes: params.parse(content(**changes))) == f"params.yaml: {sentence}"
    assert refusal(lambda: params.parse(content(images__size=9))).startswith(
        "params.yaml: teacher.networks.main.network: network 'flat' does not take images of 9 pixels ("
    )


def test_what_cannot_be_imported_is_named_with_its_package(plugin: Path) -> None:
    assert refusal(lambda: SELECTORS["broken"]) == (
        "selector 'broken' of package 'tiny-plugin' cannot be imported (AttributeError: module 'tiny_plugin_code' has "
        "no attribute 'absent'); repair or uninstall the package"
    )
    assert refusal(lambda: SELECTORS["narrow"]) == (
        "selector 'narrow' of package 'tiny-plugin' must take (candidates, ipc, seed, progress) and its options as "
        "keyword-only arguments, but tiny_plugin_code:selector_without_a_seed takes (candidates, ipc); repair the "
        "package"
    )


def test_a_name_that_two_define_is_refused(plugin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert refusal(lambda: SELECTORS["random"]) == (
        "selector 'random' is defined by dcpipe and by package 'tiny-plugin'; uninstall one, or rename its entry point"
    )
    assert len(SELECTORS["score"].__doc__ or "") > 0, "others are not harmed"
    entries = "[dcpipe.selectors]\nlast = tiny_plugin_code:last\n"
    tiny_plugin.install(tmp_path / "more", monkeypatch, name="other-plugin", entries=entries)
    assert refusal(lambda: SELECTORS["last"]) == (
        "selector 'last' is defined by package 'other-plugin' and by package 'tiny-plugin'; uninstall one, or rename "
        "its entry point"
    )


def lineage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stage notes of where its output comes from."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    run = Run("selection", params.parse(content()), Plain("selection"), device=torch.device("cpu"))
    with run.staging("data/selection", {}, Inputs.open()) as staging:
        staging.publish("selection", {})
    return store.open_artifact(folder / "data/selection", "selection").lineage


def test_lineage_names_the_packages_that_a_run_imported(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plugin_versions() == {}, "installed, but not used"
    noted = lineage(tmp_path / "a", monkeypatch)["plugins"]
    assert list(noted) == ["tiny-plugin"] and noted["tiny-plugin"].startswith("1.0 ")
    assert noted == plugin_versions()
    # Edited in place, it keeps its version.
    (plugin / "tiny_plugin_code.py").write_text(tiny_plugin.CODE + "\n# changed", encoding="utf-8")
    assert plugin_versions()["tiny-plugin"].startswith("1.0 ") and plugin_versions() != noted
