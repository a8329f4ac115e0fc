"""More hostile input by the rules of fuzzing.py: arguments of builders, configurations, special files, names."""

from __future__ import annotations

import json
import os
import shutil
import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzzing import FuzzError, Ground, rules, said, texts, to_toml
from rib.errors import RibError
from rib.models.arguments import OWN_BUILDERS, timm_arguments, torchvision_arguments
from rib.models.build import build
from rib.models.describe import describe
from rib.suite.load import parse_suite

# -- arguments of builders, configurations of folders ------------------------------------------------------------------

LOADING = (
    "pretrained", "cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "features_only",
    "out_indices", "hf_hub_id", "weights", "weights_backbone", "progress", "scriptable", "exportable",
    "num_classes", "device", "dtype", "kwargs", "__class__", "name", "vision",
)  # fmt: skip
"""Names that have loaded or written something, somewhere."""

ARCHITECTURES = ("resnet10t", "vit_tiny_patch16_224", "test_byobnet", "test_efficientnet", "test_vit", "levit_128s")

ELSEWHERE = ("hf-hub:a/b", "hf_hub:a/b", "local-dir:/nowhere", "https://127.0.0.1:9/x", "../x", "os.system")
"""Names that libraries take for a place, or that are no model's."""

BUILDERS: tuple[dict[str, Any], ...] = (
    *({"timm": name} for name in ARCHITECTURES),
    {"torchvision": "mobilenet_v3_small"},
    {"torchvision": "shufflenet_v2_x0_5"},
    *({library: name, "weights": "x"} for library in ("timm", "torchvision", "open_clip") for name in ELSEWHERE),
    *({"build": path, "weights": "resnet-0.safetensors"} for path in (*OWN_BUILDERS, "rib.cli:main", "os:system")),
)

small = st.one_of(st.integers(-2, 16), st.floats(-1, 2), st.booleans(), st.none(), texts)
"""Shapes that fit a machine: that a suite may ask for more memory than there is, SECURITY.md says."""

shapes = st.recursive(
    small, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=2)), max_leaves=4
)


def _argument_names(row: dict[str, Any]) -> list[str]:
    if not {"x"}.isdisjoint(row.values()):
        return ["width"]
    if "timm" in row:
        return sorted(timm_arguments(row["timm"]))
    if "torchvision" in row:
        return sorted(torchvision_arguments(row["torchvision"]))
    return ["width", "embed_dim", "dim", "depth", "heads", "image_size", "quick_gelu", "custom"]


@st.composite
def builders(draw: st.DrawFn) -> dict[str, Any]:
    """A model's row with arguments."""
    row: dict[str, Any] = dict(draw(st.sampled_from(BUILDERS))) | {"size": 32}
    names = st.one_of(st.sampled_from(_argument_names(row)), st.sampled_from(LOADING), texts)
    return row | {"arguments": draw(st.dictionaries(names, shapes, min_size=1, max_size=3))}


def try_builder(place: Ground, row: dict[str, Any]) -> bool:
    """Describe and build a model's row, as a plan and a run do; whether that went. Raises FuzzError."""
    made = deepcopy(place.suite)
    made["model"]["resnet"] = row
    return _is_built(place, made)


def _is_built(place: Ground, made: dict[str, Any]) -> bool:
    try:
        with rules(place):
            suite = parse_suite(made).based_at(place.root)
            build(describe(suite.model["resnet"], 4, place.root))
    except RibError as error:
        if "Traceback" in str(error) or not str(error).strip():
            raise FuzzError(f"an error that says nothing: {error!r}") from None
        return False
    return True


CONFIGURATION: dict[str, Any] = {
    "architecture": "resnet10t",
    "num_classes": 4,
    "model_args": {"drop_rate": 0.1},
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "crop_pct": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """The config.json of a stranger's folder: a valid one with values replaced, added or taken out."""
    made = deepcopy(CONFIGURATION)
    for _ in range(draw(st.integers(1, 3))):
        holder = draw(st.sampled_from((made, made.get("model_args"), made.get("pretrained_cfg"))))
        if not isinstance(holder, dict):
            continue
        name = draw(st.one_of(st.sampled_from((*holder, "x")), st.sampled_from((*CONFIGURATION, *LOADING)), texts))
        if draw(st.integers(0, 3)):
            holder[name] = draw(shapes)
        else:
            holder.pop(name, None)
    content = json.dumps(made).encode("utf-8", "replace")
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 9)) == 0 else content


def try_configuration(place: Ground, content: bytes) -> bool:
    """Describe and build what a folder's config.json says; whether that went. Raises FuzzError."""
    folder = place.root / "folder"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(content)
    (folder / "model.safetensors").write_bytes(b"")
    made = deepcopy(place.suite)
    made["model"]["resnet"] = {"hf": "folder"}
    return _is_built(place, made)


# -- special files -----------------------------------------------------------------------------------------------------

SPECIAL = ("pipe", "socket", "folder", "device", "loop", "nowhere", "unreadable", "empty", "endless", "environment")

