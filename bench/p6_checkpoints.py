"""P6: eight checkpoints that predict streamed data in one pass, compared with their forward passes alone."""

from __future__ import annotations

import torch

from bench.base import Row, Setting, interleaved, one_thread
from bench.p5_step import CLASSES, WHOLE, noise
from rib import _compat  # noqa: F401  # before timm, which imports torchvision
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.training.predict import autocast
from rib.training.sweep import Asked, predict_chunk

K = 8


def measure(setting: Setting) -> list[Row]:
    """Measure the same batches through the same nets. The pixels of the bare passes are normalised before."""
    with one_thread():
        return _measured(setting)


def _measured(setting: Setting) -> list[Row]:
    name, precision = setting.model, setting.precision
    batch, count = (256, 2048) if setting.gpu else (16, 16 if setting.quick else 32)
    architecture = describe(ModelRow(timm=name), classes=CLASSES)
    nets = [build(architecture, seed, "pooled").to(setting.device).eval() for seed in range(K)]
    chunk = noise(count, architecture.size)
    pixels = [nets[0].prepared(images) for images in torch.from_numpy(chunk.images).to(setting.device).split(batch)]
    found: dict[str, list[torch.Tensor]] = {}

    def bare() -> None:
        with torch.inference_mode(), autocast(pixels[0].device, precision):
            found["bare"] = [torch.cat([net.net(images) for images in pixels]) for net in nets]

    def swept() -> None:
        asked = [Asked(net, net.head, WHOLE, precision) for net in nets]
        predict_chunk(chunk, asked, batch, lambda _: None)
        found["swept"] = [torch.from_numpy(one.predictions.unmasked_class).long() for one in asked]

    timings = interleaved({"bare": bare, "swept": swept}, setting.repeats(9), setting.clock)
    for logits, chosen in zip(found["bare"], found["swept"], strict=True):
        assert torch.equal(logits.argmax(1).cpu(), chosen)
    share = timings.ratio("swept", "bare") - 1
    wanted = 0.03 if setting.gpu else 0.05
    note = f"{name}, {count} images in batches of {batch}, {precision}; normalising, scoring and recording come on top"
    what = f"{K} checkpoints per pass"
    return [
        Row("P6", what, "their forward passes", f"≤ {100 * wanted:g} %", f"{100 * share:.1f} %", share <= wanted, note)
    ]
