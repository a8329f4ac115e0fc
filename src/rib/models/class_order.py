"""Class order: which class each output of a model stands for, from its files, and its relation to the reference set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rib.data.class_lists import lists_of
from rib.errors import UserError
from rib.files import parse_json, plain, read_plain
from rib.models.checkpoints import CheckpointFile

NAMES = ("label_names", "id2label", "idx_to_class", "classes", "class_names", "categories", "CLASSES", "labels")
"""Entries with the class of each output: a list, or a table from output to class."""

NUMBERS = ("label2id", "class_to_idx")
"""Entries with the output of each class."""

_BY_CONTENT = {
    *("names", "vocab", "classes_", "class_map", "class_mapping", "class_indices", "class_to_index", "index_to_class"),
    *("label_map", "label_to_idx", "idx_to_label", *(name.lower() for name in (*NAMES, *NUMBERS))),
}
"""More names of such entries, in any case. They count only if the entry has exactly the reference set's classes."""

_NOTHING_SAID = re.compile(r"LABEL_\d+")
"""Names that transformers assigns to unnamed classes."""


@dataclass(frozen=True)
class Stated:
    """The classes of a model's outputs.

    Attributes:
        names: the class of each output, in order.
        source: the file and the entry that state them.
        descriptions: the same classes in words, in the same order; empty if there are none.
    """

    names: tuple[str, ...]
    source: str
    descriptions: tuple[str, ...] = ()


def stated_in(document: Mapping[str, Any], source: str) -> Stated | None:
    """The classes that a document's entries state; None if it has none, or only numbered ones.

    Args:
        document: a configuration, or the values beside the tensors of a checkpoint.
        source: names it in errors.

    Raises:
        UserError: an entry is no list of classes, or two entries differ.
    """
    found = [
        Stated(names, f"`{entry}` of {source}", _descriptions(document, names))
        for entry in (*NAMES, *NUMBERS)
        if (names := _names(document.get(entry), entry, source)) is not None
    ]
    return _agreed(found, [one for one in found if one.names != found[0].names], source)


def _agreed(found: Sequence[Stated], others: Sequence[Stated], source: str) -> Stated | None:
    """The first statement.

    Raises:
        UserError: another statement contradicts it.
    """
    if others:
        raise UserError(
            f"{source} states two orders of its classes",
            got=f"{found[0].source}: {_some(found[0].names)}; {others[0].source}: {_some(others[0].names)}",
            remedy="correct the file, or state `outputs` in the model's row",
        )
    return found[0] if found else None


def _parsed(value: Any) -> Any:
    """A value; a string is parsed as JSON if possible, because the metadata of safetensors are strings."""
    try:
        return parse_json(value) if isinstance(value, str) and value[:1] in ("[", "{") else value
    except ValueError:
        return None


def _names(value: Any, entry: str, source: str) -> tuple[str, ...] | None:
    """The classes of an entry in order; None if it states none."""
    value = _parsed(value)
    if isinstance(value, Mapping) and value:
        pairs = [(value[name], name) for name in value] if entry in NUMBERS else list(value.items())
        return _in_order(pairs, f"`{entry}` of {source}")
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        return None
    return None if all(map(_NOTHING_SAID.fullmatch, value)) else tuple(value)


def _in_order(pairs: Sequence[tuple[Any, Any]], source: str) -> tuple[str, ...] | None:
    try:
        placed = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        return None
    if sorted(placed) != list(range(len(pairs))):
        raise UserError(
            f"{source} does not number the outputs",
            got=f"{len(pairs)} classes, numbered {min(placed)} … {max(placed)}",
            valid="each number from 0 on, once",
        )
    names = tuple(placed[number] for number in range(len(placed)))
    return None if all(map(_NOTHING_SAID.fullmatch, names)) else names


