"""Release: a finished model as files for other programs, with a card that describes it and its results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory
from typing import Any

from rib.errors import UserError
from rib.files import explained, file_name
from rib.identity import digest
from rib.metrics.intervals import Interval
from rib.metrics.missing import interval_of, minus
from rib.models.build import build
from rib.models.cards import input_lines, task
from rib.models.weights import Weights, put_weights, write_weights
from rib.plan import Merge, Run
from rib.report.markdown import code, markdown
from rib.results.draws import draw_csv, drawn
from rib.results.results import Results
from rib.store.provenance import made_by
from rib.text.names import folded

MOST_CLASSES = 20
"""Maximum number of classes that a card lists."""


Model = Run | Merge
"""A model that can be written: pretrained, tuned on one set, or merged of models of several sets."""


def release(results: Results, run: Model, weights: Weights, folder: Path) -> Path:
    """Write a finished model.

    A timm model becomes a folder that `timm.create_model("local-dir:…", pretrained=True)` loads: config.json with the
    preprocessing and the classes in order, model.safetensors, README.md. Any other model, or one with modules that a
    method has added, becomes NAME.safetensors, with NAME.json (how to build it, its preprocessing, its classes in
    order) and NAME.md beside it. tuned_on.csv lists its tuning images; a merge has none of its own.

    Args:
        results: results of the suite, for the card.
        run: the run of the model, or the merge.
        weights: its weights.
        folder: target folder.

    Returns:
        The folder, or the weights file.
    """
    name = run_name(results, run)
    classes = results.plan.world[results.suite.reference].classes
    card = model_card(results, run)
    if not _loads_in_timm(run):
        with _written_together(folder, f"{name}.safetensors") as aside:
            write_weights(aside / f"{name}.safetensors", weights)
            (aside / f"{name}.json").write_text(json.dumps(_description(run, classes), indent=2) + "\n", "utf-8")
            (aside / f"{name}.md").write_text(card, "utf-8")
            _write_rows(results, run, aside, f"{name}.")
        return folder / f"{name}.safetensors"
    target = folder / name
    with _written_together(target, "model.safetensors") as aside:
        _save_for_timm(run, weights, aside, classes)
        (aside / "README.md").write_text(card, "utf-8")
        _write_rows(results, run, aside)
    return target


@contextmanager
def _written_together(folder: Path, weights: str) -> Iterator[Path]:
    """A new folder, whose files move into `folder` when the block succeeds: the card first, the weights last.

    So an export that was stopped leaves no model, or a card that lets the next export replace it.

    Args:
        folder: target folder; created if missing.
        weights: name of the file with the weights.

    Raises as `written_aside`.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=folder) as place:
            yield Path(place)
            (usual := Path(place, ".mode")).touch()
            mode = S_IMODE(usual.stat().st_mode)  # with the permissions of the user's umask
            usual.unlink()
            for path in sorted(Path(place).iterdir(), key=lambda path: (path.name == weights, path.suffix != ".md")):
                path.chmod(mode)  # safetensors makes files that only their owner can read
                path.replace(folder / path.name)


def _loads_in_timm(run: Model) -> bool:
    """Whether timm can load the net. It does not know modules that a method has added."""
    return run.fit.architecture.timm is not None and run.fit.architecture.extension is None


def _write_rows(results: Results, run: Model, folder: Path, prefix: str = "") -> None:
    if isinstance(run, Run) and run.tuned_on in results.suite.roles.tuned:
        images = draw_csv(results.plan, drawn(results.plan, run))
        (folder / f"{prefix}tuned_on.csv").write_text(images, "utf-8")


def run_name(results: Results, run: Model) -> str:
    """A file name: model, method, tuned set (of a merge, "without" the set left out), size and seed, if it has them.

    If another run of the plan has the same name on a file system that ignores case, a digest follows.
    """
    name = _plain_name(results, run)
    return f"{name}-{digest(_full_name(run).encode())[:8]}" if _counts(results)[folded(name)] > 1 else name


@lru_cache(maxsize=1)
def _counts(results: Results) -> Counter[str]:
    """The number of runs with each name."""
    models: list[Model] = [*results.plan.runs, *results.plan.merges]
    return Counter(folded(_plain_name(results, model)) for model in models)


def _plain_name(results: Results, run: Model) -> str:
    of = run.tuned_on or "" if isinstance(run, Run) else run.left_out
    on = results.set_name(of) if isinstance(run, Run) else f"without-{results.set_name(of)}"
    words = [results.model_name(run.model), run.method, on, run.size, run.seed]
    return file_name("-".join(str(word) for word in words if word not in (None, "")))


