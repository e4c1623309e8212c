import logging
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow import training
from perturbflow.classifiers.accuracy import accuracy, top1
from perturbflow.classifiers.training import augment, train_classifier
from perturbflow.denoisers.denoised_set import denoise
from perturbflow.denoisers.networks import build_denoiser
from perturbflow.denoisers.training import DENOISER_HISTORY, assign_sets, train_denoiser
from perturbflow.files.images import image_writer, open_images
from perturbflow.machine.batches import pixels_of
from perturbflow.machine.prefetch import DEPTH
from perturbflow.machine.processes import Processes
from perturbflow.training import Resumable

CPU = torch.device("cpu")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------ augmentation


def pictures(n_images=4, size=16, dtype=torch.uint8):
    return torch.randint(0, 256, (n_images, 3, size, size), generator=generator(7), dtype=torch.uint8).to(dtype)


def ramps(n_images, size=32):
    """Pictures whose channels are the x and the y coordinate of each pixel: crops can be read off them."""
    coordinates = torch.arange(size, dtype=torch.float32)
    x, y = coordinates.expand(size, size), coordinates[:, None].expand(size, size)
    return torch.stack([x, y]).expand(n_images, 2, size, size)


def windows(augmented):
    """Left and right edge (B,), top and bottom edge (B,) of the crops of `ramps`, in pixels; right < left if mirrored.

    Measured in the middle, where the border does not bend the ramps.
    """
    size = augmented.shape[-1]
    middle = size // 2

    def edges(along):
        slope = along[:, middle] - along[:, middle - 1]
        start = along[:, middle] - slope * (middle + 0.5) + 0.5
        return start, start + slope * size

    return edges(augmented[:, 0, middle]), edges(augmented[:, 1, :, middle])


def test_whole_crops_without_flip_change_nothing():
    images = pictures()
    result = augment(images, (1.0, 1.0), 0.0, generator())
    torch.testing.assert_close(result, images.float(), atol=0.01, rtol=0)


