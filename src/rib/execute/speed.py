"""Speed: measures this machine for a few seconds per model."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from rib.data.views import View
from rib.execute.run import cores
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.recipe import Recipe
from rib.training.predict import autocast

MEASURED_SECONDS = 1.0
"""Seconds of measurement per kind of pass."""

CPU_BATCH = 8
"""Maximum batch size on a CPU, where time per image hardly depends on it and a large batch takes seconds."""


def find_device(name: str) -> torch.device:
    """The device that a run would use."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def crew(device: torch.device) -> tuple[int, str]:
    """The number of workers of a run, and their devices in words."""
    if device.type == "cuda":
        number = torch.cuda.device_count() if device.index is None else 1
        return number, f"{number} x {torch.cuda.get_device_name(device)}"
    return (cores(), f"{cores()} CPU cores") if device.type == "cpu" else (1, device.type)


def measure(architecture: Architecture, recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """Seconds per image of a forward pass and of a training step, on one device or one CPU core."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        classifier = build(architecture).to(device)
        view = architecture.view
        forward = _seconds(_forward(classifier, recipe, device), view, recipe.eval_batch_size, device)
        training = _seconds(_training(classifier, recipe, device), view, recipe.batch_size, device)
    finally:
        torch.set_num_threads(threads)
    return forward, training


def _forward(classifier: Classifier, recipe: Recipe, device: torch.device) -> Callable[[torch.Tensor], None]:
    classifier.eval()

    def forward(images: torch.Tensor) -> None:
        with torch.inference_mode(), autocast(device, recipe.eval_precision):
            classifier(images)

    return forward


def _training(classifier: Classifier, recipe: Recipe, device: torch.device) -> Callable[[torch.Tensor], None]:
    optimizer = torch.optim.SGD(classifier.net.parameters(), lr=0.0, momentum=0.9, foreach=True)

    def step(images: torch.Tensor) -> None:
        classifier.train()
        labels = torch.zeros(len(images), dtype=torch.int64, device=device)
        with autocast(device, recipe.precision):
            loss = F.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _seconds(work: Callable[[torch.Tensor], None], view: View, batch: int, device: torch.device) -> float:
    """Seconds per image: one batch to warm up, then as many as fit in the time."""
    used = min(batch, CPU_BATCH) if device.type == "cpu" else batch
    images = torch.from_numpy(view.batch(used)).to(device)
    work(images)
    _wait(device)
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < MEASURED_SECONDS:
        work(images)
        _wait(device)
        done += used
    return (time.perf_counter() - began) / done


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
