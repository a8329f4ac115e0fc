"""Classes of ImageNet-1k and of sets that share them: WordNet ids, the 200-class subsets, ObjectNet's folders.

timm contains the lists of ids (`timm/data/_info`, Apache-2.0); RIB reads them without importing timm.
"""

from __future__ import annotations

import csv
import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rib.errors import UserError
from rib.files import parse_json

_OBJECTNET = Path(__file__).parent / "objectnet.csv"


@dataclass(frozen=True)
class ObjectNetFolder:
    """One of the 113 folders of ObjectNet that overlap with ImageNet-1k.

    Attributes:
        label: ObjectNet's name of it.
        wnids: the ImageNet classes that it stands for, one to three.
        official: the one class that the published code of ImageNet-RIB assigns to it; wrong for eight folders.
    """

    label: str
    wnids: tuple[str, ...]
    official: str


@cache
def wnids() -> tuple[str, ...]:
    """The 1000 WordNet ids in the order of the classes, which is sorted."""
    return _listed("imagenet_synsets.txt")


@cache
def subset(name: str) -> tuple[str, ...]:
    """The 200 ids of ImageNet-A ("a") or ImageNet-R ("r"), sorted."""
    return tuple(sorted(_listed(f"imagenet_{name}_synsets.txt")))


@cache
def class_names() -> Mapping[str, str]:
    """The English names, separated by commas, of each of the 1000 ids."""
    wanted = set(wnids())
    lines = (line.split("\t", 1) for line in _read("imagenet_synset_to_lemma.txt").splitlines())
    return {wnid: names for wnid, names in lines if wnid in wanted}


def spoken(name: str) -> str:
    """The first English name of an ImageNet class that is called by its WordNet id, with the id if two classes share
    that name. Every other name stays as it is."""
    return _spoken().get(name, name)


@cache
def _spoken() -> Mapping[str, str]:
    first = {wnid: names.partition(",")[0] for wnid, names in class_names().items()}
    count = Counter(first.values())
    return {wnid: name if count[name] == 1 else f"{name} ({wnid})" for wnid, name in first.items()}


@cache
def objectnet() -> Mapping[str, ObjectNetFolder]:
    """The 113 overlapping folders, sorted."""
    lines = (line for line in _OBJECTNET.read_text("utf-8").splitlines() if not line.startswith("#"))
    return {
        row["folder"]: ObjectNetFolder(row["label"], tuple(row["wnids"].split()), row["official"])
        for row in csv.DictReader(lines)
    }


def check_objectnet_mappings(mappings: Path) -> None:
    """Compare the mapping files of a copy of ObjectNet, if it has them, with RIB's table.

    Args:
        mappings: the folder `mappings` of the data set.

    Raises:
        UserError: a file cannot be read, or gives a folder another meaning.
    """
    files = [mappings / name for name in ("folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json")]
    if not all(file.is_file() for file in files):
        return
    try:
        labels, meanings = (parse_json(file.read_text("utf-8-sig")) for file in files)
        theirs = {folder: meanings[label] for folder, label in labels.items() if label in meanings}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"cannot read ObjectNet's mapping files in {mappings}", got=error) from None
    ours = {folder: "; ".join(class_names()[wnid] for wnid in row.wnids) for folder, row in objectnet().items()}
    if different := sorted(folder for folder in ours.keys() | theirs.keys() if ours.get(folder) != theirs.get(folder)):
        first = different[0]
        raise UserError(
            f"the mapping files in {mappings} are not those of ObjectNet 1.0: folder {first!r} differs",
            got=theirs.get(first, "no ImageNet class"),
            valid=ours.get(first, "no ImageNet class"),
            remedy="unpack the published archive again",
        )


def _listed(name: str) -> tuple[str, ...]:
    return tuple(_read(name).split())


def _read(name: str) -> str:
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "data" / "_info" / name).read_text("utf-8")
