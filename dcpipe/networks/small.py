"""Networks of the ImageNet papers with stems for small images (32 or 64 pixels).

* ResNets, as in the CIFAR experiments of He et al. (CVPR 2016) and the condensation papers: one 3x3 stride-1
  convolution replaces the 7x7 stride-2 stem and its max pooling.
* `mobilenet_v2-small` has full resolution in its first two stages. `mobilenet_v2_x0_5-small` is the different network
  of G-VBSM and EDC: it has half the channels, unrounded; the stem halves the image, the second stage does not; there is
  no dropout.
* `shufflenet_v2_x0_5-small`: the stem is a 1x1 stride-1 convolution without max pooling, as in EDC.
* `efficientnet_b0-small`: the stem has stride 1, as in EDC.
* `densenet121-small`, `densenet121-k12-small`: the stem is one 3x3 stride-1 convolution and nothing else, as in the
  CIFAR experiments of Huang et al. (CVPR 2017), since dense layers begin with a norm themselves. Layers of the second
  network add 12 channels instead of 32. It is the DenseNet that IDC's code tests on CIFAR, and has a million parameters
  instead of seven.
* `alexnet-small`: the AlexNet of DC (Zhao, Mopuri & Bilen, ICLR 2021). It has five convolutions with 128, 192, 256, 192
  and 192 channels, the first two 5x5 and the others 3x3, three 2x2 max poolings, and one linear layer on 4x4 pixels;
  larger feature maps are averaged to that size.
* `vgg11_bn-small`: the convolutions of VGG11-BN, whose last feature map is averaged, and one linear layer on its 512
  channels instead of three, as in the condensation papers (DC, MTT, EDC's Table 11). Five 2x2 max poolings need at
  least 32 pixels.

Everything else comes from torchvision, including the initialisation. torchvision is imported only when a network is
built, because the import takes as long as that of torch and most processes build none of these networks.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def _torchvision(name: str, n_classes: int) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes)
    return network


def _resnet(name: str) -> Callable[[int], nn.Module]:
    def make(n_classes: int) -> nn.Module:
        network = _torchvision(name, n_classes)
        stem = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        network.conv1, network.maxpool = stem, nn.Identity()
        return network

    return make


def _at_full_stride(network: nn.Module, count: int) -> nn.Module:
    """The same network, with stride 1 in its first `count` strided convolutions."""
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    for convolution in strided[:count]:
        convolution.stride = (1, 1)
    return network


def _mobilenet_v2(n_classes: int) -> nn.Module:
    return _at_full_stride(_torchvision("mobilenet_v2", n_classes), 2)


def _mobilenet_v2_half(n_classes: int) -> nn.Module:
    from torchvision.models import MobileNetV2

    # expansion, channels, blocks, stride: the paper's table with stride 1 in the second stage
    table = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    network: nn.Module = MobileNetV2(n_classes, 0.5, table, round_nearest=1, dropout=0.0)
    return network


def _shufflenet_v2_half(n_classes: int) -> nn.Module:
    network = _torchvision("shufflenet_v2_x0_5", n_classes)
    network.conv1 = nn.Sequential(nn.Conv2d(3, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
    network.maxpool = nn.Identity()
    return network


def _efficientnet_b0(n_classes: int) -> nn.Module:
    return _at_full_stride(_torchvision("efficientnet_b0", n_classes), 1)


def _densenet121(growth: int) -> Callable[[int], nn.Module]:
    def make(n_classes: int) -> nn.Module:
        from torchvision.models import DenseNet

        network: nn.Module = DenseNet(growth, (6, 12, 24, 16), 2 * growth, num_classes=n_classes)
        stem = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight)
        features = network.get_submodule("features")
        features.conv0 = stem
        features.norm0, features.relu0, features.pool0 = nn.Identity(), nn.Identity(), nn.Identity()
        return network

    return make


def _alexnet(n_classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width, kernel, pooled in [(128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True)]:
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] * pooled
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(channels * 4 * 4, n_classes))


def _vgg11_bn(n_classes: int) -> nn.Module:
    features = _torchvision("vgg11_bn", n_classes).get_submodule("features")
    head = nn.Linear(512, n_classes)
    nn.init.normal_(head.weight, 0.0, 0.01)  # as torchvision's VGG initialises its linear layers
    nn.init.zeros_(head.bias)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


SMALL: dict[str, Callable[[int], nn.Module]] = {
    "resnet18-small": _resnet("resnet18"),
    "resnet50-small": _resnet("resnet50"),
    "resnet101-small": _resnet("resnet101"),
    "mobilenet_v2-small": _mobilenet_v2,
    "mobilenet_v2_x0_5-small": _mobilenet_v2_half,
    "shufflenet_v2_x0_5-small": _shufflenet_v2_half,
    "efficientnet_b0-small": _efficientnet_b0,
    "densenet121-small": _densenet121(32),
    "densenet121-k12-small": _densenet121(12),
    "alexnet-small": _alexnet,
    "vgg11_bn-small": _vgg11_bn,
}


def build(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` is not in `SMALL`."""
    maker = SMALL.get(name)
    return maker(n_classes) if maker else None
