"""Hostile input made at random: suite files, checkpoints, image folders. What each does to RIB is held against rules.

The user is told in words (exit code 2, or 1 where steps failed), never by a traceback; it ends in time; nothing is
written outside the store; nothing is asked of the network.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from helpers import document, pictures
from rib.cli import main
from rib.errors import RibError
from rib.plan import make_plan
from rib.steps import How, Load, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite

SECONDS = 30
"""Longest that a case may compute."""

PATIENCE = 10
"""How many times as long it may take by the clock: the machine may be busy."""

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
"""Events of the interpreter by which a file system changes; `open` is one too."""


class FuzzError(AssertionError):
    """A rule that a case broke."""


@dataclass
class Ground:
    """A folder in which cases are tried.

    Attributes:
        root: the folder; everything below it but the store must stay as it is.
        suite: a suite whose data and weights are there.
    """

    root: Path
    suite: dict[str, Any]

    @property
    def store(self) -> Path:
        """The only place where anything may be written."""
        return self.root / "store"


def ground(folder: Path) -> Ground:
    """A folder with a suite of array files, a folder tree and a checkpoint."""
    (folder / "home").mkdir()
    made = document(folder, per_class=2)
    made["recipe"]["epochs"] = 1
    made["method"] = {"gentle": {"kind": "l2_sp", "strength": 0.1}, "mixed": {"kind": "wise_ft", "alpha": 0.5}}
    made["runs"] = [{"methods": ["finetune", "gentle", "mixed"], "seeds": [0, 1]}]
    made["analyses"] = [{"names": ["drift"]}]
    made["description"] = "text"
    return Ground(folder, made)


# -- rules -------------------------------------------------------------------------------------------------------------


class _Guard:
    """Sees what the process opens for writing, while a case is tried. An audit hook cannot be taken off."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.faults: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, given: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in ("socket.connect", "socket.getaddrinfo", "os.system"):
            self.faults.append(f"{event} {given[1:]!r}")
        elif event in WRITES or (event == "open" and _for_writing(given)):
            paths = [one for one in given if isinstance(one, str | bytes)][: 2 if event == "os.rename" else 1]
            if event in ("os.remove", "os.rmdir") and isinstance(given[-1], int) and given[-1] >= 0:  # below a handle
                paths = [str(Path(f"/proc/self/fd/{given[-1]}").readlink() / os.fsdecode(paths[0]))]
            self.faults += [f"{event} {path}" for path in map(os.fsdecode, paths) if not self._may(path)]

    def _may(self, path: str) -> bool:
        assert self.allowed is not None
        return os.path.realpath(path).startswith(self.allowed)


def _for_writing(given: tuple[Any, ...]) -> bool:
    """Whether a path is opened so; a descriptor was opened before, or is a pipe."""
    path, mode, flags = given
    if isinstance(path, int):
        return False
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return bool(flags & changing) if isinstance(flags, int) else bool(set(mode or "") & set("wax+"))


@cache
def _guard() -> _Guard:
    return _Guard()


class _Slow(BaseException):
    """Time is up. No `except Exception` on the way holds it."""


