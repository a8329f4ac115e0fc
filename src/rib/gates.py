"""Gates: conditions such as `ri < -2` on what a comparison found; one that holds fails a job.

gate     = quantity [ "." bound ] sign number
quantity = "ri" | "reference" | "own" | "change[" data set "]"     changes of accuracy, in points
bound    = "value" | "low" | "high"                                of the 95 % interval; default the value
sign     = "<" | "<=" | ">" | ">="
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from rib.errors import UserError, nearest
from rib.metrics import Interval

Bound = Literal["value", "low", "high"]

BOUNDS = ("value", "low", "high")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
FORM = "QUANTITY[.low|.high] <|<=|>|>= NUMBER, e.g. 'ri < -2', 'ri.high < 0', 'change[sketch] < -5'"

TUNED_ON = "with --tuned-on, name the set tuned on; it must have images that are tested on and never tuned on"

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_SET = re.compile(r"change\[(?:[^\[\]]*:)?([^\[\]]+)\]")


@dataclass(frozen=True)
class Gate:
    """A condition that must not hold.

    Attributes:
        quantity: name of the number, as `quantity_names` has it.
        bound: the value itself, or an end of its interval.
        sign: how it is compared.
        limit: with what, in points.
    """

    quantity: str
    bound: Bound
    sign: str
    limit: float

    @property
    def subject(self) -> str:
        """What is compared: `ri`, `ri.low`, `change[sketch]`."""
        return self.quantity if self.bound == "value" else f"{self.quantity}.{self.bound}"

    def __str__(self) -> str:
        return f"{self.subject} {self.sign} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """What became of a gate.

    Attributes:
        gate: the condition.
        found: the number that it speaks of; None where it is missing.
    """

    gate: Gate
    found: Interval | None

    @property
    def number(self) -> float | None:
        """What was held against the limit, in points."""
        return getattr(self.found, self.gate.bound) if self.found else None

    @property
    def failed(self) -> bool:
        """Whether the condition holds, or cannot be ruled out because its number is missing."""
        return self.number is None or SIGNS[self.gate.sign](self.number, self.gate.limit)

    @property
    def margin(self) -> float | None:
        """Points between the number and the limit, 0 or more; None where the number is missing."""
        return None if self.number is None else abs(self.number - self.gate.limit)

    @property
    def measured(self) -> str:
        """What was found, and how far from the limit."""
        if self.number is None or self.margin is None:
            return f"{self.gate.quantity} is missing, so nothing rules it out"
        side = "below" if self.number < self.gate.limit else "above"
        distance = f"{self.margin:.2f} points {side} {self.gate.limit:g}" if self.margin else "just there"
        return f"{self.gate.subject} is {self.number:+.2f}, {distance}"

    @property
    def words(self) -> str:
        """One line for people."""
        return f"{self.gate}: {'failed' if self.failed else 'passed'}: {self.measured}"


def quantity_names(sets: Iterable[str], own: bool) -> tuple[str, ...]:
    """Every quantity that a gate can name.

    Args:
        sets: data sets, without their namespaces.
        own: whether it is known which of them was tuned on, and it has images of its own.
    """
    return ("ri", "reference", *(("own",) if own else ()), *(f"change[{name}]" for name in sets))


def parse_gate(text: str, quantities: Iterable[str]) -> Gate:
    """A gate from text.

    Args:
        text: such as "change[sketch].low < -5".
        quantities: from `quantity_names`.

    Raises:
        UserError: it has another form, or names no such quantity or bound; the nearest is suggested.
    """
    parts = re.split(r"(<=|>=|<|>)", text)
    if len(parts) != 3:
        signs = " ".join(parts[1::2]) or "none of < <= > >="
        raise UserError(f"--fail-if {text!r} is no condition", got=f"{signs} in {text!r}", valid=FORM)
    subject, sign, number = (part.strip() for part in parts)
    if not _NUMBER.fullmatch(number):
        raise UserError(f"--fail-if {text!r}: no number after {sign}", got=number or "nothing", valid=FORM)
    quantity, bound = _subject(subject, tuple(quantities))
    return Gate(quantity, bound, sign, float(number))


def _subject(subject: str, known: tuple[str, ...]) -> tuple[str, Bound]:
    """The quantity and the bound that a text names. A data set may be given with its namespace, and hold dots."""
    head, dot, tail = subject.rpartition(".")
    for quantity, bound in ((subject, "value"), (head, tail)):
        plain = _SET.sub(r"change[\1]", quantity)
        if plain in known and bound in BOUNDS:
            return plain, cast(Bound, bound)
    if dot and _SET.sub(r"change[\1]", head) in known:
        raise nearest(tail, BOUNDS, f"bound of {head}:")
    name = head if tail in BOUNDS else subject
    error = nearest(name, known, "quantity of --fail-if:")
    if name == "own":
        error = UserError(error.problem, got=name, valid=error.valid, remedy=TUNED_ON)
    raise error
