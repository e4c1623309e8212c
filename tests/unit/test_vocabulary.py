from collections.abc import Iterator
from inspect import signature
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from perturbflow import vocabulary
from perturbflow.planning.config import load_schema
from perturbflow.planning.source_digest import source_digests
from perturbflow.vocabulary import OTHER_COLORS, PALETTE, PAPER_SETS, SET_COLORS, Labels, set_colors
from tests.unit.figures import test_decision_planes as geometry
from tests.unit.figures import test_propagation as propagation

MODULE = "perturbflow/vocabulary.py"
SHOWS = {"figure.py", "table.py"}


# ---- Names


def test_every_name_of_the_registries_is_in_the_vocabulary_and_the_other_way_round() -> None:
    from perturbflow.attacks.gradient_sign import ATTACKS
    from perturbflow.attacks.noise import CONTROLS
    from perturbflow.classifiers.architectures import ARCHITECTURES
    from perturbflow.data.sources import SOURCES
    from perturbflow.denoisers.networks import DENOISERS
    from perturbflow.measuring.metrics import ALL_METRICS

    assert set(vocabulary.CLASSIFIERS) == set(ARCHITECTURES)
    assert set(vocabulary.ATTACKS) == set(ATTACKS)
    assert set(vocabulary.CONTROLS) == set(CONTROLS)
    assert set(vocabulary.DENOISERS) == set(DENOISERS)
    assert set(vocabulary.METRICS) == set(ALL_METRICS)
    assert set(vocabulary.SOURCES) == set(SOURCES)


def test_what_is_said_of_attacks_and_metrics_is_so() -> None:
    from perturbflow.attacks.gradient_sign import ATTACKS, GradientSignAttack
    from perturbflow.measuring.decision_planes import LOGITS_METRICS
    from perturbflow.measuring.metrics import SET_METRICS

    def arguments(attack: type) -> set[str]:
        """Of its constructor and those of the classes below it."""
        signatures = [signature(vars(one)["__init__"]) for one in attack.__mro__ if "__init__" in vars(one)]
        return {one.name for found in signatures for one in found.parameters.values() if one.kind is one.KEYWORD_ONLY}

    own = {name: arguments(attack) - arguments(GradientSignAttack) for name, attack in ATTACKS.items()}
    assert {name: set(attack.own_keys) for name, attack in vocabulary.ATTACKS.items()} == own
    assert {name for name, metric in vocabulary.METRICS.items() if metric.whole_set} == set(SET_METRICS)
    assert {metric.kind for metric in vocabulary.METRICS.values()} == set(vocabulary.METRIC_KINDS)
    assert tuple(LOGITS_METRICS) == vocabulary.LOGITS_METRICS


def test_the_paper_has_names_of_the_vocabulary(repository: Path) -> None:
    config = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    paper = [*vocabulary.PAPER_CLASSIFIERS, *vocabulary.MODIFIED_CLASSIFIERS]
    assert config["measure"]["classifiers"] == paper
    assert {*paper} < {*vocabulary.CLASSIFIERS}
    assert {*vocabulary.PAPER_PLANES} == {*vocabulary.PAPER_CLASSIFIERS}
    assert tuple(config["figures"]["figure2"]["adversarial_sets"]) == PAPER_SETS
    assert {*vocabulary.DECISION_PLANE_METRICS} < {*vocabulary.METRICS}
    assert all(vocabulary.METRICS[name].short_axis for name in vocabulary.DECISION_PLANE_METRICS)


def test_labels() -> None:
    labels = Labels()
    assert [labels.classifier(name) for name in ("resnetv2_50", "my_network")] == ["ResNet V2-50", "my_network"]
    assert [labels.adversarial_set(name) for name in ("fgsm_v1", "ifgsm", "pgd")] == ["FGSM v1", "i-FGSM", "pgd"]
    assert [labels.attack(name) for name in ("mifgsm", "sign_noise", "LinfPGD")] == ["mi-FGSM", "Sign noise", "LinfPGD"]
    assert [labels.denoiser(name) for name in ("unet", "lgd", "mine")] == ["U-Net", "LGD", "mine"]
    conditions = [labels.condition(name) for name in ("none", "unet", "lgd", "mine")]
    assert conditions == ["w/o DN", "w/ UN", "w/ LGD", "w/ mine"]


@pytest.mark.parametrize("names", ["CLASSIFIERS", "ATTACKS", "CONTROLS", "SETS", "DENOISERS", "GUIDED_DENOISERS"])
def test_no_two_names_of_a_kind_have_one_label(names: str) -> None:
    entries = getattr(vocabulary, names)
    assert len({getattr(entry, "label", entry) for entry in entries.values()}) == len(entries)


def test_labels_of_the_study_belong_to_one_kind() -> None:
    labels = Labels({"adversarial_sets": {"fgsm": "Mine", "vgg19": "A set"}, "denoisers": {"unet": "Small"}})
    assert labels.adversarial_set("fgsm") == "Mine"
    assert labels.attack("fgsm") == "FGSM"
    assert labels.classifier("vgg19") == "VGG-19"
    assert labels.classifier("unet") == "unet"
    assert labels.condition("unet") == "w/ Small"
    assert labels.condition("fusionnet") == "w/ FN"


