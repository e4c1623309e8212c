"""What the paper observes, stated as inequalities and put to a run.

A claim says in which region an effect lies, a ratio or a difference of means over images. It holds where the effect's
95% bootstrap interval lies inside that region, fails where it lies outside, and is undecided elsewhere. Images are
resampled together (`perturbflow.results.bootstrap`): what is compared is compared on the same images.

`CLAIMS` holds them. A claim's function computes its effect from evidence, the run's numbers or those of the paper's own
tables; so the paper's effect stands beside ours wherever its tables give it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from perturbflow.results.bootstrap import Array
from perturbflow.tables.claims.claim import CLEAN, Evidence, NotMeasuredError, Region, Scope, claim
from perturbflow.vocabulary import COSD, NED, PAPER_CLASSIFIERS, RAW

STRONG_SETS = ("fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm")
"""Those whose error the denoisers reduce in the paper's Table 4."""

LARGE_SETS = ("fgsm_v2", "ifgsm_v2")
"""The paper's "relatively larger perturbation"."""

COSD_STAYS = ("resnetv2_50", "densenet201_prelu")
"""The paper's exceptions from the fading of COS-D (Figures 3 and 6)."""


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Their quotient, NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _mean(arrays: Iterable[Array]) -> Array:
    return np.mean(list(arrays), axis=0)


def _distance(
    evidence: Evidence, scope: Scope, metric: str, classifier: str, position: int, condition: str = RAW
) -> Array:
    """Mean distance over the scope's sets."""
    return _mean(evidence.distance(metric, classifier, name, condition, position) for name in scope.adversarial_sets)


def _at_logits(evidence: Evidence, scope: Scope, metric: str, classifier: str, condition: str = RAW) -> Array:
    return _distance(evidence, scope, metric, classifier, scope.taps_of(classifier).last, condition)


def _accuracy(evidence: Evidence, scope: Scope, classifier: str, condition: str) -> Array:
    """Mean accuracy over the scope's sets, percent."""
    return _mean(evidence.accuracy(classifier, name, condition) for name in scope.adversarial_sets)


