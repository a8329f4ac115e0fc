"""`rib suite`: write a suite file for a folder of data sets, and explain one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from rib.cli.inputs import as_given, plan_of, view_in
from rib.cli.options import (
    STORE,
    DataPath,
    StorePath,
    SuiteName,
    ViewCrop,
    ViewFilter,
    ViewMean,
    ViewResize,
    ViewStd,
)
from rib.errors import UserError, with_near_path
from rib.given import at_home
from rib.text.terminal import console, printable

if TYPE_CHECKING:
    from rib.plan import Plan
    from rib.suite.draft import Draft

FEW = 3
"""Classes that a set lacks and that are named."""

LIBRARIES = ("timm", "torchvision", "open_clip", "hf")


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="one folder per data set: DIR/SET/CLASS/IMAGE")],
    out: Annotated[Path | None, typer.Option(help="the file to write; default: DIR/suite.toml")] = None,
    model: Annotated[
        str | None, typer.Option(help="timm:NAME, torchvision:NAME, open_clip:NAME; default: a small net from scratch")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="checkpoint of --model; default: its published weights")] = None,
    size: Annotated[int | None, typer.Option(help="image side in pixels of --model; default: its own")] = None,
    crop: ViewCrop = None,
    resize: ViewResize = None,
    interpolation: ViewFilter = None,
    mean: ViewMean = None,
    std: ViewStd = None,
    reference: Annotated[str | None, typer.Option(help="the reference set; default: the most probable")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write a commented suite file that runs, for a folder of data sets."""
    from rib.plan.pair_view import fields_of
    from rib.suite.draft import SCHEMA, draft, draft_text
    from rib.suite.load import load_suite
    from rib.suite.schema import schema_text

    root = at_home(folder)
    if not root.is_dir():
        valid = "a folder with one folder per data set"
        raise UserError("no such folder", got=folder, valid=valid, remedy=with_near_path(root))
    target = out or root / "suite.toml"
    if target.suffix != ".toml":
        raise UserError("a suite file ends in .toml", got=target)
    if target.exists() and not force:
        raise UserError("the file exists", got=target, remedy="name another with --out, or replace it with --force")
    home = target.parent.resolve()
    view = view_in(size, crop, resize, interpolation, mean, std)
    found, row = draft(root, reference), _model_row(model, weights, fields_of(view), home)
    home.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.+-]+", "-", root.resolve().name).strip("-.") or "suite"
    own_head = _has_own_head(row, len(found.reference.images), home)
    said = [*_of_model(found, row, own_head, home), *(f"note: {words}" for words in found.odd)]
    target.write_text(draft_text(found, name, row, _from(home, root), own_head), "utf-8")
    (home / SCHEMA).write_text(schema_text(), "utf-8")
    load_suite(target)
    for words in said:
        print(printable(words))
    print(printable(f"reference: {found.reference.name}; downstream: {', '.join(s.name for s in found.downstream)}"))
    print(printable(f"wrote {target}; next: rib suite check {shlex.quote(str(target))}"))


def _of_model(found: Draft, row: dict[str, Any] | None, own_head: bool, home: Path) -> Iterator[str]:
    """What a user should know about the model of a draft, in sentences."""
    from rib.models.catalogue import ModelRow
    from rib.models.describe import preprocessing

    if row is None:
        return
    seen = preprocessing(ModelRow(**row), home, len(found.reference.images)).words
    yield f"model: sees {seen}; if it was trained otherwise: --size, --crop, --interpolation, --mean, --std"
    name = found.reference.name
    if own_head:
        yield f"note: the checkpoint has as many outputs as {name} has classes: they are used"
    if "weights" in row and not found.reference.test:
        yield (
            f"note: RIB draws the test images of {name}. If the checkpoint was trained on some of them, give your own "
            "split: folders train/ and test/ in it"
        )


def _from(home: Path, path: Path) -> str:
    """A path in the form that a suite file in a folder uses: relative if it is below that folder."""
    real = path.resolve()
    return real.relative_to(home).as_posix() if real.is_relative_to(home) else str(real)


