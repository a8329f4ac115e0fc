"""Small worlds for tests: array files, folder trees, nets of a few hundred parameters, suites that run in a second."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rib.data.examples import Examples, Index
from rib.data.labels import LabelMap
from rib.data.tokens import bytes_view, tokenized
from rib.models.classifier import Classifier, TokenIds
from rib.models.weights import take_weights, write_weights
from rib.plan import Plan
from rib.steps import Embed, Predict, Step
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.suite.suite import Suite

RIB_FILES = ()
"""The nets below rest on no other file: `module_at` is for scripts that write pages."""

PATIENCE = 900
"""Seconds that a test waits for another process before it gives up: a machine under load is no fault."""

Said = tuple[int, str]
"""Exit code of the command, and all that it printed."""

Say = Callable[..., Said]

RIB_FILES = ()
"""The nets of this module read no file: only `module_at`, which no net calls, loads code by its place."""

CLASSES = ("ant", "bee", "cat", "dog")
SIDE = 12
HALF = (0.5, 0.5, 0.5)
VIEW = bytes_view(14)

RESNET = {"build": "rib.models.small:small_resnet", "arguments": {"width": 8}, "size": SIDE}
VIT = {
    "build": "rib.models.small:small_vit",
    "arguments": {"image_size": SIDE, "dim": 12, "depth": 1, "heads": 2},
    "size": SIDE,
}
BATCH_NORM = {"build": "helpers:bn_net", "size": SIDE}
DROPOUT = {"build": "helpers:bn_net", "arguments": {"dropout": 0.3}, "size": SIDE}
TEXT = {
    "build": "rib.models.characters:encoder",
    "arguments": {"dim": 12, "depth": 1, "heads": 2, "length": 14},
    "tokenizer": "bytes",
    "length": 14,
}
CAUSAL = TEXT | {"build": "rib.models.characters:decoder"}
TEXTS = ("text", "causal")
"""Families that read texts."""

FAMILIES = {"resnet": RESNET, "vit": VIT, "batch_norm": BATCH_NORM, "dropout": DROPOUT, "text": TEXT, "causal": CAUSAL}


class BatchNormNet(nn.Module):
    """A convolution with BatchNorm, dropout, a linear head."""

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6 * 9, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)
        logits: Tensor = self.head(self.dropout(x))
        return logits


def bn_net(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """A net of a few hundred parameters with BatchNorm."""
    return BatchNormNet(num_classes, dropout)


def pictures(labels: NDArray[np.int64], seed: int, noise: float = 60.0, side: int = SIDE) -> NDArray[np.uint8]:
    """Images that can be told apart: a bright quarter for each of four classes, under noise."""
    generator = np.random.default_rng(seed)
    images = generator.normal(110, noise, (len(labels), side, side, 3))
    half = side // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label % 4, 2)
        image[row * half : (row + 1) * half, column * half : (column + 1) * half, label % 3] += 70
    return np.clip(images, 0, 255).astype(np.uint8)


def phrases(labels: NDArray[np.int64], seed: int, noise: float = 60.0) -> list[str]:
    """Texts that can be told apart: the letters of four classes, some of them replaced, 5 to 11 of them."""
    generator = np.random.default_rng(seed)
    letters = np.array([list("aei"), list("bdg"), list("loy"), list("rst")])
    found = []
    for label in labels.tolist():
        own = letters[label % 4, generator.integers(3, size=generator.integers(5, 12))]
        other = letters.reshape(-1)[generator.integers(12, size=len(own))]
        found.append("".join(np.where(generator.random(len(own)) < noise / 150, other, own)))
    return found


def write_texts(
    file: Path, seed: int, classes: Sequence[str] = CLASSES, per_class: int = 12, noise: float = 60.0
) -> Path:
    """A table of `phrases`, as `write_arrays` writes pictures."""
    labels = np.tile(np.arange(len(classes)), per_class)
    shown = np.array([CLASSES.index(name) for name in classes])[labels]
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(phrases(shown, seed, noise), labels.tolist(), strict=True)
    lines = [json.dumps({"text": text, "label": classes[label]}) for text, label in rows]
    file.write_text("\n".join(lines), "utf-8")
    return file


ODD_SHAPES = [(96, 96), (64, 48), (47, 90), (7, 5), (1, 9), (200, 3), (48, 48)]


def odd_images() -> list[Image.Image]:
    """Noise of odd, tiny and elongated shapes, one of them grey."""
    drawn = [
        Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
        for width, height in ODD_SHAPES
    ]
    return [*drawn, drawn[1].convert("L").convert("RGB")]


def write_arrays(
    file: Path, seed: int, classes: Sequence[str] = CLASSES, per_class: int = 12, noise: float = 60.0
) -> Path:
    """An .npz data set of `pictures`; class names keep their quarter in every set."""
    labels = np.tile(np.arange(len(classes)), per_class)
    shown = np.array([CLASSES.index(name) for name in classes])[labels]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, images=pictures(shown, seed, noise), labels=labels, classes=np.array(classes))
    return file


def write_tree(root: Path, classes: Sequence[str] = CLASSES, per_class: int = 3, seed: int = 0) -> Path:
    """A folder tree of PNG files."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pictures(np.full(per_class, label), seed + label)):
            Image.fromarray(image).save(root / name / f"{number}.png")
    return root


