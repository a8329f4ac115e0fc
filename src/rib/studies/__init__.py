"""Studies: one file each. Each asks one question, derives the suite that answers it, and reads the answer off it."""

from rib.errors import nearest
from rib.registry import Registry
from rib.studies.base import Study
from rib.suite.suite import Suite

STUDIES = Registry(__name__, Study, "study")

ORDER = ("size", "pretraining", "map", "objective", "rate", "methods", "curriculum")
"""In which they are listed, and done if all are asked for; others follow."""


def names(of_all: bool = False) -> list[str]:
    """Every study, in order; with `of_all` those that `rib study all` does."""
    known = [name for name, kind in STUDIES.classes.items() if not (of_all and kind.by_name)]
    return sorted(known, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def find_study(name: str, suite: Suite) -> Study:
    """The study of that name, to be derived from a suite.

    Raises:
        UserError: there is none, or the suite speaks of one that there is not; the nearest is suggested.
    """
    if lost := next((one for one in suite.study if one not in STUDIES.classes and ":" not in one), None):
        raise nearest(lost, STUDIES.classes, f"study in {suite.name}")
    return STUDIES.find(name)()


__all__ = ["STUDIES", "Study", "find_study", "names"]
