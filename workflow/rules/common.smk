import csv
import hashlib
import re
from functools import cache
from pathlib import Path

from perturbflow.classifiers.logits import is_file
from perturbflow.classifiers.weight_paths import PACKAGE, resolve_weights
from perturbflow.data.fingerprint import source_fingerprint
from perturbflow.data.sources import data_slice
from perturbflow.planning.config import CONTROLS, OWN_ATTACKS, take_labels
from perturbflow.machine.import_paths import REPOSITORY, is_import_path, source_file
from perturbflow.planning.source_digest import digest, source_digests
from perturbflow.planning.requests import job_of
from perturbflow.results.replicates import folder_of_replicate, replicate_of, seed_of_replicate
from perturbflow.vocabulary import RAW, set_colors

# Tables and figures get the labels. They are taken out of the config, so that no other rule can depend on them.
LABELS = take_labels(config)
RESULTS = f"results/{config['run']}"
# What each replicate makes, all but data, tables, figures and warnings. The wildcard is the folder of one, with a slash:
# empty for replicate 0, whose files lie where those of a study of one training do.
TRAINED = f"{RESULTS}/{{replicate}}"
REPLICATES = [folder_of_replicate(number) for number in config["replicates"]]
# Where numbers lie that all trainings share: with one, where it leaves them.
POOLED = f"{RESULTS}/pooled/" if len(REPLICATES) > 1 else f"{RESULTS}/{REPLICATES[0]}"
FOLDER = "local-dir:"  # how timm's names of networks begin whose config and weights lie in a folder
CLASSIFIERS = config["measure"]["classifiers"]  # the measured ones; config["classifiers"] holds all
SETS = list(config["adversarial_sets"])
DENOISERS = list(config["denoisers"])
CONDITIONS = [RAW, *DENOISERS]  # the raw adversary, then each denoiser
SPLITS = config["data"]["splits"]
COLORS = set_colors(SETS)
METRICS = set(config["measure"]["metrics"])
NOISE = [name for name in SETS if config["adversarial_sets"][name]["attack"] in CONTROLS]
ATTACKED = [name for name in SETS if name not in NOISE]
GUIDED = [name for name in DENOISERS if config["denoisers"][name]["loss"] != "pixels"]
INTERVENED = config["interventions"]["adversarial_sets"]


def code(script):
    """Digests of a script in workflow/scripts and of the package modules it imports, for a rule's `params`."""
    return source_digests(REPOSITORY / "workflow/scripts" / script, REPOSITORY)


def code_with(script, module):
    """As `code`, with a module of the package that the script is given by its import path."""
    return {**code(script), **source_digests(REPOSITORY / f"{module.replace('.', '/')}.py", REPOSITORY)}


def code_of_network(script, architecture):
    """As `code`, with what describes a network of the user's own: the file of its module, or those of timm's folder."""
    if architecture.startswith(FOLDER):
        files = filter(Path.is_file, Path(architecture.removeprefix(FOLDER)).glob("*"))
        return {**code(script), **digests(sorted(files))}
    file = source_file(architecture) if is_import_path(architecture) else None
    # By its import path, as the same file may lie elsewhere.
    return {**code(script), **({architecture: digest(file)} if file else {})}