SETS: Mapping[str, tuple[tuple[str, ...], int, float]] = {
    "clean": (CLASSES, 1, 40.0),
    "whole": (CLASSES, 2, 70.0),
    "part": (("dog", "bee", "ant"), 3, 80.0),
    "other": (CLASSES, 4, 90.0),
}
"""Name: classes, seed, noise. `part` has fewer classes than the models and in another order: it is masked."""


def world(folder: Path, per_class: int = 12, texts: bool = False) -> dict[str, dict[str, Any]]:
    """The data rows of a suite, of pictures or of texts, their files written into `folder`."""
    rows: dict[str, dict[str, Any]] = {}
    if texts:
        for name, (classes, seed, noise) in SETS.items():
            write_texts(folder / f"{name}.jsonl", seed, classes, per_class, noise)
            rows[name] = {"text": f"{name}.jsonl", "test_fraction": 0.5, "classes": list(classes)}
        return rows
    for name, (classes, seed, noise) in SETS.items():
        write_arrays(folder / f"{name}.npz", seed, classes, per_class, noise)
        rows[name] = {"arrays": f"{name}.npz", "test_fraction": 0.5}
    return rows


def model_row(folder: Path, family: str, seed: int = 0, classes: int = len(CLASSES)) -> dict[str, Any]:
    """A model with random weights in a local file."""
    row = dict(FAMILIES[family])
    net = classifier(family, seed, classes).net
    write_weights(folder / f"{family}-{seed}.safetensors", take_weights(net))
    return row | {"weights": f"{family}-{seed}.safetensors"}


def classifier(family: str, seed: int = 0, classes: int = len(CLASSES)) -> Classifier:
    """A net of a family with random weights; BatchNorm statistics are not the initial ones."""
    from rib.identity import import_object

    row = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = import_object(str(row["build"]), "model")(num_classes=classes, **row.get("arguments", {}))
        for name, buffer in net.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + (0.5 if "var" in name else 0.0))
    return Classifier(net, classes, HALF, HALF, prepare=TokenIds(VIEW.blank) if family in TEXTS else None)


def document(folder: Path, models: Sequence[str] = ("resnet",), per_class: int = 12, **fields: Any) -> dict[str, Any]:
    """A suite as TOML would give it, with its data and weights written into `folder`."""
    base: dict[str, Any] = {
        "name": "tiny",
        "reference": "clean",
        "downstream": ["whole", "part"],
        "models": list(models),
        "runs": [{"methods": ["finetune"]}],
        "held_out": 0.25,
        "recipe": {"epochs": 2, "batch_size": 5, "lr": 0.01, "warmup_steps": 3},
        "data": world(folder, per_class, texts=bool({*models} & {*TEXTS})),
        "model": {family: model_row(folder, family) for family in models},
    }
    return base | fields


def tiny(folder: Path, models: Sequence[str] = ("resnet",), **fields: Any) -> Suite:
    """A suite of `document`, ready to run."""
    return parse_suite(document(folder, models, **fields)).based_at(folder)


def toml(values: Mapping[str, Any]) -> str:
    """A document as TOML text: tables inline where they are nested in lists or deep."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {_inline(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{_inline(str(key))} = {_inline(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(str(key))} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return repr(value)


def examples(count: int = 23, classes: int = 4, seed: int = 0, side: int = SIDE, family: str = "") -> Examples:
    """Examples in memory as a family takes them, with labels 0 … classes - 1."""
    labels = np.arange(count, dtype=np.int64) % classes
    if family in TEXTS:
        return Examples.whole(tokenized(VIEW, phrases(labels, seed)), Index(labels, np.arange(count)))
    return Examples.whole(pictures(labels, seed, side=side), Index(labels, np.arange(count)))


WHOLE = LabelMap("whole", ((0,), (1,), (2,), (3,)), 4)
PART = LabelMap("part", ((3,), (1,), (0,)), 4)


def command(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `rib` to its end in another process, with this folder's modules importable."""
    return subprocess.run(
        [sys.executable, "-m", "rib", *map(str, words)],
        cwd=cwd,
        env=surroundings() | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def surroundings() -> dict[str, str]:
    """The environment of a `rib` process."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1"}


def same_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same(plan: Plan, store: Path, expected: Path) -> None:
    """Values, weights and predictions of every step that was asked for are equal bit for bit."""
    mine, theirs = Store(store), Store(expected)
    for step in plan.steps:
        if not isinstance(step, Embed):  # made where several steps to do read it
            assert not (found := difference(step, mine, theirs)), f"{step.title}: {found}"


def difference(step: Step, mine: Store, theirs: Store, trimmed: bool = False) -> str:
    """In what a step of one store is not, bit for bit, as in another; "" where it is.

    Args:
        step: the step.
        mine: the store that is looked at.
        theirs: a store that has everything.
        trimmed: whether weights may be gone.
    """
    a, b = mine.record(step.key), theirs.record(step.key)
    assert b is not None
    if a is None:
        return "not done"
    if a.values != b.values:
        return "values"
    if isinstance(step, Predict):
        return "" if mine.predictions(step.key).equals(theirs.predictions(step.key)) else "predictions"
    if not step.keeps_weights or (trimmed and not mine.has_weights(step.key)):
        return ""
    return "" if same_weights(mine.weights(step.key), theirs.weights(step.key)) else "weights"


def start(file: Path, store: Path, *words: str) -> subprocess.Popen[str]:
    """`rib run`, leading its own process group, and heeding interrupts even where these tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "rib", "run", str(file), "--store", str(store), *words],
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = PATIENCE) -> None:
    """Wait while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def module_at(file: Path) -> ModuleType:
    """A script as a module, such as those below docs/ that write pages."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