def test_the_longest_labels_fit_into_the_figures() -> None:
    words = "Vision transformer of sixteen layers, fine-tuned on our images"[
        : load_schema()["$defs"]["label"]["maxLength"]
    ]
    classifiers = dict(zip(propagation.CLASSIFIERS, (words, words[::-1], f"{words[1:]}a"), strict=True))
    labels = Labels(
        {
            "classifiers": classifiers,
            "adversarial_sets": {"fgsm_v1": words, "own_set": words[::-1]},
            "denoisers": {"unet": words, "fusionnet": words[::-1]},
        }
    )
    distances = propagation.distances_frame()
    geometry.check_layout(propagation.draw(distances, labels=labels))
    geometry.check_layout(propagation.draw(distances, ["gain", "cosine"], labels=labels))
    geometry.check_layout(
        geometry.draw_geometry(geometry.distances_frame(), geometry.predictions_frame(), labels=labels)
    )
    geometry.check_layout(geometry.draw_interventions(geometry.interventions_frame(), labels=labels))


# ---- Who may depend on it


def test_it_imports_nothing(repository: Path) -> None:
    packages = {"perturbflow/__init__.py", MODULE}
    assert set(source_digests(repository / MODULE, repository)) <= packages


def test_what_trains_attacks_and_measures_does_not_depend_on_it(repository: Path) -> None:
    scripts = [*(repository / "workflow/scripts").glob("*.py")]
    depending = {script.name for script in scripts if MODULE in source_digests(script, repository)}
    assert depending == SHOWS


# ---- Colours


def test_the_papers_sets_have_colours_of_their_own() -> None:
    assert tuple(SET_COLORS) == PAPER_SETS
    assert len(set(PALETTE)) == len(PALETTE) == len(SET_COLORS) + len(OTHER_COLORS)
    assert set_colors(["a", "mifgsm", "b"]) == {
        "a": OTHER_COLORS[0],
        "mifgsm": SET_COLORS["mifgsm"],
        "b": OTHER_COLORS[1],
    }


def test_a_set_at_the_end_changes_no_colour() -> None:
    names = ["a", "fgsm_v2", *map(str, range(2 * len(OTHER_COLORS))), "ifgsm_v1"]
    colors = set_colors(names)
    for end in range(len(names)):
        before = set_colors(names[:end])
        assert before.items() <= colors.items()
    assert colors["a"] == colors[str(len(OTHER_COLORS) - 1)] == OTHER_COLORS[0]


# Severe deficiencies of colour vision, on linear RGB: Machado, Oliveira and Fernandes (2009), Table 1 at 1.0.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Linear RGB to the responses of cones, and their cube roots to OKLab (Ottosson 2020).
CONES = [
    [0.41222147, 0.53633254, 0.05144599],
    [0.21190350, 0.68069955, 0.10739696],
    [0.08830246, 0.28171884, 0.62997870],
]
OKLAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.97799850, -2.42859221, 0.45059371],
    [0.02590404, 0.78277177, -0.80867577],
]


def linear_rgb(color: str) -> np.ndarray:
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(color: str, sight: str) -> np.ndarray:
    return OKLAB @ np.cbrt(CONES @ np.clip(SIGHT[sight] @ linear_rgb(color), 0, 1))


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_can_be_told_apart(sight: str) -> None:
    """Pink and grey are the nearest of those that Okabe and Ito's colours bring along, without red and green."""
    least = np.linalg.norm(oklab("#CC79A7", "deuteranopia") - oklab("#999999", "deuteranopia"))
    for one, other in combinations(PALETTE, 2):
        assert np.linalg.norm(oklab(one, sight) - oklab(other, sight)) >= least, (one, other)


def test_colours_can_be_seen_on_white() -> None:
    contrasts = {color: 1.05 / (linear_rgb(color) @ [0.2126, 0.7152, 0.0722] + 0.05) for color in PALETTE}
    assert min(contrasts, key=lambda color: contrasts[color]) in SET_COLORS.values()
    assert min(contrasts.values()) > 2.2


def colors_of_lines(axes: Axes) -> Iterator[str]:
    """Of the lines through all positions, in the order that they were drawn."""
    return (to_hex(line.get_color()).upper() for line in axes.lines if len(line.get_xdata()) == 3)


def test_a_set_has_one_colour_in_every_figure_of_a_study() -> None:
    study = ["fgsm_v1", "own_set", "fgsm_v2", *(f"set{number}" for number in range(5))]
    study_colors = set_colors(study)
    found: dict[str, set[str]] = {name: set() for name in study}
    for sets in (study, ["fgsm_v2", "own_set"], ["own_set", "fgsm_v2"], ["set3"]):
        distances = propagation.distances_frame(["vgg19"], sets, [])
        figure = propagation.draw(distances, classifiers=["vgg19"], sets=sets, denoisers=[], colors=study_colors)
        for name, color in zip(sets, colors_of_lines(figure.axes[0]), strict=True):
            found[name].add(color)
    figure = geometry.draw_geometry(
        geometry.distances_frame(study, []), geometry.predictions_frame(study, []), study, []
    )
    for axes in figure.axes[:3]:
        for name, color in zip(study, colors_of_lines(axes), strict=True):
            found[name].add(color)
    *_, margins = figure.axes
    for name, collection in zip(study, margins.collections[::2], strict=True):
        found[name].add(to_hex(collection.get_color()[0]).upper())
    assert found == {name: {color} for name, color in study_colors.items()}
