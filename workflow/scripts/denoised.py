"""Denoise both splits of one adversarial set: adversarial set + denoiser -> denoised set."""

from tqdm import tqdm

from perturbflow.compute import prepare
from perturbflow.denoisers import load_denoiser
from perturbflow.evaluation import denoise
from perturbflow.logs import log_to
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import image_writer, map_images, read_columns, sha256


def main() -> None:
    device = prepare(snakemake.config["compute"]["device"], snakemake.threads)
    denoiser = load_denoiser(snakemake.input.denoiser, device)
    denoiser_sha256 = sha256(snakemake.input.denoiser)
    for split, path in snakemake.output.items():
        source = snakemake.input[split]
        images = map_images(source)
        index, label = read_columns(source, "index", "label")
        attributes = artifact_attributes(
            dict(snakemake.wildcards.items(), split=split),
            adversarial_sha256=sha256(source),
            denoiser_sha256=denoiser_sha256,
        )
        with (
            image_writer(path, len(images), images.shape[1:], "float32", attributes) as file,
            tqdm(total=len(images), unit="image") as progress,
        ):
            for start, batch in denoise(denoiser, images, snakemake.config["compute"]["batch_size"], device):
                file["images"][start : start + len(batch)] = batch
                progress.update(len(batch))
            file["index"] = index
            file["label"] = label


with log_to(snakemake.log[0]):
    main()
