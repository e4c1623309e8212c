"""A classifier that is trained in a moment, and trainings that are killed and compared."""

import os
import signal

import torch
from torch import nn

from perturbflow.classifiers.training import train_classifier
from perturbflow.training import Resumable


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(path, in_training, in_saving):
    """Train, and die without any goodbye: in the step `in_training`, or half through the write number `in_saving`."""
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
    torch_save, torch.save = torch.save, save
    train(path, network=network, schedule="one_cycle", **UNREACHABLE)
