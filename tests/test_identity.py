"""Keys: pinned, made of everything that makes a result what it is, and of nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from helpers import document, write_tree
from rib.analysis import ANALYSES
from rib.data.labels import LabelMap
from rib.data.views import Tokens
from rib.identity import KEY_VERSION, canonical, key_of
from rib.methods import METHODS, Method
from rib.models.catalogue import Architecture, Extension
from rib.objectives import OBJECTIVES
from rib.objectives.augment import Augmentation
from rib.plan import Plan, make_plan
from rib.recipe import Recipe
from rib.steps import Compare, DataPart, Embed, Fit, How, Load, Predict, Pretrain, Reference
from rib.suite.load import parse_suite

ARCHITECTURE = Architecture(
    timm=None,
    build="rib.models.small:small_resnet",
    build_source=None,
    arguments={"width": 8},
    classes=4,
    head=None,
    size=28,
    crop=1.0,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
MAP = LabelMap("by name", ((3,), (1,)), 4)
DATA = DataPart("somewhere", "tune", "0123abcd", MAP)
LOAD = Load("a model", ARCHITECTURE, "fedc9876")
PRETRAIN = Pretrain("a model", ARCHITECTURE, DATA, Recipe(epochs=3), 0)
TUNED = Fit(LOAD, METHODS.find("finetune")(), DATA, 100, 0.1, Recipe(), 0, ())
MERGED = Fit(LOAD, METHODS.find("wise_ft")(), None, None, 0.0, None, None, (TUNED,))
PREDICT = Predict(MERGED, dataclasses.replace(DATA, part="test"), 256, "fp32")
EMBED = Embed(PRETRAIN, DATA, 100, 0.1, 0, 256, "fp32")

GOLDEN = {
    "Load": (LOAD, "fe10ac384c05bd66ffc65089fa2754e6401e7fe3"),
    "Pretrain": (PRETRAIN, "6f9937726bce10048132944ada0dc41cb8064185"),
    "Fit": (TUNED, "db04168b248163781ab663e60f92c5bd49d1f73a"),
    "Fit of a merge": (MERGED, "202fac73e5abfbd939a67049f1e475a4bd364203"),
    "Predict": (PREDICT, "7bf1cd32fb308cbf3f84341c5c9a95a058ba01e5"),
    "Embed": (EMBED, "92a1cecc8506775ceed85cbf2d277308bac9ee13"),
}
"""Keys of key version 2.

