"""Samples of a tar shard: the files that share a key, which include an image and its label."""

from __future__ import annotations

import json
import posixpath
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rib.data.classes import MISSING, PLAIN_LABELS, disagreement, refuse_labels
from rib.data.companions import may_speak, names_beside, require_rows_of_one_split, require_same_folders
from rib.data.foreign import kind_of_file
from rib.data.globs import is_junk
from rib.data.images import SUFFIXES
from rib.data.numbering import require_one_split
from rib.errors import UserError
from rib.files import parse_json, plain

LABEL_FIELDS = ("label", "cls", "wnid", "class")

AGAIN = "write the shard again"

_NO_DOTS = "a key ends at the first dot, so write the shard again with keys that contain none"

CLS = ".cls file"
"""Origin of a label in a .cls file, as opposed to a JSON field."""


@dataclass(frozen=True)
class Sample:
    """An image in a shard.

    Attributes:
        key: the member's name up to the first dot after its last slash.
        name: the image's file name.
        offset: offset of its bytes in the shard.
        size: number of its bytes.
        label: a name, or a whole number as text.
        said: the name of its class that a field of KEY.json gives, if labels are numbers; else empty.
    """

    key: str
    name: str
    offset: int
    size: int
    label: str
    said: str = ""


@dataclass
class _Files:
    """The files of one key, each as name and member.

    Attributes:
        images: those with only an image's suffix after the key.
        others: suffixes of the other files.
        labels: content of the .cls and .json file.
    """

    images: list[tuple[str, tarfile.TarInfo]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Shard:
    """The name of a shard and of its data set, for errors."""

    path: Path
    data: str

    def refuse(self, names: Sequence[str], words: str, valid: str, remedy: str = AGAIN) -> None:
        """Raise UserError if there are names, in words that begin with their number."""
        if names:
            shown = ascii(names[0])[1:-1]
            raise UserError(
                f"data set {self.data!r}: {len(names):,} {words}",
                got=f"{shown} in {self.path}",
                valid=valid,
                remedy=remedy,
            )


def read_shard(path: Path, data: str) -> tuple[list[Sample], Counter[str]]:
    """The samples of a shard in its order, and the number of its other files by kind.

    Args:
        path: an uncompressed tar file.
        data: the data set's name, for errors.

    Raises:
        UserError: it is damaged; a key has no image, several images, no label or two different labels; a label is no
            class; a name appears twice, or is not UTF-8; a member is neither a plain file nor a link to one in the
            shard.
    """
    shard = _Shard(path, data)
    total = path.stat().st_size
    name = "its first member"
    members: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(plain(path), "r:", errors="surrogateescape") as tar:
            for member in tar:
                name = member.name
                if member.isreg() and member.offset_data + member.size > total:
                    raise tarfile.ReadError("the file ends before the member does")
                members.append(member)
            _require_end(tar, path, total)
            keys = _by_key(tar, _plain(members, shard), shard)
    except (tarfile.TarError, OSError, EOFError) as error:
        got, remedy = kind_of_file(path) or (str(error), "copy the shard again")
        raise UserError(
            f"data set {data!r}: the shard {path} is truncated or damaged at {ascii(name)[1:-1]}",
            got=got,
            valid="an uncompressed tar file",
            remedy=remedy,
        ) from None
    return _samples(keys, shard)


def _require_end(tar: tarfile.TarFile, path: Path, total: int) -> None:
    """Refuse a tar file that does not end in blocks of zeros, because it is truncated, or that has data after them."""
    with plain(path).open("rb") as file:
        file.seek(tar.offset)
        rest = file.read(tarfile.RECORDSIZE)
        if not rest:
            raise tarfile.ReadError("the file ends without an end mark")
        while rest:
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"data follow the end mark, as in two joined shards ({total:,} bytes)")
            rest = file.read(2**20)


