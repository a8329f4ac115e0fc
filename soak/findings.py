"""Findings: every number and verdict of docs/findings.md as Markdown, from `rib study all --json`.

rib study all --store STORE --json > answers.json
python -m soak.findings answers.json              and which verdicts changed: those of the page are in VERDICTS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

VERDICTS: Mapping[str, Mapping[str, str]] = {
    "size": {"resnet": "reversed", "vit": "not shown"},
    "pretraining": {"resnet": "not shown", "vit": "reversed"},
    "map": {"resnet": "not shown", "vit": "not shown"},
    "objective": {"resnet": "not shown"},
    "rate": {"resnet": "not shown", "vit": "not shown"},
    "methods": {"resnet": "shown", "vit": "not shown"},
    "curriculum": {"resnet": "reversed", "vit": "reversed"},
    "similarity": {"resnet": "not shown", "vit": "not shown"},
    "distance": {"resnet": "not shown", "vit": "not shown"},
    "forgetting": {"resnet": "shown", "vit": "shown"},
}
"""Verdict on each family of the page that is being replaced: intervals of a bootstrap, one contrast at a time."""

CONTRASTS: Mapping[tuple[str, str, str], str] = {
    ("objective", "resnet", "unicl minus"): "shown",
    ("rate", "resnet", "largest minus smallest"): "reversed",
    ("rate", "vit", "largest minus smallest"): "reversed",
    ("distance", "resnet", "frechet"): "shown",
    ("distance", "resnet", "mmd"): "shown",
    ("distance", "vit", "frechet"): "shown",
    ("distance", "vit", "mmd"): "shown",
    ("similarity", "resnet", "correlation"): "shown",
    ("similarity", "vit", "correlation"): "shown",
}
"""Likewise of the contrasts that stood near 0, or whose test is another one now: study, family, a part of the words."""


def tables(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A section for each study, in Markdown."""
    for answer in answers:
        yield f"## {answer['study']}: {answer['question']}"
        yield ""
        yield f"**{answer['verdict'].capitalize()}.** " + " ".join(filter(None, [answer.get("power", "")]))
        yield ""
        yield "| family | contrast | claimed | | p (of its family) | verdict |"
        yield "|---|---|---|---|---|---|"
        for one in answer["contrasts"]:
            span = one["interval"]
            number = f"{span['value']:+.1f} [{span['low']:+.1f}, {span['high']:+.1f}]" if span else "missing"
            p = _p(span)
            yield f"| {one['family']} | {one['says']} | {one['claimed']} | {number} | {p} | {one['verdict']} |"
        yield ""
        yield from (f"- {text}" for text in (*answer["notes"], *answer["missing"]))
        yield ""


def _p(span: Mapping[str, Any] | None) -> str:
    if not span or span.get("p") is None:
        return ""
    adjusted = span.get("adjusted")
    return f"{span['p']:.3f}" + (f" ({adjusted:.3f})" if adjusted is not None else "")


def changes(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The verdicts that are others than those of the page, one line each."""
    found = []
    for answer in answers:
        study = answer["study"]
        for family, before in VERDICTS.get(study, {}).items():
            now = answer["families"].get(family, "incomplete")
            if now != before:
                found.append(f"{study}, {family}: {before}, now {now}")
        for (name, family, words), before in CONTRASTS.items():
            for one in answer["contrasts"] if name == study else ():
                if one["family"] == family and words in one["says"].lower() and one["verdict"] != before:
                    found.append(f"{study}, {family}, {one['says']}: {before}, now {one['verdict']}")
    return found


def main() -> None:
    """Print everything."""
    answers = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    print("\n".join(tables(answers)))
    print("## Verdicts that changed\n")
    print("\n".join(f"- {line}" for line in changes(answers)) or "None.")


if __name__ == "__main__":
    main()
