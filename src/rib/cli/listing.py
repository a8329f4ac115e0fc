"""`rib list`: what can be named in a suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rib.cli.output import print_columns

if TYPE_CHECKING:
    from rib.recipe import Frozen


def list_suites() -> None:
    """Suites that come with RIB."""
    from rib.suite.load import load_suite, shipped

    print_columns([(name, load_suite(name).description) for name in shipped()])


def list_data() -> None:
    """Data sets of the catalogue."""
    from rib.data.catalogue import ROWS
    from rib.data.published import PUBLISHED

    print_columns(
        [
            (name, PUBLISHED[row.imagenet].title if row.imagenet else f"embedded domain {row.digits}")
            for name, row in ROWS.items()
        ]
    )


def list_models() -> None:
    """Pretrained models of the catalogue."""
    from rib.models.catalogue import KINDS, ROWS

    rows = []
    for name, row in ROWS.items():
        kind = next(kind for kind in KINDS if getattr(row, kind))
        words = [f"{kind} {getattr(row, kind)}", row.tag, row.weights, row.pretraining, row.objective]
        rows.append((name, ", ".join(word for word in words if word)))
    print_columns(rows)


def list_methods() -> None:
    """Methods, with their hyper-parameters."""
    from rib.methods import METHODS

    print_columns(_described(METHODS.classes))


def list_objectives() -> None:
    """Objectives of pretraining, with their hyper-parameters."""
    from rib.objectives import OBJECTIVES

    print_columns(_described(OBJECTIVES.classes))


def list_analyses() -> None:
    """Looks inside models, with their parameters."""
    from rib.analysis import ANALYSES

    print_columns(_described(ANALYSES.classes))


def _described(kinds: Mapping[str, type[Frozen]]) -> list[tuple[str, str]]:
    """Each kind with the first line about it and its fields."""
    rows = []
    for name, kind in sorted(kinds.items()):
        fields = ", ".join(f"{field} = {info.default}" for field, info in kind.model_fields.items())
        first = (kind.__doc__ or "").splitlines()[0]
        if first.count("(") > first.count(")"):  # a source that goes on in the next line
            first = first.rpartition(" (")[0]
        rows.append((name, first + (f"  [{fields}]" if fields else "")))
    return rows
