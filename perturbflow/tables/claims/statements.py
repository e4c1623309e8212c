"""What the paper observes, stated as inequalities and put to a run.

A claim says in which region an effect lies, a ratio or a difference of means over images. It holds where the effect's
95% bootstrap interval lies inside that region, fails where it lies outside, and is undecided elsewhere. Images are
resampled together (`perturbflow.results.bootstrap`): what is compared is compared on the same images.

`CLAIMS` holds them. A claim's function computes its effect from a source of numbers, the run or the paper's own tables;
so the paper's effect stands beside ours wherever its tables give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, isnan
from typing import Any, Protocol

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, interval, resampled_means
from perturbflow.results.reading import RAW, label
from perturbflow.tables.rows import Table, markdown_table, three_significant, with_interval

PAPER_CLASSIFIERS = ("resnetv2_50", "vgg19", "senet154", "inception_resnet_v2", "densenet201")
MODIFIED_CLASSIFIERS = ("densenet201_conv", "densenet201_prelu")
PAPER_SETS = ("fgsm_v1", "fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm")
PAPER_DENOISERS = ("fusionnet", "unet")

STRONG_SETS = ("fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm")
"""Those whose error the denoisers reduce in the paper's Table 4."""

LARGE_SETS = ("fgsm_v2", "ifgsm_v2")
"""The paper's "relatively larger perturbation"."""

COSD_STAYS = ("resnetv2_50", "densenet201_prelu")
"""The paper's exceptions from the fading of COS-D (Figures 3 and 6)."""

NED, COSD = "normalized_euclidean", "cosine"
CLEAN = "(clean)"  # no name of a denoiser; beside the conditions "none" and each denoiser: the clean image itself
_OF_PAPER = {*PAPER_CLASSIFIERS, *MODIFIED_CLASSIFIERS, *PAPER_SETS, *PAPER_DENOISERS}
VERDICTS = ("holds", "fails", "undecided", "not measured")


class _NotMeasuredError(LookupError):
    """The run lacks what a claim needs; the message names it."""


@dataclass(frozen=True)
class Region:
    """Where an effect lies if the claim is true: between `low` and `high`, both included if `closed`."""

    low: float = -inf
    high: float = inf
    closed: bool = False

    def __str__(self) -> str:
        equal = "=" if self.closed else ""
        if self.high == inf:
            return f">{equal} {self.low:.3g}"
        if self.low == -inf:
            return f"<{equal} {self.high:.3g}"
        left, right = "[]" if self.closed else "()"
        return f"in {left}{self.low:.3g}, {self.high:.3g}{right}"

    def verdict(self, ci_low: float, ci_high: float) -> str:
        """`holds` if the whole interval lies inside, `fails` if all of it lies outside, else `undecided`."""
        if self.closed:
            inside = ci_low >= self.low and ci_high <= self.high
            outside = ci_high < self.low or ci_low > self.high
        else:
            inside = ci_low > self.low and ci_high < self.high
            outside = ci_high <= self.low or ci_low >= self.high
        return "holds" if inside else "fails" if outside else "undecided"


@dataclass(frozen=True)
class _Taps:
    """Positions at which a classifier is observed."""

    first: int
    last_convolutional: int
    before_last: int
    last: int

    @property
    def middle(self) -> range:
        return range(self.first + 1, self.last)


@dataclass(frozen=True)
class _Scope:
    """What an effect is computed over."""

    adversarial_sets: tuple[str, ...]
    conditions: tuple[str, ...]
    taps: Mapping[str, _Taps]

    def taps_of(self, classifier: str) -> _Taps:
        if classifier not in self.taps:
            raise _NotMeasuredError(f"classifier {classifier}")
        return self.taps[classifier]


class _Source(Protocol):
    """Where numbers come from. All arrays have one length: 1 + N_RESAMPLES of a run, 1 of the paper."""

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        """Top-1 accuracy, percent."""

    def mse(self, adversarial_set: str, condition: str) -> Array:
        """Mean squared error against the clean images, pixels squared, training split."""

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        """Mean distance between feature maps."""


