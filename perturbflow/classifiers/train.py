"""From files to a trained classifier's files: what the workflow's rule for classifiers does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbflow.classifiers.accuracy import accuracy
from perturbflow.classifiers.building import classifier_of_data, save_classifier
from perturbflow.classifiers.classifier import count_layers, count_parameters
from perturbflow.classifiers.training import CLASSIFIER_HISTORY, train_classifier
from perturbflow.files.images import StoredImages, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes, fingerprint
from perturbflow.files.whole import BadFileError, sha256, whole_file
from perturbflow.machine.devices import room_for_images
from perturbflow.machine.processes import Processes, check_shares, run_on_devices
from perturbflow.results.writing import write_csv
from perturbflow.training import Resumable

logger = logging.getLogger(__name__)

N_AT_ONCE = 1024
"""Images that are read at once on their way to the device."""


@dataclass(frozen=True)
class ClassifierTraining:
    """A training of a classifier: what it reads, what it writes, and what it depends on.

    name: of the classifier. data: files of images, by split; `train` may be missing where nothing is trained. weights:
    the file that it starts from, where the config names one. checkpoint, history, accuracy: files to write. settings:
    the config of the classifier. seed: of the study. code: digests of the code, which the training depends on as on its
    settings. compute: the config's `compute`. job_mb: the main memory that the job asked for, where it asked.
    """

    name: str
    data: Mapping[str, str]
    weights: Path | None
    checkpoint: str
    history: str
    accuracy: str
    settings: Mapping[str, Any]
    seed: int
    code: Mapping[str, str]
    compute: Mapping[str, Any]
    job_mb: int | None = None


def train_classifier_to_files(training: ClassifierTraining, n_gpus: int, threads: int) -> None:
    """Train a classifier and write its checkpoint, its history and its accuracy on the clean images.

    It goes on from `resume.pt`, beside the checkpoint, where a killed job left one.

    n_gpus: GPUs that train together, or processes on a CPU; 0 is one process. threads: of all processes.
    Raises ValueError where the devices cannot share a batch, and BadFileError for a file that is no data split.
    """
    n_devices, batch_size = max(1, n_gpus), training.settings["training"]["batch_size"]
    n_images = {split: len(_images_of(path)) for split, path in training.data.items()}
    digests = {}
    if training.settings["training"]["max_epochs"]:
        check_shares(f"classifiers.{training.name}.training.batch_size", batch_size, n_images["train"], n_devices)
        digests["train_sha256"] = sha256(training.data["train"])
    if training.weights:
        digests["weights_sha256"] = sha256(training.weights)
    provenance = artifact_attributes(training.settings, seed=str(training.seed), **digests)
    run_on_devices(_train, training.compute["device"], n_devices, threads, training, provenance)


def _train(
    training: ClassifierTraining, provenance: Mapping[str, str], device: torch.device, processes: Processes
) -> None:
    """What each process does."""
    settings = training.settings
    first_file = next(iter(training.data.values()))
    class_names = [name.decode() for name in read_columns(first_file, "class_name")[0]]
    torch.manual_seed(training.seed)
    classifier, description = classifier_of_data(settings, class_names)
    classifier = classifier.to(device).to(memory_format=torch.channels_last)
    resumable = Resumable(Path(training.checkpoint).with_name("resume.pt"), fingerprint(provenance, training.code))
    # Elsewhere it was asked for beside a GPU.
    job_mb = training.job_mb if training.compute["device"] == "cpu" else None
    images: dict[str, Tensor | StoredImages] = {split: _images_of(path) for split, path in training.data.items()}
    labels = {split: _labels_of(path, device) for split, path in training.data.items()}
    history: list[dict[str, Any]] = []
    if settings["training"]["max_epochs"]:
        images["train"] = _held_or_stored(_images_of(training.data["train"]), device, job_mb, processes)
        history = train_classifier(
            classifier,
            images["train"],
            labels["train"],
            settings["training"],
            training.seed,
            resumable,
            after_epoch=lambda history: logger.info("%s", history[-1]),
            compiled=training.compute["compile"],
            processes=processes,
        )

    classifier.eval()
    accuracies: list[dict[str, Any]] = []
    for split in training.data:
        top1 = accuracy(classifier, images[split], labels[split], training.compute["batch_size"], processes)
        accuracies.append({"classifier": training.name, "split": split, "top1": top1, "n_images": len(images[split])})
    if not processes.is_first:
        return
    size = {
        "n_parameters": count_parameters(classifier),
        "n_layers": count_layers(classifier),
        "n_classes": len(class_names),
    }
    write_csv(pd.DataFrame([{**row, **size} for row in accuracies]), training.accuracy)
    write_csv(pd.DataFrame(history, columns=CLASSIFIER_HISTORY), training.history)
    with whole_file(training.checkpoint) as temporary:
        save_classifier(temporary, classifier, {**description, "class_names": class_names, **provenance})
    resumable.discard()


def _images_of(path: str) -> StoredImages:
    """The images of a data split. Raises FileNotFoundError or BadFileError where there are none."""
    images = open_images(path)
    if images.dtype != np.uint8 or len(images.shape) != 4:
        raise BadFileError(f"{path}: images must be uint8 (N, H, W, 3), found {images.dtype} {images.shape}.")
    return images


def _labels_of(path: str, device: torch.device) -> Tensor:
    (labels,) = read_columns(path, "label")
    return torch.from_numpy(labels).to(device)


def _held_or_stored(
    images: StoredImages, device: torch.device, job_mb: int | None, processes: Processes
) -> Tensor | StoredImages:
    """uint8 (N, 3, H, W) on the device where there is room for them, else the images as they are stored."""
    n_bytes, room = int(np.prod(images.shape)), room_for_images(device, job_mb, processes.count)
    if n_bytes > room:
        logger.info("the images, %.1f GB, are read batch by batch: %.1f GB may be held", n_bytes / 1e9, room / 1e9)
        return images
    held = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), N_AT_ONCE):
        rows = slice(start, start + N_AT_ONCE)
        held[rows] = torch.from_numpy(images[rows])
    return held.permute(0, 3, 1, 2)
