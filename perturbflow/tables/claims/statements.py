"""What the paper observes, stated as inequalities and put to a run.

A claim says in which region an effect lies, a ratio or a difference of means over images. It holds where the effect's
95% interval (`perturbflow.results.bootstrap`) lies inside that region, fails where it lies outside, and is undecided
elsewhere. The sentence of the paper that it stands for is in resources/paper/claims.csv, which also says where the
region's bound is from: the paper's numbers, or, where it has words alone, ours.

`CLAIMS` holds them. A claim's function computes its effect from evidence, the run's numbers or those of the paper's own
tables; so the paper's effect stands beside ours wherever its tables give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from perturbflow.results.bootstrap import Array
from perturbflow.results.verdicts import Region
from perturbflow.tables.claims.claim import CLEAN, Evidence, NotMeasuredError, Scope, claim
from perturbflow.vocabulary import COSD, NED, PAPER_CLASSIFIERS, RAW

STRONG_SETS = ("fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm")
"""Those whose error the denoisers reduce in the paper's Table 4."""

LARGE_SETS = ("fgsm_v2", "ifgsm_v2")
"""The paper's "relatively larger perturbation"."""

SMALL_SETS = ("fgsm_v1", "ifgsm_v1", "mifgsm")
"""Its "small perturbation", in the caption of Table 5."""

COSD_STAYS = ("resnetv2_50", "densenet201_prelu")
"""The paper's exceptions from the fading of COS-D (Figures 3 and 6)."""

RIVALS_OF_RESNETV2_50 = tuple(name for name in PAPER_CLASSIFIERS if name != "resnetv2_50")
RIVALS_OF_VGG19 = tuple(name for name in PAPER_CLASSIFIERS if name != "vgg19")


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Their quotient, NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


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


def _before_last(evidence: Evidence, scope: Scope, metric: str, classifier: str, condition: str = RAW) -> Array:
    return _distance(evidence, scope, metric, classifier, scope.taps_of(classifier).before_last, condition)


def _at_logits_over_before(
    evidence: Evidence, scope: Scope, metric: str, classifier: str, condition: str = RAW
) -> Array:
    before = _before_last(evidence, scope, metric, classifier, condition)
    return _ratio(_at_logits(evidence, scope, metric, classifier, condition), before)


def _geometric_mean(ratios: Iterable[Array]) -> Array:
    return np.exp(np.mean(np.log(list(ratios)), axis=0))


def _under_all_conditions(effect: Callable[[str], Array], scope: Scope) -> Array:
    """Geometric mean over the raw adversaries and the paper's denoisers."""
    return _geometric_mean(map(effect, scope.conditions))


def _growth(evidence: Evidence, scope: Scope, metric: str, classifier: str) -> Array:
    """From the first convolutional map to the last, over all conditions."""
    *_, last = convolutional = scope.taps_of(classifier).convolutional
    return _under_all_conditions(
        lambda condition: _ratio(
            _distance(evidence, scope, metric, classifier, last, condition),
            _distance(evidence, scope, metric, classifier, convolutional[0], condition),
        ),
        scope,
    )


def _smallest_step(evidence: Evidence, scope: Scope, metric: str, classifier: str) -> Array:
    """The smallest ratio of a convolutional map's distance to that of the one before."""
    positions: Sequence[int] = scope.taps_of(classifier).convolutional
    if len(positions) < 2:
        raise NotMeasuredError(f"two convolutional maps of {classifier}")
    distances = [_distance(evidence, scope, metric, classifier, position) for position in positions]
    return np.min([_ratio(after, before) for before, after in pairwise(distances)], axis=0)


def _large_and_small(scope: Scope) -> tuple[Scope, Scope]:
    """The scope with its sets of larger perturbation, and with the others."""
    large, small = (
        replace(scope, adversarial_sets=tuple(s for s in scope.adversarial_sets if (s in LARGE_SETS) == is_large))
        for is_large in (True, False)
    )
    if not (large.adversarial_sets and small.adversarial_sets):
        raise NotMeasuredError("FGSM v2 or i-FGSM v2, and a set beside them")
    return large, small


