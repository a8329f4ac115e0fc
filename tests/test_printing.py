"""What is printed: on any encoding, into a pipe that is closed, on a full disk; and the page is written."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rib
from helpers import PATIENCE, document, surroundings, toml
from rib.execute.progress import Bar, PlainLines
from rib.files import json_text
from rib.steps import How
from rib.text.terminal import PLAIN, degraded, off_screen

NARROW = ("ascii", "latin-1", "cp1252", "cp437", "cp932")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished suite of which a model has a name that few encodings know."""
    folder = tmp_path_factory.mktemp("printing")
    made = document(folder, runs=[{"methods": ["finetune"]}])
    made["model"]["Zürich → 模型"] = made["model"].pop("resnet")
    made["models"] = ["Zürich → 模型"]
    (folder / "tiny.toml").write_text(toml(made), "utf-8")
    rib.run(folder / "tiny.toml", store=folder / "rib-store", how=How(workers=1, device="cpu"))
    return folder


def say(folder: Path, *words: str, out: int = subprocess.PIPE, **variables: str) -> tuple[int, str, str]:
    """Run the command in a process of its own: exit code, standard output, standard error."""
    found = subprocess.run(
        [sys.executable, "-m", "rib", *words],
        cwd=folder,
        env={**surroundings(), **variables},
        stdout=out,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    return found.returncode, (found.stdout or b"").decode("latin-1"), found.stderr.decode("latin-1")


@given(st.text(max_size=30), st.sampled_from([*NARROW, "utf-8", "no such encoding"]))
def test_any_text_fits_any_encoding(text: str, encoding: str) -> None:
    shown = degraded(text, encoding)
    plain = "ascii" if encoding.startswith("no") else encoding
    shown.encode(plain)
    if text.isascii():
        assert shown == text
    if encoding == "utf-8" and not re.search("[\ud800-\udfff]", text):
        assert shown == text


@pytest.mark.parametrize("sign", PLAIN)
def test_signs_have_a_plain_form(sign: str) -> None:
    assert degraded(f"a{sign}b", "ascii") == f"a{PLAIN[sign]}b"
    assert PLAIN[sign].isascii()


def test_a_finished_suite_is_shown_and_its_page_written(done: Path) -> None:
    page = done / "page.html"
    narrow = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = say(done, "run", "tiny.toml", "--html", "page.html", "--workers", "1", **narrow)
    assert code == 0, err
    assert "Traceback" not in err
    assert out.isascii()
    assert "Z\\xfcrich -> \\u6a21\\u578b" in re.sub(r"\s+", " ", out)
    assert "模型" in page.read_text("utf-8"), "the page is UTF-8 whatever the terminal is"


def test_a_pipe_that_nobody_reads_ends_quietly(done: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    code, _, err = say(done, "run", "tiny.toml", "--html", "piped.html", out=write)
    os.close(write)
    assert code == 141, err
    assert "Broken" not in err
    assert "Traceback" not in err
    assert (done / "piped.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_is_told_in_words(done: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    code, _, err = say(done, "report", "tiny.toml", out=full)
    os.close(full)
    assert code == 1
    assert "cannot write to standard output: No space left on device" in err
    assert "Traceback" not in err


def test_closed_streams_swallow_what_is_printed(done: Path) -> None:
    script = f"{sys.executable} -m rib report tiny.toml --html closed.html >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], cwd=done, env=surroundings(), timeout=PATIENCE).returncode == 0
    assert (done / "closed.html").is_file()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=12,
    )
)
def test_json_is_strict_whatever_the_numbers_are(value: Any) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = json_text({"found": value})
    read = json.loads(text, parse_constant=refuse)
    assert not re.search(r"-0\.0(?![0-9])", re.sub(r'"(\\.|[^"\\])*"', "", text))
    found = read.pop("not_finite", [])
    assert len(found) == sum(not math.isfinite(each) for each in floats(value))


def floats(value: Any) -> list[float]:
    """Every float in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [each for item in value for each in floats(item)]
    return [value] if isinstance(value, float) else []


def test_what_was_not_finite_is_named() -> None:
    assert json.loads(json_text({"rows": [{"loss": math.nan, "gain": -0.0}]})) == {
        "rows": [{"loss": None, "gain": 0.0}],
        "not_finite": ["rows.0.loss: nan"],
    }


def watchers() -> list[tuple[Any, Any]]:
    """Both watchers, each with its tally."""
    bar, lines = Bar(off_screen(80)), PlainLines()
    return [(bar, lambda: bar), (lines, lambda: lines._tally)]


def test_time_left_knows_nothing_of_what_was_decoded_before() -> None:
    """10,000 images are decoded before 100 passes begin; then half of these are made."""
    for watcher, tally in watchers():
        watcher.images(10_000, 10_000.0)
        watcher.begin(3, 1, 100.0)
        assert tally().share == 0
        watcher.images(25, 25.0)
        watcher.images(25, 75.0)  # more than was planned of the step
        watcher.finished(50.0)
        assert tally().share == 1 - 0.0 if tally().under_way >= 50 else 0.5
        assert tally().image_count == 50
