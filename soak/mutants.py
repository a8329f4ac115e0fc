"""Mutants: how many small faults in the code of numbers, keys, labels and gates do the tests find?

A mutant is a function with one changed operator, constant, condition or return value. A forked process replaces the
function and runs the tests of its module until one fails. A mutant that fails no test has *survived*: either a test
lacks an assertion, or the change does not matter. Code outside functions is not mutated.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import inspect
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

TESTS: dict[str, tuple[tuple[str, ...], str]] = {
    "rib.metrics.estimates": (("test_metrics.py", "test_noise.py"), ""),
    "rib.metrics.intervals": (("test_intervals.py", "test_metrics.py", "test_noise.py"), ""),
    "rib.metrics.resample": (("test_metrics.py",), ""),
    "rib.metrics.bootstrap": (("test_metrics.py",), ""),
    "rib.data.splits": (("test_splits.py",), ""),
    "rib.data.labels": (("test_labels.py",), ""),
    "rib.identity": (("test_identity.py",), ""),
    "rib.gates": (
        ("test_compare.py",),
        "gates_that or on_the_worst or gates_are or is_a_gate or gates_by_hand or malformed or verdicts or "
        "gate_without or worst_change or in_full",
    ),
}
"""Test files of each module, and an expression that selects their tests (-k)."""

SECONDS = 120
"""Processor seconds after which a mutant counts as found, because its tests do not end."""

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Pow: ast.Mult, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A changed function.

    Attributes:
        line: line of the change.
        change: the code before and after.
        tree: the whole module with the change.
    """

    line: int
    change: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(source)
    for place, node in enumerate(list(ast.walk(tree))):
        for change in changes(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[place]
            before = ast.unparse(target)
            change(target)
            yield Mutant(getattr(node, "lineno", 0), f"{before[:70]}  ->  {ast.unparse(target)[:70]}", changed)


def changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """The possible changes of a node, each as a function that applies it."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield lambda target: setattr(target, "ops", [COMPARISONS[type(operator)]()])
        case ast.BinOp(op=operator) if type(operator) in OPERATORS:
            yield lambda target: setattr(target, "op", OPERATORS[type(operator)]())
        case ast.BoolOp(op=operator):
            yield lambda target: setattr(target, "op", ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.Constant(value=bool(value)):
            yield lambda target: setattr(target, "value", not value)
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            yield lambda target: setattr(target, "value", value + 1)
        case ast.If() | ast.IfExp() | ast.While():
            yield lambda target: setattr(target, "test", ast.UnaryOp(ast.Not(), target.test))
        case ast.Return(value=ast.expr()):
            yield lambda target: setattr(target, "value", ast.Constant(None))


def functions(module: ModuleType) -> dict[str, FunctionType]:
    """The functions and methods of a module, by qualified name."""
    found: dict[str, FunctionType] = {}
    owners = [module, *(one for one in vars(module).values() if inspect.isclass(one))]
    for value in (value for owner in owners for value in vars(owner).values()):
        for part in (value, *(getattr(value, name, None) for name in ("fget", "func", "__func__", "__wrapped__"))):
            if isinstance(part, FunctionType) and part.__module__ == module.__name__:
                found[part.__code__.co_qualname] = part
    return found


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all code objects within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


class Trial:
    """A pytest plugin that runs the collected tests once per mutant.

    Args:
        module: name of the module to change.
        count: number of mutants, drawn at random.
        seed: seed of the draw.
    """

    def __init__(self, module: str, count: int, seed: int) -> None:
        self.module, self.count, self.seed = importlib.import_module(module), count, seed
        self.survivors: list[Mutant] = []
        self.tried = 0

    @cached_property
    def _drawn(self) -> list[tuple[Mutant, dict[str, CodeType]]]:
        file = str(self.module.__file__)
        known, found = functions(self.module), []
        for mutant in mutants(Path(file).read_text("utf-8")):
            ast.fix_missing_locations(mutant.tree)
            code = {each.co_qualname: each for each in codes(compile(mutant.tree, file, "exec", dont_inherit=True))}
            other = {name: code[name] for name in known if name in code and code[name] != known[name].__code__}
            if other and all(each.co_freevars == known[name].__code__.co_freevars for name, each in other.items()):
                found.append((mutant, other))
        return random.Random(self.seed).sample(found, min(self.count, len(found)))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests for each mutant, after one run without a mutant."""
        if not self._passes(session, {}):
            pytest.exit("the tests fail without a mutant", 3)
        for mutant, code in self._drawn:
            self.tried += 1
            if self._passes(session, code):
                self.survivors.append(mutant)
                print(f"  survived: line {mutant.line}: {mutant.change}", flush=True)
        return True

    def _passes(self, session: pytest.Session, code: dict[str, CodeType]) -> bool:
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            os._exit(self._run(session, code))
        _, status = os.waitpid(pid, 0)
        return status == 0

    def _run(self, session: pytest.Session, code: dict[str, CodeType]) -> int:
        for file in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file)
        known = functions(self.module)
        for name, changed in code.items():
            known[name].__code__ = changed
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
                return 1
        return 0


def main(arguments: Sequence[str]) -> int:
    """Print the share of mutants that the tests of each module find."""
    parser = argparse.ArgumentParser(
        prog="python -m soak mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--module", choices=list(TESTS), action="append", help="only this one; may be repeated")
    parser.add_argument("--count", type=int, default=60, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    tests = Path(__file__).parents[1] / "tests"
    for module in options.module or list(TESTS):
        files, chosen = TESTS[module]
        trial = Trial(module, options.count, options.seed)
        given = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "timeout=0", "-W", "ignore"]
        paths = [str(tests / file) for file in files]
        pytest.main([*given, *(["-k", chosen] if chosen else []), *paths], plugins=[trial])
        found = trial.tried - len(trial.survivors)
        print(f"{module}: {found} of {trial.tried} mutants found, {len(trial.survivors)} survived", flush=True)
    return 0
