"""P5: a training step and a forward pass, compared with bare passes and with the same timm model in a plain loop."""

from __future__ import annotations

import statistics

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.base import Marks, Row, Setting, Timings, at_least, interleaved, one_thread, share, shown
from bench.p1_limit import see_barely, train_barely
from bench.rates import rates
from rib import _compat  # noqa: F401  # before timm, which imports torchvision
from rib.data.examples import Examples, Index
from rib.data.labels import LabelMap
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.recipe import Precision, Recipe
from rib.training.loop import train
from rib.training.predict import autocast, collect
from rib.training.training import Training

CLASSES = 100
BARE = "bare passes of the same net"
TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 2**-5}
"""Maximum difference of logits, which lie between -2 and 2; for bf16 it is four steps of bf16 in that range."""

WHOLE = LabelMap("by name", tuple((label,) for label in range(CLASSES)), CLASSES)


def measure(setting: Setting) -> list[Row]:
    """Measure training and prediction with the same weights, batches, optimizer and precision on both sides."""
    with one_thread():
        return _measured(setting)


def _measured(setting: Setting) -> list[Row]:
    gpu, name, precision = setting.gpu, setting.model, setting.precision
    batch, steps = (64, 20) if gpu else (16, 2 if setting.quick else 4)
    architecture = describe(ModelRow(timm=name), classes=CLASSES)
    data = noise(batch * steps, architecture.size)
    recipe = Recipe(epochs=1, batch_size=batch, precision=precision, eval_batch_size=batch, eval_precision=precision)
    mine = build(architecture, last_block="pooled").to(setting.device)
    theirs = plain_net(name, mine)
    images = torch.from_numpy(data.batch(slice(batch))).to(setting.device)
    differs = difference(mine, theirs, images, precision)
    assert differs < TOLERANCE[precision], differs

    pixels, labels = data.batch(slice(None)), data.labels
    prepared = mine.prepared(images).detach()
    training = interleaved(
        {
            "plain": lambda: train_plainly(theirs, mine, pixels, labels, recipe),
            "bare": lambda: train_barely(mine, prepared, steps, recipe),
            "ours": lambda: train(mine, Training(data, WHOLE, recipe, seed=0)),
        },
        setting.repeats(7),
        setting.clock,
    )
    predicting = interleaved(
        {
            "plain": lambda: predict_plainly(theirs, mine, pixels, recipe),
            "bare": lambda: see_barely(mine, prepared, steps, recipe),
            "ours": lambda: collect(mine, mine.forward, data, batch, recipe.eval_precision),
        },
        setting.repeats(7),
        setting.clock,
    )
    note = f"{name}, batches of {batch}, {precision}; largest difference of logits {differs:.0e}"
    peer = "timm's model in a plain loop"
    return [
        share("P5", "training step", BARE, 95, training.ratio("bare", "ours"), note),
        share("P5", "forward pass", BARE, 95, predicting.ratio("bare", "ours")),
        at_least("P5", "training step", peer, 1, training.ratio("plain", "ours")),
        at_least("P5", "forward pass", peer, 1, predicting.ratio("plain", "ours")),
        *(shares(mine, training, predicting, data, rates(setting.device).products[precision]) if gpu else []),
        *(compiling(mine, data, recipe, setting) if gpu else []),
    ]


@torch.inference_mode()
def difference(mine: Classifier, theirs: nn.Module, images: Tensor, precision: Precision) -> float:
    """The largest difference of logits from the same forward pass on both sides."""
    with autocast(images.device, precision):
        logits, wanted = mine.eval()(images), theirs.eval()(mine.prepared(images))
    return float((logits.float() - wanted.float()).abs().max())


def compiling(net: Classifier, data: Examples, recipe: Recipe, setting: Setting) -> list[Row]:
    """Training steps with torch.compile, after compilation, compared with steps without it."""
    rows = []
    for name, mode in (("compiled", "default"), ("CUDA graphs", "reduce-overhead")):
        pairs = [
            [
                later_step(net, data, recipe.model_copy(update={"epochs": 4, "compile": way}), setting)
                for way in (None, mode)
            ]
            for _ in range(3)
        ]
        ratio = statistics.median(plain / other for plain, other in pairs)
        rows.append(shown("P5", f"training step, {name}", "training step", f"{ratio:.3g} ×"))
    return rows


def later_step(net: Classifier, data: Examples, recipe: Recipe, setting: Setting) -> float:
    """Seconds per step after the first epoch, in which the net is compiled."""
    marks = Marks(setting)
    train(net, Training(data, WHOLE, recipe, seed=0), watch=marks.watch)
    return statistics.fmean(marks.spans()[recipe.steps_per_epoch(len(data)) :])


def noise(count: int, side: int) -> Examples:
    """Images of noise with cyclic labels."""
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Examples.whole(images, Index(np.arange(count) % CLASSES, np.arange(count)))


def plain_net(name: str, like: Classifier) -> nn.Module:
    """timm's own model with the same weights."""
    import timm

    net: nn.Module = timm.create_model(name, num_classes=CLASSES)
    net.load_state_dict(like.net.state_dict())
    return net.to(like.device)


def train_plainly(
    net: nn.Module, normal: Classifier, images: NDArray[np.uint8], labels: NDArray[np.int64], recipe: Recipe
) -> float:
    """An epoch as in common scripts: torch's default SGD, with the loss read at every step."""
    device, total = normal.device, 0.0
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), recipe.lr, recipe.momentum)
    for begin in range(0, len(images), recipe.batch_size):
        batch = torch.from_numpy(images[begin : begin + recipe.batch_size]).to(device)
        target = torch.from_numpy(labels[begin : begin + recipe.batch_size]).to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = F.cross_entropy(net(normal.prepared(batch)), target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


@torch.no_grad()
def predict_plainly(net: nn.Module, normal: Classifier, images: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Logits, computed as in common scripts."""
    device, found = normal.device, []
    net.eval()
    for begin in range(0, len(images), recipe.eval_batch_size):
        batch = torch.from_numpy(images[begin : begin + recipe.eval_batch_size]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.eval_precision == "bf16"):
            found.append(net(normal.prepared(batch)).float().cpu())
    return torch.cat(found)


def shares(net: Classifier, training: Timings, predicting: Timings, data: Examples, rate: float) -> list[Row]:
    """The share of the GPU's own rate of matrix products that training and prediction reach."""
    from torch.utils.flop_counter import FlopCounterMode

    one = torch.from_numpy(data.batch(slice(1))).to(net.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.eval()(one)
    rows = []
    for what, passes, timings, wanted in (("training", 3, training, 0.4), ("prediction", 1, predicting, 0.5)):
        share = passes * counter.get_total_flops() * len(data) / timings.median("ours") / rate
        peer = f"{rate / 1e12:.0f} TFLOP/s of matrix products"
        seen = f"{100 * share:.0f} %"
        rows.append(Row("P5", f"{what}, share of the rate", peer, f"≥ {100 * wanted:.0f} %", seen, share >= wanted))
    return rows
