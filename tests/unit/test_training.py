import logging
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow import training
from perturbflow.training import Resumable
from tests.unit.toy_training import UNREACHABLE, Centred, Killed, assert_same, colours, kill_after, small_network, train

# ------------------------------------------------------------------------------------------------ stages


def test_one_cycle_spans_all_epochs(tmp_path):
    _, history = train(tmp_path / "resume.pt", max_epochs=10, schedule="one_cycle", **UNREACHABLE)
    rates = [row["learning_rate"] for row in history]
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates.index(max(rates)) == 3  # the top is at 30%
    assert rates[-1] < 1e-3


def test_every_image_is_seen_in_turn_in_full_batches(tmp_path):
    """With 24 images in batches of 7, three are left out of an epoch, others each time."""
    sizes = []
    network = small_network()
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    train(tmp_path / "resume.pt", network=network, max_epochs=2, **UNREACHABLE)
    assert sizes == 6 * [7]
    epochs = [torch.cat(training.shuffled_batches(24, 7, training.epoch_generator(0, epoch))) for epoch in range(8)]
    assert all(len(epoch.unique()) == 21 for epoch in epochs)
    assert len(torch.cat(epochs).unique()) == 24
    assert not torch.equal(epochs[0], epochs[1])


def test_fewer_images_than_a_batch_are_one_batch(tmp_path):
    _, history = train(tmp_path / "resume.pt", batch_size=100, max_epochs=2, **UNREACHABLE)
    assert len(history) == 2


def test_the_seed_decides_the_training(tmp_path):
    first = train(tmp_path / "1.pt", max_epochs=2, **UNREACHABLE)
    assert_same(train(tmp_path / "2.pt", max_epochs=2, **UNREACHABLE), first)
    other, _ = train(tmp_path / "3.pt", max_epochs=2, seed=6, **UNREACHABLE)
    assert not torch.equal(other[1].weight, first[0][1].weight)


def test_no_epoch_leaves_the_weights_as_they_are(tmp_path):
    before = small_network().state_dict()
    network, history = train(tmp_path / "resume.pt", max_epochs=0, schedule="one_cycle")
    assert history == []
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weight_decay_is_l2_regularisation(tmp_path):
    """Adam on the gradient of loss + decay / 2 ||w||^2, written out; AdamW would give other weights."""
    n_epochs, learning_rate, decay = 12, 0.02, 0.5
    images, labels = colours()
    torch.manual_seed(0)
    network = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    weights = [parameter.detach().double().clone() for parameter in network.parameters()]
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    inputs = (images.double() / 127.5 - 1).flatten(1)
    for step in range(1, n_epochs + 1):
        matrix, bias = (weight.clone().requires_grad_() for weight in weights)
        loss = F.cross_entropy(inputs @ matrix.T + bias, labels) + decay / 2 * (matrix.square().sum() + bias @ bias)
        for number, gradient in enumerate(torch.autograd.grad(loss, (matrix, bias))):
            first[number] = 0.9 * first[number] + 0.1 * gradient
            second[number] = 0.999 * second[number] + 0.001 * gradient**2
            mean, square = first[number] / (1 - 0.9**step), second[number] / (1 - 0.999**step)
            weights[number] = weights[number] - learning_rate * mean / (square.sqrt() + 1e-8)
    train(
        tmp_path / "resume.pt",
        network=network,
        batch_size=24,
        max_epochs=n_epochs,
        learning_rate=learning_rate,
        weight_decay=decay,
        crop_scale=[1.0, 1.0],
        flip_probability=0.0,
        **UNREACHABLE,
    )
    for parameter, expected in zip(network.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.detach().double(), expected, atol=2e-3, rtol=0)
    assert not torch.allclose(weights[0], weights[0] * (1 - learning_rate * decay) ** n_epochs, atol=2e-3)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    network = small_network()
    with torch.no_grad():
        network[1].weight[0] = torch.nan
    with pytest.raises(FloatingPointError, match="training loss became nan; lower learning_rate"):
        train(tmp_path / "resume.pt", network=network)
    assert not (tmp_path / "resume.pt").exists()


def test_a_training_that_blows_up_keeps_its_last_good_state(tmp_path):
    path = tmp_path / "resume.pt"

    def blow_up(history):
        if len(history) == 2:
            with torch.no_grad():
                network[1].weight[0] = torch.inf

    network = small_network()
    with pytest.raises(FloatingPointError):
        train(path, network=network, after_epoch=blow_up)
    assert_same(train(path, **UNREACHABLE), train(tmp_path / "undisturbed.pt", **UNREACHABLE))


# ------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path, schedule, precision):
    others = {"schedule": schedule, "precision": precision, **UNREACHABLE}
    undisturbed = train(tmp_path / "undisturbed.pt", **others)
    for epoch in (1, 2, 4, 5):
        path = tmp_path / f"{epoch}.pt"
        with pytest.raises(Killed):
            train(path, after_epoch=kill_after(epoch), **others)
        # Other initial weights, to see that none of them is left.
        assert_same(train(path, network=small_network(seed=1), **others), undisturbed)