def _left_at_logits(evidence: Evidence, scope: Scope, metric: str, classifier: str, denoiser: str) -> Array:
    """What a denoiser leaves of a distance at the logits."""
    denoised = _at_logits(evidence, scope, metric, classifier, denoiser)
    return _ratio(denoised, _at_logits(evidence, scope, metric, classifier))


@claim(
    "NE-D explodes at the last layer: its mean at the logits over that at the layer before, geometric mean over the "
    "raw adversaries and those behind the denoisers.",
    Region(low=10),
    "every classifier",
)
def _ned_explodes_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _under_all_conditions(
        lambda condition: _at_logits_over_before(evidence, scope, NED, classifier, condition), scope
    )


@claim(
    "That jump is the largest in VGG-19, as a ratio: of NE-D at the logits and at the layer before, that of VGG-19 "
    "over that of each other classifier. Raw adversaries.",
    Region(low=1),
    ("vgg19",),
    RIVALS_OF_VGG19,
)
def _ned_jumps_most_in_vgg19_as_a_ratio(evidence: Evidence, scope: Scope, classifier: str, rival: str) -> Array:
    own, other = (_at_logits_over_before(evidence, scope, NED, name) for name in (classifier, rival))
    return _ratio(own, other)


@claim(
    "That jump is the largest in VGG-19, as a step: NE-D at the logits minus that at the layer before, that of VGG-19 "
    "minus that of each other classifier. Raw adversaries.",
    Region(low=0),
    ("vgg19",),
    RIVALS_OF_VGG19,
    scale="difference",
)
def _ned_jumps_most_in_vgg19_as_a_step(evidence: Evidence, scope: Scope, classifier: str, rival: str) -> Array:
    own, other = (
        _at_logits(evidence, scope, NED, name) - _before_last(evidence, scope, NED, name)
        for name in (classifier, rival)
    )
    return own - other


