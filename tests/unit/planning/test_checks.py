import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

from perturbflow.attacks.gradient_sign import ATTACKS
from perturbflow.classifiers.building import build_classifier
from perturbflow.planning.checks import mistakes
from perturbflow.planning.config import CONTROLS, OWN_ATTACKS
from tests.inputs import load_config

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.body(images))

class Four(Net):
    def __init__(self):
        super().__init__(4)

class OffMeta(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes, width=int(torch.arange(5).sum().item()))

class Failing(Net):
    def __init__(self, num_classes):
        raise FileNotFoundError("no constants.npy")

class Blur(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.pool = nn.AvgPool2d(size, 1, size // 2)

    def forward(self, pixels):
        return self.pool(pixels)

class Small(nn.Module):
    def forward(self, pixels):
        return pixels[:, :, ::2]

class Wide(nn.Module):
    def forward(self, pixels):
        return pixels @ torch.zeros(99, 3)

def number():
    return 3

def missing():
    raise FileNotFoundError("no table.npy")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own` in the working directory."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own", None)


def classifier(architecture="resnet18", **settings):
    defaults = {
        "architecture": architecture,
        "input_size": 32,
        "weights": "none",
        "options": {},
        "taps": None,
        "normalization": None,
        "interpolation": None,
        "logits": None,
        "predict_among": "data",
        "training": {"max_epochs": 1},
    }
    return {**defaults, **settings}


def foolbox(attack, epsilon=8.0, **options):
    return {"attack": attack, "attacker": "plain", "stopping_classifier": None, "epsilon": epsilon, "options": options}


def study(classifiers=None, denoisers=None, adversarial_sets=None):
    """The keys of a resolved config that matter here; without arguments nothing of one's own."""
    return {
        "run": "a_study_that_is_not_there",
        "seed": 0,
        "replicates": [0],
        "data": {
            "source": "digits",
            "path": None,
            "download": False,
            "image_size": 32,
            "splits": ["train", "val"],
            "classes": None,
            "images_per_class": {"train": None, "val": None},
        },
        "compute": {"device": "cpu"},
        "classifiers": {"plain": classifier(), **(classifiers or {})},
        "denoisers": {"unet": {"architecture": "unet", "options": {}}, **(denoisers or {})},
        "adversarial_sets": {
            **{attack: {"attack": attack, "step": 1.0, "max_steps": 4} for attack in OWN_ATTACKS | CONTROLS},
            **(adversarial_sets or {}),
        },
    }


# ------------------------------------------------------------------------------------------------ what is checked


def test_the_attacks_that_are_not_foolboxs_are_those_of_the_package():
    assert set(ATTACKS) == OWN_ATTACKS


@pytest.mark.parametrize("file", ["config.yaml", "demo.yaml", "tiny-imagenet-mini.yaml"])
def test_the_studies_of_the_repository_are_right(repository, file):
    config = load_config(repository / "config" / file)
    assert mistakes(config) == []


def test_a_plain_config_imports_nothing_heavy(repository):
    code = (
        "import sys, yaml; from perturbflow.planning.checks import mistakes; "
        "from perturbflow.planning.config import resolve_config; "
        "assert not mistakes(resolve_config(yaml.safe_load(open('config/demo.yaml')))); "
        "print({'torch', 'timm', 'foolbox', 'h5py', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_papers_entries_are_not_made_beside_ones_own(own):
    """`plain` has an option that its builder refuses; config.py tells of it."""
    config = study({"mine": classifier("own:Net")})
    config["classifiers"]["plain"]["options"] = {"depth": 3}
    assert mistakes(config) == []


# ------------------------------------------------------------------------------------------------ classifiers


def test_what_is_right_passes(own):
    config = study(
        classifiers={
            "atto": classifier("convnext_atto", taps={"a map": "stages.1", "end": "head.fc"}),
            "tv": classifier("torchvision.models:mobilenet_v3_small", options={"width_mult": 0.5}),
            "mine": classifier("own:Net", options={"width": 8}, taps=["body.1", "head"]),
            "off_meta": classifier("own:OffMeta"),
            "of_registry": classifier("resnet18", taps=["layer1", "fc"], options={"width": 0.25}),
            "imagenet": classifier("resnet26", weights="imagenet"),
            "hub": classifier("hf-hub:org/name", weights="imagenet"),
        },
        denoisers={"blur": {"architecture": "own:Blur", "options": {"size": 5}}},
        adversarial_sets={
            "pgd": foolbox("LinfPGD", steps=5),
            "deepfool": foolbox("L2DeepFoolAttack", epsilon=None, steps=5),
            "deepfool_8": foolbox("L2DeepFoolAttack", epsilon=8.0),
        },
    )
    assert mistakes(config) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"architecture": "convnext_ato"},
            "architecture: convnext_ato is known neither here nor to timm; the nearest are convnext_atto",
        ),
        ({"architecture": "own:Nets"}, "architecture: own:Nets: own has no Nets; did you mean Net?"),
        ({"architecture": "local-dir:own"}, "architecture: local-dir:own cannot be had: FileNotFoundError"),
        ({"architecture": "owm:Net"}, "architecture: owm:Net: there is no module owm"),
        ({"architecture": "own:Failing"}, "architecture: own:Failing cannot be made: FileNotFoundError: no constants"),
        (
            {"architecture": "own:Net", "options": {"widht": 8}},
            "options.widht: own:Net has no such argument; it takes width",
        ),
        (
            {"architecture": "own:Net", "taps": ["bodi", "head"]},
            "taps[0]: own:Net has no module bodi; the nearest are body",
        ),
        ({"architecture": "own:Net", "taps": {"a": "body"}}, "taps: the last must be the logits, given by head"),
        ({"architecture": "resnet18", "taps": ["layer9", "fc"]}, "taps[0]: resnet18 has no module layer9"),
        ({"architecture": "inception_v3"}, "input_size: inception_v3 does not run on 32 x 32 pixels"),
        (
            {"architecture": "cs3darknet_s", "weights": "imagenet"},
            "weights: timm has no weights for cs3darknet_s",
        ),
        (
            {"architecture": "test_resnet", "options": {"steam_width": 8}},
            "options.steam_width: test_resnet has no such argument; it takes stem_width",
        ),
    ],
)
def test_a_classifier_that_cannot_be_used_is_told(own, settings, expected):
    (mistake,) = mistakes(study({"mine": classifier(**settings)}))
    assert mistake.startswith(f"classifiers.mine.{expected}")


def test_networks_are_looked_at_without_memory_for_their_weights(own, monkeypatch):
    devices = []
    monkeypatch.setattr(
        "perturbflow.classifiers.building.classifier_of_data",
        lambda *arguments, **options: devices.append(torch.empty(0).device.type),
    )
    assert mistakes(study({"mine": classifier("own:Net")})) == []
    assert devices == ["meta"]


# ------------------------------------------------------------------------------------------------ denoisers


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("own:Blurr", {}, "architecture: own:Blurr: own has no Blurr; did you mean Blur?"),
        ("nowhere:Blur", {}, "architecture: nowhere:Blur: there is no module nowhere"),
        ("own:Blur", {"sise": 3}, "options.sise: own:Blur has no such argument; it takes size"),
        ("own:Blur", {"size": "x"}, "options: own:Blur cannot be made with {'size': 'x'}: TypeError"),
        ("own:missing", {}, "options: own:missing cannot be made: no table.npy"),
        ("own:number", {}, "architecture: own:number gives a int, not a torch.nn.Module"),
        ("own:Small", {}, "architecture: own:Small does not run on 32 x 32 pixels: denoiser own:Small turns images"),
        ("own:Wide", {}, "architecture: own:Wide does not run on 32 x 32 pixels"),
        ("torch:pi", {}, "options: torch:pi cannot be made: TypeError: 'float' object is not callable"),
    ],
)
def test_a_denoiser_that_cannot_be_used_is_told(own, path, options, expected):
    (mistake,) = mistakes(study(denoisers={"mine": {"architecture": path, "options": options}}))
    assert mistake.startswith(f"denoisers.mine.{expected}")


# ------------------------------------------------------------------------------------------------ attacks


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (foolbox("LinfPDG"), "attack: LinfPDG is no attack of Foolbox; did you mean LinfPGD"),
        (foolbox("igfsm"), "attack: igfsm is no attack; did you mean ifgsm?"),
        (foolbox("gausian_noise"), "attack: gausian_noise is no attack; did you mean gaussian_noise?"),
        (foolbox("Attack"), "attack: Foolbox's Attack cannot be used"),
        (foolbox("LinfPGD", step=5), "options: LinfPGD takes no step; did you mean steps"),
        (foolbox("LinfPGD", steps="many"), "options: steps of LinfPGD is 'many'; it takes a whole number"),
        (foolbox("LinfPGD", epsilon=None), "epsilon: LinfProjectedGradientDescentAttack needs an epsilon"),
    ],
)
def test_an_attack_that_cannot_be_used_is_told(settings, expected):
    (mistake,) = mistakes(study(adversarial_sets={"mine": settings}))
    assert mistake.startswith(f"adversarial_sets.mine.{expected}")


def test_all_mistakes_are_told_at_once(own):
    config = study(
        {"a": classifier("own:Nets"), "b": classifier("own:Net", taps=["x", "head"])},
        {"c": {"architecture": "own:Blurr", "options": {}}},
        {"d": foolbox("LinfPGD", step=5)},
    )
    beginnings = ["classifiers.a.", "classifiers.b.taps[0]", "denoisers.c.", "adversarial_sets.d."]
    told = mistakes(config)
    assert len(told) == 4
    assert all(text.startswith(beginning) for text, beginning in zip(told, beginnings, strict=True))


def test_a_denoiser_without_parameters_cannot_be_trained():
    settings = {"architecture": "torch.nn:Identity", "options": {}, "stages": [{"epochs": 1}]}
    assert mistakes(study(denoisers={"mine": settings})) == [
        "denoisers.mine.stages: torch.nn:Identity has no parameters to train; write []"
    ]
    assert mistakes(study(denoisers={"mine": {**settings, "stages": []}})) == []


# ------------------------------------------------------------------------------------------------ heads


def weights_of(architecture, n_logits, path, **options):
    torch.save(build_classifier(architecture, n_logits, 32, options=options).network.state_dict(), path)
    return {"weights": str(path), "options": options, "training": {"max_epochs": 0}}


SMALL = {"blocks": [1, 1, 1, 1], "width": 0.125}


@pytest.mark.parametrize(("architecture", "options"), [("resnet18", SMALL), ("own:Net", {})])
def test_a_last_layer_that_would_stay_random_is_refused(own, tmp_path, architecture, options):
    """And is none where the number of classes is the data's, which here is ten."""
    for n_logits in (10, 1000):
        settings = weights_of(architecture, n_logits, tmp_path / "weights.pth", **options)
        found = mistakes(study({"mine": classifier(architecture, **settings)}))
        if n_logits == 10:
            assert found == []
        else:
            (mistake,) = found
            assert mistake.startswith(
                "classifiers.mine.training.max_epochs: 0 would leave the last layer random: that of "
            )
            assert "is for 1000 classes, the data have 10. " in mistake and "logits: imagenet" in mistake
            assert (
                mistakes(study({"mine": classifier(architecture, **settings | {"training": {"max_epochs": 1}})})) == []
            )


@pytest.mark.parametrize(
    ("architecture", "weights", "reason"),
    [
        ("resnet26", "imagenet", "timm's weights are for 1000 classes, the data have 10"),
        ("resnet18", "imagenet", "timm's weights are for 1000 classes, the data have 10"),
        ("vit_tiny_patch16_224.augreg_in21k", "imagenet", "timm's weights are for 21843 classes, the data have 10"),
        ("resnet26", "none", "there are no weights"),
        ("resnet18", "none", "there are no weights"),
    ],
)
def test_without_training_a_new_last_layer_is_refused(architecture, weights, reason):
    settings = {"weights": weights, "training": {"max_epochs": 0}, "input_size": None}
    (mistake,) = mistakes(study({"mine": classifier(architecture, **settings)}))
    assert f"max_epochs: 0 would leave the last layer random: {reason}" in mistake


def test_a_last_layer_of_other_classes_is_used_as_it_is(tmp_path):
    settings = weights_of("resnet18", 12, tmp_path / "weights.pth", **SMALL)
    numbers = {str(digit): 11 - digit for digit in range(10)}
    names = ["", "a", *"9876543210"]
    for logits in (numbers, names, {**numbers, "unused": 4}):
        config = study({"mine": classifier(**settings, logits=logits)})
        assert mistakes(config) == [], logits
    for logits, expected in {
        "imagenet": "no label set of ImageNet that timm knows has 12 classes",
        "imagenet-1k": "imagenet-1k does not tell one logit for 0",
    }.items():
        (mistake,) = mistakes(study({"mine": classifier(**settings, logits=logits)}))
        assert mistake.startswith(f"classifiers.mine.logits: {expected}")
    (mistake,) = mistakes(study({"mine": classifier(**settings, logits=[*names, "b"])}))
    assert mistake.startswith("classifiers.mine.logits: are said to stand for 13 classes, but that of ")
    assert mistake.endswith("is for 12 classes")


def test_a_network_of_ones_own_may_have_a_fixed_number_of_logits(own):
    """The number of classes is the data's."""
    config = study({"mine": classifier("own:Four")})
    (mistake,) = mistakes(config)
    assert re.match(
        r"classifiers\.mine\.architecture: own:Four gives a tensor of float32, \((\d), 4\), for \1 images", mistake
    )
    config["data"]["classes"] = 4
    assert mistakes(config) == []


def test_weights_that_do_not_fit_are_told(tmp_path):
    settings = weights_of("resnet18", 10, tmp_path / "weights.pth", **SMALL)
    (mistake,) = mistakes(study({"mine": classifier(**settings | {"options": {**SMALL, "width": 0.25}})}))
    assert mistake.startswith(f"classifiers.mine.weights: {tmp_path}/weights.pth")
    (mistake,) = mistakes(study({"mine": classifier(**settings | {"weights": "nowhere.pth"})}))
    assert mistake.startswith("classifiers.mine.weights: nowhere.pth")


# ------------------------------------------------------------------------------------------------ data, attacks, device


def test_data_that_are_not_there_are_told_with_all_else(own, tmp_path):
    config = study({"mine": classifier("own:Nets")})
    config["data"] |= {"source": "image-folder", "path": "nowhere"}
    first, second = mistakes(config)
    assert first.startswith("data: nowhere") and second.startswith("classifiers.mine.architecture")


def test_one_class_is_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "only").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / split / "only" / "a.png")
    config = study()
    config["data"] |= {"source": "image-folder", "path": str(tmp_path)}
    assert mistakes(config) == ["data: the only class is only; a classifier needs two at least"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"attack": "fgsm", "step": 0.001, "max_steps": 4},
            "step: with 4 steps of it no pixel value changes by more than",
        ),
        (foolbox("LinfPGD", epsilon=0.01), "epsilon: 0.01 is a change of 0.01 of 255 in each pixel value, which fools"),
        (
            foolbox("L2PGD", epsilon=0.5),
            "epsilon: 0.5 is a change of 0.009 of 255 in each pixel value, which fools nobody",
        ),
    ],
)
def test_an_attack_without_a_chance_is_told(settings, expected):
    (mistake,) = mistakes(study(adversarial_sets={"mine": settings}))
    assert mistake.startswith(f"adversarial_sets.mine.{expected}") and "of images of 0 to 1 is" in mistake


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_told(device):
    config = study()
    config["compute"]["device"] = device
    assert mistakes(config) == [
        f"compute.device: there is no {device}, the machine has no GPU that torch can use; write auto or cpu"
    ]
    assert mistakes(config, is_local=False) == []
