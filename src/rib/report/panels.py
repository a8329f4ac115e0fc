"""Panels: the page's figures of analyses, as JSON types, and the list of panels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rib.analysis.effective import probit
from rib.report.page_json import five_digits, page_json
from rib.results.inside import Inside
from rib.text.wording import IMAGES, about

TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)
"""Percentages that may label a probit axis."""

OPEN = 4
"""Number of panels that are open at first."""


@dataclass(frozen=True)
class Panel:
    """A figure of one kind.

    Attributes:
        name: name of its entries in the data, and of the JavaScript function that draws an entry.
        title: title of the panel.
        pickers: fields of the entries by which a reader chooses one, in order.
        note: how to read the figure, in one or two sentences.
        legend: whether a reader can hide lines by their names.
    """

    name: str
    title: str
    pickers: tuple[str, ...]
    note: str
    legend: bool = True


PANELS = (
    Panel(
        "cka",
        "How similar every layer stayed (CKA)",
        ("analysis", "on", "model", "size", "tuned_on"),
        "1: the same features up to rotation and scale; near 0: unrelated ones. Lines: mean over the sets tuned on and "
        "seeds; bars: lowest and highest of them.",
    ),
    Panel(
        "square",
        "Which layers before and after are similar (CKA)",
        ("analysis", "on", "model", "method", "size", "tuned_on"),
        "1 on the diagonal: every layer still does what it did. Mean over the sets tuned on and seeds.",
        legend=False,
    ),
    Panel(
        "drift",
        "How far the weights moved",
        ("analysis", "what", "model", "size", "tuned_on"),
        "‖θ₁ − θ₀‖ / ‖θ₀‖. Bars: lowest and highest over the sets tuned on and seeds.",
    ),
    Panel(
        "distances",
        "Does distance between data sets predict the loss?",
        ("lost_on", "analysis", "measure", "model", "method", "size"),
        "One mark per pair of tuned set and test set. Distances in the pretrained model’s features; symbols: the tuned "
        "set. p and [ ] come from permuting the data sets, as pairs that share a set are not independent.",
    ),
    Panel(
        "effective",
        "Accuracy beyond the value that the reference accuracy predicts",
        ("source", "tested_on", "size"),
        "Probit axes. Above the line: more robust than models of that reference accuracy. Lines join a pretrained "
        "model and its tuned models; symbols distinguish models.",
    ),
    Panel(
        "calibration",
        "Calibration before and after",
        ("score", "tested_on", "model", "size"),
        "Less is better. Bars: lowest and highest over the sets tuned on and seeds.",
    ),
    Panel(
        "churn",
        "Answers that became wrong, and right",
        ("tested_on", "model", "size"),
        "Share of test images, with 95 % intervals; right minus left is the change of accuracy.",
        legend=False,
    ),
    Panel(
        "forgetting",
        "Is it the head, or the features?",
        ("analysis", "tested_on", "model", "size"),
        "Change of accuracy with only the new head, only the new features, both; and of a newly fitted head, which "
        "shows whether the features still contain what the old head can no longer read.",
    ),
    Panel(
        "statistics",
        "Is it the weights, or BatchNorm’s running statistics?",
        ("analysis", "tested_on", "model", "size"),
        "Change of accuracy, and the shares of weights and of running statistics in it, which add up to it. Hover for "
        "the accuracy with each of them before or after tuning. Bars: lowest and highest over sets tuned on and seeds.",
    ),
    Panel(
        "connectivity",
        "Accuracy on the straight line from the pretrained to the tuned weights",
        ("analysis", "on", "model", "size", "tuned_on"),
        "A dip below the chord is a barrier. Bars: lowest and highest over the sets tuned on and seeds.",
    ),
)

_OF_PROFILES = {"cka": ("CKA",), "connectivity": ("accuracy on the way",)}
_DRIFT = {"drift by group": "by depth", "drift by layer": "by layer", "drift by kind": "by kind of layer"}


def panel_data(found: Inside) -> dict[str, Any]:
    """Entries of every panel by the panel's name, and the ticks of probit axes."""
    drawn = {
        name: [profile for profile in found.profiles if profile.what in whats] for name, whats in _OF_PROFILES.items()
    }
    drifts = [page_json(profile) for what in _DRIFT for profile in found.profiles if profile.what == what]
    return {
        **{name: page_json(entries) for name, entries in drawn.items()},
        "square": page_json(found.squares),
        "drift": [entry | {"what": _DRIFT[entry["what"]]} for entry in drifts],
        "distances": page_json([one for one in found.distances if one.pairs]),
        "effective": [_on_probits(entry) for entry in page_json(found.effective)],
        "calibration": page_json(found.calibration),
        "churn": page_json(found.churn),
        "forgetting": page_json(found.forgetting),
        "statistics": page_json(found.statistics),
        "ticks": [[five_digits(float(probit(level))), f"{level:g}"] for level in TICKS],
    }


def shown_panels(data: Mapping[str, Any], noun: str = IMAGES) -> list[tuple[Panel, bool]]:
    """The panels that have data, in the word for what the sets hold, and whether each is open at first."""
    panels = [replace(panel, note=about(noun, panel.note)) for panel in PANELS if data[panel.name]]
    return [(panel, place < OPEN) for place, panel in enumerate(panels)]


def _on_probits(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry, with the positions of its points on probit axes."""
    points = [
        point
        | {"x": five_digits(float(probit(point["reference"]))), "y": five_digits(float(probit(point["accuracy"])))}
        for point in entry["points"]
    ]
    return entry | {"points": points}
