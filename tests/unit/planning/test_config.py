import copy
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from perturbflow import vocabulary
from perturbflow.data.sources import SOURCES
from perturbflow.planning.config import (
    ConfigError,
    dereference,
    load_schema,
    merge,
    resolve_config,
    take_labels,
)
from perturbflow.planning.declarations import architectures, metric_names
from perturbflow.vocabulary import OTHER_COLORS
from tests.inputs import load_config

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.name != "schema.yaml")

SMALL = """
run: small
data: {source: digits}
classifiers:
  resnet18: {architecture: resnet18}
  vgg19: {architecture: vgg19}
  one: {architecture: vgg19, taps: [head.fc]}
adversarial_sets:
  fgsm: {attack: fgsm, attacker: resnet18, stopping_classifier: resnet18, step: 1.0, max_steps: 3}
  mifgsm: {attack: mifgsm, attacker: resnet18, stopping_classifier: null, step: 1.0, max_steps: 3, decay: 1.0}
denoisers:
  unet:
    architecture: unet
    mix: {fgsm: 0.25, mifgsm: 0.75}
    stages: [{epochs: 1, learning_rate: 1.0e-3}]
measure: {classifiers: [vgg19]}
tables:
  table1: {classifier: vgg19, denoiser: unet}
"""


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(SMALL)


