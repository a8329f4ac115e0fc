"""Stores on object storage: what one machine has done another finds, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

fsspec = pytest.importorskip("fsspec")

from helpers import Say, document, same_weights, toml  # noqa: E402
from rib.errors import StepError, UserError  # noqa: E402
from rib.execute.run import execute  # noqa: E402
from rib.files import write_aside  # noqa: E402
from rib.plan import make_plan  # noqa: E402
from rib.steps import (  # noqa: E402
    Fit,
    How,
    Predict,
)
from rib.store.record import SEALED  # noqa: E402
from rib.store.remote import Remote, remote_of, remote_url, working_folder  # noqa: E402
from rib.store.store import Store, store_folder  # noqa: E402
from rib.suite.load import load_suite  # noqa: E402
from rib.upkeep.merge import merge  # noqa: E402
from rib.upkeep.verify import verify  # noqa: E402

HOW = How(workers=1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server that speaks S3, on this machine; only where moto and s3fs are installed."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty place of each back end."""
    kind = request.param
    if kind == "file":
        yield f"file://{tmp_path}/bucket/store"
        return
    if kind == "s3":
        endpoint = request.getfixturevalue("s3_server")
        given = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}
        for name, value in (given | {"ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        fsspec.filesystem("s3").mkdir("bucket")
    yield f"{kind}://bucket/store"
    system = fsspec.filesystem(kind)
    if system.exists("/bucket" if kind == "memory" else "bucket"):
        system.rm("/bucket" if kind == "memory" else "bucket", recursive=True)


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    file = folder / "tiny.toml"
    runs = [{"methods": ["finetune", "linear_probe", "lwf"]}]
    file.write_text(toml(document(folder, per_class=6, runs=runs)))
    return file


def machine(url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store at an address as another machine opens it."""
    monkeypatch.setenv("RIB_CACHE", str(tmp_path / name))
    return Store(store_folder(url))


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        (Path("s3://bucket/x"), "s3://bucket/x"),
        ("memory://x", "memory://x"),
        ("file:///data/x", "file:///data/x"),
        (Path("file:///data/x"), "file:///data/x"),
        ("rib-store", None),
        ("/data/s3/x", None),
        (r"C:\store", None),
        ("C:/store", None),
        ("./s3:/x", None),
        ("s3://", None),
    ],
)
def test_addresses_and_folders(named: Any, found: str | None) -> None:
    assert remote_url(named) == found


def test_what_one_machine_did_another_need_not(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_suite(suite_file))
    first = machine(url, "first", tmp_path, monkeypatch)
    assert execute(plan, first, HOW).done == len(plan.steps)
    remote = Remote(url)
    held = [path.relative_to(first.root).as_posix() for folder in (*SEALED, "records") for path in whole(first, folder)]
    assert sorted(held) == sorted(name for folder in (*SEALED, "records") for name in remote.names(folder))
    second = machine(url, "second", tmp_path, monkeypatch)
    assert second.root != first.root
    assert execute(plan, second, HOW).done == 0
    assert not list(whole(second, "weights"))  # fetched when asked for
    assert verify(second).faults == []
    for step in plan.steps:
        if isinstance(step, Predict):
            assert second.predictions(step.key).equals(first.predictions(step.key))
        elif step.keeps_weights:
            assert same_weights(second.weights(step.key), first.weights(step.key))
    lost = next(step for step in plan.steps if isinstance(step, Predict) and step.fit.data)
    third = machine(url, "third", tmp_path, monkeypatch)
    third.path("records", lost.key).unlink()
    assert execute(plan, third, HOW).done == 1  # with the weights of the first machine
    assert third.record(lost.key).values == first.record(lost.key).values  # type: ignore[union-attr]


def whole(store: Store, folder: str) -> Iterator[Path]:
    yield from sorted((store.root / folder).glob("??/[!.]*"))


def test_a_record_is_put_after_what_it_speaks_of(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the machine dies between two objects, others see a finished step or none."""
    plan = make_plan(load_suite(suite_file))
    put = Remote.put
    seen: list[str] = []

    def noted(self: Remote, path: Path, name: str) -> None:
        seen.append(name)
        put(self, path, name)

    monkeypatch.setattr(Remote, "put", noted)
    execute(plan, machine(url, "first", tmp_path, monkeypatch), HOW)
    place = {name: number for number, name in enumerate(seen)}
    for name, number in place.items():
        if not name.startswith("records"):
            assert number < place[f"records/{name.split('/', 1)[1].rsplit('.', 1)[0]}.json"]

    def dies(self: Remote, path: Path, name: str) -> None:
        if name.startswith("records"):
            raise KeyboardInterrupt
        put(self, path, name)

    other = f"{url}-other"
    monkeypatch.setattr(Remote, "put", dies)
    assert execute(plan, machine(other, "dying", tmp_path, monkeypatch), HOW).interrupted
    monkeypatch.setattr(Remote, "put", put)
    assert machine(other, "next", tmp_path, monkeypatch).keys() == frozenset()


def test_an_object_is_put_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system would show a half, the object is written aside."""
    remote = Remote(f"file://{tmp_path}/bucket")
    (tmp_path / "x").write_bytes(b"new")
    remote.put(tmp_path / "x", "a/x")

    def cut(self: Path, target: Path) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(Path, "replace", cut)
    (tmp_path / "x").write_bytes(b"newer")
    with pytest.raises(UserError, match="cannot be reached"):
        remote.put(tmp_path / "x", "a/x")
    assert (tmp_path / "bucket" / "a" / "x").read_bytes() == b"new"


def test_damage_there_is_found_here(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_suite(suite_file))
    first = machine(url, "first", tmp_path, monkeypatch)
    execute(plan, first, HOW)
    fit = next(step for step in plan.steps if isinstance(step, Fit) and step.data)
    user = next(step for step in plan.steps if isinstance(step, Predict) and step.fit == fit)
    remote = Remote(url)
    for name, at in (
        (f"weights/{fit.key[:2]}/{fit.key}.safetensors", -5),
        (f"records/{user.key[:2]}/{user.key}.json", 9),
    ):
        remote.fetch(name, tmp_path / "x")
        content = bytearray((tmp_path / "x").read_bytes())
        content[at] ^= 4
        (tmp_path / "x").write_bytes(content)
        remote.put(tmp_path / "x", name)
    second = machine(url, "second", tmp_path, monkeypatch)
    assert not second.has(user.key)
    outcome = execute(plan, second, HOW)
    assert outcome.failed == {}
    for step in (fit, user):
        assert second.record(step.key).values == first.record(step.key).values  # type: ignore[union-attr]
    third = machine(url, "third", tmp_path, monkeypatch)  # what was made again is there, too
    assert same_weights(third.weights(fit.key), first.weights(fit.key))
    assert third.has(user.key)


def test_what_could_not_be_shared_is_told_and_shared_later(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_suite(suite_file))
    first = machine(url, "first", tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", lambda *_: (_ for _ in ()).throw(UserError("the store cannot be reached")))
        outcome = execute(plan, first, HOW)
        assert all("done, but not shared" in reason for reason in outcome.failed.values())
        assert outcome.failed
        with pytest.raises(StepError, match="done, but not shared"):
            first.share(next(iter(first.keys())))
    done = first.keys()
    assert done
    assert Remote(url).names("records") == []
    assert machine(url, "first", tmp_path, monkeypatch).keys() == done
    assert len(Remote(url).names("records")) == len(done)
    assert machine(url, "second", tmp_path, monkeypatch).keys() == done


def test_a_folder_is_merged_into_an_address_and_back(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_suite(suite_file))
    execute(plan, Store(tmp_path / "own"), HOW)
    merge(Store(tmp_path / "own"), machine(url, "first", tmp_path, monkeypatch))
    found = merge(machine(url, "second", tmp_path, monkeypatch), Store(tmp_path / "back"))
    assert (found.taken, found.clean) == (len(plan.steps), True)
    assert verify(Store(tmp_path / "back")).faults == []
    assert len(list(whole(Store(tmp_path / "back"), "weights"))) == len(list(whole(Store(tmp_path / "own"), "weights")))


def test_the_command_takes_an_address(
    url: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rib_says: Say
) -> None:
    monkeypatch.setenv("RIB_CACHE", str(tmp_path / "here"))
    workers = 2 if url.startswith("file") else 1  # another process sees neither this memory nor moto on the path
    assert rib_says("run", suite_file, "--store", url, "--workers", workers)[0] == 0
    shutil.rmtree(tmp_path / "here")
    said = [rib_says("report", suite_file, "--store", one, "--json") for one in (url, url)]
    assert said[0][0] == 0
    assert said[0] == said[1]
    steps = len(make_plan(load_suite(suite_file)).steps)
    assert f"{steps} of {steps} steps done" in rib_says("status", suite_file, "--store", url)[1]
    code, text = rib_says("store", "verify", url)
    assert (code, ", 0 damaged" in text) == (0, True)
    code, text = rib_says("report", suite_file, "--store", "nosuch://x/y")
    assert code == 2
    assert "cannot open the store nosuch://x/y" in text
    assert "rib-benchmark[object]" in text


def test_a_working_folder_knows_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIB_CACHE", str(tmp_path))
    folders = {working_folder(address) for address in ("memory://a/b", "memory://a_b", "memory://a/b")}
    assert len(folders) == 2
    assert remote_of(working_folder("memory://a/b")) == Remote("memory://a/b")
    write_aside(working_folder("memory://a/b") / "remote.json", b"{")
    assert remote_of(working_folder("memory://a/b")) == Remote("memory://a/b")  # written anew
