"""What a suite or a stranger's folder may say of a net: shapes, and nothing that loads, writes or starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
from torchvision import models

from fuzzing_doors import ELSEWHERE
from helpers import Say, document, toml
from rib.data.tokens import Tokens
from rib.errors import UserError
from rib.models import clip, transformer, vision
from rib.models.arguments import require_shapes, require_text, timm_arguments, torchvision_arguments
from rib.models.build import build
from rib.models.catalogue import ROWS, ModelRow
from rib.models.describe import describe
from rib.models.guard import nothing_but_building
from rib.models.text import TextInput, built_text

LOADING = {
    "pretrained": True,
    "cache_dir": "x",
    "pretrained_cfg": {"url": "file:///etc/passwd"},
    "pretrained_cfg_overlay": {"file": "x"},
    "checkpoint_path": "evil.pth",
    "features_only": True,
    "out_indices": [0],
    "scriptable": True,
    "pretrained_strict": False,
    "weights": "DEFAULT",
    "weights_backbone": "DEFAULT",
    "progress": True,
    "num_classes": 3,
    "device": "cuda",
    "dtype": "float16",
    "hf_hub_id": "a/b",
    "no_such_thing": 1,
}

ROWS_TAKING_ARGUMENTS: tuple[dict[str, Any], ...] = (
    {"timm": "resnet18", "size": 32},
    {"timm": "vit_tiny_patch16_224", "size": 224},
    {"timm": "deit_tiny_distilled_patch16_224"},
    {"torchvision": "resnet18", "size": 32},
    {"build": vision.BUILDER, "size": 32, "weights": "zoo:x", "arguments": {"name": "resnet18"}},
    {"build": "rib.models.small:small_resnet", "size": 32, "weights": "zoo:x"},
    {"build": clip.BUILDER, "size": 32, "weights": "zoo:x", "arguments": {"embed_dim": 8}},
)


@pytest.mark.parametrize("name", LOADING)
@pytest.mark.parametrize("fields", ROWS_TAKING_ARGUMENTS, ids=lambda fields: str(next(iter(fields.values()))))
def test_an_argument_that_shapes_no_net_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    arguments = fields.get("arguments", {}) | {name: LOADING[name]}
    with pytest.raises(UserError, match=f"only parameters that shape the net, and '{name}' is not one"):
        describe(ModelRow(**fields | {"arguments": arguments}), 3)


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "../x", "a.b", "file:x", "http://x", ["a/b"], {"x/y": 1}, {"x": ["é"]}, "a" * 65, "a\nb"]
)
def test_a_value_that_can_be_a_path_or_an_address_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"`arguments\.act_layer` has a value that cannot shape a net"):
        describe(ModelRow(timm="resnet18", size=32, arguments={"act_layer": value}), 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"timm": "resnet18", "arguments": {"act_layer": "silu", "drop_path_rate": 0.1, "block_args": {"x": None}}},
        {"timm": "vit_tiny_patch16_224", "size": 32, "arguments": {"img_size": 32, "depth": 1}},
        {"torchvision": "vit_b_16", "size": 32, "arguments": {"image_size": 32, "num_layers": 1}},
    ],
    ids=["resnet", "vit", "torchvision"],
)
def test_shapes_are_taken(fields: dict[str, Any]) -> None:
    assert describe(ModelRow(**fields), 3).arguments.items() >= fields["arguments"].items()


def test_every_model_that_a_library_lists_has_arguments_that_shape_it() -> None:
    assert [
        name for name in timm.list_models() if not timm_arguments(name) & {"drop_rate", "num_heads", "in_chans"}
    ] == []
    assert [name for name in models.list_models(module=models) if not torchvision_arguments(name)] == []


def test_every_configuration_that_open_clip_ships_is_taken() -> None:
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        require_text(name, config)
        require_shapes(name, clip.BUILDER, clip.builder_arguments(config))


@pytest.mark.parametrize("library", ["timm", "torchvision", "open_clip"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_a_library_takes_for_a_place_is_refused_before_it_is_asked(
    library: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def ask(*words: object, **_: object) -> None:
        asked.append(words)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with pytest.raises(UserError, match=f"unknown {library} model"):
        describe(ModelRow.model_validate({library: name, "weights": "x", "size": 32}), 3)
    assert asked == []


@pytest.mark.parametrize(
    ("tower", "said"),
    [
        ({"timm_model_name": "resnet18", "timm_model_pretrained": True}, "would download weights"),
        ({"timm_model_name": "local-dir:x"}, "not a timm model"),
        ({"timm_model_name": "hf-hub:a/b"}, "not a timm model"),
        ({"layers": "/x"}, "has a value that cannot shape a net"),
        ({"url": "x"}, "'url' is not one"),
    ],
)
def test_a_clip_tower_from_a_folder_loads_nothing(tmp_path: Path, tower: dict[str, Any], said: str) -> None:
    config = {"embed_dim": 8, "vision_cfg": tower, "text_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with pytest.raises(UserError, match=said):
        describe(ModelRow(open_clip=str(tmp_path)), 3)


@pytest.mark.parametrize("value", [0, "x", [1], None])
def test_a_tower_that_is_no_table_is_refused(value: object) -> None:
    arguments = {"embed_dim": 8, "vision": value}
    with pytest.raises(UserError, match=r"`arguments\.vision` is no table"):
        describe(ModelRow(build=clip.BUILDER, size=32, weights="zoo:x", arguments=arguments), 3)


@pytest.mark.parametrize(
    ("tower", "said"),
    [
        ({"hf_model_pretrained": True}, "would download weights"),
        ({"hf_model_name": "/etc/x"}, "names no repository"),
        ({"hf_tokenizer_name": "../x"}, "names no repository"),
        ({"hf_tokenizer_name": 3}, "names no repository"),
        ({"trust_remote_code": True}, "is not one"),
    ],
)
def test_a_text_tower_from_a_folder_loads_nothing(tmp_path: Path, tower: dict[str, Any], said: str) -> None:
    config = {"embed_dim": 8, "vision_cfg": {"layers": 1}, "text_cfg": tower}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with pytest.raises(UserError, match=said):
        describe(ModelRow(open_clip=str(tmp_path)), 3)


def test_a_strangers_folder_cannot_load_either(tmp_path: Path, rib_says: Say) -> None:
    payload = tmp_path / "payload.py"
    payload.write_text("raise SystemExit('ran')")
    evil = {"pretrained": True, "cache_dir": str(tmp_path / "out"), "pretrained_cfg_overlay": {"url": payload.as_uri()}}
    view = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    folder = tmp_path / "folder"
    folder.mkdir()
    config = {"architecture": "resnet10t", "model_args": evil, "pretrained_cfg": view}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x")
    made = document(tmp_path)
    made["model"]["resnet"] = {"hf": "folder"}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert "'pretrained' is not one" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path", ["rib.models.loading:build", "rib.files:write_aside", "rib.models.small:nn", "rib.store:Store", "rib:run"]
)
def test_of_ribs_own_functions_only_builders_build(path: str) -> None:
    with pytest.raises(UserError, match="unknown model builder of RIB's own") as error:
        describe(ModelRow(build=path, size=32, weights="zoo:x"), 3)
    assert "rib.models.small:small_resnet" in str(error.value)


def test_every_row_of_the_catalogue_is_taken() -> None:
    for name, row in ROWS.items():
        if row.open_clip is None and row.transformers is None:  # all of their configurations: above; folders: not here
            assert describe(row, 10).classes == 10, name


def quietly(attempt: Callable[[], object]) -> Callable[[], None]:
    """As a library tries something, and goes on where it cannot."""

    def tries() -> None:
        with suppress(Exception):
            attempt()

    return tries


def attempts(folder: Path) -> dict[str, Callable[[], object]]:
    file, there = folder / "new", folder / "there"
    return {
        "open": lambda: file.open("w"),
        "append": lambda: there.open("ab"),
        "update": lambda: there.open("r+b"),
        "os.open": lambda: os.open(file, os.O_CREAT | os.O_WRONLY),
        "mkdir": lambda: file.mkdir(),
        "mkdir by a detour": lambda: Path(f"{tempfile.gettempdir()}/torchinductor_x/../{folder.name}-new").mkdir(),
        "unlink": lambda: there.unlink(),
        "rename": lambda: there.rename(file),
        "link": lambda: file.symlink_to(there),
        "hard link": lambda: file.hardlink_to(there),
        "chmod": lambda: there.chmod(0o777),
        "truncate": lambda: os.truncate(there, 0),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "socket": lambda: socket.socket().close(),
        "resolve": lambda: socket.getaddrinfo("localhost", 80),
        "program": lambda: subprocess.run(["true"], check=False),
        "shell": lambda: os.system("true"),
        "fork": lambda: os.fork() or os._exit(0),
    } | ({"thread": lambda: threading.Thread(target=print).start()} if sys.version_info >= (3, 12) else {})


@pytest.mark.parametrize("name", attempts(Path()))
@pytest.mark.parametrize("way", [lambda attempt: attempt, quietly], ids=["plain", "caught by a library"])
def test_a_builder_writes_reaches_and_starts_nothing(
    tmp_path: Path, name: str, way: Callable[[Callable[[], object]], Callable[[], object]]
) -> None:
    (tmp_path / "there").write_text("kept")
    with pytest.raises(UserError, match="tried to do more than build a net"), nothing_but_building("a net"):
        way(attempts(tmp_path)[name])()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


def test_the_guard_ends_with_its_block_and_holds_for_its_thread_alone(tmp_path: Path) -> None:
    other: list[str] = []
    ready, go = threading.Event(), threading.Event()

    def writes() -> None:
        ready.set()
        go.wait(10)
        (tmp_path / "other").write_text("x")
        other.append("written")

    thread = threading.Thread(target=writes)
    thread.start()
    ready.wait(10)
    with nothing_but_building("a net"):
        assert Path(__file__).read_text()
        go.set()
        thread.join(10)
    (tmp_path / "after").write_text("x")
    assert other == ["written"]


def test_nets_are_built_under_the_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever argument slips through: what timm would do with it is stopped where it is done."""
    architecture = describe(ModelRow(timm="resnet18", size=32), 3)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: (tmp_path / "evil").write_text("x"))
    with pytest.raises(UserError, match="tried to do more than build a net"):
        build(architecture)
    assert not (tmp_path / "evil").exists()


