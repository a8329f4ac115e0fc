"""Record and failure: the files with the results of a step, or with the reason why it failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Protocol

import numpy as np

from rib.files import Seal
from rib.identity import digest

SEALED = ("weights", "features", "predictions")
"""Folders whose files have size and digest in the record."""

DROPPABLE = ("weights", "features")
"""Folders whose files can be removed while the record stays; steps compute them again on demand."""

_DIGEST = b', "digest": "'


class Described(Protocol):
    """The fields of a step that its record describes."""

    @property
    def key_name(self) -> str:
        """Name of its class in keys and records."""
        ...

    @property
    def key(self) -> str:
        """Identifies the result."""
        ...

    @property
    def title(self) -> str:
        """Human-readable label."""
        ...

    @property
    def spec(self) -> dict[str, Any]:
        """Its identity fields as JSON types."""
        ...


@dataclass(frozen=True)
class Record:
    """The results of a finished step.

    Attributes:
        key: key of the step.
        kind: Pretrain, Embed, Fit, Predict or Compare.
        title: human-readable label.
        spec: the step's identity fields; the steps that it needs appear by key.
        values: numbers and words of the result, by name.
        seconds: wall time of the step.
        images: number of images that went through a model.
        made_by: versions, commit and device.
        cpu: seconds of processor time over all threads; None in records of older versions.
        loading: wall seconds spent on reading weights, features and packs and on building nets; None as `cpu`.
        files: size and digest of the step's files, by folder; empty in records of older versions.
    """

    key: str
    kind: str
    title: str
    spec: dict[str, Any]
    values: dict[str, Any]
    seconds: float
    images: int
    made_by: dict[str, Any]
    cpu: float | None = None
    loading: float | None = None
    files: dict[str, list[Any]] = field(default_factory=dict)

    def seal(self, folder: str) -> Seal | None:
        """Size and digest of its file in that folder; None if the record has none."""
        return Seal(*self.files[folder]) if folder in self.files else None


def encode_record(document: Mapping[str, Any]) -> bytes:
    """A record's file: JSON whose last field is the digest of all others."""
    text = json.dumps(document).encode()
    return text[:-1] + _DIGEST + digest(text).encode() + b'"}'


def decode_record(data: bytes) -> Record:
    """The inverse of `encode_record`; also reads older versions without digests.

    Raises:
        ValueError, KeyError, TypeError: the file is truncated or damaged.
    """
    values, sealed = _decoded(data)
    if not sealed and "files" in values:
        raise ValueError("its digest is missing")
    return Record(**_of_types(Record, values, _RECORD_TYPES))


def _decoded(data: bytes) -> tuple[dict[str, Any], bool]:
    """The fields of an encoded record, and whether it has a digest. Raises ValueError as `decode_record`."""
    body, found, end = data.rpartition(_DIGEST)
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is not a table")
    if found and end != f'{digest(body + b"}")}"}}'.encode():
        raise ValueError("its digest is not that of its content")
    return values, bool(found)


_Types = Mapping[str, type | tuple[type, ...]]

_NUMBER = (int, float)

_RECORD_TYPES: _Types = {
    **{"key": str, "kind": str, "title": str, "spec": dict, "values": dict, "seconds": _NUMBER, "images": int},
    **{"made_by": dict, "cpu": (*_NUMBER, NoneType), "loading": (*_NUMBER, NoneType), "files": dict},
}

_FAILURE_TYPES: _Types = {
    **{"reason": str, "kind": str, "again": bool, "trace": str, "log": str, "attempt": int},
    **{"by": str, "when": str, "rib": str},
}


def _of_types(kind: type, values: Mapping[str, Any], types: _Types) -> dict[str, Any]:
    """The values that are fields of a dataclass. Raises ValueError if one has another type."""
    found = {one.name: values[one.name] for one in fields(kind) if one.name in values}
    for name, value in found.items():
        if not isinstance(value, types[name]) or (isinstance(value, bool) and types[name] is not bool):
            raise ValueError(f"its {name} is {type(value).__name__}")
    for folder, seal in found.get("files", {}).items():
        if folder not in SEALED or not _is_seal(seal):
            raise ValueError(f"its entry {folder!r} is not one of a record")
    return found


def _is_seal(value: object) -> bool:
    """Whether a value has the form of a file entry in a record: size and digest."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    size, found = value
    return type(size) is int and size >= 0 and isinstance(found, str)


def is_whole(data: bytes, key: str) -> bool:
    """Whether a file is the undamaged record of a step. For a record with a digest this does not parse the values."""
    body, found, end = data.rpartition(_DIGEST)
    if found and data.startswith(f'{{"key": "{key}", '.encode()):
        return end == f'{digest(body + b"}")}"}}'.encode()
    try:
        return decode_record(data).key == key
    except (ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Failure:
    """The last failure of a step.

    Attributes:
        reason: the reason, for messages.
        kind: "error", "diverged", "memory", "died", "hung", or "need" if a step that it needs failed.
        again: whether the next run retries the step. One that would fail in the same way is retried only on request.
        trace: traceback, if there is one.
        log: the last lines that the step printed.
        attempt: number of runs that have tried it.
        by: machine and process that tried it.
        when: time of the failure, UTC.
        rib: version and commit of RIB that failed.
    """

    reason: str
    kind: str = "error"
    again: bool = True
    trace: str = ""
    log: str = ""
    attempt: int = 1
    by: str = ""
    when: str = ""
    rib: str = ""


def decode_failure(data: bytes, key: str) -> Failure:
    """Decode the file of a failure; files of older versions have no digest.

    Raises:
        ValueError, KeyError, TypeError: the file is truncated, damaged, or belongs to another step.
    """
    values, sealed = _decoded(data)
    if values.get("key", None if sealed else key) != key:
        raise ValueError("it belongs to another step")
    if not sealed and "key" in values:
        raise ValueError("its digest is missing")
    return Failure(**_of_types(Failure, values, _FAILURE_TYPES))


def pack_bits(flags: np.ndarray[Any, Any]) -> str:
    """Booleans as hexadecimal, eight to a byte, for a record."""
    return np.packbits(flags).tobytes().hex()


def unpack_bits(text: str, count: int) -> np.ndarray[Any, Any]:
    """The inverse of `pack_bits`: bool (count,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)