def test_a_training_killed_after_every_epoch_goes_on_too(tmp_path):
    path, others = tmp_path / "resume.pt", {"schedule": "one_cycle", **UNREACHABLE}
    for epoch in range(1, 5):
        with pytest.raises(Killed):
            train(path, after_epoch=kill_after(epoch), **others)
    assert_same(train(path, **others), train(tmp_path / "undisturbed.pt", **others))


def test_a_training_killed_when_its_target_was_reached_does_no_more(tmp_path):
    undisturbed = train(tmp_path / "undisturbed.pt", max_epochs=60)
    path = tmp_path / "resume.pt"
    with pytest.raises(Killed):
        train(path, max_epochs=60, after_epoch=kill_after(len(undisturbed[1])))
    epochs = []
    resumed = train(path, network=small_network(seed=1), max_epochs=60, after_epoch=epochs.append)
    assert_same(resumed, undisturbed)
    assert epochs == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("in_training", "in_saving", "n_done"),
    [(8, None, 2), (None, 4, 3)],  # three steps an epoch
)
def test_sigkill_loses_the_epoch_it_hits_and_nothing_else(tmp_path, repository, in_training, in_saving, n_done):
    path = tmp_path / "resume.pt"
    killed = f"train_until_killed(Path({str(path)!r}), {in_training}, {in_saving})"
    process = subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path; from tests.unit.toy_training import *; {killed}"],
        cwd=repository,
        capture_output=True,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    # Where an epoch takes less time than writing a state, that of the epoch before may not be whole yet.
    saved = torch.load(path, weights_only=True)["epoch"]
    assert saved in ((n_done - 1, n_done) if in_training else (n_done,))
    epochs = []
    resumed = train(path, schedule="one_cycle", after_epoch=lambda h: epochs.append(len(h)), **UNREACHABLE)
    assert epochs == list(range(saved + 1, 6))
    assert_same(resumed, train(tmp_path / "undisturbed.pt", schedule="one_cycle", **UNREACHABLE))


def test_other_settings_or_data_start_over(tmp_path, caplog):
    path = tmp_path / "resume.pt"
    with pytest.raises(Killed):
        train(path, "old", after_epoch=kill_after(3), **UNREACHABLE)
    epochs = []
    with caplog.at_level(logging.WARNING):
        result = train(path, "new", after_epoch=lambda h: epochs.append(len(h)), **UNREACHABLE)
    assert epochs == [1, 2, 3, 4, 5]
    assert_same(result, train(tmp_path / "undisturbed.pt", **UNREACHABLE))
    assert "resume.pt is of a training with other settings or data" in caplog.text
    assert Resumable(path, "old").load() is None


def damaged(content):
    """The whole file, in each of the ways in which a file is damaged."""
    half = len(content) // 2
    return {
        "empty": b"",
        "one byte": content[:1],
        "cut": content[:half],
        "end cut": content[:-1],
        "zeros": bytes(len(content)),
        "text": b"this is not a checkpoint\n",
        "noise": np.random.default_rng(0).bytes(200),
        "pickle of nothing": b"\x80\x02h\x05.",
        "middle gone": content[: half - 200] + content[half + 200 :],
    }


def test_a_damaged_state_starts_over_with_a_warning(tmp_path, caplog):
    path = tmp_path / "resume.pt"
    with pytest.raises(Killed):
        train(path, after_epoch=kill_after(2), **UNREACHABLE)
    for kind, content in damaged(path.read_bytes()).items():
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert Resumable(path, "same").load() is None, kind
        assert "resume.pt cannot be read" in caplog.text, kind
    assert_same(train(path, **UNREACHABLE), train(tmp_path / "undisturbed.pt", **UNREACHABLE))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, "text", torch.zeros(2)])
def test_a_file_of_something_else_starts_over(tmp_path, content):
    torch.save(content, tmp_path / "resume.pt")
    assert Resumable(tmp_path / "resume.pt", "same").load() is None


def test_a_state_is_that_of_its_moment_though_a_thread_writes_it(tmp_path):
    resumable = Resumable(tmp_path / "resume.pt", "same")
    weights = torch.zeros(10**6)
    with pytest.raises(Killed), resumable.saving() as save:
        save(epoch=1, history=[{"loss": 0.5}], steps={"moments": [weights, {"step": 3}]})
        weights += 1
        raise Killed
    state = resumable.load()
    assert state["epoch"] == 1 and state["history"] == [{"loss": 0.5}]
    assert not state["steps"]["moments"][0].any() and state["steps"]["moments"][1] == {"step": 3}


def test_a_state_that_cannot_be_written_ends_the_training(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        train(tmp_path / "file" / "resume.pt", **UNREACHABLE)


def test_no_state_is_no_state(tmp_path):
    assert Resumable(tmp_path / "resume.pt", "same").load() is None


def test_a_state_is_discarded(tmp_path):
    resumable = Resumable(tmp_path / "folder" / "resume.pt", "same")
    resumable.save(epoch=1)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["resume.pt"]
    resumable.discard()
    assert not list((tmp_path / "folder").iterdir())
    resumable.discard()
