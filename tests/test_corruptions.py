"""Corruptions: every one of them under one contract, the formulas against other libraries', and `rib data corrupt`."""

from __future__ import annotations

import colorsys
import io
import itertools
import json
import math
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats
from sklearn.datasets import load_sample_image

import trees
from helpers import Say
from rib.data.catalogue import DataRow, open_data
from rib.data.corruptions import batched, blur, digital, frost, linear, spatter, weather, writing
from rib.data.corruptions.base import Draws
from rib.data.corruptions.catalogue import ROWS, corrupt, image_seed
from rib.data.generated import FILE, Marker
from rib.data.published import CORRUPTIONS, EXTRA, SEVERITIES
from rib.errors import UserError

Pixels = NDArray[np.uint8]

RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"),
}


@cache
def photograph(height: int = 96, width: int = 128) -> Pixels:
    """A part of a photograph, shrunk."""
    whole = Image.fromarray(load_sample_image("china.jpg")).crop((0, 0, 640, 424))
    return np.asarray(whole.resize((width, height), Image.Resampling.BOX))


def draws(seed: int = 0) -> Draws:
    return Draws(seed, "test")


def level(name: str, severity: int) -> tuple[float, ...]:
    return ROWS[name].levels[severity - 1]


def distance(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def worst(one: Pixels, other: NDArray[Any]) -> int:
    """The largest difference, where the other was rounded down to grey levels."""
    return int(np.abs(one.astype(int) - np.floor(np.clip(other, 0, 255)).astype(int)).max())


def test_all_are_there_in_the_published_order() -> None:
    assert tuple(ROWS)[:15] == CORRUPTIONS
    assert set(ROWS) - set(CORRUPTIONS) == EXTRA
    assert {name for name, row in ROWS.items() if row.random} == RANDOM
    assert all(len(row.levels) == len(SEVERITIES) for row in ROWS.values())
    assert {name for name, row in ROWS.items() if row.family == "extra"} == EXTRA


@pytest.mark.parametrize("name", ROWS)
def test_every_corruption_keeps_its_contract(name: str) -> None:
    image = photograph(60, 84)
    images = np.stack([image, image[:, ::-1], image[::-1]])
    before = images.copy()
    for severity in (1, 5):
        found = corrupt(images, name, severity, [1, 2, 3])
        assert found.dtype == np.uint8
        assert found.shape == images.shape
        np.testing.assert_array_equal(images, before)
        alone = corrupt(images[[2, 0]], name, severity, [3, 1])
        np.testing.assert_array_equal(alone, found[[2, 0]])  # whatever else is in the batch
        assert distance(found[0], image) > 0.5
    again = corrupt(image[None], name, 5, [4])[0]
    assert (distance(again, found[0]) > 0) == (name in RANDOM)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (131, 32), (32, 200)], ids=str)
def test_any_resolution(name: str, shape: tuple[int, int]) -> None:
    image = photograph(*shape)
    for severity in (1, 3, 5):
        found = corrupt(image[None], name, severity, [0])
        assert found.shape == (1, *shape, 3)


UNEVEN = {"saturate", "spatter", "frost", "snow", "fog", "glass_blur"}
"""Of these, some severity is published that lies nearer to the image than the one before, at least for one image."""


@pytest.mark.parametrize("name", ROWS)
def test_severity_grows_the_distance(name: str) -> None:
    image = photograph(224, 224)
    seeds = range(4 if name in RANDOM and name != "glass_blur" else 1)
    images = np.stack([image] * len(seeds))
    found = [distance(corrupt(images, name, severity, list(seeds)), images) for severity in SEVERITIES]
    assert found[4] > found[0]
    if name not in UNEVEN:
        assert all(less < more for less, more in itertools.pairwise(found))


def test_two_corruptions_and_two_severities_draw_apart() -> None:
    grey = np.full((1, 40, 40, 3), 128, np.uint8)
    one, other = (corrupt(grey, "gaussian_noise", severity, [7])[0].astype(float) - 128 for severity in (1, 2))
    third = corrupt(grey, "speckle_noise", 2, [7])[0].astype(float) - 128
    for left, right in ((one, other), (other, third), (one, third)):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.08


# The laws of what is random


def chi_square(values: NDArray[Any], chances: NDArray[np.float64]) -> float:
    """p value of grey levels against their chances; rare levels are taken together."""
    counts = np.bincount(values.reshape(-1), minlength=256)
    expected = chances * values.size
    often = expected >= 10
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    kept = wanted > 0
    assert seen[~kept].sum() == 0
    if kept.sum() == 1:
        return 1.0
    return float(stats.chisquare(seen[kept], wanted[kept] * seen[kept].sum() / wanted[kept].sum()).pvalue)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
