"""Pair view: the common preprocessing of the two models of a comparison. RIB refuses models that state different
ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from filecmp import cmp
from typing import Any

from rib.errors import UserError, nearest
from rib.models.catalogue import ROWS, ModelRow, weights_path
from rib.models.checkpoints import read_checkpoint
from rib.models.class_order import documents
from rib.models.describe import preprocessing
from rib.models.preprocessing import FIELDS, Preprocessing, differing, option_of, require_agreement, timm_config
from rib.models.text import read_texts_alike
from rib.suite.suite import Suite
from rib.suite.validation import validated


def fields_of(view: Mapping[str, Any] | None) -> dict[str, Any]:
    """The stated fields of a view, without those that are None.

    Raises:
        UserError: it is no table, or a field is not one of the preprocessing.
    """
    if not isinstance(view, Mapping | None):
        raise UserError("the view is not a table", got=repr(view), valid="such as {'size': 224, 'crop': 0.9}")
    if unknown := [name for name in view or () if name not in FIELDS]:
        raise nearest(str(unknown[0]), FIELDS, "field of the view:")
    return {name: value for name, value in (view or {}).items() if value is not None}


def with_view(row: ModelRow, view: Mapping[str, Any], where: str = "the options of `rib compare`") -> ModelRow:
    """A row with these fields of its preprocessing.

    A timm model of fixed size is also built at the new size, because its weights may have been trained at it.

    Args:
        row: the row.
        view: from `fields_of`.
        where: where the fields are stated, for the error.

    Raises:
        UserError: a value is out of range.
    """
    if not view:
        return row
    stated = row.model_dump(exclude_unset=True) | dict(view)
    if row.timm and "size" in view and "img_size" not in row.arguments:
        config = timm_config(row.timm)
        if config.fixed_input_size and config.input_size[-1] != view["size"]:
            stated["arguments"] = {**row.arguments, "img_size": view["size"]}
    return validated(ModelRow, stated, where)


def require_one_view(
    suite: Suite, rows: Mapping[str, ModelRow], files: Collection[str], view: Mapping[str, Any], classes: int
) -> None:
    """Refuse two models if a row or file states another preprocessing than the one that both will get.

    Args:
        suite: suite of the comparison.
        rows: the rows of "BASE" and "TUNED".
        files: those of the two that are checkpoint files. The statement of a file has priority over that of its
            architecture's row, which is about other weights.
        view: fields that the call states; they have priority over every other statement.
        classes: number of outputs.

    Raises:
        UserError: a field differs; the message names it.
    """
    before, after = rows["BASE"], rows["TUNED"]
    if read_texts_alike(before, after, suite.base):
        return
    seen = preprocessing(before, suite.base, classes)
    if not _differ_in_weights_alone(before, after):
        _require_equal(seen, preprocessing(after, suite.base, classes), view, "TUNED states its own preprocessing")
    open_fields = {name: getattr(seen, name) for name in FIELDS if name not in view}
    for role in files:
        file = weights_path(rows[role], suite.base)
        assert file is not None
        for document, source in documents(read_checkpoint(file)):
            require_agreement(document, open_fields, role, source)
    if "BASE" in files:
        own = {name: preprocessing(row, suite.base, classes) for name, row in _rows_of_same_file(suite, before)}
        if own and all(differing(seen, each, view) for each in own.values()):
            name, each = next(iter(own.items()))
            _require_equal(seen, each, view, f"BASE is the checkpoint of {name!r}", f"name {name!r} as BASE, or ")


def _differ_in_weights_alone(one: ModelRow, other: ModelRow) -> bool:
    fields = ("weights", "weights_key", "outputs", "pretrain")
    return other.model_copy(update={name: getattr(one, name) for name in fields}) == one


def _rows_of_same_file(suite: Suite, row: ModelRow) -> Iterator[tuple[str, ModelRow]]:
    """The models of the suite and of RIB's zoo whose weights are the same bytes as this row's checkpoint."""
    file = weights_path(row, suite.base)
    assert file is not None
    size = file.stat().st_size
    for name, other in {**ROWS, **suite.model}.items():
        known = weights_path(other, suite.base)
        if known is not None and known.is_file() and known.stat().st_size == size and cmp(known, file, shallow=False):
            yield name, other


def _require_equal(
    seen: Preprocessing, own: Preprocessing, view: Mapping[str, Any], problem: str, instead: str = ""
) -> None:
    if wrong := differing(seen, own, view):
        shown = [
            ", ".join(f"{name} = {_words(getattr(each, name))} ({each.sources[name]})" for name in wrong)
            for each in (seen, own)
        ]
        raise UserError(
            f"{problem}, and it differs from what both models would see here",
            got=shown[0],
            valid=shown[1],
            remedy=f"{instead}state what both models see: {', '.join(map(option_of, wrong))}",
        )


def _words(value: Any) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value or "shortest")
