"""Families: a small model of every family of timm, torchvision and open_clip, held to what its own library answers."""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch

from families import CHECKS, LARGEST, Family, Pair, families, parameters
from rib.errors import UserError, told


def tried(family: Family, seed: int) -> tuple[str, str]:
    """ "equal", "refused", "large" or "different", and why."""
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
    return ("different", "; ".join(faults)) if faults else ("equal", "")


def main(words: Sequence[str]) -> int:
    """Try them all, or those of a part; status 1 where one differs."""
    parser = argparse.ArgumentParser(prog="python -m soak families", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    parser.add_argument("--only", default="", help="a part of LIBRARY:NAME, or of the family's name")
    parser.add_argument("--sample", type=int, help="so many of them, drawn with the seed")
    given = parser.parse_args(words)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen: Iterable[Family] = (each for each in families() if given.only in f"{each} {each.family}")
    if given.sample:
        chosen = random.Random(given.seed).sample(list(chosen), given.sample)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for family in chosen:
        start = time.monotonic()
        try:
            found, why = tried(family, given.seed)
        except Exception as error:
            found, why = "different", told(error)
        counts[found] += 1
        print(f"{found:9} {family} ({family.family}), {time.monotonic() - start:.0f} s  {why}", flush=True)
    print(f"seed {given.seed}: {dict(counts)} of {counts.total()} families, {time.monotonic() - began:.0f} s")
    return 1 if counts["different"] else 0