@cache
def digest_of_bytes(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digests(files):
    """Digests, by name, of a file or of several that no rule makes, for a rule's `params`.

    A clone or a copy gives them a time that says nothing: as inputs they are `ancient`, and what they hold decides.
    """
    return {Path(file).name: digest_of_bytes(file) for file in ([files] if isinstance(files, str | Path) else files)}


@cache
def fingerprint_of_source():
    """What the data are made from, see perturbflow/data/fingerprint.py; where pictures have moved it reads them."""
    files = {split: Path(rules.data.output.get(split)) for split in SPLITS}  # with the prefix that a module may have
    return source_fingerprint(config["data"], config["seed"], code("data.py"), files)


def one_of(names):
    """A wildcard's pattern that fits these names alone, nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    classifier=one_of(config["classifiers"]),
    adversarial_set=one_of(SETS),
    denoiser=one_of(DENOISERS),
    figure=one_of(config["figures"]),
    split=one_of(SPLITS),
    # Any may be asked for, also one that the config does not have (yet).
    replicate=r"(replicates/[1-9]\d*/)?",


# Jobs that run a network take the `gpu` resource, unless the config keeps them on the CPU.
GPU = 0 if config["compute"]["device"] == "cpu" else 1


def memory(rule):
    """`mem_mb` of a rule: what a job's work takes, see perturbflow/planning/requests.py, and more at each attempt.

    Until the files are there that tell the number of images, Snakemake shows <TBD>; it asks again when the job can run.
    """

    def request(wildcards, input, attempt):
        return job_of(rule, dict(wildcards.items()), config, input).memory_mb(attempt)

    return request


def minutes(rule):
    """`runtime` of a rule, likewise."""

    def request(wildcards, input, attempt, threads):
        return job_of(rule, dict(wildcards.items()), config, input).minutes(attempt, threads)

    return request


def weights_file(classifier):
    """The file of weights that a classifier starts from, where the config names one."""
    return resolve_weights(config["classifiers"][classifier]["weights"]) or []


def weights_input(classifier):
    """The same as an input, with `digests` in place of its time.

    What a Python package ships lies elsewhere on every machine, which must not make results stale: it is no input, and
    its digest alone tells of it. `local` keeps the prefix of a module from a path.
    """
    # Asked for a package too: one that is not there is a missing input, of which Snakemake complains where it is needed.
    file = weights_file(classifier)
    is_of_package = config["classifiers"][classifier]["weights"].startswith(PACKAGE)
    return ancient(local(str(file))) if file and not is_of_package else []


def logits_file(classifier):
    """The file that says what a classifier's logits stand for, where the config names one; `digests` as above."""
    logits = config["classifiers"][classifier]["logits"]
    return ancient(local(logits)) if is_file(logits) else []


def settings_without_files(classifier):
    """A classifier's config without the paths of files, whose digests decide over a rerun."""
    settings = config["classifiers"][classifier]
    is_left_out = {"weights": settings["weights"] not in ("none", "imagenet"), "logits": is_file(settings["logits"])}
    return {key: value for key, value in settings.items() if not is_left_out.get(key)}


def folder(wildcards):
    """The folder of a job's replicate, with a slash."""
    return f"{RESULTS}/{wildcards.replicate}"


def seed_of(wildcards):
    """The seed of a job's replicate."""
    return seed_of_replicate(config["seed"], replicate_of(folder(wildcards)))


def checkpoint_of_role(wildcards, role):
    """Checkpoint of the attacker or the stopping classifier of a set; without the latter the attacker judges."""
    settings = config["adversarial_sets"][wildcards.adversarial_set]
    classifier = settings[role] or settings["attacker"]
    return f"{folder(wildcards)}classifiers/{classifier}/checkpoint.pt"


def script_of_set(adversarial_set):
    """The script that makes a set; of its own for each kind, so that a set depends on no code of the other kinds."""
    settings = config["adversarial_sets"][adversarial_set]
    if settings["denoiser"]:
        return "adaptive_adversarial.py"
    return "adversarial.py" if settings["attack"] in OWN_ATTACKS else "foolbox_adversarial.py"


def batch_size_of_set(adversarial_set):
    """The size of a batch, for an attack that makes something else of an image in another batch; else None."""
    settings = config["adversarial_sets"][adversarial_set]
    if settings["attack"] in OWN_ATTACKS:
        return None
    # Imported where there are attacks of Foolbox alone: it takes its time.
    from perturbflow.attacks.foolbox_options import depends_on_batch, foolbox_attack

    attack = foolbox_attack(settings["attack"], settings["options"])
    return config["compute"]["batch_size"] if depends_on_batch(attack) else None


def checkpoint_of_denoiser(wildcards):
    """Checkpoint of the denoiser that the attacker of a set knows, where it knows one."""
    denoiser = config["adversarial_sets"][wildcards.adversarial_set]["denoiser"]
    return f"{folder(wildcards)}denoisers/{denoiser}/checkpoint.pt" if denoiser else []


def images_to_train_on(wildcards):
    """The clean images and the adversarial sets that a denoiser is trained on; none where it has no stages."""
    settings = config["denoisers"][wildcards.denoiser]
    sets = [f"{folder(wildcards)}adversarial/{name}/train.h5" for name in settings["mix"]]
    return [f"{RESULTS}/data/train.h5", *sets] if settings["stages"] else []


def set_of_norm(split, wildcards):
    """The file of the set whose perturbation gives a control its norm."""
    name = config["adversarial_sets"][wildcards.adversarial_set]["norm_of"]
    return f"{folder(wildcards)}adversarial/{name}/{split}.h5"


def files_under_conditions(wildcards, splits):
    """The files of a set under each of CONDITIONS and, within one, of each split."""
    return [
        (
            f"{folder(wildcards)}adversarial/{wildcards.adversarial_set}/{split}.h5"
            if condition == RAW
            else f"{folder(wildcards)}denoised/{condition}/{wildcards.adversarial_set}/{split}.h5"
        )
        for condition in CONDITIONS
        for split in splits
    ]


def files_of_sets(pattern, classifiers=(), adversarial_sets=SETS, folder=TRAINED):
    """The files of each set, or of each classifier and set, of all replicates; folder: where else they lie."""
    return expand(
        f"{folder}{pattern}",
        replicate=REPLICATES,
        classifier=classifiers or [""],
        adversarial_set=adversarial_sets,
    )


def clean_accuracy(classifiers, folder=TRAINED):
    """The files of the accuracy on clean images, likewise."""
    return expand(f"{folder}classifiers/{{classifier}}/accuracy.csv", replicate=REPLICATES, classifier=classifiers)


def figure_settings(figure):
    """A figure's config, with the names and colours that it leaves open filled in."""
    settings = config["figures"][figure]
    everything = {"classifiers": CLASSIFIERS, "adversarial_sets": SETS, "denoisers": DENOISERS}
    filled = {key: everything[key] if value is None else value for key, value in settings.items()}
    return {**filled, "colors": {name: COLORS[name] for name in filled["adversarial_sets"]} | settings["colors"]}


def warning_lines(path):
    """What warnings.csv says, a line a warning; nothing where it was not made."""
    if not Path(path).exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [
            f"Mind: {row['about'].replace('_', ' ')} {row['name']}: {row['warning']}" for row in csv.DictReader(file)
        ]


def pictures(figure, caption, label):
    """The two files of a figure, for the report."""
    return {
        extension: report(
            f"{RESULTS}/figures/{figure}.{extension}",
            caption=f"../report/{caption}.rst",
            category="Figures",
            labels={"figure": label, "format": extension.upper()},
        )
        for extension in ("svg", "png")
    }