def _full_name(run: Model) -> str:
    on = run.tuned_on if isinstance(run, Run) else ["without", run.left_out]
    return json.dumps([run.model, run.method, on, run.size, run.seed])


def require_free(results: Results, runs: Iterable[Model], folder: Path) -> None:
    """Refuse to overwrite another model, which is one whose card does not name the step of the run.

    Raises:
        UserError: the files of a run would overwrite those of another model.
    """
    for run in runs:
        name = run_name(results, run)
        card = folder / name / "README.md" if _loads_in_timm(run) else folder / f"{name}.md"
        weights = folder / name / "model.safetensors" if _loads_in_timm(run) else folder / f"{name}.safetensors"
        known = card.read_text("utf-8", "replace") if card.is_file() else ""
        if (weights.exists() or card.exists()) and f"`{run.fit.key}`" not in known:
            raise UserError(
                "export would overwrite another model",
                got=weights,
                valid="a folder without it",
                remedy="name another folder, or remove that model's files first",
            )


def _save_for_timm(run: Model, weights: Weights, target: Path, classes: Sequence[str]) -> None:
    from timm.models import save_for_hf

    architecture = run.fit.architecture
    net = build(architecture).net
    put_weights(net, weights)
    seen = {
        "input_size": (3, architecture.size, architecture.size),
        "crop_pct": architecture.crop,
        "crop_mode": architecture.resize or "center",
        "interpolation": architecture.interpolation,
        "mean": architecture.mean,
        "std": architecture.std,
    }
    save_for_hf(
        net,
        str(target),
        model_config={"label_names": list(classes)},
        model_args=architecture.arguments,
        data_config=seen,
        safe_serialization=True,
    )


def _description(run: Model, classes: Sequence[str]) -> dict[str, Any]:
    architecture = run.fit.architecture.model_dump(mode="json")
    return {"rib": made_by()["rib"], "architecture": architecture, "classes": list(classes)}


