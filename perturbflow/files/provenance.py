"""Where an artifact came from: what is written into the attributes of every file."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "foolbox", "h5py", "numpy", "pandas", "pillow", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str:
    """Commit of the working copy that this package lies in, `-dirty` where tracked files differ from it.

    `unknown` outside a git checkout or without git.
    """
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def artifact_attributes(config: Mapping[str, Any], **extra: str) -> dict[str, str]:
    """Attributes of an artifact: the slice of the config that made it, versions and commit, and `extra`.

    config and versions are JSON texts, so that `json.loads(file.attrs["config"])` gives them back.
    """
    return {
        "config": json.dumps(config, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
        "git_commit": git_commit(),
        **extra,
    }


def fingerprint(provenance: Mapping[str, str], code: Mapping[str, str]) -> str:
    """What a training's state must agree on to be resumed: all of `artifact_attributes` but the commit, and the code.

    code: digests of the code that the training uses, which say more than the commit.
    """
    return json.dumps({**provenance, "git_commit": "", "code": dict(code)}, sort_keys=True)