def _model_row(model: str | None, weights: Path | None, view: Mapping[str, Any], home: Path) -> dict[str, Any] | None:
    from rib.models.catalogue import ModelRow
    from rib.plan.pair_view import with_view

    if model is None:
        if weights or view:
            given = [*(["--weights"] if weights else []), *(f"--{name}" for name in view)]
            raise UserError("options that belong to a model", got=", ".join(given), remedy="add --model timm:NAME")
        return None
    kind, _, rest = model.partition(":")
    if kind not in LIBRARIES or not rest:
        raise UserError(
            "unknown form of --model", got=model, valid="timm:NAME, torchvision:NAME, open_clip:NAME, hf:DIR"
        )
    name, _, tag = (rest, "", "") if kind == "hf" else rest.partition(":")
    if kind == "hf":
        name = _from(home, Path(name))
    row: dict[str, Any] = {kind: name} | ({"tag": tag} if tag else {})
    if weights is not None:
        installed = str(weights).startswith("installed:")  # rib.models.lite.SCHEME, whose import takes seconds
        if not installed and not weights.is_file():
            raise UserError("no such checkpoint", got=weights, remedy=with_near_path(weights))
        row["weights"] = str(weights) if installed else _from(home, weights)
    return with_view(ModelRow(**row), view, "the options of `rib suite new`").model_dump(exclude_unset=True)


def _has_own_head(row: dict[str, Any] | None, classes: int, home: Path) -> bool:
    """Whether the checkpoint of a row fits the net with one output for each class, so that it needs no new head."""
    from rib.models.catalogue import ModelRow
    from rib.models.describe import describe
    from rib.models.loading import load_pretrained

    if row is None or not {"weights", "hf"} & row.keys():
        return False
    model = ModelRow(**row)
    try:
        load_pretrained("mine", model, describe(model, classes, home), home)
    except UserError:  # the plan names what does not fit
        return False
    return True


def check(suite: SuiteName, store: StorePath = STORE, data: DataPath = None) -> None:
    """Explain a suite: what it tunes, tests and costs, and what its models see; exit code 2 on a fault."""
    from rib.models.catalogue import find_row
    from rib.plan.cost import CostEstimate
    from rib.plan.pair import drawn_tests
    from rib.report.cost import cost_lines
    from rib.report.views import unstated, view_lines

    plan, place = plan_of(suite, store, data, assume=True)
    screen = console(highlight=False)
    first, *lines = explained(plan)
    screen.print(Text(first))
    for line in lines:
        screen.print(Padding(Text(line), (0, 0, 0, 2)))
    screen.print("\nModels see")
    for line in view_lines(plan):
        screen.print(Padding(Text(line), (0, 0, 0, 2)))
    rows = [find_row(name, plan.suite.model) for name in plan.suite.models]
    for words in (*unstated(plan), *drawn_tests(plan.suite, rows, None)):
        screen.print(Text(f"note: {words}"))
    print("\n" + cost_lines(CostEstimate(plan, place).cost, as_given(suite), "this machine", plan.noun))


def _classes(plan: Plan, name: str) -> str:
    """How many classes a set has; which it lacks, if they are few."""
    world = plan.world
    known, mapped = world[plan.suite.reference].classes, world.part(name, "test").label_map
    seen = {place for group in mapped.groups for place in group}
    lacks = [each for place, each in enumerate(known) if place not in seen]
    few = f" of {len(known)}, without {', '.join(lacks)}" if 0 < len(lacks) <= FEW else ""
    return f"{len(world[name].classes)} classes{few}"


def explained(plan: Plan) -> list[str]:
    """Explain a suite in sentences."""
    suite, world, names = plan.suite, plan.world, plan.suite.set_names
    lines = [f"{suite.name}: {suite.description}".rstrip(": ")]
    roles = ((suite.reference,), "reference"), (suite.downstream, "downstream"), (suite.evaluate, "evaluate")
    for chosen, role in roles:
        for name in chosen:
            data = world[name]
            tune, test = (len(data.index(part)) for part in ("tune", "test"))
            parts = (
                f"{tune:,} to tune on, {test:,} to test on"
                if data.disjoint
                else f"{test:,} {data.noun}, tuned and tested whole"
            )
            lines.append(f"{role:<10} {names.short(name)}: {_classes(plan, name)}, {parts}")
    lines.append(f"models     {', '.join(map(suite.model_names.short, suite.models))}")
    tuned = [run for run in plan.runs if run.tuned_on]
    methods = ", ".join(dict.fromkeys(run.method for run in tuned)) or "nothing"
    sizes = ", ".join(dict.fromkeys("all" if run.size is None else f"{run.size:,}" for run in tuned)) or "no"
    seeds = len({run.seed for run in tuned})
    lines.append(
        f"tunes      {methods}; {sizes} {plan.noun}; {seeds} seed{'' if seeds == 1 else 's'}: "
        f"{len(tuned):,} tuned models"
    )
    return lines
