"""From an adversarial set's files to what a classifier makes of it: accuracy, distances by layer, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import Subset, open_images, read_columns
from perturbflow.machine.devices import prepare
from perturbflow.measuring.propagation import distance_frames, layer_distances, prediction_frame
from perturbflow.measuring.sampling import sample_rows
from perturbflow.results.writing import write_csv


@dataclass(frozen=True)
class MeasuringJob:
    """A classifier to be measured on an adversarial set, raw and denoised.

    classifier, adversarial_set: their names. checkpoint: of the classifier. data: file of the clean images of the
    split in which distances are measured. conditions: file of the set by condition, `none` among them, and split.
    settings: of the config's `measure` the split, the number of images and the metrics. seed: of the study. accuracy,
    distances, distances_images, predictions: files to write.
    """

    classifier: str
    adversarial_set: str
    checkpoint: str
    data: str
    conditions: Mapping[tuple[str, str], str]
    settings: Mapping[str, Any]
    seed: int
    accuracy: str
    distances: str
    distances_images: str
    predictions: str


def measure_to_files(job: MeasuringJob, compute: Mapping[str, Any], threads: int) -> None:
    """Measure and write what was found. compute: the config's `compute`."""
    device = prepare(compute["device"], threads)
    classifier = load_classifier(job.checkpoint, device)
    names = {"classifier": job.classifier, "adversarial_set": job.adversarial_set}

    accuracy = []
    for (denoiser, split), path in job.conditions.items():
        images, (label,) = open_images(path), read_columns(path, "label")
        top1 = top1_of_array(classifier, images, label, compute["batch_size"], device)
        accuracy.append({**names, "denoiser": denoiser, "split": split, "top1": top1, "n_images": len(images)})

    clean = open_images(job.data)
    rows = sample_rows(len(clean), job.settings["images"], job.seed)
    files = {denoiser: path for (denoiser, split), path in job.conditions.items() if split == job.settings["split"]}
    index, label = (column[rows] for column in read_columns(files["none"], "index", "label"))
    distances = layer_distances(
        classifier,
        Subset(clean, rows),
        {denoiser: Subset(open_images(path), rows) for denoiser, path in files.items()},
        label,
        job.settings["metrics"],
        compute["batch_size"],
        device,
    )
    summary, per_image = distance_frames(distances, classifier, list(files), index, label)
    write_csv(pd.DataFrame(accuracy), job.accuracy)
    write_csv(pd.DataFrame({**names, **summary}), job.distances)
    write_csv(per_image, job.distances_images)
    write_csv(prediction_frame(distances, list(files), index, label), job.predictions)
