"""Measure one classifier on one adversarial set, raw and denoised: accuracy, and distances layer by layer."""

from itertools import product

import pandas as pd

from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import Subset, open_images, read_columns
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job
from perturbflow.measuring.propagation import distance_frames, layer_distances, prediction_frame, sample_rows


def main() -> None:
    compute = snakemake.config["compute"]
    device = prepare(compute["device"], snakemake.threads)
    classifier = load_classifier(snakemake.input.classifier, device)
    settings, conditions = snakemake.params.measure, snakemake.params.conditions
    files = dict(zip(product(conditions, snakemake.params.splits), snakemake.input.images, strict=True))
    names = dict(snakemake.wildcards.items())

    accuracy = []
    for (condition, split), path in files.items():
        images, (label,) = open_images(path), read_columns(path, "label")
        top1 = top1_of_array(classifier, images, label, compute["batch_size"], device)
        accuracy.append({**names, "denoiser": condition, "split": split, "top1": top1, "n_images": len(images)})

    split = settings["split"]
    clean = open_images(snakemake.input.data)
    rows = sample_rows(len(clean), settings["images"], snakemake.params.seed)
    index, label = (column[rows] for column in read_columns(files["none", split], "index", "label"))
    distances = layer_distances(
        classifier,
        Subset(clean, rows),
        {condition: Subset(open_images(files[condition, split]), rows) for condition in conditions},
        label,
        settings["metrics"],
        compute["batch_size"],
        device,
    )
    summary, per_image = distance_frames(distances, classifier, conditions, index, label)
    predictions = prediction_frame(distances, conditions, index, label)

    pd.DataFrame(accuracy).to_csv(snakemake.output.accuracy, index=False)
    for position, (name, value) in enumerate(names.items()):
        summary.insert(position, name, value)
    summary.to_csv(snakemake.output.distances, index=False)
    # A gzip header without a time, so that the same values make the same file.
    compression = {"method": "gzip", "mtime": 0}
    per_image.to_csv(snakemake.output.images, index=False, compression=compression)
    predictions.to_csv(snakemake.output.predictions, index=False, compression=compression)


run_job(main, snakemake.log[0])
