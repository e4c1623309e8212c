"""Write envs/*.yaml: what each needs, and what that needs in turn, in the versions of requirements.txt.

`python envs/lock.py`, in an environment made from requirements.txt on x86-64 Linux, where torch needs most.
"""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11.14"
PIP = "25.3"
# Of each environment what it is for, and what its scripts import; pandas imports tabulate to write Markdown.
ENVIRONMENTS = {
    "figures": (
        "what needs no network: tables, figures",
        ["h5py", "matplotlib", "numpy", "pandas", "scipy", "tabulate"],
    ),
    "torch": (
        "everything that runs a network",
        [
            "eagerpy",
            "filelock",
            "foolbox",
            "h5py",
            "numpy",
            "pandas",
            "pillow",
            "pyarrow",
            "scikit-learn",
            "scipy",
            "timm",
            "torch",
            "tqdm",
        ],
    ),
}


def locked() -> dict[str, str]:
    """The lines of requirements.txt by the name of the package."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(Requirement(line).name): line for line in lines if line and not line.startswith("#")}


def needed(packages: list[str]) -> set[str]:
    """Names of these packages and of all that they need, as far as it is needed on this machine."""
    found: set[tuple[str, str]] = set()  # a package, and one of the extras that it is asked for with
    waiting = [(canonicalize_name(name), "") for name in packages]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), one) for one in ("", *requirement.extras)]
    return {name for name, _ in found}


def environment(name: str) -> str:
    """The text of envs/<name>.yaml."""
    purpose, packages = ENVIRONMENTS[name]
    lines = locked()
    pins = [lines[package] for package in sorted(needed(packages))]
    return "\n".join(
        [
            f"# For `snakemake --software-deployment-method conda`: {purpose}.",
            "# Written by envs/lock.py, with the versions of requirements.txt.",
            "channels:",
            "  - conda-forge",
            "  - nodefaults",
            "dependencies:",
            f"  - python={PYTHON}",
            f"  - pip={PIP}",
            "  - pip:",
            *(f"      - {pin}" for pin in pins),
            "",
        ]
    )


if __name__ == "__main__":
    for name in ENVIRONMENTS:
        (ROOT / "envs" / f"{name}.yaml").write_text(environment(name), encoding="utf-8")
