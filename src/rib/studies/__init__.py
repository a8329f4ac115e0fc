"""Studies, one file each. A study asks one question, derives a suite that answers it, and computes the answer from
the results."""

from rib.errors import nearest
from rib.registry import Registry
from rib.studies.base import Study
from rib.suite.suite import Suite

STUDIES = Registry(__name__, Study, "study")

ORDER = ("size", "pretraining", "map", "objective", "rate", "methods", "curriculum")
"""The order in which RIB lists and runs studies; others follow."""


def names(of_all: bool = False) -> list[str]:
    """Every study, in order; with `of_all` only those that `rib study all` runs."""
    known = [name for name, kind in STUDIES.classes.items() if not (of_all and kind.by_name)]
    return sorted(known, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def find_study(name: str, suite: Suite) -> Study:
    """The study with that name, to be derived from a suite.

    Raises:
        UserError: there is no such study, or the suite names one that does not exist. The message suggests the nearest
            name.
    """
    if lost := next((one for one in suite.study if one not in STUDIES.classes and ":" not in one), None):
        raise nearest(lost, STUDIES.classes, f"study in {suite.name}")
    return STUDIES.find(name)()


__all__ = ["STUDIES", "Study", "find_study", "names"]
