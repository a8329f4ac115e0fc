"""Replay: images of the reference set on which a method may train, and the test sets that forbid it."""

from __future__ import annotations

import numpy as np

from rib.data.overlap import Parts
from rib.data.parts import DataPart
from rib.errors import UserError
from rib.steps import World


def replayable(world: World, method: str) -> DataPart:
    """The reference set's tune part, if no image of it, and no other image of the same source, is scored.

    Args:
        world: the data sets of a suite.
        method: name of the method, for error messages.

    Raises:
        UserError: the set plays both roles whole, or an image of it is scored.
    """
    reference, tested = world.suite.reference, world.suite.tested
    own = world[reference]
    if not own.disjoint:
        raise UserError(
            f"{method} replays training {own.noun} of the reference set {reference!r}, and all of them are scored",
            got="a reference set that is tested whole",
            valid="one with a training part of its own: train and test folders, or test_fraction",
            remedy=f"leave {method} out, or split the reference set",
        )
    parts = Parts({name: world[name] for name in {reference, *tested}}, most=None)
    sources = own.index("tune").sources
    for name in tested:
        scored = world[name]
        kin = scored.family == own.family
        common = int(np.isin(scored.index("test").sources, sources).sum()) if kin else 0
        if not common and not kin:
            compared = parts.compare(reference, "tune", name, "test")
            common = int(compared.seen.sum()) if compared else 0
        if common:
            raise UserError(
                f"{method} replays training {own.noun} of {reference!r}, and {name!r} is scored on {common:,} of them",
                got=f"the same {own.noun}, or other versions of them",
                valid="a training part that no scored set shows",
                remedy=f"leave {method} out, or take {name!r} out of the suite",
            )
    return world.part(reference, "tune")