def _descriptions(document: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    words = document.get("label_descriptions")
    if not isinstance(words, Mapping) or not all(name in words for name in names):
        return ()
    return tuple(str(words[name]) for name in names)


def stated_by_files(checkpoint: CheckpointFile, classes: Sequence[str] = ()) -> Stated | None:
    """The classes that a checkpoint file, or the configuration beside it, states; None if there are none.

    Entries with a known name have priority. Without one, any list or table of the reference set's classes is used.

    Args:
        checkpoint: the checkpoint.
        classes: the reference set's classes.

    Raises:
        UserError: as `stated_in`; two statements differ; the checkpoint names a missing file of classes; or an entry
            with an unknown name, or a file of any name beside the checkpoint, has the reference set's classes in
            another order.
    """
    path = checkpoint.path
    found = [stated for document, source in documents(checkpoint) if (stated := stated_in(document, source))]
    arguments = checkpoint.content.get("args") if isinstance(checkpoint.content, dict) else None
    named = arguments.get("class_map") if isinstance(arguments, dict) else None
    if not found and isinstance(named, str) and named:
        return _class_map(named, path)
    found = found or list(_found_by_content(checkpoint, classes))
    if not found:
        _require_no_other_order(path, classes)
    alike = [one for one in found if set(one.names) == set(found[0].names)]
    return _agreed(found, [one for one in alike if one.names != found[0].names], str(path))


def _found_by_content(checkpoint: CheckpointFile, classes: Sequence[str]) -> Iterator[Stated]:
    """Lists and tables of the reference set's classes, under names that suggest class names.

    Raises:
        UserError: an entry with another name has the classes in another order.
    """
    for document, source in documents(checkpoint):
        for entry, stated in _permutations(document, source, classes):
            if entry.rpartition(".")[2].lower() in _BY_CONTENT:
                yield stated
            elif stated.names != tuple(classes):
                raise UserError(
                    f"{source} has the reference set's classes in another order, and RIB does not know the entry",
                    got=f"{stated.source}: {_some(stated.names)}",
                    valid="an entry of a known name, such as `classes` or `class_to_idx`",
                    remedy="if it is the order of the outputs, state it as `outputs` in the model's row; if not, state "
                    "the right one there",
                )


def _require_no_other_order(path: Path, classes: Sequence[str]) -> None:
    """Refuse a checkpoint that states no order, if a file beside it lists the reference set's classes in another.

    Such a file, `labels.txt` for instance, may state the order of the outputs, or belong to something else. Raises
    UserError.
    """
    for names, file in lists_of((path.parent,), classes):
        if names != tuple(classes):
            raise UserError(
                f"a file beside the checkpoint {path.name} lists the reference set's classes in another order",
                got=f"{file}: {_some(names)}",
                valid=f"the reference set's order: {_some(classes)}",
                remedy="state the class of each output as `outputs` in the model's row, or move the file away",
            )


DEEPEST = 5
"""Maximum nesting of a document in which lists of classes are searched."""


def _permutations(
    document: Any, source: str, classes: Sequence[str], entry: str = "", depth: int = 0
) -> Iterator[tuple[str, Stated]]:
    """Every entry of a document that lists or numbers the reference set's classes, with its path."""
    if (names := _permutation(document, classes)) is not None:
        yield entry, Stated(names, f"`{entry}` of {source}")
    elif isinstance(document, Mapping) and depth < DEEPEST:
        for name, value in document.items():
            inner = f"{entry}.{name}" if entry else str(name)
            yield from _permutations(_parsed(value), source, classes, inner, depth + 1)


def _permutation(value: Any, classes: Sequence[str]) -> tuple[str, ...] | None:
    """The reference set's classes in the order of a list, or of a table's numbers; None for anything else."""
    count = len(classes)
    if count < 2 or not isinstance(value, list | tuple | Mapping) or len(value) != count:
        return None
    if not isinstance(value, Mapping):
        listed = tuple(value) if all(isinstance(name, str) for name in value) else ()
        return listed if set(listed) == set(classes) else None
    for pairs in (value.items(), ((number, name) for name, number in value.items())):
        try:
            placed = {int(number): name for number, name in pairs}
        except (TypeError, ValueError, RuntimeError, OverflowError):  # raised for tensors, too
            continue
        if sorted(placed) == list(range(count)) and all(isinstance(name, str) for name in placed.values()):
            names = tuple(placed[number] for number in range(count))
            return names if set(names) == set(classes) else None
    return None


def documents(checkpoint: CheckpointFile) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The documents beside the tensors of a checkpoint, in its file and in a configuration next to it, with their
    sources.
    """
    path = checkpoint.path
    for file in (path.with_suffix(".json"), path.with_name("config.json")):
        yield from ((part, str(file)) for part in _json_parts(file))
    yield checkpoint.notes, str(path)
    if isinstance(checkpoint.content, dict):
        inner = (checkpoint.content.get(name) for name in ("args", "hyper_parameters", "config", "cfg", "meta"))
        yield from ((part, str(path)) for part in (checkpoint.content, *inner) if isinstance(part, dict))


def _json_parts(file: Path) -> Iterator[Mapping[str, Any]]:
    """A configuration, and the part of it that timm nests; nothing if there is none."""
    try:
        document = parse_json(read_plain(file))
    except (OSError, ValueError):
        return
    if isinstance(document, dict):
        yield document
        if isinstance(document.get("pretrained_cfg"), dict):
            yield document["pretrained_cfg"]


def _class_map(named: str, path: Path) -> Stated:
    """The classes in the file of timm's `--class-map`: one per line, in order."""
    for file in (path.parent / named, path.parent / Path(named).name):
        if file.is_file() and file.suffix == ".txt":
            return Stated(
                tuple(line.strip() for line in plain(file).read_text("utf-8").splitlines() if line.strip()), str(file)
            )
    raise UserError(
        f"{path} was trained with a file that orders its classes, and it is not here",
        got=f"args.class_map = {named}",
        remedy="put it beside the checkpoint (.txt, one class per line), or state `outputs` in the model's row",
    )


# -- order -------------------------------------------------------------------------------------------------------------


def order_of(stated: Stated, classes: Sequence[str], what: str) -> tuple[int, ...] | None:
    """The output that stands for each class of a reference set; None if the orders are equal.

    Args:
        stated: the model's classes.
        classes: the reference set's classes.
        what: the model, for errors.

    Raises:
        UserError: the names are not the same.
    """
    for names in (stated.names, stated.descriptions):
        if names and set(names) == set(classes) and len(set(names)) == len(names) == len(classes):
            place = {name: number for number, name in enumerate(names)}
            order = tuple(place[name] for name in classes)
            return None if order == tuple(range(len(order))) else order
    missing = [name for name in classes if name not in stated.names]
    raise UserError(
        f"the classes of {what} are not those of the reference set",
        got=f"{stated.source}: {_some(stated.names)}",
        valid=f"the same {len(classes)} names in any order: {_some(classes)}"
        + (f"; it lacks {_some(missing)}" if missing else ""),
        remedy="state in the model's row what each output stands for, in the reference set's names: "
        f"outputs = [{', '.join(json.dumps(name) for name in classes[:2])}, …]",
    )


def reordered(
    weights: Mapping[str, Tensor], net: nn.Module, head: str, order: Sequence[int], what: str
) -> dict[str, Tensor]:
    """The weights with the rows of the head in another order.

    Args:
        weights: the weights of the net.
        net: the net.
        head: name of its final linear layer.
        order: the old index of each new row.
        what: the model, for errors.

    Raises:
        UserError: the net has more than one layer with as many outputs as classes, or the head is not one matrix.
    """
    layers = [
        name
        for name, module in net.named_modules()
        if getattr(module, "out_features", getattr(module, "out_channels", None)) == len(order)
    ]
    rows = {name for name in (f"{head}.weight", f"{head}.bias") if name in weights}
    if layers != [head] or {name for name in weights if name.startswith(f"{head}.")} != rows:
        raise UserError(
            f"the outputs of {what} are not in the order of the reference set's classes, and RIB cannot reorder them",
            got=f"layers with {len(order)} outputs: {', '.join(layers)}",
            valid="a single linear head",
            remedy="reorder the outputs in the checkpoint, and its list of classes",
        )
    index = list(order)
    return {name: tensor[index] if name in rows else tensor for name, tensor in weights.items()}


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
