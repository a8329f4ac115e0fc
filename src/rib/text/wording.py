"""RIB's own sentences, which are written for images, in the word for what a suite's sets hold."""

from __future__ import annotations

import re

IMAGES = "images"

_WORD = re.compile(r"(?<![-\w./`])(?:(a)n )?(i)mage(s?)\b", re.IGNORECASE)


def about(noun: str, sentence: str) -> str:
    """A sentence about images in another word: "an unseen image" stays, or becomes "an unseen text".

    Options (`--images`), fields (`.images`) and names in backquotes stay as they are.

    Args:
        noun: plural of the word: "images" or "texts".
        sentence: RIB's own words, without names of sets, models or files.
    """
    return sentence if noun == IMAGES else _WORD.sub(lambda found: _replaced(found, noun), sentence)


def _replaced(found: re.Match[str], noun: str) -> str:
    article, first, plural = found.groups()
    word = noun if plural else noun[:-1]
    return (f"{article} " if article else "") + (word.capitalize() if first.isupper() else word)
