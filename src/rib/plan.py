"""Plan: a suite as a deduplicated graph of steps."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rib.analysis import ANALYSES, Analysis
from rib.data.base import DataSet
from rib.data.catalogue import find_row as find_data_row
from rib.data.catalogue import open_data, require_some
from rib.data.examples import Part
from rib.data.expected import ExpectedSet, is_absent
from rib.data.labels import match_classes
from rib.data.overlap import overlaps
from rib.data.splits import tuning_rows
from rib.errors import UserError, nearest
from rib.methods import METHODS, MergedMethod, Method, Passes
from rib.models.catalogue import Architecture, PretrainRow
from rib.models.catalogue import find_row as find_model_row
from rib.models.loading import describe, weights_identity
from rib.models.skeleton import Skeleton, skeleton
from rib.models.sources import find_weights
from rib.objectives import OBJECTIVES, Objective
from rib.recipe import LastBatch, Recipe
from rib.steps import Compare, DataPart, Embed, Fit, Load, Predict, Pretrain, Reference, Step
from rib.store import Store
from rib.suite import Looks, Runs, Suite, validated
from rib.text.names import short


@dataclass(frozen=True)
class Run:
    """One tuned (or pretrained) model of the comparison, and where it is scored.

    Attributes:
        model, method: as the suite names them.
        size: images tuned on; None for all (and for the pretrained model).
        seed: of the tuning; None for the pretrained model.
        tuned_on: name of the downstream set; None for the pretrained model.
        fit: its weights.
        scores: the prediction of each data set it is scored on, by name.
        seen: the prediction of the very images tuned on, where a set is tuned on whole and tested whole; never part of
            RI, nor of a gain.
    """

    model: str
    method: str
    size: int | None
    seed: int | None
    tuned_on: str | None
    fit: Fit
    scores: dict[str, Predict]
    seen: Predict | None = None

    @property
    def predictions(self) -> Iterator[tuple[str, Predict]]:
        """Every prediction with the name of its data set, the one of the images tuned on last."""
        yield from self.scores.items()
        if self.seen is not None and self.tuned_on is not None:
            yield self.tuned_on, self.seen


@dataclass(frozen=True)
class Look:
    """One analysis of one run.

    Attributes:
        name: of the analysis, as the suite has it.
        run: the tuned model, or the pretrained one for an analysis that looks at one model.
        on: the data sets looked at; empty for one of weights alone.
        step: the comparison.
    """

    name: str
    run: Run
    on: tuple[str, ...]
    step: Compare


@dataclass(frozen=True)
class Plan:
    """Everything a suite asks for.

    Attributes:
        suite: the suite.
        world: its data sets.
        runs: every model, tuned or not, in the order of the suite.
        looks: every analysis of every run that the suite asks for.
        assumed: data sets and weights that are not on this machine; empty for a plan that can be carried out.
        notes: what data sets share, in sentences, where every number is right all the same.
        share: whether features that several steps read are made once; what is found is the same without.
    """

    suite: Suite
    world: World
    runs: tuple[Run, ...]
    looks: tuple[Look, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    share: bool = True

    def chosen(self, model: str | None = None, method: str | None = None, tuned_on: str | None = None) -> list[Run]:
        """The runs of a model, a method and a set tuned on; None for all of them.

        Raises:
            UserError: the suite has none of that name, or several.
        """
        own = None if model is None else self.suite.model_names.find(model, "model")
        on = None if tuned_on is None else self.suite.set_names.find(tuned_on, "data set")
        if method is not None and method not in (known := {run.method for run in self.runs}):
            raise nearest(method, known, "method of the suite:")
        return [
            run
            for run in self.runs
            if own in (None, run.model) and method in (None, run.method) and on in (None, run.tuned_on)
        ]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, each after what it needs and what it shares with others."""
        predictions = (predict for run in self.runs for _, predict in run.predictions)
        needed = in_order(itertools.chain(predictions, (look.step for look in self.looks)))
        return tuple(with_shared(needed)) if self.share else needed

    @cached_property
    def _shared(self) -> frozenset[str]:
        return frozenset(step.key for step in self.steps if isinstance(step, Embed))

    def passes(self, step: Step) -> Passes:
        """The images that go through the net in a step; those of an analysis are an estimate."""
        match step:
            case Embed():
                return Passes(seen=self._drawn(step)[0])
            case Predict():
                read = step.features is not None and step.features.key in self._shared
                return Passes(seen=0 if read else len(self.world[step.data.name].index("test")))
            case Fit():
                return self._fit_passes(step)
            case Compare():
                counts = (len(self.world[data.name].index("test")) for data in step.data)
                return Passes(seen=round(sum(step.analysis.image_passes(count) for count in counts)))
            case Pretrain():
                return self._pretrain_passes(step)

    def image_passes(self, step: Step) -> float:
        """What a step costs, in forward passes of one image; a training pass counts as three."""
        return self.passes(step).cost

    def _fit_passes(self, step: Fit) -> Passes:
        if step.data is None or step.recipe is None:
            return Passes()
        images, held_out = self._drawn(step)
        own = step.method.passes(step.recipe, images, held_out)
        if step.architecture.heads and step.method.reads_features:  # there are no features: all goes through the net
            seen = step.method.head_alone(step.recipe, images) if step.method.keeps_backbone else images
            return own._replace(seen=own.seen + seen)
        read = step.features is None or step.features.key in self._shared
        return own if read else own._replace(seen=own.seen + images)

    def _pretrain_passes(self, step: Pretrain) -> Passes:
        def trained(data: DataPart, recipe: Recipe) -> int:
            return recipe.images(len(self.world[data.name].index("tune")))

        images, then = step.views * trained(step.data, step.recipe), step.reference
        if then is None:
            return Passes(trained=images)
        return Passes(images + trained(then.data, then.finetune), len(self.world[then.data.name].index("tune")))

    def _drawn(self, step: Fit | Embed) -> tuple[int, int]:
        """How many examples a step draws from its data, and how many are held out beside them."""
        assert step.data is not None
        index = self.world[step.data.name].index(step.data.part)
        if step.seed is None:
            return len(index), 0
        place = (step.data.name, step.size, step.held_out)
        if place not in self._draws:  # the seed makes no difference
            tuning, held = tuning_rows(index, step.size, step.held_out, step.seed, step.data.name)
            self._draws[place] = len(tuning), len(held)
        return self._draws[place]

    @cached_property
    def _draws(self) -> dict[tuple[str, int | None, float], tuple[int, int]]:
        return {}


