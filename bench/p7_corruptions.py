"""P7: ImageNet-C's corruptions, compared with the public library `imagecorruptions`."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images
from threadpoolctl import threadpool_limits

from bench.base import Row, Setting, at_least, interleaved
from rib.data.corruptions.base import Draws
from rib.data.corruptions.batched import ON_DEVICE, corrupt_batch
from rib.data.corruptions.catalogue import ROWS, corrupt
from rib.data.corruptions.frost import Textures
from rib.data.published import CORRUPTIONS, SEVERITIES

PEER = "imagecorruptions 1.1.2"
NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
UNLIKELY = 1e-4
"""Two distributions count as different below this p value; there are twenty tests."""

NEARLY_ALL = 0.999
"""Share of spatter's values that must be within one grey level. Tiny differences before its histogram equalisation
move a few values further."""

ALIKE = 0.25
"""Maximum relative difference of the mean change of an image, if two forms draw different numbers: fog, elastic
transform."""

PICTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The five of its six pictures that the library uses."""


def measure(setting: Setting) -> list[Row]:
    """Check for equal results, then time parts of two photographs at 224 pixels, all severities, on one core;
    processor time."""
    if setting.device != "cpu":
        return on_device(setting)
    try:
        peer = load_peer()
    except ImportError as error:
        note = f"not measured, for the peer is not there ({error}): pip install -c constraints.txt -e '.[bench]'"
        return [Row("P7", "corruptions", PEER, "≥ 3 ×", "no peer", None, note)]
    images, textures = photographs(2 if setting.quick else 4), pictures(peer)
    with threadpool_limits(1):
        for name in ROWS:
            check(peer, name, images, textures)
        ratios = {name: ratio(peer, name, images, textures, setting) for name in ROWS}
    return rows(ratios)


def rows(ratios: dict[str, float]) -> list[Row]:
    """Rows of the table, from the speed-up of each corruption."""
    worst = min(ratios, key=ratios.__getitem__)
    each = ", ".join(f"{name} {value:.3g}" for name, value in sorted(ratios.items(), key=lambda pair: pair[1]))
    published = statistics.harmonic_mean([ratios[name] for name in CORRUPTIONS])
    return [
        at_least("P7", "15 corruptions, harmonic mean", PEER, 3, published, f"times faster: {each}"),
        at_least("P7", "with the 4 extra, harmonic mean", PEER, 3, statistics.harmonic_mean(ratios.values())),
        at_least("P7", f"the slowest, {worst}", PEER, 1, ratios[worst]),
    ]


def load_peer() -> Any:
    """Import the library, with stubs for functions that current numpy, scipy and scikit-image no longer have.

    Raises:
        ImportError: the library, OpenCV or scikit-image is not installed.
    """
    import scipy.ndimage

    resources: Any = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda module, path: str(folder(module.partition(".")[0]) / path)
    interpolation: Any = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = scipy.ndimage.map_coordinates
    sys.modules.setdefault("pkg_resources", resources)
    sys.modules["scipy.ndimage.interpolation"] = interpolation
    np.float_ = np.float64  # type: ignore[attr-defined]
    corruptions: Any = importlib.import_module("imagecorruptions.corruptions")
    gaussian = corruptions.gaussian

    def with_channels(image: Any, sigma: Any, multichannel: bool = False, **options: Any) -> Any:
        return gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)

    corruptions.gaussian = with_channels
    corruptions.cv2.setNumThreads(1)
    return importlib.import_module("imagecorruptions")


def folder(module: str) -> Path:
    """The folder of a package."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent


def pictures(peer: Any) -> Textures:
    """The library's pictures of frost, so that both sides add the same ones."""
    place = Path(peer.__file__).parent / "frost"
    return Textures([np.asarray(Image.open(place / name).convert("RGB")) for name in PICTURES], "published")


def photographs(count: int) -> NDArray[np.uint8]:
    """Parts of scikit-learn's two photographs, scaled down: uint8 (count, 224, 224, 3)."""
    found = []
    for number in range(count):
        left, top = 60 * (number // 2), 40 * (number % 3)
        part = Image.fromarray(load_sample_images().images[number % 2]).crop((left, top, left + 340, top + 340))
        found.append(np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR)))
    return np.stack(found)


