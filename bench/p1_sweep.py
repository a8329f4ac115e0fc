"""P1: a whole sweep, compared with a straightforward loop as in published code."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

import rib
from bench.base import Row, Setting, at_least, interleaved, one_thread, shown
from bench.images import source, tree
from rib import _compat  # noqa: F401  # before torchvision
from rib.data.splits import named_generator, named_seed
from rib.execute.run import cores
from rib.methods.ewc import diagonal_fisher, normalised
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier, Normalise
from rib.models.describe import describe
from rib.models.weights import Weights, interpolate, take_weights, write_weights
from rib.plan import Plan, make_plan
from rib.recipe import Recipe
from rib.steps import How, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.suite.suite import Suite
from rib.training.schedule import rate

MODEL, CLASSES = "vit_tiny_patch16_224", 10
METHODS = ("finetune", "linear_probe", "lp_ft", "l2_sp", "ewc", "lwf", "wise_ft", "soup")
SETS = {"reference": 48, "one": 40, "two": 42, "three": 44}
"""Number of images per set. The first is the reference set, on which nothing is tuned."""

TIMES = 20
"""Factor for the numbers of images on a GPU."""

EQUAL = {"cpu": 1e-5, "gpu": 1e-3}
"""Maximum difference of a label's probability in fp32. On a GPU, sums have no fixed order and convolutions use TF32."""

Cells = dict[tuple[str, str, str], NDArray[np.float32]]
"""Probability of each image's class, by method, tuned set and test set."""

Ordered = tuple[list[int], DataLoader[tuple[Tensor, Tensor]]]
"""A list with the order of the examples, and a loader that follows it."""

SAMPLES = 16
"""Images for the Fisher. With the published 200 it would cost more than training on so few images."""


def measure(setting: Setting) -> list[Row]:
    """Measure from JPEGs on disk to accuracies of every cell: processor time of one process and one thread on both
    sides.

    On a GPU it is wall time on the same device. Both sides decode on all cores, the loop in the workers of a
    DataLoader.
    """
    times = (TIMES if setting.gpu else 1) / (2 if setting.quick else 1)
    sets = {name: int(times * count) for name, count in SETS.items()}
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return _measured(setting, Path(folder), sets)


def _measured(setting: Setting, folder: Path, sets: Mapping[str, int]) -> list[Row]:
    for shift, (name, count) in enumerate(sets.items()):
        tree(folder / name, count, shift=shift)
    classifier = build(describe(ModelRow(timm=MODEL), classes=CLASSES), seed=1)
    write_weights(folder / "start.safetensors", take_weights(classifier.net))
    epochs, batch = 2, 64 if setting.gpu else 16
    plain = Recipe(epochs=epochs, batch_size=batch, lr=0.01, eval_batch_size=batch, last_block="pooled")
    recipes = {"fp32": plain, "bf16": plain.model_copy(update={"precision": "bf16", "eval_precision": "bf16"})}
    suites = {name: suite_of(folder, sets, recipe) for name, recipe in recipes.items()}
    found: dict[str, Cells] = {}
    counted = Counted()

    def sweep(name: str) -> Callable[[], None]:
        def work() -> None:
            with tempfile.TemporaryDirectory() as store, counted:
                rib.run(suites[name], store=store, how=How(workers=1, device=setting.device))
                found[name] = cells(suites[name], Path(store))

        return work

    def loop() -> None:
        found["loop"] = Loop(folder, sets, recipes["fp32"], setting.device, cores() if setting.gpu else 0).run()

    works = {"loop": loop, "fp32": sweep("fp32"), "bf16": sweep("bf16")}
    timings = interleaved(works, 1 if setting.quick else 2, setting.clock, warmup=0)
    assert found["loop"].keys() == found["fp32"].keys() == found["bf16"].keys()
    differ = {name: largest(found["loop"], found[name]) for name in recipes}
    assert differ["fp32"] <= EQUAL["gpu" if setting.gpu else "cpu"], differ
    planned = sum(plan_forwards(make_plan(suite)) for suite in suites.values()) * len(timings.seconds["loop"])
    note = (
        f"{MODEL}, {len(METHODS)} methods, {len(sets) - 1} sets of {min(sets.values())} {source()} or a few more, "
        f"{epochs} epochs; largest difference of a label's probability {differ['fp32']:.2g} in fp32, "
        f"{differ['bf16']:.2g} in bf16"
    )
    peer = "loop over runs with ImageFolder and DataLoader, fp32"
    ratios = {name: timings.ratio("loop", name) for name in recipes}
    return [
        shown("P1", "whole sweep, fp32", peer, f"{ratios['fp32']:.3g} ×", note)
        if setting.gpu
        else at_least("P1", "whole sweep, fp32", peer, 1.25, ratios["fp32"], note),
        at_least("P1", "whole sweep, bf16", peer, 6 if setting.gpu else 2.2, ratios["bf16"]),
        Row(
            "P1",
            "images through a net",
            "the plan",
            "equal",
            f"{counted.images:,} of {planned:,}",
            counted.images == planned,
        ),
    ]


