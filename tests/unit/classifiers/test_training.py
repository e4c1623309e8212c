import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from perturbflow.classifiers.accuracy import accuracy, top1
from perturbflow.classifiers.training import augment
from perturbflow.files.images import image_writer, open_images
from perturbflow.machine.prefetch import DEPTH
from perturbflow.machine.processes import Processes
from tests.unit.toy_training import (
    UNREACHABLE,
    Killed,
    assert_same,
    colours,
    generator,
    kill_after,
    small_network,
    train,
)

every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


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
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: draws)
    result = augment(image, (0.25, 1.0), 0.5, generator())
    expected = F.interpolate(image[:, :, 6:14, 2:10].float(), (size, size), mode="bilinear", align_corners=False)
    # The outermost pixels also see the window's neighbours.
    torch.testing.assert_close(result[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=0.01, rtol=0)


# ------------------------------------------------------------------------------------------------ training


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_equals_the_plain_one(tmp_path):
    """With dropout: compiled passes draw the same random numbers."""
    _, history = train(tmp_path / "plain.pt", **UNREACHABLE)
    _, same_history = train(tmp_path / "compiled.pt", compiled=True, **UNREACHABLE)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    losses, same_losses = ([row["train_loss"] for row in rows] for rows in (history, same_history))
    assert same_losses == pytest.approx(losses, rel=1e-3)


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
