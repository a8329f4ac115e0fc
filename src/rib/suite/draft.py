"""Writes a suite for a folder of data sets, as a commented file that runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rib.data.entries import look_into
from rib.errors import UserError
from rib.text.terminal import name_fault

TUNE, TEST = ("train", "training", "tune"), ("test", "testing", "val", "valid", "validation", "eval")
"""Names of folders with the two parts of a set."""

REFERENCES = ("reference", "ref", "clean", "original", "source", "photo", "photos", "real", "base")
"""Names of folders that are probably the reference set, the most probable first."""

TEST_FRACTION, HELD_OUT = 0.3, 0.1
SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
FEWEST = 2
"""Minimum number of classes that a set shares with the reference set."""

SCHEMA = "suite.schema.json"


@dataclass(frozen=True)
class FoundSet:
    """A data set in a folder.

    Attributes:
        name: name of the set and of its folder.
        tune: the folder of its classes, relative to the root.
        test: a second folder to test on; None without one.
        images: number of images to tune on, or to divide into parts, by class.
    """

    name: str
    tune: str
    test: str | None
    images: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of its images, without those of a second folder."""
        return sum(self.images.values())

    @property
    def pool(self) -> int:
        """Approximate number of images that can be tuned on."""
        share = 1.0 if self.test else 1 - TEST_FRACTION
        return int(self.count * share * (1 - HELD_OUT))


@dataclass(frozen=True)
class Draft:
    """The sets of a folder, and their roles.

    Attributes:
        root: the folder.
        reference: the reference set.
        downstream: the sets to tune on and test on.
        odd: what is left out, or should be checked, in sentences.
    """

    root: Path
    reference: FoundSet
    downstream: tuple[FoundSet, ...]
    odd: tuple[str, ...] = field(default=())

    @property
    def size(self) -> int:
        """Number of images to tune on: at most half of those in the smallest set."""
        most = min(each.pool for each in self.downstream) // 2
        return max((size for size in SIZES if size <= most), default=max(most, 1))


def draft(root: Path, reference: str | None = None) -> Draft:
    """The data sets in a folder: ROOT/SET/CLASS/IMAGE, or ROOT/SET/train/CLASS/IMAGE with a test part beside it.

    Args:
        root: the folder.
        reference: name of the reference set; default: the most probable one.

    Raises:
        UserError: there are fewer than three sets with common classes, or none of that name.
    """
    odd: list[str] = []
    sets = list(_sets(root, odd))
    if not sets:
        raise UserError(
            f"no data sets in {root}",
            got=_listed(look_into(str(root)).folders) or "no folders",
            valid="ROOT/SET/CLASS/IMAGE, or ROOT/SET/train/CLASS/IMAGE and ROOT/SET/test/CLASS/IMAGE",
            remedy="name the folder that holds one folder per data set",
        )
    chosen = _reference(sets, reference)
    others = [each for each in sets if each is not chosen]
    downstream = tuple(each for each in others if _has_common_classes(each, chosen, odd))
    if len(downstream) < 2:
        raise UserError(
            f"too few data sets in {root}: a reference set, and two others or more with its classes",
            got=_listed([each.name for each in sets]),
            valid="three folders or more with the same classes, such as photos, sketches and paintings",
            remedy="; ".join(odd)
            or f"add a changed copy: rib data corrupt {root / chosen.tune} --out {root}-corrupted",
        )
    return Draft(root, chosen, downstream, tuple(odd))


def _sets(root: Path, odd: list[str]) -> Iterator[FoundSet]:
    if root.is_dir() and (own := look_into(str(root))).images:
        odd.append(f"{len(own.images):,} images beside the folders are left out")
    for name in look_into(str(root)).folders if root.is_dir() else ():
        folder = root / name
        inside = look_into(str(folder)).folders
        tune, test = (next((part for part in inside if part.lower() in parts), None) for parts in (TUNE, TEST))
        tree = folder / tune if tune else folder
        classes = {each: len(look_into(str(tree / each)).images) for each in look_into(str(tree)).folders}
        if fault := name_fault(name):
            odd.append(f"the folder {name!a} is left out: its name has {fault}")
        elif sum(count > 0 for count in classes.values()) < FEWEST:
            odd.append(f"the folder {name!r} is left out: it holds no classes with images")
        else:
            odd += [f"{name}: the class {each!r} has no images" for each, count in classes.items() if not count]
            known = {each: count for each, count in classes.items() if count}
            relative = os.fspath(tree.relative_to(root))
            yield FoundSet(name, relative, os.fspath(Path(name, test)) if test and tune else None, known)


