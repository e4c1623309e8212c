"""What must hold for the taps of a network of timm, and the networks that it is tried on."""

import timm
import torch

from perturbflow.classifiers.building import build_classifier
from tests.unit.classifiers.example_networks import observe, random_pixels

N_CLASSES, N_IMAGES = 7, 2

SMALLEST = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
"""The network with the fewest parameters among the classifiers of each family: of each module of timm."""

MANY_PARAMETERS = 1e8
"""What takes too long to make and to run: such a network is looked at without memory for its weights."""

SMALL = (64, 128)
"""Input sizes to try before a network's own."""


def check_taps(name):
    """The taps are found at the network's own size, are observed in their order, and can be replaced."""
    input_size = timm.get_pretrained_cfg(name).input_size[-1]
    with torch.device("meta"):
        classifier = build_classifier(name, N_CLASSES, input_size).eval()
        check_maps(classifier, *observe(classifier, torch.empty(N_IMAGES, 3, input_size, input_size)))
    if sum(parameter.numel() for parameter in classifier.parameters()) < MANY_PARAMETERS:
        check_real_passes(name, input_size)


def check_real_passes(name, input_size):
    """The last map is the logits; a copy of a map in place of it changes nothing, another map does."""
    classifier = small_classifier(name, input_size)
    pixels = random_pixels(N_IMAGES, classifier.input_size)
    positions, maps, logits = observe(classifier, pixels)
    check_maps(classifier, positions, maps, logits)
    assert torch.equal(maps[-1].flatten(1), logits)
    assert logits.isfinite().all()
    for position in {0, len(positions) // 2, len(positions) - 2, len(positions) - 1}:
        with torch.no_grad(), classifier.replaced(position, torch.clone):
            torch.testing.assert_close(classifier(pixels), logits)
    # Little of it reaches the logits of a deep network that is not trained.
    with torch.no_grad(), classifier.replaced(0, lambda first: first + 1000 * torch.randn_like(first)):
        assert not torch.equal(classifier(pixels), logits)


def small_classifier(name, input_size):
    """At the smallest size at which the network runs, without layers that start at zero: they would hide all before."""
    for size in (*SMALL, input_size):
        torch.manual_seed(0)
        try:
            classifier = build_classifier(name, N_CLASSES, size).eval()
            break
        except ValueError:  # not every network runs at another size than its own
            if size == input_size:
                raise
    with torch.no_grad():
        for parameter in classifier.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return classifier


def check_maps(classifier, positions, maps, logits):
    assert len(maps) > 2
    assert positions == [*range(len(classifier.taps))]
    assert all(one.is_floating_point() and one.ndim > 1 and len(one) == N_IMAGES for one in maps)
    assert maps[-1].numel() == logits.numel() == N_IMAGES * N_CLASSES
    *kinds, last = [tap.kind for tap in classifier.taps]
    assert last == "logits"
    assert "logits" not in kinds
    assert kinds[:2] == ["spatial", "spatial"]
    assert kinds == sorted(kinds, key=["spatial", "pooled", "fully connected"].index)
