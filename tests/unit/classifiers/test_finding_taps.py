import collections
import re
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow.classifiers import finding_taps
from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.finding_taps import child_taps, named_taps, stage_taps
from perturbflow.classifiers.taps import Tap, module_at

N_CLASSES = 7


class Network(nn.Module):
    """All that a tap can stumble over. Its children are not in the order in which they run."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, N_CLASSES)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.shared = nn.Conv2d(8, 8, 1)
        self.parts = Pair()
        self.whole = Whole()
        self.other_images = First()
        self.flat = Mean()
        self.idle = nn.Linear(2, 2)

    def forward(self, images):
        features = self.shared(self.shared(self.body(self.stem(images))))
        features, _ = self.parts(features)
        self.whole(features)
        self.other_images(features)
        return self.head(self.flat(features))


class Pair(nn.Module):
    def forward(self, features):
        return features, features


class Whole(nn.Module):
    def forward(self, features):
        return features.argmax(1)


class Segmentation(nn.Module):
    """Logits of each place, as torchvision's networks for segmentation give them."""

    def forward(self, features):
        return {"out": features[:, :N_CLASSES, None, None].expand(-1, -1, 4, 4)}


class First(nn.Module):
    def forward(self, features):
        return features[:1]


class Mean(nn.Module):
    def forward(self, features):
        return features.mean((2, 3))


def named(network, taps):
    return named_taps(network, taps, "the network", N_CLASSES, 16)


# ------------------------------------------------------------------------------------------------ timm's stages