def test_a_certain_flip_is_the_mirror_image():
    images = pictures()
    result = augment(images, (1.0, 1.0), 1.0, generator())
    torch.testing.assert_close(result, images.float().flip(-1), atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmented_pixels_are_float32_of_the_same_range_and_shape(dtype):
    images = pictures(8, dtype=dtype)
    before = images.clone()
    result = augment(images, (0.3, 1.0), 0.5, generator())
    assert result.dtype == torch.float32
    assert result.shape == images.shape
    assert result.min() >= 0
    assert result.max() <= 255
    assert torch.equal(images, before)


def test_augmentation_is_drawn_from_the_generator_alone():
    images = pictures()
    torch.manual_seed(1)
    first = augment(images, (0.5, 1.0), 0.5, generator(3))
    torch.manual_seed(2)
    assert torch.equal(augment(images, (0.5, 1.0), 0.5, generator(3)), first)
    assert not torch.equal(augment(images, (0.5, 1.0), 0.5, generator(4)), first)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_augment_a_batch_as_one_does(count):
    images = pictures(8)
    expected = augment(images, (0.5, 1.0), 0.5, generator(3))
    shares = [
        augment(images[number * 8 // count :][: 8 // count], (0.5, 1.0), 0.5, generator(3), Processes(number, count))
        for number in range(count)
    ]
    torch.testing.assert_close(torch.cat(shares), expected, rtol=0, atol=1e-4)


def test_crops_are_squares_inside_the_image_of_areas_in_the_range():
    size = 32
    (left, right), (top, bottom) = windows(augment(ramps(2000, size), (0.4, 0.9), 0.3, generator()))
    mirrored = right < left
    left, right = torch.minimum(left, right), torch.maximum(left, right)
    torch.testing.assert_close(right - left, bottom - top, atol=1e-3, rtol=0)
    for low, high in ((left, right), (top, bottom)):
        assert low.min() > -1e-3
        assert high.max() < size + 1e-3
        # As likely at one side as at the other.
        assert abs(float((low / (size - (high - low))).mean()) - 0.5) < 0.03
    share = (right - left) * (bottom - top) / size**2
    assert share.min() > 0.4 - 1e-3
    assert share.max() < 0.9 + 1e-3
    assert abs(float(share.mean()) - 0.65) < 0.01  # uniform in area
    assert abs(float(mirrored.float().mean()) - 0.3) < 0.04
    # Place, size and mirroring are drawn on their own.
    drawn = torch.stack([share, left / (size - (right - left)), top / (size - (bottom - top)), mirrored.float()])
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < 0.08


def test_each_image_is_what_cropping_and_resizing_it_by_hand_gives():
    n_images, size = 6, 16
    seed, scale, flip_probability = 11, (0.5, 0.9), 0.5
    images = F.avg_pool2d(F.pad(pictures(n_images, size, torch.float32), (1, 1, 1, 1), mode="replicate"), 3, 1)
    (left, right), (top, bottom) = windows(augment(ramps(n_images, size), scale, flip_probability, generator(seed)))
    result = augment(images, scale, flip_probability, generator(seed))
    assert 0 < int((right < left).sum()) < n_images
    for number in range(n_images):
        image = images[number].double().numpy()
        for row in range(size):
            for column in range(size):
                x = left[number] + (right[number] - left[number]) * (column + 0.5) / size
                y = top[number] + (bottom[number] - top[number]) * (row + 0.5) / size
                expected = pixel_at(image, float(x) - 0.5, float(y) - 0.5)
                np.testing.assert_allclose(result[number, :, row, column], expected, atol=0.05)


def pixel_at(image, x, y):
    """Bilinear value at (x, y), counted from the centre of the first pixel; the border goes on outside."""
    size = image.shape[-1]
    x, y = min(max(x, 0), size - 1), min(max(y, 0), size - 1)
    column, row = min(int(x), size - 2), min(int(y), size - 2)
    x, y = x - column, y - row
    above = image[:, row, column] * (1 - x) + image[:, row, column + 1] * x
    below = image[:, row + 1, column] * (1 - x) + image[:, row + 1, column + 1] * x
    return above * (1 - y) + below * y


def test_a_crop_of_half_the_side_is_that_window_interpolated(monkeypatch):
    """A quarter of the area, at a corner that hits pixel borders, against torch's own resizing of the window."""
    size = 16
    image = pictures(1, size)
    draws = torch.tensor([0.0, 0.9, 1 / 4, 3 / 4])[:, None]  # area 0.25, no flip, x at 2 of 0..8 pixels, y at 6
    monkeypatch.setattr(training.torch, "rand", lambda *shape, generator: draws)
    result = augment(image, (0.25, 1.0), 0.5, generator())
    expected = F.interpolate(image[:, :, 6:14, 2:10].float(), (size, size), mode="bilinear", align_corners=False)
    # The outermost pixels also see the window's neighbours.
    torch.testing.assert_close(result[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=0.01, rtol=0)


# ------------------------------------------------------------------------------------------------ a toy problem


class Killed(BaseException):
    """As a signal would end the job."""


def colours(n_images=24, n_classes=3, size=8, noise=40):
    """uint8 (N, 3, H, W) images, each mostly of the colour of its class, and labels."""
    labels = torch.arange(n_images) % n_classes
    base = torch.full((n_images, 3, size, size), 60.0)
    base[torch.arange(n_images), labels] += 120
    spread = (torch.rand(base.shape, generator=generator(1)) - 0.5) * 2 * noise
    return (base + spread).clamp(0, 255).to(torch.uint8), labels


class Centred(nn.Module):
    def forward(self, pixels):
        return pixels / 127.5 - 1


def small_network(seed=0):
    """With everything that has a state or draws random numbers: batch normalisation and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        Centred(),
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 3),
    ).to(memory_format=torch.channels_last)


def settings(**others):
    return {
        "learning_rate": 1e-2,
        "weight_decay": 1e-5,
        "schedule": "constant",
        "batch_size": 7,
        "max_epochs": 5,
        "target_train_accuracy": 1.0,
        "crop_scale": [0.85, 1.0],
        "flip_probability": 0.5,
        "precision": "float32",
        **others,
    }


# Never reached, because no accuracy is above 1.
UNREACHABLE = {"target_train_accuracy": 1.01}


def train(
    path,
    fingerprint="same",
    network=None,
    data=None,
    seed=5,
    after_epoch=lambda history: None,
    compiled=False,
    **others,
):
    network = network or small_network()
    images, labels = data or colours()
    history = train_classifier(
        network, images, labels, settings(**others), seed, Resumable(path, fingerprint), after_epoch, compiled
    )
    return network, history


def without_seconds(history):
    """NaN as text, because NaN is not equal to itself."""
    return [{key: repr(value) for key, value in row.items() if key != "seconds"} for row in history]


def assert_same(result, expected):
    (network, history), (expected_network, expected_history) = result, expected
    assert without_seconds(history) == without_seconds(expected_history)
    state, expected_state = network.state_dict(), expected_network.state_dict()
    assert state.keys() == expected_state.keys()
    for key, value in expected_state.items():
        assert torch.equal(state[key], value), key


def kill_after(epoch):
    def after_epoch(history):
        if len(history) == epoch:
            raise Killed

    return after_epoch


@every_device
def test_training_reaches_its_target_and_stops(tmp_path, device):
    images, labels = (tensor.to(device) for tensor in colours())
    network, history = train(
        tmp_path / "resume.pt", network=small_network().to(device), data=(images, labels), max_epochs=60
    )
    assert 1 < len(history) < 60
    *before, last = history
    assert last["clean_train_accuracy"] == 1.0 == top1(network.eval(), images, labels, 8)
    assert all(not row["clean_train_accuracy"] >= 1 for row in before)
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_history_has_a_row_an_epoch(tmp_path):
    rows = []
    _, history = train(tmp_path / "resume.pt", max_epochs=3, after_epoch=lambda h: rows.append(len(h)), **UNREACHABLE)
    assert rows == [1, 2, 3]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["stage"] for row in history] == [1, 1, 1]
    assert list(history[0]) == [
        "stage",
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "clean_train_accuracy",
        "seconds",
    ]
    assert all(row["learning_rate"] == 1e-2 for row in history)
    assert all(row["train_loss"] > 0 and 0 <= row["train_accuracy"] <= 1 and row["seconds"] > 0 for row in history)


def test_clean_accuracy_is_measured_close_to_the_target_only(tmp_path):
    _, history = train(tmp_path / "resume.pt", max_epochs=40, learning_rate=3e-3)
    measured = [row for row in history if not np.isnan(row["clean_train_accuracy"])]
    assert 0 < len(measured) < len(history)
    assert all(row["train_accuracy"] >= 0.95 for row in measured)
    assert all(row["train_accuracy"] < 0.95 for row in history if row not in measured)


def test_a_target_that_is_met_at_once_takes_one_epoch(tmp_path):
    _, history = train(tmp_path / "resume.pt", target_train_accuracy=0.01)
    assert len(history) == 1


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


@every_device
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_a_training_step_is_finite_in_every_precision(tmp_path, device, precision):
    network, history = train(
        tmp_path / "resume.pt",
        network=small_network().to(device),
        data=tuple(tensor.to(device) for tensor in colours()),
        precision=precision,
        schedule="one_cycle",
        max_epochs=2,
    )
    assert all(parameter.isfinite().all() and parameter.dtype == torch.float32 for parameter in network.parameters())
    assert np.isfinite(history[-1]["train_loss"])


# ------------------------------------------------------------------------------------------------ stored images


@pytest.fixture
def stored(tmp_path):
    """The same images and labels twice: on the device, in the layout in which they are stored, and in a file."""
    images, labels = colours()
    with image_writer(tmp_path / "images.h5", len(images), (8, 8, 3), "uint8", {}) as file:
        file["images"][:] = images.permute(0, 2, 3, 1).numpy()
    held = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return (held, labels), (open_images(tmp_path / "images.h5"), labels)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_read_batch_by_batch_train_the_same_classifier(tmp_path, stored, precision):
    """Bit for bit, with the accuracy on clean images that ends the training."""
    in_memory, in_file = stored
    expected = train(tmp_path / "1.pt", data=in_memory, max_epochs=60, precision=precision)
    assert 1 < len(expected[1]) < 60
    assert_same(train(tmp_path / "2.pt", data=in_file, max_epochs=60, precision=precision), expected)
    assert accuracy(expected[0].eval(), *in_file, 7) == accuracy(expected[0], *in_memory, 7) == 1


def test_a_training_from_a_file_goes_on_from_memory(tmp_path, stored):
    in_memory, in_file = stored
    with pytest.raises(Killed):
        train(tmp_path / "1.pt", data=in_file, after_epoch=kill_after(2), **UNREACHABLE)
    expected = train(tmp_path / "2.pt", data=in_memory, **UNREACHABLE)
    assert_same(train(tmp_path / "1.pt", data=in_memory, **UNREACHABLE), expected)


def test_no_more_than_some_batches_are_in_memory(tmp_path, stored):
    """What was read and not yet trained on is bounded, whatever there is."""

    class Watched:
        def __init__(self, images):
            self.images, self.shape, self.n_read, self.most_ahead = images, images.shape, 0, 0

        def __len__(self):
            return len(self.images)

        def __getitem__(self, rows):
            self.n_read += len(rows)
            self.most_ahead = max(self.most_ahead, self.n_read - n_trained)
            return self.images[rows]

    def count(module, inputs):
        nonlocal n_trained
        n_trained += len(inputs[0])

    n_trained = 0
    images, labels = stored[1]
    watched, network = Watched(images), small_network()
    network.register_forward_pre_hook(count)
    train(tmp_path / "resume.pt", network=network, data=(watched, labels), batch_size=2, max_epochs=1, **UNREACHABLE)
    assert watched.n_read == n_trained == 24
    assert watched.most_ahead <= 2 * (DEPTH + 2)  # what waits, what is read, and what is trained on


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


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(path, in_training, in_saving):
    """Train, and die without any goodbye: in the step `in_training`, or half through the write number `in_saving`."""
    torch.set_num_threads(1)
    counts = {"steps": 0, "saves": 0}

    def step(module, inputs):
        counts["steps"] += 1
        if counts["steps"] == in_training:
            kill_this_process()

    def save(state, file):
        counts["saves"] += 1
        if counts["saves"] == in_saving:
            file.write_bytes(b"half of a")
            kill_this_process()
        torch_save(state, file)

    network = small_network()
    network.register_forward_pre_hook(step)
    torch_save, training.torch.save = torch.save, save
    train(path, network=network, schedule="one_cycle", **UNREACHABLE)


@pytest.mark.parametrize(
    ("in_training", "in_saving", "n_done"),
    [(8, None, 2), (None, 4, 3)],  # three steps an epoch
)
def test_sigkill_loses_the_epoch_it_hits_and_nothing_else(tmp_path, repository, in_training, in_saving, n_done):
    path = tmp_path / "resume.pt"
    program = f"from test_training import *; train_until_killed(Path({str(path)!r}), {in_training}, {in_saving})"
    folders = [str(repository), str(repository / "tests/unit")]
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}; from pathlib import Path; {program}"],
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


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_equals_the_plain_one(tmp_path):
    """With dropout: compiled passes draw the same random numbers."""
    _, history = train(tmp_path / "plain.pt", **UNREACHABLE)
    _, same_history = train(tmp_path / "compiled.pt", compiled=True, **UNREACHABLE)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    losses, same_losses = ([row["train_loss"] for row in rows] for rows in (history, same_history))
    assert same_losses == pytest.approx(losses, rel=1e-3)


def test_no_state_is_no_state(tmp_path):
    assert Resumable(tmp_path / "resume.pt", "same").load() is None


def test_a_state_is_discarded(tmp_path):
    resumable = Resumable(tmp_path / "folder" / "resume.pt", "same")
    resumable.save(epoch=1)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["resume.pt"]
    resumable.discard()
    assert not list((tmp_path / "folder").iterdir())
    resumable.discard()


# ------------------------------------------------------------------------------------------------ the mix

MIX = {"fgsm_v1": 0.05, "fgsm_v2": 0.30, "ifgsm_v1": 0.05, "ifgsm_v2": 0.30, "mifgsm": 0.30}


@pytest.mark.parametrize("n_images", [1, 3, 7, 32, 40])
def test_each_batch_keeps_the_mix_within_one_image(n_images):
    draws, shares = generator(), torch.tensor(list(MIX.values()))
    counts = torch.stack([assign_sets(n_images, MIX, draws).bincount(minlength=5) for _ in range(300)])
    assert (counts.sum(1) == n_images).all()
    assert ((counts - n_images * shares).abs() < 1).all()


def test_the_mix_is_exact_in_the_mean():
    draws = generator()
    counts = torch.stack([assign_sets(32, MIX, draws).bincount(minlength=5) for _ in range(4000)]).double()
    expected = 32 * torch.tensor(list(MIX.values()))
    torch.testing.assert_close(counts.mean(0), expected.double(), atol=0.03, rtol=0)


def test_every_place_in_the_batch_gets_every_set():
    draws = generator()
    places = torch.stack([assign_sets(20, MIX, draws) for _ in range(4000)])
    for number, share in enumerate(MIX.values()):
        torch.testing.assert_close(
            (places == number).double().mean(0), torch.full((20,), share).double(), atol=0.04, rtol=0
        )


@pytest.mark.parametrize("mix", [{"a": 1.0}, {"a": 2.0, "b": 6.0}, {"a": 0.1, "b": 0.2, "c": 0.7}])
def test_shares_are_relative(mix):
    numbers = assign_sets(40, mix, generator())
    assert numbers.bincount(minlength=len(mix)).tolist() == [
        round(40 * share / sum(mix.values())) for share in mix.values()
    ]


# ------------------------------------------------------------------------------------------------ denoisers


def scenes(n_images=20, size=16):
    """uint8 (N, H, W, 3) smooth images away from the ends of the range."""
    coarse = torch.rand(n_images, 3, 4, 4, generator=generator(2)) * 160 + 45
    smooth = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def shifted(clean, *levels):
    """Adversarial sets, float32, each brighter than `clean` by its level."""
    return {f"set{number}": clean.astype(np.float32) + level for number, level in enumerate(levels)}


def stage(epochs, learning_rate=1e-3, schedule="constant"):
    return {"epochs": epochs, "learning_rate": learning_rate, "weight_decay": 1e-5, "schedule": schedule}


STAGES = (stage(3, 1e-2, "one_cycle"), stage(2, 1e-3))


def small_denoiser(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        Centred(), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Conv2d(4, 3, 3, padding=1)
    )


def train_small(path, clean, adversarial, network=None, after_epoch=lambda history: None, **others):
    chosen = {
        "mix": {name: 1 / len(adversarial) for name in adversarial},
        "batch_size": 8,
        "precision": "float32",
        "stages": STAGES,
        **others,
    }
    network = network or small_denoiser()
    history = train_denoiser(network, clean, adversarial, chosen, 5, CPU, Resumable(path, "same"), after_epoch)
    return network, history


def test_stages_follow_each_other(tmp_path):
    clean = scenes()
    _, history = train_small(tmp_path / "resume.pt", clean, shifted(clean, 5))
    assert [row["stage"] for row in history] == [1, 1, 1, 2, 2]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert list(history[0]) == list(DENOISER_HISTORY)
    rates = [row["learning_rate"] for row in history]
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert max(rates[:3]) > 5e-3
    assert rates[3:] == [1e-3, 1e-3]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_denoiser_goes_on_inside_and_between_stages(tmp_path, precision):
    clean = scenes()
    adversarial = shifted(clean, 3, -5)
    undisturbed = train_small(tmp_path / "undisturbed.pt", clean, adversarial, precision=precision)
    for epoch in range(1, 6):  # the first stage ends after the third
        path = tmp_path / f"{epoch}.pt"
        with pytest.raises(Killed):
            train_small(path, clean, adversarial, precision=precision, after_epoch=kill_after(epoch))
        resumed = train_small(path, clean, adversarial, small_denoiser(seed=1), precision=precision)
        assert_same(resumed, undisturbed)


def test_the_mean_squared_error_is_measured_under_another_loss(tmp_path):
    clean = scenes(24)
    settings = {"mix": {"set0": 1.0}, "batch_size": 8, "precision": "float32", "stages": [stage(1)]}
    adversarial = shifted(clean, 3)
    resumable = Resumable(tmp_path / "resume.pt", "")
    (row,) = train_denoiser(Nothing(), clean, adversarial, settings, 5, CPU, resumable, loss_of=F.l1_loss)
    assert row["train_loss"] == pytest.approx(3, rel=1e-5)
    assert row["train_mse_px2"] == pytest.approx(9, rel=1e-5)


def test_without_stages_nothing_is_trained(tmp_path):
    clean = scenes()
    _, history = train_small(tmp_path / "resume.pt", clean, {}, nn.Identity(), stages=[])
    assert history == []
    assert not (tmp_path / "resume.pt").exists()


def test_each_stage_has_an_optimizer_of_its_own(tmp_path):
    """The second stage starts without the moments of the first: its first step is as long as Adam's first step."""
    clean = scenes()
    weights = []
    network = small_denoiser()
    others = {"stages": [stage(1, 1e-2), stage(1, 1e-3)], "batch_size": 20}
    train_small(
        tmp_path / "resume.pt",
        clean,
        shifted(clean, 20),
        network,
        after_epoch=lambda _: weights.append(network[1].weight.detach().clone()),
        **others,
    )
    step = (weights[1] - weights[0]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 1e-3), rtol=0.02, atol=0)


class Nothing(nn.Module):
    """Gives back its input; what it is given can be looked at."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, pixels):
        self.seen.append(pixels.detach().clone())
        return pixels + self.unused * 0


def test_errors_are_in_pixels_squared_over_the_mix(tmp_path):
    clean = scenes(40)
    mix = {"set0": 0.05, "set1": 0.30, "set2": 0.05, "set3": 0.60}
    network = Nothing()
    _, history = train_small(
        tmp_path / "resume.pt",
        clean,
        shifted(clean, 1, 2, -3, 4),
        network,
        mix=mix,
        batch_size=20,
        stages=[stage(3)],
    )
    expected = 0.05 * 1 + 0.30 * 4 + 0.05 * 9 + 0.60 * 16
    assert [row["train_mse_px2"] for row in history] == pytest.approx(3 * [expected], rel=1e-5)


def test_each_adversary_is_beside_its_own_clean_image(tmp_path):
    """Image i is full of i, its adversary in set k is i + k / 10: all pairs of one batch can be read off the input."""
    n_images = 24
    clean = np.broadcast_to(np.arange(n_images, dtype=np.uint8)[:, None, None, None], (n_images, 16, 16, 3)).copy()
    network = Nothing()
    _, history = train_small(tmp_path / "resume.pt", clean, shifted(clean, 0.1, 0.2, 0.3), network, stages=[stage(2)])
    assert [len(batch) for batch in network.seen] == 6 * [8]
    values = torch.stack(network.seen)[..., 0, 0, 0].flatten().reshape(2, n_images)
    for epoch in values:
        assert sorted(epoch.int().tolist()) == list(range(n_images))
        counts = (((epoch - epoch.floor()) * 10).round() - 1).long().bincount(minlength=3)
        assert counts.sum() == n_images
        assert counts.min() >= 6  # two or three of eight, in each of three batches
    assert not torch.equal(values[0], values[1])
    assert all(0.01 <= row["train_mse_px2"] <= 0.09 for row in history)


def test_images_read_from_files_train_the_same_network(tmp_path):
    clean = scenes()
    adversarial = shifted(clean, 3, -5)
    for name, images in {"clean": clean, **adversarial}.items():
        with image_writer(tmp_path / f"{name}.h5", len(images), images.shape[1:], str(images.dtype), {}) as file:
            file["images"][:] = images
    stored = {name: open_images(tmp_path / f"{name}.h5") for name in adversarial}
    result = train_small(tmp_path / "1.pt", open_images(tmp_path / "clean.h5"), stored)
    assert_same(result, train_small(tmp_path / "2.pt", clean, adversarial))


@every_device
def test_a_denoiser_learns_to_remove_a_fixed_pattern(tmp_path, device):
    clean = scenes(24)
    rows, columns = np.indices((16, 16))
    pattern = (6.0 * (-1) ** (rows + columns))[None, :, :, None].astype(np.float32)
    adversarial = {"weak": clean + pattern / 2, "strong": clean + pattern}
    torch.manual_seed(0)
    device = torch.device(device)
    denoiser = build_denoiser("unet", 8, residual=True).to(device, memory_format=torch.channels_last)
    chosen = {
        "mix": {"weak": 0.25, "strong": 0.75},
        "batch_size": 8,
        "precision": "float32",
        "stages": [stage(30, 2e-2, "one_cycle")],
    }
    history = train_denoiser(denoiser, clean, adversarial, chosen, 0, device, Resumable(tmp_path / "resume.pt", ""))
    assert history[-1]["train_mse_px2"] < 0.1 * history[0]["train_mse_px2"]
    for images in adversarial.values():
        denoised = np.concatenate([batch.cpu().numpy() for _, batch in denoise(denoiser.eval(), images, 8, device)])
        assert np.square(denoised - clean).mean() < 0.1 * np.square(images - clean).mean()


def test_a_denoiser_whose_loss_is_not_finite_ends(tmp_path):
    clean = scenes()
    adversarial = shifted(clean, np.nan)
    with pytest.raises(FloatingPointError, match="nan"):
        train_small(tmp_path / "resume.pt", clean, adversarial)


def test_pixels_keep_their_place():
    images = scenes(2)
    tensor = pixels_of(images, CPU)
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), images)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
