"""Pair: a plan for two checkpoints: a model before and after tuning with any code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rib.analysis import ANALYSES
from rib.errors import StepError, UserError, nearest, with_near_path
from rib.given import number_in, path_in, perhaps_at_home, text_in, texts_in
from rib.identity import digest
from rib.models import clip
from rib.models.build import build
from rib.models.catalogue import ROWS, Architecture, ModelRow, weights_path
from rib.models.checkpoints import read_checkpoint
from rib.models.describe import describe
from rib.models.extensions import stated_extension
from rib.models.layers import choose
from rib.models.loading import weights_identity
from rib.models.recorded import RecordedAccuracy, recorded_accuracy
from rib.models.skeleton import skeleton
from rib.models.text import is_transformers
from rib.plan.looks import can_look, find_analysis, looks_at
from rib.plan.pair_view import fields_of, require_one_view, with_view
from rib.plan.plan import Look, Plan, Run
from rib.plan.planner import make_plan
from rib.plan.tuned import in_base
from rib.steps import Fit, World
from rib.suite.suite import Suite
from rib.training.statistics import statistics_names

TUNED = "tuned"
"""Method of the tuned model's run."""

OWN_DATA = "your own data"
"""Name of the tuned set if it is not a data set of the suite."""

LOOKS = ("cka", "drift")
"""The analyses of a pair, by name."""

STATISTICS = "statistics"
"""Name of the additional analysis of a pair with running statistics."""

KINDS = ("timm", "torchvision", "open_clip")
"""Libraries whose models can be named as KIND:NAME, or KIND:NAME:TAG."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of checkpoint files."""

LIBRARIES = "timm:NAME, torchvision:NAME, open_clip:NAME"
ARCHITECTURES = f"--model {LIBRARIES}, or a model of the suite or the catalogue"


@dataclass(frozen=True)
class Pair:
    """Two models to compare, and the data sets that score them.

    Attributes:
        plan: two runs, and the analyses of both.
        base: name of the pretrained model, as given.
        tuned: name of the tuned model, as given.
        tuned_on: the tuned set, if it is a data set of the suite; None if it is another set or unknown.
        images: number of tuning images; None if unknown.
        view: fields of the preprocessing that the call states, by name.
        recorded: the accuracy that the file of BASE states; None without one, or if the call states the view.
    """

    plan: Plan
    base: str
    tuned: str
    tuned_on: str | None
    images: int | None
    view: Mapping[str, Any] = field(default_factory=dict)
    recorded: RecordedAccuracy | None = None

    @property
    def before(self) -> Run:
        """The pretrained model."""
        return self.plan.runs[0]

    @property
    def after(self) -> Run:
        """The tuned model."""
        return self.plan.runs[1]

    def page_name(self, gates: Sequence[str] = ()) -> str:
        """File name of the page: the names of both models, and a digest of all that the page shows.

        Args:
            gates: the conditions of the call.
        """
        names = (re.sub(r"[^\w.-]+", "_", Path(name).name) for name in ("compare", self.base, self.tuned))
        content = [self.plan.suite.name, self.before.fit.key, self.after.fit.key, self.tuned_on, self.images, *gates]
        content += [score.key for score in self.after.scores.values()] + [look.step.key for look in self.plan.looks]
        return f"{'-'.join(names)}-{digest(json.dumps(content).encode())[:8]}.html"

    @property
    def identical(self) -> bool:
        """Whether the two checkpoints are the same."""
        return self.before.fit.key == self.after.fit.key


def make_pair(
    suite: Suite,
    base: str | Path,
    tuned: str | Path,
    *,
    model: str | None = None,
    tuned_on: str | None = None,
    images: int | None = None,
    layers: Sequence[str] | str = (),
    analyses: bool = True,
    view: Mapping[str, Any] | None = None,
    cache: Path | None = None,
) -> Pair:
    """The plan of a comparison. Both models get the same preprocessing. Every call reads the checkpoints.

    Args:
        suite: provides the data sets.
        base: a model of the suite or the catalogue, KIND:NAME, a checkpoint file, or a folder that timm loads.
        tuned: in the same forms; a file takes the base's architecture.
        model: architecture of a base that is a file: a model's name, or KIND:NAME.
        tuned_on: data set of the suite that `tuned` was tuned on.
        images: number of tuning images.
        layers: patterns of layers for CKA; default: those of CKA.
        analyses: whether to analyse features, weights and running statistics, beside the accuracies.
        view: fields of the preprocessing of both models (`preprocessing.FIELDS`); by default those that BASE states.
        cache: folder for fingerprints of data and weights that do not change.

    Raises:
        UserError: a name is unknown, a file is missing, the architectures differ, no layer fits a pattern, or an
            argument has another type.
    """
    base, tuned = _given(base, "BASE"), _given(tuned, "TUNED")
    on = None if tuned_on is None else _full_name(text_in(tuned_on, "the tuned set"), suite)
    images = None if images is None else number_in(images, "the number of images")
    patterns, view = _layers_in(layers, analyses), fields_of(view)
    before = with_view(_row(base, _architecture(base, model, suite), suite, "BASE"), view)
    after = with_view(_row(tuned, before, suite, "TUNED"), view)
    names = (base, tuned if tuned != base else f"{tuned} ({TUNED})")
    classes = World(suite, cache)[suite.reference].classes
    _require_readable(suite, {"BASE": (names[0], before), "TUNED": (names[1], after)}, classes, cache)
    plan = make_plan(_pair_suite(suite, dict(zip(names, (before, after), strict=True)), base), cache, fresh=True)
    first, second = plan.runs
    fit = in_base(second.fit, first.fit.architecture)
    files = [role for role, text in (("BASE", base), ("TUNED", tuned)) if _is_file(text, suite)]
    require_one_view(suite, {"BASE": before, "TUNED": after}, files, view, len(classes))
    run = Run(names[0], TUNED, None, None, on or OWN_DATA, fit, _scores(second, fit, on, plan.world))
    notes = (*plan.notes, *_added({"BASE": first.fit, "TUNED": fit}), *drawn_tests(suite, (before, after), on))
    plan = replace(plan, runs=(first, run), looks=tuple(_looks(plan, first, run, patterns)), notes=notes)
    seen = {name: getattr(before, name) for name in view}
    return Pair(plan, base, tuned, on, images, seen, _recorded(before, view, suite))