@pytest.mark.parametrize("grey", [13, 128, 250])
def test_normal_noise_has_its_law(name: str, severity: int, grey: int) -> None:
    found = corrupt(np.full((1, 128, 128, 3), grey, np.uint8), name, severity, [5])
    scale = 255 * level(name, severity)[0] * (grey / 255 if name == "speckle_noise" else 1)
    edges = stats.norm.cdf(np.arange(1, 256), grey, scale)  # rounded down: a level holds [k, k + 1)
    # 255 is only reached by what is cut to it.
    assert chi_square(found, np.diff(np.concatenate([[0], edges, [1]]))) > 1e-3


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("grey", [0, 40, 128, 255])
def test_shot_noise_has_its_law(severity: int, grey: int) -> None:
    found = corrupt(np.full((1, 128, 128, 3), grey, np.uint8), "shot_noise", severity, [5])
    photons = int(level("shot_noise", severity)[0])
    chances = np.zeros(256)
    for count in range(200):
        chances[math.floor(min(count / photons, 1) * 255)] += stats.poisson.pmf(count, grey / 255 * photons)
    assert chi_square(found, chances) > 1e-3


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_has_its_shares(severity: int) -> None:
    found = corrupt(np.full((1, 200, 200, 3), 100, np.uint8), "impulse_noise", severity, [5])
    share = level("impulse_noise", severity)[0]
    chances = np.zeros(256)
    chances[[0, 100, 255]] = share / 2, 1 - share, share / 2
    assert chi_square(found, chances) > 1e-3


def test_uniform_numbers_are_even_and_within_bounds() -> None:
    numbers = draws().uniform(-2, 3, (200, 300))
    assert numbers.dtype == np.float32
    assert numbers.min() > -2
    assert numbers.max() < 3
    assert stats.kstest((numbers.ravel() + 2) / 5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("reach", [1, 2, 3, 4])
def test_shifts_are_even(reach: int) -> None:
    counts = np.unique(draws().shifts(reach, 30_000), return_counts=True)
    np.testing.assert_array_equal(counts[0], np.arange(-reach, reach))
    assert stats.chisquare(counts[1]).pvalue > 1e-3


# Formulas against other ways to them


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys(severity: int) -> None:
    image = photograph()
    wanted = ndimage.gaussian_filter(image.astype(float), (*level("gaussian_blur", severity) * 2, 0), mode="nearest")
    assert worst(blur.gaussian_blur(image, level("gaussian_blur", severity), draws()), wanted + 1e-6) <= 1


def published_disk(radius: int, soft: float) -> NDArray[np.float64]:
    """A disk in a square, softened by a Gaussian of 3 × 3 or 5 × 5 pixels that is reflected at the square's border."""
    reach, side = (8, 1) if radius <= 8 else (radius, 2)
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (row**2 + column**2 <= radius**2).astype(float)
    disk /= disk.sum()
    weights = np.exp(-(np.arange(-side, side + 1) ** 2) / (2 * soft**2))
    weights /= weights.sum()
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, weights, axis, mode="mirror")
    return disk


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_is_a_correlation_with_a_softened_disk(severity: int) -> None:
    image = photograph()
    kernel = published_disk(int(level("defocus_blur", severity)[0]), level("defocus_blur", severity)[1])
    wanted = ndimage.correlate(image.astype(float), kernel[..., None], mode="mirror")
    assert worst(blur.defocus_blur(image, level("defocus_blur", severity), draws()), wanted) <= 1


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("shape", [(96, 128), (61, 83)], ids=str)
def test_zoom_blur_is_a_mean_of_scipys_zooms(severity: int, shape: tuple[int, int]) -> None:
    image = photograph(*shape).astype(np.float32)
    factors = np.arange(1, *level("zoom_blur", severity))
    total = image.copy()
    for factor in factors:
        tall, wide = (math.ceil(size / factor) for size in shape)
        top, left = (shape[0] - tall) // 2, (shape[1] - wide) // 2
        layer = ndimage.zoom(image[top : top + tall, left : left + wide], (factor, factor, 1), order=1)[
            : shape[0], : shape[1]
        ]
        total[: layer.shape[0], : layer.shape[1]] += layer
    found = blur.zoom_blur(photograph(*shape), level("zoom_blur", severity), draws())
    assert worst(found, total / (len(factors) + 1)) <= 1


