import copy
import re

import pytest
import timm
import torch
from timm.models import save_for_hf

from perturbflow.attacks.gradient_sign import ATTACKS
from perturbflow.classifiers import building
from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier, load_classifier, save_classifier
from tests.unit.classifiers.example_networks import (
    CPU,
    SHRUNKEN,
    description,
    every_architecture,
    full_size,
    observe,
    random_pixels,
    shared,
    smallest,
)

# ------------------------------------------------------------------------------------------------ the registry


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vgg20", "vgg19"),
        ("densenet201_con", "densenet201_conv"),
        ("convnext_ato", "convnext_atto"),
        ("resnet50.a9_in1k", r"resnet50\.a1_in1k"),
        ("???", "resnet18, resnetv2_50"),
    ],
)
def test_an_unknown_architecture_is_refused_with_the_nearest_names(name, near):
    with pytest.raises(ValueError, match=rf"^architecture: {re.escape(name)} is known neither .* nearest are .*{near}"):
        build_classifier(name, 10)


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^options.depth: resnet18 has no such option; it takes: blocks, width"):
        build_classifier("resnet18", 10, options={"depth": 3})
    with pytest.raises(ValueError, match=r"^options.blocks: vgg19 has no such option; it takes: width, batch_norm"):
        build_classifier("vgg19", 10, options={"blocks": [1]})
    with pytest.raises(ValueError, match=r"^options.n_classes: "):
        build_classifier("resnet18", 10, options={"n_classes": 3})


@every_architecture
def test_imagenet_weights_are_asked_of_timm(name, monkeypatch):
    create_model, asked = timm.create_model, []
    expected = full_size(name).taps  # before timm is another

    def offline(model_name, pretrained, num_classes):
        asked.append((model_name, pretrained, num_classes))
        return create_model(model_name, num_classes=num_classes)

    monkeypatch.setattr(building.timm, "create_model", offline)
    with torch.device("meta"):
        classifier = build_classifier(name, 200, weights="imagenet").eval()
        logits = classifier(torch.empty(1, 3, 64, 64))
    assert asked == [(ARCHITECTURES[name].timm_name, True, 200)]
    assert classifier.taps == expected
    assert logits.shape == (1, 200)
    if name == "inception_resnet_v2":
        assert classifier.network.conv2d_1a.conv.stride == (1, 1)


def test_imagenet_weights_do_not_fit_a_shrunken_network():
    with pytest.raises(ValueError, match=r"^weights: ImageNet weights do not fit resnet18 shrunk by .*width"):
        build_classifier("resnet18", 10, weights="imagenet", options={"width": 0.5})


# ------------------------------------------------------------------------------------------------ timm, one's own


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "regnety_002"])
def test_a_network_of_timm_is_timms(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5, **({"img_size": 32} if name == "test_vit" else {})).eval()
    torch.manual_seed(0)
    classifier = build_classifier(name, 5, 32).eval()
    pixels = random_pixels(2, 32)
    with torch.no_grad():
        _, maps, logits = observe(classifier, pixels)
        assert torch.equal(logits, theirs(pixels / 127.5 - 1))
    assert torch.equal(maps[-1], logits)
    assert all(feature_map.isfinite().all() for feature_map in maps)


def test_options_go_to_timm():
    classifier = build_classifier("test_resnet", 5, 32, options={"layers": [2, 1, 1, 1], "stem_width": 8})
    assert len(classifier.network.layer1) == 2
    assert classifier.network.conv1[0].out_channels == 8


def test_a_network_of_timm_of_a_fixed_size_is_made_for_the_input():
    assert build_classifier("test_vit", 5, 32).network.patch_embed.img_size == (32, 32)
    assert build_classifier("test_vit", 5, 64, options={"img_size": 64}).network.patch_embed.img_size == (64, 64)


def test_imagenet_weights_of_any_network_are_asked_of_timm(monkeypatch):
    create_model, asked = timm.create_model, []

    def offline(name, pretrained, **arguments):
        asked.append((name, pretrained))
        return create_model(name, **arguments)

    monkeypatch.setattr(building.timm, "create_model", offline)
    build_classifier("test_resnet", 5, 32, weights="imagenet")
    build_classifier("test_resnet.r160_in1k", 5, 32, weights="imagenet")
    build_classifier("test_vit", 5, 32, weights="none")
    assert asked == [("test_resnet", True), ("test_resnet.r160_in1k", True), ("test_vit", False)]
    with pytest.raises(ValueError, match=r"^weights: timm has no weights for cs3darknet_s; give a file or none"):
        build_classifier("cs3darknet_s", 5, 32, weights="imagenet")


