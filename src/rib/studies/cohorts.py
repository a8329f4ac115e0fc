"""Cohorts: models that differ only in the seed of their pretraining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rib.metrics.estimates import Seeds
from rib.models.catalogue import ModelRow, find_row
from rib.text.names import names_of


@dataclass(frozen=True)
class Cohort:
    """Models that differ only in the seed of their pretraining. Their mean is one point of a figure.

    Attributes:
        family: architecture; "models" if the row does not name one.
        objective: objective of the pretraining; may be empty.
        pretraining: the pretraining set; the model's name if the row does not name one.
        images: number of images of the pretraining set; None if unknown.
        models: names of the models, one per pretraining seed.
        declared: whether the rows state family, pretraining set and its size, which distinguish cohorts.
    """

    family: str
    objective: str
    pretraining: str
    images: int | None
    models: tuple[str, ...]
    declared: bool = False

    @property
    def seeds(self) -> Seeds:
        """Its pretraining seeds, the same draws at every size and method, and different ones for each cohort."""
        return Seeds("pretraining", self.models, "/".join((self.family, self.objective, self.pretraining)))


def cohorts(names: Iterable[str], own: Mapping[str, ModelRow]) -> list[Cohort]:
    """Models grouped by family, objective and pretraining set, in order. Models of one cohort differ in their
    pretraining seeds.

    A model whose row has no pretraining seed is a cohort by itself.
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
    if row.pretrain is not None:  # a model that the suite itself pretrains: its row without the seed
        return (row.model_copy(update={"pretrain": row.pretrain.model_copy(update={"seed": 0})}).model_dump_json(),)
    return (name,)


def by_family(found: Iterable[Cohort]) -> dict[str, list[Cohort]]:
    """Cohorts of each family, ordered by the size of the pretraining set and then by name."""
    families: dict[str, list[Cohort]] = {}
    for cohort in found:
        families.setdefault(cohort.family, []).append(cohort)
    return {name: sorted(members, key=_order) for name, members in families.items()}


def _order(cohort: Cohort) -> tuple[float, str, str, tuple[str, ...]]:
    return cohort.images or float("inf"), cohort.pretraining, cohort.objective, cohort.models


def sized(family: Iterable[Cohort]) -> list[Cohort]:
    """The cohorts of a family with pretraining sets of known sizes, smallest first; empty if all sizes are equal."""
    known = sorted((cohort for cohort in family if cohort.declared), key=_order)
    return known if known and known[0].images != known[-1].images else []


def smallest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohorts of an ordered family with the smallest pretraining set; several if they have the same size."""
    return [one for one in family if one.images == family[0].images]


def largest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohorts of an ordered family with the largest pretraining set; several if they have the same size."""
    return [one for one in family if one.images == family[-1].images]