@claim(
    "Sets of larger perturbation lie farther away: NE-D at the logits, mean over FGSM v2 and i-FGSM v2, over the mean "
    "over the other sets. Raw adversaries.",
    Region(low=1),
    "every classifier",
)
def _larger_perturbation_larger_ned(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    large, small = _large_and_small(scope)
    return _ratio(_at_logits(evidence, large, NED, classifier), _at_logits(evidence, small, NED, classifier))


@claim(
    "NE-D stays small in the convolutional layers: its mean at the last convolutional map over that at the first, "
    "geometric mean over the raw adversaries and those behind the denoisers.",
    Region(high=2, closed=True),
    "every classifier",
)
def _ned_stays_small_in_the_convolutions(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _growth(evidence, scope, NED, classifier)


@claim(
    "COS-D is amplified in the convolutional layers: its mean at the last convolutional map over that at the first, "
    "geometric mean over the raw adversaries and those behind the denoisers.",
    Region(low=1),
    "every classifier",
)
def _cosd_is_amplified_by_convolutions(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _growth(evidence, scope, COSD, classifier)


@claim(
    "COS-D increases gradually in the convolutional layers of ResNet V2-50, VGG-19 and SENet-154: the smallest ratio "
    "of its mean at a convolutional map to that at the one before. Raw adversaries.",
    Region(low=1),
    ("resnetv2_50", "vgg19", "senet154"),
)
def _cosd_increases_gradually(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _smallest_step(evidence, scope, COSD, classifier)


@claim(
    "COS-D goes up, down and up in the convolutional layers of Inception-ResNet V2 and DenseNet-201: the smallest "
    "ratio of its mean at a convolutional map to that at the one before. Raw adversaries.",
    Region(high=1),
    ("inception_resnet_v2", "densenet201"),
)
def _cosd_goes_up_and_down(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _smallest_step(evidence, scope, COSD, classifier)


@claim(
    "COS-D decreases at the last layer: its mean at the logits over that at the layer before. Raw adversaries.",
    Region(high=1),
    "every classifier whose COS-D fades",
)
def _cosd_decreases_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _at_logits_over_before(evidence, scope, COSD, classifier)


@claim(
    "COS-D disappears at the last layer: its mean at the logits over that at the layer before. Raw adversaries.",
    Region(high=0.1, closed=True),
    "every classifier whose COS-D fades",
)
def _cosd_disappears_at_the_last_layer(evidence: Evidence, scope: Scope, classifier: str) -> Array:
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
    "COS-D explodes at the last layer of ResNet V2-50: its mean at the logits over that at the layer before. Raw "
    "adversaries.",
    Region(low=2),
    ("resnetv2_50",),
)
def _cosd_explodes_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _at_logits_over_before(evidence, scope, COSD, classifier)


@claim(
    "NE-D disappears at the last layer of ResNet V2-50: its mean at the logits over that at the layer before. Raw "
    "adversaries.",
    Region(high=0.1, closed=True),
    ("resnetv2_50",),
)
def _ned_disappears_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _at_logits_over_before(evidence, scope, NED, classifier)


@claim(
    "ResNet V2-50 has a lower NE-D at the logits than the others: its mean over that of each. Raw adversaries.",
    Region(high=1),
    ("resnetv2_50",),
    RIVALS_OF_RESNETV2_50,
)
def _ned_is_lowest_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, rival: str) -> Array:
    return _ratio(_at_logits(evidence, scope, NED, classifier), _at_logits(evidence, scope, NED, rival))


@claim(
    "ResNet V2-50 has a larger COS-D at the logits than the others: its mean over that of each. Raw adversaries.",
    Region(low=1),
    ("resnetv2_50",),
    RIVALS_OF_RESNETV2_50,
)
def _cosd_is_largest_in_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, rival: str) -> Array:
    return _ratio(_at_logits(evidence, scope, COSD, classifier), _at_logits(evidence, scope, COSD, rival))


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
    "Denoisers bring back little of the accuracy: share of what the strong sets took from that of the clean images "
    "which the denoiser gives back, 0 none, 1 all.",
    Region(0, 0.52),
    "every classifier",
    "every denoiser",
    scale="difference",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_bring_back_little_accuracy(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    lost = _accuracy(evidence, scope, classifier, CLEAN) - _accuracy(evidence, scope, classifier, RAW)
    return _ratio(_gain(evidence, scope, classifier, denoiser), lost)


@claim(
    "Sets of small perturbation leave a reasonable accuracy: top-1 accuracy of the raw adversaries, mean over FGSM v1, "
    "i-FGSM v1 and mi-FGSM, percent.",
    Region(low=80, closed=True),
    "every classifier",
    scale="difference",
    adversarial_sets=SMALL_SETS,
)
def _small_sets_leave_a_reasonable_accuracy(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _accuracy(evidence, scope, classifier, RAW)


@claim(
    "Sets of larger perturbation leave a lower accuracy although they are denoised: top-1 accuracy behind the "
    "denoiser, mean over FGSM v2 and i-FGSM v2 minus that over the other sets, percentage points.",
    Region(high=0),
    "every classifier",
    "every denoiser",
    scale="difference",
)
def _larger_sets_leave_a_lower_accuracy(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    large, small = (_accuracy(evidence, one, classifier, denoiser) for one in _large_and_small(scope))
    return large - small


@claim(
    "The error does not decide over the accuracy: mi-FGSM has a larger mean squared error than i-FGSM v1 (this claim), "
    "and leaves more accuracy (the next). All training images.",
    Region(low=1),
    ("mifgsm",),
    ("ifgsm_v1",),
)
def _mifgsm_has_more_error(evidence: Evidence, scope: Scope, larger: str, smaller: str) -> Array:
    return _ratio(evidence.mse(larger, RAW), evidence.mse(smaller, RAW))


@claim(
    "The error does not decide over the accuracy: top-1 accuracy of Inception-ResNet V2 on mi-FGSM, of the larger "
    "error, minus that on i-FGSM v1, percentage points.",
    Region(low=0),
    ("inception_resnet_v2",),
    scale="difference",
    adversarial_sets=("ifgsm_v1", "mifgsm"),
)
def _mifgsm_leaves_more_accuracy(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return evidence.accuracy(classifier, "mifgsm", RAW) - evidence.accuracy(classifier, "ifgsm_v1", RAW)


@claim(
    "ResNet V2-50 gains most accuracy from a denoiser: its gain on the strong sets minus that of each other "
    "classifier, percentage points.",
    Region(low=0),
    ("resnetv2_50",),
    RIVALS_OF_RESNETV2_50,
    "every denoiser",
    scale="difference",
    adversarial_sets=STRONG_SETS,
)
def _resnetv2_50_gains_most(evidence: Evidence, scope: Scope, classifier: str, rival: str, denoiser: str) -> Array:
    return _gain(evidence, scope, classifier, denoiser) - _gain(evidence, scope, rival, denoiser)


@claim(
    "Denoisers lower NE-D at the logits a little: that of the denoised strong sets over that of the adversaries.",
    Region(0.7, 1),
    "every classifier but ResNet V2-50",
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
    "share of it that they leave on the strong sets, over that in each of the three.",
    Region(high=1),
    ("resnetv2_50",),
    ("senet154", "inception_resnet_v2", "densenet201"),
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoisers_lower_ned_most_in_resnetv2_50(
    evidence: Evidence, scope: Scope, classifier: str, rival: str, denoiser: str
) -> Array:
    own, other = (_left_at_logits(evidence, scope, NED, name, denoiser) for name in (classifier, rival))
    return _ratio(own, other)


@claim(
    "Although the error is reduced, the perturbation is amplified to a similar level: NE-D at the logits of the "
    "denoised strong sets over that of the adversaries.",
    Region(0.8, 1.25, closed=True),
    "every classifier but ResNet V2-50",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _denoised_is_amplified_to_a_similar_level(
    evidence: Evidence, scope: Scope, classifier: str, denoiser: str
) -> Array:
    return _left_at_logits(evidence, scope, NED, classifier, denoiser)


@claim(
    "COS-D becomes identical eventually: at the logits, that of the denoised strong sets over that of the adversaries.",
    Region(0.8, 1.25, closed=True),
    "every classifier but ResNet V2-50",
    "every denoiser",
    adversarial_sets=STRONG_SETS,
)
def _cosd_becomes_identical_eventually(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    return _left_at_logits(evidence, scope, COSD, classifier, denoiser)


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
    return _geometric_mean(ratios)


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
    Region(-3.2, 3.2, closed=True),
    ("densenet201_conv",),
    scale="difference",
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
    "A convolution in place of the FC changes COS-D little: its mean at the logits over that of the original "
    "DenseNet-201. Raw adversaries.",
    Region(1 / 1.5, 1.5, closed=True),
    ("densenet201_conv",),
)
def _fc_to_convolution_keeps_cosd(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _logits_over_densenet201(evidence, scope, COSD, classifier)


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
    Region(-3.2, 3.2, closed=True),
    ("densenet201_prelu",),
    scale="difference",
)
def _prelu_keeps_the_accuracy(evidence: Evidence, scope: Scope, classifier: str) -> Array:
    return _accuracy_change(evidence, scope, classifier)


@claim(
    "PReLU does not make the denoisers as good as for ResNet V2-50: gain of accuracy on the strong sets minus that of "
    "ResNet V2-50, percentage points.",
    Region(high=0),
    ("densenet201_prelu",),
    "every denoiser",
    scale="difference",
    adversarial_sets=STRONG_SETS,
)
def _prelu_gains_less_than_resnetv2_50(evidence: Evidence, scope: Scope, classifier: str, denoiser: str) -> Array:
    return _gain(evidence, scope, classifier, denoiser) - _gain(evidence, scope, "resnetv2_50", denoiser)