def mistakes_of(config: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve_config(config, "config.yaml")
    return str(caught.value).splitlines()


def put(config: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        config = config.setdefault(key, {})
    config[last] = value


# ---- Configs that are right


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = load_config(path)

    assert resolve_config(config) == config, "a resolved config resolves to itself"


def test_defaults_are_filled_in_at_every_depth(config: dict[str, Any]) -> None:
    resolved = resolve_config(config)

    assert resolved["seed"] == 0
    assert resolved["data"]["images_per_class"] == {"train": None, "val": None}
    assert resolved["classifiers"]["vgg19"]["training"]["crop_scale"] == [0.85, 1.0]
    assert resolved["denoisers"]["unet"]["stages"][0]["weight_decay"] == 1e-5
    assert list(resolved["figures"]) == ["figure2", "figure3"]
    assert resolved["figures"]["figure2"]["colors"] == {}
    assert resolved["compute"]["device"] == "auto"


def test_the_argument_is_left_as_it_is(config: dict[str, Any]) -> None:
    before = copy.deepcopy(config)

    resolve_config(config)["classifiers"]["vgg19"]["training"]["batch_size"] = 1

    assert config == before


def test_home_and_variables_are_expanded_in_paths(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("SCRATCH", "/scratch/ann")
    config["data"] = {"source": "image-folder", "path": "${SCRATCH}/my/$SCRATCH"}
    config["classifier_defaults"] = {"weights": "~/weights.pth"}
    config["classifiers"]["vgg19"]["weights"] = "$SCRATCH/vgg.pth"
    config["run"] = "a.b"
    resolved = resolve_config(config)
    assert resolved["data"]["path"] == "/scratch/ann/my//scratch/ann"
    assert resolved["classifiers"]["resnet18"]["weights"] == "/home/ann/weights.pth"
    assert resolved["classifiers"]["vgg19"]["weights"] == "/scratch/ann/vgg.pth"
    assert config["data"]["path"] == "${SCRATCH}/my/$SCRATCH"
    assert resolve_config(resolved) == resolved


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("$NOWHERE/x", "$NOWHERE of $NOWHERE/x is not set in the environment; set NOWHERE, or write the path out"),
        (
            "a/${NO WHERE}",
            "${NO WHERE} of a/${NO WHERE} is not set in the environment; set NO WHERE, or write the path out",
        ),
        ("~nobody-here/x", "~nobody-here/x begins with the home of a user who is not there; write the path out"),
    ],
)
def test_what_stands_for_nothing_in_a_path_is_refused(
    config: dict[str, Any], path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    config["data"] = {"source": "image-folder", "path": path}
    config["classifiers"]["vgg19"]["weights"] = path
    assert mistakes_of(config) == [
        f"config.yaml: data.path: {message}",
        f"config.yaml: classifiers.vgg19.weights: {message}",
    ]


def test_own_entry_wins_over_classifier_defaults_and_these_over_the_schema(config: dict[str, Any]) -> None:
    config["classifier_defaults"] = {"weights": "none", "options": {"width": 0.5}, "training": {"max_epochs": 7}}
    config["classifiers"]["vgg19"] |= {"options": {"batch_norm": True}, "training": {"batch_size": 8, "max_epochs": 9}}

    resolved = resolve_config(config)["classifiers"]

    assert resolved["vgg19"]["options"] == {"width": 0.5, "batch_norm": True}
    assert resolved["vgg19"]["training"] == resolved["resnet18"]["training"] | {"batch_size": 8, "max_epochs": 9}
    assert resolved["resnet18"]["training"]["max_epochs"] == 7
    assert resolved["resnet18"]["training"]["batch_size"] == 64


def test_decay_belongs_to_mifgsm_alone(config: dict[str, Any]) -> None:
    sets = resolve_config(config)["adversarial_sets"]

    assert sets["mifgsm"]["decay"] == 1.0
    assert "decay" not in sets["fgsm"]


def test_labels_are_taken_out_of_the_config(config: dict[str, Any]) -> None:
    plain = resolve_config(config)
    assert take_labels(copy.deepcopy(plain)) == {}

    put(config, "classifiers.one.label", "One: a net")
    put(config, "adversarial_sets.fgsm.label", "FGSM, ε = 1")
    labelled = resolve_config(config)

    assert labelled["classifiers"]["one"]["label"] == "One: a net"
    assert take_labels(labelled) == {
        "classifiers": {"one": "One: a net"},
        "adversarial_sets": {"fgsm": "FGSM, ε = 1"},
    }
    assert labelled == plain


def test_merge_replaces_everything_but_mappings_and_shares_nothing() -> None:
    base = {"a": {"b": [1, 2], "c": 1}, "d": 1}
    over = {"a": {"b": [3]}, "d": {"e": 2}}

    merged = merge(base, over)
    merged["a"]["b"].append(4)

    assert merged == {"a": {"b": [3, 4], "c": 1}, "d": {"e": 2}}
    assert base == {"a": {"b": [1, 2], "c": 1}, "d": 1}
    assert over == {"a": {"b": [3]}, "d": {"e": 2}}


# ---- Configs that are wrong: what is put where, and what is said about it

MISTAKES = [
    # unknown and missing keys
    ("sed", 1, "sed: unknown key; did you mean 'seed'?"),
    ("adversarial_sets.fgsm.stp", 1, "adversarial_sets.fgsm.stp: unknown key; did you mean 'step'?"),
    ("classifiers.vgg19.trainin", {}, "classifiers.vgg19.trainin: unknown key; did you mean 'training'?"),
    ("classifiers.vgg19.training.lr", 1, "classifiers.vgg19.training.lr: unknown key; valid: learning_rate, "),
    ("classifier_defaults.architecture", "vgg19", "classifier_defaults.architecture: unknown key; "),
    ("classifier_defaults.training.epochs", 1, "...training.epochs: unknown key; did you mean 'max_epochs'?"),
    ("compute.gpu", 1, "compute.gpu: unknown key; valid: device, batch_size, threads"),
    ("data", {}, "data.source: missing, and it has no default"),
    ("classifiers.vgg19", {}, "classifiers.vgg19.architecture: missing, and it has no default"),
    ("adversarial_sets.mifgsm.attack", "fgsm", "adversarial_sets.mifgsm.decay: decay is for mifgsm alone; remove it"),
    ("adversarial_sets.fgsm.attack", "mifgsm", "adversarial_sets.fgsm.decay: missing, and it has no default"),
    # types
    ("seed", "one", "seed: must be an integer, got 'one'"),
    ("seed", True, "seed: must be an integer, got true"),
    ("seed", 1.0, "seed: must be an integer, got 1.0"),
    ("data", None, "data: must be a mapping, got nothing (null)"),
    ("data.download", "yes", "data.download: must be true or false, got 'yes'"),
    ("data.classes", "ten", "data.classes: must be an integer or null, got 'ten'"),
    ("data.source", "tiny-imagenet", "data.path: must be a string, got nothing (null)"),
    ("measure.classifiers", "vgg19", "measure.classifiers: must be a list, got 'vgg19'"),
    ("adversarial_sets.fgsm.step", float("nan"), "adversarial_sets.fgsm.step: must be a number, got nan"),
    (
        "classifier_defaults.training.learning_rate",
        "1e-5",
        "...learning_rate: must be a number, got '1e-5', which YAML takes for a string; write 1.0e-5",
    ),
    ("adversarial_sets.fgsm.step", "2.5e1", "...step: must be a number, got '2.5e1', which YAML ...; write 2.5e+1"),
    # ranges
    ("adversarial_sets.fgsm.step", -1, "adversarial_sets.fgsm.step: must be greater than 0, got -1"),
    ("adversarial_sets.fgsm.step", 256, "adversarial_sets.fgsm.step: must be at most 255, got 256"),
    ("data.image_size", 40, "data.image_size: must be a multiple of 16, got 40"),
    ("adversarial_sets.fgsm.max_steps", 0, "adversarial_sets.fgsm.max_steps: must be at least 1, got 0"),
    ("classifiers", {}, "classifiers: needs at least 1, has 0"),
    ("denoisers.unet.mix", {}, "denoisers.unet.mix: needs at least 1, has 0"),
    ("classifiers.vgg19.taps", [], "classifiers.vgg19.taps: needs at least 1, has 0"),
    ("classifiers.vgg19.normalization.std", [0, 1, 1], "...normalization.std[0]: must be greater than 0, got 0"),
    ("interventions.fractions", [0.5, 0], "interventions.fractions[1]: must be greater than 0, got 0"),
    (
        "denoisers.unet.stages",
        [{"epochs": 1, "learning_rate": 1e-3}, {"epochs": 0, "learning_rate": 1e-3}],
        "denoisers.unet.stages[1].epochs: must be at least 1, got 0",
    ),
    ("classifier_defaults.training.crop_scale", [1.0], "...crop_scale: needs at least 2, has 1"),
    ("classifier_defaults.training.crop_scale", [0.5, 0.6, 0.7], "...crop_scale: takes at most 2, has 3"),
    ("classifier_defaults.training.crop_scale", [1.0, 0.5], "...crop_scale: must ascend, got [1.0, 0.5]"),
    ("classifier_defaults.training.crop_scale", [0, 0.5], "...crop_scale[0]: must be greater than 0, got 0"),
    ("measure.classifiers", ["vgg19", "vgg19"], "measure.classifiers: names one twice: vgg19, vgg19"),
    ("denoisers.unet.mix", {"fgsm": 0.5, "mifgsm": 0.4}, "denoisers.unet.mix: must sum to 1, sums to 0.9"),
    # choices and names
    ("classifiers.vgg19.architecture", "my net", "...architecture: 'my net' does not fit; The network. `resnet18`, "),
    ("classifiers.vgg19.architecture", "nets:", "...architecture: 'nets:' does not fit; "),
    ("classifiers.vgg19.architecture", "hf-hub:", "...architecture: 'hf-hub:' does not fit; "),
    ("denoisers.unet.architecture", "unnet", "...architecture: 'unnet' does not fit; The network, one of `fus"),
    ("denoisers.unet.loss", "logit", "denoisers.unet.loss: 'logit' is not one of ...; did you mean 'logits'?"),
    ("denoisers.unet.precision", "float16", "...precision: 'float16' is not one of ...; did you mean 'bfloat16'?"),
    ("run", "a/b", "run: 'a/b' does not fit; Name of the study, of letters, digits, "),
    ("compute.device", "gpu", "compute.device: 'gpu' does not fit; `auto` (a GPU where there is one), `cpu`, "),
    ("figures", {"figure 2": {"metrics": ["cosine"]}}, "figures.figure 2: 'figure 2' does not fit; A name has letters"),
    ("denoisers.none", yaml.safe_load(SMALL)["denoisers"]["unet"], "denoisers.none: reserved for the raw adversary"),
    # names of other places
    ("adversarial_sets.fgsm.attacker", "resnet81", "...: 'resnet81' is not in classifiers; did you mean 'resnet18'?"),
    ("adversarial_sets.fgsm.stopping_classifier", "x", "...: 'x' is not in classifiers; valid: resnet18, vgg19, one"),
    ("denoisers.unet.mix", {"fgsn": 1.0}, "...mix.fgsn: 'fgsn' is not in adversarial_sets; did you mean 'fgsm'?"),
    ("measure.classifiers", ["vgg"], "measure.classifiers[0]: 'vgg' is not in classifiers; did you mean 'vgg19'?"),
    ("tables.table1.classifier", "vgg", "tables.table1.classifier: 'vgg' is not in classifiers; did you mean 'vgg19'?"),
    ("tables.table1.denoiser", "uent", "tables.table1.denoiser: 'uent' is not in denoisers; did you mean 'unet'?"),
    ("measure.metrics", ["cosine"], "figures.figure2.metrics[0]: 'normalized_euclidean' is not in measure.metrics; "),
    ("measure.metrics", ["cosin"], "measure.metrics[0]: 'cosin' is no metric; did you mean 'cosine'?"),
    ("interventions.adversarial_sets", ["fgms"], "...: 'fgms' is not in adversarial_sets; did you mean 'fgsm'?"),
    ("tables.table7.classifiers", ["resnet18"], "...: 'resnet18' is not in measure.classifiers; "),
    ("adversarial_sets.fgsm.denoiser", "une", "...: 'une' is not in denoisers; did you mean 'unet'?"),
    ("denoisers.unet.guide", "vgg19", "denoisers.unet.guide: only the losses logits and features have "),
    ("denoisers.unet.loss", "logits", "denoisers.unet.guide: missing, and it has no default"),
    ("denoisers.unet.options", {"depth": 3}, "denoisers.unet.options: only an imported network has options; "),
    # the three kinds of sets
    ("adversarial_sets.fgsm.epsilon", 2.0, "adversarial_sets.fgsm.epsilon: only attacks of Foolbox have an epsilon; "),
    ("adversarial_sets.fgsm.options", {"steps": 3}, "adversarial_sets.fgsm.options: only attacks of Foolbox have "),
    ("adversarial_sets.fgsm.norm_of", "mifgsm", "...norm_of: only sign_noise and gaussian_noise have a norm_of; "),
    ("adversarial_sets.noise", {"attack": "sign_noise"}, "adversarial_sets.noise.norm_of: missing, and "),
    (
        "adversarial_sets.noise",
        {"attack": "sign_noise", "norm_of": "fgsm", "step": 1.0},
        "adversarial_sets.noise.step: noise has no step; remove it",
    ),
    (
        "adversarial_sets.noise",
        {"attack": "sign_noise", "norm_of": "fgsm", "round_to_8_bits": True},
        "adversarial_sets.noise.round_to_8_bits: rounding would change the norm of the noise; remove it",
    ),
    (
        "adversarial_sets.pgd",
        {"attack": "LinfPGD", "attacker": "vgg19", "stopping_classifier": None},
        "adversarial_sets.pgd.epsilon: missing, and it has no default",
    ),
    (
        "adversarial_sets.pgd",
        {"attack": "LinfPGD", "attacker": "vgg19", "stopping_classifier": None, "epsilon": 2.0, "max_steps": 3},
        "adversarial_sets.pgd.max_steps: only fgsm, ifgsm and mifgsm have max_steps; ",
    ),
    (
        "figures.figure3",
        {"metrics": ["cosine"], "colors": {"fgsm1": "red"}},
        "figures.figure3.colors.fgsm1: 'fgsm1' is not in adversarial_sets; did you mean 'fgsm'?",
    ),
    (
        "figures.figure3",
        {"metrics": ["cosine"], "colors": {"fgsm": "blurple"}},
        "figures.figure3.colors.fgsm: 'blurple' is no colour of Matplotlib; ",
    ),
    (
        "adversarial_sets.small",
        {**yaml.safe_load(SMALL)["adversarial_sets"]["fgsm"], "step": 0.1, "round_to_8_bits": True},
        "adversarial_sets.small.round_to_8_bits: the attack changes no pixel by half a value, which rounding undoes; ",
    ),
    (
        "denoisers.fgd",
        {**yaml.safe_load(SMALL)["denoisers"]["unet"], "loss": "features", "guide": "one"},
        "denoisers.fgd.loss: the guide has one feature map, its logits; ",
    ),
    # labels
    ("classifiers.vgg19.label", "a|b", "classifiers.vgg19.label: 'a|b' does not fit; What tables and figures write "),
    ("adversarial_sets.fgsm.label", "costs $1", "...label: 'costs $1' does not fit; "),
    ("adversarial_sets.fgsm.label", "two\nlines", "...label: 'two\\nlines' does not fit; "),
    ("adversarial_sets.fgsm.label", "a line\n", "...label: 'a line\\n' does not fit; "),
    ("denoisers.unet.label", " ", "denoisers.unet.label: ' ' does not fit; "),
    ("denoisers.unet.label", "x" * 41, "denoisers.unet.label: takes at most 40, has 41"),
    ("denoisers.unet.label", 7, "denoisers.unet.label: must be a string, got 7"),
    ("classifier_defaults.label", "Net", "classifier_defaults.label: unknown key; "),
    ("classifiers.one.label", "VGG-19", "classifiers.one.label: 'VGG-19' is what vgg19 is called; take another"),
    ("adversarial_sets.mifgsm.label", "FGSM", "adversarial_sets.mifgsm.label: 'FGSM' is what fgsm is called; "),
    # shards
    ("compute.images_per_shard", 0, "compute.images_per_shard: must be at least 1, got 0"),
    ("compute", {"images_per_shard": 1000}, "compute.images_per_shard: 1000 is no multiple of compute.batch_size, 256"),
    ("compute", {"images_per_shard": 1000, "batch_size": 300}, "...: 1000 is no multiple of ..., 300; write 1200"),
    # networks
    (
        "classifiers.vgg19",
        {"architecture": "vgg19", "weights": "none", "options": {"width": 8}},
        "classifiers.vgg19.options.width: must be at most 1, got 8",
    ),
    (
        "classifiers.vgg19",
        {"architecture": "vgg19", "weights": "none", "options": {"blocks": [1, 1, 1, 1]}},
        "classifiers.vgg19.options.blocks: vgg19 has no such option; valid: batch_norm, width",
    ),
    (
        "classifiers.resnet18",
        {"architecture": "resnet18", "weights": "none", "options": {"blocks": [1, 1]}},
        "classifiers.resnet18.options.blocks: resnet18 has 4 stages, got 2 numbers",
    ),
    (
        "classifiers.vgg19",
        {"architecture": "vgg19", "weights": "none", "options": {"widht": 0.5}},
        "classifiers.vgg19.options.widht: vgg19 has no such option; did you mean 'width'?",
    ),
    (
        "classifiers.mine",
        {"architecture": "my_networks:Small"},
        "classifiers.mine.weights: an imported network has no ImageNet weights of its own; give a file or none",
    ),
    (
        "classifiers.vgg19",
        {"architecture": "vgg19", "options": {"width": 0.5}},
        "classifiers.vgg19.weights: ImageNet weights do not fit a network changed by options; write none, ",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "expected"), MISTAKES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_mistake_is_told_in_one_line(config: dict[str, Any], path: str, value: Any, expected: str) -> None:
    put(config, path, value)

    # "..." in what is expected stands for anything.
    pieces = expected.split("...")
    lines = [line.removeprefix("config.yaml: ") for line in mistakes_of(config)]

    assert any(line.startswith(pieces[0]) and all(piece in line for piece in pieces) for line in lines), lines


def test_labels_of_one_denoiser_are_told_from_short_forms_and_names_of_others(config: dict[str, Any]) -> None:
    unet = config["denoisers"]["unet"]
    config["denoisers"] |= {"a": {**unet, "label": "UN"}, "b": {**unet, "label": "b"}, "c": {**unet, "label": "a"}}
    config["denoisers"]["U-Net"] = unet  # called by its name, as unet is by the vocabulary

    assert mistakes_of(config) == ["config.yaml: denoisers.a.label: 'UN' is what unet is called; take another"]


def test_figures_whose_sets_share_a_colour_are_refused(config: dict[str, Any]) -> None:
    names = [f"set{number}" for number in range(len(OTHER_COLORS))]
    config["adversarial_sets"] |= dict.fromkeys(names, config["adversarial_sets"]["fgsm"])
    last = names[-1]  # fgsm has the first of the colours that the paper's sets have not
    config["figures"] = {
        "all": {"metrics": ["cosine"]},
        "few": {"metrics": ["cosine"], "adversarial_sets": [last, "mifgsm"]},
        "pair": {"metrics": ["cosine"], "adversarial_sets": [last, "fgsm"]},
        "coloured": {"metrics": ["cosine"], "colors": {last: "red"}},
        "badly": {"metrics": ["cosine"], "adversarial_sets": ["mifgsm", "set0"], "colors": {"set0": "#009e73"}},
        "black": {"metrics": ["cosine"], "adversarial_sets": ["set0", "set2"], "colors": {"set2": "k"}},
    }
    what_to_do = "name fewer, or other colours under colors"
    path = "config.yaml: figures.{}.adversarial_sets: {} sets, some of one colour: {} has that of {}; " + what_to_do
    assert mistakes_of(config) == [
        path.format("all", len(names) + 2, last, "fgsm"),
        path.format("pair", 2, "fgsm", last),
        path.format("badly", 2, "set0", "mifgsm"),
        path.format("black", 2, "set2", "set0"),
    ]


def test_a_figure_of_more_denoisers_than_line_styles_is_refused(config: dict[str, Any]) -> None:
    config["denoisers"] |= {f"unet{number}": config["denoisers"]["unet"] for number in range(5)}
    config["figures"] = {
        "all": {"metrics": ["cosine"]},
        "few": {"metrics": ["cosine"], "denoisers": ["unet", "unet3"]},
        "raw": {"metrics": ["cosine"], "denoisers": []},
    }
    assert mistakes_of(config) == ["config.yaml: figures.all.denoisers: 6 denoisers, but 5 line styles; name fewer"]


NOISE = {"attack": "sign_noise", "norm_of": "fgsm"}
ADAPTIVE = {**yaml.safe_load(SMALL)["adversarial_sets"]["fgsm"], "denoiser": "unet"}


def test_a_control_of_a_control_is_refused(config: dict[str, Any]) -> None:
    config["adversarial_sets"] |= {"noise": NOISE, "more": {"attack": "gaussian_noise", "norm_of": "noise"}}

    assert mistakes_of(config) == [
        "config.yaml: adversarial_sets.more.norm_of: 'noise' is noise itself; name an attack's set"
    ]


def test_a_control_of_itself_is_refused(config: dict[str, Any]) -> None:
    config["adversarial_sets"]["noise"] = {"attack": "sign_noise", "norm_of": "noise"}

    assert any("noise is needed to make itself" in line or "is noise itself" in line for line in mistakes_of(config))


def test_a_denoiser_trained_on_what_attacks_it_is_refused(config: dict[str, Any]) -> None:
    config["adversarial_sets"] |= {"adaptive": ADAPTIVE, "noise": {"attack": "sign_noise", "norm_of": "adaptive"}}
    config["denoisers"]["unet"]["mix"] = {"fgsm": 0.5, "noise": 0.5}

    lines = mistakes_of(config)

    assert [line.split(": ")[1] for line in lines] == ["adversarial_sets.adaptive", "adversarial_sets.noise"]
    assert all("is needed to make itself" in line for line in lines)


def test_an_adaptive_set_may_train_another_denoiser(config: dict[str, Any]) -> None:
    config["adversarial_sets"]["adaptive"] = ADAPTIVE
    config["denoisers"]["second"] = {**config["denoisers"]["unet"], "mix": {"adaptive": 1.0}}

    assert resolve_config(config)["denoisers"]["second"]["mix"] == {"adaptive": 1.0}


def test_replicates_may_be_named_in_any_order_and_on_the_command_line(config: dict[str, Any]) -> None:
    """There Snakemake makes texts of the numbers in a list."""
    assert resolve_config(config)["replicates"] == [0]
    for given in ([2, 0, 1], ["2", "0", "1"]):
        assert resolve_config(config | {"replicates": given})["replicates"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("replicates", "expected"),
    [
        ([], "replicates: needs at least 1, has 0"),
        ([1, 1], "replicates: "),
        ([-1], "replicates[0]: "),
        (["one"], "replicates[0]: must be an integer, got 'one'"),
        (3, "replicates: must be a list"),
    ],
)
def test_replicates_that_are_none_are_refused(config: dict[str, Any], replicates: Any, expected: str) -> None:
    (mistake,) = mistakes_of(config | {"replicates": replicates})
    assert mistake.startswith(f"config.yaml: {expected}")


def test_replicates_of_a_study_that_trains_nothing_are_refused(config: dict[str, Any]) -> None:
    config["classifier_defaults"] = {"training": {"max_epochs": 0}}
    config["denoisers"] = {}
    del config["tables"]
    resolve_config(config | {"replicates": [4]})
    (mistake,) = mistakes_of(config | {"replicates": [0, 1]})
    assert mistake == "config.yaml: replicates: nothing is trained, so that all would be the same; write [0]"


@pytest.mark.parametrize("images_per_shard", [None, 50, 1000])
def test_shards_are_whole_batches(config: dict[str, Any], images_per_shard: int | None) -> None:
    config["compute"] = {"images_per_shard": images_per_shard, "batch_size": 50}

    assert resolve_config(config)["compute"]["images_per_shard"] == images_per_shard


def test_networks_and_attacks_from_elsewhere_are_left_to_the_deep_checks(config: dict[str, Any]) -> None:
    put(
        config,
        "classifiers.own",
        {"architecture": "a.b:net", "weights": "none", "options": {"width": 8}, "taps": ["x"]},
    )
    put(config, "classifiers.timm", {"architecture": "convnext_atto", "taps": {"end of it": "head.fc"}})
    put(config, "classifiers.hub", {"architecture": "hf-hub:timm/convnext_atto.d2_in1k", "weights": "imagenet"})
    put(config, "classifiers.folder", {"architecture": "local-dir:../my nets/a.b", "weights": "imagenet"})
    put(config, "denoisers.own", {"architecture": "a.b:median", "options": {"size": 3}, "stages": []})
    pgd = {
        "attack": "LinfPGD",
        "attacker": "own",
        "stopping_classifier": None,
        "epsilon": None,
        "options": {"steps": 3},
    }
    put(config, "adversarial_sets.pgd", pgd)

    resolved = resolve_config(config)

    assert resolved["classifiers"]["own"]["options"] == {"width": 8}
    assert resolved["adversarial_sets"]["pgd"]["round_to_8_bits"] is False
    assert resolved["denoisers"]["own"]["mix"] == {}


def test_all_mistakes_are_told_together_with_the_file(config: dict[str, Any]) -> None:
    put(config, "seed", -1)
    put(config, "adversarial_sets.fgsm.stp", 1)
    put(config, "tables.table1.denoiser", "uent")
    put(config, "classifiers.resnet18.options", {"batch_norm": True})

    lines = mistakes_of(config)

    assert len(lines) == 5
    assert all(line.startswith("config.yaml: ") for line in lines)


def test_a_mistake_in_classifier_defaults_is_told_once(config: dict[str, Any]) -> None:
    put(config, "classifier_defaults.training.batch_size", 0)

    assert mistakes_of(config) == ["config.yaml: classifier_defaults.training.batch_size: must be at least 1, got 0"]


@pytest.mark.parametrize("wrong", [None, [], "text", {}, {"classifiers": 1, "measure": []}, {1: 2}])
def test_what_is_no_config_at_all_is_refused(wrong: object) -> None:
    assert mistakes_of(wrong)


def test_every_part_of_a_config_may_have_the_wrong_type(config: dict[str, Any]) -> None:
    def places(value: Any, rebuild: Callable[[Any], Any]) -> list[Any]:
        """The config with one part replaced by nonsense, for each part."""
        broken = [rebuild(nonsense) for nonsense in (3, "x", [3], {"x": 3}, None)]
        for key, part in value.items() if isinstance(value, dict) else ():
            broken += places(part, lambda new, key=key: rebuild({**value, key: new}))
        return broken

    for broken in places(config, lambda new: new):
        with suppress(ConfigError):
            resolve_config(broken)


# ---- The schema and its page


def schema_parts(schema: Any, path: str = "schema") -> dict[str, dict[str, Any]]:
    """Every key's part of the schema, by path."""
    schema = dereference(schema)
    parts = {path: schema}
    for key, part in schema.get("properties", {}).items():
        parts |= schema_parts(part, f"{path}.{key}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            parts |= schema_parts(schema[keyword], f"{path}.{keyword}")
    return parts


@pytest.mark.parametrize(("path", "part"), schema_parts(load_schema()).items(), ids=lambda value: str(value)[:60])
def test_every_key_is_described_typed_and_closed(path: str, part: dict[str, Any]) -> None:
    assert "type" in part or "enum" in part
    if path != "schema":
        assert part["description"].endswith(".")
    if part.get("type") == "object" and "additionalProperties" not in part:
        assert part["unevaluatedProperties"] is False
    if part.get("type") in ("integer", "number") and "properties" not in part:
        assert {"minimum", "exclusiveMinimum"} & part.keys()


def test_the_page_is_what_the_schema_says() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate_configuration.py"))["page"]()

    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == page, "docs/configuration.md is stale; run `make docs`"


def test_the_page_names_every_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    for path in schema_parts(load_schema()):
        key = path.split(".")[-1]
        assert key in ("schema", "items", "additionalProperties") or key in page


# ---- Agreement with the code


def test_the_schema_leaves_names_to_the_vocabulary() -> None:
    text = (ROOT / "config/schema.yaml").read_text(encoding="utf-8")
    names = [vocabulary.ATTACKS, vocabulary.CONTROLS, vocabulary.DENOISERS, vocabulary.SOURCES, vocabulary.METRICS]
    # As a name and not as a word: in backticks, first in a list, as an alternative or a value.
    written = [name for name in chain(*names) if re.search(rf"[`\[(|:] ?{name}(?=[`\],)|]| *$)", text, re.MULTILINE)]
    assert written == ["imagenet"]  # as what `weights` may be


def test_an_entry_of_the_vocabulary_is_one_of_the_schema(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vocabulary.ATTACKS, "lookahead", vocabulary.Attack("Lookahead", "steps twice", ("decay",)))
    monkeypatch.setitem(vocabulary.CONTROLS, "salt", "Salt")
    monkeypatch.setitem(vocabulary.DENOISERS, "median.net", "Median")
    monkeypatch.setitem(vocabulary.SOURCES, "tapes", "is on tapes")
    monkeypatch.setitem(SOURCES, "tapes", SOURCES["image-folder"])
    load_schema.cache_clear()
    try:
        put(config, "adversarial_sets.own", {**config["adversarial_sets"]["mifgsm"], "attack": "lookahead"})
        put(config, "adversarial_sets.noise", {"attack": "salt", "norm_of": "fgsm"})
        put(config, "denoisers.mine", {**config["denoisers"]["unet"], "architecture": "median.net"})
        put(config, "data", {"source": "tapes", "path": "x"})
        resolve_config(config)

        put(config, "adversarial_sets.fgsm.decay", 1.0)
        put(config, "adversarial_sets.mifgsm.norm_of", "fgsm")
        put(config, "denoisers.mine.architecture", "medianXnet")
        del config["data"]["path"]
        told = "\n".join(mistakes_of(config))
    finally:
        load_schema.cache_clear()
    assert "adversarial_sets.fgsm.decay: decay is for mifgsm and lookahead alone; remove it" in told
    assert "adversarial_sets.mifgsm.norm_of: only sign_noise, gaussian_noise and salt have a norm_of; remove it" in told
    assert "does not fit; The network, one of `fusionnet`, `fusionnet_original`, `unet` and `median.net`." in told
    assert "data.path: must be a string, got nothing (null)" in told


def test_architectures_and_options_are_those_of_the_builders() -> None:
    from perturbflow.classifiers.architectures import ARCHITECTURES

    assert list(architectures()) == list(ARCHITECTURES)
    for name, declared in architectures().items():
        (n_classes, _), *options = inspect.signature(ARCHITECTURES[name].build).parameters.items()
        assert n_classes == "n_classes"
        assert declared.options == tuple(option for option, _ in options)
        assert declared.n_stages == next((len(one.default) for option, one in options if option == "blocks"), None)
    description = schema_parts(load_schema())["schema.classifiers.additionalProperties.architecture"]["description"]
    assert [name for name in ARCHITECTURES if f"`{name}`" not in description] == []


def test_choices_are_those_of_the_registries() -> None:
    from perturbflow.attacks.gradient_sign import ATTACKS
    from perturbflow.attacks.noise import CONTROLS
    from perturbflow.denoisers.networks import DENOISERS
    from perturbflow.figures.style import STROKES
    from perturbflow.measuring.metrics import ALL_METRICS
    from perturbflow.planning import config

    parts = schema_parts(load_schema())
    assert set(parts["schema.data.source"]["enum"]) == set(SOURCES)
    assert set(ATTACKS) == config.OWN_ATTACKS
    assert set(CONTROLS) == config.CONTROLS
    architectures = parts["schema.denoisers.additionalProperties.architecture"]["pattern"]
    assert all(re.search(architectures, name) for name in DENOISERS)
    assert set(metric_names()) == set(ALL_METRICS)
    assert len(STROKES) == 1 + config.FIGURE_DENOISERS


def test_checking_a_config_does_not_import_torch() -> None:
    code = (
        "import sys, perturbflow.planning.config, perturbflow.planning.source_digest; sys.exit('torch' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
