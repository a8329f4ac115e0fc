"""P4: a step of every training method, compared with a step of plain fine-tuning."""

from __future__ import annotations

import statistics
from dataclasses import replace

import torch

from bench.base import Marks, Row, Setting, at_most, one_thread
from bench.p5_step import CLASSES, WHOLE, noise
from rib.methods import METHODS, Method, Task
from rib.methods.ewc import EWC
from rib.methods.peft_tuning import Peft
from rib.models.build import build
from rib.models.catalogue import Architecture, ModelRow
from rib.models.describe import describe
from rib.models.text_side import ClassVectors
from rib.models.weights import Weights, take_weights
from rib.recipe import Recipe
from rib.training.predict import collect

GOALS = {
    **{"lwf": 1.03, "ewc": 1.03, "l2_sp": 1.03, "lora": 0.78, "linear_probe": 0.005},
    **{"ema": 1.1, "swa": 1.1, "spd": 1.15, "ftp": 1.2, "digrap": 1.2, "wma_teacher": 1.5},
    **{"bitfit": 0.85, "norm_tuning": 0.85, "llrd": 1.05, "surgical": 1.05, "ldifs": 1.1, "sam": 2.1, "asam": 2.1},
    **{"replay": 1.2, "adapter": 0.9, "vpt": 1.1, "side_tuning": 1.5, "progressive": 1.6},
    **{
        "car_ft": 1.03,
        "lipsum_ft": 1.03,
        "flyp": 1.03,
        "curriculum": 1.03,
        "lp_ft": 1.03,
        "stopped": 1.03,
        "peft": 0.9,
    },
}
"""Maximum time of a step, in steps of plain fine-tuning."""

LIMITS = {
    "lora": (
        "a step of LoRA still has the whole forward pass and the backward pass of activations; only the weights' "
        "gradients are saved, a third of the work, and the adapters' own products come on top"
    )
}
"""What keeps a method from its goal."""


def measure(setting: Setting) -> list[Row]:
    """Measure steps within `Method.fit`; its work before the first step is not counted."""
    with one_thread():
        return _measured(setting)


def _measured(setting: Setting) -> list[Row]:
    batch, steps = (64, 20) if setting.gpu else (8, 3 if setting.quick else 4)
    architecture = describe(ModelRow(timm=setting.model), classes=CLASSES)
    recipe = Recipe(epochs=1, batch_size=batch, eval_batch_size=batch, precision=setting.precision)
    start = take_weights(build(architecture).net)
    task = task_of(architecture, recipe, batch * steps, setting.device)
    own: dict[str, Method] = {
        "ewc": EWC(samples=4),
        "peft": Peft(layers=("qkv",)),
    }  # few for the Fisher, which is computed before the first step
    methods = {name: own.get(name) or METHODS.find(name)() for name in ("finetune", *GOALS)}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(1 + setting.repeats(3)):
        for method, value in methods.items():
            net = value.extend(architecture)
            extended = net if net.extension else None
            taken = step_seconds(value, start, replace(task, extended=extended), setting)
            if turn:
                seconds[method].append(taken)
    rows = []
    for method, goal in GOALS.items():
        pairs = zip(seconds[method], seconds["finetune"], strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        goal = 1.05 if setting.gpu and goal > 1 else goal
        peer, limit = "step of plain fine-tuning", LIMITS.get(method, "")
        rows.append(at_most("P4", f"step of {method}", peer, goal, ratio, limit=limit))
    plain = 1e3 * statistics.median(seconds["finetune"])
    return [
        *rows[:-1],
        replace(rows[-1], note=f"{setting.model}, batches of {batch}, {recipe.precision}: plain step {plain:.0f} ms"),
    ]


def task_of(architecture: Architecture, recipe: Recipe, images: int, device: str) -> Task:
    """A tuning set of noise, with the pretrained model's features in memory, as in a sweep."""
    data = noise(images, architecture.size)
    classifier = build(architecture).to(device)
    return Task(
        architecture=architecture,
        tuning=data,
        held_out=data.take(data.rows[:0]),
        label_map=WHOLE,
        recipe=recipe,
        seed=0,
        device=torch.device(device),
        watch=lambda _: None,
        checkpoint=None,
        note=lambda _name, _value: None,
        reference=data,
        reference_map=WHOLE,
        known=collect(classifier, classifier.features, data, recipe.eval_batch_size),
        texts=ClassVectors(torch.randn(CLASSES, classifier.width, device=device), 14.0),
    )


def step_seconds(method: Method, start: Weights, task: Task, setting: Setting) -> float:
    """Seconds of a step after the first one: the median; on a GPU the mean between the ends of the first and the
    last step."""
    marks = Marks(setting)
    method.fit(start, replace(task, watch=marks.watch), ())
    return (statistics.fmean if setting.gpu else statistics.median)(marks.spans())