def _reference(sets: Sequence[FoundSet], named: str | None) -> FoundSet:
    """The named set; else the set whose classes most others share, then by its name or its number of images."""
    if named is not None:
        found = next((each for each in sets if each.name == named), None)
        if found is None:
            raise UserError("no data set of that name", got=named, valid=_listed([each.name for each in sets]))
        return found

    def rank(each: FoundSet) -> tuple[int, int, int]:
        covered = sum(other.images.keys() <= each.images.keys() for other in sets)
        name = each.name.lower()
        return covered, -REFERENCES.index(name) if name in REFERENCES else -len(REFERENCES), each.count

    return max(sets, key=rank)


def _has_common_classes(each: FoundSet, reference: FoundSet, odd: list[str]) -> bool:
    common = each.images.keys() & reference.images.keys()
    others = sorted(each.images.keys() - reference.images.keys())
    if len(common) < FEWEST:
        odd.append(f"the set {each.name!r} is left out: {reference.name!r} has {len(common)} of its classes")
        return False
    if others:
        odd.append(f"{each.name}: images of {_listed(others)} are left out: {reference.name!r} has no such class")
    return True


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# -- the file ----------------------------------------------------------------------------------------------------------


def draft_text(
    draft: Draft, name: str, model: Mapping[str, Any] | None = None, root: str = ".", own_head: bool = False
) -> str:
    """The text of the suite file.

    Args:
        draft: the sets.
        name: name of the suite.
        model: the fields of the model's row, such as `timm` and `weights`; None for a small net that is trained from
            scratch on the reference set.
        root: the sets' folder, as the file will name it.
        own_head: whether the checkpoint has one output for each class of the reference set.
    """
    sets, least = [draft.reference, *draft.downstream], min(each.pool for each in draft.downstream)
    names = ", ".join(_text(each.name) for each in draft.downstream)
    lines = [
        f"#:schema {SCHEMA}",
        "# Made by `rib suite new`. Explain and check it: rib suite check FILE. Run it: rib run FILE.",
        "",
        f"name = {_text(name)}",
        f"reference = {_text(draft.reference.name)}    # its classes are the outputs of every model",
        f"downstream = [{names}]    # tuned on one, tested on the others",
        'models = ["mine"]',
        "seeds = [0, 1, 2]    # tuning seeds; one seed gives intervals of test images alone",
        f"held_out = {HELD_OUT}    # share of the tuning images that methods may use for choices",
        "",
        "[[runs]]",
        'methods = ["finetune", "linear_probe", "lp_ft", "wise_ft"]    # rib list methods',
        f"sizes = [{draft.size}]    # images to tune on; the smallest set has about {least:,} after held_out",
        "",
        "[recipe]    # of tuning",
        "epochs = 10",
        "batch_size = 32",
        "lr = 0.001",
        "warmup_fraction = 0.1",
        "",
        *(line for each in sets for line in _data_lines(each, draft.reference, Path(root))),
        *_model_lines(model, own_head),
        *(f"# note: {words}" for words in draft.odd),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _data_lines(each: FoundSet, reference: FoundSet, root: Path) -> Iterator[str]:
    yield f"[data.{_key(each.name)}]    # {each.count:,} images of {len(each.images)} classes"
    yield f"folder = {_text((root / each.tune).as_posix())}"
    if each.test:
        yield f"test_folder = {_text((root / each.test).as_posix())}"
    else:
        yield f"test_fraction = {TEST_FRACTION}    # this share is tested on and never tuned on"
    if each.images.keys() - reference.images.keys():
        common = [name for name in each.images if name in reference.images]
        yield f"classes = [{', '.join(map(_text, common))}]    # images of other classes are left out"
    yield ""


def _model_lines(model: Mapping[str, Any] | None, own_head: bool) -> Iterator[str]:
    head = 'head = "new"    # a head of the reference set\'s classes, trained on its images before any tuning'
    yield "[model.mine]"
    if model is None:
        yield 'build = "rib.models.small:small_resnet"    # a small net, trained from scratch on the reference set'
        yield "size = 64    # pixels"
        yield 'pretrain = { recipe = { optimizer = "adamw", lr = 0.003, epochs = 30, batch_size = 32 } }'
    else:
        yield from (f"{name} = {_text(value)}" for name, value in model.items())
    if model is not None and own_head:
        yield "# The checkpoint has one output for each class of the reference set. If they mean other classes:"
        yield f"# {head}"
    elif model is not None:
        yield head
        yield "# [model.mine.reference]    # to train the whole net on the reference set too:"
        yield '# finetune = { optimizer = "adamw", lr = 0.0001, epochs = 5 }'
    yield ""


def _text(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_text(each)}" for name, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    """A name as a TOML key, quoted if it is not made of plain letters."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else _text(name)
