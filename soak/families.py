"""Families: compares RIB with the model's own library on a small model of every family of timm, torchvision and
open_clip."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch

from families import CHECKS, LARGEST, Candidates, Family, Pair, families, parameters
from rib.errors import UserError, told

Result = dict[str, Any]
"""The result for a family: its name, the tried model, the result ("equal", "refused", "large" (not tried) or
"different"), its reason, and seconds."""


def tried(candidates: Candidates, seed: int) -> Result:
    """Run all checks on the smallest model of a family."""
    start = time.monotonic()
    try:
        family = candidates.smallest()
        model = " ".join([family.name, *(f"{name}={value}" for name, value in family.arguments.items())])
        found, why = _compared(family, seed)
    except Exception as error:
        model, found, why = "", "different", told(error)
    seconds = round(time.monotonic() - start, 1)
    return {"family": str(candidates), "model": model, "found": found, "why": why, "seconds": seconds}


def _compared(family: Family, seed: int) -> tuple[str, str]:
    """The result and its reason."""
    count = parameters(family)
    if count > LARGEST:
        return "large", f"{count / 1e6:.0f} million parameters"
    try:
        pair = Pair(family, seed)
    except UserError as error:
        return "refused", f"{error.problem}: {error.got}"
    faults = []
    for check in CHECKS:
        try:
            check(pair)
        except AssertionError as fault:
            faults.append(str(fault).partition("\n")[0])
        except Exception as error:
            faults.append(f"{check.__name__}: {told(error)}")
    return ("different", "; ".join(faults)) if faults else ("equal", _shared(pair))


def _shared(pair: Pair) -> str:
    """Why RIB does not share the model's features; empty if it shares them."""
    heads = pair.architecture.heads
    return "" if not heads else f"features not shared, heads {', '.join(heads)}"


def main(words: Sequence[str]) -> int:
    """Try all families, or a part of them; exit code 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m soak families", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    parser.add_argument("--only", default="", help="a part of LIBRARY:FAMILY")
    parser.add_argument("--sample", type=int, help="number of families, drawn with the seed")
    parser.add_argument("--log", type=Path, help="file of results; families in it are not tried again")
    given = parser.parse_args(words)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done = _read(given.log)
    chosen: Iterable[Candidates] = (each for each in families() if given.only in str(each))
    if given.sample:
        chosen = random.Random(given.seed).sample(list(chosen), given.sample)
    for candidates in chosen:
        if str(candidates) in done:
            continue
        result = done[str(candidates)] = tried(candidates, given.seed)
        if given.log:
            with given.log.open("a") as file:
                print(json.dumps(result), file=file)
        print("{found:9} {family} ({model}), {seconds:.0f} s  {why}".format(**result), flush=True)
    return _summary(given.seed, list(done.values()))


def _read(log: Path | None) -> dict[str, Result]:
    """The results in a log file, by family; the last line of each family counts."""
    lines = log.read_text().splitlines() if log and log.exists() else []
    return {each["family"]: each for each in map(json.loads, lines)}


def _summary(seed: int, results: Sequence[Result]) -> int:
    """Print counts and time for each library; return 1 if a family differs."""
    for library in sorted({each["family"].partition(":")[0] for each in results}):
        own = [each for each in results if each["family"].startswith(f"{library}:")]
        counts = Counter(each["found"] for each in own)
        seconds = sum(each["seconds"] for each in own)
        print(f"seed {seed}, {library}: {len(own)} families, {dict(counts)}, {seconds:.0f} s")
    return 1 if any(each["found"] == "different" for each in results) else 0
