"""Replicates: the trainings of all networks of a study, again with other random numbers, on the same data.

A study with several of them tells what its numbers owe to the training that happened to be done. They differ in the
seed of everything that is random but the choice of images: those that are drawn from the source and those that are
measured are the same in all.
"""

from __future__ import annotations

import hashlib
import re

_FOLDER = re.compile(r"(?:^|/)replicates/(\d+)/")


def folder_of_replicate(number: int) -> str:
    """The folder in `results/<run>/` of what a replicate makes, with a slash at its end; that of replicate 0 is "".

    A study of one training thus has no such folders, and stays as it is when others are added.
    """
    return f"replicates/{number}/" if number else ""


def replicate_of(path: str) -> int:
    """The number of the replicate whose file lies at `path`."""
    found = _FOLDER.search(path)
    return int(found[1]) if found else 0


def seed_of_replicate(seed: int, number: int) -> int:
    """The seed of a replicate, 0 to 2**32 - 1: that of the study for replicate 0, unlike any other's for the others."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"seed {seed}, replicate {number}".encode()).digest()[:4], "big")


def coverage(n_replicates: int) -> str:
    """What an interval over so many trainings covers, in words."""
    return "images of one training" if n_replicates == 1 else f"{n_replicates} trainings and images"