@pytest.mark.parametrize("angle", [-135.0, -90.0, -45.0, -20.0, 0.0, 33.0, 45.0])
def test_moved_is_a_sum_of_copies(angle: float) -> None:
    image, (radius, deviation) = photograph(40, 56), (15, 8)
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    rows, columns = np.mgrid[:40, :56]
    wanted = np.zeros(image.shape)
    for step, weight in enumerate(weights):
        down = math.ceil(step * math.sin(math.radians(angle)) - 0.5)
        right = math.ceil(step * math.cos(math.radians(angle)) - 0.5)
        wanted += weight * image[(rows + down).clip(0, 39), (columns + right).clip(0, 55)]
    assert np.abs(blur.moved(image, (radius, deviation), angle) - wanted).max() < 0.1


def test_a_line_that_leaves_the_image_ends_there() -> None:
    image = np.full((32, 90, 3), 200, np.uint8)
    steps = np.exp(-(np.arange(41) ** 2) / (2 * 15**2))
    kept = steps[:32].sum() / steps.sum()  # as published: what is left of the line adds nothing, and it is darker
    np.testing.assert_allclose(blur.moved(image, (20, 15), -90.0), 200 * kept, rtol=1e-4)


def test_glass_copies_pixel_by_pixel() -> None:
    height, width, reach = 23, 31, 3
    shifts = draws().shifts(reach, (height - 2 * reach) * (width - 2 * reach))
    grid = np.arange(height * width).reshape(height, width)
    steps = iter(shifts.tolist())
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            right, down = next(steps)
            grid[row, column] = grid[row + down, column + right]
    np.testing.assert_array_equal(blur._copied(height, width, reach, shifts), grid.ravel())


@pytest.mark.parametrize("far", [0.7, 9.0, 150.0])
def test_interpolated_is_scipys(far: float) -> None:
    image = photograph(45, 37)
    random = np.random.default_rng(0)
    down = np.arange(45)[:, None] + random.uniform(-far, far, (45, 37))
    right = np.arange(37) + random.uniform(-far, far, (45, 37))
    down, right = down.astype(np.float32), right.astype(np.float32)
    for channel in range(3):
        wanted = ndimage.map_coordinates(image[..., channel].astype(float), [down, right], order=1, mode="reflect")
        found = digital.interpolated(image, down, right)[..., channel]
        assert np.abs(found - wanted).max() < 0.02


def test_elastic_transform_moves_by_smoothed_steps() -> None:
    image, strength = photograph(100, 150), level("elastic_transform", 4)[0]
    stream = draws(3)
    right, down = (stream.uniform(-0.5, 0.5, (100, 150)).astype(float) for _ in range(2))
    right, down = (
        ndimage.gaussian_filter(one, (1, 1.5), mode="reflect", truncate=3) * strength for one in (right, down)
    )
    places = [np.arange(100)[:, None] + down, np.arange(150) + right]
    wanted = [ndimage.map_coordinates(image[..., c].astype(float), places, order=1, mode="reflect") for c in range(3)]
    assert worst(digital.elastic_transform(image, (strength,), draws(3)), np.stack(wanted, -1)) <= 1


def test_contrast_by_hand() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[16:] = 200
    image[..., 2] = 77
    found = digital.contrast(image, (0.4,), draws())
    assert found[0, 0].tolist() == [60, 60, 77]  # 100 - 0.4 × 100
    assert found[-1, 0].tolist() == [140, 140, 77]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturate_are_colorsys(severity: int) -> None:
    random = np.random.default_rng(severity)
    image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image[:4] = random.integers(0, 256, (4, 32, 1), dtype=np.uint8)  # greys
    image[0, 0], image[0, 1] = 0, 255
    more = level("brightness", severity)[0]
    factor, plus = level("saturate", severity)
    brighter, purer = np.empty(image.shape), np.empty(image.shape)
    for place in np.ndindex(32, 32):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / 255))
        brighter[place] = colorsys.hsv_to_rgb(hue, saturation, min(value + more, 1))
        purer[place] = colorsys.hsv_to_rgb(hue, min(saturation * factor + plus, 1), value)
    assert worst(weather.brightness(image, (more,), draws()), brighter * 255) <= 1
    assert worst(digital.saturate(image, (factor, plus), draws()), purer * 255) <= 1


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", [(224, 224), (61, 83)], ids=str)
def test_pixelate_is_pillows(severity: int, shape: tuple[int, int]) -> None:
    whole = Image.fromarray(photograph(*shape))
    share = level("pixelate", severity)[0]
    small = whole.resize((int(shape[1] * share), int(shape[0] * share)), Image.Resampling.BOX)
    wanted = np.asarray(small.resize(shape[::-1], Image.Resampling.NEAREST))
    assert worst(digital.pixelate(photograph(*shape), (share,), draws()), wanted) <= 1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_compression_is_pillows(severity: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "JPEG", quality=level("jpeg_compression", severity)[0])
    found = digital.jpeg_compression(photograph(), level("jpeg_compression", severity), draws())
    np.testing.assert_array_equal(found, np.asarray(Image.open(buffer)))