class PeerDraws(Draws):
    """The random numbers that the library draws from numpy's global state, in its order."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self._random.uniform(low, high, shape).astype(np.float32)

    def angle(self, low: float, high: float) -> float:
        return float(self._random.uniform(low, high))

    def integer(self, high: int) -> int:
        return int(self._random.randint(0, high))

    def shifts(self, reach: int, count: int) -> NDArray[np.int64]:
        return self._random.randint(-reach, reach, size=(count, 2))

    def normal(
        self, mean: float, deviation: float, shape: tuple[int, int], window: tuple[slice, slice]
    ) -> NDArray[np.float32]:
        return self._random.normal(mean, deviation, shape)[window].astype(np.float32)


def check(peer: Any, name: str, images: NDArray[np.uint8], textures: Textures) -> None:
    """Assert equal results: for noise, the same distribution; otherwise, from the same random numbers, equal within
    one grey level."""
    for severity in SEVERITIES:
        np.random.seed(severity)
        if name in NOISE:
            theirs = np.stack([peer.corrupt(image, severity, name) for image in images]).astype(int) - images
            ours = corrupt(images, name, severity, range(len(images))).astype(int) - images
            p = float(ks_2samp(theirs.ravel(), ours.ravel()).pvalue)
            assert p > UNLIKELY, (name, severity, p)
            continue
        for seed, image in enumerate(images):
            np.random.seed(seed)
            wanted = peer.corrupt(image, severity, name).astype(int)
            kernel, level = ROWS[name].kernel, ROWS[name].levels[severity - 1]
            more = {"textures": textures} if name == "frost" else {}
            close = np.abs(kernel(image, level, PeerDraws(seed), **more) - wanted) <= 1
            assert close.mean() >= (NEARLY_ALL if name == "spatter" else 1), (name, severity, close.mean())


def ratio(peer: Any, name: str, images: NDArray[np.uint8], textures: Textures, setting: Setting) -> float:
    """The speed-up of one corruption over the five severities."""

    def theirs() -> None:
        for severity in SEVERITIES:
            for image in images:
                peer.corrupt(image, severity, name)

    def ours() -> None:
        for severity in SEVERITIES:
            corrupt(images, name, severity, range(len(images)), textures=textures)

    return interleaved({"peer": theirs, "rib": ours}, setting.repeats(5), time.process_time).ratio("peer", "rib")


def check_batch(name: str, images: NDArray[np.uint8], device: str) -> None:
    """Assert that the batched form on a device gives the results of the kernels, for images (N, H, W, 3).

    If both draw the same numbers or none, they must agree within one grey level. Otherwise noise must have the same
    distribution, and changes about the same size.
    """
    seeds = list(range(len(images)))
    for severity in SEVERITIES:
        found = corrupt_batch(torch.from_numpy(images).to(device), name, severity, seeds).cpu().numpy().astype(int)
        wanted = corrupt(images, name, severity, seeds).astype(int)
        if name in NOISE:
            p = float(ks_2samp((found - images).ravel(), (wanted - images).ravel()).pvalue)
            assert p > UNLIKELY, (name, severity, p)
        elif ROWS[name].random and name != "frost":
            alike = np.abs(found - images).mean() / np.abs(wanted - images).mean()
            assert abs(alike - 1) < ALIKE, (name, severity, alike)
        else:
            assert np.abs(found - wanted).max() <= 1, (name, severity, np.abs(found - wanted).max())


def on_device(setting: Setting) -> list[Row]:
    """Images per second of the batched form, compared with one CPU core: all severities, with the batch on the
    device."""
    images = photographs(4)
    for name in ON_DEVICE:
        check_batch(name, np.tile(images, (4, 1, 1, 1)), setting.device)
    batch = torch.from_numpy(np.tile(images, (16 if setting.quick else 64, 1, 1, 1))).to(setting.device)
    seeds = list(range(len(batch)))
    rates, ratios = {}, {}
    for name in ON_DEVICE:

        def there(name: str = name) -> None:
            for severity in SEVERITIES:
                corrupt_batch(batch, name, severity, seeds)

        def here(name: str = name) -> None:
            for severity in SEVERITIES:
                corrupt(images, name, severity, seeds[: len(images)])

        timings = interleaved({"device": there, "core": here}, setting.repeats(5))
        rates[name] = len(SEVERITIES) * len(batch) / timings.median("device")
        ratios[name] = timings.ratio("core", "device") * len(batch) / len(images)
    published = [name for name in CORRUPTIONS if name in ON_DEVICE]
    rate = statistics.harmonic_mean([rates[name] for name in published])
    each = ", ".join(f"{name} {value / 1000:.3g}k" for name, value in sorted(rates.items(), key=lambda pair: pair[1]))
    ratio = statistics.harmonic_mean([ratios[name] for name in published])
    apart = ", ".join(name for name in ROWS if name not in ON_DEVICE)
    note = f"img/s: {each}; on the CPU only: {apart}; {ratio:.3g} times a CPU core (harmonic mean)"
    what = f"{len(published)} of the 15 corruptions, harmonic mean, {setting.device}"
    return [Row("P7", what, "none", "≥ 20k img/s", f"{rate / 1000:.3g}k img/s", rate >= 20_000, note)]
