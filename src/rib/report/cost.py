"""Cost as text: the expected cost of the missing steps."""

from __future__ import annotations

from rib.data.budget import shown_bytes
from rib.plan.cost import Cost
from rib.text.wording import IMAGES


def cost_lines(cost: Cost, suite: str, devices: str, noun: str = IMAGES) -> str:
    """The cost as text; `devices` names the kind of device that the hours refer to, `noun` what the sets hold."""
    lines = [
        "What is to do:",
        f"  decode   {cost.decoded:,} {noun}, {shown_bytes(cost.packed)} of packs",
        f"  compute  {cost.forward:,} {noun} forward, {cost.trained:,} through training, {_flops(cost.flops)}",
        f"  keep     {cost.models:,} sets of weights, {shown_bytes(cost.weights)} (--keep none: while they are needed)",
        f"  disk     {shown_bytes(cost.packed + cost.weights)} wanted, {shown_bytes(cost.free)} free",
    ]
    if cost.streamed:
        lines.insert(2, f"  stream   {cost.streamed:,} {noun} more: no room for the packs of the largest sets")
    if len(cost.seeds) > 1:
        listed = ", ".join(map(str, cost.seeds))
        lines.append(f"  seeds    {listed}: one costs 1/{len(cost.seeds)} of the tuning and its scores (--seeds 1)")
    if cost.hours is None:
        lines.append(f"  time     not measured: rib plan {suite} --calibrate takes a few seconds per model")
    else:
        lines.append(f"  time     {_hours(cost.hours)} on {devices}, decoding not counted")
    if cost.packed + cost.weights > cost.free:
        lines.append(f"  The disk is too small for all of it: keep fewer weights, or score fewer {noun}.")
    if cost.assumed:
        lines.append(
            f"  absent   data sets and weights that are not on this machine: {len(cost.assumed)}; counted as published:"
        )
        lines += [f"           {name}" for name in cost.assumed]
    lines += [f"  data     {words}" for words in cost.left_out]
    return "\n".join(lines)


def _flops(number: float) -> str:
    for unit in ("MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        number /= 1000 if unit != "MFLOP" else 1e6
        if number < 1000:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:.3g} EFLOP"


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.0f} seconds"