Where one of these changes, every store of every user forgets its results. If that is not wanted, undo the change. If it
is (a step now means something else, or a new field was added to it), raise `KEY_VERSION`, write the new keys here, and
say so in the changelog.
"""


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_keys(name: str) -> None:
    assert KEY_VERSION == 2
    step, key = GOLDEN[name]
    assert step.key == key


# -- classes are named by hand ----------------------------------------------------------------------------------------

KEYED = (
    *METHODS.classes.values(),
    *ANALYSES.classes.values(),
    *OBJECTIVES.classes.values(),
    Recipe,
    Architecture,
    Augmentation,
    *(Load, Pretrain, Embed, Fit, Predict, Compare),
)


def test_every_hashed_class_has_a_key_name_of_its_own() -> None:
    names = [vars(kind)["key_name"] for kind in KEYED]
    assert len(set(names)) == len(KEYED)


def test_a_moved_and_renamed_class_keeps_its_key() -> None:
    plain = METHODS.find("finetune")
    moved = type("Tuning", (plain,), {"__module__": "rib.elsewhere", "key_name": plain.key_name})
    assert canonical(moved()) == canonical(plain())
    assert dataclasses.replace(TUNED, method=moved()).key == TUNED.key

    kept = type("Trained", (Fit,), {"__module__": "rib.elsewhere"})
    fields = {field.name: getattr(TUNED, field.name) for field in dataclasses.fields(TUNED)}
    assert kept(**fields).key == TUNED.key


def test_an_inherited_key_name_is_refused() -> None:
    """Two classes of one key name would share their results."""
    heir = type("Heir", (METHODS.find("finetune"),), {"__module__": "rib.elsewhere"})
    with pytest.raises(TypeError, match=r"rib\.elsewhere\.Heir needs a `key_name` of its own"):
        canonical(heir())


# -- every field is classed --------------------------------------------------------------------------------------------

CLASSED: dict[type, tuple[set[str], set[str]]] = {
    DataPart: ({"part", "fingerprint", "label_map"}, {"name", "both", "called"}),
    LabelMap: ({"name", "groups", "outputs", "combine"}, set()),
    Load: ({"architecture", "weights"}, {"model", "called"}),
    Reference: ({"data", "probe", "finetune"}, set()),
    Pretrain: ({"architecture", "data", "recipe", "seed", "objective", "reference", "last_batch"}, {"model", "called"}),
    Fit: (
        {
            "start",
            "method",
            "data",
            "size",
            "held_out",
            "recipe",
            "seed",
            "ingredients",
            "last_batch",
            "one_image",
            "replay",
            "replica",
            "texts",
        },
        set(),
    ),
    Predict: ({"fit", "data", "batch_size", "precision", "last_block"}, set()),
    Embed: ({"start", "data", "size", "held_out", "seed", "batch_size", "precision", "last_block"}, set()),
    How: (
        set(),
        {
            "workers",
            "device",
            "threads",
            "checkpoint_seconds",
            "keep",
            "share",
            "pack_budget",
            "at_once",
            "chunk_bytes",
            "streamed",
            "swept",
        },
    ),
}
"""Identity fields and runtime fields. A new field belongs in one of the two: does it change what the result is?"""


@pytest.mark.parametrize("kind", CLASSED, ids=lambda kind: kind.__name__)
def test_every_field_is_classed(kind: Any) -> None:
    identity, runtime = CLASSED[kind]
    found = {field.name: field.metadata.get("identity", True) for field in dataclasses.fields(kind)}
    assert set(found) == identity | runtime
    if kind is not How:  # which no key is ever made of
        assert {name for name, hashed in found.items() if hashed} == identity


def test_how_is_no_part_of_a_step() -> None:
    for kind in (DataPart, Load, Reference, Pretrain, Embed, Fit, Predict):
        assert not any("How" in str(field.type) for field in dataclasses.fields(kind))


# -- options -----------------------------------------------------------------------------------------------------------

STAGE = Reference(DATA, Recipe(epochs=2), Recipe(epochs=1))


def test_an_option_that_is_not_taken_is_not_hashed() -> None:
    assert set(PRETRAIN.spec) == {"architecture", "data", "recipe", "seed"}
    contrastive = dataclasses.replace(PRETRAIN, objective=OBJECTIVES.find("simclr")(), reference=STAGE)
    assert set(contrastive.spec) == {"architecture", "data", "recipe", "seed", "objective", "reference"}


OTHER_OBJECTIVE = {"share": 0.3, "temperature": 0.3, "dimensions": 32, "augmentation": Augmentation(rotation=1.0)}


@pytest.mark.parametrize("name", OBJECTIVES.classes)
def test_every_field_of_an_objective_changes_the_key(name: str) -> None:
    kind = OBJECTIVES.find(name)
    keys = {
        dataclasses.replace(PRETRAIN, objective=objective, reference=STAGE).key
        for objective in (kind(), *(kind(**{field: OTHER_OBJECTIVE[field]}) for field in kind.model_fields))
    }
    assert len(keys) == 1 + len(kind.model_fields)


def test_every_part_of_the_reference_stage_changes_the_key() -> None:
    other = {
        "data": dataclasses.replace(DATA, fingerprint="0123abce"),
        "probe": Recipe(epochs=3),
        "finetune": Recipe(epochs=3),
    }
    stages = [None, STAGE, *(dataclasses.replace(STAGE, **{field: value}) for field, value in other.items())]
    assert len({dataclasses.replace(PRETRAIN, reference=stage).key for stage in stages}) == 5


OTHER_RECIPE = {
    "epochs": 11,
    "steps": 5,
    "batch_size": 65,
    "optimizer": "adamw",
    "lr": 0.002,
    "momentum": 0.8,
    "weight_decay": 0.1,
    "label_smoothing": 0.1,
    "warmup_steps": 3,
    "warmup_fraction": 0.1,
    "precision": "bf16",
    "eval_batch_size": 255,
    "eval_precision": "bf16",
    "last_block": "pooled",
    "compile": "default",
    "last_batch": "dropped",
    "batchnorm": "freeze",
}


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_every_recipe_field_changes_the_key(field: str) -> None:
    recipe = Recipe.model_validate({field: OTHER_RECIPE[field]})
    assert dataclasses.replace(TUNED, recipe=recipe).key != TUNED.key
    assert dataclasses.replace(PRETRAIN, recipe=recipe).key != PRETRAIN.key


OTHER_ARCHITECTURE = {
    "extension": Extension(function="rib.models.extensions:side"),
    "tokens": Tokens(16, "bytes", 259),
    "timm": "resnet18",
    "build": "mine:net",
    "build_source": "aa",
    "arguments": {"width": 16},
    "classes": 5,
    "head": "fc",
    "size": 32,
    "crop": 0.9,
    "interpolation": "bilinear",
    "mean": (0.4, 0.5, 0.5),
    "std": (0.25, 0.25, 0.3),
    "decode": "fast",
    "resize": "squash",
    "fill": (0, 0, 0),
    "heads": ("head", "head_dist"),
    "frozen": ("pos_embed",),
}


@pytest.mark.parametrize("field", Architecture.model_fields)
def test_every_architecture_field_changes_every_key(field: str) -> None:
    other = ARCHITECTURE.model_copy(update={field: OTHER_ARCHITECTURE[field]})
    load = dataclasses.replace(LOAD, architecture=other)
    tuned = dataclasses.replace(TUNED, start=load)
    predict = dataclasses.replace(PREDICT, fit=dataclasses.replace(MERGED, start=load, ingredients=(tuned,)))
    for new, old in ((load, LOAD), (tuned, TUNED), (predict, PREDICT)):
        assert new.key != old.key


OTHER_FIELD: dict[str, Any] = {
    "after": 3,
    "alpha": 0.25,
    "alphas": (0.2, 0.8),
    "anneal": 0.5,
    "begin": 0.6,
    "beta": 0.8,
    "clip": 3.0,
    "count": 3,
    "cycle": 3,
    "decay": 0.5,
    "density": 0.5,
    "drop": 0.5,
    "epochs": 3,
    "eta": 0.3,
    "exclude_head": True,
    "floor": 0.5,
    "freeze": ("head",),
    "layers": ("fc1",),
    "length": 5,
    "lr": 0.5,
    "members": ("finetune", "lwf"),
    "off_diagonal": 0.5,
    "options": {"r": 3},
    "probe": "finetune",
    "rank": 3,
    "rate": 0.3,
    "rates": (0.1, 0.2),
    "rho": 0.3,
    "rows": "qkv",
    "runs": 3,
    "samples": 7,
    "scale": 0.3,
    "share": 0.3,
    "shares": (0.5, 1.0),
    "steps": 9,
    "strength": 0.5,
    "temperature": 3.0,
    "texts": 40,
    "tuned": "l2_sp",
    "tuner": "dora",
    "weight": 0.5,
    "width": 3,
}
FIELDS = [(name, field) for name, kind in sorted(METHODS.classes.items()) for field in kind.model_fields]


@pytest.mark.parametrize(("method", "field"), FIELDS)
def test_every_method_field_changes_the_key(method: str, field: str) -> None:
    assert field in OTHER_FIELD, "name another value for the new field"
    kind = METHODS.classes[method]
    value = OTHER_FIELD[field]
    plain, other = (dataclasses.replace(TUNED, method=made) for made in (kind(), kind(**{field: value})))
    assert plain.key != other.key


def test_every_method_has_its_own_key() -> None:
    keys = {dataclasses.replace(TUNED, method=kind()).key for kind in METHODS.classes.values()}
    assert len(keys) == len(METHODS.classes)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 101},
        {"size": None},
        {"held_out": 0.2},
        {"seed": 1},
        {"ingredients": (MERGED,)},
        {"data": dataclasses.replace(DATA, fingerprint="0123abce")},
        {"data": dataclasses.replace(DATA, label_map=LabelMap("by name", ((3,), (2,)), 4))},
        {"data": dataclasses.replace(DATA, label_map=LabelMap("by name", ((3,), (1, 0)), 4))},
        {"start": dataclasses.replace(LOAD, weights="fedc9877")},
        {"start": PRETRAIN},
    ],
)
def test_what_changes_a_result_changes_its_key(change: dict[str, Any]) -> None:
    other = dataclasses.replace(TUNED, **change)
    assert other.key != TUNED.key
    assert dataclasses.replace(MERGED, ingredients=(other,)).key != MERGED.key


def test_names_for_people_do_not() -> None:
    other = dataclasses.replace(
        TUNED, start=dataclasses.replace(LOAD, model="b"), data=dataclasses.replace(DATA, name="b")
    )
    assert other.key == TUNED.key
    assert other.title != TUNED.title


# -- canonical form ----------------------------------------------------------------------------------------------------


def test_equal_values_have_equal_keys() -> None:
    assert key_of("x", {"a": 1.0, "b": (1, 2)}) == key_of("x", {"b": [1, 2], "a": 1})
    assert key_of("x", 1) != key_of("y", 1)
    assert key_of("x", "1") != key_of("x", 1)
    assert key_of("x", 0.1) != key_of("x", 0.1000001)
    assert key_of("x", True) != key_of("x", "True")
    with pytest.raises(TypeError, match="has no canonical form"):
        canonical(object())


@pytest.mark.parametrize("step", [step for step, _ in GOLDEN.values()], ids=GOLDEN)
def test_a_key_is_the_digest_of_the_canonical_document(step: Any) -> None:
    """However the document is put together."""
    made = {"key_version": KEY_VERSION, "kind": type(step).__name__, "content": step.spec}
    text = json.dumps(made, sort_keys=True, separators=(",", ":"))
    assert step.key == hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


Plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(Plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_so_is_that_of_anything_else(content: Any) -> None:
    made = {"key_version": KEY_VERSION, "kind": "x", "content": canonical(content)}
    text = json.dumps(made, sort_keys=True, separators=(",", ":"))
    assert key_of("x", content) == hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


# -- moved and renamed -------------------------------------------------------------------------------------------------

SAMPLED = ["finetune", "wise_ft", "lp_ft", "greedy_soup"]


def keys(plan: Plan) -> list[str]:
    return [step.key for step in plan.steps]


def planned(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda made: None) -> Plan:
    made = document(folder, runs=[{"methods": SAMPLED}])
    write_tree(folder / "tree", per_class=4)
    made["data"]["part"] = {"folder": "tree", "test_fraction": 0.5}
    change(made)
    return make_plan(parse_suite(made).based_at(folder))


def test_moving_the_data_keeps_keys(tmp_path: Path) -> None:
    plan = planned(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "far" / "there")
    assert keys(make_plan(plan.suite.based_at(tmp_path / "far" / "there"))) == keys(plan)


def test_renaming_keeps_keys(tmp_path: Path) -> None:
    def name_families(made: dict[str, Any]) -> None:
        for name, row in made["data"].items():
            row["family"] = "g" + name

    def rename(made: dict[str, Any]) -> None:
        made |= {"name": "another", "reference": "r", "downstream": ["w", "mine:p"], "models": ["m"]}
        made["data"] = {
            new: made["data"][old] | {"family": "f" + new}
            for new, old in (("r", "clean"), ("w", "whole"), ("mine:p", "part"))
        }
        (tmp_path / "part2.safetensors").write_bytes((tmp_path / "resnet-0.safetensors").read_bytes())
        made["model"] = {"m": made["model"]["resnet"] | {"weights": "part2.safetensors"}}

    assert keys(planned(tmp_path, rename)) == keys(planned(tmp_path, name_families))


def test_other_content_changes_keys(tmp_path: Path) -> None:
    before = planned(tmp_path)
    image = tmp_path / "tree" / "bee" / "2.png"
    with Image.open(image) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_180)
    turned.save(image)
    after = make_plan(before.suite)
    changed = set(keys(before)) - set(keys(after))
    touched = {step.key for step in before.steps if "part" in step.title}
    assert changed
    assert changed <= touched


# -- the user's own source ---------------------------------------------------------------------------------------------

SOURCE = """
from rib.methods import Method


