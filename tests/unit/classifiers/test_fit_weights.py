"""Fitting tensors to a network: under which prefix they stand, what is beside them, and what does not fit."""

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from perturbflow.classifiers.weight_files import read_weights
from perturbflow.classifiers.weight_names import renaming_of_timm
from perturbflow.classifiers.weights import fit_weights

PATH = Path("file.pth")


def network(n_classes=3, width=4, depth=1, channels=3, seed=0):
    """Small, with batch normalisation; its head is the last layer."""
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width)) for _ in range(depth)]
    return nn.ModuleDict(
        {"stem": nn.Conv2d(channels, width, 3), "blocks": nn.Sequential(*blocks), "head": nn.Linear(width, n_classes)}
    )


def weights(prefix="", **options):
    return {f"{prefix}{name}": tensor for name, tensor in network(**options).state_dict().items()}


def fit(state, target=None, rename=dict):
    with torch.device("meta"):
        target = target or network()
    return fit_weights(target, state, PATH, rename)


def holds(fitted, expected):
    return fitted.state.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) for name, tensor in fitted.state.items()
    )


# ------------------------------------------------------------------------------------------------ wrappings


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "net.backbone.", "0.fit."),
        *("state_dict.model.", "state_dict.module.network.", "network.", "x.y.z.u.v."),
    ],
)
def test_any_prefix_is_found(prefix):
    fitted = fit(weights(prefix))
    assert holds(fitted, weights())
    assert (fitted.head_unfilled, fitted.head_classes, fitted.notes) == ((), 3, ())


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module._checkpoint_wrapped_module"])
def test_wrappers_inside_the_network_are_taken_off(wrapper):
    state = {name.replace("blocks.", f"blocks.{wrapper}."): tensor for name, tensor in weights("model.").items()}
    assert holds(fit(state), weights())


def test_a_network_that_has_such_names_itself_keeps_them():
    class Wrapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = network()

    for prefix in ("", "module."):
        assert holds(fit(weights(prefix), Wrapping()), weights("module."))


def test_a_network_around_the_one_in_the_file_is_filled():
    target = nn.Sequential(nn.Sequential(nn.ReLU(), network()))
    assert holds(fit(weights("state_dict."), target), weights("0.1."))


def test_what_a_lightning_module_has_beside_the_network_is_left_out_and_told():
    beside = {name: torch.ones(3) for name in ("state_dict.loss_fn.weight", "state_dict.accuracy.tp", "ema")}
    fitted = fit(weights("state_dict.model.") | beside)
    assert holds(fitted, weights())
    assert fitted.notes == (f"left out, as no part of the network: {', '.join(beside)}",)


@pytest.mark.parametrize(
    "name", ["loss_fn.weight", "criterion.weight", "train_metrics.tp", "AuxLogits.fc.bias", "aux1.fc.bias"]
)
def test_losses_metrics_and_their_heads_may_stand_right_beside_it(name):
    fitted = fit(weights() | {name: torch.ones(3)})
    assert holds(fitted, weights())
    assert fitted.notes == (f"left out, as no part of the network: {name}",)


def test_counters_of_profilers_and_of_averaging_are_no_weights():
    counted = {name: torch.zeros(1) for name in ("total_ops", "blocks.0.0.total_params", "n_averaged")}
    assert holds(fit(weights() | counted), weights())
    assert holds(fit(weights("module.") | {"n_averaged": torch.tensor(3)}), weights())


def test_files_without_counters_of_batches_are_taken():
    state = {name: tensor for name, tensor in weights().items() if "num_batches" not in name}
    assert holds(fit(state), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(dtype):
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights().items()}
    target = network(seed=1)
    target.load_state_dict(fit(state, target).state)
    for name, tensor in weights().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, atol=1e-2, rtol=1e-2)


# ------------------------------------------------------------------------------------------------ several networks


@pytest.mark.parametrize("averaged", ["state_dict_ema.", "model_ema.module.", "ema.", "swa_model.", "averaged_model."])
def test_the_weights_averaged_over_the_training_are_taken_and_told(averaged):
    fitted = fit(weights("state_dict.", seed=1) | weights(averaged, seed=2))
    assert holds(fitted, weights(seed=2))
    (note,) = fitted.notes
    root = averaged.removesuffix("module.")
    assert note.startswith(
        f"the weights under {root}, averaged over the training, were taken and not those under state"
    )


def test_what_is_told_of_averaged_weights_gives_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": weights(seed=1), "ema": weights(seed=2)}, PATH)
    (note,) = fit(read_weights(PATH)).notes
    line = note.partition("save them alone: ")[2].rpartition(",")[0]
    exec(line, {"torch": torch, "Path": Path, "read_weights": read_weights})
    assert holds(fit(read_weights(Path("one.pth"))), weights(seed=1))


