import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import throughput
from benchmarks.inputs import load_config
from benchmarks.throughput import (
    CONFIG,
    Bench,
    Rates,
    SeesClass0,
    Size,
    attack_seconds,
    image_counts,
    matmul_rate,
    measure,
    projected_hours,
    rows,
    shown_attacks,
    training_flops,
)
from perturbflow.classifiers.building import build_classifier

every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
TINY = Size(matrix=64, batches=1, images=4, rounds=1)


@pytest.fixture(scope="module")
def papers():
    return load_config(CONFIG)


@pytest.fixture
def tiny(papers):
    """The paper's config with few and small networks and sets of each kind."""
    config = copy.deepcopy(papers)
    attacker = config["classifiers"]["resnet18"]
    attacker |= {"input_size": 32, "options": {"blocks": [1, 1, 1, 1], "width": 0.125}}
    attacker["training"]["batch_size"] = 4
    config["classifiers"] = {"resnet18": attacker, "other": copy.deepcopy(attacker)}
    names = ("fgsm_v1", "fgsm_v2", "ifgsm_v2", "mifgsm", "fgsm_v2_sign", "ifgsm_v2_adaptive")
    config["adversarial_sets"] = {name: config["adversarial_sets"][name] for name in names}
    for settings in config["adversarial_sets"].values():
        if settings.get("stopping_classifier") == "inception_resnet_v2_stopping":
            settings["stopping_classifier"] = "other"
    config["denoisers"] = {name: config["denoisers"][name] for name in ("fusionnet", "unet", "lgd")}
    for settings in config["denoisers"].values():
        settings |= {"width": 2, "batch_size": 4, "mix": {"fgsm_v1": 1.0}}
    config["denoisers"]["lgd"]["guide"] = "other"
    config["measure"]["classifiers"] = ["other"]
    config["tables"]["table1"] = None
    config["compute"]["batch_size"] = 4
    return config


def thousand(config, **changed):
    """Rates of a thousand images a second, whatever is done."""
    everything = dict.fromkeys([*config["classifiers"], *config["denoisers"]], 1000.0)
    names = {field.name for field in dataclasses.fields(Rates)} - {"control", "errors", "taps"}
    rates = Rates(
        **dict.fromkeys(names, everything), control=1000.0, errors=1000.0, taps=dict.fromkeys(config["classifiers"], 8)
    )
    return dataclasses.replace(rates, **changed)


# ------------------------------------------------------------------------------------------------ counting


def test_a_multiply_add_is_two_operations_and_training_counts_the_way_back():
    with torch.device("meta"):
        network = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    # Forward, and back to the weights; the pixels need no gradient.
    assert training_flops(network, 16) == 2 * (2 * 8 * 3 * 9 * 16 * 16)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ConvTranspose2d(4, 8, 3, groups=2)])
def test_the_way_back_of_a_convolution_in_groups_costs_twice_the_way_there(layer):
    network = layer.to("meta")
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 4, 16, 16, device="meta"))
    # The layer before takes three channels, and the pixels need no gradient.
    assert training_flops(nn.Sequential(nn.Conv2d(3, 4, 1), network).to("meta"), 16) == pytest.approx(
        3 * counter.get_total_flops() + 2 * (2 * 3 * 4 * 16 * 16)
    )


def test_resnet18_at_128_pixels_takes_the_operations_that_its_authors_count():
    # He et al. 2016 give 1.8 billion multiply-adds at 224 pixels; back to pixels there is no way from the first layer.
    with torch.device("meta"):
        network = build_classifier("resnet18", 200, 128)
    assert training_flops(network, 64) == pytest.approx(3 * 2 * 1.8e9 * (128 / 224) ** 2, rel=0.03)


def test_the_rate_of_products_counts_two_operations_a_multiply_add(monkeypatch):
    monkeypatch.setattr(throughput, "fastest", lambda functions, rounds, device: dict.fromkeys(functions, 0.5))
    assert matmul_rate(8, torch.float32, torch.device("cpu")) == 2 * 8**3 / 0.5


# ------------------------------------------------------------------------------------------------ the study's hours


def test_the_papers_study_has_110_000_images(papers):
    assert image_counts(papers) == {"train": 100_000, "val": 10_000}


def test_classes_and_images_of_a_class_are_those_of_the_config(papers):
    data = {**papers["data"], "classes": 10, "images_per_class": {"train": 20, "val": None}}
    assert image_counts({**papers, "data": data}) == {"train": 200, "val": 500}


def test_other_data_are_not_guessed_at(papers):
    with pytest.raises(ValueError, match="digits"):
        image_counts({**papers, "data": {**papers["data"], "source": "digits"}})


