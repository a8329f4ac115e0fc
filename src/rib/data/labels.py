"""Label maps: the model's classes that stand for each class of a data set."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import Tensor

from rib.errors import UserError
from rib.identity import OPTION

Combine = Literal["mean", "sum"]


@dataclass(frozen=True)
class LabelMap:
    """A label map: the model's classes `groups[k]` stand for class k of the data set.

    Attributes:
        name: name of the map in results.
        groups: for each class of the data set, the indices of the model's classes (one, or several synonyms).
        outputs: number of the model's classes.
        combine: how the synonyms of a class are combined: None uses their largest logit; "mean" or "sum" use the mean
            or the sum of their probabilities.
    """

    name: str
    groups: tuple[tuple[int, ...], ...]
    outputs: int
    combine: Combine | None = field(default=None, metadata=OPTION)

    @cached_property
    def whole(self) -> bool:
        """Whether the map is the identity over all of the model's classes."""
        return self.groups == tuple((index,) for index in range(self.outputs))

    def mask(self, logits: Tensor) -> Tensor:
        """Logits over the data set's classes: (N, outputs) -> (N, len(groups)).

        The logit of a class with synonyms is the largest of theirs, or the logarithm of the mean or sum of their
        exponentials. With the latter, the softmax of the result is the mean or sum of the synonyms' probabilities,
        divided by the total over all classes of the set.
        """
        if self.whole:
            return logits
        chosen = _indices(self.groups, logits.device)
        if isinstance(chosen, Tensor):
            return logits.index_select(1, chosen)
        return torch.stack([self._combined(logits.index_select(1, group)) for group in chosen], dim=1)

    def _combined(self, synonyms: Tensor) -> Tensor:
        """One logit for each row of the synonyms' logits: (N, synonyms) -> (N,)."""
        if self.combine is None:
            return synonyms.amax(dim=1)
        total = synonyms.logsumexp(dim=1)
        return total - math.log(synonyms.shape[1]) if self.combine == "mean" else total

    def inverse(self) -> tuple[int, ...]:
        """For each of the model's classes, the data set's class that it stands for; -1 if none."""
        classes = [-1] * self.outputs
        for local, group in enumerate(self.groups):
            for index in group:
                classes[index] = local
        return tuple(classes)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _indices(groups: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor | list[Tensor]:
    """The model's classes on a device. They are cached there, because a copy at every step would wait for the previous
    step.

    One tensor if each class has a single output, else one tensor per class.
    """
    if all(len(group) == 1 for group in groups):
        return torch.tensor([group[0] for group in groups], device=device)
    return [torch.tensor(group, device=device) for group in groups]


def match_classes(
    data: str,
    classes: Sequence[str],
    reference: Sequence[str],
    labels: Mapping[str, Sequence[str]] | None = None,
    name: str = "by name",
    combine: Combine | None = None,
) -> LabelMap:
    """The label map of a data set whose classes have the names of the reference set's classes.

    Args:
        data: the data set's name, for the error and the map's name.
        classes: the data set's class names.
        reference: the model's class names, in the order of its outputs.
        labels: for classes with other names, the reference classes that stand for them.
        name: name of the map.
        combine: as in `LabelMap`; None for the largest.

    Raises:
        UserError: a class has no reference class, `labels` names one that does not exist, or a reference class would
            stand for two classes of the data set, or twice for one.
    """
    labels = labels or {}
    position = {name: index for index, name in enumerate(reference)}
    if unknown := sorted(set(labels) - set(classes)):
        raise UserError(
            f"the label map of {data!r} names a class that the data set does not have",
            got=", ".join(unknown[:5]),
            valid=_some(classes),
        )
    groups = []
    for each in classes:
        targets = labels.get(each, (each,))
        missing = [target for target in targets if target not in position]
        if missing:
            raise UserError(
                f"the label map of {data!r} does not cover class {each!r}",
                got=", ".join(map(_visible, missing)),
                valid=_some(reference),
                remedy=f"add a line for it under [data.{data}.labels]: {each!r} = {_meant(each, reference)}",
            )
        groups.append(tuple(position[target] for target in targets))
    _require_once(data, classes, reference, groups)
    several = any(len(group) > 1 for group in groups)
    return LabelMap(name, tuple(groups), len(reference), combine if several else None)


def _visible(name: str) -> str:
    """A name, in quotes if it begins or ends with spaces."""
    return name if name == name.strip() else repr(name)


def _meant(name: str, reference: Sequence[str]) -> str:
    """The reference class that a name probably means, as TOML; else a placeholder, because a guess would be copied."""
    plain = {re.sub(r"[\W_]+", "", known.casefold()): known for known in reference}
    return repr(plain.get(re.sub(r"[\W_]+", "", name.casefold()), "a class of the reference set"))


def _require_once(
    data: str, classes: Sequence[str], reference: Sequence[str], groups: Sequence[tuple[int, ...]]
) -> None:
    """Raises UserError if a reference class stands for two classes, or twice for one, which would weigh it double."""
    owners: dict[int, str] = {}
    for each, group in zip(classes, groups, strict=True):
        for index in group:
            other = owners.setdefault(index, each)
            if other != each:
                what = f"the label map of {data!r} gives the reference class {reference[index]!r} to two classes"
                raise UserError(what, got=f"{other}, {each}")
        if len(set(group)) != len(group):
            twice = next(reference[index] for index in group if group.count(index) > 1)
            what = f"the label map of {data!r} names the reference class {twice!r} twice for class {each!r}"
            raise UserError(what, remedy="name it once")


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
