"""The registry of studies: what studies/params.yaml may say, what is refused, and what each class says of itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import yaml

from dcpipe import studies
from dcpipe.config import blocks, params, presets
from dcpipe.config.params import Params
from dcpipe.studies import STUDIES, Study
from dcpipe.types import DataError, NotApplicableError

LEGAL: dict[str, Any] = {
    "selection": {
        "selectors": {"random": {}, "score": {"options": {"alpha": 5}}, "flat": {"method": "score", "options": {}}},
        "ipc": [10, 1],
        "seeds": [0, 1, 2],
    },
    "coefficients": {
        "base": {"alpha": 5, "beta": 0.1},
        "alpha": [5, 0],
        "beta": [0.1, 1.0e-3],
        "options": {"eps2": 0.5},
        "ipc": 10,
        "seeds": [3, 4, 5, 6],
    },
    "labels": {
        "codecs": {"svd": {}, "fresh": {"codec": "field", "options": {"fresh": True}}},
        "ratios": [30, 10],
        "students": ["fresh"],
        "seeds": [0, 1, 2],
    },
    "resilience": {
        "selectors": {"random": {}, "flat": {"method": "score", "options": {"beta": 0}}},
        "ratios": [20, 1.25],
        "ipc": 10,
        "seeds": [0, 1, 2],
    },
    "syntheses": {
        "variants": {"real": {}, "edc": {"synthesis": {"method": "edc", "options": {"flat": 0.0}}, "labels": "online"}},
        "ipc": [10, 1],
        "seeds": [0, 1, 2],
    },
    "ladder": {"variants": {"small-batch": {"evaluation": {"batch_size": 5}}}, "ipc": [1], "seeds": [0, 1, 2]},
    "sweep": {
        "run": "zeta",
        "sweeps": {"zeta": {"grid": {"evaluation.zeta": [1.0, 2.0]}, "ipc": [1]}},
        "seeds": [0, 1, 2],
    },
    "sizes": {
        "methods": {"mdc": {"synthesis": {"method": "mdc"}}, "idc": {"baselines": ["A", "C"]}},
        "ipc": 10,
        "sizes": [10, 1],
        "seeds": [0, 1, 2],
    },
    "students": {"networks": ["convnet-d1-w4", "convnet-d1-w8"], "ipc": [10, 1], "tests": 5, "seeds": [0, 1, 2]},
    "compressions": {
        "variants": {"real": {}, "edc": {"synthesis": {"method": "edc", "options": {"flat": 0.0}}}},
        "codecs": {"svd": {}, "fresh": {"codec": "field", "options": {"fresh": True}}},
        "ratios": [15, 5],
        "ipc": [10, 1],
        "seeds": [0, 1, 2],
    },
    "slimming": {"ratios": [0.5, 0.2], "seeds": [0, 1, 2]},
    "continual": {"tasks": 5, "memories": ["random", "condensed"], "seeds": [0, 1, 2]},
    "landscape": {
        "zetas": [1.0, 2.0],
        "recoveries": {"edc": {"synthesis": {"method": "edc"}}},
        "seeds": [0, 1, 2],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """LEGAL with one key set; None removes it."""
    content = copy.deepcopy(LEGAL)
    *blocks, last = path.split(".")
    block = content
    for name in blocks:
        block = block[name]
    if value is None:
        del block[last]
    else:
        block[last] = value
    return content


def load(name: str, path: Path = studies.FILE) -> Study:
    return studies.load(name, tiny.run_of("studies").params, tiny.PARAMS, path)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_needs_its_own_block_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def block_of(content: dict[str, Any]) -> Any:
        path.write_text(json.dumps(content), encoding="utf-8")
        study = load(name)
        assert type(study) is STUDIES[name] and study.name == name
        return study.block

    path = tmp_path / studies.FILE
    path.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    assert block_of({name: LEGAL[name]}) == block_of(LEGAL)
    with pytest.raises(DataError) as error:
        block_of({key: block for key, block in LEGAL.items() if key != name})
    assert str(error.value) == f"studies/params.yaml: '{name}' is missing; add it"


REFUSED = [
    ("selection.selectors", {}, "selection.selectors is {}: give at least 1 entry"),
    ("selection.ipc", [], "selection.ipc is []: give at least 1 entry"),
    ("selection.ipc", [0], "selection.ipc.0 is 0: input should be greater than or equal to 1"),
    ("selection.ipc", [1, 10, 1], "selection.ipc is [1, 10, 1]: 1 is listed more than once; list each once"),
    ("selection.seeds", [0, 1], "selection.seeds is [0, 1]: give at least 3 entries"),
    ("selection.seeds", [0, 1, 1], "selection.seeds is [0, 1, 1]: 1 is listed more than once; list each once"),
    ("selection.seeds", None, "'selection.seeds' is missing; add it"),
    ("selection.split", "train", "selection.split is 'train': input should be 'test' or 'minival'"),
    (
        "selection.selectors.score.alpha",
        5,
        "unknown key 'selection.selectors.score.alpha'; valid keys are method, options, change",
    ),
    ("selection.selectors.a/b", {}, "selection.selectors.a/b.[key] is 'a/b': string should match pattern"),
    ("selection.epochs", 5, "unknown key 'selection.epochs'; valid keys are seeds, split, selectors, ipc, labels, "),
    ("selection.labels", [], "selection.labels is []: give at least 1 entry"),
    ("selection.labels", ["soft"], "selection.labels.0 is 'soft': input should be 'packed' or 'hard'"),
    ("selection.labels", ["hard", "hard"], "selection.labels is ['hard', 'hard']: 'hard' is listed more than once; "),
    (
        "selection.against",
        "herding",
        "selection.against is 'herding', which is not in selection.selectors; add it there, or leave against out",
    ),
    (
        "selections",
        {},
        "unknown key 'selections'; valid keys are selection, coefficients, labels, resilience, syntheses, ladder, "
        "sweep, sizes, students, compressions, slimming, continual, landscape; did you mean 'selection'?",
    ),
    ("coefficients", None, "'coefficients' is missing; add it"),
    ("coefficients.base.beta", None, "'coefficients.base.beta' is missing; add it"),
    ("coefficients.alpha", [-1.0], "coefficients.alpha.0 is -1.0: input should be greater than or equal to 0"),
    ("coefficients.alpha", [1, 1.0], "coefficients.alpha is [1, 1.0]: 1.0 is listed more than once; list each once"),
    ("coefficients.beta", [], "coefficients.beta is []: give at least 1 entry"),
    ("coefficients.seeds", [1], "coefficients.seeds is [1]: give at least 3 entries"),
    ("syntheses.ipc", [1, 1], "syntheses.ipc is [1, 1]: 1 is listed more than once; list each once"),
    ("syntheses.seeds", [0, 1], "syntheses.seeds is [0, 1]: give at least 3 entries"),
    ("ladder.split", "train", "ladder.split is 'train': input should be 'test' or 'minival'"),
    ("ladder.steps", {}, "unknown key 'ladder.steps'; valid keys are seeds, split, variants, ipc"),
    ("students.networks", [], "students.networks is []: give at least 1 entry"),
    (
        "students.networks",
        ["a", "a"],
        "students.networks is ['a', 'a']: 'a' is listed more than once; list each once",
    ),
    ("students.tests", 0, "students.tests is 0: input should be greater than or equal to 1"),
    ("sizes.sizes", [1, 1], "sizes.sizes is [1, 1]: 1 is listed more than once; list each once"),
    ("sizes.ipc", None, "'sizes.ipc' is missing; add it"),
    ("resilience.ratios", [], "resilience.ratios is []: give at least 1 entry"),
    ("resilience.ratios", [5, 0.8], "resilience.ratios.1 is 0.8: input should be greater than or equal to 1"),
    ("resilience.ratios", [5, 2, 5], "resilience.ratios is [5, 2, 5]: 5.0 is listed more than once; list each once"),
    ("resilience.ipc", [1, 10], "resilience.ipc is [1, 10]: input should be a valid integer"),
    ("resilience.seeds", [0, 1], "resilience.seeds is [0, 1]: give at least 3 entries"),
    (
        "selection.selectors.flat.change",
        {"alpha": 1},
        "selection.selectors.flat has both options and change; put all values into options, or remove options to ",
    ),
    (
        "resilience.selectors.flat.change",
        {"alpha": 1},
        "resilience.selectors.flat has both options and change; put all values into options, or remove options to ",
    ),
    (
        "coefficients.options.beta",
        1,
        "coefficients.options has 'beta', which coefficients.base sets; remove it from options",
    ),
    (
        "coefficients.alpha",
        ["1e-3"],
        "coefficients.alpha.0 is '1e-3': input should be a valid number; YAML needs a point, as in 1.0e-3",
    ),
    ("labels.codecs", {}, "labels.codecs is {}: give at least 1 entry"),
    ("labels.ratios", [0.5], "labels.ratios.0 is 0.5: input should be greater than or equal to 1"),
    ("labels.ratios", [10, 10.0], "labels.ratios is [10, 10.0]: 10.0 is listed more than once; list each once"),
    ("labels.temperatures", [0], "labels.temperatures.0 is 0: input should be greater than 0"),
    ("labels.students", ["svd", "rpca"], "labels.students names ['rpca'], which is not in labels.codecs; add it"),
    ("compressions.variants", {}, "compressions.variants is {}: give at least 1 entry"),
    ("compressions.codecs", {}, "compressions.codecs is {}: give at least 1 entry"),
    ("compressions.ratios", [5, 0.5], "compressions.ratios.1 is 0.5: input should be greater than or equal to 1"),
    ("compressions.ipc", [1, 1], "compressions.ipc is [1, 1]: 1 is listed more than once; list each once"),
    ("compressions.tests", -1, "compressions.tests is -1: input should be greater than or equal to 0"),
    ("slimming.ratios", [1.0], "slimming.ratios.0 is 1.0: input should be less than 1"),
    ("slimming.ratios", [0.5, 0.5], "slimming.ratios is [0.5, 0.5]: 0.5 is listed more than once; list each once"),
    ("slimming.rate", 0, "slimming.rate is 0: input should be greater than 0"),
    ("landscape.zetas", [1, 1], "landscape.zetas is [1, 1]: 1.0 is listed more than once; list each once"),
    ("landscape.radius", 0, "landscape.radius is 0: input should be greater than 0"),
    ("landscape.points", 2, "landscape.points is 2: input should be greater than or equal to 3"),
    ("landscape.batches", [0], "landscape.batches.0 is 0: input should be greater than or equal to 1"),
    ("continual.tasks", 1, "continual.tasks is 1: input should be greater than or equal to 2"),
    ("continual.memories", ["dm"], "continual.memories.0 is 'dm': input should be 'random', 'herding', "),
    ("continual.memories", ["random", "random"], "continual.memories is ['random', 'random']: 'random' is listed"),
    ("compressions.codecs.svd.ratio", 5, "unknown key 'compressions.codecs.svd.ratio'; valid keys are codec, options"),
    ("labels.seeds", [1, 2], "labels.seeds is [1, 2]: give at least 3 entries"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED)
def test_what_is_wrong_is_refused_in_one_sentence(path: str, value: Any, sentence: str) -> None:
    """The whole file is checked, whichever study is to run; what goes together within a block, when it is run."""
    name = path.split(".")[0]
    with pytest.raises(DataError) as error:
        studies.parse(name if name in STUDIES else "coefficients", changed(path, value), "s.yaml")
    assert str(error.value).startswith(f"s.yaml: {sentence}")
    assert "\n" not in str(error.value)


def test_unknown_studies_list_the_known(tmp_path: Path) -> None:
    for name in STUDIES:
        studies.check_name(name)
    known = (
        "selection, coefficients, labels, resilience, syntheses, ladder, sweep, sizes, students, compressions, "
        "slimming, continual, landscape"
    )
    with pytest.raises(DataError, match=rf"^unknown study 'codecs'; choose one of {known}$"):
        load("codecs", tmp_path)
    with pytest.raises(DataError, match=rf"^name a study: {known}$"):
        studies.check_name(None)


def test_a_file_that_is_absent_or_holds_no_blocks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    with pytest.raises(DataError) as error:
        load("selection", path)
    sentence = f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there"
    assert str(error.value) == sentence
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        load("selection", path)
    assert str(error.value) == f"{path} must contain one block for each study: {', '.join(STUDIES)}"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_what_it_needs_reads_and_draws(name: str) -> None:
    study = STUDIES[name]
    assert study.title and "\n" not in study.title
    assert set(study.needs) < set(Params.model_fields) and "images" in study.needs
    assert study.reads is None or set(study.reads) < set(Params.model_fields)
    assert study.figures[0] == "figure"


def test_errors_say_where_in_the_file_their_cause_is() -> None:
    block = studies.parse("selection", LEGAL)
    study = STUDIES["selection"]("selection", block, tiny.run_of("studies").params, tiny.PARAMS)
    with pytest.raises(DataError) as error, study.error_context("score", "ipc 1"):
        raise DataError("it is wrong; right it")
    assert str(error.value) == "studies/params.yaml: selection, score, ipc 1: it is wrong; right it"
    with pytest.raises(DataError) as error:
        study.check_split({"test": 0, "minival": 5})
    assert str(error.value) == (
        "studies/params.yaml: selection.split is test, which is empty; raise images.minival, or use test"
    )


@pytest.mark.parametrize("preset", ["digits", "imagewoof-ipc10", "tiny-imagenet-ipc50", "cifar10-edc-ipc10"])
def test_the_study_file_of_this_repository_uses_the_coefficients_of_the_preset(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dcpipe init` replaces params.yaml alone, so studies/params.yaml must not contain values of one preset."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    content = yaml.safe_load(presets.text(preset))
    whole = params.parse(content)
    defaults = {"alpha": 5.0, "beta": 1.0, "eps2": 0.5}
    own = whole.selection.options if whole.selection.method == "score" else {}
    expected = {**defaults, **own}
    for name in ("selection", "coefficients", "resilience"):
        for entry in studies.load(name, whole, content).entries:
            if entry.method == "score":
                varied = {"score-no-rate": {"beta": 0.0}, "score-more-rate": {"beta": 1.0}}.get(entry.name, {})
                swept = {entry.swept: entry.options[entry.swept]} if entry.swept else {}
                assert {**defaults, **entry.options} == {**expected, **varied, **swept}, entry


@pytest.mark.parametrize("name", STUDIES)
def test_the_study_file_of_this_repository_can_be_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is sound, and its cells are those of the workspace's own parameters."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    study = studies.load(name, params.load(), blocks.read(Path("params.yaml"), "blocks"))
    assert len(study.block.seeds) >= 3 and len(study.cells) >= 4 and study.settings


def test_studies_of_whitened_images_are_not_applicable() -> None:
    """Of the set of a workspace, and of those that they make themselves."""
    mtt = {"method": "mtt", "options": {"whitening": 0.1}}
    whitened = tiny.run_of("studies", synthesis=mtt, softlabels={"method": "none"}).params
    plain = tiny.run_of("studies").params
    context: Any = SimpleNamespace(teachers={})

    def checked(params: Params, needs: tuple[str, ...] = (), *cells: Params) -> None:
        study: Any = SimpleNamespace(params=params, needs=needs, cells=[SimpleNamespace(params=p) for p in cells])
        Study.check(study, context)

    checked(plain, ("synthesis",), plain)
    checked(whitened)  # it asks for no set
    for wrong in ((whitened, ("synthesis",)), (plain, (), plain, whitened)):
        with pytest.raises(NotApplicableError, match=r"synthesis.options has whitening, and studies normalise"):
            checked(*wrong)