def _layers_in(layers: Sequence[str] | str, analyses: bool) -> tuple[str, ...] | None:
    """The patterns of layers for CKA; None without analyses. Raises UserError if there are patterns all the same."""
    patterns = texts_in(layers, "layers")
    if patterns and not analyses:
        raise UserError("layers are those of CKA, which is left out", got=", ".join(patterns), valid="one of the two")
    return patterns if analyses else None


def _added(fits: Mapping[str, Fit]) -> Iterator[str]:
    """A sentence on each net to which a method has added modules."""
    for role, fit in fits.items():
        if extension := fit.architecture.extension:
            arguments = "".join(f", {name} = {value}" for name, value in extension.arguments.items())
            yield (
                f"{role} is the model with modules that a method added, as the JSON file beside its weights states: "
                f"{extension.function.rpartition(':')[2]}{arguments}. Accuracies are those of the whole net; analyses "
                "of layers and weights compare what both nets have"
            )


def drawn_tests(suite: Suite, rows: Sequence[ModelRow], on: str | None) -> Iterator[str]:
    """A sentence if RIB draws test images from folders on which the author of a checkpoint file may have trained.

    Args:
        suite: its data rows say which test images RIB draws.
        rows: the models.
        on: the set that the tuned model was tuned on; None for any downstream set.
    """
    if not any(row.hf or (row.weights and ":" not in row.weights) for row in rows):
        return
    sets = (suite.reference, *((on,) if on else suite.downstream))
    drawn = [suite.set_names.short(name) for name in sets if name in suite.data and suite.data[name].test_fraction]
    if drawn:
        yield (
            f"RIB drew the test images of {', '.join(drawn)} (`test_fraction`). A checkpoint that was trained on some "
            "of them looks better than it is: then give your own split, as folders train/ and test/"
        )


def _looks(plan: Plan, before: Run, after: Run, layers: Sequence[str] | None) -> Iterator[Look]:
    """The analyses of both models, with CKA of these layers; none without `layers`. Raises UserError for a pattern that
    no layer fits."""
    if layers is None:
        return
    if layers:
        _require_layers(before.fit.architecture, layers)
    for name in (*LOOKS, *((STATISTICS,) if keeps_statistics(before.fit.architecture) else ())):
        if name in ANALYSES.classes:
            analysis = find_analysis(plan.suite, name, **_fields(name, layers))
            if can_look(analysis, after):
                yield from looks_at(plan.suite, plan.world, name, analysis, before.fit, after)


def keeps_statistics(architecture: Architecture) -> bool:
    """Whether a net has BatchNorms with running statistics."""
    found = skeleton(architecture)
    return found is not None and bool(statistics_names(found.classifier.net))


def _fields(name: str, layers: Sequence[str]) -> dict[str, Any]:
    return {"layers": tuple(layers)} if name == "cka" and layers else {}


def _pair_suite(suite: Suite, rows: Mapping[str, ModelRow], base: str) -> Suite:
    """The suite with only these models and no tuning; both are predicted with the view of the base."""
    changed = {
        "models": tuple(rows),
        "model": {**suite.model, **rows},
        "recipe": suite.recipe_of(base),
        "tuning": {},
        "runs": (),
        "analyses": (),
        "seeds": (0,),
    }
    return suite.model_copy(update=changed).based_at(suite.base)


def _scores(run: Run, fit: Fit, tuned_on: str | None, world: World) -> dict[str, Any]:
    """Predictions with these weights; on the tuned set only if it has unseen images."""
    kept = {name: step for name, step in run.scores.items() if name != tuned_on or world[name].disjoint}
    return {name: replace(step, fit=fit) for name, step in kept.items()}


def _full_name(name: str, suite: Suite) -> str:
    return suite.set_names.find(name, "data set of --tuned-on:")


