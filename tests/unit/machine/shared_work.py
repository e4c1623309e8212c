"""What several processes do together in test_processes.py. Each imports this module, and torch is all it needs."""

import os
import signal

import torch
import torch.nn.functional as F
from torch import nn

from perturbflow.classifiers.training import train_classifier
from perturbflow.denoisers.training import train_denoiser
from perturbflow.training import Resumable

N_IMAGES, SIZE = 24, 8


class Centred(nn.Module):
    def forward(self, pixels):
        return pixels / 127.5 - 1


class WithUnused(nn.Module):
    """A network without batch normalisation, and with a head that is not used."""

    def __init__(self, n_outputs):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(Centred(), nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(6, n_outputs, 1)
        self.unused = nn.Linear(3, 3)

    def forward(self, pixels):
        return self.last(self.layers(pixels))


class Classifier(WithUnused):
    def __init__(self):
        super().__init__(3)

    def forward(self, pixels):
        return super().forward(pixels).mean((2, 3))


class Normalised(nn.Sequential):
    """With what does depend on the processes on a CPU: batch normalisation, and dropout."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            Centred(), nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Dropout(0.3), nn.Flatten(), nn.Linear(54, 3)
        )


class StoppedError(Exception):
    pass


def images_and_labels():
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(N_IMAGES) % 3
    images = torch.randint(0, 256, (N_IMAGES, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    images[torch.arange(N_IMAGES), labels] //= 2
    return images, labels


def train_one_classifier(folder, network, settings, stop_after, device, processes):
    """Write the history and the weights of each process into files, and stop where that is asked for."""

    def after_epoch(history):
        if len(history) == stop_after:
            raise StoppedError("by the test")

    images, labels = (tensor.to(device) for tensor in images_and_labels())
    network = network.to(device)
    resumable = Resumable(folder / "resume.pt", "same")
    history = train_classifier(network, images, labels, settings, 5, resumable, after_epoch, processes=processes)
    write_result(folder, network, history, processes)


def train_one_denoiser(folder, settings, device, processes):
    clean = images_and_labels()[0].permute(0, 2, 3, 1).numpy()
    adversarial = {"brighter": clean.astype("float32") + 5, "darker": clean.astype("float32") - 3}
    denoiser = WithUnused(3)
    history = train_denoiser(
        denoiser,
        clean,
        adversarial,
        settings,
        5,
        device,
        Resumable(folder / "resume.pt", "same"),
        loss_of=F.l1_loss,
        processes=processes,
    )
    write_result(folder, denoiser, history, processes)


def write_result(folder, network, history, processes):
    weights = network.state_dict()
    torch.save({"history": history, "weights": weights}, folder / f"{processes.number}_of_{processes.count}.pt")


def fail_in_the_second(folder, device, processes):
    (folder / f"{processes.number}.pid").write_text(str(os.getpid()))
    torch.distributed.barrier()
    if processes.number == 1:
        raise KeyError("a mistake in the second process")
    signal.pause()  # as it waits in a collective operation for the other one


def tell_and_wait(device, processes):
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: print() may part the line and its end
    signal.pause()
