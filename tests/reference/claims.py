"""What the paper observes, a second time: each claim's effect by literal loops over images, its interval and verdict.

Slow and independent: it imports nothing of the package. A function is named as the claim whose sentence is its
docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, fsum, inf, log, nan

from tests.reference.intervals import Estimated, average, draws

RAW = "none"
NED, COSD = "NE-D", "COS-D"
LARGE, SMALL = ["fgsm_v2", "ifgsm_v2"], ["fgsm_v1", "ifgsm_v1", "mifgsm"]
STRONG = ["fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm"]
ALL = ["fgsm_v1", "fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm"]
CONDITIONS = [RAW, "fusionnet", "unet"]


@dataclass
class Training:
    """What one training of a study measured, image by image, and the images that count, some of them several times.

    distances: by metric, classifier, set, condition and position. right, right_clean: by classifier, set and condition,
    1 where the classifier is. errors: of pixels squared, by set and condition. spatial: positions of the maps that have
    places, by classifier. last: of the logits.
    """

    distances: Mapping[tuple[str, str, str, str, int], Sequence[float]]
    right: Mapping[tuple[str, str, str], Sequence[int]]
    right_clean: Mapping[tuple[str, str, str], Sequence[int]]
    errors: Mapping[tuple[str, str], Sequence[float]]
    spatial: Mapping[str, Sequence[int]]
    last: Mapping[str, int]
    drawn: Sequence[int]

    def mean(self, values: Sequence[float]) -> float:
        return fsum(values[image] for image in self.drawn) / len(self.drawn)

    def distance(self, metric: str, classifier: str, position: int, sets: Sequence[str], condition: str = RAW) -> float:
        """Mean over the images, then over the sets."""
        return average(self.mean(self.distances[metric, classifier, name, condition, position]) for name in sets)

    def at_logits(self, metric: str, classifier: str, sets: Sequence[str], condition: str = RAW) -> float:
        return self.distance(metric, classifier, self.last[classifier], sets, condition)

    def before(self, metric: str, classifier: str, sets: Sequence[str], condition: str = RAW) -> float:
        return self.distance(metric, classifier, self.last[classifier] - 1, sets, condition)

    def accuracy(self, classifier: str, sets: Sequence[str], condition: str) -> float:
        """Percent."""
        return average(100 * self.mean(self.right[classifier, name, condition]) for name in sets)

    def clean_accuracy(self, classifier: str, sets: Sequence[str]) -> float:
        return average(100 * self.mean(self.right_clean[classifier, name, RAW]) for name in sets)

    def left(self, metric: str, classifier: str, denoiser: str, sets: Sequence[str]) -> float:
        """What a denoiser leaves of a distance at the logits."""
        return self.at_logits(metric, classifier, sets, denoiser) / self.at_logits(metric, classifier, sets)

    def gain(self, classifier: str, denoiser: str) -> float:
        return self.accuracy(classifier, STRONG, denoiser) - self.accuracy(classifier, STRONG, RAW)


def geometric_mean(ratios: Iterable[float]) -> float:
    return exp(average(log(ratio) for ratio in ratios))


def ned_explodes_at_the_last_layer(one: Training, classifier: str) -> float:
    """In all classifier with/without denoiser, NE-D explosively increases in the fully connected (FC) layer."""
    return geometric_mean(
        one.at_logits(NED, classifier, ALL, condition) / one.before(NED, classifier, ALL, condition)
        for condition in CONDITIONS
    )


def _jump(one: Training, metric: str, classifier: str) -> float:
    return one.at_logits(metric, classifier, ALL) / one.before(metric, classifier, ALL)


def ned_jumps_most_in_vgg19_as_a_ratio(one: Training, vgg19: str, rival: str) -> float:
    """Especially, VGG-19 shows an incredibly large jump in the gap after the last FC layer."""
    return _jump(one, NED, vgg19) / _jump(one, NED, rival)


def ned_jumps_most_in_vgg19_as_a_step(one: Training, vgg19: str, rival: str) -> float:
    """Especially, VGG-19 shows an incredibly large jump in the gap after the last FC layer."""
    own, other = (one.at_logits(NED, name, ALL) - one.before(NED, name, ALL) for name in (vgg19, rival))
    return own - other


def larger_perturbation_larger_ned(one: Training, classifier: str) -> float:
    """Adversarial set which has relatively larger perturbation shows a bigger gap than others."""
    return one.at_logits(NED, classifier, LARGE) / one.at_logits(NED, classifier, SMALL)


def _growth(one: Training, metric: str, classifier: str) -> float:
    first, last = one.spatial[classifier][0], one.spatial[classifier][-1]
    return geometric_mean(
        one.distance(metric, classifier, last, ALL, condition) / one.distance(metric, classifier, first, ALL, condition)
        for condition in CONDITIONS
    )


def ned_stays_small_in_the_convolutions(one: Training, classifier: str) -> float:
    """It tends to keep in small in the convolutional layers."""
    return _growth(one, NED, classifier)


def cosd_is_amplified_by_convolutions(one: Training, classifier: str) -> float:
    """In convolutional layers, adversarial perturbation is not amplified with averaged NE-D, but with COS-D."""
    return _growth(one, COSD, classifier)


def _smallest_step(one: Training, classifier: str) -> float:
    distances = [one.distance(COSD, classifier, position, ALL) for position in one.spatial[classifier]]
    return min(after / before for before, after in pairwise(distances))


def cosd_increases_gradually(one: Training, classifier: str) -> float:
    """The directional gap is gradually increased (ResNet V2-50, VGG-19, and SENet-154)."""
    return _smallest_step(one, classifier)


def cosd_goes_up_and_down(one: Training, classifier: str) -> float:
    """Or shows up-down-up (Inception-ResNet V2 and DenseNet-201)."""
    return _smallest_step(one, classifier)


def cosd_decreases_at_the_last_layer(one: Training, classifier: str) -> float:
    """However, in FC layers, it shows the opposite pattern."""
    return _jump(one, COSD, classifier)


def cosd_disappears_at_the_last_layer(one: Training, classifier: str) -> float:
    """Cosine distance fluctuated and disappeared at the last layer."""
    return _jump(one, COSD, classifier)


def cosd_stays_at_the_last_layer(one: Training, classifier: str) -> float:
    """In ResNet V2-50, COS-D is not decreased when passing through the FC layer."""
    return _jump(one, COSD, classifier)


def cosd_explodes_in_resnetv2_50(one: Training, classifier: str) -> float:
    """In the case of ResNet V2-50, COS-D explosively increased in final FC layer."""
    return _jump(one, COSD, classifier)


def ned_disappears_in_resnetv2_50(one: Training, classifier: str) -> float:
    """While NE-D disappeared at the last layer."""
    return _jump(one, NED, classifier)


def ned_is_lowest_in_resnetv2_50(one: Training, resnet: str, rival: str) -> float:
    """While it shows relatively lower NE-D than others."""
    return one.at_logits(NED, resnet, ALL) / one.at_logits(NED, rival, ALL)


def cosd_is_largest_in_resnetv2_50(one: Training, resnet: str, rival: str) -> float:
    """However, it poorly controls the direction of noise in the aspect of COS-D."""
    return one.at_logits(COSD, resnet, ALL) / one.at_logits(COSD, rival, ALL)


def denoisers_cut_the_mse(one: Training, denoiser: str, adversarial_set: str) -> float:
    """In spite of reduced noise by the denoiser."""
    return one.mean(one.errors[adversarial_set, denoiser]) / one.mean(one.errors[adversarial_set, RAW])


denoisers_raise_the_mse_of_fgsm_v1 = denoisers_cut_the_mse


def denoisers_bring_back_little_accuracy(one: Training, classifier: str, denoiser: str) -> float:
    """The improvement of classification accuracy is marginal."""
    lost = one.clean_accuracy(classifier, STRONG) - one.accuracy(classifier, STRONG, RAW)
    return one.gain(classifier, denoiser) / lost if lost > 0 else nan


def small_sets_leave_a_reasonable_accuracy(one: Training, classifier: str) -> float:
    """All classifiers show somewhat reasonable performance to the adversarial sets with small perturbation."""
    return one.accuracy(classifier, SMALL, RAW)


def larger_sets_leave_a_lower_accuracy(one: Training, classifier: str, denoiser: str) -> float:
    """They show relatively lower performance to the bigger adversarial sets though inputs pass through denoising."""
    return one.accuracy(classifier, LARGE, denoiser) - one.accuracy(classifier, SMALL, denoiser)


def mifgsm_has_more_error(one: Training, larger: str, smaller: str) -> float:
    """There is no exact dependency between the amount of noise and validation accuracy."""
    return one.mean(one.errors[larger, RAW]) / one.mean(one.errors[smaller, RAW])


def mifgsm_leaves_more_accuracy(one: Training, classifier: str) -> float:
    """There is no exact dependency between the amount of noise and validation accuracy."""
    return one.accuracy(classifier, ["mifgsm"], RAW) - one.accuracy(classifier, ["ifgsm_v1"], RAW)


def resnetv2_50_gains_most(one: Training, resnet: str, rival: str, denoiser: str) -> float:
    """Accuracy is most improved when a denoiser is combined with ResNet V2-50."""
    return one.gain(resnet, denoiser) - one.gain(rival, denoiser)


def denoisers_lower_ned_a_little(one: Training, classifier: str, denoiser: str) -> float:
    """NE-D is a little, but not enough, decreased compared to the case without the denoisers."""
    return one.left(NED, classifier, denoiser, STRONG)


def denoisers_lower_ned_of_resnetv2_50_by_20_to_30(one: Training, classifier: str, denoiser: str) -> float:
    """In ResNet-V2 50, noise is reduced 20 ~ 30 % in the case of FGSM v2 and i-FGSM v2."""
    return one.left(NED, classifier, denoiser, LARGE)


def denoisers_lower_ned_most_in_resnetv2_50(one: Training, resnet: str, rival: str, denoiser: str) -> float:
    """The amount of change of ResNet V2-50 is larger than other classifiers."""
    return one.left(NED, resnet, denoiser, STRONG) / one.left(NED, rival, denoiser, STRONG)


def denoised_is_amplified_to_a_similar_level(one: Training, classifier: str, denoiser: str) -> float:
    """Although perturbation is reduced, propagation is amplified to a similar level."""
    return one.left(NED, classifier, denoiser, STRONG)


def cosd_becomes_identical_eventually(one: Training, classifier: str, denoiser: str) -> float:
    """But it becomes identical eventually."""
    return one.left(COSD, classifier, denoiser, STRONG)


def denoisers_lower_cosd_in_the_middle(one: Training, classifier: str, denoiser: str) -> float:
    """Denoiser also reduce COS-D in middle layers for all classifiers."""
    return geometric_mean(
        one.distance(COSD, classifier, position, STRONG, denoiser) / one.distance(COSD, classifier, position, STRONG)
        for position in range(2, one.last[classifier])
    )


def denoisers_halve_cosd_of_resnetv2_50(one: Training, classifier: str, denoiser: str) -> float:
    """Reduced COS-D (approx. 50% or more)."""
    return one.left(COSD, classifier, denoiser, STRONG)


def fc_to_convolution_keeps_the_accuracy(one: Training, modified: str) -> float:
    """There is no big difference when comparing to the previous result."""
    return average(
        one.accuracy(modified, ALL, condition) - one.accuracy("densenet201", ALL, condition) for condition in CONDITIONS
    )


def fc_to_convolution_keeps_ned(one: Training, modified: str) -> float:
    """There is no big difference when comparing to the previous result."""
    return one.at_logits(NED, modified, ALL) / one.at_logits(NED, "densenet201", ALL)


def fc_to_convolution_keeps_cosd(one: Training, modified: str) -> float:
    """There is no big difference when comparing to the previous result."""
    return one.at_logits(COSD, modified, ALL) / one.at_logits(COSD, "densenet201", ALL)


prelu_lowers_ned = fc_to_convolution_keeps_ned
prelu_raises_cosd = fc_to_convolution_keeps_cosd
prelu_keeps_the_accuracy = fc_to_convolution_keeps_the_accuracy


def prelu_gains_less_than_resnetv2_50(one: Training, modified: str, denoiser: str) -> float:
    """The performance of denoiser for the model is less than that of ResNet V2-50."""
    return one.gain(modified, denoiser) - one.gain("resnetv2_50", denoiser)


DIFFERENCES = {
    "ned_jumps_most_in_vgg19_as_a_step",
    "denoisers_bring_back_little_accuracy",
    "small_sets_leave_a_reasonable_accuracy",
    "larger_sets_leave_a_lower_accuracy",
    "mifgsm_leaves_more_accuracy",
    "resnetv2_50_gains_most",
    "fc_to_convolution_keeps_the_accuracy",
    "prelu_keeps_the_accuracy",
    "prelu_gains_less_than_resnetv2_50",
}
"""Effects that are averaged over the trainings as they are; the others, ratios, as logarithms."""


def put(
    trainings: Sequence[Training],
    name: str,
    subject: Sequence[str],
    low: float,
    high: float,
    closed: bool,
    n_resamples: int,
) -> dict[str, float | str]:
    """A claim put to a study: its effect, interval, p-value and verdict; it says that the effect is in low..high."""
    effect: Callable[..., float] = globals()[name]

    def scaled(value: float) -> float:
        return value if name in DIFFERENCES else log(value) if value > 0 else nan

    n_images = len(trainings[0].drawn)

    def effects(drawn: Sequence[int]) -> list[float]:
        return [scaled(effect(replace(one, drawn=drawn), *subject)) for one in trainings]

    resampled = [effects(drawn) for drawn in draws(n_images, n_resamples)]
    found = Estimated(effects(range(n_images)), resampled, n_images)
    bounds = [
        bound if name in DIFFERENCES else log(bound) if 0 < bound < inf else bound - inf if bound <= 0 else inf
        for bound in (low, high)
    ]
    back = (lambda value: value) if name in DIFFERENCES else exp
    middle, half = found.value, found.half_width()
    row: dict[str, float | str] = {
        "effect": back(middle),
        "ci_low": back(middle - half),
        "ci_high": back(middle + half),
    }
    if not found.decides:
        return row | {"verdict": "undecided", "p_value": nan}
    inside = [
        middle - half >= bounds[0] if closed else middle - half > bounds[0],
        middle + half <= bounds[1] if closed else middle + half < bounds[1],
    ]
    outside = [
        middle + half < bounds[0] if closed else middle + half <= bounds[0],
        middle - half > bounds[1] if closed else middle - half >= bounds[1],
    ]
    finite = [bound for bound in bounds if abs(bound) < inf]
    if bounds[0] <= middle <= bounds[1]:
        p = max(map(found.p_value, finite))
    else:
        p = found.p_value(bounds[0] if middle < bounds[0] else bounds[1])
    return row | {"verdict": "holds" if all(inside) else "fails" if any(outside) else "undecided", "p_value": p}
