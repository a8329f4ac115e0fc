"""Cohorts: models that differ in the seed of their pretraining alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rib.metrics.estimates import Seeds
from rib.models.catalogue import ModelRow, find_row
from rib.text.names import names_of


@dataclass(frozen=True)
class Cohort:
    """Models that differ in the seed of their pretraining alone; their mean is one point.

    Attributes:
        family: architecture; "models" if the row does not say.
        objective: of the pretraining; may be empty.
        pretraining: the pretraining set; the model's name if the row does not say.
        images: how many images that has; None if unknown.
        models: names, one a pretraining seed.
        declared: whether the rows name family, pretraining set and its size, which distinguish cohorts.
    """

    family: str
    objective: str
    pretraining: str
    images: int | None
    models: tuple[str, ...]
    declared: bool = False

    @property
    def seeds(self) -> Seeds:
        """Its pretraining seeds: the same draw at every size and method, another for each cohort."""
        return Seeds("pretraining", self.models, "/".join((self.family, self.objective, self.pretraining)))


def cohorts(names: Iterable[str], own: Mapping[str, ModelRow]) -> list[Cohort]:
    """Models by family, objective and pretraining set, in their order; those of a cohort by their pretraining seeds.

    A model whose row names no pretraining seed stands alone.
    """
    known = names_of(tuple(names))
    rows = {name: find_row(name, own) for name in known.full}
    grouped: dict[tuple[object, ...], list[str]] = {}
    for name, row in rows.items():
        grouped.setdefault(_place(name, row), []).append(name)
    found = []
    for members in grouped.values():
        members.sort(key=lambda name: (rows[name].pretraining_seed or 0, name))
        row = rows[members[0]]
        declared = bool(row.family and row.pretraining and row.pretraining_images)
        set_name = row.pretraining or known.short(members[0])
        family = row.family or "models"
        found.append(Cohort(family, row.objective, set_name, row.pretraining_images, tuple(members), declared))
    return found


def _place(name: str, row: ModelRow) -> tuple[object, ...]:
    if row.pretraining_seed is not None:
        return row.family, row.objective, row.pretraining
    if row.pretrain is not None:  # a row of the suite's own that is trained here: all but its seed
        return (row.model_copy(update={"pretrain": row.pretrain.model_copy(update={"seed": 0})}).model_dump_json(),)
    return (name,)


def by_family(found: Iterable[Cohort]) -> dict[str, list[Cohort]]:
    """Cohorts of each family, those of smaller pretraining sets first; equal ones by name."""
    families: dict[str, list[Cohort]] = {}
    for cohort in found:
        families.setdefault(cohort.family, []).append(cohort)
    return {name: sorted(members, key=_order) for name, members in families.items()}


def _order(cohort: Cohort) -> tuple[float, str, str, tuple[str, ...]]:
    return cohort.images or float("inf"), cohort.pretraining, cohort.objective, cohort.models


def sized(family: Iterable[Cohort]) -> list[Cohort]:
    """The cohorts of a family whose pretraining sets have known sizes, smallest first; none if all are equal."""
    known = sorted((cohort for cohort in family if cohort.declared), key=_order)
    return known if known and known[0].images != known[-1].images else []


def smallest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohort of the smallest pretraining set of an ordered family, or several of one size."""
    return [one for one in family if one.images == family[0].images]


def largest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohort of the largest pretraining set of an ordered family, or several of one size."""
    return [one for one in family if one.images == family[-1].images]