def model_card(results: Results, run: Model) -> str:
    """The card in Markdown, with the metadata header that model hubs read."""
    parts = (
        _header(results, run),
        _what(results, run),
        _scores(results, run),
        _caveats(results),
        _making(results, run),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _header(results: Results, run: Model) -> Iterator[str]:
    kind = task(run.fit.architecture)
    yield from ("---", f"tags: [{kind}, robustness, rib]", f"pipeline_tag: {kind}")
    if _loads_in_timm(run):
        yield "library_name: timm"
    yield from ("---", "", f"# {markdown(run_name(results, run))}", "")


def _what(results: Results, run: Model) -> Iterator[str]:
    suite, architecture = results.suite, run.fit.architecture
    made = code(architecture.timm or architecture.build or "")
    tuned = _tuned(run)
    each = " each" if isinstance(run, Merge) else ""
    size = f", {run.size:,} {results.plan.noun}{each}" if run.size is not None else ""
    yield f"{made}, {tuned}{size}, in the suite {code(suite.name)} of RIB, the Robustness Inheritance Benchmark."
    classes = results.plan.world[suite.reference].classes
    named = ", ".join(map(markdown, classes[:MOST_CLASSES])) + (
        ", … (all in the JSON file)" if len(classes) > MOST_CLASSES else ""
    )
    yield from ("", f"- Classes: {architecture.classes}, those of {code(suite.reference)}, in this order: {named}.")
    if isinstance(run, Run) and run.tuned_on in suite.roles.tuned:
        yield f"- Tuned on {len(drawn(results.plan, run).tuning):,} {results.plan.noun}, listed in tuned_on.csv."
    yield from (f"- {line}" for line in input_lines(architecture))
    yield f"- Method: {code(json.dumps(run.fit.method.model_dump(mode='json')))}."
    if run.seed is not None:
        yield f"- Seed: {run.seed}."
    yield ""
    if architecture.extension:
        added = code(f"{architecture.extension.function}({json.dumps(architecture.extension.arguments)})")
        yield f"A method has added modules to the net: {added}. No other library loads the result as it is."
        yield ""
    if not _loads_in_timm(run):
        yield from _loading(run_name(results, run), architecture.view.form)
    if _loads_in_timm(run):
        yield from (
            "```python",
            "import timm",
            'timm.create_model("local-dir:THIS_FOLDER", pretrained=True)',
            "```",
            "",
        )


def _loading(name: str, inputs: str) -> Iterator[str]:
    """How RIB loads the files of a model, for a card. `inputs` are what the model takes, in words."""
    yield from (
        f"`rib compare BASE {name}.safetensors` compares it, with the pretrained model for BASE. Keep "
        f"{code(f'{name}.json')} beside it. In Python, in this folder:",
        "",
        "```python",
        "import json",
        "from pathlib import Path",
        "from rib.models.build import build",
        "from rib.models.catalogue import Architecture",
        "from rib.models.weights import put_weights, read_weights",
        f'described = json.loads(Path("{name}.json").read_text())',
        'classifier = build(Architecture.model_validate(described["architecture"])).eval()',
        f'put_weights(classifier.net, read_weights(Path("{name}.safetensors")))',
        f"# logits = classifier(inputs), where inputs are {inputs}",
        "```",
        "",
    )


def _tuned(run: Model) -> str:
    if isinstance(run, Merge):
        return (
            f"merged by {code(run.method)} from the models tuned on {', '.join(map(code, run.of))} each; "
            f"{code(run.left_out)} is left out"
        )
    return f"tuned on {code(run.tuned_on)} by {code(run.method)}" if run.tuned_on else "as pretrained"


_TABLE = ("| data set | role | before, % | after, % | change, points | label map |", "|---|---|---|---|---|---|")


def _merged_scores(results: Results, merge: Merge) -> Iterator[str]:
    """Accuracy before and after the merge, on the set left out and on all others."""
    yield from ("## Leave-one-out merging", "")
    yield f"No merged model has seen an image of {code(merge.left_out)} or of a set of its source family."
    yield from ("", *_TABLE)
    for name, predict in {merge.left_out: merge.score, **merge.others}.items():
        after, before = results.accuracies.of_step(predict), results.estimates.pretrained(merge.model, name)
        role = "left out" if name == merge.left_out else "reference" if name == results.suite.reference else "own"
        values = [_percent(each.value if (each := interval_of(one)) else None) for one in (before, after)]
        change = _points(interval_of(minus(after, before)))
        label_map = markdown(predict.data.label_map.name)
        yield f"| {markdown(results.set_name(name))} | {role} | {' | '.join(values)} | {change} | {label_map} |"
    yield ""


def _scores(results: Results, run: Model) -> Iterator[str]:
    if isinstance(run, Merge):
        yield from _merged_scores(results, run)
        return
    group = run.model, run.method, run.size
    if run.tuned_on:
        yield "## Robustness Improvement"
        yield ""
        numbers = sorted({each.seed for each in results.groups[group] if each.seed is not None})
        seeds = f", mean over seeds {', '.join(map(str, numbers))}" if len(numbers) > 1 else ""
        found = _points(results.ri_of(group).get(results.set_name(run.tuned_on)))
        yield f"RI {found} points: the mean change of accuracy on the other downstream sets (95 % interval{seeds})."
        yield ""
    yield from _TABLE
    changes = {
        change.tested_on: change.change
        for change in results.changes_of(group)
        if change.tuned_on == results.set_name(run.tuned_on or "")
    }
    before = {
        score.tested_on: score.masked
        for score in results.scores
        if score.model == results.model_name(run.model) and score.method == "pretrained"
    }
    for score in results.scores:
        if (score.model, score.method, score.size, score.seed) == (
            results.model_name(run.model),
            run.method,
            run.size,
            run.seed,
        ) and (score.tuned_on == (results.set_name(run.tuned_on) if run.tuned_on else None)):
            yield (
                f"| {markdown(score.tested_on)} | {score.role} | {_percent(before.get(score.tested_on))} | "
                f"{_percent(score.masked)} | {_points(changes.get(score.tested_on))} | {markdown(score.label_map)} |"
            )
    yield ""


def _caveats(results: Results) -> Iterator[str]:
    if results.caveats:
        yield from (
            "## Caveats of the data and models",
            "",
            *(f"- {markdown(caveat)}" for caveat in results.caveats),
            "",
        )


def _making(results: Results, run: Model) -> Iterator[str]:
    record = results.records.get(run.fit.key)
    versions = record.made_by if record else made_by()
    yield from ("## How it was made", "")
    if run.fit.recipe is not None:
        yield f"- Recipe: {code(json.dumps(run.fit.recipe.model_dump(mode='json')))}."
    for ingredient in run.fit.ingredients:
        used = code(json.dumps(ingredient.recipe.model_dump(mode="json"))) if ingredient.recipe else ""
        yield f"- Ingredient: {markdown(ingredient.title)}{f', recipe {used}' if used else ''}."
    yield f"- Versions: {', '.join(f'{name} {value}' for name, value in versions.items())}."
    yield f"- Key of the step: `{run.fit.key}`; of the pretrained weights: `{run.fit.start.key}`."


def _percent(value: float | None) -> str:
    return "missing" if value is None else f"{value:z.2f}"


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    value, low, high = (
        f"{each + 0.0:+.2f}".replace("-0.00", "0.00") for each in (interval.value, interval.low, interval.high)
    )
    return f"{value} [{low}, {high}]"
