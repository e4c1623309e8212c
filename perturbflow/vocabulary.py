"""Every name of a study, and what tables, figures and the schema of the config call it. It imports nothing.

Names are those of the registries (`ARCHITECTURES`, `ATTACKS`, `CONTROLS`, `DENOISERS`, `SOURCES`, the metrics), of
the paper and of the field; a study adds its own. What trains, attacks or measures never imports this module: an edit of
a label makes tables and figures stale, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RAW = "none"
"""What configs and artifacts call the adversary without a denoiser."""

# ---- Classifiers, attacks, denoisers

CLASSIFIERS = {
    "resnet18": "ResNet-18",
    "resnetv2_50": "ResNet V2-50",
    "vgg19": "VGG-19",
    "senet154": "SENet-154",
    "inception_resnet_v2": "Inception-ResNet V2",
    "densenet201": "DenseNet-201",
    "densenet201_conv": "DenseNet-201 (FC→Conv)",
    "densenet201_prelu": "DenseNet-201 (PReLU after FC)",
}
"""The architectures of classifiers, with their labels."""


@dataclass(frozen=True)
class Attack:
    """An attack of the package.

    does: the words after its name in the description of `attack` in the config. own_keys: the keys of its sets in the
    config that no other attack has.
    """

    label: str
    does: str
    own_keys: tuple[str, ...] = ()


ATTACKS = {
    "fgsm": Attack("FGSM", "walks along the sign of one gradient"),
    "ifgsm": Attack("i-FGSM", "takes a new gradient at every step"),
    "mifgsm": Attack("mi-FGSM", "accumulates normalised gradients", own_keys=("decay",)),
}

CONTROLS = {"sign_noise": "Sign noise", "gaussian_noise": "Gaussian noise"}
"""Random noise in place of an attack, with its label."""

SETS = {
    "fgsm_v1": "FGSM v1",
    "fgsm_v2": "FGSM v2",
    "ifgsm_v1": "i-FGSM v1",
    "ifgsm_v2": "i-FGSM v2",
    "mifgsm": "mi-FGSM",
}
"""The adversarial sets of the paper, with their labels."""

DENOISERS = {"fusionnet": "FusionNet", "fusionnet_original": "FusionNet (original)", "unet": "U-Net"}
"""The architectures of denoisers, with their labels; the paper's denoisers have the names of two of them."""

GUIDED_DENOISERS = {"lgd": "LGD", "fgd": "FGD"}
"""What Liao et al. call denoisers guided by the logits and by the features of a classifier."""

SHORT_FORMS = {RAW: "DN", "fusionnet": "FN", "unet": "UN"}
"""The paper's, for what stands in front of the classifier (DN: denoiser)."""


