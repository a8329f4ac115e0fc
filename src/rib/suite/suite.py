"""Suites: what is compared, as a strict TOML file."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from rib.data.catalogue import DataRow, with_families
from rib.data.overlap import Roles
from rib.data.views import Decode
from rib.errors import UserError
from rib.given import number_in, numbers_in, path_in, texts_in
from rib.models.catalogue import ROWS, ModelRow, replicates
from rib.recipe import Frozen, Recipe, RecipeField
from rib.suite.validation import validated
from rib.text.names import RESERVED, Names, folded, names_of, short

Size = int | Literal["all"]

MOST_SEEDS = 1000
"""Maximum number of tuning seeds that a count adds; a larger number is probably a typing error."""


def _positive(sizes: Sizes) -> tuple[Size, ...]:
    if any(size != "all" and size < 1 for size in sizes):
        raise ValueError("sizes are positive numbers of images, or 'all'")
    return sizes


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if twice := [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]:
        raise ValueError(f"seed {twice[0]} is named twice, and would be one run")
    return seeds


Sizes = Annotated[tuple[Size, ...], AfterValidator(_positive)]
TuningSeeds = Annotated[tuple[int, ...], AfterValidator(_distinct)]


class Runs(Frozen):
    """One block of the comparison: every method at every size, for every model, tuned set and seed."""

    methods: tuple[str, ...] = Field(min_length=1)
    sizes: Sizes = Field(("all",), min_length=1, description="numbers of tuning images, or 'all'")
    models: tuple[str, ...] | None = Field(None, description="default: all of the suite's")
    seeds: TuningSeeds | None = Field(None, description="default: the suite's")
    downstream: tuple[str, ...] | None = Field(
        None, description="default: all of the suite's; or only the reference set, to tune on small subsets of it"
    )


class Merges(Frozen):
    """Leave-one-out merges: of the models tuned on all downstream sets but one, scored on that one."""

    methods: tuple[str, ...] = Field(min_length=1, description="methods that merge models tuned on several sets")
    sizes: Sizes = Field(("all",), min_length=1, description="numbers of tuning images per set, or 'all'")
    models: tuple[str, ...] | None = Field(None, description="default: all of the suite's")
    seeds: TuningSeeds | None = Field(None, description="default: the suite's")
    downstream: tuple[str, ...] | None = Field(None, description="sets to tune on or leave out; default: the suite's")


class RunChoice(Frozen):
    """A choice among the runs of the suite."""

    methods: tuple[str, ...] | None = Field(None, description="default: all of the suite's")
    sizes: Sizes | None = Field(None, description="default: all of the suite's")
    models: tuple[str, ...] | None = Field(None, description="default: all of the suite's")
    seeds: TuningSeeds | None = Field(None, description="default: all of the suite's")
    downstream: tuple[str, ...] | None = Field(None, description="default: all of the suite's")


class Looks(RunChoice):
    """One block of planned analyses: every analysis for every chosen run of the suite."""

    names: tuple[str, ...] = Field(min_length=1, description="names of RIB's analyses or of `[analysis.NAME]` tables")
    on: tuple[str, ...] | None = Field(None, description="data sets to analyse; default: those of each analysis")


class Adapted(RunChoice):
    """One block of predictions that adapt to the unlabelled test inputs, of the runs that are chosen here and of their
    pretrained models."""

    kind: Literal["bn_adapt", "tent"] = Field(description="how the nets adapt")
    batch: int | None = Field(None, description="inputs per batch; default 512 for bn_adapt, 64 for tent")
    prior: int | None = Field(None, description="bn_adapt: images that the net's own statistics count as; default 0")
    lr: float | None = Field(None, description="tent: learning rate; default 0.00025")


class StudyChoice(Frozen):
    """The part of its suite that a study uses; by default everything that it can use."""

    sizes: tuple[Size, ...] | None = Field(None, min_length=1, description="default: all of the suite's runs")
    models: tuple[str, ...] | None = Field(None, min_length=1, description="patterns of names; default: all")
    seeds: tuple[int, ...] | None = Field(None, min_length=1, description="default: the suite's")
    methods: tuple[str, ...] | None = Field(None, min_length=1, description="default: those of the suite's runs")
    steps: int | None = Field(None, ge=1, description="fixed number of steps; default: that of the middle size")
    diversity: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of pretraining sets of one size: first the less, then the more diverse"
    )


class Suite(Frozen):
    """What to compare.

    RI needs at least two downstream sets: one to tune on, others to test on.
    """

    name: str = Field(pattern=r"^[\w+][\w.+-]*$", max_length=100)
    description: str = ""
    note: str = Field("", description="a note for readers, shown in the report")
    samples: bool = Field(True, description="whether pages contain a few test images or texts of each data set")
    reference: str = Field(description="data set of the pretrained models' own task, which defines the classes")
    downstream: tuple[str, ...] = Field(description="data sets to tune on; each model is tested on the others")
    evaluate: tuple[str, ...] = Field((), description="data sets to test on only")
    models: tuple[str, ...] = Field(min_length=1)
    runs: tuple[Runs, ...] = Field((), description="default: only score the pretrained models")
    merges: tuple[Merges, ...] = Field((), description="leave-one-out merges of models tuned on several sets")
    seeds: TuningSeeds = Field((0,), min_length=1)
    decode: Decode = Field("exact", description="exact: Pillow's pixels, bit for bit; fast: within 7 grey levels")
    held_out: float = Field(0.0, ge=0, lt=0.9, description="share of a tuning pool that is held out for choices")
    recipe: RecipeField = Field(default_factory=Recipe, description="a table, or 'paper', or { base = 'paper', … }")
    tuning: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="recipe fields that differ for models whose name matches the pattern"
    )
    data: dict[str, DataRow] = Field(default_factory=dict, description="further data sets")
    model: dict[str, ModelRow] = Field(default_factory=dict, description="further models")
    method: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="methods with other hyper-parameters: `kind`, its fields, `sweep`"
    )
    adapted: tuple[Adapted, ...] = Field((), description="predictions that adapt to unlabelled test inputs")
    analyses: tuple[Looks, ...] = Field((), description="analyses of the models")
    analysis: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="analyses with other parameters: `kind` and its fields"
    )
    study: dict[str, StudyChoice] = Field(default_factory=dict, description="the part of this suite that a study uses")
    _base: Path = PrivateAttr(default=Path())

    @field_validator("data")
    @classmethod
    def _of_families(cls, rows: dict[str, DataRow]) -> dict[str, DataRow]:
        return with_families(rows)

    @field_validator("model")
    @classmethod
    def _one_a_seed(cls, rows: dict[str, ModelRow]) -> dict[str, ModelRow]:
        """Replace a row whose pretraining has several seeds by one row per seed: NAME for seed 0, NAME_1 for
        seed 1, …
        """
        found: dict[str, ModelRow] = {}
        for name, row in rows.items():
            for own, each in replicates(name, row):
                if own in found or (own != name and own in rows):
                    raise ValueError(f"two rows make the model {own!r}")
                found[own] = each
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.downstream) < 2:
            raise ValueError("downstream needs at least two data sets: tuned on one, tested on the others")
        for role, names in (("downstream", self.downstream), ("evaluate", self.evaluate), ("models", self.models)):
            if twice := [name for place, name in enumerate(names) if name in names[:place]]:
                raise ValueError(f"{role} names {twice[0]!r} twice")
        _require_fitting("tuning", self.tuning, self.models)
        for name, choice in self.study.items():
            _require_fitting(f"study.{name}", choice.models or (), self.models)
        self._require_own_words()
        roles = [self.reference, *self.downstream, *self.evaluate]
        if len(set(roles)) != len(roles):
            if self.reference in self.downstream:
                raise ValueError(
                    f"{self.reference!r} is the reference set and cannot be a downstream set as well; to tune on it, "
                    f'name it in the runs: [[runs]] downstream = ["{self.reference}"]'
                )
            raise ValueError("a data set plays one role: reference, downstream or evaluate")
        for place, blocks, known in (
            ("runs", self.runs, (*self.downstream, self.reference)),
            ("merges", self.merges, self.downstream),
        ):
            self._require_known_names(place, blocks, known)
        if self.reference in self.roles.tuned and len(self.roles.tuned) > 1:
            raise ValueError(
                "runs tune on the reference set or on downstream sets: mRI is a mean over the sets tuned on, and would "
                "mix the two; make one suite for each"
            )
        self._require_known_choices()
        return self

    def _require_own_words(self) -> None:
        for name in self.tested:
            if folded(name) in RESERVED and (name, name) != (self.reference, "reference"):
                raise ValueError(
                    f"a data set cannot be called {name!r}: tables use that word; name it NAMESPACE:{name}"
                )
        for name, table in self.method.items():
            if folded(name) in RESERVED and table.get("kind", name) != name:
                raise ValueError(f"your own method cannot be called {name!r}: tables use that word; rename it")

    def _require_known_names(self, place: str, blocks: Iterable[Runs | Merges], sets: Sequence[str]) -> None:
        for block in blocks:
            _require_known(place, block.models, self.models, "models")
            _require_known(place, block.downstream, sets, "downstream")

    def _require_known_choices(self) -> None:
        for look in self.analyses:
            self._require_known_runs("analyses", look)
            _require_known("analyses", look.on, self.tested, "data sets")
        for block in self.adapted:
            self._require_known_runs("adapted", block)

    def _require_known_runs(self, place: str, block: RunChoice) -> None:
        methods = [name.partition(" ")[0] for name in block.methods or ()]  # one of a sweep: "NAME field=value"
        _require_known(place, methods, [name for run in self.runs for name in run.methods], "methods")
        _require_known(place, block.sizes, [size for run in self.runs for size in run.sizes], "sizes")
        _require_known(place, block.seeds, [seed for run in self.runs for seed in run.seeds or self.seeds], "seeds")
        _require_known(place, block.models, self.models, "models")
        _require_known(place, block.downstream, self.roles.tuned or self.downstream, "downstream")

    def recipe_of(self, model: str) -> Recipe:
        """The recipe with which a model is tuned: the suite's, changed by every `tuning` table whose pattern matches.

        Raises:
            UserError: a changed field does not exist or has a wrong value.
        """
        changes: dict[str, Any] = {}
        for pattern, fields in self.tuning.items():
            if fnmatchcase(model, pattern):
                changes |= fields
        return validated(Recipe, self.recipe.model_dump() | changes, f"{self.name}: tuning") if changes else self.recipe

    @property
    def base(self) -> Path:
        """The folder that the suite's relative paths start from."""
        return self._base

    @property
    def roles(self) -> Roles:
        """The role of each data set."""
        blocks: tuple[Runs | Merges, ...] = (*self.runs, *self.merges)
        tuned = dict.fromkeys(name for block in blocks for name in block.downstream or self.downstream)
        rows = [row for name, row in self.model.items() if name in self.models]
        stages = [
            stage for row in rows for stage in (row.pretrain, row.pretrain and row.pretrain.reference, row.reference)
        ]
        data = (stage.data for stage in stages if stage)
        pretrained = dict.fromkeys(name for name in data if name and name != self.reference)
        return Roles(self.reference, self.downstream, self.evaluate, tuple(tuned), tuple(pretrained))

    @property
    def tested(self) -> tuple[str, ...]:
        """Every data set that models are scored on."""
        return (*self.downstream, self.reference, *self.evaluate)

    @property
    def set_names(self) -> Names:
        """Names of its data sets."""
        return names_of(self.tested)

    @property
    def model_names(self) -> Names:
        """Names of its models."""
        return names_of(self.models)

    def find_model(self, given: str, what: str = "model") -> str:
        """The full name of a model, by its full or short name, among the suite's models, then its rows, then the
        catalogue.

        Args:
            given: the name.
            what: its role, for the error.

        Raises:
            UserError: there is none, or the first of these that knows the name has several.
        """
        groups = (self.models, (*self.models, *self.model), (*self.models, *self.model, *ROWS))
        if any(given in group for group in groups):
            return given
        near = next((group for group in groups if any(short(name) == given for name in group)), groups[-1])
        return Names(near, reserved=frozenset()).find(given, what)

    def with_models(self, names: Sequence[str]) -> Suite:
        """A copy with only these models, from the suite or the catalogue, with or without the namespace.

        Raises:
            UserError: there is no such model, or no model is named.
        """
        chosen = tuple(dict.fromkeys(self.find_model(name) for name in texts_in(names, "models")))
        if not chosen:
            raise UserError("no model is named", got="an empty list", valid=", ".join(self.models))
        fields = ("runs", "merges", "adapted", "analyses")
        blocks = {field: _narrowed(getattr(self, field), "models", chosen) for field in fields}
        return self.model_copy(update={"models": chosen, **blocks}).based_at(self.base)

    def without_sets(self, names: Sequence[str]) -> Suite:
        """A copy without these data sets, for parts of a suite; it may have fewer than two sets to tune on."""
        dropped = texts_in(names, "the data sets")
        kept = frozenset(name for name in (*self.tested, *self.roles.tuned) if name not in dropped)
        changed = {
            role: tuple(name for name in getattr(self, role) if name in kept) for role in ("downstream", "evaluate")
        }
        looks = _narrowed(_narrowed(self.analyses, "downstream", kept), "on", kept)
        runs, merges = _narrowed(self.runs, "downstream", kept), _narrowed(self.merges, "downstream", kept)
        changed |= {"runs": runs, "merges": merges, "analyses": looks}
        changed["adapted"] = _narrowed(self.adapted, "downstream", kept)
        return self.model_copy(update=changed).based_at(self.base)

    def with_seeds(self, seeds: int | Sequence[int]) -> Suite:
        """A copy with these tuning seeds in every block of runs and in every study.

        Args:
            seeds: the exact seeds; or their number, which takes the suite's own first and then the smallest others.

        Raises:
            UserError: it is neither, or a seed appears twice.
        """
        seeds = _seeds_in(seeds)
        chosen = _extended(self.seeds, seeds)
        runs, merges = _seeded(self.runs, seeds), _seeded(self.merges, seeds)
        studies = {
            name: choice.model_copy(update={"seeds": choice.seeds and _extended(choice.seeds, seeds)})
            for name, choice in self.study.items()
        }
        known = {seed for block in runs for seed in block.seeds or chosen}
        looks = _narrowed(self.analyses, "seeds", known)
        changed = {"seeds": chosen, "runs": runs, "merges": merges, "study": studies, "analyses": looks}
        changed["adapted"] = _narrowed(self.adapted, "seeds", known)
        return self.model_copy(update=changed).based_at(self.base)

    def without_samples(self) -> Suite:
        """A copy whose pages contain no test images or texts."""
        return self.model_copy(update={"samples": False}).based_at(self.base)

    def based_at(self, base: str | Path) -> Suite:
        """A copy whose relative paths start from another folder. Raises UserError if `base` is no path."""
        moved = self.model_copy()
        moved._base = path_in(base, "the folder of the data")
        return moved