# -- names of models --------------------------------------------------------------------------------------------


def _architecture(base: str, model: str | None, suite: Suite) -> ModelRow | None:
    """The row with the architecture of a base that is a file."""
    if not _is_file(base, suite):
        if model is not None:
            raise UserError(
                "--model gives the architecture of a checkpoint file, but BASE states its own",
                got=f"--model {model}, BASE {base}",
                remedy="leave --model out",
            )
        return None
    if model is None:
        raise UserError(f"the architecture of BASE is unknown: {base}", got="a file alone", valid=ARCHITECTURES)
    return _named_row(text_in(model, "the architecture of BASE"), suite, "--model: ", LIBRARIES)


def _row(text: str, architecture: ModelRow | None, suite: Suite, role: str) -> ModelRow:
    """The row of BASE or TUNED: a known model, a checkpoint file of an architecture, or a folder."""
    path, key = _file_and_key(text)
    if not _is_known(text, suite):
        if path.is_dir():
            return _folder_row(path.resolve())
        if path.is_file():
            assert architecture is not None
            own = {"weights": str(path.resolve()), "weights_key": key, "outputs": None, "pretrain": None}
            if architecture.has_new_head:
                own |= {"head": None, "reference": None}
            return architecture.model_copy(update=own | {"extension": stated_extension(path)})
        if path.suffix in SUFFIXES or "/" in text:
            raise UserError(
                f"{role}: no such file or folder",
                got=path,
                valid="a checkpoint file, a folder with config.json and model.safetensors, or a model's name",
                remedy=with_near_path(path, "check the path"),
            )
    return _named_row(text, suite, f"{role}: ", f"{LIBRARIES}; a checkpoint file or folder")


def _given(model: str | Path, role: str) -> str:
    """A model's name or path as a text. Raises UserError if it is neither."""
    path_in(model, role)
    return str(model)


def _file_and_key(text: str) -> tuple[Path, str | None]:
    """A checkpoint file and the key of a set of weights in it: FILE, or FILE#KEY."""
    path = perhaps_at_home(text)
    file, mark, key = text.rpartition("#")
    if mark and not path.exists() and perhaps_at_home(file).is_file():
        return perhaps_at_home(file), key
    return path, None


def _is_file(text: str, suite: Suite) -> bool:
    return not _is_known(text, suite) and _file_and_key(text)[0].is_file()


def _is_known(name: str, suite: Suite) -> bool:
    return name in suite.model or name in ROWS


def _named_row(name: str, suite: Suite, where: str, else_valid: str) -> ModelRow:
    """The row of a model of the suite, the catalogue or a library."""
    rows = {**ROWS, **suite.model}
    kind, _, rest = name.partition(":")
    try:
        return rows[suite.find_model(name)]
    except KeyError:  # a model that the suite lists without a row
        raise nearest(name, rows, "model") from None
    except UserError as error:
        if kind in KINDS and rest:
            own, _, tag = rest.partition(":")
            return ModelRow.model_validate({kind: own, "tag": tag or None})
        raise UserError(
            f"{where}{error.problem}", got=name, valid=f"{error.valid}; {else_valid}", remedy=error.remedy
        ) from None


def _folder_row(folder: Path) -> ModelRow:
    if (folder / clip.CONFIG).is_file():
        return ModelRow(open_clip=str(folder))
    if (folder / "config.json").is_file():
        return ModelRow(transformers=str(folder)) if is_transformers(folder) else ModelRow(hf=str(folder))
    raise UserError(
        "the folder does not state its architecture",
        got=f"no config.json in {folder}",
        valid="a folder that timm or transformers saved (config.json, model.safetensors), or open_clip "
        "(open_clip_config.json)",
        remedy="name the checkpoint file in it; for BASE with --model",
    )


# -- checks -----------------------------------------------------------------------------------


def _recorded(row: ModelRow, view: Mapping[str, Any], suite: Suite) -> RecordedAccuracy | None:
    file = weights_path(row, suite.base)
    return recorded_accuracy(read_checkpoint(file)) if file and not view else None


def _require_readable(
    suite: Suite, rows: Mapping[str, tuple[str, ModelRow]], classes: Sequence[str], cache: Path | None
) -> None:
    """Read both checkpoints, so that an error names the one with the fault. Raises UserError."""
    for role, (name, row) in rows.items():
        if row.pretrain is None:
            try:
                architecture = describe(row, len(classes), suite.base, suite.decode)
                weights_identity(name, row, architecture, suite.base, classes, cache, fresh=True)
            except UserError as error:
                text = f"{role} cannot be compared: {error.problem}"
                raise UserError(text, got=error.got, valid=error.valid, remedy=error.remedy) from None


def _require_layers(architecture: Architecture, patterns: Sequence[str]) -> None:
    """Refuse a pattern that matches no layer before any computation. Raises UserError with the nearest layer."""
    import torch

    trial = torch.from_numpy(architecture.view.batch(2))
    try:
        choose(build(architecture).eval(), trial, patterns)
    except StepError as error:
        raise UserError(f"--layers: {error}") from None