def test_the_lowest_versions_are_those_that_are_tried() -> None:
    """`make lowest` runs over constraints-lowest.txt: each bound of pyproject.toml is there, and equal."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = [*project["dependencies"], *extras["clip"], *extras["figures"], *extras["sql"]]
    lowest = dict(
        line.split("==") for line in (root / "constraints-lowest.txt").read_text().splitlines() if "==" in line
    )
    known = {name.lower(): tuple(map(int, version.split("."))) for name, version in lowest.items()}
    for bound in bounds:
        name, version = bound.split(">=")
        wanted = tuple(map(int, version.split(".")))
        assert known[name.lower()][: len(wanted)] == wanted, bound
    assert len(bounds) == len(known)


@pytest.mark.parametrize("name", ["attn_implementation", "experts_implementation", "quantization_config", "auto_map"])
def test_a_configuration_of_transformers_chooses_no_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers loads kernels that a configuration names from its cache, if the package `kernels` is there."""
    monkeypatch.setattr("rib.models.transformer.require_installed", lambda: None)
    shape = {"model_type": "bert", "hidden_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(shape | {name: "evil/kernels"}))
    row = ModelRow(transformers=str(tmp_path))
    found = TextInput(Tokens(8, "digest", 30), 0, "", {})
    assert built_text(row, found, tmp_path) == (transformer.BUILDER, {"config": shape, "pad": 0})
