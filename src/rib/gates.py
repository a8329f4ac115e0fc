"""Gates: conditions such as `ri < -2` on the numbers of a comparison. A gate is broken if its condition is true.

gate     = quantity [ "." bound ] sign number
quantity = "ri" | "ri_present" | "ri_absent" | "reference" | "own" | "worst" | "change[" data set "]"
           changes of accuracy, in points
bound    = "value" | "low" | "high"                                          of the 95 % interval; default the value
sign     = "<" | "<=" | ">" | ">="

A gate whose number is missing or not finite is broken, because nothing unmeasured may pass.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from rib.errors import UserError, nearest
from rib.metrics.intervals import LEVEL, Interval, holm
from rib.text.names import Names

Bound = Literal["value", "low", "high"]
GateState = Literal["holds", "broken"]

BOUNDS = ("value", "low", "high")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
ONE_SIDED = LEVEL / 2
"""Level of a one-sided test: that of a gate on a bound."""

REQUIRED = {"<": "≥", "<=": ">", ">": "≤", ">=": "<"}
"""The condition that holds if the gate's condition does not."""

FORM = "QUANTITY[.low|.high] <|<=|>|>= NUMBER, e.g. 'ri < -2', 'worst < -5', 'change[sketch].high < 0'"

BY_CLASSES = (
    "with --tuned-on, name the set tuned on; where it lacks a class of another downstream set, ri_present is RI over "
    "the images of its classes and ri_absent over the others; where it lacks none, gate on ri"
)
TUNED_ON = "with --tuned-on, name the set tuned on; it must have images that are tested on and never tuned on"

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_GATE = re.compile(r"(.*?)(<=|>=|<|>)([^<>=]*)", re.DOTALL)


@dataclass(frozen=True)
class Gate:
    """A condition that must not be true.

    Attributes:
        quantity: name of the number, as in `quantity_names`.
        bound: the value, or an end of its interval.
        sign: the comparison.
        limit: the limit, in points.
    """

    quantity: str
    bound: Bound
    sign: str
    limit: float

    @property
    def subject(self) -> str:
        """The compared quantity: `ri`, `ri.low`, `change[sketch]`."""
        return self.quantity if self.bound == "value" else f"{self.quantity}.{self.bound}"

    @property
    def claims(self) -> bool:
        """Whether the gate is broken only if the whole interval is beyond the limit. Then a broken gate is a claim."""
        return (self.bound, self.sign[0]) in (("high", "<"), ("low", ">"))

    @property
    def some(self) -> bool:
        """Whether it claims a change of at least one data set, which takes one test per data set."""
        return self.quantity == "worst" and self.claims and self.sign[0] == "<"

    @property
    def requirement(self) -> str:
        """The requirement: "ri ≥ -2" for the gate `ri < -2`."""
        return f"{self.subject} {REQUIRED[self.sign]} {self.limit:g}"

    def __str__(self) -> str:
        return f"{self.subject} {self.sign} {self.limit:g}"


@dataclass(frozen=True)
class GateVerdict:
    """A gate and the number that it concerns.

    Attributes:
        gate: the condition.
        found: the number; None if it is missing.
        about: the data set of the number, if the gate does not name it.
        missing: why the number is missing.
        p: one-sided p value of a gate on a bound, which is a test; None for a gate that claims nothing. For `gate.some`
            it is adjusted for the number of data sets.
        adjusted: the same, adjusted for all such gates of the comparison (Holm 1979); None for a single test.
    """

    gate: Gate
    found: Interval | None
    about: str = ""
    missing: str = ""
    p: float | None = None
    adjusted: float | None = None

    @property
    def number(self) -> float | None:
        """The number to compare with the limit, in points; None if it is missing or not finite."""
        number = getattr(self.found, self.gate.bound) if self.found else None
        return number if number is not None and math.isfinite(number) else None

    @property
    def failed(self) -> bool:
        """Whether the condition is true, after adjustment for all other tests, or undecided because its number is
        missing."""
        return self.alone and (self.number is None or self.adjusted is None or self.adjusted <= ONE_SIDED)

    @property
    def alone(self) -> bool:
        """The same without adjustment for other gates and, for `worst`, for other data sets."""
        return self.number is None or SIGNS[self.gate.sign](self.number, self.gate.limit)

    @property
    def state(self) -> GateState:
        """The state in one word."""
        return "broken" if self.failed else "holds"

    @property
    def margin(self) -> float | None:
        """Points between the number and the limit, 0 or more; None if the number is missing."""
        return None if self.number is None else abs(self.number - self.gate.limit)

    @property
    def measured(self) -> str:
        """The measured value, in words."""
        if self.number is None or self.found is None:
            why = self.missing or ("it is not a finite number" if self.found else "")
            return f"{self.gate.subject} is missing" + (f" ({why})" if why else "")
        shown = _shown(self.number, self.gate.limit)
        if self.gate.bound == "value" and all(map(math.isfinite, (self.found.low, self.found.high))):
            shown += f" [{self.found.low + 0.0:+.1f}, {self.found.high + 0.0:+.1f}]"
        if self.alone and not self.failed and self.adjusted is not None:
            shown += f" (broken by itself, not among all tests: p = {self.adjusted:.2g} of {ONE_SIDED:g})"
        return f"measured {shown}" + (f" on {self.about}" if self.about else "")

    @property
    def words(self) -> str:
        """The verdict in one line."""
        return f"requires {self.gate.requirement}; {self.measured}: {self.state}"


