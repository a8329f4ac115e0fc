"""Keys: a short hash of everything that determines a result, and of nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
from functools import cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rib.errors import UserError
from rib.usercode.modules import is_installed
from rib.usercode.reading import files_read, require_declared
from rib.usercode.sources import sources, text_of

KEY_VERSION = 2

RUNTIME = {"identity": False}
"""Metadata of a dataclass field that is not hashed: a label, a path, or a fact about the machine."""

OPTION = {"option": True}
"""Metadata of a dataclass field that is not hashed if it is None, so that a new option keeps all earlier keys."""


TRUSTED = "RIB_TRUST"
"""Environment variable with the installed packages that suites may name, separated by commas."""


def key_of(kind: str, content: object) -> str:
    """40 hexadecimal digits that identify `content`. Equal contents give equal keys on every machine."""
    document = f'{{"content":{_text(content)},"key_version":{KEY_VERSION},"kind":{_dumped(kind)}}}'
    return digest(document.encode())


def key_of_spec(kind: str, spec: object) -> str:
    """`key_of` for content that is in canonical form already, such as the spec of a record."""
    return digest(f'{{"content":{_dumped(spec)},"key_version":{KEY_VERSION},"kind":{_dumped(kind)}}}'.encode())


def _text(value: Any) -> str:
    """`canonical` as JSON. The text of a frozen dataclass is cached, because a label map is large and has many
    users."""
    if isinstance(value, dict):
        texts = {str(name): _text(content) for name, content in value.items()}
        return "{" + ",".join(f"{_dumped(name)}:{texts[name]}" for name in sorted(texts)) + "}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(_text, value)) + "]"
    if not dataclasses.is_dataclass(value) or isinstance(getattr(value, "key", None), str):
        return _dumped(canonical(value))
    known: str | None = vars(value).get("_identity")
    if known is None:
        known = _dumped(canonical(value))
        object.__setattr__(value, "_identity", known)
    return known


def _dumped(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(data: bytes) -> str:
    """BLAKE2b of `data`, 160 bits in hexadecimal."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def canonical(value: Any) -> Any:
    """`value` as JSON types. A value with a `key` is replaced by its key; runtime fields are left out.

    Raises:
        TypeError: a type has no canonical form.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(name): canonical(item) for name, item in value.items()}
    if isinstance(value, BaseModel):
        return model_identity(value)
    key = getattr(value, "key", None)
    if isinstance(key, str):
        return key
    if dataclasses.is_dataclass(value):
        return identity_fields(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def identity_fields(value: Any) -> dict[str, Any]:
    """The hashed fields of a frozen dataclass, in canonical form."""
    return {name: canonical(content) for name, content in identity_values(value).items()}


def identity_values(value: Any) -> dict[str, Any]:
    """The hashed fields of a frozen dataclass, unchanged."""
    kind: Any = type(value)
    return {
        name: content
        for name, is_option in _hashed_fields(kind)
        if (content := getattr(value, name)) is not None or not is_option
    }


@cache
def _hashed_fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    """Names of the hashed fields of a dataclass, and whether each is an option."""
    return tuple(
        (field.name, field.metadata.get("option", False))
        for field in dataclasses.fields(kind)
        if field.metadata.get("identity", True)
    )


def key_name(kind: type) -> str:
    """The name of a class in keys.

    A class of RIB states it in `key_name`, so that moving or renaming the class changes no key. A user's class has its
    module and name.

    Raises:
        TypeError: a class of RIB has no `key_name` of its own. An inherited one would give two classes one name.
    """
    if kind.__module__.partition(".")[0] != "rib":
        return f"{kind.__module__}:{kind.__qualname__}"
    name = vars(kind).get("key_name")
    if not isinstance(name, str):
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} needs a `key_name` of its own")
    return name


def model_identity(value: BaseModel) -> dict[str, Any]:
    """A pydantic value as JSON types, with its class. A user's class adds a digest of its source.

    Fields that are None are left out, and so are values in the class's `unhashed`, so that a new option keeps all
    earlier keys.
    """
    kind = type(value)
    left_out = {name: (None, without) for name, without in getattr(kind, "unhashed", {}).items()}
    given = {
        name: field
        for name in kind.model_fields
        if (field := getattr(value, name)) is not None and field not in left_out.get(name, ())
    }
    fields: dict[str, Any] = {name: canonical(field) for name, field in given.items()}
    return {
        "class": key_name(kind),
        "source": source_digest(kind.__module__),
        **fields,
    }


def source_digest(module: str) -> str | None:
    """Digest of the source of a module outside RIB, and of the user modules that it imports (`rib.usercode.sources`).

    None for a module of RIB itself, whose content `KEY_VERSION` stands for.

    Raises:
        UserError: the source of the module, or of one of its imports, cannot be determined.
    """
    if module.split(".")[0] == "rib":
        return None
    found = sources(module)
    if not found:
        raise UserError(
            f"the module {module!r} has no source file, so RIB cannot tell its results from those of other code",
            got="code that was typed in, or is built in",
            valid="a module in a file, beside the suite file, in the working folder or on PYTHONPATH",
        )
    (_, own), *others = found.items()
    first = digest(text_of(own).encode() if _is_text(own) else own)
    rest = sorted([name, digest(content)] for name, content in others if content.strip())
    return digest(json.dumps([first, rest]).encode()) if rest else first


def _is_text(content: bytes) -> bool:
    try:
        text_of(content)
    except (SyntaxError, UnicodeDecodeError):
        return False
    return True


def _may_run(module: str) -> bool:
    """Whether a suite may name a module: one of RIB, of the user, or of a package that the user trusts by name.

    With the right arguments, functions of installed packages load code from anywhere, so a suite must not choose them.
    """
    top = module.partition(".")[0]
    if top == "rib" or top in os.environ.get(TRUSTED, "").split(","):
        return True
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return True  # the import will report that the module is missing
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return bool(places) and not any(is_installed(Path(place)) for place in places if place)


def import_object(path: str, what: str) -> Any:
    """The object that a suite names as `package.module:name`.

    Raises:
        UserError: the text has another form; the module is not the user's own, or cannot be imported; or it has no such
            name.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UserError(f"a {what} is named as 'package.module:name'", got=path)
    if not _may_run(module):
        raise UserError(
            f"the {what} {path!r} is installed code from outside RIB, and a suite alone may not run it",
            got=path,
            valid="a module beside the suite file, in the working folder or on PYTHONPATH",
            remedy=f"if you trust the suite: export {TRUSTED}={module.partition('.')[0]}",
        )
    try:
        with files_read() as read:
            home = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"cannot import the {what} {path!r}: {error}",
            got=path,
            remedy=f"put the folder that holds {module.split('.')[0]!r} beside the suite file or on PYTHONPATH",
        ) from None
    except Exception as error:  # any error that the user's module raises
        raise UserError(
            f"the module of the {what} {path!r} fails when it is imported",
            got=f"{type(error).__name__}: {error}",
            remedy=f"python -c 'import {module}' shows where",
        ) from None
    require_declared(module, read)
    found: Any = getattr(home, name, None)
    if found is None:
        raise UserError(f"module {module!r} has no {name!r}", got=path, remedy="check the name")
    return found