class _Means:
    """Resampled means over images of one column, by the other columns `keys`."""

    def __init__(self, frame: pd.DataFrame, keys: list[str], column: str) -> None:
        self._keys = keys
        self._column = column
        self._samples: dict[Any, Array] = {}
        if {*keys, column, "index"} <= {*frame.columns}:
            matrix = by_image(frame, keys, column)
            self._samples = dict(zip(matrix.columns, resampled_means(matrix).T, strict=True))

    def of(self, *key: str | int) -> Array:
        if key in self._samples:
            return self._samples[key]
        if not self._samples:
            raise _NotMeasuredError(self._column)
        for place, (name, value) in enumerate(zip(self._keys, key, strict=True)):
            if all(known[place] != value for known in self._samples):
                raise _NotMeasuredError(f"{name.replace('_', ' ')} {value}")
        raise _NotMeasuredError(f"{self._column} of {', '.join(map(str, key))}")


class _Run:
    """The numbers of a run, from its per-image frames."""

    def __init__(
        self,
        distances_images: pd.DataFrame,
        predictions: pd.DataFrame,
        mse_images: pd.DataFrame,
        adversarial_sets: Sequence[str],
    ) -> None:
        def of_sets(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["adversarial_set"].isin(adversarial_sets)] if len(frame) else frame

        distances, predictions, errors = map(of_sets, (distances_images, predictions, mse_images))
        version = ["classifier", "adversarial_set", "denoiser"]
        self._distances = {metric: _Means(distances, [*version, "position"], metric) for metric in (NED, COSD)}
        if len(predictions):
            predictions = predictions.assign(
                accuracy=100.0 * (predictions["predicted"] == predictions["label"]),
                clean=100.0 * (predictions["predicted_clean"] == predictions["label"]),
            )
        self._accuracy = _Means(predictions, version, "accuracy")
        self._clean = _Means(predictions, version, "clean")
        if len(errors):
            errors = errors[errors["split"] == "train"]
        self._mse = _Means(errors, version[1:], "mse_px2")

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        if condition == CLEAN:
            return self._clean.of(classifier, adversarial_set, RAW)
        return self._accuracy.of(classifier, adversarial_set, condition)

    def mse(self, adversarial_set: str, condition: str) -> Array:
        return self._mse.of(adversarial_set, condition)

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        return self._distances[metric].of(classifier, adversarial_set, condition, position)


class _Paper:
    """The numbers of the paper's tables; NaN where they have none."""

    def __init__(self, paper3: pd.DataFrame, paper4: pd.DataFrame, paper5: pd.DataFrame, paper7: pd.DataFrame) -> None:
        self._clean = dict(zip(paper3["classifier"], paper3["top1_train_pct"], strict=True))
        self._mse = paper4.set_index("adversarial_set").stack().to_dict()
        version = ["classifier", "adversarial_set", "denoiser"]
        self._accuracy = pd.concat([paper5, paper7]).set_index(version)["top1_train_pct"].to_dict()

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        if condition == CLEAN:
            return np.array([self._clean.get(classifier, np.nan)])
        return np.array([self._accuracy.get((classifier, adversarial_set, condition), np.nan)])

    def mse(self, adversarial_set: str, condition: str) -> Array:
        column = "mse_adv_px2" if condition == RAW else f"mse_{condition}_px2"
        return np.array([self._mse.get((adversarial_set, column), np.nan)])

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        return np.array([np.nan])


Effect = Callable[..., Array]
"""Of a source, a scope and the names of the claim's subject, in this order."""

Names = str | tuple[str, ...]
"""Names given one by one, or a key of what `_names` returns."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    name: a short one. statement: what the effect is, with its unit. region: where the paper says that it lies.
    adversarial_sets: those it is pooled over. subject: the names it is about; it gets a row a combination of them.
    """

    name: str
    statement: str
    region: Region
    adversarial_sets: tuple[str, ...]
    subject: tuple[Names, ...]
    effect: Effect


CLAIMS: list[Claim] = []


def _claim(
    statement: str, region: Region, *subject: Names, adversarial_sets: tuple[str, ...] = PAPER_SETS
) -> Callable[[Effect], Effect]:
    """Register an effect as a claim of the function's name."""

    def register(effect: Effect) -> Effect:
        name = effect.__name__.removeprefix("_")
        CLAIMS.append(Claim(name, statement, region, adversarial_sets, subject, effect))
        return effect

    return register


