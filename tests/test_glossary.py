"""docs/glossary.md defines RIB's words once each, and pages and help texts avoid the phrases that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from prose import DIALECT, faults, passages, sentences
from rib.cli.app import app

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")] + [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]
LONGEST = 60
"""Most words of a sentence: enumerations may be long, arguments should not."""

QUOTED = {
    "glossary.md": "the glossary names the phrases that others avoid",
}
"""Pages that may hold such a phrase, and why."""


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of the glossary, without its head."""
    section = GLOSSARY.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def helps() -> dict[str, str]:
    """Help texts of every command and option, by where they stand."""
    texts: dict[str, str] = {}
    waiting = [("rib", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        texts[name] = command.help or ""
        for parameter in command.params:
            texts[f"{name} {parameter.name}"] = getattr(parameter, "help", None) or ""
        waiting += [(f"{name} {key}", each) for key, each in getattr(command, "commands", {}).items()]
    return texts


def test_every_word_is_defined_once_in_one_sentence() -> None:
    words = [row[0].lower() for row in rows("Words")]
    assert len(words) > 50
    assert len(set(words)) == len(words)
    assert words == sorted(words)
    for word, meaning, page in rows("Words"):
        assert len(sentences(meaning)) == 1, word
        assert re.fullmatch(r"[A-Z].*\.", meaning), word
        target = re.search(r"\]\((\w+\.md)\)", page)
        assert target, word
        text = (ROOT / "docs" / target[1]).read_text("utf-8").lower()
        stem = word.lower().removesuffix("s").removesuffix("ing").removesuffix(" set").removesuffix(" image")
        assert stem in text, f"{word} is not on {target[1]}"


def test_the_glossary_names_every_pattern() -> None:
    assert [row[0] for row in rows("Avoided words")] == list(DIALECT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a X a Y", "a digest of every file and 500 images a cell"),
        ("anew", "it is decoded anew"),
        ("at hand", "no GPU was at hand"),
        ("so many", "after so many seconds"),
        ("of which", "three seeds, of which one failed"),
        ("let go", "weights are let go of"),
        ("told", "the driver is told"),
        ("hold against", "holds every file against its digest"),
        ("likewise", "Likewise for tests"),
        ("one's own", "a set of one's own"),
        ("goes on", "training goes on from its epoch"),
        ("where for if", "It fails. Where a class is missing, it stops"),
        ("look", "each look is a step"),
    ],
)
def test_a_pattern_finds_its_phrase(name: str, text: str) -> None:
    assert name in {found for found, _ in faults(text)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in QUOTED], ids=lambda page: page.name)
def test_pages_are_in_plain_words(page: Path) -> None:
    found = list(passages(page.read_text("utf-8")))
    assert [(fault, passage) for passage in found for fault in faults(passage)] == []
    long = [sentence for passage in found for sentence in sentences(passage) if len(sentence.split()) > LONGEST]
    assert long == []


def test_help_is_in_plain_words() -> None:
    texts = helps()
    assert len(texts) > 100
    assert {name: list(faults(text)) for name, text in texts.items() if any(faults(text))} == {}
    assert [name for name, text in texts.items() if not text and not name.endswith(" help")] == []
