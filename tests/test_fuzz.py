"""Hostile input at random, in a short form; `python -m soak fuzz` is the long one. The rules stand in fuzzing.py."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

import fuzzing
import fuzzing_archives
import fuzzing_doors as doors
from fuzzing import FuzzError, Ground, in_turn, said, try_checkpoint, try_suite, try_tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs pipes and alarms")


def few(count: int) -> settings:
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def test_suite_files() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(40)
        @given(fuzzing.suites(place.suite))
        def one(content: bytes) -> None:
            try_suite(place, content)

        one()
        assert try_suite(place, fuzzing.to_toml(place.suite).encode()) == 0

    in_turn(tries)


def test_checkpoints() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(40)
        @given(fuzzing.checkpoints(place.root))
        def one(case: tuple[str, bytes]) -> None:
            try_checkpoint(place, *case)

        one()
        assert try_checkpoint(place, "safetensors", (place.root / "resnet-0.safetensors").read_bytes())

    in_turn(tries)


def test_image_folders() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(25)
        @given(fuzzing.trees())
        def one(case: tuple[fuzzing.Tree, float]) -> None:
            try_tree(place, *case)

        one()
        assert try_tree(place, fuzzing.good_tree(), 0.5) == 0

    in_turn(tries)


def test_arguments_of_builders() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(60)
        @given(doors.builders())
        def one(row: dict[str, Any]) -> None:
            doors.try_builder(place, row)

        one()
        assert doors.try_builder(place, {"timm": "resnet10t", "size": 32, "arguments": {"drop_rate": 0.5}})

    in_turn(tries)


def test_configurations_of_folders() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(60)
        @given(doors.configurations())
        def one(content: bytes) -> None:
            doors.try_configuration(place, content)

        one()
        assert doors.try_configuration(place, json.dumps(doors.CONFIGURATION).encode())

    in_turn(tries)


def test_names() -> None:
    def tries(place: Ground) -> None:
        @seed(1)
        @few(25)
        @given(doors.named(place.suite))
        def one(made: dict[str, Any]) -> None:
            doors.try_named(place, made)

        one()
        assert doors.try_named(place, place.suite) == 0

    in_turn(tries)


def test_archives() -> None:
    """Imported whole or not at all; what was taken can be verified and shown."""

    def tries(place: Ground) -> None:
        base = fuzzing_archives.whole(place)

        @seed(1)
        @few(15)
        @given(fuzzing_archives.archives(base))
        def one(content: bytes) -> None:
            fuzzing_archives.try_archive(place, content)

        one()
        assert fuzzing_archives.try_archive(place, base.packed()) == 0

    in_turn(tries)


@pytest.mark.parametrize("where", doors.PLACES)
def test_special_files(where: str) -> None:
    """Nothing waits for a pipe or reads a file without an end; what is no file is refused where it is named."""

    def tries(place: Ground) -> None:
        for kind in doors.SPECIAL:
            code = doors.try_special(place, where, kind)
            if kind in ("pipe", "socket", "device", "endless") and "GENERATED" not in where:
                assert code == 2, kind

    in_turn(tries)


@pytest.fixture
def place(tmp_path: Path) -> Ground:
    return fuzzing.ground(tmp_path.resolve())


@pytest.mark.parametrize("what", ["outside", "link", "network", "slow", "traceback", "escape", "code"])
def test_the_rules_see_what_they_forbid(place: Ground, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that nothing can break is none."""

    def bad() -> None:
        if what == "outside":
            (place.root / "x").write_bytes(b"")
        elif what == "link":
            (place.store).mkdir(exist_ok=True)
            (place.store / "x").symlink_to(place.root / "home")
            (place.store / "x" / "y").write_bytes(b"")
        elif what == "network":
            with socket.socket() as one, pytest.raises(OSError):
                one.connect(("127.0.0.1", 1))
        elif what == "slow":
            while True:
                pass
        elif what in ("traceback", "escape"):
            print({"traceback": "Traceback (most recent call last)", "escape": "\x1b[2J"}[what])
        raise SystemExit(3 if what == "code" else 0)

    monkeypatch.setattr(fuzzing, "main", bad)
    monkeypatch.setattr(fuzzing, "SECONDS", 1 if what == "slow" else 30)
    with pytest.raises(FuzzError):
        said(place, "plan")
