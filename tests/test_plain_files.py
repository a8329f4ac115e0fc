"""Whatever RIB reads is a plain file: no pipe that nobody writes to, no device without an end, no folder."""

from __future__ import annotations

import ast
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import rib
from rib.files import file_digest, plain, read_fact, read_plain

PACKAGE = Path(rib.__file__).parent

READERS = {
    "np.load",
    "pq.ParquetFile",
    "pq.read_table",
    "tarfile.open",
    "safe_open",
    "load_file",
    "torch.load",
    "zipfile.ZipFile",
    "gzip.open",
}
METHODS = {"read_bytes", "read_text", "open"}

OWN = {
    "files.py": "the function itself",
    "text/terminal.py": "the null device",
    "store/leases.py": "locks that RIB made",
    "store/owners.py": "/proc",
    "store/provenance.py": "/proc",
    "execute/pool.py": "traces that RIB's workers wrote",
    "report/model_folders.py": "cards in the folder that the user names",
    "report/page.py": "RIB's own template",
    "report/cache.py": "RIB's own source",
    "data/scans.py": "RIB's own source",
    "data/fields/__init__.py": "a shipped table",
    "usercode/sources.py": "modules that Python has imported",
    "data/imagenet_classes.py": "tables of RIB and timm",
    "data/digits/adversary.py": "shipped weights",
    "data/digits/corruptions.py": "bytes in memory",
    "data/images.py": "bytes in memory",
    "data/modes.py": "bytes in memory",
}
"""Modules that read what no stranger placed."""


def reads(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that read a file by its path, less those that are given an open file or bytes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in READERS:
            first = ast.unparse(node.args[0]) if node.args else ""
            if first and first not in ("file", "handle", "out", "stream") and not first.startswith(("io.", "aside")):
                yield node
        elif (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in METHODS
            and not (_writes(node) or name.startswith(("os.", "tarfile.", "Image.", "self._open", "SHIPPED", "pa.")))
        ):
            yield node


def _writes(node: ast.Call) -> bool:
    modes = [ast.unparse(argument) for argument in node.args] + [ast.unparse(word.value) for word in node.keywords]
    return any(mode.strip("'\"")[:1] in ("w", "x", "a") for mode in modes if mode.startswith(("'", '"')))


def is_checked(node: ast.Call) -> bool:
    where = node.args[0] if ast.unparse(node.func) in READERS else node.func.value  # type: ignore[attr-defined]
    return "plain(" in ast.unparse(where)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_every_file_that_is_read_is_known_to_be_plain(file: Path) -> None:
    if file.relative_to(PACKAGE).as_posix() in OWN:
        return
    loose = [node for node in reads(ast.parse(file.read_text("utf-8"))) if not is_checked(node)]
    assert [f"{file.name}:{node.lineno}: {ast.unparse(node)[:80]}" for node in loose] == []


TARGETS = {
    "device": "/dev/zero",
    "endless": "/dev/urandom",
    "loop": "x",
    "nowhere": "y",
    "environment": "/proc/self/environ",
    "kernel": "/sys/kernel/mm/transparent_hugepage/enabled",
}


@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "folder", "device", "endless", "loop", "nowhere", "environment", "kernel"]
)
def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it opened, a pipe would hold this test for ever and a device would fill the memory."""
    monkeypatch.chdir(tmp_path)
    path = Path("x")
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("x")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(TARGETS[kind])
    for read in (plain, read_plain, file_digest):
        with pytest.raises(OSError):
            read(path)
    assert read_fact(path) is None


def test_a_plain_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "y").symlink_to("x")
    assert read_plain(tmp_path / "x") == read_plain(tmp_path / "y") == b"abc"
