"""Views: what each model of a plan sees of an image, who stated it, and what nobody stated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rib.models.catalogue import find_row
from rib.models.describe import preprocessing
from rib.models.preprocessing import DEFAULT, FIELDS, Preprocessing
from rib.plan import Plan
from rib.text.names import few

_RESIZED = {None: "shorter side", "squash": "both sides", "border": "longer side"}


def views(plan: Plan) -> dict[str, Preprocessing]:
    """The preprocessing of every model of a plan, by its name.

    The tuned model of a comparison has that of its base.
    """
    suite, classes = plan.suite, plan.world.classes
    names = dict.fromkeys(run.model for run in plan.runs)
    return {name: preprocessing(find_row(name, suite.model), suite.base, classes) for name in names}


def view_words(view: Preprocessing) -> str:
    """A preprocessing in words, the source of each part behind it."""
    side = int(view.size / view.crop)
    border = f" on a border of RGB {' '.join(map(str, view.fill))}" if view.fill else ""
    centre = f", centre of {view.size}" if side != view.size or view.resize is None else ""
    parts = {
        f"{view.size} pixels": ("size",),
        f"{_RESIZED[view.resize]} to {side}{border}{centre}": ("resize", "crop"),
        view.interpolation: ("interpolation",),
        f"mean {_numbers(view.mean)}": ("mean",),
        f"std {_numbers(view.std)}": ("std",),
    }
    by_source: dict[str, list[str]] = {}
    for words, fields in parts.items():
        source = " and ".join(dict.fromkeys(view.sources[field] for field in fields))
        by_source.setdefault(source, []).append(words)
    return "; ".join(f"{', '.join(words)} ({source})" for source, words in by_source.items())


def seen_by_both(plan: Plan, given: Collection[str]) -> Preprocessing:
    """The preprocessing of the two models of a comparison, with the call as the source of the fields that it gives."""
    view = next(iter(views(plan).values()))
    return replace(view, sources={**view.sources, **dict.fromkeys(given, "stated in this call")})


def view_lines(plan: Plan) -> Iterator[str]:
    """A line for each view, with the models that have it."""
    alike: dict[str, list[str]] = {}
    for name, view in views(plan).items():
        alike.setdefault(view_words(view), []).append(plan.suite.model_names.short(name))
    for words, names in alike.items():
        yield f"{few(names)}: {words}"


def view_json(plan: Plan) -> dict[str, dict[str, Any]]:
    """The preprocessing of every model as JSON types, with its sources."""
    return {name: view_document(view) for name, view in views(plan).items()}


def view_document(view: Preprocessing) -> dict[str, Any]:
    """A preprocessing as JSON types, with its sources."""
    values: Mapping[str, Any] = {field: getattr(view, field) for field in FIELDS} | {"fill": view.fill}
    return {**values, "resize": view.resize or "shortest", "sources": dict(view.sources)}


def unstated(plan: Plan) -> tuple[str, ...]:
    """Models whose normalisation nobody stated, as sentences: a wrong one costs accuracy and raises no error."""
    names = [
        plan.suite.model_names.short(name)
        for name, view in views(plan).items()
        if DEFAULT in (view.sources["mean"], view.sources["std"])
    ]
    if not names:
        return ()
    are = "have" if len(names) > 1 else "has"
    return (
        f"{', '.join(names)} {are} mean = std = 0.5, RIB's default: nothing states how the weights were trained; "
        "if otherwise, accuracies are wrong. State mean and std in the model's row, or as --mean and --std of "
        "`rib compare`",
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
