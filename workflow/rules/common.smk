import re
from pathlib import Path

from perturbflow.source_digest import source_digests

RESULTS = f"results/{config['run']}"
CLASSIFIERS = config["measure"]["classifiers"]  # the measured ones; config["classifiers"] holds all
SETS = list(config["adversarial_sets"])
DENOISERS = list(config["denoisers"])
TABLES = [f"table{number}" for number in range(1, 6)]


def code(script):
    """Digests of a script in workflow/scripts and of the package modules it imports, for a rule's `params`."""
    root = Path(workflow.basedir)
    return source_digests(root / "workflow/scripts" / script, root)


wildcard_constraints:
    classifier="|".join(map(re.escape, config["classifiers"])),
    adversarial_set="|".join(map(re.escape, SETS)),
    denoiser="|".join(map(re.escape, DENOISERS)),
    figure="|".join(map(re.escape, config["figures"])),
    split="train|val",