def test_fog_is_a_cloud_over_an_image() -> None:
    image, (density, decay) = photograph(40, 60), level("fog", 3)
    cloud = weather.clouds(64, decay, draws(1))[:40, :60]
    highest = image.max() / 255
    wanted = (image / 255 + density * cloud[..., None]) * highest / (highest + density) * 255
    assert worst(weather.fog(image, (density, decay), draws(1)), wanted) <= 1


def test_a_cloud_spans_from_0_to_1_and_wraps_around() -> None:
    cloud = weather.clouds(64, 2, draws())
    assert cloud.shape == (64, 64)
    assert (cloud.min(), cloud.max()) == (0, pytest.approx(1))
    inside = np.abs(np.diff(cloud, axis=0)).mean()
    assert np.abs(cloud[0] - cloud[-1]).mean() < 2 * inside


def test_displacement_of_a_cloud_dies_away() -> None:
    rough, smooth = (np.abs(np.diff(weather.clouds(128, decay, draws()))).mean() for decay in (1.4, 2))
    assert rough > 2 * smooth


def test_frost_adds_a_part_of_a_picture() -> None:
    pictures = frost.Textures([np.full((40, 50, 3), 100, np.uint8)], "grey")
    image = np.full((1, 32, 32, 3), 60, np.uint8)
    assert np.unique(corrupt(image, "frost", 1, [0], textures=pictures)) == [100]  # 60 + 0.4 × 100
    assert np.unique(corrupt(image, "frost", 5, [0], textures=pictures)) == [111]  # 36 + 75


def test_pictures_of_frost_are_enlarged_to_hold_the_image() -> None:
    pictures = frost.Textures([photograph(40, 50)], "small")
    assert pictures.fitted(0, 20, 30).shape == (44, 56, 3)  # a tenth larger at least
    assert pictures.fitted(0, 80, 60).shape == (88, 111, 3)
    assert len({frost.Textures([photograph(*shape)], "").digest for shape in ((40, 50), (50, 40))}) == 2


def test_made_pictures_of_frost_are_as_bright_as_the_published_ones() -> None:
    means = [frost.procedural().fitted(number, 224, 224).mean() for number in range(5)]
    np.testing.assert_allclose(means, [131, 207, 207, 152, 123], atol=3)


# Spatter's parts


def test_chamfer_by_hand() -> None:
    marked = np.zeros((5, 9), np.bool_)
    marked[0, 0] = True
    found = spatter.chamfer(marked)
    wanted = {(0, 0): 0, (0, 1): 1, (1, 1): 1.4, (1, 2): 2.1969, (2, 2): 2.8, (0, 5): 5, (1, 3): 3.1969, (2, 4): 4.3938}
    for place, far in {**wanted, (2, 3): 3.5969}.items():
        assert found[place] == pytest.approx(far, abs=1e-4), place
    assert np.isinf(spatter.chamfer(np.zeros((3, 3), np.bool_))).all()


def test_chamfer_is_what_relaxing_steps_gives() -> None:
    marked = np.random.default_rng(0).random((40, 50)) < 0.01
    wanted = np.where(marked, 0, np.inf)
    lengths = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    around = [
        (d, r, lengths.get((min(abs(d), abs(r)), max(abs(d), abs(r))))) for d in range(-2, 3) for r in range(-2, 3)
    ]
    steps = [(d, r, length) for d, r, length in around if length]
    for _ in range(40):
        wide = np.pad(wanted, 2, constant_values=np.inf)
        wanted = np.min([wanted, *(wide[2 + d : 42 + d, 2 + r : 52 + r] + length for d, r, length in steps)], axis=0)
    np.testing.assert_allclose(spatter.chamfer(marked), wanted, rtol=0.03, atol=1e-4)
    assert (np.abs(spatter.chamfer(marked) - wanted) < 1e-3).mean() > 0.97