def test_a_network_of_a_folder_has_its_architecture_and_weights(tmp_path):
    torch.manual_seed(3)
    saved = timm.create_model("test_vit", num_classes=7, img_size=64)
    save_for_hf(saved, str(tmp_path), safe_serialization=True)
    ours = build_classifier(f"local-dir:{tmp_path}", 7, 64, weights="imagenet").network
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in saved.state_dict().items())
    smaller = build_classifier(f"local-dir:{tmp_path}", 5, 32).network  # a network of a fixed size
    assert smaller.pos_embed.shape != saved.pos_embed.shape
    assert smaller.num_classes == 5


def test_a_network_that_no_folder_or_hub_has_is_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"architecture: local-dir:{tmp_path} cannot be had: .*config.json"):
        build_classifier(f"local-dir:{tmp_path}", 7)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="architecture: hf-hub:nobody/nothing cannot be had: "):
        build_classifier("hf-hub:nobody/nothing", 7)


def test_a_failed_download_is_told_as_such(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(building.timm, "create_model", offline)
    for name in ("test_resnet", "test_vit"):
        with pytest.raises(ConnectionError, match="no route"):
            build_classifier(name, 5, 32, weights="imagenet")


def test_a_network_of_ones_own_is_made_with_classes_and_options(own_networks):
    classifier = build_classifier("own_networks:Net", 6, 16, options={"width": 8})
    assert classifier.network.head.weight.shape == (6, 8)
    assert classifier(random_pixels(2, 16)).shape == (2, 6)
    assert [(tap.layer, tap.module) for tap in classifier.taps] == [("body", "body"), ("logits", "head")]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("own_networks:Net", {"widht": 8}, r"^options\.widht: own_networks:Net has no such argument; it takes width$"),
        (
            "own_networks:make",
            {"widht": 8},
            r"^options\.widht: own_networks:make has no such argument; it takes width$",
        ),
        ("own_networks:Net", {"width": 0}, r"^options: own_networks:Net cannot be made with .*Arithmetic.*no width"),
        ("own_networks:Net", {"num_classes": 3}, r"^options\.num_classes: is not free, it is 5 here"),
        ("test_vit", {"num_classes": 3}, r"^options\.num_classes: is not free, it is 5 here"),
        ("test_resnet", {"pretrained": True}, r"^options\.pretrained: is not free, it is False here"),
        ("own_networks:Nets", {}, r"^architecture: own_networks:Nets: own_networks has no Nets; did you mean Net\?"),
        ("own_network:Net", {}, r"^architecture: own_network:Net: there is no module own_network"),
        ("own_networks:number", {}, r"^architecture: own_networks:number is a int, not something to call"),
        ("own_networks:of_nothing", {}, r"^architecture: own_networks:of_nothing gives a NoneType, not a torch"),
        ("own_networks:without_classes", {}, r"^architecture: .* gives .*, 3\), for . images; .*, 5\)"),
        (
            "test_resnet",
            {"stem_widht": 8},
            r"^options\.stem_widht: test_resnet has no such argument; it takes stem_width",
        ),
        ("test_vit", {"dept": 8}, r"^options\.dept: test_vit has no such argument; it takes depth"),
        ("torchvision.models:resnet18", {"group": 2}, r"^options\.group: torchvision.models:resnet18 .* takes groups"),
        ("test_resnet", {"layers": [1]}, r"^options: test_resnet cannot be made with .*layers"),
    ],
)
def test_what_cannot_be_made_is_refused(own_networks, path, options, message):
    with pytest.raises(ValueError, match=message):
        build_classifier(path, 5, 32, options=options)


def test_imagenet_weights_are_refused_for_a_network_of_ones_own():
    with pytest.raises(
        ValueError, match=r"^weights: imagenet is for networks of timm; for torchvision\.models:resnet18"
    ):
        build_classifier("torchvision.models:resnet18", 5, weights="imagenet")