def with_shared(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, and before the first that reads them the features that more than one of them reads."""
    readers = Counter(step.features.key for step in steps if step.features)
    placed: set[str] = set()
    for step in steps:
        if (features := step.features) and readers[features.key] > 1 and features.key not in placed:
            placed.add(features.key)
            yield features
        yield step


def in_order(wanted: Iterable[Step]) -> tuple[Step, ...]:
    """The steps and all they need, once each, every step after its needs."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key not in found:
            for need in step.needs:
                visit(need)
            found[step.key] = step

    for step in wanted:
        visit(step)
    return tuple(found.values())


def missing(steps: Sequence[Step], store: Store) -> tuple[Step, ...]:
    """The steps to do: those without a record, and those whose weights one of them needs and the store has dropped.

    Features are to do where more than one step to do reads them and they are not kept.

    Args:
        steps: all of a plan's, each after its needs.
        store: what is there.
    """
    present = store.keys()
    finished = {step.key for step in steps if step.key in present and store.is_done(step.key)}  # read, not only there
    wanted: set[str] = set()
    weights_wanted: set[str] = set()
    readers: Counter[str] = Counter()
    for step in reversed(steps):
        needed = step.key in weights_wanted
        if isinstance(step, Embed):
            if readers[step.key] > 1 and not store.has_features(step.key):
                wanted.add(step.key)
        elif step.key not in finished or (needed and step.keeps_weights and not store.has_weights(step.key)):
            wanted.add(step.key)
            if step.features:
                readers[step.features.key] += 1
        if step.key in wanted or (needed and not step.keeps_weights):
            weights_wanted.update(need.key for need in step.needs)
    return tuple(step for step in steps if step.key in wanted)


class World:
    """The data sets of a suite, opened when first asked for.

    Args:
        suite: the suite.
        cache: folder for fingerprints and packs.
        assume: take a published set that is not on this machine as its authors count it.
        fresh: read checkpoints, whatever is known of them.
    """

    def __init__(self, suite: Suite, cache: Path | None, assume: bool = False, fresh: bool = False) -> None:
        self.suite, self.cache, self.assume, self.fresh = suite, cache, assume, fresh
        self.assumed: list[str] = []
        self._open: dict[str, DataSet] = {}
        self._parts: dict[tuple[str, Part], DataPart] = {}

    def __getitem__(self, name: str) -> DataSet:
        if name not in self._open:
            row = find_data_row(name, self.suite.data)
            if self.assume and row.imagenet and is_absent(name, row, self.suite.base):
                self._open[name] = ExpectedSet(name, row.imagenet)
                self.assumed.append(name)
            else:
                self._open[name] = open_data(name, row, self.suite.base, self.cache)
        return self._open[name]

    def part(self, name: str, part: Part) -> DataPart:
        """A part by content, with its label map into the reference set's classes."""
        if (name, part) not in self._parts:
            data, reference = self[name], self[self.suite.reference]
            own = find_data_row(name, self.suite.data).label_targets
            words = [data.map_name, *(["with [labels]"] if own else []), *([data.caveat] if data.caveat else [])]
            targets = {**data.targets, **own}
            label_map = match_classes(name, data.classes, reference.classes, targets, ", ".join(words))
            require_some(data, part)
            both = not data.disjoint and data.fingerprint("tune") == data.fingerprint("test")
            self._parts[name, part] = DataPart(name, part, data.fingerprint(part), label_map, both, self.called(name))
        return self._parts[name, part]

    def shared(self) -> tuple[str, ...]:
        """What the sets share, in sentences.

        Raises:
            UserError: a number would be wrong for it.
        """
        roles = self.suite.roles
        found = overlaps({name: self[name] for name in (*self.suite.tested, *roles.pretrained)}, roles)
        if refused := next((one for one in found if one.refused), None):
            raise refused.error()
        return tuple(one.words for one in found)

    def called(self, name: str) -> str:
        """What a data set is called in the titles of steps."""
        names = self.suite.set_names
        return names.short(name) if name in names.full else short(name)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What lies beside the images of the opened sets and is not among them, in words."""
        sets = self._open.items()
        return tuple(f"{name.rpartition(':')[2]}: leaves out {words}" for name, data in sets for words in data.left_out)

    @property
    def classes(self) -> int:
        """Number of the reference set's classes: the models' outputs."""
        return len(self[self.suite.reference].classes)


def make_plan(suite: Suite, cache: Path | None = None, assume: bool = False, fresh: bool = False) -> Plan:
    """The plan of a suite. Looks at data and weights only to fingerprint them.

    Args:
        suite: the suite.
        cache: folder for fingerprints of data that do not change.
        assume: plan with published data sets and weights that are not on this machine as if they were; such a plan
            says what it costs, and cannot be carried out.
        fresh: read checkpoints, whatever is known of them.

    Raises:
        UserError: a name is unknown, data or weights are missing or do not fit, a size is too large, or a method
            needs held-out images and the suite holds none out.
    """
    return _Planner(suite, World(suite, cache, assume, fresh)).plan()


def _is_chosen(block: Looks, run: Run, of_pair: bool) -> bool:
    """Whether a block of looks speaks of a run; one that looks at a single model speaks of pretrained ones."""
    if run.model not in (block.models or (run.model,)):
        return False
    if not of_pair or run.tuned_on is None:
        return of_pair == (run.tuned_on is not None)
    if block.methods and not {run.method, run.method.partition(" ")[0]} & set(block.methods):
        return False  # a sweep's name chooses all of its variants, "NAME field=value" one
    wanted = ((run.seed, block.seeds), (run.tuned_on, block.downstream), (run.size or "all", block.sizes))
    return all(chosen is None or item in chosen for item, chosen in wanted)


def find_analysis(suite: Suite, name: str, **fields: Any) -> Analysis:
    """An analysis as the suite has it, or RIB's own; `fields` have the last word.

    Raises:
        UserError: there is none of that name, or it has no such field.
    """
    table = dict(suite.analysis.get(name, {}))
    if name not in suite.analysis and ":" not in name and name not in ANALYSES.classes:
        raise nearest(name, [*suite.analysis, *ANALYSES.classes], "analysis")
    kind = ANALYSES.find(str(table.pop("kind", name)))
    return validated(kind, table | fields, f"{suite.name}: analysis {name!r}")


def looks_at(
    suite: Suite,
    world: World,
    name: str,
    analysis: Analysis,
    before: Fit,
    run: Run,
    chosen: Sequence[str] | None = None,
) -> Iterable[Look]:
    """The looks of an analysis at a run: one, or one a data set; a tuned set only where it has images of its own.

    Args:
        suite, world: for data sets and the recipe of predictions.
        name: of the analysis, as the suite has it.
        analysis: what is looked for.
        before: the pretrained weights.
        run: the model looked at.
        chosen: data sets to look at; default: the analysis' own.
    """
    usual = {"nothing": (), "reference": (suite.reference,), "tested": suite.tested}[analysis.on]
    seen = tuple(data for data in (chosen or usual) if data in run.scores)
    recipe = suite.recipe_of(run.model)
    groups: Sequence[tuple[str, ...]] = [()]
    if analysis.needs_features and before.architecture.heads:
        raise UserError(
            f"analysis {analysis.name!r} takes a model apart into features and one head, and the answer of "
            f"{run.model!r} is not what one head makes of features",
            got=f"an answer made of {', '.join(before.architecture.heads)}",
            remedy="name the other models in the analysis' `models`, or leave it out",
        )
    if analysis.on != "nothing":
        groups = [seen] if analysis.together else [(data,) for data in seen]
    for on in groups:
        step = Compare(
            analysis=analysis,
            before=before,
            after=run.fit if analysis.of_pair else None,
            on=tuple(map(suite.set_names.short, on)),
            data=tuple(world.part(data, "test") for data in on),
            batch_size=recipe.eval_batch_size,
            precision=recipe.eval_precision,
        )
        yield Look(name, run, on, step)


class _Planner:
    def __init__(self, suite: Suite, world: World) -> None:
        self.suite, self.world = suite, world
        self._fits: dict[tuple[Any, ...], Fit] = {}
        self._under_way: set[tuple[Any, ...]] = set()
        self._starts: dict[str, Load | Pretrain] = {}
        self._skeletons: dict[str, Skeleton | None] = {}
        self._drawable: dict[tuple[str, int | None], int] = {}

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
        notes = self.world.shared()
        return Plan(self.suite, self.world, listed, tuple(looks.values()), tuple(self.world.assumed), notes)

    def _require_models(self) -> None:
        """Find every model whose weights cannot be used before anything else is planned. Raises UserError."""
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
            chosen = [run for run in runs if _is_chosen(block, run, analysis.of_pair)]
            if not chosen:
                raise UserError(
                    f"{self.suite.name}: analyses: no run of the suite is chosen for {name!r}",
                    got=block.model_dump(exclude_none=True, exclude={"names"}),
                    remedy="leave out what narrows it: methods, sizes, seeds, models, downstream",
                )
            for run in chosen:
                before = self._fit(run.model, "pretrained", METHODS.find("pretrained")(), None, None, None)
                yield from looks_at(self.suite, self.world, name, analysis, before, run, block.on)

    def _pretrained(self, model: str) -> Run:
        fit = self._fit(model, "pretrained", METHODS.find("pretrained")(), None, None, None)
        return Run(model, "pretrained", None, None, None, fit, self._scores(fit, self.suite.tested, model))

    def _block(self, block: Runs) -> Iterable[Run]:
        methods = [pair for name in block.methods if name != "pretrained" for pair in self._variants(name)]
        for model, downstream, size, seed, (name, method) in itertools.product(
            block.models or self.suite.models,
            block.downstream or self.suite.downstream,
            block.sizes,
            block.seeds or self.suite.seeds,
            methods,
        ):
            count = None if size == "all" else size
            fit = self._fit(model, name, method, downstream, count, seed)
            tested = [name for name in self.suite.tested if name != downstream or self.world[name].disjoint]
            seen = self._seen(fit, downstream, count, model)
            yield Run(model, name, count, seed, downstream, fit, self._scores(fit, tested, model), seen)

    def _scores(self, fit: Fit, tested: Sequence[str], model: str) -> dict[str, Predict]:
        recipe = self.suite.recipe_of(model)
        size, precision, block = recipe.eval_batch_size, recipe.eval_precision, recipe.last_block
        return {name: Predict(fit, self.world.part(name, "test"), size, precision, block) for name in tested}

    def _seen(self, fit: Fit, downstream: str, size: int | None, model: str) -> Predict | None:
        """The prediction of the images tuned on: all of a set that is tested whole; a draw of it would be a mixture."""
        whole = size is None and not self.suite.held_out and not self.world[downstream].disjoint
        return self._scores(fit, [downstream], model)[downstream] if whole and downstream in self.suite.tested else None

    def _fit(
        self, model: str, name: str, method: Method, downstream: str | None, size: int | None, seed: int | None
    ) -> Fit:
        place = (model, name, method, downstream, size, seed)
        if place not in self._fits:
            if place in self._under_way:
                raise UserError(f"method {name!r} is an ingredient of itself", remedy="take it out of its own members")
            self._under_way.add(place)
            self._fits[place] = self._new_fit(model, method, downstream, size, seed)
            self._under_way.remove(place)
        return self._fits[place]

    def _new_fit(self, model: str, method: Method, downstream: str | None, size: int | None, seed: int | None) -> Fit:
        ingredients = tuple(self._ingredient(model, item, downstream, size, seed) for item in method.ingredients())
        start = self._start(model)
        if isinstance(method, MergedMethod) or not method.needs_data or downstream is None:
            return Fit(start, method, None, None, 0.0, None, None, ingredients)
        part = self.world.part(downstream, "tune")
        held = self.suite.held_out
        if method.needs_held_out and not held:
            raise UserError(
                f"method {method.name!r} chooses on held-out downstream images, and the suite holds none out",
                got="held_out = 0",
                remedy="set held_out in the suite, e.g. held_out = 0.1",
            )
        recipe, drawn = self.suite.recipe_of(model), self._require_drawable(downstream, size)
        found, what = self._skeletons[model], f"{method.name} of {model!r} on {downstream!r}"
        last = None
        if found is not None:
            method.require(found.classifier)
            last = found.last_batch(method.trains(found.classifier), recipe, drawn, what)
        return Fit(start, method, part, size, held, recipe, seed, ingredients, last)

    def _require_drawable(self, downstream: str, size: int | None) -> int:
        """Refuse a size that cannot be drawn; how many images it is, for which the seed makes no difference."""
        if (downstream, size) not in self._drawable:
            rows, _ = tuning_rows(self.world[downstream].index("tune"), size, self.suite.held_out, 0, downstream)
            self._drawable[downstream, size] = len(rows)
        return self._drawable[downstream, size]

    def _ingredient(
        self, model: str, item: str | Method, downstream: str | None, size: int | None, seed: int | None
    ) -> Fit:
        if isinstance(item, Method):
            return self._fit(model, item.name, item, downstream, size, seed)
        variants = self._variants(item)
        if len(variants) != 1:
            raise UserError(f"{item!r} is a sweep and cannot be an ingredient", valid=", ".join(n for n, _ in variants))
        name, method = variants[0]
        if not method.needs_data:
            return self._fit(model, name, method, None, None, None)
        return self._fit(model, name, method, downstream, size, seed)

    def _variants(self, name: str) -> list[tuple[str, Method]]:
        """The methods that a name in the suite stands for: one, or several where it has a sweep."""
        if name not in self.suite.method and ":" not in name and name not in METHODS.classes:
            raise nearest(name, [*self.suite.method, *METHODS.classes], "method")
        table = dict(self.suite.method.get(name, {}))
        kind = METHODS.find(str(table.pop("kind", name)))
        sweep = table.pop("sweep", {})
        where = f"{self.suite.name}: method {name!r}"
        if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
            raise UserError(f"{where}: sweep is a table of lists", got=sweep, valid="sweep = { alpha = [0.25, 0.5] }")
        variants = []
        for values in itertools.product(*sweep.values()):
            chosen = dict(zip(sweep, values, strict=True))
            label = name + "".join(
                f" {field}={_number(value) if isinstance(value, float) else value}" for field, value in chosen.items()
            )
            variants.append((label, validated(kind, table | chosen, where)))
        return variants

    def _start(self, model: str) -> Load | Pretrain:
        if model not in self._starts:
            self._starts[model] = self._new_start(model)
        return self._starts[model]

    def _new_start(self, model: str) -> Load | Pretrain:
        row = find_model_row(model, self.suite.model)
        called = self.suite.model_names.short(model)
        architecture = describe(row, self.world.classes, self.suite.base, self.suite.decode)
        self._skeletons[model] = found = skeleton(architecture)
        architecture = found.architecture if found else architecture
        if row.pretrain is None:
            published = row.weights is None and row.hf is None
            if self.world.assume and published and find_weights(row, self.suite.base).found is None:
                self.world.assumed.append(f"weights of {model}")
                return Load(model, architecture, f"expected {model}", called)
            classes = self.world[self.suite.reference].classes
            place = (self.suite.base, classes, self.world.cache)
            digest = weights_identity(model, row, architecture, *place, fresh=self.world.fresh)
            return Load(model, architecture, digest, called)
        return self._pretrain(model, architecture, row.pretrain)

    def _pretrain(self, model: str, architecture: Architecture, row: PretrainRow) -> Pretrain:
        def part(name: str | None) -> DataPart:
            return self.world.part(name or self.suite.reference, "tune")

        where, then = f"{self.suite.name}: model {model!r}: objective", row.reference
        if row.objective and architecture.heads:
            what = f"{where}: an objective trains the features of one head, and this model has others"
            raise UserError(what, got=", ".join(architecture.heads), remedy="leave `objective` out for this model")
        objective = self._objective(row.objective, where) if row.objective else None
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


def _number(value: float) -> str:
    """A number as short as it can be without becoming another: 0.5, 1e-05, 0.1234567."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