@pytest.mark.parametrize(
    "name, passes",
    [
        ("fgsm_v1", 1 + 4),  # the pass of the gradient judges the image itself
        ("fgsm_v2", 1 + 23),
        ("ifgsm_v1", 7),  # the passes of the gradients judge all
        ("ifgsm_v2", 6 + 7),
        ("mifgsm", 7 + 8),
        ("fgsm_v2_adaptive", 2 * (1 + 23)),  # each through the denoiser as well
        ("ifgsm_v1_adaptive", 2 * 7),
    ],
)
def test_an_attacks_passes(papers, name, passes):
    assert attack_seconds(papers["adversarial_sets"][name], thousand(papers)) == pytest.approx(passes / 1000)


def test_without_early_stop_the_end_alone_is_judged(papers):
    settings = {**papers["adversarial_sets"]["ifgsm_v1"], "stopping_classifier": None}
    assert attack_seconds(settings, thousand(papers)) == pytest.approx((6 + 1) / 1000)


def test_the_cost_of_foolboxs_attacks_is_not_guessed_at(papers):
    with pytest.raises(ValueError, match="LinfPGD"):
        attack_seconds({"attack": "LinfPGD"}, thousand(papers))


def test_the_hours_of_each_rule_by_hand(papers):
    thousands_of_images = {
        "classifier": 100 * (15 + 8 * 100) + 9 * 110,
        "adversarial": 110 * (5 + 24 + 7 + 13 + 15 + 2 * (5 + 24 + 7 + 13 + 15)),
        "control": 110 * 2,
        "denoiser": 100 * (300 + 130),
        "guided_denoiser": 100 * 2 * 30 * 2,
        "denoised": 110 * 12 * 4,
        "measure": 12 * (7 + 1) * (110 * 5 + 1 * (1 + 5)),
        "intervene": 7 * 1 * (1 + 5 + 8 * (1 + 5 + 5 * 5)),
        "mean_squared_error": 110 * 12 * 5,
    }
    hours = projected_hours(papers, thousand(papers))
    assert hours == pytest.approx({rule: images / 3600 for rule, images in thousands_of_images.items()})


def test_each_rate_counts_for_its_own_rule(papers):
    rates = thousand(papers)
    faster = {name: 2 * rate for name, rate in rates.denoiser_training.items()}
    before, after = projected_hours(papers, rates), projected_hours(papers, thousand(papers, denoiser_training=faster))
    assert {rule for rule in before if before[rule] != after[rule]} == {"denoiser", "guided_denoiser"}
    assert after["denoiser"] == pytest.approx(before["denoiser"] / 2)


# ------------------------------------------------------------------------------------------------ measuring


def test_class_0_stops_no_attack():
    sees = SeesClass0(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), 5)
    assert (sees(torch.randn(8, 3, 2, 2) * 255).argmax(1) == 0).all()


@every_device
def test_all_is_measured_on_small_networks_as_on_the_papers(tiny, device):
    """The paper's sizes need a GPU; these take the same way."""
    measured = measure(Bench(tiny, TINY, torch.device(device)), shown_attacks(tiny))
    assert [*measured.training] == ["resnet18", "other"]
    assert [*measured.denoiser_training] == ["fusionnet", "unet", "lgd"]
    assert [*measured.attack] == ["fgsm_v2", "ifgsm_v2", "mifgsm"]
    assert [*measured.rates.gradient] == ["resnet18"]
    assert [*measured.rates.guide] == ["lgd"]
    assert [*measured.rates.through] == ["unet"]
    assert measured.rates.taps == {"other": 8}
    table = rows(tiny, measured)
    of_memory = [row for row in table if row.unit == "GiB"]
    assert all(row.ours > 0 for row in table if row.unit != "GiB" and row.what != "the paper's study: interventions")
    assert len(of_memory) == 2 + 2 + 3 + 1
    assert all((row.ours is None) == (device == "cpu") for row in of_memory)
    hours = [row.ours for row in table if row.unit == "h"]
    assert hours[-1] == pytest.approx(sum(hours[:-1]))
    assert all(row.ratio == pytest.approx(row.ours / row.theirs) for row in table if row.theirs)


def test_without_a_gpu_the_table_says_that_nothing_was_measured(papers, monkeypatch):
    monkeypatch.setattr(throughput, "training_flops", lambda network, image_size: 1e9)  # the real ones take seconds
    table = rows(papers, None)
    assert {row.holds for row in table} == {"not measured"}
    for name in ("resnet18", "resnetv2_50", "vgg19", "senet154", "inception_resnet_v2", "densenet201", "unet"):
        assert any(row.what.startswith(f"training {name}, ") and "GFLOP" in row.what for row in table)
    assert len([row for row in table if row.unit == "h"]) == len(throughput.RULES) + 1


@pytest.mark.gpu
def test_a_gpus_products_are_as_fast_as_a_gpus():
    assert matmul_rate(4096, torch.bfloat16, torch.device("cuda")) > 1e13
