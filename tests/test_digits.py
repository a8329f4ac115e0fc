"""The embedded world: the same call gives the same pixels, parts share no scan, domains are what they say."""

import numpy as np
import pytest
import torch
from torch import nn

from rib.data import digits
from rib.data.digits import adversary, domains, rendering
from rib.data.digits.corruptions import corrupt
from rib.data.digits.domains import SEVERITIES
from rib.data.digits.draws import DigitDraws
from rib.data.digits.scans import SCANS, scan_labels, scans_in
from rib.models.small import small_resnet, small_vit

TUNED = [name for name in digits.DOMAINS if name != "corrupted"]


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_rendering_twice_gives_the_same_bytes(domain: str) -> None:
    first, second = digits.render(domain, "test"), digits.render(domain, "test")
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.source, second.source)


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_a_count_is_a_prefix_and_does_not_touch_the_global_generator(domain: str) -> None:
    state = torch.get_rng_state()
    short, long = digits.render(domain, "tune", 50), digits.render(domain, "tune", 700)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(short.images, long.images[:50])
    assert np.array_equal(short.source, long.source[:50])
    assert np.array_equal(short.labels, long.labels[:50])


# The mean grey level of every test set in world version 1. Rounding differs between processors by less than the
# tolerance; a change of a recipe does not. When it fails on purpose, raise WORLD_VERSION and train the zoo again.
MEANS = {
    "ref": 114.95,
    "v2": 125.78,
    "adversarial": 123.66,
    "renditions": 119.36,
    "sketch": 222.63,
    "viewpoint": 126.01,
    "cartoon": 96.09,
    "drawing": 176.79,
    "corrupted": 127.13,
}


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_the_world_is_that_of_its_version(domain: str) -> None:
    assert digits.WORLD_VERSION == 1
    assert digits.render(domain, "test").images.mean() == pytest.approx(MEANS[domain], abs=0.05)


def test_a_smaller_pretraining_set_starts_the_larger_one() -> None:
    small = digits.render("pretrain_small", "pretrain")
    assert len(small.images) == 3000
    large, _ = rendering.reference_images("ref", 5000)
    assert np.array_equal(small.images, large[:3000].numpy())


def test_a_small_varied_set_is_part_of_the_large_one() -> None:
    varied, small = digits.render("pretrain_varied", "pretrain"), digits.render("pretrain_small", "pretrain")
    assert np.array_equal(varied.images[:300], small.images[:300])
    name, look, _ = domains.PRETRAINING_TABLE["pretrain_large"][1]
    web, _ = rendering._stream(name, look, 3000)
    assert np.array_equal(varied.images[300:], web[:2700].numpy())


@pytest.mark.parametrize("domain", digits.DOMAINS)
@pytest.mark.parametrize("part", ["tune", "test"])
def test_shapes_types_labels_and_classes(domain: str, part: digits.DigitPart) -> None:
    out = digits.render(domain, part)
    count = len(out.labels)
    assert out.images.shape == (count, 28, 28, 3)
    assert out.images.dtype == np.uint8
    assert out.labels.dtype == out.source.dtype == np.int64
    assert np.array_equal(out.labels, scan_labels().numpy()[out.source])
    assert set(out.labels) == set(digits.DOMAIN_CLASSES[domain])
    assert np.isin(out.source, scans_in(part).numpy()).all()


