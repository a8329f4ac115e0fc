"""Prose for tests of words: the sentences of Markdown pages and help texts, and patterns that RIB's prose avoids."""

from __future__ import annotations

import re
from collections.abc import Iterator

UNITS = (
    "batch|block|cell|chunk|class|core|domain|driver|epoch|example|file|fold|GPU|image|job|joiner|layer|line|machine|"
    "method|model|node|pack|pass|process|record|run|second|seed|set|shard|side|sketch|source|step|study|sweep|"
    "thread|token|try|view|worker"
)

PER = re.compile(
    rf"\b(?:images?|files?|steps?|jobs?|bytes?|cores?|GPUs?|models?|classes|methods?|seeds?|rows?|lines?|records?|"
    rf"processes?|folders?|time|seconds?|one|once|twice|weights|checkpoints?|numbers?|words?|pixels?|calls?|passes) "
    rf"an? (?:{UNITS})\b"
)
"""'A file a step', 'one an image': per."""

DIALECT: dict[str, re.Pattern[str]] = {
    "a X a Y": PER,
    "anew": re.compile(r"\banew\b"),
    "at hand": re.compile(r"\bat hand\b"),
    "so many": re.compile(r"\bso many\b"),
    "of which": re.compile(r"\bof which\b"),
    "let go": re.compile(r"\b(?:let|lets|letting) go\b|\bsay go\b"),
    "told": re.compile(r"\btold\b"),
    "hold against": re.compile(r"\b(?:hold|holds|held|holding)\b[\w\s,]{0,40}\bagainst\b"),
    "likewise": re.compile(r"\b[Ll]ikewise\b"),
    "one's own": re.compile(r"\bone's own\b"),
    "goes on": re.compile(r"\b(?:go|goes|going|gone|went) on\b"),
    "where for if": re.compile(r"(?:^|\. )Where (?!.{0,40}\?)(?!RIB looks)"),
    "look": re.compile(r"\b(?:a|the|each|every|one|two|between) looks?\b|\blooked at\b"),
}
"""Phrases that a reader has to read twice, by the name that the glossary gives them."""


def prose(markdown: str) -> str:
    """A page without code blocks, inline code, link targets and HTML."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "`x`", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"<[^>]+>", "", text)


def passages(markdown: str) -> Iterator[str]:
    """Paragraphs, list items and table cells, each on one line."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=#)", prose(markdown)):
        lines = block.strip().splitlines()
        if lines and lines[0].lstrip().startswith("|"):
            for line in lines:
                yield from (cell.strip() for cell in line.strip().strip("|").split("|") if cell.strip(" -:"))
        elif lines:
            yield re.sub(r"^\s*(?:[-*]|\d+\.|#+) ", "", " ".join(line.strip() for line in lines))


def sentences(passage: str) -> list[str]:
    """Sentences of a passage; a semicolon or colon ends none."""
    return [part for part in re.split(r"(?<=[.?!])[\"*)]*\s+(?=[\"*(`A-Z])", passage) if part.strip()]


def faults(passage: str) -> Iterator[tuple[str, str]]:
    """Name and text of every phrase that RIB's prose avoids."""
    for name, pattern in DIALECT.items():
        for found in pattern.finditer(passage):
            yield name, found.group()
