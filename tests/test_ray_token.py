"""The token of a Ray cluster that RIB starts: kept from other users, and asked of whoever connects."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from helpers import PATIENCE
from rib.errors import UserError
from rib.execute.cluster.ray import RayEngine, keep_token_private
from rib.execute.runtime import RayRuntime


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


OWN = (
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_AUTH_MODE",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
)
"""Variables that the engine reads or sets."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in OWN:  # set first, so that what the engine sets is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
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


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_an_empty_variable_is_no_token(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes it for none, and would write a token that everyone on the machine can read."""
    monkeypatch.setenv(name, "")
    keep_token_private()
    assert rights(home / ".ray" / "auth_token") == 0o600


def test_a_folder_in_which_others_could_replace_the_token_is_closed(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray").chmod(0o777)
    keep_token_private()
    assert rights(home / ".ray") == 0o755


class FakeRay:
    """A Ray that does not start."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.ended = error, 0

    def init(self, **_: object) -> None:
        raise self.error

    def shutdown(self) -> None:
        self.ended += 1


def engine(error: BaseException) -> tuple[RayEngine, FakeRay]:
    pytest.importorskip("ray")
    made, fake = RayEngine(RayRuntime()), FakeRay(error)
    made._ray = fake  # type: ignore[assignment]
    return made, fake


@pytest.mark.parametrize(
    ("mode", "private"), [(None, True), ("token", True), ("TOKEN", True), ("disabled", False), ("k8s", False)]
)
def test_the_token_is_private_whoever_asks_for_one(
    home: Path, mode: str | None, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the user's program has imported Ray before, which then asks for a token by itself."""
    made, _ = engine(RuntimeError("it does not start here"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(UserError):
        made.__enter__()
    token = home / ".ray" / "auth_token"
    assert token.exists() == private
    assert not private or rights(token) == 0o600


@pytest.mark.parametrize("error", [Exception("The current node timed out"), TimeoutError(), KeyError("x")])
def test_whatever_ray_says_at_the_start_is_told_in_words(home: Path, error: Exception) -> None:
    made, fake = engine(error)
    with pytest.raises(UserError, match="Ray cannot be reached"):
        made.__enter__()
    assert fake.ended == 1


def test_an_interrupt_of_the_start_stays_one(home: Path) -> None:
    made, fake = engine(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        made.__enter__()
    assert fake.ended == 1


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


def commands() -> list[str]:
    """The command lines of all processes, as `ps` shows them to every user."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def holds(path: Path, text: str) -> bool:
    """Whether a file contains a text."""
    with suppress(OSError):
        return text.encode() in path.read_bytes()
    return False


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
            token = (tmp_path / ".ray" / "auth_token").read_text()
            said = {
                name: subprocess.run(
                    client, env=environment | own, capture_output=True, text=True, timeout=PATIENCE, check=True
                ).stdout.strip()
                for name, own in (
                    ("right", {}),
                    ("wrong", {"RAY_AUTH_TOKEN": "0" * 64}),
                    ("part", {"RAY_AUTH_TOKEN": token[:-1]}),
                    ("none", {"HOME": str(tmp_path / "another"), "RAY_AUTH_MODE": "disabled"}),
                )
            }
            shown = [*commands(), *(path for path in folder.rglob("*") if path.is_file() and holds(path, token))]
        finally:
            cluster.stdin.close()
            cluster.wait(120)
    assert said["right"] == "in True"
    assert {name for name in said if not said[name].startswith("out")} == {"right"}
    assert [one for one in shown if not isinstance(one, str) or token in one] == [], "the token is in no log or command"
    assert rights(tmp_path / ".ray" / "auth_token") == 0o600
