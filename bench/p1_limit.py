"""P1: the share of the machine's limit: time of the bare passes of a sweep's nets, divided by that of the sweep."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import rib
from bench.base import Row, Setting, interleaved, one_thread, share
from bench.images import tree
from rib.data.views import View
from rib.methods.base import Passes
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.weights import take_weights, write_weights
from rib.plan import Plan, make_plan
from rib.recipe import Recipe
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.suite.suite import Suite
from rib.training.predict import autocast

METHODS = ["finetune", "lp_ft", "l2_sp", "lwf", "wise_ft"]
IMAGES = 64
"""Images per set in the sweeps over JPEGs."""


@dataclass(frozen=True)
class Sweep:
    """A sweep whose steps are counted and timed.

    Attributes:
        name: name in the table.
        suite: the suite to run.
        wanted: the goal, as a share of the limit in percent.
    """

    name: str
    suite: Suite
    wanted: float


def measure(setting: Setting) -> list[Row]:
    """Measure processor time of one process and one thread on both sides, without decoding, which P2 and P3 measure.

    The limit runs the same number of images through the same nets, in batches of the same size and layout: forward,
    cross-entropy, backward and optimizer step if the sweep trains, forward alone if it predicts. It has no data, no
    labels of its own, no records and no statistics.
    """
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return [_share(sweep, setting) for sweep in sweeps(Path(folder), setting)]


def sweeps(folder: Path, setting: Setting) -> list[Sweep]:
    """The nets of `digits`, the net of `photos-quick` at its size, and a ViT at 224 pixels."""
    for shift, name in enumerate(("reference", "one", "two")):
        tree(folder / name, IMAGES, shift=shift)
    digits: dict[str, Any] = {
        "reference": "digits:ref",
        "downstream": ["digits:sketch", "digits:cartoon"],
        "models": ["digits:resnet_small", "digits:vit_small"],
        "runs": [{"methods": METHODS, "sizes": [200]}],
        "recipe": {"epochs": 2 if setting.quick else 10, "lr": 0.0003, "warmup_fraction": 0.1},
    }
    return [
        Sweep("digits", parse_suite({"name": "limit-digits", **digits}), 70),
        Sweep("EfficientNet-Lite0, 128 px", _photographs(folder, "tf_efficientnet_lite0", 128), 85),
        Sweep(f"{setting.model}", _photographs(folder, setting.model, 224), 85),
    ]


def _photographs(folder: Path, net: str, size: int) -> Suite:
    row: dict[str, Any] = {"timm": net, "size": size, "weights": str(folder / f"{net}.safetensors")}
    classifier = build(describe(ModelRow(timm=net, size=size), classes=10), seed=1)
    write_weights(Path(row["weights"]), take_weights(classifier.net))
    sets = ("reference", "one", "two")
    return parse_suite(
        {
            "name": "limit",
            "reference": "reference",
            "downstream": ["one", "two"],
            "models": ["net"],
            "runs": [{"methods": METHODS}],
            "recipe": {"epochs": 1, "batch_size": 16, "lr": 0.01, "eval_batch_size": 16},
            "data": {name: {"folder": str(folder / name)} for name in sets},
            "model": {"net": row},
        }
    ).based_at(folder)


def _share(sweep: Sweep, setting: Setting) -> Row:
    plan = make_plan(sweep.suite)
    limit = Limit(plan, setting.device)
    with tempfile.TemporaryDirectory() as warm:
        decoded = Path(warm)
        rib.run(with_methods(sweep.suite, ["linear_probe"]), store=decoded, how=How(workers=1, device=setting.device))

        def sweeping() -> None:
            with tempfile.TemporaryDirectory() as store:
                shutil.copytree(Store(decoded).packs, Store(Path(store)).packs, dirs_exist_ok=True)
                rib.run(sweep.suite, store=store, how=How(workers=1, device=setting.device))

        timings = interleaved({"sweep": sweeping, "bare": limit.run}, setting.repeats(3), setting.clock)
    trained, seen = (sum(getattr(each, name) for each in limit.passes.values()) for name in ("trained", "seen"))
    note = f"{len(plan.steps):,} steps; {trained:,} images trained on, {seen:,} seen"
    ratio = timings.ratio("bare", "sweep")
    return share("P1", f"share of the limit, {sweep.name}", "the bare passes of its nets", sweep.wanted, ratio, note)


def with_methods(suite: Suite, methods: list[str]) -> Suite:
    """The suite with other methods in each of its blocks of runs."""
    return suite.model_copy(
        update={"runs": tuple(block.model_copy(update={"methods": methods}) for block in suite.runs)}
    )


class Limit:
    """Bare passes of as many images as a plan's steps need, through the nets of the plan.

    Attributes:
        passes: numbers of images, trained on and only predicted, by the key of the net's weights.
    """

    def __init__(self, plan: Plan, device: str) -> None:
        self.passes: dict[str, Passes] = {}
        self._nets: dict[str, Classifier] = {}
        self._views: dict[str, View] = {}
        self._recipe = plan.suite.recipe
        for step in plan.steps:
            key, each = step.start.key, plan.passes(step)
            before = self.passes.get(key, Passes())
            self.passes[key] = Passes(before.trained + each.trained, before.seen + each.seen)
            if key not in self._nets:
                self._nets[key], self._views[key] = build(step.architecture).to(device), step.architecture.view

    def run(self) -> None:
        """Run all passes of all nets once."""
        for key, net in self._nets.items():
            for size, run, images in (
                (self._recipe.batch_size, train_barely, self.passes[key].trained),
                (self._recipe.eval_batch_size, see_barely, self.passes[key].seen),
            ):
                run(net, batch_of(net, self._views[key], size), round(images / size), self._recipe)


def train_barely(classifier: Classifier, inputs: Tensor, steps: int, recipe: Recipe) -> None:
    """Training steps on one batch that stays on the device."""
    net, labels = classifier.net.train(), torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.SGD
    optimizer = kind(net.parameters(), lr=1e-6, fused=True)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with autocast(inputs.device, recipe.precision):
            loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def see_barely(classifier: Classifier, inputs: Tensor, steps: int, recipe: Recipe) -> None:
    """Forward passes of one batch."""
    net = classifier.net.eval()
    for _ in range(steps):
        with autocast(inputs.device, recipe.eval_precision):
            net(inputs)


def batch_of(classifier: Classifier, view: View, size: int) -> Tensor:
    """Inputs as in the sweep: float32 (size, 3, H, W), with the memory layout of images."""
    blank = torch.from_numpy(view.batch(size))
    return classifier.prepared(blank.to(classifier.device)).detach()