class Labels:
    """What the tables and figures of a study call its classifiers, adversarial sets, denoisers and attacks.

    own: the labels that the study's config gives, by section of the config and name. What has none is called as in
    this module, and by its name where that is not known here.
    """

    def __init__(self, own: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._own = own or {}

    def classifier(self, name: str) -> str:
        return self._label("classifiers", name, CLASSIFIERS)

    def adversarial_set(self, name: str) -> str:
        return self._label("adversarial_sets", name, {**_ATTACKS_AND_CONTROLS, **SETS})

    def denoiser(self, name: str) -> str:
        return self._label("denoisers", name, {**DENOISERS, **GUIDED_DENOISERS})

    def attack(self, name: str) -> str:
        return _ATTACKS_AND_CONTROLS.get(name, name)

    def condition(self, denoiser: str) -> str:
        """`w/o DN` for RAW; `w/` and the paper's short form for its denoisers, `w/` and the label for others."""
        return f"{'w/o' if denoiser == RAW else 'w/'} {self.short_form(denoiser) or self.denoiser(denoiser)}"

    def short_form(self, denoiser: str) -> str | None:
        """The paper's short form; None for a denoiser without one and for one with a label of the study's own."""
        return None if denoiser in self._own.get("denoisers", {}) else SHORT_FORMS.get(denoiser)

    def _label(self, section: str, name: str, known: Mapping[str, str]) -> str:
        return self._own.get(section, {}).get(name) or known.get(name, name)


_ATTACKS_AND_CONTROLS = {name: attack.label for name, attack in ATTACKS.items()} | CONTROLS


# ---- Metrics

NED, COSD = "normalized_euclidean", "cosine"
"""The paper's metrics."""

DECISION_PLANE_METRICS = ("along_share", "norm_change", "angle")
"""Those that measure Figure 4 of the paper, layer by layer."""

LOGITS_METRICS = tuple(f"logits_{metric}" for metric in DECISION_PLANE_METRICS)
"""The columns of predictions/<classifier>/<set>.csv.gz with the same of the logits, their mean taken off."""

METRIC_KINDS = {
    "paper": "are the paper's",
    "fair": "are fair between layers",
    "part": "split the change into its part along the clean map and the part across it",
}
"""What the description of `measure.metrics` in the config says of the metrics of each kind."""


@dataclass(frozen=True)
class Metric:
    """A metric of the feature maps, as the figures show it.

    title: of a panel. axis: of the axis of its values. long: in the legend's heading. kind: one of METRIC_KINDS.
    short_axis: the words at the axis of a low panel, two lines of them; those of `axis` where it has none. reference:
    where a line is drawn for comparison. span: what the axis shows at least. log: may get a log scale; False where
    values may be negative or are shares of a whole. decimals: of the printed values; None gives two significant digits.
    whole_set: it has one value for a whole set of images, not one for each.
    """

    title: str
    axis: str
    long: str
    kind: str = ""
    short_axis: str = ""
    reference: float | None = None
    span: tuple[float, float] | None = None
    log: bool = True
    decimals: int | None = None
    whole_set: bool = False


METRICS = {
    NED: Metric("NE-D", "mean NE-D", "normalized Euclidean distance (NE-D)", "paper"),
    COSD: Metric("COS-D", "mean COS-D", "cosine distance (COS-D)", "paper"),
    "relative_error": Metric("relative error", "mean relative error", "relative error", "fair"),
    "gain": Metric("gain", "mean gain", "gain over the layer before", "fair", reference=1),
    "linear_cka": Metric(
        "linear CKA", "linear CKA", "linear CKA", "fair", span=(0, 1), log=False, decimals=3, whole_set=True
    ),
    "along": Metric(
        "part along clean", "mean part along clean map", "part along the clean map", "part", reference=0, log=False
    ),
    "across": Metric("part across clean", "mean part across clean map", "part across the clean map", "part"),
    "along_share": Metric(
        "share along clean",
        "mean share along clean map",
        "share along the clean map",
        "part",
        short_axis="mean share along\nthe clean map",
        span=(0, 1),
        log=False,
    ),
    "norm_change": Metric(
        "change of norm",
        "mean relative change of norm",
        "relative change of the norm",
        "part",
        short_axis="mean relative\nchange of the norm",
        reference=0,
        log=False,
    ),
    "angle": Metric(
        "angle",
        "mean angle (degrees)",
        "angle to the clean map (degrees)",
        "part",
        short_axis="mean angle to the\nclean map (degrees)",
    ),
}


def metric_named(name: str) -> Metric:
    """What the figures call a metric; one that is not known here is shown by its name."""
    return METRICS.get(name, Metric(name, f"mean {name}", name))


# ---- Sources of the images


SOURCES = {
    "tiny-imagenet": "is the data set of the paper, a folder or its zip file (248 MB)",
    "imagenet": "is ImageNet as it is downloaded, in its archives or Kaggle's folders, or unpacked",
    "image-folder": "is any pictures in `train/<class>/` and `val/<class>/`",
    "parquet": "is images as bytes in parquet files, as Hugging Face's hub has them",
    "photographs": "is the twenty photographs of ImageNet's classes that Foolbox ships, a val split alone",
    "digits": "is scikit-learn's 1,797 handwritten digits, without a download",
}
"""Where images come from, with the words after its name in the description of `data.source` in the config."""

# ---- What the paper has

PAPER_CLASSIFIERS = ("resnetv2_50", "vgg19", "senet154", "inception_resnet_v2", "densenet201")
MODIFIED_CLASSIFIERS = ("densenet201_conv", "densenet201_prelu")
PAPER_SETS = tuple(SETS)
PAPER_DENOISERS = ("fusionnet", "unet")

PAPER_TABLE1 = {"architecture": "inception_resnet_v2", "denoiser": "fusionnet"}
"""Whose numbers the paper's Table 1 holds (its caption says so; the table itself has no such column): a classifier of
this architecture, another training of it than the one that Tables 3 and 5 are about, and a denoiser."""

PAPER_PLANES = {
    "resnetv2_50": "radial",
    "vgg19": "tangential",
    "senet154": "tangential",
    "inception_resnet_v2": "tangential",
    "densenet201": "tangential",
}
"""The decision plane that the paper suspects in each classifier (Section 4)."""

PAPER_FIGURES = {"figure2": {"metrics": [NED]}, "figure3": {"metrics": [COSD]}}
"""What a study draws whose config names no figures."""

# ---- Colours of the adversarial sets

SET_COLORS = {
    "fgsm_v1": "#56B4E9",
    "fgsm_v2": "#0072B2",
    "ifgsm_v1": "#E69F00",
    "ifgsm_v2": "#D55E00",
    "mifgsm": "#009E73",
}
"""Those of the paper's sets, a family an attack: FGSM blue, i-FGSM orange, mi-FGSM green."""

OTHER_COLORS = ("#CC79A7", "#000000", "#999999", "#661100", "#4B0082", "#80BA5A", "#AA3377", "#225555")
"""Those that a study's other sets take.

With the paper's they are Okabe and Ito's colours, distinct for colour-blind readers, with grey for their yellow, too
pale a line on white, and five more, no two of which look more alike to any reader than their pink and this grey.
"""

PALETTE = (*SET_COLORS.values(), *OTHER_COLORS)


def set_colors(adversarial_sets: Sequence[str]) -> dict[str, str]:
    """The colour of each set of a study, the same in all its figures.

    adversarial_sets: all sets of the study, in the config's order. The paper's sets have their own colours; the others
    take OTHER_COLORS in turn, from the first again after the last. A set that is added at the end changes none.
    """
    others = [name for name in adversarial_sets if name not in SET_COLORS]
    turns = {name: OTHER_COLORS[number % len(OTHER_COLORS)] for number, name in enumerate(others)}
    return {name: SET_COLORS.get(name) or turns[name] for name in adversarial_sets}