def test_the_edge_of_a_square() -> None:
    values = np.zeros((12, 12), np.uint8)
    values[4:8, 4:8] = 200
    wanted = np.zeros((12, 12), np.bool_)
    wanted[3:8, 3:8] = True  # of two rows of equal gradient, the one above or to the left
    wanted[4:7, 4:7] = False
    found = spatter.edges(values, 50, 150)
    corners = np.ix_((3, 4, 6, 7), (3, 4, 6, 7))  # gradients there are slanted
    found[corners] = wanted[corners]
    np.testing.assert_array_equal(found, wanted)


def test_a_weak_edge_counts_where_it_meets_a_strong_one() -> None:
    steps = np.zeros((10, 24), np.uint8)
    steps[5:] = np.repeat([15, 60], 12)  # gradients of 4 × 15 and 4 × 60
    assert spatter.edges(steps, 50, 150)[:, 2].any()
    assert not spatter.edges(np.minimum(steps, 15), 50, 150).any()


def test_equalized_by_hand() -> None:
    values = np.array([[3, 3, 5], [5, 5, 9]], np.uint8)
    assert spatter.equalized(values).tolist() == [[0, 0, 191], [191, 191, 255]]  # 3 and 4 of 4 above the lowest
    assert spatter.equalized(np.full((2, 2), 7, np.uint8)).tolist() == [[7, 7], [7, 7]]


def test_embossed_is_scipys() -> None:
    values = photograph()[..., 0]
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    wanted = ndimage.correlate(values.astype(int), kernel, mode="mirror").clip(0, 255)
    np.testing.assert_array_equal(spatter.embossed(values), wanted)
    np.testing.assert_allclose(
        spatter.boxed(values), ndimage.uniform_filter(values.astype(float), 3, mode="mirror"), atol=1e-3
    )


def test_no_drop_leaves_an_image_as_it_is() -> None:
    image = photograph(32, 40)
    np.testing.assert_array_equal(spatter.spatter(image, (0.0, 0.0, 2, 0.7, 0.6, 0), draws()), image)
    np.testing.assert_array_equal(spatter.spatter(image, (0.0, 0.0, 2, 0.7, 1.5, 1), draws()), image)


# The batched form


def batch(images: Pixels, name: str, severity: int, seeds: list[int], **more: Any) -> Pixels:
    return np.asarray(batched.corrupt_batch(torch.from_numpy(images), name, severity, seeds, **more))


@pytest.mark.parametrize("name", ROWS)
def test_a_batch_keeps_the_contract(name: str) -> None:
    image = photograph(60, 84)
    images = np.stack([image, image[:, ::-1], image[::-1]])
    found = batch(images, name, 3, [1, 2, 3])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(batch(images[[2, 0]], name, 3, [3, 1]), found[[2, 0]])
    wanted = corrupt(images, name, 3, [1, 2, 3])
    if name not in RANDOM or name not in batched.ON_DEVICE or name == "frost":
        assert np.abs(found.astype(int) - wanted).max() <= 1
    else:
        assert distance(batch(images, name, 3, [4, 5, 6]), found) > 0.5
        assert distance(found, images) == pytest.approx(distance(wanted, images), rel=0.25)


@pytest.mark.parametrize("name", [name for name in batched.ON_DEVICE if name not in RANDOM])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_what_draws_nothing_is_the_same_in_a_batch(name: str, severity: int) -> None:
    images = photograph(45, 61)[None].copy()
    images[0, :3, :3] = 0
    images[0, 5:8, :3] = 90
    found = batch(images, name, severity, [0])
    assert np.abs(found.astype(int) - corrupt(images, name, severity, [0])).max() <= 1


@pytest.mark.parametrize("severity", [1, 5])
def test_noise_of_a_batch_has_its_law(severity: int) -> None:
    grey = np.full((2, 128, 128, 3), 128, np.uint8)
    for name in ("gaussian_noise", "speckle_noise", "shot_noise", "impulse_noise"):
        found = batch(grey, name, severity, [1, 2])
        wanted = corrupt(grey, name, severity, [3, 4])
        assert stats.ks_2samp(found.ravel(), wanted.ravel()).pvalue > 1e-3


