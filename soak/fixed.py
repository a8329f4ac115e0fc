"""Fixed: the cost of a step besides its forward and backward passes: lease, record, files, weights, and scoring of
logits.

Nets of a few hundred parameters run many steps on a few images. Weights of the size of a ViT-B/16 are written and read.
Logits of ImageNet's size are scored and stored.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers import tiny
from rib.data.labels import LabelMap
from rib.execute.run import execute
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.models.weights import take_weights
from rib.plan import make_plan
from rib.steps import How, Predict
from rib.store.record import pack_bits
from rib.store.store import Store
from rib.training.predict import Predictions, joined, judge

NET = ModelRow.model_validate({"timm": "vit_base_patch16_224"})


def main(words: Sequence[str]) -> int:
    """Print medians."""
    parser = argparse.ArgumentParser(prog="python -m soak fixed", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        near_empty(Path(folder) / "steps")
        of_weights(Path(folder) / "weights", options.repeats)
        of_predictions(Path(folder) / "predictions", options.repeats)
    return 0


def near_empty(folder: Path) -> None:
    """Seconds per step of a sweep with almost no computation, in one process."""
    folder.mkdir()
    suite = tiny(folder, per_class=4, runs=[{"methods": ["finetune", "l2_sp", "wise_ft", "soup"]}], seeds=range(40))
    store = Store(folder / "store")
    plan = make_plan(suite, store.facts)
    began = time.perf_counter()
    outcome = execute(plan, store, How(workers=1, device="cpu"))
    seconds = time.perf_counter() - began
    assert not outcome.failed
    records = {key: record for key in sorted(store.keys()) if (record := store.record(key))}
    within = sum(record.seconds for record in records.values())
    kinds = Counter(record.kind for record in records.values())
    print(f"{outcome.done} steps {dict(kinds)}: {seconds / outcome.done * 1000:.2f} ms a step, all in")
    print(f"  outside of steps {(seconds - within) / outcome.done * 1000:.2f} ms")
    for kind in kinds:
        middle = statistics.median(record.seconds for record in records.values() if record.kind == kind)
        print(f"  {kind}: median {middle * 1000:.2f} ms")


def median(work: Callable[[int], object], repeats: int) -> float:
    """Median seconds of a function."""
    taken = []
    for number in range(repeats):
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def of_weights(folder: Path, repeats: int) -> None:
    """Time writing, sealing and syncing weights; reading them with their digest; and building the net."""
    architecture = describe(NET, 1000, folder)
    weights = take_weights(build(architecture).net)
    store = Store(folder)
    count = sum(value.numel() for value in weights.values())
    keys = [f"{number:040x}" for number in range(repeats)]

    def write(number: int) -> None:
        store.write_weights(keys[number], weights)
        store._sync(keys[number], ["weights"])

    def load(number: int) -> None:
        net = build(architecture).net
        net.load_state_dict(store.weights(keys[number]))

    wrote, read = median(write, repeats), median(load, repeats)
    print(f"{count:,} parameters: written, sealed, synced {wrote:.2f} s; net built and filled {read:.2f} s")


def of_predictions(folder: Path, repeats: int) -> None:
    """Time scoring the logits of 50,000 images, and storing the predictions."""
    count = 50_000
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 1000, generator=generator)
    labels = torch.arange(count) % 1000
    labels_map = LabelMap("identity", tuple((index,) for index in range(1000)), 1000)
    store = Store(folder)
    folder.mkdir()
    suite = tiny(folder)
    step = next(step for step in make_plan(suite, None).steps if isinstance(step, Predict))

    def one(number: int) -> Predictions:
        pieces = (
            judge(some, labels[at : at + 1024], labels_map)
            for at, some in zip(range(0, count, 1024), logits.split(1024), strict=True)
        )
        return joined(pieces, count)

    said = one(0)
    columns = {"index": np.arange(count), "label": labels.numpy()}

    def keep(number: int) -> None:
        store.write_predictions(step.key, said, columns)
        pack_bits(said.masked_right)

    judged, kept = median(one, repeats), median(keep, repeats)
    print(f"{count:,} predictions of 1,000 classes: judged {judged:.2f} s, kept {kept:.3f} s")
