"""Settings: every value of a plan that changes a number, defaults included, for `rib plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rib.plan import Plan
from rib.recipe import Recipe
from rib.text.names import few


def settings_json(plan: Plan) -> dict[str, Any]:
    """Recipes by model, methods with their fields, seeds, sizes, held-out share and decoding, as JSON types."""
    suite = plan.suite
    tuned = [run for run in plan.runs if run.tuned_on]
    return {
        "recipes": {model: suite.recipe_of(model).model_dump(mode="json") for model in suite.models},
        "methods": {run.method: run.fit.method.model_dump(mode="json") for run in tuned},
        "seeds": list(dict.fromkeys(run.seed for run in tuned)),
        "sizes": list(dict.fromkeys(run.size or "all" for run in tuned)),
        "held_out": suite.held_out,
        "decode": suite.decode,
    }


def settings_lines(plan: Plan) -> Iterator[str]:
    """The same as text: one line per recipe and method, and one for the draws."""
    found = settings_json(plan)
    names, alike = plan.suite.model_names, dict[str, list[str]]()
    for model in plan.suite.models:
        alike.setdefault(recipe_words(plan.suite.recipe_of(model), bool(found["methods"])), []).append(model)
    for words, models in alike.items():
        whose = "all models" if len(alike) == 1 else few([names.short(model) for model in models])
        yield f"{whose}: {words}"
    yield from (f"{method}: {words}" for method, words in method_words(plan).items())
    held_out = f"{100 * found['held_out']:g} % of each tuning pool held out" if found["held_out"] else "none held out"
    if found["methods"]:
        yield f"seeds {_plain(found['seeds'])}; sizes {_plain(found['sizes'])}; {held_out}"
    yield from plan.world[plan.suite.reference].settings(plan.suite.decode)


def recipe_words(recipe: Recipe, trains: bool = True) -> str:
    """A recipe in words; if nothing is trained, only what concerns predictions."""
    length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs} epochs"
    warmup = [f"{recipe.warmup_steps} steps"] if recipe.warmup_steps else []
    warmup += [f"{100 * recipe.warmup_fraction:g} %"] if recipe.warmup_fraction else []
    momentum = [f"momentum {recipe.momentum:g}"] if recipe.optimizer == "sgd" else []
    options = [f"last block {recipe.last_block}"] if recipe.last_block else []
    predicted = f"predictions in {recipe.eval_precision}, batches of {recipe.eval_batch_size}"
    words = [
        *(recipe.optimizer, f"lr {recipe.lr:g}", *momentum, f"weight decay {recipe.weight_decay:g}", length),
        *(f"batches of {recipe.batch_size}", f"warm-up {' or '.join(warmup) or 'none'}", "cosine to 0"),
        f"label smoothing {recipe.label_smoothing:g}",
        recipe.precision,
        *([f"compile {recipe.compile}"] if recipe.compile else []),
    ]
    return "; ".join([*([", ".join(words)] if trains else []), ", ".join([predicted, *options])])


def method_words(plan: Plan) -> dict[str, str]:
    """The hyper-parameters of each method that has any, in words; a method's own field replaces the recipe's."""
    words = {method: ", ".join(_field_words(fields)) for method, fields in settings_json(plan)["methods"].items()}
    return {method: text for method, text in words.items() if text}


def _field_words(fields: Mapping[str, Any]) -> list[str]:
    """The fields of a method that have a value; of candidates, how they differ, and the fields that they share."""
    if "candidates" in fields:
        first, *others = fields["candidates"]
        shared = {field: value for field, value in first.items() if all(other[field] == value for other in others)}
        return [f"chosen on held-out images: {_plain(fields['labels'])}", *_field_words(shared)]
    return [f"{field} {_plain(value)}" for field, value in fields.items() if value not in (None, [], ())]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