@pytest.mark.parametrize(
    ("name", "input_size", "stages", "pool", "logits"),
    [
        (
            "resnet50",
            64,
            {
                "act1": (64, 32, 32),
                "layer1": (256, 16, 16),
                "layer2": (512, 8, 8),
                "layer3": (1024, 4, 4),
                "layer4": (2048, 2, 2),
            },
            ("global_pool", (2048,)),
            "fc",
        ),
        (
            "convnext_tiny",
            64,
            {"stages.0": (96, 16, 16), "stages.1": (192, 8, 8), "stages.2": (384, 4, 4), "stages.3": (768, 2, 2)},
            ("head.global_pool", (768, 1, 1)),
            "head.fc",
        ),
        (
            "efficientnet_b0",
            64,
            {
                "blocks.0": (16, 32, 32),
                "blocks.1": (24, 16, 16),
                "blocks.2": (40, 8, 8),
                "blocks.4": (112, 4, 4),
                "blocks.6": (320, 2, 2),
            },
            ("global_pool", (1280,)),
            "classifier",
        ),
        (
            "vgg11",
            32,
            {
                "features.1": (64, 32, 32),
                "features.4": (128, 16, 16),
                "features.9": (256, 8, 8),
                "features.14": (512, 4, 4),
                "features.19": (512, 2, 2),
                "features.20": (512, 1, 1),
            },
            ("head.global_pool", (4096,)),
            "head.fc",
        ),
        (
            "regnety_002",
            64,
            {"stem": (32, 32, 32), "s1": (24, 16, 16), "s2": (56, 8, 8), "s3": (152, 4, 4), "s4": (368, 2, 2)},
            ("head.global_pool", (368,)),
            "head.fc",
        ),
        (
            "mobilenetv3_small_100",
            64,
            {
                "bn1": (16, 32, 32),
                "blocks.0": (16, 16, 16),
                "blocks.1": (24, 8, 8),
                "blocks.3": (48, 4, 4),
                "blocks.5": (576, 2, 2),
            },
            ("global_pool", (576, 1, 1)),
            "classifier",
        ),
        ("vit_tiny_patch16_224", 64, {f"blocks.{i}": (17, 192) for i in range(12)}, None, "head"),
        (
            "swin_tiny_patch4_window7_224",
            64,
            {"layers.0": (16, 16, 96), "layers.1": (8, 8, 192), "layers.2": (4, 4, 384), "layers.3": (2, 2, 768)},
            ("head.global_pool", (768,)),
            "head.fc",
        ),
        (
            "densenet121",
            64,
            {
                "features.norm0": (64, 32, 32),
                "features.denseblock1": (256, 16, 16),
                "features.denseblock2": (512, 8, 8),
                "features.denseblock3": (1024, 4, 4),
                "features.norm5": (1024, 2, 2),
            },
            ("global_pool", (1024,)),
            "classifier",
        ),
        (
            "inception_v3",
            96,
            {
                "Conv2d_2b_3x3": (64, 45, 45),
                "Conv2d_4a_3x3": (192, 20, 20),
                "Mixed_5d": (288, 9, 9),
                "Mixed_6e": (768, 4, 4),
                "Mixed_7c": (2048, 1, 1),
            },
            ("global_pool", (2048,)),
            "fc",
        ),
        # Its classifier is a convolution, of (B, n_classes, 1, 1).
        (
            "dla46_c",
            64,
            {
                "level0": (16, 64, 64),
                "level1": (32, 32, 32),
                "level2": (64, 16, 16),
                "level3": (64, 8, 8),
                "level4": (128, 4, 4),
                "level5": (256, 2, 2),
            },
            ("global_pool", (256, 1, 1)),
            "flatten",
        ),
        # The mean of two classifiers, which no module gives.
        ("deit_tiny_distilled_patch16_224", 64, {f"blocks.{i}": (18, 192) for i in range(12)}, None, "."),
    ],
)
def test_stages_of_timm(name, input_size, stages, pool, logits):
    shapes = []
    with torch.device("meta"), torch.no_grad():
        classifier = build_classifier(name, N_CLASSES, input_size).eval()
        with classifier.observed(lambda position, feature_map: shapes.append((position, tuple(feature_map.shape)))):
            assert classifier(torch.empty(3, 3, 64, 64)).shape == (3, N_CLASSES)
    expected = [
        *(Tap(f"stage {number}", module, "spatial") for number, module in enumerate(stages, start=1)),
        *([Tap("pool", pool[0], "fully connected" if name == "vgg11" else "pooled")] if pool else []),
        Tap("logits", logits, "logits"),
    ]
    assert list(classifier.taps) == expected
    sizes = [*stages.values(), *([pool[1]] if pool else []), (N_CLASSES,)]
    assert shapes == [(position, (3, *size)) for position, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("name", "input_size", "stages"),
    [
        # The tokens before the class token; the channels of the whole, not of each patch.
        (
            "pit_ti_224",
            64,
            {f"transformers.{i}[0]": size for i, size in enumerate([(64, 7, 7), (128, 4, 4), (256, 2, 2)])},
        ),
        # Of a map and a skip the map, where it was made: a module hands both on.
        (
            "selecsls42",
            64,
            {
                "stem.2": (32, 32, 32),
                "features.1.conv6": (128, 16, 16),
                "features.3.conv6": (288, 8, 8),
                "features.5.conv6": (480, 4, 4),
                "head.1": (1024, 2, 2),
                "head.3": (1280, 1, 1),
            },
        ),
        # Not the map that goes to the next stage; and where it was made, since the stage's own goes nowhere.
        (
            "efficientvim_m1",
            128,
            {f"stages.{i}.blocks.1[0]": (c, 8 // 2**i, 8 // 2**i) for i, c in enumerate([128, 192, 320])},
        ),
        # Two branches of one stage, of other channels.
        (
            "crossvit_tiny_240",
            240,
            {f"blocks.{i}[{branch}]": size for i in range(3) for branch, size in enumerate([(401, 96), (197, 192)])},
        ),
    ],
)
def test_stages_inside_of_what_modules_give(name, input_size, stages):
    shapes = []
    with torch.device("meta"), torch.no_grad():
        classifier = build_classifier(name, N_CLASSES, input_size).eval()
        with classifier.observed(lambda position, feature_map: shapes.append(tuple(feature_map.shape))):
            classifier(torch.empty(3, 3, 64, 64))
    taps = [tap for tap in classifier.taps if tap.layer.startswith("stage")]
    assert [tap.module for tap in taps] == list(stages)
    assert shapes[: len(taps)] == [(3, *size) for size in stages.values()]


class Stages(nn.Module):
    """Stages within lists of modules of a part of the network, of several maps each."""

    def __init__(self, feature_info):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(8, N_CLASSES)
        self.feature_info = feature_info

    def forward(self, images):
        maps = [images]
        for block in self.encoder.blocks:
            maps = block(maps)
        return self.head(maps[-1].mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Halving(3), Halving(8)])


class Halving(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.halve = nn.Conv2d(channels, 8, 3, stride=2, padding=1)

    def forward(self, maps):
        return [*(2 * one for one in maps), self.halve(self.norm(maps[-1])).relu()]


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        (("encoder.blocks.0", 8, 2), "encoder.blocks.0[1]"),
        (("blocks.0", 8, 2), "encoder.blocks.0[1]"),  # as the encoder declares it
        (("encoder.blocks.1", 8, 2), "encoder.blocks.1[1]"),
        (("encoder.blocks.1", 8, 4), "encoder.blocks.1[2]"),
        (("encoder.blocks.1", 3, 1), "encoder.blocks.1[0]"),
        (("encoder.blocks", 8, 4), "encoder.blocks.1[2]"),  # a list of modules ends with the last of them
        (("encoder", 8, 4), "encoder.blocks.1[2]"),
        (("norm", 8, 2), None),  # there are two
        (("body", 8, 2), None),
    ],
)
def test_which_map_is_the_end_of_a_stage(declared, path):
    stage = dict(zip(("module", "num_chs", "reduction"), declared, strict=True))
    network = Stages([stage])
    taps = stage_taps(network, "it", N_CLASSES, 16)
    if path:
        assert taps == [Tap("stage 1", path, "spatial"), Tap("logits", "head", "logits")]
    else:
        assert taps == child_taps(network, "it", N_CLASSES, 16)
        assert taps[0] == Tap("encoder.blocks.0[0]", "encoder.blocks.0[0]", "spatial")