def suite_of(folder: Path, sets: Mapping[str, int], recipe: Recipe) -> Suite:
    """The suite for the comparison."""
    downstream = [name for name in sets if name != "reference"]
    row = {"timm": MODEL, "weights": str(folder / "start.safetensors")}
    return parse_suite(
        {
            "name": "bench",
            "reference": "reference",
            "downstream": downstream,
            "models": ["vit"],
            "runs": [{"methods": list(METHODS)}],
            "recipe": recipe.model_dump(exclude_none=True),
            "data": {name: {"folder": str(folder / name)} for name in sets},
            "model": {"vit": row},
            "method": {"ewc": {"samples": SAMPLES}},
        }
    ).based_at(folder)


def cells(suite: Suite, store: Path) -> Cells:
    """The probabilities in a store."""
    plan, kept = make_plan(suite), Store(store)
    found = {}
    for run in plan.runs:
        for name, step in run.predictions:
            column = "masked_label_probability"
            found[run.method, run.tuned_on or "", name] = kept.predictions(step.key, [column])[column].to_numpy()
    return found


def largest(one: Cells, other: Cells) -> float:
    """Largest difference of a probability."""
    return max(float(np.abs(one[cell] - other[cell]).max()) for cell in one)


def plan_forwards(plan: Plan) -> int:
    """The number of images that pass through a net, by the plan."""
    return sum(plan.passes(step).forwards for step in plan.steps)


class Counted:
    """A context manager that counts the images that pass through RIB's nets."""

    def __init__(self) -> None:
        self.images = 0

    def __enter__(self) -> None:
        self._plain = plain = Classifier.prepared

        def prepared(net: Classifier, images: Tensor) -> Tensor:
            self.images += len(images)
            return plain(net, images)

        Classifier.prepared = prepared  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        Classifier.prepared = self._plain  # type: ignore[method-assign]
        self.images += SAMPLES * (len(SETS) - 1)  # the Fisher normalises them once and passes them twice


