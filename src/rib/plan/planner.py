"""Planner: a suite as a deduplicated graph of steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rib.data.decoded import shortened
from rib.data.splits import tuning_rows
from rib.errors import UserError
from rib.methods import METHODS, Ingredient, Merging, Method, TrainedMethod
from rib.models.catalogue import Architecture, HeadRow, ModelRow, PretrainRow, find_row
from rib.models.describe import describe
from rib.models.loading import weights_identity
from rib.models.skeleton import Skeleton, bare_net, skeleton
from rib.models.sources import find_weights
from rib.objectives import OBJECTIVES, Objective
from rib.plan.adapted import adapted_runs
from rib.plan.looks import can_look, find_analysis, is_chosen, looks_at
from rib.plan.merges import left_out, merge_of, require_unseen
from rib.plan.plan import Look, Merge, Plan, Run
from rib.plan.replay import replayable
from rib.plan.texts import texts_of
from rib.plan.variants import at_rate, variants
from rib.recipe import LastBatch, Recipe
from rib.steps import DataPart, Fit, Load, NewHead, Predict, Pretrain, Reference, Start, World
from rib.suite.suite import Looks, Merges, Runs, Suite
from rib.suite.validation import validated


def make_plan(suite: Suite, cache: Path | None = None, assume: bool = False, fresh: bool = False) -> Plan:
    """The plan of a suite. Reads data and weights only to fingerprint them.

    Args:
        suite: the suite.
        cache: folder for fingerprints of data that do not change.
        assume: plan as if published data sets and weights that are missing here existed; such a plan has a cost but
            cannot run.
        fresh: read checkpoints even if their digests are cached.

    Raises:
        UserError: a name is unknown, data or weights are missing or do not fit, a size is too large, or a method
            needs held-out images and the suite holds none out.
    """
    return _Planner(suite, World(suite, cache, assume, fresh)).plan()


FEW_IMAGES, FEW_STEPS = 32, 50
"""A plan warns if BatchNorm statistics are updated with smaller batches or in fewer steps: rules of thumb."""


def statistics_notes(changed: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """A sentence on models whose BatchNorm statistics are updated with few images; empty if there are none.

    Args:
        changed: for each model whose statistics are updated, the smallest batch in images and the fewest steps.
    """
    poor = {name: few for name, few in changed.items() if few[0] < FEW_IMAGES or few[1] < FEW_STEPS}
    if poor:
        batch, steps = (min(few[place] for few in poor.values()) for place in (0, 1))
        names = ", ".join(list(poor)[:3]) + (f" and {len(poor) - 3} more" if len(poor) > 3 else "")
        yield (
            f"{names}: tuning updates BatchNorm's running statistics with batches of {batch} images and {steps:,} "
            "steps at the least. Much of the loss may then be statistics and not weights. Compare with "
            'batchnorm = "freeze" or "pretrained" in the recipe, or add the analysis `statistics` (docs/recipe.md)'
        )


@dataclass(frozen=True)
class _At:
    """The model and the tuning set of some weights; without a set, the pretrained model alone.

    Attributes:
        model, downstream, size, seed: as in a run.
        replica: as in `Ingredient`.
    """

    model: str
    downstream: str | None = None
    size: int | None = None
    seed: int | None = None
    replica: int = 0


class _Planner:
    def __init__(self, suite: Suite, world: World) -> None:
        self.suite, self.world = suite, world
        self._fits: dict[tuple[Any, ...], Fit] = {}
        self._under_way: set[tuple[Any, ...]] = set()
        self._starts: dict[str, Start] = {}
        self._skeletons: dict[str, Skeleton | None] = {}
        self._drawable: dict[tuple[str, int | None], int] = {}
        self._statistics: dict[str, tuple[int, int]] = {}  # smallest batches and fewest steps that change statistics

    def plan(self) -> Plan:
        runs: dict[tuple[Any, ...], Run] = {}
        self._require_models()
        for model in self.suite.models:
            run = self._pretrained(model)
            runs[model, "pretrained"] = run
        for block in self.suite.runs:
            for run in self._block(block):
                twin = runs.setdefault((run.model, run.method, run.size, run.seed, run.tuned_on), run)
                if twin.fit.key != run.fit.key:
                    what = f"two methods of the suite have the name {run.method!r}"
                    raise UserError(what, got=f"{twin.fit.method} and {run.fit.method}", remedy="rename one of them")
        order = {model: place for place, model in enumerate(self.suite.models)}
        listed = tuple(sorted(runs.values(), key=lambda run: order[run.model]))
        looks = {
            (look.name, look.step.key): look for block in self.suite.analyses for look in self._looks(block, listed)
        }
        merges = {
            (merge.model, merge.method, merge.size, merge.seed, merge.left_out): merge
            for block in self.suite.merges
            for merge in self._merges(block)
        }
        notes = (*self.world.notes(), *statistics_notes(self._statistics))
        made = (listed, tuple(looks.values()), tuple(self.world.assumed), notes)
        adapted = adapted_runs(self.suite, self.world, listed)
        plan = Plan(self.suite, self.world, *made, merges=tuple(merges.values()), adapted=adapted)
        return replace(plan, notes=(*plan.notes, *self._shortened(plan)))

    def _shortened(self, plan: Plan) -> tuple[str, ...]:
        """Sentences on the examples that are longer than a model's view."""
        names = (*self.suite.tested, *self.suite.roles.pretrained)
        if not any(self.world[name].cuts for name in names):
            return ()
        read = dict.fromkeys(one for step in plan.steps for one in step.looked_at(self.world))
        return tuple(shortened(read, self.world.cache))

    def _require_models(self) -> None:
        """Check the weights of every model before any other planning. Raises UserError."""
        errors = []
        for model in self.suite.models:
            try:
                self._start(model)
            except UserError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            several = "\n".join(f"{error}" for error in errors)
            raise UserError(f"{len(errors)} models cannot be used\n{several}")

    def _looks(self, block: Looks, runs: Sequence[Run]) -> Iterable[Look]:
        for name in block.names:
            analysis = find_analysis(self.suite, name)
            chosen = [run for run in runs if is_chosen(block, run, analysis.of_pair) and can_look(analysis, run)]
            if not chosen:
                raise UserError(
                    f"{self.suite.name}: analyses: no run of the suite is chosen for {name!r}",
                    got=block.model_dump(exclude_none=True, exclude={"names"}),
                    remedy="leave out what narrows it: methods, sizes, seeds, models, downstream",
                )
            for run in chosen:
                before = self._fit(_At(run.model), "pretrained", METHODS.find("pretrained")())
                yield from looks_at(self.suite, self.world, name, analysis, before, run, block.on)

    def _pretrained(self, model: str) -> Run:
        fit = self._fit(_At(model), "pretrained", METHODS.find("pretrained")())
        return Run(model, "pretrained", None, None, None, fit, self._scores(fit, self.suite.tested, model))

    def _block(self, block: Runs) -> Iterable[Run]:
        methods = self._methods(block, [name for name in block.methods if name != "pretrained"])
        for model, downstream, size, seed, (name, method) in itertools.product(
            block.models or self.suite.models,
            block.downstream or self.suite.downstream,
            block.sizes,
            block.seeds or self.suite.seeds,
            methods,
        ):
            count = None if size == "all" else size
            fit = self._fit(_At(model, downstream, count, seed), name, method)
            tested = [name for name in self.suite.tested if name != downstream or self.world[name].disjoint]
            seen = self._seen(fit, downstream, count, model)
            yield Run(model, name, count, seed, downstream, fit, self._scores(fit, tested, model), seen)

    def _scores(self, fit: Fit, tested: Sequence[str], model: str) -> dict[str, Predict]:
        recipe = self.suite.recipe_of(model)
        size, precision, block = recipe.eval_batch_size, recipe.eval_precision, recipe.last_block
        return {name: Predict(fit, self.world.part(name, "test"), size, precision, block) for name in tested}

    def _seen(self, fit: Fit, downstream: str, size: int | None, model: str) -> Predict | None:
        """The prediction of the tuning images, if they are all images of a set that is tested whole."""
        whole = size is None and not self.suite.held_out and not self.world[downstream].disjoint
        return self._scores(fit, [downstream], model)[downstream] if whole and downstream in self.suite.tested else None

    def _methods(self, block: Runs | Merges, names: Iterable[str]) -> list[tuple[str, Method]]:
        """The methods that a block names. Raises UserError for those that belong to the other kind of block."""
        found = [pair for name in names for pair in variants(self.suite, name)]
        merges_sets = isinstance(block, Merges)
        for name, method in found:
            if method.merges_sets != merges_sets:
                what = "merges models tuned on several sets" if method.merges_sets else "tunes on one set"
                place = "[[merges]]" if method.merges_sets else "[[runs]]"
                raise UserError(
                    f"method {name!r} {what}", got=name, valid=f"name it in {place}", remedy="move it there"
                )
        return found

    def _merges(self, block: Merges) -> Iterable[Merge]:
        """Leave-one-out merges: of the models tuned on all sets but one and its source family, scored on that one."""
        sets = block.downstream or self.suite.downstream
        for model, (left, of), size, seed, (name, method) in itertools.product(
            block.models or self.suite.models,
            list(left_out(self.world, sets, self.suite.name)),
            block.sizes,
            block.seeds or self.suite.seeds,
            self._methods(block, block.methods),
        ):
            count = None if size == "all" else size
            items = method.ingredients()
            parts = [self._ingredient(_At(model, one, count, seed), item, method) for one in of for item in items]
            drawn = seed if isinstance(method, Merging) and method.seeded else None
            self._require_one_net(method, self._start(model).architecture, parts)
            fit = Fit(self._start(model), method, None, None, 0.0, None, drawn, tuple(parts))
            require_unseen(self.world, fit, left)
            singles = dict(zip(of, parts[:: len(items)], strict=True))
            yield merge_of(
                self.world, self._scores, self.suite.reference, (model, name, count, seed), left, fit, singles
            )

    def _fit(self, at: _At, name: str, method: Method) -> Fit:
        place = (at, name, method)
        if place not in self._fits:
            if place in self._under_way:
                raise UserError(f"method {name!r} is an ingredient of itself", remedy="take it out of its own members")
            self._under_way.add(place)
            self._fits[place] = self._new_fit(at, method)
            self._under_way.remove(place)
        return self._fits[place]

    def _new_fit(self, at: _At, method: Method) -> Fit:
        model, downstream, size, seed = at.model, at.downstream, at.size, at.seed
        ingredients = tuple(self._ingredient(at, item, method) for item in method.ingredients())
        start = self._start(model)
        self._require_one_net(method, start.architecture, ingredients)
        if isinstance(method, Merging) or not method.needs_data or downstream is None:
            return Fit(start, method, None, None, 0.0, None, None, ingredients)
        part = self.world.part(downstream, "tune")
        held = self.suite.held_out
        if method.needs_held_out and not held:
            raise UserError(
                f"method {method.name!r} chooses on held-out data, and the suite holds none out",
                got="held_out = 0",
                remedy="set held_out in the suite, e.g. held_out = 0.1",
            )
        recipe, drawn = self.suite.recipe_of(model), self._require_drawable(downstream, size)
        last, one, found = None, None, self._skeleton(model, method)
        if found or method.inspects or model in self.suite.model:  # no other net of RIB's own needs to be built
            method.require(found.classifier if found else bare_net(start.architecture))
        if found is not None:
            own, trained = method.run_recipe(recipe), method.trains(found.classifier)
            last = found.last_batch(trained, own, drawn, f"{method.name} of {model!r} on {downstream!r}")
            batches = own.batches(drawn, merged=last is not None) if trained != frozenset() else []
            if own.batchnorm is None and found.learns_statistics(trained, own):
                smallest = min(batches), own.total_steps(drawn, last == "merged")
                before = self._statistics.get(model, smallest)
                self._statistics[model] = min(before[0], smallest[0]), min(before[1], smallest[1])
            one = found.one_image(method.takes_single_gradients or 1 in batches)
        replay = replayable(self.world, method.name) if method.replays else None
        texts = texts_of(self.world, model, start.architecture, method.random_tokens()) if method.needs_texts else None
        how = (ingredients, last, one, replay, at.replica or None, texts)
        return Fit(start, method, part, size, held, recipe, seed, *how)

    @staticmethod
    def _require_one_net(method: Method, architecture: Architecture, ingredients: Sequence[Fit]) -> None:
        """Refuse ingredients with more modules than the method's own net: weights are merged by their names."""
        own = method.extend(architecture)
        for each in ingredients:
            if each.architecture != own:
                added = each.architecture.extension or own.extension
                raise UserError(
                    f"{method.name!r} starts from the weights of {each.method.name!r}, which are of another net",
                    got=f"a net with {added.function if added else 'other modules'}",
                    valid="ingredients that keep the net as it is, or all with the same modules",
                    remedy=f"take {each.method.name!r} out of the ingredients of {method.name!r}",
                )

    def _skeleton(self, model: str, method: Method) -> Skeleton | None:
        """The net whose weights a method makes, without weights."""
        architecture = self._starts[model].architecture
        extended = method.extend(architecture)
        return self._skeletons[model] if extended == architecture else skeleton(extended)

    def _require_drawable(self, downstream: str, size: int | None) -> int:
        """Refuse a size that cannot be drawn; return its number of images, which is the same for every seed."""
        if (downstream, size) not in self._drawable:
            rows, _ = tuning_rows(self.world[downstream].index("tune"), size, self.suite.held_out, 0, downstream)
            self._drawable[downstream, size] = len(rows)
        return self._drawable[downstream, size]

    def _ingredient(self, at: _At, item: str | Method | Ingredient, owner: Method) -> Fit:
        """The weights that a method starts from; a replica of a merge is a merge of replicas."""
        given = item if isinstance(item, Ingredient) else Ingredient(item)
        again = 0 if isinstance(owner, TrainedMethod) else at.replica
        if again and given.replica:
            what = f"method {owner.name!r} trains several times, and so does the method that it is an ingredient of"
            raise UserError(what, remedy="give one of them another `tuned`")
        name, method = self._only(given.method) if isinstance(given.method, str) else (given.method.name, given.method)
        if method.merges_sets:
            what = f"{name!r} merges models tuned on several sets and cannot be an ingredient of {owner.name!r}"
            raise UserError(what, valid="a method that tunes on one set")
        if given.rate != 1:
            method = at_rate(method, given.rate, self.suite.recipe_of(at.model))
        if not method.needs_data:
            return self._fit(_At(at.model), name, method)
        return self._fit(replace(at, replica=again or given.replica), name, method)

    def _only(self, item: str) -> tuple[str, Method]:
        """The one method that a name stands for."""
        found = variants(self.suite, item)
        if len(found) != 1:
            what = f"{item!r} is a sweep and cannot be an ingredient"
            raise UserError(what, valid=", ".join(name for name, _ in found))
        return found[0]

    def _start(self, model: str) -> Start:
        if model not in self._starts:
            self._starts[model] = self._new_start(model)
        return self._starts[model]

    def _new_start(self, model: str) -> Start:
        row = find_row(model, self.suite.model)
        called = self.suite.model_names.short(model)
        architecture = describe(row, self.world.classes, self.suite.base, self.suite.decode)
        for name in self.suite.tested:
            self.world[name].require_view(architecture.view)
        self._skeletons[model] = found = skeleton(architecture)
        architecture = found.architecture if found else architecture
        if row.pretrain is not None:
            return self._pretrain(model, architecture, row.pretrain)
        loaded = self._loaded(model, row, architecture, called)
        return self._new_head(model, loaded, row.reference or HeadRow()) if row.has_new_head else loaded

    def _loaded(self, model: str, row: ModelRow, architecture: Architecture, called: str) -> Load:
        published = row.weights is None and row.hf is None
        if self.world.assume and published and find_weights(row, self.suite.base).found is None:
            self.world.assumed.append(f"weights of {model}")
            return Load(model, architecture, f"expected {model}", called)
        classes = self.world[self.suite.reference].classes
        place = (self.suite.base, classes, self.world.cache)
        digest = weights_identity(model, row, architecture, *place, fresh=self.world.fresh)
        return Load(model, architecture, digest, called)

    def _new_head(self, model: str, loaded: Load, row: HeadRow) -> NewHead:
        """The training of a head. Raises UserError if its set lacks a class, or is tested on the same images."""
        name = row.data or self.suite.reference
        data, reference = self.world[name], self.world[self.suite.reference]
        where = f'{self.suite.name}: model {model!r}: head = "new"'
        self._require_apart(name, where)
        part = self.world.part(name, "tune")
        seen = {part.label_map.groups[label][0] for label in set(data.index("tune").labels.tolist())}
        if lost := [each for number, each in enumerate(reference.classes) if number not in seen]:
            raise UserError(
                f"{where}: {name!r} has no {data.noun} to train some classes of the head on",
                got=", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else ""),
                valid=f"{data.noun} of all {len(reference.classes)} classes of {self.suite.reference!r}",
            )
        last = self._last_batch(model, part, row.finetune) if row.finetune else None
        return NewHead(loaded, part, row.probe, row.seed, row.finetune, last, loaded.called)

    def _require_apart(self, name: str, where: str) -> None:
        """Refuse a set to train a pretrained model on that is tested on the same images. Raises UserError."""
        if name in self.suite.tested and not self.world[name].disjoint:
            raise UserError(
                f"{where}: {name!r} is tested on what the model is trained on",
                got="a set that is tuned on and tested whole",
                valid="a set with a part that is only tested on",
                remedy=f"add test_fraction = 0.5 to [data.{name}], or give it a part to tune on and one to test on",
            )

    def _pretrain(self, model: str, architecture: Architecture, row: PretrainRow) -> Pretrain:
        def part(name: str | None) -> DataPart:
            self._require_apart(name or self.suite.reference, f"{self.suite.name}: model {model!r}: pretrain")
            return self.world.part(name or self.suite.reference, "tune")

        where, then = f"{self.suite.name}: model {model!r}: objective", row.reference
        if row.objective and architecture.heads:
            what = f"{where}: an objective trains the features of one head, and this model has others"
            raise UserError(what, got=", ".join(architecture.heads), remedy="leave `objective` out for this model")
        objective = self._objective(row.objective, where) if row.objective else None
        if objective is not None:
            objective.require_view(architecture.view)
        reference = Reference(part(then.data), then.probe, then.finetune) if then else None
        data = part(row.data)
        last = self._last_batch(model, data, row.recipe)
        if objective is not None and row.recipe.leaves_one(len(self.world[data.name].index("tune"))):
            last = "merged"
        if reference is not None:
            last = self._last_batch(model, reference.data, reference.finetune) or last
        called = self.suite.model_names.short(model)
        return Pretrain(model, architecture, data, row.recipe, row.seed, objective, reference, last, called)

    def _last_batch(self, model: str, data: DataPart, recipe: Recipe) -> LastBatch | None:
        found, images = self._skeletons[model], len(self.world[data.name].index(data.part))
        return (
            None
            if found is None
            else found.last_batch(None, recipe, images, f"pretraining of {model!r} on {data.name!r}")
        )

    def _objective(self, given: str | dict[str, Any], where: str) -> Objective:
        table = {"kind": given} if isinstance(given, str) else dict(given)
        if "kind" not in table:
            raise UserError(f"{where}: no `kind`", got=given, valid=", ".join(OBJECTIVES.classes))
        return validated(OBJECTIVES.find(str(table.pop("kind"))), table, where)