def test_clouds_of_a_batch_are_made_as_one_is() -> None:
    numbers = np.random.default_rng(0).random((2, 16 * 16 - 1))

    class Given(Draws):
        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
            part = [next(left) for _ in range(math.prod(shape))]
            return (low + (high - low) * np.array(part)).reshape(shape).astype(np.float32)

    found = batched.clouds(torch.from_numpy(numbers).float(), 1.7)
    for number in range(2):
        left = iter(numbers[number].tolist())
        np.testing.assert_allclose(found[number], weather.clouds(16, 1.7, Given(0)), atol=1e-4)


def test_a_batch_is_displaced_as_one_is() -> None:
    image, steps = photograph(40, 56), np.random.default_rng(0).uniform(-9, 9, (2, 40, 56)).astype(np.float32)
    places = np.arange(40, dtype=np.float32)[:, None] + steps[0], np.arange(56, dtype=np.float32) + steps[1]
    values = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    found = batched.displaced(values, torch.from_numpy(steps[:1]), torch.from_numpy(steps[1:]))
    np.testing.assert_allclose(found[0].permute(1, 2, 0), digital.interpolated(image, *places), atol=0.05)


# Linear parts


@given(st.integers(2, 40), st.integers(-200, 200))
def test_mirror_is_numpys_symmetric(size: int, place: int) -> None:
    wanted = np.pad(np.arange(size), 200, mode="symmetric")[200 + place : 201 + place]
    if wanted.size:
        assert linear.mirror(np.array([place]), size) == wanted


@settings(max_examples=30)
@given(st.tuples(*[st.integers(0, 30)] * 4), st.booleans())
def test_padded_is_numpys(sides: tuple[int, int, int, int], reflect: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    top, bottom, left, right = sides
    wanted = np.pad(values, ((top, bottom), (left, right), (0, 0)), mode="reflect" if reflect else "edge")
    np.testing.assert_array_equal(linear.padded(values, sides, np.uint8, reflect), wanted)


@settings(max_examples=30)
@given(st.integers(32, 90), st.floats(0.4, 8), st.booleans())
def test_a_band_multiplies_as_its_matrix(size: int, deviation: float, mirrored: bool) -> None:
    values = np.random.default_rng(size).random((3, size, size)).astype(np.float32)
    mode = "reflect" if mirrored else "nearest"
    wanted = ndimage.gaussian_filter(values.astype(float), (0, deviation, deviation / 2), mode=mode, truncate=4)
    found = linear.smoothed(values, (deviation, deviation / 2), 4, mirrored)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@given(st.binary(max_size=64), st.integers(0, 2**70))
def test_an_images_seed_can_be_drawn_from(content: bytes, seed: int) -> None:
    found = image_seed(content, seed)
    assert 0 <= found < 2**63
    assert found != image_seed(content + b"x", seed)
    assert found != image_seed(content, seed + 1)


# Bad input


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "gausian_noise"}, "did you mean 'gaussian_noise'"),
        ({"severity": 0}, "unknown severity"),
        ({"severity": 6}, "1, 2, 3, 4, 5"),
        ({"severity": True}, "unknown severity"),
        ({"images": np.zeros((1, 31, 40, 3), np.uint8)}, "at least 32"),
        ({"images": np.zeros((1, 40, 40, 3), np.float32)}, "float32"),
        ({"images": np.zeros((40, 40, 3), np.uint8)}, r"uint8 \(N, H, W, 3\)"),
        ({"seeds": []}, "its own seed"),
        ({"seeds": [-1]}, "its own seed"),
    ],
    ids=str,
)
def test_bad_arguments(change: dict[str, Any], words: str) -> None:
    given = {"images": photograph(40, 40)[None], "name": "fog", "severity": 1, "seeds": [0]} | change
    with pytest.raises(UserError, match=words):
        corrupt(given["images"], given["name"], given["severity"], given["seeds"])