def _require_known(place: str, chosen: Iterable[int | str] | None, known: Collection[int | str], what: str) -> None:
    there = frozenset(known)
    if lost := [one for one in chosen or () if one not in there]:
        valid = ", ".join(map(str, dict.fromkeys(known)))
        raise ValueError(f"{place}: {what} {lost[0]!r} is not among the suite's {what} ({valid})")


def _require_fitting(place: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    if idle := [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]:
        raise ValueError(f"{place}: {idle[0]!r} matches none of the models {', '.join(names)}")


Block = TypeVar("Block", Runs, Merges, Looks, Adapted)
Seeded = TypeVar("Seeded", Runs, Merges)


def _seeded(blocks: Sequence[Seeded], seeds: int | Sequence[int]) -> tuple[Seeded, ...]:
    """The blocks; those that list seeds get other seeds."""
    return tuple(block.model_copy(update={"seeds": block.seeds and _extended(block.seeds, seeds)}) for block in blocks)


def _narrowed(blocks: Sequence[Block], field: str, known: Collection[int | str]) -> tuple[Block, ...]:
    """The blocks with only these models or seeds, without blocks that lose all of theirs."""
    kept = []
    for block in blocks:
        own = getattr(block, field)
        left = None if own is None else tuple(item for item in own if item in known)
        if left is None or left:
            kept.append(block.model_copy(update={field: left}))
    return tuple(kept)


def _seeds_in(seeds: Any) -> int | tuple[int, ...]:
    """The number of seeds, or the seeds. Raises UserError for anything else."""
    listed = isinstance(seeds, Iterable) and not isinstance(seeds, str | bytes)
    return numbers_in(seeds, "seeds") if listed else number_in(seeds, "the number of seeds", most=MOST_SEEDS)


def _extended(own: Sequence[int], seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The first `seeds` of a list, with the smallest missing seeds if it has fewer; or the given seeds."""
    if not isinstance(seeds, int):
        return tuple(seeds)
    others = (seed for seed in itertools.count() if seed not in own)
    return tuple(itertools.islice(itertools.chain(own, others), seeds))
