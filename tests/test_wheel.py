"""The wheel: it has all that runs need, works in an environment of its own, and docs tell to install what exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from helpers import PATIENCE, write_tree

ROOT = Path(__file__).parents[1]

QUICK = ("digits-quick", "--models", "resnet_small", "--seeds", "1")
"""A part of the suite that takes seconds: one model, one seed."""


def told(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing of these tests on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RIB_"))}
    environment |= {"COLUMNS": "120", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by its build backend without a network."""
    pytest.importorskip("hatchling", reason="pip install -e '.[dev]'")
    pytest.importorskip("hatch_vcs", reason="pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    done = told(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it. Other libraries are those of this one, RIB's source is not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    words = ("install", "--quiet", "--no-index", "--no-deps", "--no-compile", wheel)
    done = told(sys.executable, "-m", "pip", "--python", python, *words, folder=folder)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # its own .pth files are not read
    return folder


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(files.read(name).decode())


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    listed = told("git", "ls-files", "--", "src/rib", folder=ROOT)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    tracked = {name.removeprefix("src/") for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    assert {"rib/suites/digits-quick.toml", "rib/suites/suite.schema.json", "rib/report/template/page.css"} < tracked
    with zipfile.ZipFile(wheel) as files:
        packed = {name for name in files.namelist() if ".dist-info/" not in name}
    assert tracked <= packed
    assert {name for name in packed - tracked if not (ROOT / "src" / name).exists()} == set()
    assert all(name.startswith("rib/") for name in packed)


def test_the_embedded_suite_runs_from_the_wheel_in_another_folder(place: Path, tmp_path: Path) -> None:
    rib = place / "bin" / "rib"
    where = told(place / "bin" / "python", "-c", "import rib; print(rib.__file__, rib.__version__)", folder=tmp_path)
    assert where.stdout.startswith(str(place)), where.stderr
    done = told(rib, "run", *QUICK, "--workers", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "rib-store" / "reports" / "digits-quick.html"
    assert f"page: {page.relative_to(tmp_path)}" in done.stdout
    assert "lp_ft" in done.stdout
    assert "</html>" in page.read_text("utf-8")
    found = json.loads(told(rib, "report", *QUICK, "--json", folder=tmp_path).stdout)
    assert all(row["mri"] is not None for row in found["summaries"] if row["method"] != "pretrained")
    assert [path.name for path in tmp_path.iterdir()] == ["rib-store"]


def test_embedded_texts_and_the_schema_are_in_the_wheel(place: Path, tmp_path: Path) -> None:
    done = told(place / "bin" / "rib", "plan", "fields-quick", folder=tmp_path)
    assert (done.returncode, "Fit finetune" in done.stdout) == (0, True), done.stderr
    for kind in ("photos", "sketches", "scans"):
        write_tree(tmp_path / "images" / kind, per_class=4)
    done = told(place / "bin" / "rib", "suite", "new", "images", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "finetune" in (tmp_path / "images" / "suite.schema.json").read_text("utf-8")


# -- what docs and messages tell to install ----------------------------------------------------------------------------


def told_to_install() -> dict[str, list[str]]:
    """What follows `pip install`, by file: up to a comment, a quote that encloses it, or the end of the line."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    for folder, kinds in (("docs", ("md",)), ("src", ("py", "toml")), ("examples", ("toml", "ipynb"))):
        files += [file for kind in kinds for file in sorted((ROOT / folder).rglob(f"*.{kind}"))]
    return {
        file.relative_to(ROOT).as_posix(): re.findall(r"pip install ([^\n#`;]+)", file.read_text("utf-8"))
        for file in files
    }


def test_docs_tell_to_install_what_there_is(wheel: Path) -> None:
    """An extra of this name, or a folder: RIB is on no package index, and under `rib` there is another project."""
    about = metadata(wheel)
    extras = set(about.get_all("Provides-Extra", []))
    assert about["Name"] == "rib-benchmark"
    assert {"pandas", "figures", "dev"} <= extras
    named = [(file, words) for file, found in told_to_install().items() for words in found]
    assert len(named) > 15
    for file, words in named:
        for name, extra in re.findall(r"(?<![./\w-])(rib[\w-]*)(?:\[([\w,-]+)\])?", words):
            assert name == "rib-benchmark", f"{file}: pip install {words}"
            assert extra, (
                f"{file}: pip install {words}: an index has no RIB; name a checkout, or an extra of what is there"
            )
            assert {*extra.split(",")} <= extras, f"{file}: pip install {words}"


def test_an_extra_of_an_installed_rib_needs_no_index_for_rib(place: Path, tmp_path: Path) -> None:
    """What error messages say, `pip install 'rib-benchmark[sql]'`, takes the RIB that is installed."""
    pytest.importorskip("duckdb")
    words = ("install", "--no-index", "--dry-run", "rib-benchmark[sql]")
    done = told(sys.executable, "-m", "pip", "--python", place / "bin" / "python", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout
