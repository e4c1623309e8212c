"""Let passes of one classifier go on from changed feature maps, for one adversarial set, raw and denoised."""

from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import Subset, open_images, read_columns
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job
from perturbflow.measuring.interventions import intervene, intervention_frames
from perturbflow.measuring.propagation import sample_rows


def main() -> None:
    compute = snakemake.config["compute"]
    device = prepare(compute["device"], snakemake.threads)
    classifier = load_classifier(snakemake.input.classifier, device)
    settings, conditions = snakemake.params.interventions, snakemake.params.conditions

    clean = open_images(snakemake.input.data)
    rows = sample_rows(len(clean), settings["images"], snakemake.params.seed)
    index, label = (column[rows] for column in read_columns(snakemake.input.images[0], "index", "label"))
    files = zip(conditions, snakemake.input.images, strict=True)
    interventions = intervene(
        classifier,
        Subset(clean, rows),
        {condition: Subset(open_images(path), rows) for condition, path in files},
        label,
        settings["fractions"],
        compute["batch_size"],
        device,
    )
    for tap, is_cut in zip(classifier.taps, interventions.is_cut, strict=True):
        if not is_cut:
            print(f"{tap.module} ({tap.layer}): the network goes on from other maps as well, which stay clean.")

    summary, per_image = intervention_frames(interventions, classifier, conditions, index, label)
    for position, (name, value) in enumerate(snakemake.wildcards.items()):
        summary.insert(position, name, value)
    summary.to_csv(snakemake.output.summary, index=False)
    # A gzip header without a time, so that the same values make the same file.
    per_image.to_csv(snakemake.output.images, index=False, compression={"method": "gzip", "mtime": 0})


run_job(main, snakemake.log[0])