@pytest.mark.parametrize(
    ("name", "input_size", "modules"),
    [
        (
            "hrnet_w18_small",
            64,
            [
                "act1",
                "layer1",
                "transition1.0",
                "stage2[0]",
                "stage2[1]",
                "stage4[3]",
                "incre_modules.3",
                "global_pool",
            ],
        ),
        ("mvitv2_tiny", 64, ["patch_embed[0]", "stages.0[0]", "stages.1[0]", "stages.2[0]", "stages.3[0]", "norm"]),
        ("twins_svt_small", 64, ["patch_embeds.0[0]", "blocks.0.0", "blocks.0.1", "blocks.3.3", "norm"]),
        ("mobilenetv5_base", 64, ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "msfa", "global_pool"]),
    ],
)
def test_children_stand_in_for_stages_that_timm_declares_and_that_are_not_there(name, input_size, modules):
    with torch.device("meta"):
        *before, last = build_classifier(name, N_CLASSES, input_size).taps
    assert [tap.module for tap in before if tap.module in modules] == modules
    assert all(tap.layer == tap.module for tap in before)
    assert last == Tap("logits", "classifier" if "net" in name else "head", "logits")


def test_a_network_of_timm_without_stages_has_those_of_its_children():
    network = Network().eval()
    network.feature_info = []
    assert stage_taps(network, "it", N_CLASSES, 16) == child_taps(network, "it", N_CLASSES, 16)


# ------------------------------------------------------------------------------------------------ children


@pytest.mark.parametrize(
    ("name", "input_size", "modules"),
    [
        (
            "torchvision.models:resnet18",
            64,
            ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"],
        ),
        ("torchvision.models:mobilenet_v3_small", 64, ["features", "avgpool", "classifier"]),
        (
            "torchvision.models:squeezenet1_1",
            64,
            ["features", "classifier"],
        ),  # (B, n_classes, 1, 1), flattened at the end
        ("torchvision.models:vit_b_16", 224, ["conv_proj", "encoder", "heads"]),
        ("torchvision.models:swin_t", 224, ["features", "norm", "permute", "avgpool", "flatten", "head"]),
        ("torchvision.models:maxvit_t", 224, ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "classifier"]),
    ],
)
def test_children_of_networks_of_torchvision(name, input_size, modules):
    with torch.device("meta"):
        classifier = build_classifier(name, N_CLASSES, input_size)
    assert [(tap.layer, tap.module) for tap in classifier.taps] == [
        *((module, module) for module in modules[:-1]),
        ("logits", modules[-1]),
    ]
    kinds = {"avgpool": "pooled", "flatten": "pooled", modules[-1]: "logits"}
    assert [tap.kind for tap in classifier.taps] == [kinds.get(module, "spatial") for module in modules]


def test_children_that_give_no_map_are_left_out():
    assert child_taps(Network(), "it", N_CLASSES, 16) == [
        Tap("stem", "stem", "spatial"),
        Tap("body", "body", "spatial"),
        Tap("parts[0]", "parts[0]", "spatial"),
        Tap("parts[1]", "parts[1]", "spatial"),
        Tap("flat", "flat", "pooled"),
        Tap("logits", "head", "logits"),
    ]


