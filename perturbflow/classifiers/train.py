"""From files to a trained classifier's files: what the workflow's rule for classifiers does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbflow.classifiers.accuracy import accuracy
from perturbflow.classifiers.building import build_classifier, save_classifier
from perturbflow.classifiers.classifier import count_layers, count_parameters
from perturbflow.classifiers.training import CLASSIFIER_HISTORY, train_classifier
from perturbflow.files.images import StoredImages, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes, fingerprint
from perturbflow.files.whole import BadFileError, sha256, whole_file
from perturbflow.machine.devices import room_for_images
from perturbflow.machine.processes import Processes, check_shares, run_on_devices
from perturbflow.training import Resumable

logger = logging.getLogger(__name__)

N_AT_ONCE = 1024
"""Images that are read at once on their way to the device."""


def train_classifier_to_files(
    name: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int,
    code: Mapping[str, str],
    compute: Mapping[str, Any],
    n_gpus: int,
    threads: int,
    job_mb: int | None = None,
) -> None:
    """Train a classifier and write its checkpoint, its history and its accuracy on the clean images.

    It goes on from `resume.pt`, beside the checkpoint, where a killed job left one.

    name: of the classifier. inputs: `train` and `val`, files of images, and `weights` where the config names a file.
    outputs: `checkpoint`, `history`, `accuracy`. settings: the config of the classifier. code: digests of the code,
    which the training depends on as on its settings. compute: the config's `compute`. n_gpus: GPUs that train
    together, or processes on a CPU; 0 is one process. threads: of all processes. job_mb: the main memory that the
    job asked for.
    Raises ValueError where the devices cannot share a batch, and BadFileError for a file that is no data split.
    """
    for split in ("train", "val"):
        _images_of(inputs[split])
    n_devices, batch_size = max(1, n_gpus), settings["training"]["batch_size"]
    n_images = len(open_images(inputs["train"]))
    check_shares(f"classifiers.{name}.training.batch_size", batch_size, n_images, n_devices)
    digests = {f"{file}_sha256": sha256(inputs[file]) for file in ("train", "weights") if inputs.get(file)}
    provenance = artifact_attributes(settings, seed=str(seed), **digests)
    run_on_devices(
        _train,
        compute["device"],
        n_devices,
        threads,
        name,
        dict(inputs),
        dict(outputs),
        dict(settings),
        seed,
        provenance,
        fingerprint(provenance, code),
        compute["batch_size"],
        compute["compile"],
        job_mb if compute["device"] == "cpu" else None,  # else it was asked for beside a GPU
    )


def _train(
    name: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int,
    provenance: Mapping[str, str],
    resumes: str,
    batch_size: int,
    compiled: bool,
    job_mb: int | None,
    device: torch.device,
    processes: Processes,
) -> None:
    """What each process does. resumes: the fingerprint of states to go on from. batch_size: in evaluation."""
    class_names = [name.decode() for name in read_columns(inputs["train"], "class_name")[0]]
    torch.manual_seed(seed)
    classifier = (
        build_classifier(
            settings["architecture"],
            len(class_names),
            settings["input_size"],
            settings["weights"],
            settings["options"],
            settings["taps"],
            settings["normalization"],
        )
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    resumable = Resumable(Path(outputs["checkpoint"]).with_name("resume.pt"), resumes)
    images = _held_or_stored(_images_of(inputs["train"]), device, job_mb, processes)
    labels = _labels_of(inputs["train"], device)
    history = train_classifier(
        classifier,
        images,
        labels,
        settings["training"],
        seed,
        resumable,
        after_epoch=lambda history: logger.info("%s", history[-1]),
        compiled=compiled,
        processes=processes,
    )

    classifier.eval()
    val_images = _images_of(inputs["val"])
    accuracies = {
        "train": (accuracy(classifier, images, labels, batch_size, processes), len(images)),
        "val": (
            accuracy(classifier, val_images, _labels_of(inputs["val"], device), batch_size, processes),
            len(val_images),
        ),
    }
    if not processes.is_first:
        return
    target = settings["training"]["target_train_accuracy"]
    if accuracies["train"][0] < target:
        logger.warning("training accuracy %.4f is below the target %.4f", accuracies["train"][0], target)
    pd.DataFrame(
        [
            {
                "classifier": name,
                "split": split,
                "top1": top1,
                "n_images": n_images,
                "n_parameters": count_parameters(classifier),
                "n_layers": count_layers(classifier),
                "n_classes": len(class_names),
            }
            for split, (top1, n_images) in accuracies.items()
        ]
    ).to_csv(outputs["accuracy"], index=False)
    pd.DataFrame(history, columns=CLASSIFIER_HISTORY).to_csv(outputs["history"], index=False)
    with whole_file(outputs["checkpoint"]) as temporary:
        save_classifier(
            temporary,
            classifier,
            {
                "architecture": settings["architecture"],
                "n_classes": len(class_names),
                "input_size": settings["input_size"],
                "options": settings["options"],
                "taps": settings["taps"],
                "normalization": settings["normalization"],
                "class_names": class_names,
                **provenance,
            },
        )
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
