"""Attack one split: data + attacker + stopping classifier -> adversarial set."""

import json

import numpy as np
import torch
from tqdm import tqdm

from perturbflow.attacks import ATTACKS
from perturbflow.classifiers import load_classifier
from perturbflow.compute import prepare
from perturbflow.logs import log_to
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import image_writer, read_split, sha256


def main() -> None:
    device = prepare(snakemake.config["compute"]["device"], snakemake.threads)
    settings = snakemake.params.adversarial_set
    attacker = load_classifier(snakemake.input.attacker, device)
    stopping_classifier = load_classifier(snakemake.input.stopping_classifier, device)
    split = read_split(snakemake.input.data)
    attack = ATTACKS[settings["attack"]](
        step=settings["step"],
        max_steps=settings["max_steps"],
        early_stop=settings["stopping_classifier"] is not None,
        batch_size=snakemake.config["compute"]["batch_size"],
        **({"decay": settings["decay"]} if settings["attack"] == "mifgsm" else {}),
    )
    n_images = len(split.images)
    steps = np.zeros(n_images, dtype=np.int64)
    succeeded = np.zeros(n_images, dtype=bool)
    already_misclassified = np.zeros(n_images, dtype=bool)
    attributes = artifact_attributes(
        settings,
        class_names=json.dumps(split.class_names),
        data_sha256=sha256(snakemake.input.data),
        attacker_sha256=sha256(snakemake.input.attacker),
        stopping_classifier_sha256=sha256(snakemake.input.stopping_classifier),
    )
    with (
        image_writer(snakemake.output[0], n_images, split.images.shape[1:], "float32", attributes) as file,
        tqdm(total=n_images, unit="image") as progress,
    ):
        stored = file["images"]
        for part in attack.stream(
            attacker,
            stopping_classifier,
            torch.from_numpy(split.images).to(device).permute(0, 3, 1, 2),
            torch.from_numpy(split.labels).to(device),
        ):
            rows = part.index.cpu().numpy()
            images = part.images.permute(0, 2, 3, 1).cpu().numpy()
            for row, image in zip(rows, images, strict=True):
                stored[row] = image
            steps[rows] = part.steps.cpu().numpy()
            succeeded[rows] = part.succeeded.cpu().numpy()
            already_misclassified[rows] = part.already_misclassified.cpu().numpy()
            progress.update(len(rows))
        file["index"] = np.arange(n_images, dtype=np.int64)
        file["label"] = split.labels
        file["steps"] = steps
        file["succeeded"] = succeeded
        file["already_misclassified"] = already_misclassified


with log_to(snakemake.log[0]):
    main()
