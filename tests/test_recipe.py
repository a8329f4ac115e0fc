"""docs/recipe.md is complete: a plain loop written from it alone gives the losses and weights that RIB gives."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rib
from helpers import CLASSES, SIDE, classifier, document
from rib.data.views import Pixels
from rib.models.weights import read_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import parse_suite

HELD_OUT, SIZE, SEED = 0.25, 21, 3
PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"


def generator(*names: object) -> np.random.Generator:
    text = "/".join(str(name) for name in names)
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def tuning_set(labels: Any, sources: Any) -> Any:
    """Rows of the pool, as "Which images" says."""
    held, draw = set(), generator("held out", 0)
    for label in sorted(set(labels.tolist())):
        own = np.array(sorted(set(sources[labels == label].tolist())))
        count = min(max(1, round(HELD_OUT * len(own))), len(own) - 1)
        held |= set(draw.permutation(own)[:count].tolist())
    left = np.array([row for row in range(len(labels)) if sources[row] not in held])
    own, draw = labels[left], generator("tuning set", SEED)
    shuffled = draw.permutation(len(left)).tolist()
    turn = draw.permutation(int(own.max()) + 1)
    rank = {row: sum(own[other] == own[row] for other in shuffled[:place]) for place, row in enumerate(shuffled)}
    order = sorted(range(len(left)), key=lambda row: (rank[row], turn[own[row]]))
    return left[order[:SIZE]]


def plain_loop(
    net: nn.Module, images: Tensor, labels: Tensor, outputs: list[int], recipe: dict[str, Any]
) -> list[float]:
    """Train in place; the mean loss of every epoch."""
    optimizer = (
        torch.optim.AdamW(net.parameters(), weight_decay=recipe["weight_decay"], fused=True)
        if recipe.get("optimizer") == "adamw"
        else torch.optim.SGD(
            net.parameters(), lr=1.0, momentum=recipe["momentum"], weight_decay=recipe["weight_decay"], fused=True
        )
    )
    size, n = recipe["batch_size"], len(labels)
    sizes = [size] * (n // size) + [n % size] * (n % size > 0)
    learns = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    last = recipe.get("last_batch", "merged" if learns else "kept")
    if last == "dropped" and n % size and len(sizes) > 1:
        sizes.pop()
    elif last == "merged" and 2 * (n % size) < size and n % size and len(sizes) > 1:
        sizes[-2:] = [size + n % size]
    per_epoch = len(sizes)
    total = recipe.get("steps") or recipe["epochs"] * per_epoch
    warmup = max(recipe["warmup_steps"], round(recipe["warmup_fraction"] * total))
    net.train()
    losses, step, epoch = [], 0, 0
    while step < total:
        torch.manual_seed(int(generator("torch state", SEED, epoch).integers(2**63)))
        order, told, seen = torch.from_numpy(generator("shuffle", SEED, epoch).permutation(n)), 0.0, 0
        for rows in order.split(sizes)[: total - step]:
            factor = (
                (step + 1) / warmup
                if step < warmup
                else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
            )
            optimizer.param_groups[0]["lr"] = recipe["lr"] * factor
            loss = nn.functional.cross_entropy(
                net(images[rows])[:, outputs], labels[rows], label_smoothing=recipe["label_smoothing"]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told, seen, step = told + float(loss.detach()) * len(rows), seen + len(rows), step + 1
        losses.append(told / seen)
        epoch += 1
    return losses


SGD = {"epochs": 3, "batch_size": 8, "lr": 0.02, "momentum": 0.8, "weight_decay": 0.01, "warmup_steps": 2}
PLAIN = {"warmup_fraction": 0.0, "label_smoothing": 0.0}
CASES = {
    "sgd": SGD | {"warmup_fraction": 0.0, "label_smoothing": 0.1},
    "sgd of so many steps": SGD | {"steps": 8, "warmup_fraction": 0.5, "label_smoothing": 0.0},
    "one image left over": SGD | {"batch_size": 5, **PLAIN},
    "a last batch of two, merged": SGD | {"batch_size": 7, "last_batch": "merged", **PLAIN},
    "a last batch of five, not merged": SGD | {"batch_size": 11, "last_batch": "merged", **PLAIN},
    "a last batch of two, dropped": SGD | {"batch_size": 7, "last_batch": "dropped", **PLAIN},
    "adamw": SGD | {"optimizer": "adamw", "lr": 0.003, "warmup_fraction": 0.0, "label_smoothing": 0.0},
}


@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("case", CASES)
def test_a_plain_loop_from_the_page_gives_the_same_losses_and_weights(case: str, family: str, tmp_path: Path) -> None:
    recipe = CASES[case]
    runs = [{"methods": ["finetune"], "sizes": [SIZE], "downstream": ["part"], "seeds": [SEED]}]
    suite = parse_suite(
        document(tmp_path, models=[family], per_class=24, held_out=HELD_OUT, runs=runs, recipe=recipe)
    ).based_at(tmp_path)
    store = Store(tmp_path / "store")
    rib.run(suite, store=store.root, how=How(workers=1, device="cpu"))
    plan = make_plan(suite)
    fit = next(run.fit for run in plan.runs if run.method == "finetune")
    data = plan.world["part"]
    index = data.index("tune")
    rows = tuning_set(index.labels, index.sources)
    pixels = torch.from_numpy(data.read("tune", rows, Pixels(SIDE, 1.0, "bicubic"))).float()
    mean, std = (torch.tensor(value) for value in (fit.architecture.mean, fit.architecture.std))
    images = ((pixels - 255 * mean) / (255 * std)).permute(0, 3, 1, 2)
    net = classifier(family).net
    net.load_state_dict(read_weights(tmp_path / f"{family}-0.safetensors"))
    outputs = [CLASSES.index(name) for name in data.classes]
    losses = plain_loop(net, images, torch.from_numpy(index.labels[rows]), outputs, recipe)
    record = store.record(fit.key)
    assert record
    assert record.values["first_loss"] == pytest.approx(losses[0], abs=1e-6)
    assert record.values["last_loss"] == pytest.approx(losses[-1], abs=1e-6)
    assert losses[-1] != pytest.approx(losses[0], abs=1e-3), "it learned something"
    found = store.weights(fit.key)
    for name, value in net.state_dict().items():
        assert torch.allclose(found[name].double(), value.double(), atol=1e-6), name


def test_the_table_has_every_field_with_its_default() -> None:
    table = PAGE.read_text("utf-8").partition("## The fields")[2]
    rows = {}
    for line in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        names, defaults = re.findall(r"`(\w+)`", line[0]), line[1].replace("`", "").split(", ")
        rows |= dict(zip(names, defaults, strict=True))
    assert set(rows) == set(Recipe.model_fields)
    for name, field in Recipe.model_fields.items():
        said = (
            "none"
            if field.default is None
            else f"{field.default:g}"
            if isinstance(field.default, float)
            else str(field.default)
        )
        assert rows[name] == said, name
