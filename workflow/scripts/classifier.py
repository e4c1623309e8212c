"""Train a classifier: data -> checkpoint, training history, accuracy on the clean images."""

from perturbflow.logs import run_job

import json
import logging
from pathlib import Path

import pandas as pd
import torch

from perturbflow.classifiers import build_classifier, count_layers, count_parameters, save_classifier
from perturbflow.compute import prepare
from perturbflow.evaluation import pixels_of, top1
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import read_split, sha256, whole_file
from perturbflow.training import CLASSIFIER_HISTORY, Resumable, train_classifier


def main() -> None:
    compute = snakemake.config["compute"]
    device = prepare(compute["device"], snakemake.threads)
    settings, seed = snakemake.params.classifier, snakemake.params.seed
    train, val = read_split(snakemake.input.train), read_split(snakemake.input.val)

    torch.manual_seed(seed)
    classifier = (
        build_classifier(
            settings["architecture"],
            len(train.class_names),
            settings["input_size"],
            settings["weights"],
            settings["options"],
            settings["taps"],
            settings["normalization"],
        )
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    digests = {"train_sha256": sha256(snakemake.input.train)}
    if snakemake.input.weights:
        digests["weights_sha256"] = sha256(snakemake.input.weights)
    provenance = artifact_attributes(settings, seed=str(seed), **digests)
    fingerprint = {**provenance, "git_commit": "", "code": dict(snakemake.params.code)}
    resumable = Resumable(
        Path(snakemake.output.checkpoint).with_name("resume.pt"), json.dumps(fingerprint, sort_keys=True)
    )
    images = torch.from_numpy(train.images).to(device).permute(0, 3, 1, 2)
    labels = torch.from_numpy(train.labels).to(device)
    history = train_classifier(
        classifier,
        images,
        labels,
        settings["training"],
        seed,
        resumable,
        after_epoch=lambda history: logging.info("%s", history[-1]),
        compiled=compute["compile"],
    )

    classifier.eval()
    batch_size = compute["batch_size"]
    val_images = pixels_of(val.images, device)
    accuracies = {
        "train": (top1(classifier, images, labels, batch_size), len(images)),
        "val": (
            top1(classifier, val_images, torch.from_numpy(val.labels).to(device), batch_size),
            len(val_images),
        ),
    }
    target = settings["training"]["target_train_accuracy"]
    if accuracies["train"][0] < target:
        logging.warning("training accuracy %.4f is below the target %.4f", accuracies["train"][0], target)
    pd.DataFrame(
        [
            {
                "classifier": snakemake.wildcards.classifier,
                "split": split,
                "top1": accuracy,
                "n_images": n_images,
                "n_parameters": count_parameters(classifier),
                "n_layers": count_layers(classifier),
                "n_classes": len(train.class_names),
            }
            for split, (accuracy, n_images) in accuracies.items()
        ]
    ).to_csv(snakemake.output.accuracy, index=False)
    pd.DataFrame(history, columns=CLASSIFIER_HISTORY).to_csv(snakemake.output.history, index=False)
    with whole_file(snakemake.output.checkpoint) as temporary:
        save_classifier(
            temporary,
            classifier,
            {
                "architecture": settings["architecture"],
                "n_classes": len(train.class_names),
                "input_size": settings["input_size"],
                "options": settings["options"],
                "taps": settings["taps"],
                "normalization": settings["normalization"],
                "class_names": train.class_names,
                **provenance,
            },
        )
    resumable.discard()


run_job(main, snakemake.log[0])