# ------------------------------------------------------------------------------------------------ checkpoints


def test_equal_weights_make_equal_files(tmp_path):
    torch.manual_seed(0)
    classifier = build_classifier("resnet18", 3, 32, "none", {"blocks": [1, 1, 1, 1], "width": 0.125})
    for name in ("one.part", "another.part"):
        save_classifier(tmp_path / name, classifier, {"architecture": "resnet18"})
    assert (tmp_path / "one.part").read_bytes() == (tmp_path / "another.part").read_bytes()


@every_architecture
def test_a_saved_classifier_is_loaded_with_equal_logits(name, tmp_path):
    classifier = copy.deepcopy(shared(name)).train()
    with torch.no_grad():
        classifier(random_pixels(4))  # so that the statistics of batch normalisation are not those of a new network
    options = {"architecture": name, "n_classes": 10, "input_size": 64, "options": SHRUNKEN.get(name, {})}
    save_classifier(tmp_path / "checkpoint.pt", classifier, options | {"class_names": ["a", "b"], "git_commit": "x"})
    loaded = load_classifier(tmp_path / "checkpoint.pt", CPU)
    assert not loaded.training
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.taps == classifier.taps
    assert loaded.input_size == 64
    pixels = random_pixels().contiguous(memory_format=torch.channels_last)
    expected = classifier.eval().to(memory_format=torch.channels_last)(pixels)
    assert torch.equal(loaded(pixels), expected)


@pytest.mark.parametrize(
    ("architecture", "taps"),
    [
        ("test_resnet", None),
        ("test_resnet", ["layer2", "fc"]),
        ("own_networks:Net", {"the body": "body.1", "the end": "head"}),
        ("resnet18", ["layer3", "fc"]),
    ],
)
def test_a_classifier_with_taps_and_normalization_of_its_own_is_loaded(own_networks, architecture, taps):
    settings = {
        "architecture": architecture,
        "n_classes": 4,
        "input_size": 32,
        "options": {"width": 0.125} if architecture == "resnet18" else {},
        "taps": taps,
        "normalization": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
    }
    classifier = build_classifier(**settings).eval().to(memory_format=torch.channels_last)
    save_classifier(own_networks / "checkpoint.pt", classifier, settings)
    loaded = load_classifier(own_networks / "checkpoint.pt", CPU)
    assert loaded.taps == classifier.taps
    if taps:
        assert [tap.module for tap in loaded.taps] == list(taps.values() if isinstance(taps, dict) else taps)
    pixels = random_pixels().contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded(pixels), classifier(pixels))
    content = torch.load(own_networks / "checkpoint.pt", weights_only=True)
    assert content["taps"] == taps
    assert content["normalization"] == settings["normalization"]


def test_a_checkpoint_without_taps_and_normalization_has_the_defaults(checkpoint):
    assert not {"taps", "normalization"} & set(torch.load(checkpoint, weights_only=True))
    loaded = load_classifier(checkpoint, CPU)
    assert loaded.taps == smallest().taps
    assert torch.equal(loaded.divisor, torch.full((1, 3, 1, 1), 127.5))
    assert torch.equal(loaded.offset, torch.ones(1, 3, 1, 1))


def test_a_checkpoint_keeps_its_description(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert {key: content[key] for key in description(smallest())} == description(smallest())


def test_loading_a_frozen_classifier_keeps_gradients_of_pixels(checkpoint):
    pixels = random_pixels(1).requires_grad_()
    load_classifier(checkpoint, CPU)(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_attack_on_a_loaded_classifier_gives_finite_pixels(checkpoint, device, attack):
    device = torch.device(device)
    classifier = load_classifier(checkpoint, device)
    pixels = random_pixels(6, 32, device)
    labels = classifier(pixels).argmax(1)
    walk = ATTACKS[attack](step=2.0, max_steps=3, early_stop=False, batch_size=4)
    result = torch.full_like(pixels, torch.nan)
    for part in walk.stream(classifier, classifier, pixels, labels):
        result[part.index] = part.images
        assert part.images.device.type == device.type
    assert result.isfinite().all()
    assert 0 < (result - pixels).abs().max() <= 6.001
    assert result.min() >= 0
    assert result.max() <= 255
