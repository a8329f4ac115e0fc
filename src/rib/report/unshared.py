"""Unshared: models whose features RIB does not share, because their outputs are not those of a last linear layer."""

from __future__ import annotations

from collections.abc import Iterator

from rib.plan import Plan


def unshared(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The linear layers that produce the outputs of each such model, by the model's name."""
    found = ((run.model, run.fit.architecture.heads) for run in plan.runs)
    return {model: heads for model, heads in found if heads}


def unshared_lines(plan: Plan) -> Iterator[str]:
    """The same as text, one line per model."""
    for model, heads in unshared(plan).items():
        name = plan.suite.model_names.short(model)
        yield (
            f"{name}: its output is not that of its last linear layer, but made of {', '.join(heads)}; "
            "so its features are not shared, and each prediction runs the whole net"
        )
