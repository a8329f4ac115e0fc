"""`rib list`: the names that a suite can use."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rib.cli.output import print_columns

if TYPE_CHECKING:
    from rib.methods import Method
    from rib.recipe import Frozen


def list_suites() -> None:
    """List the suites that RIB ships."""
    from rib.suite.load import load_suite, shipped

    print_columns([(name, load_suite(name).description) for name in shipped()])


def list_data() -> None:
    """List the data sets of the catalogue."""
    from rib.data.catalogue import ROWS
    from rib.data.published import PUBLISHED

    print_columns([(name, PUBLISHED[row.imagenet].title if row.imagenet else row.origin) for name, row in ROWS.items()])


def list_models() -> None:
    """List the pretrained models of the catalogue."""
    from rib.models.catalogue import KINDS, ROWS

    rows = []
    for name, row in ROWS.items():
        kind = next(kind for kind in KINDS if getattr(row, kind))
        words = [f"{kind} {getattr(row, kind)}", row.tag, row.weights, row.pretraining, row.objective]
        rows.append((name, ", ".join(word for word in words if word)))
    print_columns(rows)


def list_methods() -> None:
    """List the methods with their hyper-parameters, source, cost and needs."""
    from rib.methods import METHODS

    listed = {name: kind for name, kind in METHODS.classes.items() if kind.listed}
    described = _described(listed)
    print_columns([(name, f"{text}\n{_facts(listed[name])}") for name, text in described])


def _facts(kind: type[Method]) -> str:
    """One line with the source of a method, its cost relative to plain fine-tuning, and its needs."""
    from rib.models.catalogue import Architecture
    from rib.recipe import Recipe

    recipe, method = Recipe(), kind()
    source = ", ".join(
        dict.fromkeys(re.findall(r"\d{4}\.\d{4,5}", f"{sys.modules[kind.__module__].__doc__} {kind.__doc__}"))
    )
    trained = method.passes(recipe, 1000, 100).cost / (3 * recipe.images(1000))
    plain = Architecture(
        timm=None, build=None, build_source=None, arguments={}, classes=2, head=None, size=1, crop=1.0,
        interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    made = dict.fromkeys(item if isinstance(item, str) else getattr(item, "name", "") for item in method.ingredients())
    needs = [
        "held-out images" if kind.needs_held_out else "",
        "reference images" if kind.replays else "",
        "a text tower or class vectors" if kind.needs_texts else "",
        "a net of its own" if method.extend(plain) != plain else "",
        kind.takes,
        *(f"the weights of {name}" for name in made if name),
        "models tuned on several sets" if kind.merges_sets else "",
    ]
    words = [
        f"arXiv {source}" if source else "",
        f"cost {trained:.3g}",
        f"needs {'; '.join(filter(None, needs))}" if any(needs) else "",
    ]
    return "  " + " · ".join(filter(None, words))


def list_objectives() -> None:
    """List the pretraining objectives with their hyper-parameters."""
    from rib.objectives import OBJECTIVES

    print_columns(_described(OBJECTIVES.classes))


def list_analyses() -> None:
    """List the analyses with their parameters."""
    from rib.analysis import ANALYSES

    print_columns(_described(ANALYSES.classes))


def list_studies() -> None:
    """List the studies with the question that each answers."""
    from rib import studies

    print_columns([(name, studies.STUDIES.find(name).question) for name in studies.names()])


def _described(kinds: Mapping[str, type[Frozen]]) -> list[tuple[str, str]]:
    """Return each class with the first line of its docstring and its fields."""
    rows = []
    for name, kind in sorted(kinds.items()):
        fields = ", ".join(f"{field} = {info.default}" for field, info in kind.model_fields.items())
        first = (kind.__doc__ or "").splitlines()[0]
        if first.count("(") > first.count(")"):  # the citation continues in the next line
            first = first.rpartition(" (")[0]
        rows.append((name, first + (f"  [{fields}]" if fields else "")))
    return rows