class Record(nn.Module):
    """Gives an object of a class of its own, as some libraries do."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, images):
        return types.SimpleNamespace(features=self.body(self.stem(images)))


class OfRecord(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Record()
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, images):
        return self.head(self.backbone(images).features.mean((2, 3)))


def test_children_of_what_gives_no_map_stand_in_its_place():
    assert [tap.module for tap in child_taps(OfRecord(), "it", N_CLASSES, 16)] == [
        "backbone.stem",
        "backbone.body",
        "head",
    ]


class Ending(nn.Module):
    """The same network with another way to its logits."""

    def __init__(self, last, end=lambda logits: logits):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = last
        self.end = end

    def forward(self, images):
        return self.end(self.last(self.features(images)))


@pytest.mark.parametrize(
    ("last", "end", "logits"),
    [
        (nn.Linear(8, N_CLASSES), lambda x: x, "last"),
        (nn.Linear(8, N_CLASSES), lambda x: F.dropout(x, 0.5, training=False).flatten(1), "last"),
        (nn.Linear(8, N_CLASSES), lambda x: x * 2, "."),
        (nn.Linear(8, N_CLASSES), lambda x: x.relu_(), "."),
        (nn.Linear(8, N_CLASSES), lambda x: x.relu_().clone(), "."),
        (nn.Sequential(nn.Linear(8, N_CLASSES), nn.ReLU(inplace=True)), lambda x: x, "last"),
        (nn.Sequential(nn.Unflatten(1, (8, 1, 1)), nn.Conv2d(8, N_CLASSES, 1)), lambda x: x[:, :, 0, 0], "last"),
        (nn.Sequential(nn.Linear(8, 2 * N_CLASSES)), lambda x: x[:, :N_CLASSES], "."),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_logits_are_the_last_tap(last, end, logits, device):
    network = Ending(last, end).to(device)
    assert child_taps(network, "it", N_CLASSES, 16)[-1] == Tap("logits", logits, "logits")
    if device == "cpu":
        seen = []
        module_at(network, logits).register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(network(images), seen[0].flatten(1))


def test_the_innermost_module_after_the_last_change_gives_the_logits():
    """A linear layer that a ReLU overwrites has given something else; `1` and its parent give the logits."""
    network = Ending(nn.Sequential(nn.Linear(8, N_CLASSES), nn.ReLU(inplace=True), nn.Dropout(0.5)))
    with pytest.raises(ValueError, match=r"the last must be the logits, given by last\.1; .* last\.0 runs last"):
        named(network, ["features", "last.0"])
    assert [tap.module for tap in named(network, ["last.1"])] == ["last.1"]
    assert [tap.module for tap in named(network, ["last"])] == ["last"]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (nn.Linear(8, 3), r"gives a tensor of float32, \(3, 3\), for 3 images; .* logits of shape \(3, 7\)"),
        (Pair(), "gives a tuple of 2 for 3 images; [^.]*$"),
        (nn.Unflatten(1, (8, 1, 1)), r"gives a tensor of float32, \(3, 8, 1, 1\),[^.]*$"),
        (Segmentation(), r"gives a mapping of out for 3 images; [^.]*$"),
        (
            nn.Sequential(nn.Linear(8, N_CLASSES), nn.Unflatten(1, (1, N_CLASSES)), Whole()),
            r"gives a tensor of int64, \(3, 7\),",
        ),
    ],
)
def test_a_network_that_gives_no_logits_is_refused(last, message):
    with pytest.raises(ValueError, match=r"^architecture: the network " + message):
        named(Ending(last), ["last"])


class Output(collections.OrderedDict):
    """As of Hugging Face: a mapping with attributes."""


def with_logits(logits):
    return Output(loss=None, logits=logits, hidden_states=(logits[:, :2], logits))


@pytest.mark.parametrize(
    ("end", "place"),
    [
        (with_logits, "['logits']"),
        (lambda logits: (logits, logits[:, :2]), "[0]"),
        (lambda logits: logits[:, :, None, None], ".flatten(1)"),
        (lambda logits: {"main": [logits.argmax(1), logits[..., None]]}, "['main'][1].flatten(1)"),
    ],
)
def test_the_wrapper_to_write_around_a_network_whose_logits_lie_in_its_output(end, place, monkeypatch):
    """The lines of the message are run as they are. All that the network consists of is observed behind them."""

    def build(num_classes, **options):
        return Ending(nn.Linear(8, num_classes), end)

    with pytest.raises(
        ValueError, match=r"^architecture: own:build gives .* for 3 images; .* Name a module"
    ) as refused:
        child_taps(build(N_CLASSES), "own:build", N_CLASSES, 16)
    lines = str(refused.value).partition("\n")[2]
    assert f"self.network(images){place}" in lines
    monkeypatch.setitem(sys.modules, "own", types.SimpleNamespace(build=build))
    names = {}
    exec(lines, names)
    taps = child_taps(names["Logits"](N_CLASSES), "own:Logits", N_CLASSES, 16)
    assert [tap.module for tap in taps] == ["network.features", "network.last"]


def test_a_network_that_does_not_run_at_this_size_is_refused():
    network = Ending(nn.Linear(9, N_CLASSES))
    with pytest.raises(
        ValueError, match=r"^input_size: the network does not run on 16 x 16 pixels: RuntimeError: .*mat1"
    ):
        named(network, ["last"])
    assert not network.features[0]._forward_hooks


# ------------------------------------------------------------------------------------------------ taps by name


def test_a_list_and_a_mapping_of_taps():
    assert named(Network(), ["stem", "body.1", "head"]) == [
        Tap("stem", "stem", "spatial"),
        Tap("body.1", "body.1", "spatial"),
        Tap("head", "head", "logits"),
    ]
    assert named(Network(), {"first": "stem", "the end": "."}) == [
        Tap("first", "stem", "spatial"),
        Tap("the end", ".", "logits"),
    ]


def test_taps_are_in_the_order_in_which_they_run():
    assert [tap.module for tap in named(Network(), ["head", "body", "body.0", "stem"])] == [
        "stem",
        "body.0",
        "body",
        "head",
    ]


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["stem", "bodi.1", "head"], r"^taps\[1\]: the network has no module bodi\.1; the nearest are body\.1, "),
        ({"a map": "haed"}, r"^taps\.a map: the network has no module haed; the nearest are shared, head"),
        (["stem.weight"], r"^taps\[0\]: the network has no module stem\.weight; the nearest are stem"),
        (["qqq"], r"the nearest are head, stem, body, shared, parts, whole, other_images, flat, idle$"),
        (["stem", "stem", "head"], r"^taps\[1\]: stem is the module of stem as well; name it once"),
        ({"a": "stem", "b": "stem", "c": "head"}, r"^taps\.b: stem is the module of a as well"),
        (["shared", "head"], r"^taps\[0\]: shared runs 2 times in a pass; a tap must run once"),
        (["parts[0]", "stem", "parts[0]", "head"], r"^taps\[2\]: parts\[0\] is the module of parts\[0\] as well"),
        (["parts[2]", "head"], r"^taps\[0\]: parts gives a tuple of 2 .*; its maps are parts\[0\], parts\[1\]$"),
        (["stem[0]", "head"], r"^taps\[0\]: stem gives a tensor of float32, .*; its maps are stem$"),
        (["prats[0]", "head"], r"^taps\[0\]: the network has no module prats; the nearest are parts"),
        (["idle", "head"], r"^taps\[0\]: idle runs 0 times in a pass"),
        (
            ["parts", "head"],
            r"^taps\[0\]: parts gives a tuple of 2 for 3 images; a tap must give floats, \(B, \.\.\.\); "
            r"its maps are parts\[0\], parts\[1\]$",
        ),
        (["whole", "head"], r"^taps\[0\]: whole gives a tensor of int64, \(3, 8, 8\), for 3 images"),
        (["other_images", "head"], r"^taps\[0\]: other_images gives a tensor of float32, \(1, 8, 8, 8\), for 3"),
        (["stem", "flat"], r"^taps: the last must be the logits, given by head; of those named, flat runs last"),
    ],
)
def test_taps_that_cannot_be_observed_are_refused(taps, message):
    with pytest.raises(ValueError, match=message):
        named(Network(), taps)


def test_up_to_five_of_the_nearest_paths_are_told():
    with torch.device("meta"), pytest.raises(ValueError, match=r"has no module layr1") as refused:
        build_classifier("torchvision.models:resnet18", 3, 64, taps=["layr1", "fc"])
    near = re.search(r"the nearest are (.*)", str(refused.value))[1].split(", ")
    assert near[0] == "layer1"
    assert len(near) == 5


def test_taps_of_the_registrys_networks_can_be_named():
    options = {"blocks": [1, 1, 1, 1], "width": 0.125}
    classifier = build_classifier("resnet18", 5, 32, options=options, taps={"middle": "layer2.0.act1", "end": "fc"})
    assert classifier.taps == (Tap("middle", "layer2.0.act1", "spatial"), Tap("end", "fc", "logits"))
    seen = []
    with classifier.eval().observed(lambda position, feature_map: seen.append(feature_map)):
        logits = classifier(torch.zeros(1, 3, 32, 32))
    assert seen[0].shape == (1, 16, 4, 4)
    assert torch.equal(seen[1], logits)


# ------------------------------------------------------------------------------------------------ kinds


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_kinds_that_the_registry_declares_are_those_that_are_found(name):
    with torch.device("meta"):
        declared = build_classifier(name, 200).taps
        found = build_classifier(name, 200, taps=[tap.module for tap in declared]).taps
    assert [(tap.module, tap.kind) for tap in found] == [(tap.module, tap.kind) for tap in declared]


@pytest.mark.parametrize(
    ("name", "input_size", "options", "kinds"),
    [
        # The last maps have one place at these sizes, by strided convolutions with padding and by poolings of 2x2.
        ("torchvision.models:resnet18", 32, {}, {"layer3": "spatial", "layer4": "spatial", "avgpool": "pooled"}),
        ("densenet121", 32, {}, {"features.transition3": "spatial", "features.norm5": "spatial"}),
        # A fully connected layer written as a convolution of the pooled map.
        ("mobilenetv3_small_100", 64, {}, {"blocks.5": "spatial", "global_pool": "pooled", "act2": "fully connected"}),
        # Squeeze and excitation pools on the way.
        ("regnety_002", 64, {}, {"s4.b1.se.fc1": "fully connected", "s4.b1": "spatial", "head.global_pool": "pooled"}),
        (
            "torchvision.models:alexnet",
            64,
            {},
            {"features": "spatial", "classifier.0": "spatial", "classifier.2": "fully connected"},
        ),
        # The map flattened as it is, and tokens averaged by no module.
        ("torchvision.models:vgg11", 32, {}, {"avgpool": "spatial", "classifier.4": "fully connected"}),
        ("vit_tiny_patch16_224", 64, {"global_pool": "avg"}, {"norm": "spatial", "fc_norm": "pooled"}),
        ("convnext_tiny", 64, {}, {"stages.3.blocks.0.mlp.fc1": "spatial", "head.flatten": "pooled"}),
    ],
)
def test_kinds_of_other_networks(name, input_size, options, kinds):
    with torch.device("meta"):
        *_, last = build_classifier(name, N_CLASSES, input_size, options=options).taps
        taps = build_classifier(name, N_CLASSES, input_size, options=options, taps=[*kinds, last.module]).taps
    assert {tap.module: tap.kind for tap in taps} == kinds | {last.module: "logits"}


def test_an_average_over_the_whole_map_is_a_global_pooling():
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()),
        *(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, N_CLASSES)),
    )
    kinds = [tap.kind for tap in child_taps(network, "it", N_CLASSES, 16)]
    assert kinds == ["spatial"] * 4 + ["pooled"] * 2 + ["fully connected"] * 2 + ["logits"]


# ------------------------------------------------------------------------------------------------ the pass


def test_the_pass_leaves_the_network_as_it_was():
    network = Network().train()
    network.body[0].eval()
    modes = {module: module.training for module in network.modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    named(network, ["stem", "head"])
    assert {module: module.training for module in network.modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_failed_pass_leaves_the_modes_too():
    network = Ending(nn.Sequential(nn.Linear(9, N_CLASSES))).train()
    with pytest.raises(ValueError, match="does not run"):
        child_taps(network, "it", N_CLASSES, 16)
    assert all(module.training for module in network.modules())


def test_the_registrys_own_taps_cost_no_pass(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a pass")

    monkeypatch.setattr(finding_taps, "_Pass", refuse)
    options = {"blocks": [1, 1, 1, 1], "width": 0.125}
    build_classifier("resnet18", 5, 32, options=options)
    with pytest.raises(AssertionError, match="a pass"):
        build_classifier("resnet18", 5, 32, options=options, taps=["fc"])


@pytest.mark.gpu
def test_a_network_on_another_device_is_looked_at_there():
    assert [tap.module for tap in named(Network().cuda(), ["stem", "head"])] == ["stem", "head"]