def _names(classifiers: Sequence[str], denoisers: Sequence[str]) -> dict[str, list[str]]:
    """What "every" means: the paper's and the run's own."""
    every_classifier = list(dict.fromkeys([*PAPER_CLASSIFIERS, *classifiers]))
    return {
        "every classifier": every_classifier,
        "every classifier whose COS-D fades": [name for name in every_classifier if name not in COSD_STAYS],
        "every denoiser": list(dict.fromkeys([*PAPER_DENOISERS, *denoisers])),
    }


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Their quotient, NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _mean(arrays: Iterable[Array]) -> Array:
    return np.mean(list(arrays), axis=0)


def _distance(
    source: _Source, scope: _Scope, metric: str, classifier: str, position: int, condition: str = RAW
) -> Array:
    """Mean distance over the scope's sets."""
    return _mean(source.distance(metric, classifier, name, condition, position) for name in scope.adversarial_sets)


def _at_logits(source: _Source, scope: _Scope, metric: str, classifier: str, condition: str = RAW) -> Array:
    return _distance(source, scope, metric, classifier, scope.taps_of(classifier).last, condition)


def _accuracy(source: _Source, scope: _Scope, classifier: str, condition: str) -> Array:
    """Mean accuracy over the scope's sets, percent."""
    return _mean(source.accuracy(classifier, name, condition) for name in scope.adversarial_sets)


