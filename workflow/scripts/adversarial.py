"""Attack one split: data + attacker + stopping classifier (+ the denoiser they stand behind) -> adversarial set."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from perturbflow.attacks import ATTACKS, FoolboxAttack, GradientSignAttack
from perturbflow.classifiers import load_classifier
from perturbflow.compute import prepare
from perturbflow.defended import Defended
from perturbflow.denoisers import load_denoiser
from perturbflow.foolbox_attacks import foolbox_attack
from perturbflow.logs import log_to
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import image_writer, read_split, sha256


def build_attack(settings: Mapping[str, Any], batch_size: int, seed: int) -> GradientSignAttack | FoolboxAttack:
    common = {
        "early_stop": settings["stopping_classifier"] is not None,
        "batch_size": batch_size,
        "round_to_8_bits": settings["round_to_8_bits"],
    }
    name = settings["attack"]
    if name in ATTACKS:
        own = {key: settings[key] for key in ("step", "max_steps", "decay") if key in settings}
        return ATTACKS[name](**own, **common)
    return FoolboxAttack(foolbox_attack(name, settings["options"]), epsilon=settings["epsilon"], seed=seed, **common)


def main() -> None:
    compute, settings, seed = snakemake.config["compute"], snakemake.params.adversarial_set, snakemake.params.seed
    paths = snakemake.input
    device = prepare(compute["device"], snakemake.threads)
    attack = build_attack(settings, compute["batch_size"], seed)
    # One network, where the attacker judges its own adversaries.
    networks: dict[str, nn.Module] = {
        path: load_classifier(path, device) for path in {paths.attacker, paths.stopping_classifier}
    }
    digests = {"attacker_sha256": paths.attacker, "stopping_classifier_sha256": paths.stopping_classifier}
    if paths.denoiser:
        denoiser = load_denoiser(paths.denoiser, device)
        networks = {path: Defended(denoiser, network) for path, network in networks.items()}
        digests["denoiser_sha256"] = paths.denoiser
    split = read_split(paths.data)
    n_images = len(split.images)
    columns = {
        "steps": np.zeros(n_images, dtype=np.int64),
        "succeeded": np.zeros(n_images, dtype=bool),
        "already_misclassified": np.zeros(n_images, dtype=bool),
    }
    attributes = artifact_attributes(
        {**settings, "seed": seed},
        class_names=json.dumps(split.class_names),
        data_sha256=sha256(paths.data),
        **{name: sha256(path) for name, path in digests.items()},
    )
    with (
        image_writer(snakemake.output[0], n_images, split.images.shape[1:], "float32", attributes) as file,
        tqdm(total=n_images, unit="image") as progress,
    ):
        for part in attack.stream(
            networks[paths.attacker],
            networks[paths.stopping_classifier],
            torch.from_numpy(split.images).to(device).permute(0, 3, 1, 2),
            torch.from_numpy(split.labels).to(device),
        ):
            rows = part.index.cpu().numpy()
            order = rows.argsort()  # HDF5 takes several rows at once in ascending order only
            file["images"][rows[order]] = part.images.permute(0, 2, 3, 1).cpu().numpy()[order]
            for name, values in columns.items():
                values[rows] = getattr(part, name).cpu().numpy()
            progress.update(len(rows))
        file["index"] = np.arange(n_images, dtype=np.int64)
        file["label"] = split.labels
        for name, values in columns.items():
            file[name] = values


with log_to(snakemake.log[0]):
    main()