@contextmanager
def rules(place: Ground) -> Iterator[None]:
    """Hold what the block does against the rules. Raises FuzzError."""
    guard, before = _guard(), _listing(place)
    guard.faults, guard.allowed = [], (str(place.store), "/dev/null", f"{tempfile.gettempdir()}/torchinductor_")
    for number, timer, seconds in (
        (signal.SIGPROF, signal.ITIMER_PROF, 1),
        (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE),
    ):
        signal.signal(number, _raise_slow)
        signal.setitimer(timer, seconds * SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and PIL about odd files; not a rule
            yield
    except _Slow:
        raise FuzzError(f"not done after {SECONDS} s") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        guard.allowed = None
    if guard.faults:
        raise FuzzError(f"outside of the store: {guard.faults}")
    if (after := _listing(place)) != before:
        raise FuzzError(f"files outside of the store changed: {sorted(before ^ after)}")


def _raise_slow(*_: Any) -> None:
    raise _Slow


def _listing(place: Ground) -> frozenset[tuple[str, int, int]]:
    found = []
    for folder, folders, files in os.walk(place.root):
        if Path(folder) == place.root:
            folders[:] = [name for name in folders if name != "store"]
        for name in (*folders, *files):
            stat = (Path(folder) / name).lstat()
            found.append((f"{folder}/{name}", stat.st_size if name in files else 0, stat.st_ino))
    return frozenset(found)


def said(place: Ground, *words: str) -> tuple[int, str]:
    """Run the command in this process by the rules: its exit code, and what it printed. Raises FuzzError."""
    out, argv, path, here, modules = io.StringIO(), sys.argv, list(sys.path), Path.cwd(), set(sys.modules)
    sys.argv = ["rib", *words]
    os.chdir(place.root / "home")
    try:
        with rules(place), redirect_stdout(out), redirect_stderr(out):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
    finally:
        os.chdir(here)
        sys.argv, sys.path[:] = argv, path
        for name in set(sys.modules) - modules:
            if str(place.root) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    text = out.getvalue()
    if code not in (0, 1, 2):
        raise FuzzError(f"exit code {code}: {text[-500:]}")
    if "Traceback" in text or "\x1b" in text:
        raise FuzzError(f"a traceback or an escape: {text[-1500:]}")
    return code, text


# -- suite files -------------------------------------------------------------------------------------------------------

TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../outside",
    "/",
    "/dev/zero",
    "/dev/null",
    "/etc/passwd",
    "/proc/self/mem",
    "~",
    "~nobody/x",
    "~/outside",
    "$HOME/outside",
    "${HOME",
    "a\0b",
    "\x1b[31mred",
    "[red]x[/red] :smile:",
    "</script><script>alert(1)</script>",
    "{000..99999999999}",
    "{1..3}{1..9999}{1..9999}{1..9999}",
    "*",
    "**/**/**/**/*",
    "[",
    "{}",
    "zoo:../../x",
    "zoo:resnet_small",
    "digits:resnet_small",
    "imagenet:v2",
    "os:system",
    "torch.hub:load",
    "helpers:bn_net",
    "helpers:command",
    "rib.models.small:small_vit",
    "rib.cli:main",
    "resnet18",
    "hf_hub:x/y",
    "ViT-B-32",
    "openai",
    "clean",
    "whole",
    "resnet",
    "finetune",
    "gentle",
    "clean.npz",
    "resnet-0.safetensors",
    "s.toml",
    "home",
    "x" * 5000,
    "é 猫 🦆 \u202e",
    "nan",
    "1e400",
)

NUMBERS = (0, 1, 2, 3, 7, -1, -(2**63), 2**31, 2**63, 10**30, 0.0, 0.5, 1.0, 1.5, -0.5, 1e-300, 1e300)
ODD = (float("nan"), float("inf"), float("-inf"))

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))
leaves = st.one_of(texts, st.sampled_from((*NUMBERS, *ODD)), st.integers(), st.floats(), st.booleans())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@cache
def _field_names() -> tuple[str, ...]:
    """Every key that some table of a suite may have."""
    from rib.data.catalogue import DataRow
    from rib.models.catalogue import ModelRow, PretrainRow, ReferenceRow
    from rib.recipe import Recipe
    from rib.suite.suite import Suite

    tables = (Suite, DataRow, ModelRow, PretrainRow, ReferenceRow, Recipe)
    more = ("names", "methods", "models", "seeds", "sizes", "kind", "sweep", "alpha", "strength", "on")
    return (*{name for table in tables for name in table.model_fields}, *more)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*at, name)
        yield from _places(item, (*at, name))


