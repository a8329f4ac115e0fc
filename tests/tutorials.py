"""Tutorials of docs/ as values: what the reader has, and how their blocks run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers import Say, surroundings

DOCS = Path(__file__).parents[1] / "docs"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.(?:py|toml|yml))\b")
STATUS = re.compile(r"\s+# exit code (\d+)$")

TIMED = ("run", "compare", "study")
"""Commands that run steps."""


@dataclass(frozen=True)
class Tutorial:
    """A page, and the world in which its blocks run.

    Attributes:
        page: its path below docs/.
        lay_out: writes into an empty folder what the page says that the reader has.
        smaller: what the page names, and what the tests put in its place so that they take seconds.
        before: by the start of a command, what the reader does in between.
        says: by the start of a command, words that its output has.
    """

    page: str
    lay_out: Callable[[Path], None] = lambda place: None
    smaller: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)

    def blocks(self) -> list[tuple[str, str]]:
        """The kind and the text of each block, in order."""
        text = (DOCS / self.page).read_text("utf-8")
        for name, smaller in self.smaller.items():
            assert name in text, f"{self.page} has no {name!r}"
            text = text.replace(name, smaller)
        return BLOCK.findall(text)


class Reader:
    """Somebody who follows a tutorial: writes its files and enters its commands, in an empty folder.

    Args:
        tutorial: the page.
        place: the folder; the working folder.
        say: runs `rib` in this process.
        monkeypatch: sets what the page exports.
    """

    def __init__(self, tutorial: Tutorial, place: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tutorial, self.place, self._say, self._monkeypatch = tutorial, place, say, monkeypatch
        self.said: dict[str, str] = {}
        monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        monkeypatch.setenv("PWD", str(place))
        programs = place / "bin"
        programs.mkdir()
        for name, words in {"rib": "-m rib", "python": ""}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join((str(programs), os.environ["PATH"])))

    def follow(self) -> None:
        """Do every block, in order."""
        for kind, text in self.tutorial.blocks():
            match kind:
                case "bash":
                    for line in commands(text):
                        self.enter(line)
                case "python" if not FILE.match(text):
                    (self.place / "script.py").write_text(text, "utf-8")
                    self.enter("python script.py")
                case "python" | "toml" | "yaml":
                    self.write(text)
                    for line in steps(text) if kind == "yaml" else ():
                        self.enter(line)
                case "text":
                    pass
                case _:
                    raise AssertionError(f"{self.tutorial.page}: a block of kind {kind!r} cannot be run")

    def write(self, text: str) -> None:
        """Write a file whose first line names it."""
        match = FILE.match(text)
        assert match, f"{self.tutorial.page}: a block without the name of its file: {text[:60]!r}"
        file = self.place / match[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def enter(self, line: str) -> None:
        """Enter a command, and check its exit code and what it says."""
        for start, act in self.tutorial.before.items():
            if line.startswith(start):
                act(self.place)
        expected = STATUS.search(line)
        status, said = self._run(STATUS.sub("", line))
        assert status == int(expected[1] if expected else 0), f"{self.tutorial.page}: {line}\n{said}"
        for start, words in self.tutorial.says.items():
            if line.startswith(start):
                assert words in said, said
        self.said[line] = said

    def _run(self, line: str) -> tuple[int, str]:
        words = shlex.split(os.path.expandvars(line))
        if words[0] == "export":
            self._monkeypatch.setenv(*words[1].split("=", 1))
            return 0, ""
        if words[0] == "rib" and not {">", "|", "--runtime", "--executor"} & set(words):
            return self._say(*words[1:], *(["--workers", "1"] if words[1] in TIMED else []))
        environment = surroundings() | {"OMP_NUM_THREADS": "1"}
        options: dict[str, Any] = {"cwd": self.place, "env": environment, "text": True, "timeout": 500}
        done = subprocess.run(["bash", "-ec", line], capture_output=True, check=False, **options)
        return done.returncode, done.stdout + done.stderr


def commands(text: str) -> list[str]:
    """The commands of a block, with continued lines joined."""
    return [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line.strip()]


def steps(text: str) -> Iterator[str]:
    """The `rib` commands of a workflow's jobs."""
    for job in yaml.safe_load(text)["jobs"].values():
        for step in job["steps"]:
            yield from (line for line in commands(step.get("run", "")) if line.startswith("rib "))