def _plain(members: Sequence[tarfile.TarInfo], shard: _Shard) -> list[tuple[str, tarfile.TarInfo]]:
    """Name and member of every file; a link is replaced by its target."""
    files = [(posixpath.normpath(member.name), member) for member in members if not member.isdir()]
    files = [(name, member) for name, member in files if not is_junk(posixpath.basename(name))]
    shard.refuse([n for n, _ in files if re.search("[\ud800-\udfff]", n)], "names are not UTF-8", "names in UTF-8")
    counts = Counter(name for name, _ in files)
    twice = [name for name, count in counts.items() if count > 1]
    shard.refuse(twice, "names stand in one shard twice", "a name for every file")
    links = "files, and links to files of the same shard"
    odd = [name for name, m in files if not (m.isreg() or m.islnk() or m.issym())]
    shard.refuse(odd, "members are devices or pipes", links)
    shard.refuse([name for name, m in files if m.issparse()], "members are sparse files", "files that are whole")
    known = dict(files)
    found = [(name, _target(name, member, known)) for name, member in files]
    shard.refuse([name for name, target in found if target is None], "links lead to nothing in the shard", links)
    return [(name, target) for name, target in found if target is not None]


def _target(name: str, member: tarfile.TarInfo, known: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The plain file that a member is or links to; None if there is none."""
    for _ in range(20):
        if member.isreg():
            return member
        beside = posixpath.dirname(name) if member.issym() else ""
        name = posixpath.normpath(posixpath.join(beside, member.linkname))
        if name not in known:
            return None
        member = known[name]
    return None


def _by_key(tar: tarfile.TarFile, files: Sequence[tuple[str, tarfile.TarInfo]], shard: _Shard) -> dict[str, _Files]:
    keys: dict[str, _Files] = {}
    for path, member in files:
        folder, slash, name = path.rpartition("/")
        stem, _, suffix = name.partition(".")
        found, suffix = keys.setdefault(folder + slash + stem, _Files()), suffix.lower()
        if f".{suffix}" in SUFFIXES:
            found.images.append((name, member))
        elif suffix in ("cls", "json"):
            if suffix in found.labels:
                shard.refuse([path], "keys have two labels", "one KEY.cls")
            content = tar.extractfile(member)
            assert content is not None
            found.labels[suffix] = content.read()
        else:
            found.others.append(suffix)
    return keys


def _samples(keys: Mapping[str, _Files], shard: _Shard) -> tuple[list[Sample], Counter[str]]:
    whole = {key: files for key, files in keys.items() if files.images or files.labels or _pictured(files)}
    valid = f"for every KEY (a name up to its first dot) one image KEY.jpg, or another of {' '.join(SUFFIXES)}"
    several = [
        f"{key}: {', '.join(n for n, _ in files.images)}" for key, files in whole.items() if len(files.images) > 1
    ]
    shard.refuse(several, "keys have several images", valid)
    missing = [f"{key} (it has {_few(files)})" for key, files in whole.items() if not files.images]
    dotted = any("." in suffix for files in whole.values() if not files.images for suffix in files.others)
    shard.refuse(missing, "keys have no image", valid, _NO_DOTS if dotted else AGAIN)
    labels = f"KEY.cls, or KEY.json with one of {', '.join(LABEL_FIELDS)}"
    faults: dict[str, list[str]] = defaultdict(list)
    texts = {key: _texts(key, files, faults) for key, files in whole.items()}
    fields = {key: _fields(key, said, faults) for key, said in texts.items()}
    found = {key: _labels(key, texts[key], fields[key], faults) for key in whole}
    for words, names in faults.items():
        shard.refuse(names, words, labels, PLAIN_LABELS if words.endswith("nor a name") else AGAIN)
    lost = [f"no label for {key}" for key, said in found.items() if not said]
    shard.refuse(lost, "images have no label", labels, "label these images, or remove them")
    differing = [f"{key}: {' and '.join(said.values())}" for key, said in found.items() if _contradict(said)]
    shard.refuse(differing, "labels in .cls and .json files differ", labels)
    _require_agreement(found, shard)
    _require_classes([_first(said) for said in found.values()], shard)
    above = [posixpath.basename(posixpath.dirname(key)) for key in found]
    require_same_folders([_first(said) for said in found.values()], above, shard.path, shard.data)
    said = _names(fields, [_first(each) for each in found.values()], shard)
    samples = [
        Sample(key, name, member.offset_data, member.size, _first(found[key]), said.get(key, ""))
        for key, files in whole.items()
        for name, member in files.images
    ]
    beside = Counter(f".{suffix}" for files in whole.values() for suffix in files.others if _is_picture(suffix))
    beside["of keys without image and label"] = sum(
        len(files.others) for key, files in keys.items() if key not in whole
    )
    return samples, +beside


def _is_picture(suffix: str) -> bool:
    return f".{suffix}".endswith(SUFFIXES)


def _pictured(files: _Files) -> bool:
    return any(_is_picture(suffix) for suffix in files.others)


def _few(files: _Files) -> str:
    return ", ".join(f".{suffix}" for suffix in (*files.others, *files.labels)[:3])


def _first(said: Mapping[str, str]) -> str:
    return next(iter(said.values()))


def _contradict(said: Mapping[str, str]) -> bool:
    """Whether the labels of a .cls and a .json file are of one kind (numbers or names) and different."""
    if CLS not in said or len(said) < 2:
        return False
    one, other = (int(text) if text.isascii() and text.isdigit() else text for text in list(said.values())[:2])
    return type(one) is type(other) and one != other


def _require_agreement(found: Mapping[str, Mapping[str, str]], shard: _Shard) -> None:
    """Refuse samples in which another label field contradicts the field that is used."""
    for name in LABEL_FIELDS:
        both = [said for said in found.values() if name in said and next(iter(said)) != name]
        if differing := disagreement([_first(said) for said in both], [said[name] for said in both]):
            key = next(key for key, said in found.items() if said.get(name) == differing[1])
            shard.refuse(
                [f"{key}: {next(iter(found[key]))} {differing[0]} and {name} {differing[1]}"],
                "image has two labels that do not agree",
                "one label an image, or several that stand for each other one to one",
                "take one of the two fields out",
            )


def _texts(key: str, files: _Files, faults: dict[str, list[str]]) -> dict[str, str]:
    """The text of a key's .cls and .json file, by suffix; one that is not UTF-8 is added to `faults`."""
    texts = {}
    for suffix, content in files.labels.items():
        try:
            texts[suffix] = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            faults["files of labels are not UTF-8"].append(f"{key}.{suffix}")
    return texts


def _fields(key: str, texts: Mapping[str, str], faults: dict[str, list[str]]) -> Mapping[str, Any]:
    """The fields of a key's .json file; one that is no JSON is added to `faults`."""
    try:
        fields = parse_json(texts.get("json", "{}"))
    except ValueError:
        faults["files of labels are no JSON"].append(f"{key}.json")
        return {}
    return fields if isinstance(fields, dict) else {}


def _labels(
    key: str, texts: Mapping[str, str], fields: Mapping[str, Any], faults: dict[str, list[str]]
) -> dict[str, str]:
    """The labels of a key by what says them, the one that counts first: a .cls file goes before a .json file.

    What cannot be read is added to `faults`, by words on it.
    """
    found = {CLS: texts["cls"]} if "cls" in texts else {}
    names = [name for name in LABEL_FIELDS if name in fields]
    for name in names:
        value, whole = fields[name], isinstance(fields[name], int | str) and not isinstance(fields[name], bool)
        if not whole and name == names[0]:
            faults["labels are neither a whole number nor a name"].append(f"{key}.json: {json.dumps(value)[:40]}")
        if whole or name == names[0]:
            found[name] = str(value).strip()
    return found


def _names(fields: Mapping[str, Mapping[str, Any]], labels: Sequence[str], shard: _Shard) -> dict[str, str]:
    """The name of each key's class, where fields of .json files give it and labels are numbers.

    Raises:
        UserError: names and labels disagree; or keys belong to several splits, by a field or by their folder.
    """
    wanted = may_speak({name for each in fields.values() for name in each})
    columns = {name: [each.get(name) for each in fields.values()] for name in sorted(wanted)}
    require_rows_of_one_split(columns, shard.path, shard.data)
    folders = {key.partition("/")[0] for key in fields if "/" in key}
    require_one_split([Path(folder) for folder in sorted(folders)], shard.path, shard.data)
    names = names_beside(labels, columns, shard.path, shard.data)
    return dict(zip(fields, names, strict=True)) if names else {}


def _require_classes(labels: Sequence[str], shard: _Shard) -> None:
    numbers = all(re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|nan|[+-]?inf", label.lower()) for label in labels if label)
    faults = {
        "are empty": [not label for label in labels],
        "are words for a missing value": [label.lower() in MISSING for label in labels],
        "are negative, such as -1": [re.fullmatch("-[0-9]+", label) is not None for label in labels],
        "have control characters, as binary numbers and several lines have": [
            any(ord(letter) < 32 for letter in label) for label in labels
        ],
        "are fractions or no numbers": [numbers and re.fullmatch("-?[0-9]+", label) is None for label in labels],
    }
    for words, bad in faults.items():
        if any(bad):
            raise refuse_labels(shard.data, shard.path, sum(bad), len(labels), words)