@pytest.mark.parametrize(
    ("one", "other"), [("student.", "teacher.backbone."), ("encoder_q.", "encoder_k."), ("ema.", "swa.")]
)
def test_of_several_networks_none_is_taken(one, other):
    with pytest.raises(ValueError, match=f"different weights that fit the network, under {one}, {other}; save those"):
        fit(weights(one, seed=1) | weights(other, seed=2))


def test_the_same_weights_twice_are_no_choice():
    fitted = fit(weights("model.module.") | weights("model.attacker.module."))
    assert holds(fitted, weights())


def test_those_with_a_head_for_the_classes_are_taken():
    fitted = fit(weights("old.", n_classes=5, seed=1) | weights("new.", seed=2))
    assert holds(fitted, weights(seed=2))
    assert "with a last layer for these classes" in fitted.notes[0]


# ------------------------------------------------------------------------------------------------ the last layer


@pytest.mark.parametrize("prefix", ["", "state_dict.model."])
def test_a_head_of_other_classes_is_left_out_and_told(prefix):
    fitted = fit(weights(prefix, n_classes=1000))
    assert fitted.head_unfilled == ("head.weight", "head.bias")
    assert fitted.head_classes == 1000
    assert {*weights()} - {*fitted.state} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("missing", [("head.weight", "head.bias"), ("head.bias",)])
def test_a_missing_head_likewise(missing):
    fitted = fit({name: tensor for name, tensor in weights().items() if name not in missing})
    assert fitted.head_unfilled == ("head.weight", "head.bias")
    assert fitted.head_classes == (None if len(missing) == 2 else 3)
    assert not any(name.startswith("head") for name in fitted.state)


def test_all_last_layers_that_timm_declares_are_heads():
    with torch.device("meta"):
        state = timm.create_model("volo_d1_224", num_classes=5).state_dict()
        target = timm.create_model("volo_d1_224", num_classes=3)
    assert {*fit(state, target).head_unfilled} == {"head.weight", "head.bias", "aux_head.weight", "aux_head.bias"}


# ------------------------------------------------------------------------------------------------ what does not fit


def without(*parts):
    return {name: tensor for name, tensor in weights().items() if not name.startswith(parts)}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (weights("model.", width=8), "the same architecture in another width or variant"),
        (weights(depth=2), "the network has no blocks.1.0.weight.* of a deeper network"),
        (without("blocks."), "the file lacks blocks.0.0.weight.*a part of the network, or that of a shallower one"),
        (weights(channels=1), "images of 1 channels; here they have 3"),
        ({"state_dict.head.weight": torch.ones(3, 4), "state_dict.head.bias": torch.ones(3)}, "the last layer alone"),
        ({f"x{i}": tensor for i, tensor in enumerate(weights().values())}, "under other names.*all shapes agree"),
        ({"a.weight": torch.ones(2, 2), "b.bias": torch.ones(3)}, "another architecture, or another implementation"),
        ({"features.0.weight": torch.ones(2, 2)}, "the names are torchvision's, the layers not this network's"),
        (
            {name: tensor.to(torch.int8) if tensor.ndim > 1 else tensor for name, tensor in weights().items()},
            "stem.weight is .* int8 there and .* here.*quantised to whole numbers",
        ),
        (weights() | {"attention.weight": torch.ones(2)}, "the network has no attention.weight.*with more parts"),
    ],
)
def test_what_does_not_fit_is_told_from_both_sides(state, expected):
    with pytest.raises(ValueError, match=r"^weights: file\.pth does not fit the network at .*; likely ") as refused:
        fit(state)
    assert re.search(expected, str(refused.value))
    first = next(iter(state))
    assert f"the file has {len(state)} tensors, such as {first} (" in str(refused.value)
    assert "the network wants 11 tensors, such as stem.weight (4, 3, 3, 3), " in str(refused.value)


def test_position_embeddings_of_another_input_size_are_resampled_by_timm_and_told():
    state = timm.create_model("test_vit", num_classes=3, img_size=64).state_dict()
    with torch.device("meta"):
        smaller = timm.create_model("test_vit", num_classes=3, img_size=32)
    fitted = fit(state, smaller, renaming_of_timm(smaller))
    assert fitted.state["pos_embed"].shape == smaller.pos_embed.shape != state["pos_embed"].shape
    assert fitted.notes == ("resampled to the network's size: pos_embed",)
    with pytest.raises(ValueError, match="for another input_size, which the network's position embedding is made for"):
        fit(state, smaller)