def _gain(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    """Percentage points that the denoiser brings back."""
    return _accuracy(source, scope, classifier, denoiser) - _accuracy(source, scope, classifier, RAW)


def _others(classifier: str) -> list[str]:
    return [name for name in PAPER_CLASSIFIERS if name != classifier]


def _jump(source: _Source, scope: _Scope, classifier: str) -> Array:
    taps = scope.taps_of(classifier)
    before = [_distance(source, scope, NED, classifier, position) for position in range(taps.first, taps.last)]
    return _ratio(_at_logits(source, scope, NED, classifier), np.max(before, axis=0))


def _growth(source: _Source, scope: _Scope, metric: str, classifier: str) -> Array:
    taps = scope.taps_of(classifier)
    last, first = (
        _distance(source, scope, metric, classifier, position) for position in (taps.last_convolutional, taps.first)
    )
    return _ratio(last, first)


def _at_logits_over_before(source: _Source, scope: _Scope, metric: str, classifier: str) -> Array:
    before = _distance(source, scope, metric, classifier, scope.taps_of(classifier).before_last)
    return _ratio(_at_logits(source, scope, metric, classifier), before)


def _left_at_logits(source: _Source, scope: _Scope, metric: str, classifier: str, denoiser: str) -> Array:
    """What a denoiser leaves of a distance at the logits."""
    denoised = _at_logits(source, scope, metric, classifier, denoiser)
    return _ratio(denoised, _at_logits(source, scope, metric, classifier))


@_claim(
    "NE-D jumps at the last layer: its mean at the logits over its largest mean at any layer before. Raw adversaries. "
    "(Section 4 says so of all classifiers; the conclusion excepts ResNet V2-50.)",
    Region(low=1),
    "every classifier",
)
def _ned_jumps_at_the_last_layer(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _jump(source, scope, classifier)


@_claim(
    "That jump is the largest in VGG-19: its jump over the largest among the other classifiers of the paper.",
    Region(low=1),
    ("vgg19",),
)
def _ned_jumps_most_in_vgg19(source: _Source, scope: _Scope, classifier: str) -> Array:
    others = [_jump(source, scope, other) for other in _others(classifier)]
    return _ratio(_jump(source, scope, classifier), np.max(others, axis=0))


@_claim(
    "Sets of larger perturbation lie farther away: NE-D at the logits, mean over FGSM v2 and i-FGSM v2, over the mean "
    "over the other sets. Raw adversaries.",
    Region(low=1),
    "every classifier",
)
def _larger_perturbation_larger_ned(source: _Source, scope: _Scope, classifier: str) -> Array:
    large, small = (
        replace(scope, adversarial_sets=tuple(s for s in scope.adversarial_sets if (s in LARGE_SETS) == is_large))
        for is_large in (True, False)
    )
    if not (large.adversarial_sets and small.adversarial_sets):
        raise _NotMeasuredError("FGSM v2 or i-FGSM v2, and a set beside them")
    return _ratio(_at_logits(source, large, NED, classifier), _at_logits(source, small, NED, classifier))


@_claim(
    "In the convolutional layers NE-D is not amplified: its mean at the last map before the fully connected layers "
    "over that at the first map. Raw adversaries.",
    Region(high=1, closed=True),
    "every classifier",
)
def _ned_is_not_amplified_by_convolutions(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _growth(source, scope, NED, classifier)


@_claim(
    "In the convolutional layers COS-D is amplified: its mean at the last map before the fully connected layers "
    "over that at the first map. Raw adversaries.",
    Region(low=1),
    "every classifier",
)
def _cosd_is_amplified_by_convolutions(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _growth(source, scope, COSD, classifier)


@_claim(
    "COS-D fades at the last layer: its mean at the logits over that at the layer before. Raw adversaries.",
    Region(high=1),
    "every classifier whose COS-D fades",
)
def _cosd_fades_at_the_last_layer(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _at_logits_over_before(source, scope, COSD, classifier)


@_claim(
    "COS-D does not decrease at the last layer of ResNet V2-50, nor of DenseNet-201 with PReLU: its mean at the logits "
    "over that at the layer before. Raw adversaries.",
    Region(low=1, closed=True),
    COSD_STAYS,
)
def _cosd_stays_at_the_last_layer(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _at_logits_over_before(source, scope, COSD, classifier)


@_claim(
    "ResNet V2-50 has the lowest NE-D at the logits: its mean over the smallest among the other classifiers of the "
    "paper. Raw adversaries.",
    Region(high=1),
    ("resnetv2_50",),
)
def _ned_is_lowest_in_resnetv2_50(source: _Source, scope: _Scope, classifier: str) -> Array:
    others = [_at_logits(source, scope, NED, other) for other in _others(classifier)]
    return _ratio(_at_logits(source, scope, NED, classifier), np.min(others, axis=0))


@_claim(
    "ResNet V2-50 has the largest COS-D at the logits: its mean over the largest among the other classifiers of the "
    "paper. Raw adversaries.",
    Region(low=1),
    ("resnetv2_50",),
)
def _cosd_is_largest_in_resnetv2_50(source: _Source, scope: _Scope, classifier: str) -> Array:
    others = [_at_logits(source, scope, COSD, other) for other in _others(classifier)]
    return _ratio(_at_logits(source, scope, COSD, classifier), np.max(others, axis=0))


@_claim(
    "Denoisers cut the mean squared error of the strong sets: that of the denoised images over that of the "
    "adversaries. All training images.",
    Region(high=1),
    "every denoiser",
    STRONG_SETS,
)
def _denoisers_cut_the_mse(source: _Source, scope: _Scope, denoiser: str, adversarial_set: str) -> Array:
    return _ratio(source.mse(adversarial_set, denoiser), source.mse(adversarial_set, RAW))


@_claim(
    "Denoisers raise the mean squared error of FGSM v1: that of the denoised images over that of the adversaries. "
    "All training images.",
    Region(low=1),
    "every denoiser",
    ("fgsm_v1",),
)
def _denoisers_raise_the_mse_of_fgsm_v1(source: _Source, scope: _Scope, denoiser: str, adversarial_set: str) -> Array:
    return _ratio(source.mse(adversarial_set, denoiser), source.mse(adversarial_set, RAW))


@_claim(
    "Denoisers bring back only part of the accuracy: share of what the strong sets took from that of the clean "
    "images which the denoiser gives back, 0 none, 1 all.",
    Region(0, 1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_bring_back_part_of_the_accuracy(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    lost = _accuracy(source, scope, classifier, CLEAN) - _accuracy(source, scope, classifier, RAW)
    return _ratio(_gain(source, scope, classifier, denoiser), lost)


@_claim(
    "ResNet V2-50 gains most accuracy from a denoiser: its gain on the strong sets minus the largest gain among the "
    "other classifiers of the paper, percentage points.",
    Region(low=0),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _resnetv2_50_gains_most(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    others = [_gain(source, scope, other, denoiser) for other in _others(classifier)]
    return _gain(source, scope, classifier, denoiser) - np.max(others, axis=0)


@_claim(
    "Denoisers lower NE-D at the logits, but not enough: that of the denoised strong sets over that of the "
    "adversaries, at least a half.",
    Region(0.5, 1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_ned_a_little(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    return _left_at_logits(source, scope, NED, classifier, denoiser)


@_claim(
    "In ResNet V2-50 denoisers lower NE-D at the logits by 20 to 30% on FGSM v2 and i-FGSM v2: that of the denoised "
    "images over that of the adversaries.",
    Region(0.7, 0.8, closed=True),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=LARGE_SETS,
)
def _denoisers_lower_ned_of_resnetv2_50_by_20_to_30(
    source: _Source, scope: _Scope, classifier: str, denoiser: str
) -> Array:
    return _left_at_logits(source, scope, NED, classifier, denoiser)


@_claim(
    "Denoisers lower NE-D at the logits more in ResNet V2-50 than in SENet-154, Inception-ResNet V2 and DenseNet-201: "
    "share of it that they leave on the strong sets, over the smallest such share among those three.",
    Region(high=1),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_ned_most_in_resnetv2_50(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    others = [
        _left_at_logits(source, scope, NED, other, denoiser)
        for other in ("senet154", "inception_resnet_v2", "densenet201")
    ]
    return _ratio(_left_at_logits(source, scope, NED, classifier, denoiser), np.min(others, axis=0))


@_claim(
    "Denoisers lower COS-D in the middle layers: that of the denoised strong sets over that of the adversaries, "
    "geometric mean over the layers between the first and the logits.",
    Region(high=1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_cosd_in_the_middle(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    middle = scope.taps_of(classifier).middle
    if not middle:
        raise _NotMeasuredError(f"a layer of {classifier} between the first and the logits")
    ratios = [
        _ratio(
            _distance(source, scope, COSD, classifier, position, denoiser),
            _distance(source, scope, COSD, classifier, position),
        )
        for position in middle
    ]
    return np.exp(np.mean(np.log(ratios), axis=0))


@_claim(
    "In ResNet V2-50 denoisers halve COS-D at the logits or better: that of the denoised strong sets over that of the "
    "adversaries.",
    Region(high=0.5, closed=True),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_halve_cosd_of_resnetv2_50(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    return _left_at_logits(source, scope, COSD, classifier, denoiser)


def _accuracy_change(source: _Source, scope: _Scope, classifier: str) -> Array:
    """Percentage points above DenseNet-201, mean over sets and conditions."""
    return _mean(
        _accuracy(source, scope, classifier, condition) - _accuracy(source, scope, "densenet201", condition)
        for condition in scope.conditions
    )


def _logits_over_densenet201(source: _Source, scope: _Scope, metric: str, classifier: str) -> Array:
    return _ratio(_at_logits(source, scope, metric, classifier), _at_logits(source, scope, metric, "densenet201"))


@_claim(
    "A convolution in place of the FC changes the accuracy little: that of the modified DenseNet-201 minus that of the "
    "original, mean over the sets without and with the paper's denoisers, percentage points.",
    Region(-5, 5, closed=True),
    ("densenet201_conv",),
)
def _fc_to_convolution_keeps_the_accuracy(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _accuracy_change(source, scope, classifier)


@_claim(
    "A convolution in place of the FC changes NE-D little: its mean at the logits over that of the original "
    "DenseNet-201. Raw adversaries.",
    Region(1 / 1.5, 1.5, closed=True),
    ("densenet201_conv",),
)
def _fc_to_convolution_keeps_ned(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _logits_over_densenet201(source, scope, NED, classifier)


@_claim(
    "PReLU after the FC lowers NE-D: its mean at the last layer over that of the original DenseNet-201. Raw "
    "adversaries.",
    Region(high=1),
    ("densenet201_prelu",),
)
def _prelu_lowers_ned(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _logits_over_densenet201(source, scope, NED, classifier)


@_claim(
    "PReLU after the FC raises COS-D: its mean at the last layer over that of the original DenseNet-201. Raw "
    "adversaries.",
    Region(low=1),
    ("densenet201_prelu",),
)
def _prelu_raises_cosd(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _logits_over_densenet201(source, scope, COSD, classifier)


@_claim(
    "PReLU after the FC changes the accuracy little: that of the modified DenseNet-201 minus that of the original, "
    "mean over the sets without and with the paper's denoisers, percentage points.",
    Region(-5, 5, closed=True),
    ("densenet201_prelu",),
)
def _prelu_keeps_the_accuracy(source: _Source, scope: _Scope, classifier: str) -> Array:
    return _accuracy_change(source, scope, classifier)


@_claim(
    "PReLU does not make the denoisers as good as for ResNet V2-50: gain of accuracy on the strong sets minus that of "
    "ResNet V2-50, percentage points.",
    Region(high=0),
    ("densenet201_prelu",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _prelu_gains_less_than_resnetv2_50(source: _Source, scope: _Scope, classifier: str, denoiser: str) -> Array:
    return _gain(source, scope, classifier, denoiser) - _gain(source, scope, "resnetv2_50", denoiser)


def claims(
    distances_images: pd.DataFrame,
    layers: pd.DataFrame,
    predictions: pd.DataFrame,
    mse_images: pd.DataFrame,
    paper3: pd.DataFrame,
    paper4: pd.DataFrame,
    paper5: pd.DataFrame,
    paper7: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
) -> pd.DataFrame:
    """What a run says to each claim of the paper.

    distances_images, predictions, mse_images: rows of distances/<classifier>/<set>_images.csv.gz,
    predictions/<classifier>/<set>.csv.gz and mse/<set>_images.csv.gz; without rows where a run has none. layers: rows
    of distances/<classifier>/<set>.csv, of one set a classifier, for the wording of each position. paper3 to paper7:
    the paper's tables of that number. Sets other than the paper's are left aside. One row a claim and subject:

    claim, statement
    subject             the classifiers, denoisers and sets that it is about, joined by ", "
    of_paper            whether the paper has all of these; else its claim is put to others
    adversarial_sets    the sets that the effect is pooled over, likewise; fewer than the claim's where a run lacks some
    effect, ci_low, ci_high     with its 95% bootstrap interval over images; the statement has the unit
    effect_paper        the same from the paper's tables, where they give it
    inequality          where the paper says that the effect lies
    verdict             "holds" (the whole interval lies there), "fails" (all of it lies outside), "undecided", or
                        "not measured"
    note                what is missing, or why there is no interval

    An effect with nothing to divide by, such as the share of no loss, is undecided.
    """
    sets = [name for name in PAPER_SETS if name in adversarial_sets]
    conditions = (RAW, *(name for name in PAPER_DENOISERS if name in denoisers))
    taps = _taps(layers)
    run = _Run(distances_images, predictions, mse_images, sets)
    paper = _Paper(paper3, paper4, paper5, paper7)
    names = _names(classifiers, denoisers)
    rows = []
    for claim in CLAIMS:
        pooled = tuple(name for name in claim.adversarial_sets if name in sets)
        scope = _Scope(pooled, conditions, taps)
        for subject in product(*(names[part] if isinstance(part, str) else part for part in claim.subject)):
            own_set = [name for name in subject if name in PAPER_SETS]
            rows.append(
                {
                    "claim": claim.name,
                    "statement": claim.statement,
                    "subject": ", ".join(subject),
                    "of_paper": set(subject) <= _OF_PAPER,
                    "adversarial_sets": ", ".join(own_set or pooled),
                    **_measured(claim, run, scope, subject),
                    "effect_paper": _effect_of_paper(claim, paper, scope, subject),
                    "inequality": str(claim.region),
                }
            )
    order = ["claim", "statement", "subject", "of_paper", "adversarial_sets", "effect", "ci_low", "ci_high"]
    return pd.DataFrame(rows)[[*order, "effect_paper", "inequality", "verdict", "note"]]


def _taps(layers: pd.DataFrame) -> dict[str, _Taps]:
    """Of each classifier: the fully connected layers begin where a wording says FC, at the logits at the latest."""
    if not len(layers):
        return {}
    taps = {}
    for classifier, rows in layers.groupby("classifier", observed=True):
        positions = sorted(rows["position"].unique())
        connected = rows.loc[rows["layer"].astype(str).str.contains(r"\bFC", regex=True), "position"]
        first_connected = min([*connected, positions[-1]])
        convolutional = [position for position in positions if position < first_connected] or positions[:1]
        taps[str(classifier)] = _Taps(positions[0], convolutional[-1], positions[-2:][0], positions[-1])
    return taps


def _measured(claim: Claim, run: _Run, scope: _Scope, subject: tuple[str, ...]) -> dict[str, object]:
    """A row's effect, interval, verdict and note."""
    nothing = {"effect": np.nan, "ci_low": np.nan, "ci_high": np.nan, "verdict": "not measured"}
    if not scope.adversarial_sets:
        return {**nothing, "note": f"adversarial set {' or '.join(claim.adversarial_sets)}"}
    try:
        samples = claim.effect(run, scope, *subject)
    except _NotMeasuredError as error:
        return {**nothing, "note": str(error)}
    low, high = interval(samples)
    undefined = np.isnan(samples[1:]).mean()
    return {
        "effect": samples[0],
        "ci_low": low,
        "ci_high": high,
        "verdict": claim.region.verdict(float(low), float(high)),
        "note": f"undefined in {undefined:.1%} of the resamples" if undefined else None,
    }


def _effect_of_paper(claim: Claim, paper: _Paper, scope: _Scope, subject: tuple[str, ...]) -> float:
    if not scope.adversarial_sets:
        return float("nan")
    try:
        return float(claim.effect(paper, scope, *subject)[0])
    except _NotMeasuredError:
        return float("nan")


def claims_markdown(table: pd.DataFrame) -> str:
    """The claims as Markdown: how many hold, claim by claim and in all, then each claim with its rows."""
    own = table[table["of_paper"]]
    parts = [f"**Claims of the paper:** {_counts(own['verdict'])}."]
    others = table[~table["of_paper"]]
    if len(others):
        parts.append(f"Put to classifiers and denoisers that are not the paper's: {_counts(others['verdict'])}.")
    parts.append(
        "A claim holds where the whole 95% interval (bootstrap over images) lies where the paper says, fails where all "
        "of it lies elsewhere, and is undecided in between."
    )
    per_claim = [(str(claim), rows) for claim, rows in table.groupby("claim", sort=False)]
    counts = [("Claim", [f"`{claim}`" for claim, _ in per_claim])] + [
        (verdict.capitalize(), [str((rows["verdict"] == verdict).sum() or "") for _, rows in per_claim])
        for verdict in VERDICTS
    ]
    parts.append(markdown_table(counts))
    for claim, rows in per_claim:
        columns = [
            ("Subject", [_labels(subject) for subject in rows["subject"]]),
            ("Verdict", [_verdict(*row) for row in zip(rows["verdict"], rows["note"], strict=True)]),
            (
                "Effect",
                [_effect(*row) for row in zip(rows["effect"], rows["ci_low"], rows["ci_high"], strict=True)],
            ),
            ("Claimed", list(rows["inequality"])),
            ("Paper", [_number(effect) for effect in rows["effect_paper"]]),
        ]
        pooled = rows["adversarial_sets"].unique()
        over = f" Over {_labels(pooled[0])}." if len(pooled) == 1 and pooled[0] else ""
        text = f"`{claim}`: {rows['statement'].iloc[0]}{over}"
        parts.append(f"{text}\n\n{markdown_table(columns, n_text_columns=2)}")
    return "\n\n".join(parts) + "\n"


def _counts(verdicts: pd.Series[str]) -> str:
    return ", ".join(f"{verdict} {(verdicts == verdict).sum()}" for verdict in VERDICTS)


def _labels(names: str) -> str:
    return ", ".join(label(name) for name in names.split(", "))


def _effect(effect: float, low: float, high: float) -> str:
    return _number(effect) if isnan(low) else with_interval(effect, low, high, form=_number)


def _number(value: float) -> str:
    if isnan(value):
        return ""
    return f"-{three_significant(-value)}" if value < 0 else three_significant(value)


def _verdict(verdict: str, note: str | None) -> str:
    return verdict if pd.isna(note) else f"{verdict}: {note}"


_KEYS = ["denoiser", "index"]

TABLES = {
    "claims": Table(
        claims,
        claims_markdown,
        {
            "distances_images": [*_KEYS, "position", NED, COSD],
            "layers": ["classifier", "position", "layer"],
            "predictions": [*_KEYS, "label", "predicted_clean", "predicted"],
            "mse_images": [*_KEYS, "split", "mse_px2"],
        },
    )
}