class Mine(Method):
    name = "mine"

    def fit(self, start, task, fitted):
        return {name: tensor * FACTOR for name, tensor in start.items()}
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], type[Method]]]:
    """Write a module of the user's and import its method anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> type[Method]:
        (tmp_path / "method_of_mine.py").write_text(text)
        sys.modules.pop("method_of_mine", None)
        importlib.invalidate_caches()
        return METHODS.find("method_of_mine:Mine")

    yield write
    sys.modules.pop("method_of_mine", None)


def test_the_source_of_a_users_method_is_part_of_its_key(own_module: Callable[[str], type[Method]]) -> None:
    keys = [
        dataclasses.replace(TUNED, method=own_module(SOURCE.replace("FACTOR", factor))()).key
        for factor in ("0.5", "0.50", "0.5")
    ]
    assert keys[0] == keys[2]
    assert keys[0] != keys[1]
    claimed = SOURCE.replace('name = "mine"', 'name = "mine"\n    key_name = "rib.methods.finetune:FineTune"')
    assert canonical(own_module(claimed)())["class"] == "method_of_mine:Mine"  # whatever it says: no collision


def test_ribs_own_source_is_not() -> None:
    """`KEY_VERSION` stands for it: a comment in a method must not forget results."""
    assert canonical(METHODS.find("finetune")())["source"] is None
    assert isinstance(METHODS.find("finetune")(), BaseModel)