@st.composite
def suites(draw: st.DrawFn, base: dict[str, Any]) -> bytes:
    """A suite file: a valid one, less some keys, with others in place, or with bytes changed."""
    made = deepcopy(base)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.sampled_from(sorted(_places(made), key=str)))
        holder = made
        for name in at[:-1]:
            holder = holder[name]
        match draw(st.sampled_from(("replace", "replace", "delete", "add", "rename"))):
            case "replace":
                holder[at[-1]] = draw(values)
            case "delete":
                del holder[at[-1]]
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(_field_names()))] = draw(values)
            case "rename" if isinstance(holder, dict):
                holder[draw(texts)] = holder.pop(at[-1])
        if not made:
            break
    content = to_toml(made).encode("utf-8", "replace")
    return draw(changed(content)) if draw(st.integers(0, 5)) == 0 else content


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some of them overwritten, taken out, put in, or cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "put", "take", "number"))):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "put":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "take":
                del data[at : at + draw(st.integers(1, 40))]
            case "number":  # lengths and offsets live in these
                data[at : at + 4] = draw(st.sampled_from((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f")))
    return bytes(data)


def to_toml(made: dict[str, Any]) -> str:
    """A document as TOML of one line a key."""
    return "".join(f"{_text(name)} = {_inline(value)}\n" for name, value in made.items())


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)} = {_inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _text(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)


def try_suite(place: Ground, content: bytes) -> int:
    """Plan a suite file, and look at its data; the exit code of the plan. Raises FuzzError."""
    file = place.root / "s.toml"
    file.write_bytes(content)
    code, text = said(place, "plan", str(file), "--store", str(place.store), "--all")
    if code == 1:
        raise FuzzError(f"a plan failed otherwise than by the user's mistake: {text[-500:]}")
    said(place, "data", "check", str(file))
    return code


# -- checkpoints -------------------------------------------------------------------------------------------------------

KINDS_OF_CHECKPOINT = ("safetensors", "pt", "zip", "legacy")


@cache
def _checkpoint(folder: Path, kind: str) -> bytes:
    from safetensors.torch import load_file

    whole = folder / "resnet-0.safetensors"
    if kind == "safetensors":
        return whole.read_bytes()
    state: Any = load_file(whole)
    out = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 3}, out, _use_new_zipfile_serialization=kind != "legacy")
    return out.getvalue()


@st.composite
def checkpoints(draw: st.DrawFn, folder: Path) -> tuple[str, bytes]:
    """A checkpoint with bytes changed: how its name ends, and what it holds."""
    kind = draw(st.sampled_from(KINDS_OF_CHECKPOINT))
    ending = "safetensors" if kind == "safetensors" else draw(st.sampled_from(("pt", "pth", "bin", "ckpt")))
    whole = _checkpoint(folder, kind)
    if draw(st.booleans()):  # where names, shapes and lengths are
        size = min(len(whole), 1500)
        side = draw(st.booleans())
        part = draw(changed(whole[:size] if side else whole[-size:]))
        return ending, part + whole[size:] if side else whole[:-size] + part
    return ending, draw(st.one_of(changed(whole), st.binary(max_size=200)))


def try_checkpoint(place: Ground, ending: str, content: bytes) -> bool:
    """Plan with a checkpoint and load it, as a run does; whether it was taken. Raises FuzzError."""
    for old in place.root.glob("fuzzed.*"):
        old.unlink()
    (place.root / f"fuzzed.{ending}").write_bytes(content)
    made = deepcopy(place.suite)
    made["model"]["resnet"]["weights"] = f"fuzzed.{ending}"
    try:
        with rules(place):
            suite = parse_suite(made).based_at(place.root)
            store = Store(place.store)
            plan = make_plan(suite, store.facts)
            load = next(step.fit.start for step in plan.steps if hasattr(step, "fit"))
            assert isinstance(load, Load)
            found = Workshop(suite, store, How(device="cpu"), lambda _images, _passes: None).weights(load)
    except RibError as error:
        _readable(str(error))
        return False
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values() if tensor.is_floating_point()):
        raise FuzzError("weights that are not finite were taken")
    return True


def _readable(text: str) -> None:
    if "Traceback" in text or not text.strip():
        raise FuzzError(f"an error that says nothing: {text!r}")


# -- image folders -----------------------------------------------------------------------------------------------------

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM"}

