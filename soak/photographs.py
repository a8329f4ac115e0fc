"""Photographs: numbers of real pictures for docs/findings.md, copied from the reports of their suites.

rib run photos-rates --data DIR --json > rates.json
rib run photos-settings --data DIR --json > settings.json
rib run photos --data DIR --json > photos.json
rib run photos-folded --data DIR --json > folded.json
rib study photos size methods rate similarity distance forgetting --data DIR --json > answers.json
rib run SHORT.toml --data DIR --json > short-8.json          a suite of sizes with short last batches; several files
python -m soak.photographs rates.json photos.json answers.json …      any of the files, in any order
python -m soak.findings                                               writes the page

A part of the numbers stays as it was if none of the files has it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rib.files import json_text
from soak.findings import KEPT, rounded, stripped

SPANS = ("mri", "gain", "own_before", "own_after", "reference_before", "reference_after", "against_finetune")
HELD_OUT = "held_out_accuracy_at_"


def photographs(documents: Sequence[Any]) -> dict[str, Any]:
    """The numbers that the page needs of each document, with three decimals.

    Args:
        documents: reports of suites, as `rib run --json` writes them, and lists of answers of `rib study --json`.
    """
    found: dict[str, Any] = {}
    short = []
    for document in documents:
        if isinstance(document, list):
            found["answers"] = stripped(document)
        elif document["suite"] == "photos":
            found |= {"methods": rows(document), "statistics": splits(document)}
        elif document["suite"] == "photos-rates":
            found["held_out"] = held_out(document)
        elif document["suite"] == "photos-settings":
            found["settings"] = settings(document)
        elif document["suite"] == "photos-folded":
            found["folded"] = {
                model: rows({"summaries": [row for row in document["summaries"] if row["model"] == model]})
                for model in dict.fromkeys(row["model"] for row in document["summaries"])
            }
        else:
            short.append(document)
    return found | ({"short": short_batches(short)} if short else {})


def rows(report: Mapping[str, Any]) -> dict[str, Any]:
    """The tuned rows of a report by method."""
    return {
        row["method"]: {name: rounded(row[name]) for name in SPANS if row.get(name)}
        for row in report["summaries"]
        if row["method"] != "pretrained"
    }


def held_out(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Mean held-out accuracy in percent by method and learning rate, over data sets and seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for note in report["notes"]:
        for name, accuracy in note["values"].items():
            if name.startswith(HELD_OUT):
                by_rate = found.setdefault(note["method"], {})
                by_rate.setdefault(name.removeprefix(HELD_OUT), []).append(accuracy)
    return {
        method: {rate: round(float(np.mean(values)), 3) for rate, values in by_rate.items()}
        for method, by_rate in found.items()
    }


def settings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Held-out accuracy in percent by data set at every setting and learning rate, means over seeds."""
    found: dict[tuple[str, str, int, str], dict[str, list[float]]] = {}
    for note in report["notes"]:
        for name, accuracy in note["values"].items():
            if name.startswith(HELD_OUT):
                rate = name.removeprefix(HELD_OUT).removeprefix("lr=")
                place = note["model"], note["method"], note["size"], rate
                found.setdefault(place, {}).setdefault(note["tuned_on"], []).append(accuracy)
    return [
        {"model": model, "method": method, "size": size, "rate": rate}
        | {"sets": {name: round(float(np.mean(values)), 3) for name, values in sets.items()}}
        for (model, method, size, rate), sets in found.items()
    ]


def splits(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Change of accuracy and its shares in points, and accuracy at the corners, by test set."""
    parts = ("change", "of_weights", "of_statistics")
    return {
        split["tested_on"]: {part: round(split[part]["value"], 3) for part in parts}
        | {corner: round(span["value"], 3) for corner, span in split["corners"].items()}
        for split in report["inside"]["statistics"]
        if split["method"] == "finetune"
    }


def short_batches(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Accuracy on unseen pictures of the tuned sets, in percent, for every report, by suite and size."""
    found: dict[str, dict[str, list[float]]] = {}
    for report in reports:
        name = report["suite"].rpartition("-s")[0] or report["suite"]
        for row in report["summaries"]:
            if row["method"] == "finetune":
                accuracies = found.setdefault(name, {}).setdefault(str(row["size"]), [])
                accuracies.append(round(row["own_after"]["value"], 3))
    return found


def main(words: Sequence[str]) -> None:
    """Write the numbers into soak/findings.json."""
    documents = [json.loads(Path(path).read_text("utf-8")) for path in words]
    kept = json.loads(KEPT.read_text("utf-8"))
    kept["photos"] = kept["photos"] | photographs(documents)
    KEPT.write_text(json_text(kept, None) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
