"""The token of a Ray cluster that RIB starts: kept from other users, and asked of whoever connects."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers import PATIENCE
from rib.errors import UserError
from rib.execute.cluster.ray import keep_token_private


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_token_is_its_owners_alone(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        keep_token_private()
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert rights(token) == 0o600
    assert rights(token.parent) == 0o700
    assert len(bytes.fromhex(token.read_text())) == 32


def test_a_token_that_is_there_is_kept_and_closed(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("ab" * 32)
    token.chmod(0o644)
    keep_token_private()
    assert rights(token) == 0o600
    assert token.read_text() == "ab" * 32


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_users_own_is_left_alone(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    keep_token_private()
    assert list(home.iterdir()) == []


def test_where_no_token_can_be_kept_nothing_starts(home: Path) -> None:
    (home / ".ray").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be made private"):
        keep_token_private()


CLUSTER = """
    import os, sys
    from rib.execute.cluster.ray import RayEngine
    from rib.execute.runtime import RayRuntime

    with RayEngine(RayRuntime(temporary=sys.argv[1])) as engine:
        print(engine._ray.get_runtime_context().gcs_address, file=sys.__stdout__, flush=True)
        sys.stdin.read()
"""

CLIENT = """
    import sys, ray

    try:
        ray.init(address=sys.argv[1], log_to_driver=False)
        print("in", int(ray.cluster_resources()["CPU"]) > 0)
    except Exception as error:
        print("out", type(error).__name__)
"""


def test_only_who_has_the_token_comes_in(tmp_path: Path) -> None:
    """A real cluster: a client with the right token gets in, one with a wrong token does not."""
    pytest.importorskip("ray")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_TMPDIR": os.environ["RAY_TMPDIR"],
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_NUM_REDIS_GET_RETRIES": "2",
    }
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray takes 127.0.0.1 for the machine's own address
    folder = Path(f"/tmp/rib-token-{os.getpid()}")
    program = [sys.executable, "-c", textwrap.dedent(CLUSTER), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as cluster:
        assert cluster.stdin
        assert cluster.stdout
        try:
            address = cluster.stdout.readline().strip()
            assert address.startswith("127.0.0.1:"), cluster.stderr and cluster.stderr.read()
            client = [sys.executable, "-c", textwrap.dedent(CLIENT), address]
            said = {
                name: subprocess.run(
                    client, env=environment | own, capture_output=True, text=True, timeout=PATIENCE, check=True
                ).stdout.strip()
                for name, own in (("right", {}), ("wrong", {"RAY_AUTH_TOKEN": "0" * 64}))
            }
        finally:
            cluster.stdin.close()
            cluster.wait(120)
    assert said["right"] == "in True"
    assert said["wrong"].startswith("out")
    assert rights(tmp_path / ".ray" / "auth_token") == 0o600
