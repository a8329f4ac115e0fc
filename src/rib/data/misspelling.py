"""Misspelling: five kinds of damage to texts at five severities, in analogy to ImageNet-C's corruptions.

Every draw depends only on kind, severity and text, so the order and the number of texts change nothing.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rib.errors import UserError, nearest

VERSION = 1
"""Version of the rules, which is part of the fingerprint of every misspelt set."""

SEVERITIES = (1, 2, 3, 4, 5)

KEYS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of a keyboard, each shifted by about half a key."""

OCR: Mapping[str, tuple[str, ...]] = {
    "0": ("O", "o"), "O": ("0", "Q"), "o": ("0", "c"), "1": ("l", "I"), "l": ("1", "I"), "I": ("l", "1"), "5": ("S",),
    "S": ("5",), "s": ("5",), "8": ("B",), "B": ("8",), "2": ("Z",), "Z": ("2",), "z": ("2",), "6": ("b", "G"),
    "G": ("6", "C"), "b": ("6", "h"), "9": ("g", "q"), "g": ("9", "q"), "q": ("9", "g"), "e": ("c",), "c": ("e",),
    "m": ("rn",), "w": ("vv",), "d": ("cl",), "h": ("b",), "n": ("ri",), "u": ("ii",), "t": ("f",), "f": ("t",),
    "i": ("j", "!"), "a": ("o",), ".": (",",), ",": (".",), "-": ("_",), "@": ("Q",), "E": ("F",), "D": ("O",),
}  # fmt: skip
"""Characters that text recognition (OCR) confuses."""


@dataclass(frozen=True)
class Misspelling:
    """One kind of damage at one severity.

    Attributes:
        kind: its name.
        severity: from 1 to 5.
        rate: share of the characters that it changes, among those that it can change.
    """

    kind: str
    severity: int
    rate: float

    @classmethod
    def of(cls, kind: str, severity: int) -> Misspelling:
        """The damage of that kind and severity.

        Raises:
            UserError: there is none.
        """
        if kind not in _RATES:
            raise nearest(kind, _RATES, "kind of misspelling")
        if severity not in SEVERITIES:
            raise UserError("a severity is a number from 1 to 5", got=severity, valid="1, 2, 3, 4, 5")
        return cls(kind, severity, _RATES[kind][severity - 1])

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """Names of all kinds."""
        return tuple(_RATES)

    @property
    def name(self) -> str:
        """The name of a cell, such as "typos/3"."""
        return f"{self.kind}/{self.severity}"

    @property
    def identity(self) -> tuple[str, float, int]:
        """The values that determine its effect on a text."""
        return self.name, self.rate, VERSION

    def misspelt(self, text: str) -> str:
        """The damaged text; the original if nothing would remain."""
        draw = random.Random(f"rib.misspelling/{VERSION}/{self.name}/{text}").random
        damaged = _KINDS[self.kind](text, self.rate, draw)
        return damaged if damaged.strip() else text


Draw = Callable[[], float]
"""Returns the next number in [0, 1). This is the only draw that is the same in all versions of Python."""


def _typos(text: str, rate: float, draw: Draw) -> str:
    """Omit or double letters and digits, swap them with the next, or replace them by others of the text."""
    found = list(text)
    out: list[str] = []
    place = 0
    while place < len(found):
        one = found[place]
        if not one.isalnum() or draw() >= rate:
            out.append(one)
        elif (what := int(4 * draw())) == 0:
            pass
        elif what == 1:
            out += [one, one]
        elif what == 2 and place + 1 < len(found):
            out += [found[place + 1], one]
            place += 1
        else:
            out.append(found[int(len(found) * draw())])
        place += 1
    return "".join(out)


def _ocr(text: str, rate: float, draw: Draw) -> str:
    """Replace characters by others of a similar shape."""
    return "".join(_one_of(OCR[one], draw) if one in OCR and draw() < rate else one for one in text)


def _case(text: str, rate: float, draw: Draw) -> str:
    """Change letters to the other case."""
    return "".join(one.swapcase() if draw() < rate else one for one in text)


def _dropped(text: str, rate: float, draw: Draw) -> str:
    """Omit accents and spaces."""
    out = []
    for one in unicodedata.normalize("NFC", text):
        plain = unicodedata.normalize("NFD", one)
        bare = "" if one.isspace() else "".join(part for part in plain if not unicodedata.combining(part))
        out.append(bare if bare != one and draw() < rate else one)
    return "".join(out)


def _keyboard(text: str, rate: float, draw: Draw) -> str:
    """Replace characters by neighbours on the keyboard."""
    out = []
    for one in text:
        near = _NEIGHBOURS.get(one.lower())
        if near is None or draw() >= rate:
            out.append(one)
        else:
            key = _one_of(near, draw)
            out.append(key.upper() if one.isupper() else key)
    return "".join(out)


def _one_of(choices: tuple[str, ...], draw: Draw) -> str:
    return choices[int(len(choices) * draw())]


def _neighbours() -> dict[str, tuple[str, ...]]:
    places = {key: (row, place + row / 2) for row, keys in enumerate(KEYS) for place, key in enumerate(keys)}
    return {
        key: tuple(
            other for other, (down, along) in places.items()
            if other != key and abs(down - row) <= 1 and abs(along - place) <= 1
        )
        for key, (row, place) in places.items()
    }  # fmt: skip


_NEIGHBOURS = _neighbours()

_KINDS: Mapping[str, Callable[[str, float, Draw], str]] = {
    "typos": _typos,
    "ocr": _ocr,
    "case": _case,
    "dropped": _dropped,
    "keyboard": _keyboard,
}

_RATES: Mapping[str, tuple[float, float, float, float, float]] = {
    "typos": (0.04, 0.08, 0.14, 0.22, 0.32),
    "ocr": (0.05, 0.10, 0.20, 0.35, 0.55),
    "case": (0.05, 0.12, 0.25, 0.40, 0.50),
    "dropped": (0.20, 0.40, 0.60, 0.80, 1.00),
    "keyboard": (0.04, 0.08, 0.14, 0.22, 0.32),
}
"""Share of the characters that each kind changes at each severity."""
