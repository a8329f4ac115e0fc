"""Exports and imports that are stopped halfway, and two at once: nothing half-written is left, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import rib
from helpers import CLASSES, tiny
from rib.errors import StepError, UserError
from rib.models.weights import take_weights, write_weights
from rib.report import model_folders
from rib.report.model_folders import release, require_free
from rib.steps import How, Workshop
from rib.store.store import Store
from rib.upkeep.archive import pack, unpack

VIT = {"timm": "vit_tiny_patch16_224", "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "weights": "vit.safetensors"}
SMALL = {"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2}
MODELS = ("resnet", "vit")
Write = Callable[[str, Path], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> rib.Finished:
    import timm

    folder = tmp_path_factory.mktemp("release")
    net = timm.create_model("vit_tiny_patch16_224", num_classes=len(CLASSES), **SMALL)
    write_weights(folder / "vit.safetensors", take_weights(net))
    suite = tiny(folder, per_class=6, runs=[])
    row = type(suite.model["resnet"]).model_validate(VIT | {"arguments": SMALL})
    suite = suite.model_copy(update={"models": MODELS, "model": {**suite.model, "vit": row}}).based_at(folder)
    return rib.run(suite, store=folder / "store", how=How(workers=1, device="cpu"))


@pytest.fixture
def write(finished: rib.Finished) -> Write:
    """Write a model of the suite into a folder."""
    results = finished.results
    workshop = Workshop(results.suite, results.store, How(device="cpu"), lambda _images, _passes: None)

    def written(model: str, folder: Path) -> Path:
        run = next(run for run in results.plan.runs if run.model == model)
        require_free(results, [run], folder)
        return release(results, run, workshop.weights(run.fit), folder)

    return written


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), StepError),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), UserError),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), StepError),
    ],
)
def test_a_stopped_export_leaves_what_was_there(
    model: str,
    error: BaseException,
    raised: type[BaseException],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(model_folders, "_write_rows", stop)
        with pytest.raises(raised):
            write(model, tmp_path)
        assert files(tmp_path) == {}
    write(model, tmp_path)
    before = files(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(model_folders, "_write_rows", stop)
        with pytest.raises(raised):
            write(model, tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_an_export_that_is_killed_between_two_files_is_done_again(
    model: str, moved: int, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever files are there, the card is among them and the weights are not: nobody takes them for whole."""
    whole = files(write(model, tmp_path / "whole").parent if model == "resnet" else write(model, tmp_path / "whole"))
    place, count, replace = tmp_path / "cut", [0], Path.replace

    def counted(path: Path, target: Path) -> Path:
        if Path(target).parent.name.startswith("."):
            return replace(path, target)  # a file of the new folder itself
        count[0] += 1
        if count[0] > moved:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", counted)
        with pytest.raises(KeyboardInterrupt):
            write(model, place)
    left = files(place)
    assert len(left) == moved
    assert not [name for name in left if name.endswith(".safetensors")]
    assert moved == 0 or any(name.endswith(".md") for name in left)
    done = write(model, place)
    assert files(done if model == "vit" else place) == whole


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
@pytest.mark.parametrize("model", MODELS)
def test_exported_files_have_the_permissions_of_the_umask(model: str, write: Write, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = write(model, tmp_path)
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(found.values()) == {0o644}, found
    assert load_file(made if model == "resnet" else made / "model.safetensors")


# -- archives -----------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(finished: rib.Finished, tmp_path: Path) -> Path:
    pack(finished.results.store, finished.results.plan, {}, tmp_path / "a.tar.gz", weights=True)
    return tmp_path / "a.tar.gz"


def test_two_imports_of_one_archive_do_not_disturb_each_other(
    finished: rib.Finished, archive: Path, tmp_path: Path
) -> None:
    store, inner = Store(tmp_path / "into"), list[Any]()
    outer = unpack(archive, store, check=lambda _: inner.append(unpack(archive, store)))
    steps = len(finished.results.records)
    assert (inner[0].merged.taken, outer.merged.taken, outer.merged.same) == (steps, 0, steps)
    assert [path.name for path in store.root.glob(".import-*")] == []


def test_what_a_killed_import_left_is_removed_by_the_next(archive: Path, tmp_path: Path) -> None:
    """Killed by the system, as when memory runs out, while it holds everything unpacked."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom rib.store.store import Store\n"
        "from rib.upkeep.archive import unpack\n"
        "unpack(Path(sys.argv[1]), Store(Path(sys.argv[2])), check=lambda _: os.kill(os.getpid(), 9))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(archive), str(tmp_path / "into")], check=False)
    assert done.returncode == -9
    store = Store(tmp_path / "into")
    assert store.keys() == frozenset(), "nothing was imported"
    assert len(list(store.root.glob(".import-*"))) == 1
    assert unpack(archive, store).merged.clean
    assert list(store.root.glob(".import-*")) == []
    assert json.loads((store.root / "store.json").read_text())["format"] == 1