FOLDERS = ("ant", "bee", "cat", "dog", "Ant", "ant ", ".hidden", "x\x1b[2J", "a\nb", "..x", "é猫", "-r", "$HOME", "%s")


@cache
def image_file(kind: str, seed: int = 0) -> bytes:
    """A good image file, another one for each seed."""
    out = io.BytesIO()
    Image.fromarray(pictures(np.array([1]), seed)[0]).save(out, FORMATS[kind])
    return out.getvalue()


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes | str]:
    """A file of a folder tree: how its name ends, and its bytes, or in a word what it is instead of a file."""
    kind = draw(st.sampled_from(sorted(FORMATS)))
    odd = st.sampled_from(("link up", "dangling", "loop", "pipe", "zero", "folder", "huge", "unreadable"))
    content = st.one_of(
        st.just(image_file(kind)), st.just(image_file(kind)), changed(image_file(kind)), st.binary(max_size=60), odd
    )
    return draw(st.sampled_from((kind, kind, kind.upper(), "png", "txt"))), draw(content)


Tree = dict[str, list[tuple[str, bytes | str]]]
"""Files of folders."""


@st.composite
def trees(draw: st.DrawFn) -> tuple[Tree, float]:
    """A folder tree, mostly a good one with files or folders more; and the share of it that is tested on."""
    made: Tree = draw(st.sampled_from((good_tree(), good_tree(), good_tree(), {})))
    names = st.one_of(st.sampled_from(FOLDERS[:4]), st.sampled_from(FOLDERS))
    more = draw(st.dictionaries(names, st.lists(files(), max_size=3), max_size=2))
    made = made | {name: [*made.get(name, []), *added] for name, added in more.items()}
    return made, draw(st.sampled_from((0.0, 0.5, 0.9)))


def good_tree() -> Tree:
    """Four classes of two images, no two of them alike."""
    return {
        name: [("png", image_file("png", 2 * place)), ("jpg", image_file("jpg", 2 * place + 1))]
        for place, name in enumerate(FOLDERS[:4])
    }


def _plant(root: Path, tree: Tree) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for folder, contents in tree.items():
        (root / folder).mkdir()
        for number, (ending, content) in enumerate(contents):
            path = root / folder / f"{number}.{ending}"
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                _odd(path, content)


def _odd(path: Path, what: str) -> None:
    targets = {"link up": "../../clean.npz", "dangling": "nowhere", "loop": path.name, "zero": "/dev/zero"}
    if what in targets:
        path.symlink_to(targets[what])
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "huge":  # 60,000 x 60,000 in a few bytes
        path.write_bytes(b"P6 60000 60000 255\n" + bytes(100))
    else:
        path.write_bytes(image_file("png"))
        path.chmod(0)


def try_tree(place: Ground, tree: Tree, fraction: float) -> int:
    """Check, plan and decode a folder tree; the exit code of the decoding. Raises FuzzError."""
    _plant(place.root / "tree", tree)
    made = deepcopy(place.suite)
    made["data"]["whole"] = {"folder": "tree", "test_fraction": fraction}
    file = place.root / "s.toml"
    file.write_text(to_toml(made))
    code, _ = said(place, "data", "check", str(file))
    packed, text = said(place, "data", "pack", str(file), "--store", str(place.store))
    if packed == 1:
        raise FuzzError(f"data failed otherwise than by the user's mistake: {text[-500:]}")
    if packed == 0 and code != 0:
        raise FuzzError(f"what the check found wrong was taken: {text[-500:]}")
    return packed


def in_turn(tries: Callable[[Ground], None]) -> None:
    """Run in a fresh folder, with HOME there."""
    home, quiet = os.environ.get("HOME"), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory(prefix="rib-fuzz-") as folder:
        place = ground(Path(folder).resolve())
        os.environ["HOME"] = str(place.root / "home")
        try:
            tries(place)
        finally:
            sys.dont_write_bytecode = quiet
            with suppress(KeyError):
                del os.environ["HOME"]
            if home is not None:
                os.environ["HOME"] = home