def _gain(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    """Percentage points that the denoiser brings back."""
    return _accuracy(evidence, scope, classifier, denoiser) - _accuracy(evidence, scope, classifier, RAW)


def _others(classifier: str) -> list[str]:
    return [name for name in PAPER_CLASSIFIERS if name != classifier]


def _jump(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    taps = scope.taps_of(classifier)
    before = [_distance(evidence, scope, NED, classifier, position) for position in range(taps.first, taps.last)]
    return _ratio(_at_logits(evidence, scope, NED, classifier), np.max(before, axis=0))


def _growth(evidence: Evidence, scope: Scope, metric: str, classifier: str) -> Array:
    taps = scope.taps_of(classifier)
    last, first = (
        _distance(evidence, scope, metric, classifier, position) for position in (taps.last_convolutional, taps.first)
    )
    return _ratio(last, first)


def _at_logits_over_before(evidence: Evidence, scope: Scope, metric: str, classifier: str) -> Array:
    before = _distance(evidence, scope, metric, classifier, scope.taps_of(classifier).before_last)
    return _ratio(_at_logits(evidence, scope, metric, classifier), before)


def _left_at_logits(evidence: Evidence, scope: Scope, metric: str, classifier: str, denoiser: str) -> Array:
    """What a denoiser leaves of a distance at the logits."""
    denoised = _at_logits(evidence, scope, metric, classifier, denoiser)
    return _ratio(denoised, _at_logits(evidence, scope, metric, classifier))


@claim(
    "NE-D jumps at the last layer: its mean at the logits over its largest mean at any layer before. Raw adversaries. "
    "(Section 4 says so of all classifiers; the conclusion excepts ResNet V2-50.)",
    Region(low=1),
    "every classifier",
)
def _ned_jumps_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _jump(evidence, scope, classifier)


@claim(
    "That jump is the largest in VGG-19: its jump over the largest among the other classifiers of the paper.",
    Region(low=1),
    ("vgg19",),
)
def _ned_jumps_most_in_vgg19(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    others = [_jump(evidence, scope, other) for other in _others(classifier)]
    return _ratio(_jump(evidence, scope, classifier), np.max(others, axis=0))


@claim(
    "Sets of larger perturbation lie farther away: NE-D at the logits, mean over FGSM v2 and i-FGSM v2, over the mean "
    "over the other sets. Raw adversaries.",
    Region(low=1),
    "every classifier",
)
def _larger_perturbation_larger_ned(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    large, small = (
        replace(scope, adversarial_sets=tuple(s for s in scope.adversarial_sets if (s in LARGE_SETS) == is_large))
        for is_large in (True, False)
    )
    if not (large.adversarial_sets and small.adversarial_sets):
        raise NotMeasuredError("FGSM v2 or i-FGSM v2, and a set beside them")
    return _ratio(_at_logits(evidence, large, NED, classifier), _at_logits(evidence, small, NED, classifier))


@claim(
    "In the convolutional layers NE-D is not amplified: its mean at the last map before the fully connected layers "
    "over that at the first map. Raw adversaries.",
    Region(high=1, closed=True),
    "every classifier",
)
def _ned_is_not_amplified_by_convolutions(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _growth(evidence, scope, NED, classifier)


@claim(
    "In the convolutional layers COS-D is amplified: its mean at the last map before the fully connected layers "
    "over that at the first map. Raw adversaries.",
    Region(low=1),
    "every classifier",
)
def _cosd_is_amplified_by_convolutions(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _growth(evidence, scope, COSD, classifier)


@claim(
    "COS-D fades at the last layer: its mean at the logits over that at the layer before. Raw adversaries.",
    Region(high=1),
    "every classifier whose COS-D fades",
)
def _cosd_fades_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _at_logits_over_before(evidence, scope, COSD, classifier)


@claim(
    "COS-D does not decrease at the last layer of ResNet V2-50, nor of DenseNet-201 with PReLU: its mean at the logits "
    "over that at the layer before. Raw adversaries.",
    Region(low=1, closed=True),
    COSD_STAYS,
)
def _cosd_stays_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _at_logits_over_before(evidence, scope, COSD, classifier)


@claim(
    "ResNet V2-50 has the lowest NE-D at the logits: its mean over the smallest among the other classifiers of the "
    "paper. Raw adversaries.",
    Region(high=1),
    ("resnetv2_50",),
)
def _ned_is_lowest_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    others = [_at_logits(evidence, scope, NED, other) for other in _others(classifier)]
    return _ratio(_at_logits(evidence, scope, NED, classifier), np.min(others, axis=0))


@claim(
    "ResNet V2-50 has the largest COS-D at the logits: its mean over the largest among the other classifiers of the "
    "paper. Raw adversaries.",
    Region(low=1),
    ("resnetv2_50",),
)
def _cosd_is_largest_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    others = [_at_logits(evidence, scope, COSD, other) for other in _others(classifier)]
    return _ratio(_at_logits(evidence, scope, COSD, classifier), np.max(others, axis=0))


@claim(
    "Denoisers cut the mean squared error of the strong sets: that of the denoised images over that of the "
    "adversaries. All training images.",
    Region(high=1),
    "every denoiser",
    STRONG_SETS,
)
def _denoisers_cut_the_mse(evidence: Evidence, scope: Scope, denoiser: str, adversarial_set: str) -> Array:
    return _ratio(evidence.mse(adversarial_set, denoiser), evidence.mse(adversarial_set, RAW))


@claim(
    "Denoisers raise the mean squared error of FGSM v1: that of the denoised images over that of the adversaries. "
    "All training images.",
    Region(low=1),
    "every denoiser",
    ("fgsm_v1",),
)
def _denoisers_raise_the_mse_of_fgsm_v1(evidence: Evidence, scope: Scope, denoiser: str, adversarial_set: str) -> Array:
    return _ratio(evidence.mse(adversarial_set, denoiser), evidence.mse(adversarial_set, RAW))


@claim(
    "Denoisers bring back only part of the accuracy: share of what the strong sets took from that of the clean "
    "images which the denoiser gives back, 0 none, 1 all.",
    Region(0, 1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_bring_back_part_of_the_accuracy(
    evidence: Evidence, scope: Scope, classifier: str, denoiser: str
) -> Array:
    lost = _accuracy(evidence, scope, classifier, CLEAN) - _accuracy(evidence, scope, classifier, RAW)
    return _ratio(_gain(evidence, scope, classifier, denoiser), lost)


@claim(
    "ResNet V2-50 gains most accuracy from a denoiser: its gain on the strong sets minus the largest gain among the "
    "other classifiers of the paper, percentage points.",
    Region(low=0),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _resnetv2_50_gains_most(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    others = [_gain(evidence, scope, other, denoiser) for other in _others(classifier)]
    return _gain(evidence, scope, classifier, denoiser) - np.max(others, axis=0)


@claim(
    "Denoisers lower NE-D at the logits, but not enough: that of the denoised strong sets over that of the "
    "adversaries, at least a half.",
    Region(0.5, 1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_ned_a_little(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    return _left_at_logits(evidence, scope, NED, classifier, denoiser)


@claim(
    "In ResNet V2-50 denoisers lower NE-D at the logits by 20 to 30% on FGSM v2 and i-FGSM v2: that of the denoised "
    "images over that of the adversaries.",
    Region(0.7, 0.8, closed=True),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=LARGE_SETS,
)
def _denoisers_lower_ned_of_resnetv2_50_by_20_to_30(
    evidence: Evidence, scope: Scope, classifier: str, denoiser: str
) -> Array:
    return _left_at_logits(evidence, scope, NED, classifier, denoiser)


@claim(
    "Denoisers lower NE-D at the logits more in ResNet V2-50 than in SENet-154, Inception-ResNet V2 and DenseNet-201: "
    "share of it that they leave on the strong sets, over the smallest such share among those three.",
    Region(high=1),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_ned_most_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    others = [
        _left_at_logits(evidence, scope, NED, other, denoiser)
        for other in ("senet154", "inception_resnet_v2", "densenet201")
    ]
    return _ratio(_left_at_logits(evidence, scope, NED, classifier, denoiser), np.min(others, axis=0))


@claim(
    "Denoisers lower COS-D in the middle layers: that of the denoised strong sets over that of the adversaries, "
    "geometric mean over the layers between the first and the logits.",
    Region(high=1),
    "every classifier",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_cosd_in_the_middle(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    middle = scope.taps_of(classifier).middle
    if not middle:
        raise NotMeasuredError(f"a layer of {classifier} between the first and the logits")
    ratios = [
        _ratio(
            _distance(evidence, scope, COSD, classifier, position, denoiser),
            _distance(evidence, scope, COSD, classifier, position),
        )
        for position in middle
    ]
    return np.exp(np.mean(np.log(ratios), axis=0))


@claim(
    "In ResNet V2-50 denoisers halve COS-D at the logits or better: that of the denoised strong sets over that of the "
    "adversaries.",
    Region(high=0.5, closed=True),
    ("resnetv2_50",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_halve_cosd_of_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    return _left_at_logits(evidence, scope, COSD, classifier, denoiser)


def _accuracy_change(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    """Percentage points above DenseNet-201, mean over sets and conditions."""
    return _mean(
        _accuracy(evidence, scope, classifier, condition) - _accuracy(evidence, scope, "densenet201", condition)
        for condition in scope.conditions
    )


def _logits_over_densenet201(evidence: Evidence, scope: Scope, metric: str, classifier: str) -> Array:
    return _ratio(_at_logits(evidence, scope, metric, classifier), _at_logits(evidence, scope, metric, "densenet201"))


@claim(
    "A convolution in place of the FC changes the accuracy little: that of the modified DenseNet-201 minus that of the "
    "original, mean over the sets without and with the paper's denoisers, percentage points.",
    Region(-5, 5, closed=True),
    ("densenet201_conv",),
)
def _fc_to_convolution_keeps_the_accuracy(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _accuracy_change(evidence, scope, classifier)


@claim(
    "A convolution in place of the FC changes NE-D little: its mean at the logits over that of the original "
    "DenseNet-201. Raw adversaries.",
    Region(1 / 1.5, 1.5, closed=True),
    ("densenet201_conv",),
)
def _fc_to_convolution_keeps_ned(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _logits_over_densenet201(evidence, scope, NED, classifier)


@claim(
    "PReLU after the FC lowers NE-D: its mean at the last layer over that of the original DenseNet-201. Raw "
    "adversaries.",
    Region(high=1),
    ("densenet201_prelu",),
)
def _prelu_lowers_ned(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _logits_over_densenet201(evidence, scope, NED, classifier)


@claim(
    "PReLU after the FC raises COS-D: its mean at the last layer over that of the original DenseNet-201. Raw "
    "adversaries.",
    Region(low=1),
    ("densenet201_prelu",),
)
def _prelu_raises_cosd(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _logits_over_densenet201(evidence, scope, COSD, classifier)


@claim(
    "PReLU after the FC changes the accuracy little: that of the modified DenseNet-201 minus that of the original, "
    "mean over the sets without and with the paper's denoisers, percentage points.",
    Region(-5, 5, closed=True),
    ("densenet201_prelu",),
)
def _prelu_keeps_the_accuracy(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _accuracy_change(evidence, scope, classifier)


@claim(
    "PReLU does not make the denoisers as good as for ResNet V2-50: gain of accuracy on the strong sets minus that of "
    "ResNet V2-50, percentage points.",
    Region(high=0),
    ("densenet201_prelu",),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _prelu_gains_less_than_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    return _gain(evidence, scope, classifier, denoiser) - _gain(evidence, scope, "resnetv2_50", denoiser)
