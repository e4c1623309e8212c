"""What a study's numbers should not be read without: what went other than hoped, and failed nothing.

Each function finds it in frames that the workflow has made, so that a table asks for no more than it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial

import pandas as pd

from perturbflow.results.reading import read_results
from perturbflow.results.writing import write_csv

FEW_FOOLED = 0.1
"""Share of the attacked images below which a set says little about adversaries."""


@dataclass(frozen=True)
class StudyWarning:
    """One thing to mind. about: `data`, `classifier` or `adversarial_set`. name: of it. text: what to mind of it."""

    about: str
    name: str
    text: str


def of_classifiers(accuracy: pd.DataFrame, targets: Mapping[str, float | None]) -> Iterator[StudyWarning]:
    """Classifiers below their target, and those that do no better than guessing.

    accuracy: rows of classifiers/<classifier>/accuracy.csv. targets: training accuracy, 0..1, at which the training of
    each was to end; None where none was trained.
    """
    for name, rows in accuracy.groupby("classifier", sort=False):
        splits = rows.set_index("split")
        target = targets.get(str(name))
        if target is not None and (reached := splits["top1"].get("train", target)) < target:
            yield StudyWarning(
                "classifier",
                str(name),
                f"reached {100 * reached:.1f}% on the training images, below its target of {100 * target:.1f}%",
            )
        last = splits.iloc[-1]
        chance = 1 / last["n_classes"]
        if last["top1"] <= chance + 2 * (chance * (1 - chance) / last["n_images"]) ** 0.5:
            yield StudyWarning(
                "classifier",
                str(name),
                f"gets {100 * last['top1']:.1f}% of the clean {splits.index[-1]} images right, no more than guessing "
                f"among {last['n_classes']:.0f} classes (are its weights, normalization and logits right?)",
            )


def of_sets(attacks: pd.DataFrame) -> Iterator[StudyWarning]:
    """Sets that fooled few images or none, and those of which most images were wrong before.

    attacks: rows of adversarial/<set>.csv.
    """
    for row in attacks.to_dict("records"):
        name, split, n_images, n_fooled = (row[key] for key in ("adversarial_set", "split", "n_images", "n_fooled"))
        n_wrong = 0 if pd.isna(row["n_wrong_before"]) else int(row["n_wrong_before"])
        if n_wrong > n_images / 2:
            text = f"{n_wrong} of {n_images} {split} images were wrong before the attack and are as they were"
            yield StudyWarning("adversarial_set", name, text)
        n_attacked = n_images - n_wrong
        # Nothing tells what a control fools.
        if n_attacked and pd.notna(n_fooled) and n_fooled < FEW_FOOLED * n_attacked:
            changed = "" if row["l2_max"] else ", and changed none"
            text = f"fooled {f'{n_fooled:.0f}' if n_fooled else 'none'} of the {n_attacked} {split} images{changed}"
            yield StudyWarning("adversarial_set", name, text)


def of_data(left_out: pd.DataFrame) -> Iterator[StudyWarning]:
    """Files that the data do without. left_out: rows of data/left_out.csv."""
    for (split, reason), rows in left_out.groupby(["split", "reason"], sort=False):
        first = ", ".join(rows["file"].iloc[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        yield StudyWarning("data", str(split), f"left out: {first}{more} ({reason})")


def of_distances(distances: pd.DataFrame) -> Iterator[StudyWarning]:
    """Metrics that are defined for no image. distances: rows of distances/<classifier>/<set>.csv."""
    metrics = [column.removesuffix("_mean") for column in map(str, distances) if column.endswith("_mean")]
    for (classifier, name, denoiser), rows in distances.groupby(
        ["classifier", "adversarial_set", "denoiser"], sort=False
    ):
        for metric in metrics:
            undefined = rows[rows[f"{metric}_mean"].isna()]
            if len(undefined):
                where = "all layers" if len(undefined) == len(rows) else ", ".join(undefined["module"])
                behind = "" if denoiser == "none" else f" behind {denoiser}"
                yield StudyWarning(
                    "adversarial_set", str(name), f"{metric} is defined for no image in {classifier}{behind}: {where}"
                )


Finder = Callable[[pd.DataFrame], Iterator[StudyWarning]]

FINDERS: dict[str, Finder] = {
    "left_out": of_data,
    "attacks": of_sets,
    "distances": of_distances,
}


def find_warnings(
    targets: Mapping[str, float | None], accuracy: Iterable[str] = (), **files: str | Iterable[str]
) -> list[StudyWarning]:
    """The warnings of all files: those of classifiers, and of what FINDERS names.

    targets: as for `of_classifiers`.
    """
    finders: dict[str, Finder] = {"accuracy": partial(of_classifiers, targets=targets), **FINDERS}
    found = [
        one
        for name, paths in {"accuracy": accuracy, **files}.items()
        if paths
        for one in _of_each_replicate(finders[name], read_results(paths))
    ]
    return list(dict.fromkeys(found))


def _of_each_replicate(find: Finder, frame: pd.DataFrame) -> Iterator[StudyWarning]:
    """What is found in the rows of each replicate, and in which, where there are several."""
    by_number = list(frame.groupby("replicate"))
    if len(by_number) < 2:
        yield from find(frame)
        return
    for number, rows in by_number:
        for one in find(rows):
            yield replace(one, text=f"{one.text}, in replicate {number}")


def write_warnings(path: str, targets: Mapping[str, float | None], **files: Iterable[str]) -> None:
    """Write warnings.csv, a row a warning: about, name, warning. Arguments as for `find_warnings`."""
    found = [astuple(one) for one in find_warnings(targets, **files)]
    write_csv(pd.DataFrame(found, columns=["about", "name", "warning"]), path)
