"""Methods: numbers of the suite of all methods for docs/findings.md, copied from its report.

rib run digits-methods --json > methods.json
python -m soak.methods methods.json            keeps the numbers and writes the page
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soak.findings import KEPT, rounded, write


def kept(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the report that the page needs: tuned rows, their place at matched gain, and merges."""
    matched = {(row["model"], row["method"]): row for row in report["matched_gain"]}
    rows = [
        {name: row[name] for name in ("model", "method")}
        | {name: rounded(row[name]) for name in ("mri", "gain", "reference_after")}
        | _at_matched_gain(matched.get((row["model"], row["method"])))
        for row in report["summaries"]
        if row["method"] != "pretrained"
    ]
    merges = [
        {name: row[name] for name in ("model", "method")}
        | {name: rounded(row[name]) for name in ("mri", "against_singles", "gain")}
        for row in report["merges"]
    ]
    return {"rows": rows, "merges": merges}


def _at_matched_gain(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"reach": "", "there": None}
    return {"reach": row["reach"], "there": rounded(row["against_finetune"])}


def main(words: Sequence[str]) -> None:
    """Copy the numbers of a report, and write the page."""
    (path,) = words
    found = kept(json.loads(Path(path).read_text("utf-8")))
    write(json.loads(KEPT.read_text("utf-8")) | {"methods": found})


if __name__ == "__main__":
    main(sys.argv[1:])