@dataclass
class Loop:
    """One run per method and set, each with its own evaluation, in fp32.

    It trains on the same images in the same order at the same rates. RIB's function computes its Fisher, and wise_ft
    and soup merge the weights of earlier runs, so these cost it nothing more. The workers of a set's loader stay alive,
    so starting them costs it nothing either.

    Attributes:
        folder: folder of the sets.
        sets: number of images of each set.
        recipe: recipe of every run.
        device: its device.
        workers: number of its decoding processes; 0 to decode in its own process.
        found: its results so far.
    """

    folder: Path
    sets: Mapping[str, int]
    recipe: Recipe
    device: str
    workers: int
    found: Cells = field(default_factory=dict)

    def run(self) -> Cells:
        """Compute every cell."""
        from rib.models.weights import read_weights

        self.start = read_weights(self.folder / "start.safetensors")
        self.normal = build(describe(ModelRow(timm=MODEL), classes=CLASSES)).to(self.device)
        self.loaders: dict[str, Ordered] = {}
        self.evaluate("pretrained", "", self.net(self.start))
        for tuned in self.sets:
            if tuned != "reference":
                self.tune(tuned)
        return self.found

    def tune(self, tuned: str) -> None:
        """Run all methods on one set."""
        made: dict[str, Weights] = {}
        for method in METHODS:
            if method == "wise_ft":
                made[method] = interpolate(self.start, made["finetune"], 0.5)
            elif method == "soup":
                members = [self.start, made["finetune"], made["l2_sp"], made["lwf"]]
                made[method] = {
                    name: torch.stack([weights[name] for weights in members]).mean(dim=0) for name in self.start
                }
            else:
                begin = self.train("linear_probe", tuned, self.start) if method == "lp_ft" else self.start
                made[method] = self.train("finetune" if method == "lp_ft" else method, tuned, begin)
            self.evaluate(method, tuned, self.net(made[method]))

    def net(self, weights: Weights) -> nn.Module:
        """timm's model."""
        import timm

        net: nn.Module = timm.create_model(MODEL, num_classes=CLASSES)
        net.load_state_dict(weights)
        return net.to(self.device)

    def batches(self, name: str, epoch: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels, in the order of an epoch if one is given."""
        if name not in self.loaders:
            self.loaders[name] = self.loader(name)
        order, loader = self.loaders[name]
        count = self.sets[name]
        order[:] = range(count) if epoch is None else named_generator("shuffle", 0, epoch).permutation(count).tolist()
        for images, labels in loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def loader(self, name: str) -> Ordered:
        """The loader of a set."""
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

        view = self.normal.prepare
        assert isinstance(view, Normalise)
        size = int(224 / describe(ModelRow(timm=MODEL), classes=CLASSES).crop)
        transform = Compose(
            [
                Resize(size, InterpolationMode.BICUBIC),
                CenterCrop(224),
                ToTensor(),
                Normalize((view.mean / 255).flatten().tolist(), (view.std / 255).flatten().tolist()),
            ]
        )
        order = list(range(self.sets[name]))
        loader = DataLoader(
            ImageFolder(str(self.folder / name), transform),
            self.recipe.batch_size,
            sampler=order,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device != "cpu",
        )
        return order, loader

    def train(self, method: str, tuned: str, begin: Weights) -> Weights:
        """Train one run."""
        net, teacher = self.net(begin), self.net(self.start).eval()
        head = [value for name, value in net.named_parameters() if name.startswith("head.")]
        fisher = self.fisher(tuned) if method == "ewc" else None
        anchor = {name: value.to(self.device) for name, value in self.start.items()}
        net.train(method != "linear_probe")
        for value in net.parameters():
            value.requires_grad_(method != "linear_probe")
        for value in head:
            value.requires_grad_(True)
        trained = [value for value in net.parameters() if value.requires_grad]
        optimizer = torch.optim.SGD(trained, self.recipe.lr, self.recipe.momentum)
        step, total, seen = 0, self.recipe.total_steps(self.sets[tuned]), 0.0
        for epoch in range(self.recipe.epochs):
            for images, labels in self.batches(tuned, epoch):
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.lr * rate(step, self.recipe.warmup(total), total)
                logits = net(images)
                loss = F.cross_entropy(logits, labels)
                if method in ("l2_sp", "ewc"):
                    for name, value in net.named_parameters():
                        change = (value - anchor[name]).square()
                        loss = loss + (change * fisher[name] if fisher else change).sum()
                if method == "lwf":
                    with torch.no_grad():
                        wanted = (teacher(images) / 2).softmax(dim=1)
                    loss = loss + F.kl_div((logits / 2).log_softmax(dim=1), wanted, reduction="batchmean")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += loss.item()
                step += 1
        return take_weights(net)

    def fisher(self, tuned: str) -> dict[str, Tensor]:
        """The Fisher, as RIB computes it."""
        suite = suite_of(self.folder, self.sets, self.recipe)
        with tempfile.TemporaryDirectory() as place:
            workshop = Workshop(suite, Store(Path(place)), How(device="cpu"), lambda _images, _passes: None)
            plan = make_plan(suite)
            run = next(one for one in plan.runs if one.method == "ewc" and one.tuned_on == tuned)
            assert run.fit.data is not None
            pool = workshop.examples(run.fit.data, run.fit.architecture.view)
            chosen = named_generator("fisher samples", 0).permutation(len(pool))[:SAMPLES]
            self.normal.net.load_state_dict(self.start)
            found = diagonal_fisher(
                self.normal, pool.take(chosen), run.fit.data.label_map, named_seed("fisher labels", 0)
            )
        return normalised(found, 100.0)

    @torch.no_grad()
    def evaluate(self, method: str, tuned: str, net: nn.Module) -> None:
        """Evaluate a net on every set, also on the one that was tuned on."""
        net.eval()
        for name in self.sets:
            chances = []
            for images, labels in self.batches(name):
                logits = net(images)
                chances.append(logits.softmax(dim=1).gather(1, labels[:, None])[:, 0])
            self.found[method, tuned, name] = torch.cat(chances).cpu().numpy()
