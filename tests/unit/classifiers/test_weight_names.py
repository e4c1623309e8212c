"""Names of other projects: it is by its logits that a network is the same under both, not by shapes alone."""

import random
import re
from functools import partial

import pytest
import timm
import torch
import torchvision
from timm.models import convnext, swin_transformer, vision_transformer
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from perturbflow.classifiers.weight_names import renaming_of_timm
from perturbflow.classifiers.weights import load_weights_of_file

TINY_TRANSFORMER = {"patch_size": 8, "num_classes": 5}
TINY_SWIN = {"patch_size": 4, "embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4), "num_classes": 5}


def of_torchvision(name):
    return torchvision.models.get_model(name, num_classes=5)


def of_timm(name, **options):
    return timm.create_model(name, num_classes=5, **options)


def torchvision_transformer():
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 64, num_classes=5)


def torchvision_swin():
    return torchvision.models.SwinTransformer([4, 4], 16, [1, 2], [2, 4], [4, 4], num_classes=5)


def torchvision_convnext():
    return torchvision.models.ConvNeXt(
        [CNBlockConfig(8, 8, 1), CNBlockConfig(8, 16, 2), CNBlockConfig(16, 16, 1), CNBlockConfig(16, None, 1)],
        num_classes=5,
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda: of_torchvision("resnet18"), lambda: of_timm("resnet18")),
        (lambda: of_torchvision("regnet_y_400mf"), lambda: of_timm("regnety_004")),
        (lambda: of_torchvision("mobilenet_v2"), lambda: of_timm("mobilenetv2_100")),
        (lambda: of_torchvision("mobilenet_v3_small"), lambda: of_timm("mobilenetv3_small_100", bn_eps=1e-3)),
        (lambda: of_torchvision("mnasnet0_5"), lambda: of_timm("mnasnet_050")),
        (lambda: of_torchvision("efficientnet_b0"), lambda: of_timm("efficientnet_b0")),
        (torchvision_convnext, lambda: convnext.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 8, 16, 16), num_classes=5)),
        (
            torchvision_transformer,
            lambda: vision_transformer.VisionTransformer(
                32,
                embed_dim=16,
                depth=2,
                num_heads=2,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                **TINY_TRANSFORMER,
            ),
        ),
        (torchvision_swin, lambda: swin_transformer.SwinTransformer(32, window_size=4, **TINY_SWIN)),
    ],
    ids=["resnet", "regnet", "mobilenetv2", "mobilenetv3", "mnasnet", "efficientnet", "convnext", "vit", "swin"],
)
def test_torchvisions_names_give_the_same_network_of_timm(tmp_path, theirs, ours):
    torch.manual_seed(0)
    expected, network = theirs().eval(), ours().eval()
    with torch.no_grad():
        for tensor in expected.state_dict().values():  # some layers begin with zeros
            if tensor.is_floating_point():
                tensor.add_(0.02 * torch.rand_like(tensor))
    torch.save(expected.state_dict(), tmp_path / "theirs.pth")
    fit = load_weights_of_file(network, renaming_of_timm(network), tmp_path / "theirs.pth")
    assert (fit.head_unfilled, fit.head_classes) == ((), 5)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits = expected(images)
        assert logits.std() > 1e-3
        torch.testing.assert_close(network(images), logits, rtol=1e-3, atol=1e-5)


def name_in_efficientnet_pytorch(name, state):
    """The name that the project EfficientNet-PyTorch has for a tensor of timm's."""
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks = list(dict.fromkeys(re.findall(r"^blocks\.\d+\.\d+\.", "\n".join(state), re.MULTILINE)))
    if not (match := re.match(r"(blocks\.\d+\.\d+\.)(.*)\.(\w+)$", name)):
        layer, role = name.rsplit(".", 1)
        return f"{top[layer]}.{role}"
    block, layer, role = match.groups()
    widens = f"{block}conv_pwl.weight" in state
    layers = {"conv_dw": "_depthwise_conv", "se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    if widens:
        layers |= {"conv_pw": "_expand_conv", "bn1": "_bn0", "bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
    else:
        layers |= {"bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    return f"_blocks.{blocks.index(block)}.{layers[layer]}.{role}"


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "tf_efficientnet_b0"])
@pytest.mark.parametrize("n_classes", [5, 7])
def test_names_of_efficientnet_pytorch_are_understood_in_any_order(tmp_path, architecture, n_classes):
    torch.manual_seed(0)
    state = of_timm(architecture).state_dict()
    theirs = [(name_in_efficientnet_pytorch(name, state), tensor) for name, tensor in state.items()]
    random.Random(0).shuffle(theirs)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in theirs}}, tmp_path / "theirs.pth")
    network = timm.create_model(architecture, num_classes=n_classes)
    fit = load_weights_of_file(network, renaming_of_timm(network), tmp_path / "theirs.pth")
    assert fit.head_classes == 5
    assert fit.head_unfilled == (() if n_classes == 5 else ("classifier.weight", "classifier.bias"))
    assert "its names are those of EfficientNet-PyTorch" in fit.notes[0]
    for name, tensor in network.state_dict().items():
        assert name in fit.head_unfilled or torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(
    ("names", "architecture", "expected"),
    [
        ("EfficientNet-PyTorch", "efficientnet_lite0", "pad as TensorFlow's do.*whose name begins with tf_"),
        ("torchvision", "tf_mobilenetv3_small_100", "pad evenly.*whose name does not begin with tf_"),
    ],
)
def test_names_of_a_project_that_pads_otherwise_are_refused(tmp_path, names, architecture, expected):
    """All shapes agree, and the network would be worse than in its own project without a word."""
    if names == "torchvision":
        theirs = of_torchvision("mobilenet_v3_small").state_dict()
    else:
        state = of_timm("tf_efficientnet_lite0").state_dict()
        theirs = {name_in_efficientnet_pytorch(name, state): tensor for name, tensor in state.items()}
    torch.save(theirs, tmp_path / "theirs.pth")
    network = of_timm(architecture)
    with pytest.raises(ValueError, match=rf"theirs\.pth has the names of {names}, whose convolutions {expected}"):
        load_weights_of_file(network, renaming_of_timm(network), tmp_path / "theirs.pth")


def test_the_order_of_layers_is_not_trusted_where_their_kinds_or_shapes_differ(tmp_path):
    theirs = of_torchvision("mobilenet_v2").state_dict()
    theirs["features.0.1.scale"] = theirs.pop("features.0.1.weight")
    torch.save(theirs, tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match="this network under other names, which have to be translated"):
        load_weights_of_file(of_timm("mobilenetv2_100"), dict, tmp_path / "theirs.pth")


def test_only_timms_networks_are_renamed_by_timm():
    state = {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(1)}
    with torch.device("meta"):
        renamed = renaming_of_timm(of_timm("densenet121"))(state)
        assert {*renamed} == {"features.denseblock1.denselayer1.norm1.weight"}
        assert renaming_of_timm(of_timm("resnet18"))(state) == state
        assert renaming_of_timm(nn.Linear(2, 2))(state) == state


def test_in_a_network_of_anybody_elses_the_order_of_layers_decides_nothing(tmp_path):
    """Two layers of one shape may stand in it in any order."""
    theirs = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).state_dict()
    torch.save({f"features.{name}": tensor for name, tensor in theirs.items()}, tmp_path / "theirs.pth")
    network = nn.ModuleDict({"second": nn.Linear(4, 4), "first": nn.Linear(4, 4)})
    with pytest.raises(ValueError, match="this network under other names, which have to be translated"):
        load_weights_of_file(network, renaming_of_timm(network), tmp_path / "theirs.pth")