def _shown(number: float, limit: float) -> str:
    """A number with two decimals, or with as many as needed to distinguish it from the limit."""
    if number == limit:
        return f"{number + 0.0:+.2f}"
    digits = next((digits for digits in range(2, 15) if round(number, digits) != round(limit, digits)), 15)
    return f"{round(number, digits) + 0.0:+.{digits}f}"


def tested_together(verdicts: Sequence[GateVerdict]) -> tuple[GateVerdict, ...]:
    """The same verdicts. If several of them are tests, each p value is adjusted for all; `Gate.some` counts as
    several."""
    known = [verdict.p for verdict in verdicts if verdict.p is not None]
    if len(known) < 2 and not any(verdict.gate.some for verdict in verdicts):
        return tuple(verdicts)
    adjusted = iter(holm(known))
    return tuple(verdict if verdict.p is None else replace(verdict, adjusted=next(adjusted)) for verdict in verdicts)


def level_of(verdicts: Sequence[GateVerdict]) -> str:
    """The level of the gates on bounds, in one or two sentences; empty without any."""
    bounds = [verdict for verdict in verdicts if verdict.gate.bound != "value"]
    tested = [verdict for verdict in bounds if verdict.adjusted is not None]
    if not bounds:
        return ""
    said = (
        f"{len(bounds)} of {len(verdicts)} gate{'' if len(verdicts) == 1 else 's'} "
        f"{'is' if len(bounds) == 1 else 'are'} on a bound of a 95 % interval: one-sided, level 2.5 % each."
    )
    if len(tested) > 1:
        said += f" The {len(tested)} that claim a change are adjusted for each other (Holm)."
    if any(verdict.gate.some for verdict in tested):
        said += " A loss on the worst set is tested on all sets together."
    if any(not verdict.gate.claims for verdict in bounds):
        said += " Those that must rule a change out hold only together, so they need no adjustment."
    return said


def worst_of(changes: Mapping[str, Interval | None]) -> tuple[str, Interval] | None:
    """The lowest change of accuracy, and its data set; None if a change is missing, or if there are none.

    Each bound is the lowest of that bound over the data sets. So a gate on `worst.high` is broken exactly if the same
    gate is broken for the `change[…].high` of one of them.
    """
    known = {name: change for name, change in changes.items() if change is not None and math.isfinite(change.value)}
    if not known or len(known) < len(changes):
        return None
    name = min(known, key=lambda name: known[name].value)
    low, high = (min(getattr(change, end) for change in known.values()) for end in ("low", "high"))
    return name, replace(known[name], low=low, high=high)


def quantity_names(sets: Iterable[str] | Names, own: bool, classes: bool = False) -> dict[str, str]:
    """Every accepted name of a quantity, with the name that the comparison uses.

    Args:
        sets: the data sets by their full names, or their `Names`; each has its full name and its short name.
        own: whether the tuned set is known and has unseen images.
        classes: whether the tuned set is known to lack classes of the others.
    """
    names = sets if isinstance(sets, Names) else Names(sets)
    parts = ("ri_present", "ri_absent") if classes else ()
    plain = {name: name for name in ("ri", *parts, "reference", *(("own",) if own else ()), "worst")}
    return plain | {f"change[{given}]": f"change[{names.short(full)}]" for given, full in names.spellings.items()}


def parse_gate(text: str, quantities: Mapping[str, str]) -> Gate:
    """Parse a gate.

    Args:
        text: such as "change[sketch].low < -5".
        quantities: from `quantity_names`.

    Raises:
        UserError: the text has another form, or its quantity or bound is unknown (the message suggests the nearest) or
            ambiguous.
    """
    parts = _GATE.fullmatch(text)
    if parts is None or parts[2] not in SIGNS or re.search("[<>]", parts[1].partition("[")[0]):
        signs = " ".join(re.findall(r"<=|>=|<|>", text)) or "none of < <= > >="
        raise UserError(f"--fail-if {text!r} is not a condition", got=f"{signs} in {text!r}", valid=FORM)
    subject, sign, number = (part.strip() for part in parts.groups())
    if not _NUMBER.fullmatch(number):
        raise UserError(f"--fail-if {text!r}: no number after {sign}", got=number or "nothing", valid=FORM)
    quantity, bound = _subject(subject, quantities)
    return Gate(quantity, bound, sign, float(number))


def _subject(subject: str, known: Mapping[str, str]) -> tuple[str, Bound]:
    """The quantity and the bound in a text. A data set may have its full name, which may contain dots."""
    head, dot, tail = subject.rpartition(".")
    for quantity, bound in ((subject, "value"), (head, tail)):
        if quantity in known and bound in BOUNDS:
            return known[quantity], cast(Bound, bound)
    if dot and head in known:
        raise nearest(tail, BOUNDS, f"bound of {head}:")
    name = head if tail in BOUNDS else subject
    if several := [each for each in known.values() if each.endswith(f":{name.removeprefix('change[')}")]:
        valid = ", ".join(dict.fromkeys(several))
        raise UserError(f"--fail-if: {name} is ambiguous", got=name, valid=valid, remedy="give the full name")
    error = nearest(name, known, "quantity of --fail-if:")
    if remedy := {"own": TUNED_ON, "ri_present": BY_CLASSES, "ri_absent": BY_CLASSES}.get(name):
        error = UserError(error.problem, got=name, valid=error.valid, remedy=remedy)
    raise error
