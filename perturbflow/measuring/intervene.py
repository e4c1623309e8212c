"""From an adversarial set's files to what passes predict that go on from changed feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import Subset, open_images, read_columns
from perturbflow.machine.devices import prepare
from perturbflow.measuring.interventions import intervene, intervention_frames
from perturbflow.measuring.sampling import sample_rows
from perturbflow.results.writing import write_csv


@dataclass(frozen=True)
class InterventionJob:
    """A classifier whose passes are to be interfered with, for an adversarial set, raw and denoised.

    classifier, adversarial_set: their names. checkpoint: of the classifier. data: file of the clean images. conditions:
    file of the set by condition. settings: of the config's `interventions` the number of images and the fractions.
    seed: of the study. summary, per_image: files to write.
    """

    classifier: str
    adversarial_set: str
    checkpoint: str
    data: str
    conditions: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    summary: str
    per_image: str


def intervene_to_files(job: InterventionJob, compute: Mapping[str, Any], threads: int) -> None:
    """Interfere and write what was predicted. compute: the config's `compute`."""
    device = prepare(compute["device"], threads)
    classifier = load_classifier(job.checkpoint, device)
    clean = open_images(job.data)
    rows = sample_rows(len(clean), job.settings["images"], job.seed)
    stored = next(iter(job.conditions.values()))
    index, label = (column[rows] for column in read_columns(stored, "index", "label"))
    interventions = intervene(
        classifier,
        Subset(clean, rows),
        {denoiser: Subset(open_images(path), rows) for denoiser, path in job.conditions.items()},
        label,
        job.settings["fractions"],
        compute["batch_size"],
        device,
    )
    for tap, is_cut in zip(classifier.taps, interventions.is_cut, strict=True):
        if not is_cut:
            print(f"{tap.module} ({tap.layer}): the network goes on from other maps as well, which stay clean.")
    names = {"classifier": job.classifier, "adversarial_set": job.adversarial_set}
    summary, per_image = intervention_frames(interventions, classifier, list(job.conditions), index, label)
    write_csv(pd.DataFrame({**names, **summary}), job.summary)
    write_csv(per_image, job.per_image)
