"""The texts that a method trains with."""

from __future__ import annotations

from rib.errors import UserError
from rib.models.catalogue import Architecture, find_row
from rib.models.text_sources import require_random, text_digest
from rib.steps import World


def texts_of(world: World, model: str, architecture: Architecture, random_tokens: int = 0) -> str:
    """The identity of a model's text side.

    Args:
        world: the suite's data sets.
        model: the name of the model.
        architecture: of the model.
        random_tokens: as `Method.random_tokens` of the method that trains with the texts.

    Raises:
        UserError: it has none, one that does not fit or cannot read such texts, or several heads.
    """
    suite = world.suite
    row = find_row(model, suite.model)
    if random_tokens:
        require_random(row, suite.base, random_tokens)
    if row.open_clip and f"weights of {model}" in world.assumed:
        return f"expected {model}"
    if architecture.heads:
        what = f"model {model!r} has several heads, and a method that trains with texts needs one"
        raise UserError(what, got=", ".join(architecture.heads), remedy="leave out these methods for this model")
    classes = world[suite.reference].classes
    return text_digest(model, row, architecture, suite.base, classes, world.cache)