def test_the_parts_share_no_scan_and_cover_all() -> None:
    parts = [set(scans_in(part).tolist()) for part in ("pretrain", "tune", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == SCANS
    assert [round(100 * len(part) / SCANS) for part in parts] == [55, 20, 25]


@pytest.mark.parametrize("domain", TUNED)
def test_every_prefix_of_a_tuning_pool_is_balanced(domain: str) -> None:
    labels = digits.render(domain, "tune", 1000).labels
    classes = list(digits.DOMAIN_CLASSES[domain])
    for count in (50, 200, 333, 1000):
        counts = np.bincount(labels[:count], minlength=10)[classes]
        assert counts.max() - counts.min() <= 1


def test_a_tuning_prefix_repeats_no_scan_while_there_are_fresh_ones() -> None:
    assert len(set(digits.render("sketch", "tune", 200).source.tolist())) == 200


@pytest.mark.parametrize("domain", ["cartoon", "drawing"])
@pytest.mark.parametrize("part", ["tune", "test"])
def test_renderings_of_the_reference_show_the_same_scene(domain: str, part: digits.DigitPart) -> None:
    mine, reference = digits.render(domain, part, 200), digits.render("ref", part, 200)
    assert digits.FAMILY[domain] == "ref"
    assert np.array_equal(mine.source, reference.source)
    correlation = np.corrcoef(*(out.images.mean(-1).reshape(200, -1) for out in (mine, reference)))[:200, 200:]
    assert np.median(np.diag(correlation)) > 0.3
    assert (correlation.argmax(1) == np.arange(200)).mean() > 0.7


def test_other_families_show_other_poses() -> None:
    assert len({digits.FAMILY[name] for name in digits.DOMAINS}) == 6
    assert not np.array_equal(digits.render("v2", "tune", 50).source, digits.render("ref", "tune", 50).source)


def test_class_subsets_differ() -> None:
    subsets = [digits.DOMAIN_CLASSES[name] for name in ("adversarial", "renditions", "viewpoint")]
    assert all(6 <= len(subset) <= 8 for subset in subsets)
    assert len(set(subsets)) == 3


def test_corrupted_has_75_cells_of_reference_images() -> None:
    out = digits.render("corrupted", "test")
    assert out.cell is not None
    assert out.cell.dtype == np.int16
    assert len(out.cells) == 75
    assert out.cells[:2] == ("gaussian_noise/1", "gaussian_noise/2")
    assert (np.bincount(out.cell) == 24).all()
    draws = [tuple(out.source[out.cell == cell]) for cell in range(75)]
    assert len(set(draws)) == 75
    assert all(len(set(draw)) == 24 for draw in draws)
    for cell in range(75):
        counts = np.bincount(out.labels[out.cell == cell], minlength=10)
        assert counts.min() >= 2
        assert counts.max() <= 3


def test_corrupted_can_be_tuned_on_too() -> None:
    out = digits.render("corrupted", "tune", 750)
    assert out.cell is not None
    assert set(out.cell.tolist()) == set(range(75))


@pytest.mark.parametrize("name", digits.CORRUPTIONS)
def test_a_higher_severity_is_farther_from_the_clean_image(name: str) -> None:
    images, _ = rendering.reference_images("ref", 64)
    clean = images.permute(0, 3, 1, 2) / 255.0
    distances = [
        (corrupt(clean, name, severity, DigitDraws(64, "test", name)) - clean).pow(2).mean().item()
        for severity in SEVERITIES
    ]
    assert distances[0] > 0.0
    assert distances == sorted(distances)


def test_the_adversarial_domain_fools_its_net_and_the_reference_does_not() -> None:
    net = adversary.shipped_adversary()
    for domain, low, high in (("ref", 0.9, 1.0), ("adversarial", 0.0, 0.0)):
        out = digits.render(domain, "test")
        classes = digits.DOMAIN_CLASSES[domain]
        wrong = adversary.fools_adversary(torch.from_numpy(out.images), torch.from_numpy(out.labels), classes)
        assert low <= 1.0 - wrong.float().mean().item() <= high
    assert sum(weights.numel() for weights in net.parameters()) < 20_000


def test_the_shipped_adversary_comes_from_its_recipe() -> None:
    """The shipped weights are the recipe's; sums in another order move them by rounding, not by more."""
    images, source = adversary_images()
    remade = adversary.train_adversary(images, scan_labels()[source])
    reference = digits.render("ref", "test")
    inputs = adversary.centred(torch.from_numpy(reference.images))
    with torch.inference_mode():
        agreement = remade(inputs).argmax(1) == adversary.shipped_adversary()(inputs).argmax(1)
    assert agreement.float().mean() > 0.95


def adversary_images() -> tuple[torch.Tensor, torch.Tensor]:
    return rendering.reference_images("adversary", 4000)


@pytest.mark.parametrize("image_size", [28, 64])
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_small_nets_end_in_a_linear_head(family: str, image_size: int) -> None:
    model = small_resnet(7) if family == "resnet" else small_vit(7, image_size=image_size)
    assert isinstance(model.get_submodule("head"), nn.Linear)
    assert sum(weights.numel() for weights in model.parameters()) < 100_000
    logits = model(torch.zeros(2, 3, image_size, image_size))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize(
    ("domain", "part", "count", "message"),
    [
        ("imagenet", "test", None, "unknown domain"),
        ("ref", "pretrain", None, "has no part"),
        ("pretrain_small", "test", None, "has no part"),
        ("ref", "tune", 0, "at least 1"),
        ("ref", "tune", 5000, "has 2000 images"),
    ],
)
def test_what_cannot_be_rendered_is_named(domain: str, part: digits.DigitPart, count: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        digits.render(domain, part, count)