PLACES: dict[str, dict[str, Any]] = {
    "s.toml": {},
    "clean.npz": {},
    "resnet-0.safetensors": {},
    "x.tar": {"whole": {"shards": "x.tar", "test_fraction": 0.5}},
    "shards/x.tar": {"whole": {"shards": "shards", "test_fraction": 0.5}},
    "x.parquet": {"whole": {"parquet": "x.parquet", "test_fraction": 0.5}},
    "parts/x.parquet": {"whole": {"parquet": "parts", "test_fraction": 0.5}},
    "tree/ant/x.png": {"whole": {"folder": "tree", "test_fraction": 0.5}},
    "tree/GENERATED.json": {"whole": {"folder": "tree", "test_fraction": 0.5}},
    "folder/config.json": {"model": {"hf": "folder"}},
    "folder/model.safetensors": {"model": {"hf": "folder"}},
    "folder/open_clip_config.json": {"model": {"open_clip": "folder"}},
}
"""Where something that is no plain file may lie, and the rows of a suite that lead there."""

specials = st.tuples(st.sampled_from(tuple(PLACES)), st.sampled_from(SPECIAL))


def make_special(path: Path, kind: str) -> None:
    """Put something that is no plain file, or none that can be read, where a file is looked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(os.path.relpath(path))  # a socket's path is short
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "endless":
            path.symlink_to("/dev/urandom")
        case "environment":
            path.symlink_to("/proc/self/environ")
        case "loop":
            path.symlink_to(path.name)
        case "nowhere":
            path.symlink_to("not-there")
        case "unreadable":
            path.write_bytes(b"x")
            path.chmod(0)
        case _:
            path.write_bytes(b"")


def try_special(place: Ground, where: str, kind: str) -> int:
    """Plan, check and run with something that is no plain file; the exit code of the plan. Raises FuzzError."""
    made, inside = deepcopy(place.suite), Path(place.root).iterdir()
    kept = {path: path.read_bytes() for path in inside if path.is_file() and not path.is_symlink()}
    rows = PLACES[where]
    made["data"] |= {name: row for name, row in rows.items() if name != "model"}
    if "model" in rows:
        made["model"]["resnet"] = rows["model"]
    file, path = place.root / "s.toml", place.root / where
    file.write_text(to_toml(made), "utf-8")
    path.unlink(missing_ok=True)
    make_special(path, kind)
    try:
        code, _ = said(place, "plan", str(file), "--store", str(place.store))
        said(place, "data", "check", str(file))
        return code
    finally:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for other, content in kept.items():
            other.write_bytes(content)


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = (
    "a\nb",
    "a\tb",
    "| a | b |",
    "---\nx: y",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "$HOME",
    "${RIB_TRUST}",
    "$TOKEN",
    "%s%n",
    "{{ 7 * 7 }}",
    "\\input{/etc/passwd}",
    "<b>x</b>",
    "`x`",
    "[x](javascript:alert(1))",
    "![x](http://x/y.png)",
    "'; drop table x; --",
    "\u202eabc",
    "\u200bx",
    "x" * 10_000,
    "CON",
    "a/../../b",
    "猫🦆",
    "e\u0301",
    " ",
    ".",
)
"""Names that mean something to a page, a terminal, LaTeX, Markdown, YAML, spreadsheets, SQL, shells, disks."""

names = st.one_of(st.sampled_from(NAMES), texts)
SLOTS = ("suite", "data", "model", "method", "class", "description", "note")


@st.composite
def named(draw: st.DrawFn, base: dict[str, Any]) -> dict[str, Any]:
    """A suite some of whose names are hostile."""
    made = deepcopy(base)
    for slot in draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=3, unique=True)):
        name = draw(names)
        match slot:
            case "suite" | "description" | "note":
                made["name" if slot == "suite" else slot] = name
            case "data":
                made["data"] = {name if key == "whole" else key: row for key, row in made["data"].items()}
                made["downstream"] = [name if key == "whole" else key for key in made["downstream"]]
            case "model":
                made["model"] = {name if key == "resnet" else key: row for key, row in made["model"].items()}
                made["models"] = [name if key == "resnet" else key for key in made["models"]]
            case "method":
                made["method"] = {name: {"kind": "finetune"}}
                made["runs"] = [{"methods": [name]}]
            case _:
                made["data"]["clean"] = made["data"]["clean"] | {"classes": [name, "bee", "cat", "dog"]}
    return made


def try_named(place: Ground, made: dict[str, Any]) -> int:
    """Plan a suite with hostile names, and report what there is; the exit code of the plan. Raises FuzzError."""
    file = place.root / "s.toml"
    file.write_text(to_toml(made), "utf-8", "replace")
    code, text = said(place, "plan", str(file), "--store", str(place.store), "--all")
    if code == 1:
        raise FuzzError(f"a plan failed otherwise than by the user's mistake: {text[-500:]}")
    if code == 0:
        said(place, "report", str(file), "--store", str(place.store), "--latex", str(place.store / "t.tex"))
    return code