def test_a_folder_without_pictures_of_frost(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures of frost"):
        frost.read_textures(tmp_path)


# rib data corrupt


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of two images each, of several sizes and formats."""
    for number, (folder, name) in enumerate(
        [("ant", "a.png"), ("ant", "b.jpg"), ("bee", "a.JPEG"), ("bee", "c.x.png")]
    ):
        path = tmp_path / "photos" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(photograph(50 + number, 64), number, 1)).save(path, quality=95)
    return tmp_path / "photos"


ASKED = ("--corruptions", "gaussian_noise,fog", "--severities", "2,5", "--size", 48, "--workers", 1)


def files_of(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_a_set_is_written_as_imagenet_c_is(rib_says: Say, photos: Path) -> None:
    code, said = rib_says("data", "corrupt", photos, "--out", "c", *ASKED, "--seed", 3)
    assert code == 0, said
    assert "16 files written" in said
    found = files_of(Path("c"))
    names = [
        f"{corruption}/{severity}/{name}.JPEG"
        for corruption in ("fog", "gaussian_noise")
        for severity in (2, 5)
        for name in ("ant/a", "ant/b", "bee/a", "bee/c.x")
    ]
    assert sorted(found) == sorted([FILE, *names])
    with Image.open("c/fog/5/ant/b.JPEG") as image:
        assert image.size == (48, 48)
        tables = image.quantization  # type: ignore[attr-defined]
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=85)
    assert tables == Image.open(buffer).quantization  # type: ignore[attr-defined]
    marker = json.loads(found[FILE])
    assert marker["complete"]
    assert (marker["seed"], marker["source"], marker["images"], marker["size"]) == (3, "photos", 4, 48)
    assert (marker["corruptions"], marker["severities"]) == (["gaussian_noise", "fog"], [2, 5])


def test_the_pixels_are_those_of_corrupt(rib_says: Say, photos: Path) -> None:
    assert rib_says("data", "corrupt", photos, "--out", "c", *ASKED[:-4], "--size", 0, "--workers", 1)[0] == 0
    content = (photos / "bee" / "c.x.png").read_bytes()
    image = np.asarray(Image.open(io.BytesIO(content)))
    wanted = corrupt(image[None], "fog", 2, [image_seed(content, 0)])[0]
    buffer = io.BytesIO()
    Image.fromarray(wanted).save(buffer, "JPEG", quality=85)
    assert Path("c/fog/2/bee/c.x.JPEG").read_bytes() == buffer.getvalue()


def test_neither_name_nor_neighbours_nor_workers_matter(rib_says: Say, photos: Path) -> None:
    assert rib_says("data", "corrupt", photos, "--out", "all", *ASKED)[0] == 0
    other = photos.parent / "other"
    shutil.copytree(photos / "bee", other / "wasp")
    (other / "wasp" / "a.JPEG").rename(other / "wasp" / "z.JPEG")
    assert rib_says("data", "corrupt", other, "--out", "some", *ASKED[:-1], 2)[0] == 0
    for cell in ("fog/2", "gaussian_noise/5"):
        assert Path(f"all/{cell}/bee/a.JPEG").read_bytes() == Path(f"some/{cell}/wasp/z.JPEG").read_bytes()
    assert rib_says("data", "corrupt", photos, "--out", "seed1", *ASKED, "--seed", 1)[0] == 0
    assert Path("all/fog/2/bee/a.JPEG").read_bytes() != Path("seed1/fog/2/bee/a.JPEG").read_bytes()


def test_an_interrupted_run_goes_on(rib_says: Say, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rib_says("data", "corrupt", photos, "--out", "whole", *ASKED)[0] == 0
    write, left = writing.write_aside, iter(range(8))

    def stop(path: Path, data: bytes) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(writing, "write_aside", stop)
    assert rib_says("data", "corrupt", photos, "--out", "c", *ASKED)[0] == 130
    monkeypatch.setattr(writing, "write_aside", write)
    assert len(files_of(Path("c"))) == 8
    marker = Marker.read(Path("c"))
    assert marker is not None
    assert not marker.complete
    assert marker.caveat.endswith("not finished")
    before = {name: Path("c", name).stat().st_mtime_ns for name in files_of(Path("c")) if name != FILE}
    code, said = rib_says("data", "corrupt", photos, "--out", "c", *ASKED)
    assert (code, "9 files written" in said) == (0, True), said
    assert files_of(Path("c")) == files_of(Path("whole"))
    assert before == {name: Path("c", name).stat().st_mtime_ns for name in before}
    assert "0 files written" in rib_says("data", "corrupt", photos, "--out", "c", *ASKED)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "--out", "c", "--corruptions", "fogg"], "did you mean 'fog'"),
        (["photos", "--out", "c", "--corruptions", ""], "nothing to do"),
        (["photos", "--out", "c", "--severities", "1,6"], "unknown severity"),
        (["photos", "--out", "c", "--severities", "one"], "unknown severity"),
        (["photos", "--out", "c", "--seed", "-1"], "a seed must not be negative"),
        (["photos", "--out", "c", "--size", "20"], "at least 32 pixels"),
        (["photos", "--out", "photos"], "is not empty"),
        (["photos", "--out", "photos/ant/a.png"], "not a folder"),
        (["photos", "--out", "c", "--frost", "photos"], "no pictures of frost"),
        (["phots", "--out", "c"], "unknown data set or folder"),
        (["imagenet:vall", "--out", "c"], "did you mean 'imagenet:val'"),
        (["imagenet:val", "--out", "c"], "is missing"),
        (["imagenet:c_5k", "--out", "c"], "is corrupted already"),
        (["digits:ref", "--out", "c"], "images of 28 pixels"),
        (["photos/ant", "--out", "c"], "no class folders"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(rib_says: Say, photos: Path, words: list[str], said: str) -> None:
    code, printed = rib_says("data", "corrupt", *words, "--workers", 1)
    assert code == 2
    assert said in printed
    assert not Path("c").exists()


def test_another_setting_in_the_same_folder_is_refused(rib_says: Say, photos: Path) -> None:
    assert rib_says("data", "corrupt", photos, "--out", "c", *ASKED)[0] == 0
    code, said = rib_says("data", "corrupt", photos, "--out", "c", *ASKED, "--seed", 1)
    assert code == 2
    assert "made with other settings" in said
    assert "seed 1" in said
    assert "seed 0" in said
    Path("c", FILE).write_text("{")
    assert "cannot read" in rib_says("data", "corrupt", photos, "--out", "c", *ASKED)[1]


def test_small_images_are_named(rib_says: Say, photos: Path) -> None:
    Image.new("RGB", (31, 40)).save(photos / "bee" / "tiny.png")
    code, said = rib_says("data", "corrupt", photos, "--out", "c", "--corruptions", "fog", "--size", 0, "--workers", 1)
    assert code == 2
    assert "tiny.png is too small" in said
    assert "31 × 40" in said


def test_two_images_of_one_name_are_refused(rib_says: Say, photos: Path) -> None:
    shutil.copy(photos / "ant" / "a.png", photos / "ant" / "A.jpg")
    code, said = rib_says("data", "corrupt", photos, "--out", "c")
    assert code == 2
    assert "two images would be written to one file" in said


def test_a_full_disk_is_told_before(rib_says: Say, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "room", lambda folder: 1000)
    code, said = rib_says("data", "corrupt", photos, "--out", "c", *ASKED)
    assert code == 2
    assert "no room for the corrupted set" in said
    assert "1 kB free" in said
    assert not Path("c").exists()


def test_results_on_a_generated_set_say_so(rib_says: Say, photos: Path) -> None:
    assert (
        rib_says("data", "corrupt", photos, "--out", "c", "--corruptions", "frost", "--severities", 3, "--workers", 1)[
            0
        ]
        == 0
    )
    caveat = open_data("mine", DataRow(folder="c/frost/3"), Path(), None).caveat
    assert caveat.startswith("generated by rib")
    assert "from photos, seed 0: not the published files" in caveat
    assert "frost: procedural pictures, not the published ones" in caveat
    assert open_data("mine", DataRow(folder=str(photos)), Path(), None).caveat == ""


def test_a_published_set_that_was_generated_says_so(rib_says: Say, tmp_path: Path) -> None:
    trees.lay_out(tmp_path, "val", 6, 1)
    out = tmp_path / "imagenet-c"
    words = ("--size", 32, "--corruptions", "all", "--severities", "1,2,3,4,5", "--workers", 1)
    assert rib_says("data", "corrupt", "imagenet:val", "--data", tmp_path, "--out", out, *words)[0] == 0
    found = open_data("c", DataRow(imagenet="c", allow_incomplete=True), tmp_path, None)
    assert len(found.index("test")) == 15 * 5 * 6  # the four extra ones are no part of it
    assert found.caveat.startswith("generated by rib")
    assert found.caveat.endswith("; incomplete: 450 of 3,750,000 images")
    val = open_data("val", DataRow(imagenet="val", allow_incomplete=True), tmp_path, None)
    assert set(found.index("test").sources.tolist()) == set(val.index("test").sources.tolist())
    assert "generated" not in val.caveat


def test_own_pictures_of_frost(rib_says: Say, photos: Path) -> None:
    words = ("--corruptions", "frost", "--severities", 1, "--workers", 1, "--frost", photos / "ant")
    assert rib_says("data", "corrupt", photos, "--out", "c", *words)[0] == 0
    marker = Marker.read(Path("c"))
    assert marker is not None
    assert marker.frost.startswith("ant ")
