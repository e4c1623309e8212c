"""Noise of the size of an adversarial set's perturbations: data + adversarial set -> control."""

import json

import numpy as np

from perturbflow.attacks.noise import control_blocks
from perturbflow.files.images import image_writer, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.whole import sha256
from perturbflow.machine.job import run_job


def main() -> None:
    settings, seed = snakemake.params.adversarial_set, snakemake.params.seed
    clean, adversarial = open_images(snakemake.input.data), open_images(snakemake.input.adversarial)
    index, label = read_columns(snakemake.input.adversarial, "index", "label")
    (class_names,) = read_columns(snakemake.input.data, "class_name")
    attributes = artifact_attributes(
        {**settings, "seed": seed},
        class_names=json.dumps([name.decode() for name in class_names]),
        data_sha256=sha256(snakemake.input.data),
        adversarial_sha256=sha256(snakemake.input.adversarial),
    )
    with image_writer(snakemake.output[0], len(index), adversarial.shape[1:], "float32", attributes) as file:
        split = snakemake.wildcards.split
        for rows, images in control_blocks(settings["attack"], clean, index, adversarial, seed, split):
            file["images"][rows] = images
        file["index"] = index
        file["label"] = label
        # Nobody attacks: no steps, and no classifier that is to err.
        file["steps"] = np.zeros(len(index), dtype=np.int64)
        file["succeeded"] = np.zeros(len(index), dtype=bool)
        file["already_misclassified"] = np.zeros(len(index), dtype=bool)


run_job(main, snakemake.log[0])
