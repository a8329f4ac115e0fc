"""rib compare: a good fine-tune passes its gates, a collapsed one fails them, and every number is one done by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats
from torch import nn

import rib
from helpers import CLASSES, PATIENCE, Say, classifier, document, pictures, same_weights, toml
from rib.api import ComparedModels
from rib.data.views import Pixels
from rib.errors import UserError
from rib.gates import SIGNS, Gate, GateVerdict, level_of, parse_gate, quantity_names, worst_of
from rib.gates import tested_together as adjusted_together
from rib.metrics.intervals import Interval
from rib.models.classifier import Classifier
from rib.models.weights import read_weights, take_weights, write_weights
from rib.plan import World
from rib.plan.pair import make_pair
from rib.report.comparison_json import comparison_json
from rib.report.comparison_text import comparison_lines
from rib.results.comparison import Comparison
from rib.results.comparison_finding import comparison_claim, comparison_finding, gates_finding, meaning_of_ri, reason
from rib.results.plausible import FAR_BELOW
from rib.results.published import PublishedNumbers
from rib.steps import How, Workshop
from rib.suite.load import load_suite, parse_suite
from rib.suite.suite import Suite
from test_report import CHROMIUM, CUT_OFF, FLAGS

ONE = How(workers=1, device="cpu")


# -- two models that are tuned here ------------------------------------------------------------------------------------


def train(model: Classifier, labels: np.ndarray[Any, Any], noise: float, rate: float, steps: int) -> None:
    """Tune a whole net on pictures of these labels."""
    model.train()
    images, targets = torch.from_numpy(pictures(labels, 77, noise)), torch.from_numpy(labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for step in range(steps):
        rows = torch.arange(step * 16, (step + 1) * 16) % len(labels)
        loss = nn.functional.cross_entropy(model(images[rows]), targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite, its base model, a good fine-tune of it, and one that collapsed."""
    folder = tmp_path_factory.mktemp("compare")
    made = document(folder, per_class=40, downstream=["whole", "part", "other"])
    torch.manual_seed(0)
    base = classifier("resnet")
    train(base, np.arange(320) % 4, 60, 0.05, 60)
    write_weights(folder / "resnet-0.safetensors", take_weights(base.net))
    for name, labels, noise, rate in (
        ("good", np.arange(320) % 4, 70, 0.003),
        ("collapsed", np.arange(16) % 2, 250, 0.5),
    ):
        tuned = classifier("resnet")
        tuned.net.load_state_dict(base.net.state_dict())
        train(tuned, labels, noise, rate, 60)
        write_weights(folder / f"{name}.safetensors", take_weights(tuned.net))
    (folder / "tiny.toml").write_text(toml(made))
    return folder


@pytest.fixture(scope="module")
def suite(place: Path) -> Suite:
    return load_suite(place / "tiny.toml")


def compared(place: Path, tuned: str = "collapsed.safetensors", base: str = "resnet", **options: Any) -> ComparedModels:
    options = {"suite": place / "tiny.toml", "store": place / "store", "how": ONE} | options
    return rib.compare(base, str(place / tuned), **options)


def by_hand(suite: Suite, file: Path, family: str = "resnet") -> dict[str, float]:
    """Accuracy in percent on every data set, from logits."""
    model = classifier(family).eval()
    model.net.load_state_dict(read_weights(file))
    found = {}
    for name in suite.tested:
        data = World(suite, None)[name]
        labels = data.index("test").labels
        pixels = data.read("test", np.arange(len(labels)), Pixels(12, 1.0, "bicubic"))
        with torch.inference_mode():
            logits = model(torch.from_numpy(pixels))[:, [CLASSES.index(label) for label in data.classes]]
        found[name] = 100 * float(np.mean(logits.argmax(1).numpy() == labels))
    return found


@pytest.mark.parametrize("tuned_on", [None, "part"])
def test_numbers_are_those_done_by_hand(place: Path, suite: Suite, tuned_on: str | None) -> None:
    found = compared(place, tuned_on=tuned_on)
    before, after = (by_hand(suite, place / f"{name}.safetensors") for name in ("resnet-0", "collapsed"))
    for row in found.tested:
        assert row.before
        assert row.after
        assert row.change
        assert row.lost
        assert row.gained
        assert row.before.value == pytest.approx(before[row.name])
        assert row.after.value == pytest.approx(after[row.name])
        assert row.change.value == pytest.approx(after[row.name] - before[row.name])
        assert row.gained.value - row.lost.value == pytest.approx(row.change.value)
        assert row.change.low <= row.change.value <= row.change.high
    others = [name for name in suite.downstream if name != tuned_on]
    assert found.ri
    assert found.ri.value == pytest.approx(np.mean([after[name] - before[name] for name in others]))
    assert found.change_on("own") == (None if tuned_on is None else found.quantities["change[part]"])
    assert {row.name: row.role for row in found.tested}["part"] == ("own" if tuned_on else "downstream")


def test_a_collapsed_model_fails_its_gate_and_the_page_says_why(place: Path, rib_says: Say) -> None:
    def compare(tuned: str, page: str) -> tuple[int, str]:
        return rib_says(
            *("compare", "resnet", place / tuned, "--suite", place / "tiny.toml", "--store", place / "store"),
            *("--fail-if", "ri < -5", "--fail-if", "change[other].high < -20", "--images", 16, "--workers", 1),
            *("--html", page),
        )

    code, said = compare("good.safetensors", "good.html")
    assert code == 0, said
    assert "requires ri ≥ -5; measured " in said
    assert said.count(": holds") == 2
    assert "broken" not in said
    code, said = compare("collapsed.safetensors", "bad.html")
    assert code == 1, said
    found = compared(place, images=16, fail_if=["ri < -5"])
    assert found.ri
    words = f"requires ri ≥ -5; measured {found.ri.value:+.2f} [{found.ri.low:+.1f}, {found.ri.high:+.1f}]: broken"
    assert words in " ".join(said.split())
    assert "2 of 2 gates are broken." in said
    assert found.done == 0, "everything was there already"
    page = Path("bad.html").read_text()
    assert page.count('<li class="failed">') == 2
    assert (
        page.index("lost robustness") < page.index('id="changes"') < page.index('id="signs"') < page.index('id="sets"')
    )
    assert 'id="groups"' not in page, "no section of groups without groups"
    assert "large drop" in reason(found)
    assert "negative RI" in reason(found)
    assert reason(found) in page
    assert "Every layer before (rows)" in page
    assert '<li class="passed">' in Path("good.html").read_text()
    found = compared(place, "good.safetensors")
    assert found.ri
    assert "large drop (no evidence)" in reason(found)
    assert ("for certain" in comparison_finding(found)) is not found.ri.excludes_zero


def test_the_base_is_predicted_once(place: Path, tmp_path: Path) -> None:
    first = compared(place, "good.safetensors", store=tmp_path / "store")
    second = compared(place, "collapsed.safetensors", store=tmp_path / "store")
    assert second.done == first.done - 5  # the base's weights, and its predictions on four data sets
    assert compared(place, "collapsed.safetensors", store=tmp_path / "store").done == 0


def test_identical_checkpoints(place: Path) -> None:
    found = compared(place, "resnet-0.safetensors", fail_if=["ri < 0"])
    assert found.pair.identical
    assert all(row.change == Interval(0, 0, 0) for row in found.tested)
    assert found.passed
    assert "the same checkpoint" in comparison_finding(found)
    found.page(place / "same.html")
    assert "Both checkpoints hold the same weights" in (place / "same.html").read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_terminal_and_json(place: Path, width: int) -> None:
    found = compared(place, tuned_on="whole", fail_if=["ri.low < -1000", "own < -1000"])
    shown = io.StringIO()
    Console(width=width, file=shown).print(comparison_lines(found, width))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for word in ("other", "RI", "lost robustness", "requires own ≥ -1000; measured ", "sets other than whole"):
        assert word in " ".join(text.split())
    values = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert values["ri"]["value"] == found.ri.value  # type: ignore[union-attr]
    assert [gate["failed"] for gate in values["gates"]] == [False, False]
    assert len(values["cka"]["matrix"]) == len(values["cka"]["layers"])
    assert [gate["verdict"] for gate in values["gates"]] == ["holds", "holds"]
    assert values["gates"][0]["requires"] == "ri.low ≥ -1000"
    assert values["worst"]["change"]["value"] == min(row["change"]["value"] for row in values["tested"])
    assert {error.split()[0] for error in values["errors"]} == {"TUNED"}, "it is at chance on the reference set"
    assert not values["passed"], "gates that hold do not pass a model that answers at random"
    assert "error: TUNED is right on" in text


def test_a_tuned_model_at_chance_is_not_blamed_on_what_its_base_shares(place: Path) -> None:
    found = compared(place)
    (error,) = found.errors
    assert error.startswith("TUNED is right on")
    assert "BASE is better with the same preprocessing" in error
    assert "--mean" not in error


def test_accuracies_alone(place: Path, rib_says: Say) -> None:
    whole, alone = compared(place, tuned_on="part"), compared(place, tuned_on="part", analyses=False)
    assert alone.tested == whole.tested
    assert (alone.ri, alone.quantities) == (whole.ri, whole.quantities)
    assert (alone.cka, alone.drift, alone.statistics) == (None, None, {})
    assert {sign.name: sign.verdict for sign in alone.signs if sign.verdict == "unknown"}.keys() >= {
        "low CKA",
        "late shift",
    }
    kinds = [{step.key_name for step in each.results.plan.steps} for each in (whole, alone)]
    assert kinds[0] - kinds[1] == {"Compare"}
    alone.page(place / "alone.html")
    assert 'id="cka"' not in (place / "alone.html").read_text()
    call = ("compare", place / "tiny.toml", "resnet", place / "good.safetensors", "--store", place / "store")
    code, said = rib_says(*call, "--no-analyses", "--workers", 1, "--fail-if", "ri > 100")
    assert code == 0, said
    assert "not measured" in " ".join(said.split())
    code, said = rib_says(*call, "--no-analyses", "--layers", "stages.*")
    assert (code, "layers are those of CKA" in said) == (2, True), said


def test_every_answer_before_and_after_is_written(place: Path, suite: Suite, rib_says: Say) -> None:
    call = ("compare", place / "tiny.toml", "resnet", place / "collapsed.safetensors", "--store", place / "store")
    code, said = rib_says(*call, "--workers", 1, "--parquet", "out", "--fail-if", "ri < 1000")
    assert (code, "tables: " in said) == (1, True), "a broken gate does not stop the writing"
    rows = pq.read_table("out/predictions.parquet").to_pylist()
    for role, file in (("pretrained", "resnet-0"), ("tuned", "collapsed")):
        for name, percent in by_hand(suite, place / f"{file}.safetensors").items():
            right = [row["masked_right"] for row in rows if (row["method"], row["tested_on"]) == (role, name)]
            assert 100 * np.mean(right) == pytest.approx(percent)


def test_one_gate_is_the_gate(place: Path) -> None:
    assert gates_finding(compared(place, fail_if=["ri > -1000"])) == "The gate is broken."
    assert gates_finding(compared(place, fail_if=["ri > 1000"])) == "The gate holds."
    assert gates_finding(compared(place, fail_if=["ri > 1000", "ri > -1000"])) == "1 of 2 gates is broken."


@pytest.mark.parametrize("absent", [True, False])
def test_a_tuned_set_without_unseen_images_is_said_to_be_absent(place: Path, suite: Suite, absent: bool) -> None:
    rows = suite.data | ({"part": suite.data["part"].model_copy(update={"test_fraction": 0.0})} if absent else {})
    found = compared(place, tuned_on="part", suite=suite.model_copy(update={"data": rows}).based_at(place))
    assert ("part" not in [row.name for row in found.tested]) == absent
    assert ("part is not in the table: it has no images that are never tuned on." in meaning_of_ri(found)) == absent


def test_a_base_at_chance_is_an_error_whatever_the_gates_say(place: Path, rib_says: Say) -> None:
    torch.manual_seed(9)
    write_weights(place / "drawn.safetensors", take_weights(classifier("resnet").net))
    code, said = rib_says(
        *("compare", place / "drawn.safetensors", place / "resnet-0.safetensors", "--model", "resnet"),
        *("--suite", place / "tiny.toml", "--store", place / "store", "--workers", 1, "--html", "drawn.html"),
        *("--fail-if", "ri < -2", "--fail-if", "worst < -5"),
    )
    assert code == 1, said
    assert "No comparison: BASE is right on" in said
    assert "no better than chance (25.0 %)" in " ".join(said.split())
    assert "All 2 gates hold." in said, "which lets nothing through"
    assert "Error:" in Path("drawn.html").read_text()


def test_a_base_far_below_its_published_accuracy_is_an_error(
    place: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compared(place, "good.safetensors")
    before = next(row.before for row in found.tested if row.role == "reference")
    assert before
    assert not found.errors
    for margin, wrong in ((FAR_BELOW + 0.1, True), (FAR_BELOW - 0.1, False)):
        numbers = PublishedNumbers(accuracy={"resnet": {suite.reference: before.high + margin}})
        monkeypatch.setattr("rib.results.plausible.read_numbers", lambda _path, numbers=numbers: numbers)
        again = compared(place, "good.safetensors", fail_if=["worst < -100"])
        assert bool(again.errors) == wrong
        assert again.passed != wrong
        assert not again.verdicts[0].failed
        assert ("far below the published" in comparison_finding(again)) == wrong


def test_the_headline_names_the_largest_loss_the_reference_included(place: Path, suite: Suite) -> None:
    found = compared(place)
    after = {
        name: number - by_hand(suite, place / "resnet-0.safetensors")[name]
        for name, number in by_hand(suite, place / "collapsed.safetensors").items()
    }
    lowest = min(after, key=lambda name: after[name])
    assert f"The largest loss is on {'the reference set ' * (lowest == suite.reference)}{lowest}: " in (
        comparison_claim(found).lead
    )
    rows = [
        replace(row, change=Interval(-24.6, -29.0, -20.0)) if row.role == "reference" else row
        for row in compared(place, "good.safetensors").tested
    ]
    lost = compared(place, "good.safetensors", fail_if=["reference < -2", "worst < -5", "ri < -20"])
    lost.__dict__["tested"] = tuple(rows)
    assert comparison_claim(lost).lead.endswith(
        f"The largest loss is on the reference set {suite.reference}: -24.6 points."
    )
    assert "-24.6 (-29.0 to -20.0) on the reference set" in comparison_claim(lost).detail
    sign = next(sign for sign in lost.signs if sign.name == "reference loss")
    assert (sign.verdict, sign.evidence) == ("present", Interval(-24.6, -29.0, -20.0))
    assert "reference loss" in reason(lost)
    assert [verdict.state for verdict in lost.verdicts] == ["broken", "broken", "holds"]
    assert lost.verdicts[1].words.endswith(f"measured -24.60 [-29.0, -20.0] on {suite.reference}: broken")


def test_running_statistics_have_their_share_of_a_loss(tmp_path: Path) -> None:
    """A fine-tune in training mode: the same weights with the base's buffers, swapped by hand, lose less."""
    made = document(tmp_path, models=["batch_norm"], per_class=40, downstream=["whole", "part", "other"])
    (tmp_path / "tiny.toml").write_text(toml(made))
    torch.manual_seed(0)
    base, tuned = classifier("batch_norm"), classifier("batch_norm")
    train(base, np.arange(320) % 4, 60, 0.05, 60)
    write_weights(tmp_path / "batch_norm-0.safetensors", take_weights(base.net))
    tuned.net.load_state_dict(base.net.state_dict())
    train(tuned, np.arange(32) % 2, 250, 0.02, 40)
    write_weights(tmp_path / "tuned.safetensors", take_weights(tuned.net))
    found = compared(tmp_path, "tuned.safetensors", "batch_norm")
    suite = load_suite(tmp_path / "tiny.toml")
    before, after = take_weights(base.net), take_weights(tuned.net)
    buffers = [name for name in before if "running" in name or "tracked" in name]
    assert buffers
    write_weights(tmp_path / "mixed.safetensors", {**after, **{name: before[name] for name in buffers}})
    levels = {name: by_hand(suite, tmp_path / f"{name}.safetensors", "batch_norm")
              for name in ("batch_norm-0", "mixed", "tuned")}  # fmt: skip
    for row in found.tested:
        corners = found.statistics[row.name]["accuracy"]
        assert [corners[corner] for corner in ("before", "weights", "after")] == pytest.approx(
            [level[row.name] for level in levels.values()]
        )
    assert found.worst
    name, change = found.worst
    split = found.statistics[name]
    assert change.value < 0
    assert split["of_weights"] + split["of_statistics"] == pytest.approx(change.value)
    assert f"running statistics {split['of_statistics']:+.1f}" in comparison_claim(found).detail
    assert f"accuracy there is {levels['mixed'][name]:.1f} %" in comparison_claim(found).detail
    assert comparison_json(found)["statistics"][name] == split
    shares = [found.statistics[row.name]["of_statistics"] for row in found.tested]
    sign = next(sign for sign in found.signs if sign.name == "statistics")
    assert sign.evidence
    assert sign.evidence.value == pytest.approx(np.mean(shares))
    alone = compared(tmp_path, "tuned.safetensors", "batch_norm", analyses=False).signs[5]
    assert (alone.name, alone.verdict) == ("statistics", "unknown"), "there are some, which nobody looked at"
    found.page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.index('id="signs"') < page.index("Weights or running statistics?") < page.index('id="sets"')


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_the_page_in_a_browser(place: Path, tmp_path: Path) -> None:
    """No bar is cut off, the axis of drift is in the percent that it names, and no page scrolls sideways."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = compared(place, tuned_on="part", fail_if=["reference < -2", "worst < -5"])
    found.page(tmp_path / "page.html")
    assert found.drift
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS), timeout=1000 * PATIENCE)
        for width in (390, 1000, 1500):
            view = browser.new_page(viewport={"width": width, "height": 900})
            view.set_default_timeout(1000 * PATIENCE)
            view.goto((tmp_path / "page.html").as_uri())
            view.wait_for_selector("#drift .main-svg")
            assert view.evaluate(CUT_OFF) == []
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            drawn = view.evaluate("[...document.querySelector('#drift .figure').data[0].y]")
            expected = [None if value is None else 100 * value for value in found.drift["change"]]
            assert drawn == pytest.approx(expected, rel=1e-4)  # a page has five digits
            title = view.evaluate("document.querySelector('#drift .figure')._fullLayout.yaxis.title.text")
            assert title == "relative change of weights, %"
            assert "The largest loss is on" in view.inner_text("h1")
        browser.close()


def test_a_net_without_batchnorm_has_no_share_of_statistics(place: Path) -> None:
    found = compared(place)
    assert found.statistics == {}
    assert found.signs[5].verdict == "absent"
    assert "statistics" not in comparison_finding(found)


# -- what a model can be called ----------------------------------------------------------------------------------------


def weights_of(suite: Suite, base: object, tuned: object, **options: Any) -> tuple[Any, Any]:
    """Both models' weights, as a comparison loads them."""
    pair = make_pair(suite, str(base), str(tuned), **options)
    assert pair.before.fit.architecture == pair.after.fit.architecture
    from rib.store.store import Store

    shop = Workshop(pair.plan.suite, Store(suite.base / "kinds"), ONE, lambda _images, _passes: None)
    return shop.weights(pair.before.fit.start), shop.weights(pair.after.fit.start)


def shaken(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01)
    return net


def as_is(net: nn.Module) -> Any:
    return net.state_dict()


def wrapped(net: nn.Module) -> Any:
    return {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}


def compiled(net: nn.Module) -> Any:
    return {f"module._orig_mod.{name}": value for name, value in net.state_dict().items()}


@pytest.mark.parametrize("form", [as_is, wrapped, compiled])
def test_state_dicts(place: Path, suite: Suite, tmp_path: Path, form: Callable[[nn.Module], Any]) -> None:
    base = classifier("resnet", 3).net
    torch.save(form(base), tmp_path / "base.pth")
    write_weights(tmp_path / "tuned.safetensors", take_weights(shaken(classifier("resnet", 3).net)))
    before, after = weights_of(suite, tmp_path / "base.pth", tmp_path / "tuned.safetensors", model="resnet")
    assert same_weights(before, base.state_dict())
    assert same_weights(after, shaken(classifier("resnet", 3).net).state_dict())


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5"])
def test_library_models(suite: Suite, tmp_path: Path, name: str) -> None:
    from rib.models.build import build
    from rib.models.catalogue import ModelRow
    from rib.models.describe import describe

    kind, _, own = name.partition(":")
    architecture = describe(ModelRow.model_validate({kind: own}), len(CLASSES))
    torch.save(build(architecture).net.state_dict(), tmp_path / "base.pth")
    write_weights(tmp_path / "tuned.safetensors", take_weights(shaken(build(architecture).net)))
    before, after = weights_of(suite, tmp_path / "base.pth", tmp_path / "tuned.safetensors", model=name)
    assert same_weights(before, build(architecture).net.state_dict())
    assert same_weights(after, shaken(build(architecture).net).state_dict())


def create(name: str, **arguments: Any) -> nn.Module:
    """A model of timm with four classes."""
    import rib._compat  # before timm

    rib._compat.declare_missing_operators()
    from timm import create_model

    return create_model(name, num_classes=4, **arguments)


def save(net: nn.Module, folder: Path, **options: Any) -> None:
    """Write a folder that timm loads."""
    from timm.models import save_for_hf

    save_for_hf(net, str(folder), safe_serialization="both", **options)


def test_folders_of_timm(suite: Suite, tmp_path: Path) -> None:
    from timm import create_model
    from timm.models import save_for_hf

    import rib._compat  # noqa: F401  # before timm

    net = create_model("test_resnet", num_classes=4)
    save_for_hf(net, str(tmp_path / "base"), safe_serialization=True)
    save_for_hf(
        shaken(create_model("test_resnet", num_classes=4)),
        str(tmp_path / "tuned"),
        model_args={"drop_path_rate": 0.1},
        safe_serialization=True,
    )
    torch.save(net.state_dict(), tmp_path / "file.pth")
    before, _ = weights_of(suite, tmp_path / "base", tmp_path / "tuned")
    assert same_weights(before, net.state_dict())
    _, after = weights_of(suite, tmp_path / "tuned", tmp_path / "file.pth")
    assert same_weights(after, net.state_dict())


def test_the_tuned_model_sees_images_as_the_base_does(suite: Suite, tmp_path: Path) -> None:
    from timm import create_model
    from timm.models import save_for_hf

    import rib._compat  # noqa: F401  # before timm

    for name, crop in (("base", 1.0), ("tuned", 0.5)):
        seen = {"input_size": (3, 96, 96), "crop_pct": crop, "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)}
        net = create_model("test_resnet", num_classes=4)
        save_for_hf(net, str(tmp_path / name), data_config=seen | {"interpolation": "bilinear"})
    with pytest.raises(UserError, match="TUNED states its own preprocessing") as refused:
        make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned"))
    assert "crop = 1.0" in str(refused.value)
    assert "crop = 0.5" in str(refused.value)
    assert "--crop" in str(refused.value)
    for crop in (1.0, 0.5, 0.75):
        pair = make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned"), view={"crop": crop})
        assert {step.fit.architecture.view for step in pair.after.scores.values()} == {Pixels(96, crop, "bilinear")}
        assert pair.before.fit.architecture == pair.after.fit.architecture


@pytest.mark.parametrize("tuned", ["folder", "row", "no statement"])
def test_a_tuned_model_that_states_another_normalisation_is_refused(suite: Suite, tmp_path: Path, tuned: str) -> None:
    net = shaken(create("test_resnet"))
    seen = {"input_size": (3, 12, 12), "crop_pct": 1.0, "interpolation": "bilinear"}
    for name, mean in (("base", (0.485, 0.456, 0.406)), ("tuned", (0.5, 0.5, 0.5)), ("rounded", (0.49, 0.46, 0.41))):
        save(net, tmp_path / name, data_config=seen | {"mean": mean, "std": (0.25, 0.25, 0.25)})
    rows = {
        "row": {"timm": "test_resnet", "size": 12, "mean": (0.4, 0.4, 0.4), "weights": str(tmp_path / "file.pth")},
        "no statement": {"build": "helpers:bn_net", "size": 12, "weights": str(tmp_path / "bn.pth")},
    }
    torch.save(net.state_dict(), tmp_path / "file.pth")
    torch.save(classifier("batch_norm").net.state_dict(), tmp_path / "bn.pth")
    base, given = str(tmp_path / "base"), str(tmp_path / "tuned") if tuned == "folder" else tuned
    document = suite.model_dump(mode="json", exclude_none=True) | {
        "model": rows | {"stated": rows["no statement"] | {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}}
    }
    suite = parse_suite(document).based_at(suite.base)
    if tuned == "no statement":
        assert make_pair(suite, "stated", "no statement").after.fit.architecture.mean == (0.4, 0.4, 0.4)
        return
    with pytest.raises(UserError, match=r"TUNED states its own preprocessing(.|\n)*mean = (0.5 0.5 0.5|0.4 0.4 0.4)"):
        make_pair(suite, base, given)
    make_pair(suite, base, str(tmp_path / "rounded"))
    with pytest.raises(UserError, match="was trained with another mean"):
        make_pair(suite, base, str(tmp_path / "tuned" / "pytorch_model.bin"))
    view = {"mean": (0.485, 0.456, 0.406), "std": (0.25, 0.25, 0.25), "crop": 1.0}
    pair = make_pair(suite, base, given, view=view)
    assert pair.after.fit.architecture.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("arguments", "same"),
    [({"drop_path_rate": 0.1}, True), ({"global_pool": "max"}, False), ({"act_layer": "gelu"}, False)],
)
def test_a_tuned_net_that_computes_something_else_is_refused(
    suite: Suite, tmp_path: Path, arguments: dict[str, Any], same: bool
) -> None:
    """Its tensors have the names and shapes of the base's."""
    save(create("test_resnet"), tmp_path / "base")
    save(shaken(create("test_resnet", **arguments)), tmp_path / "tuned", model_args=arguments)
    if same:
        make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned"))
        return
    with pytest.raises(UserError, match="with other arguments, and answer differently"):
        make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned"))
    make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned" / "model.safetensors"))


def test_a_catalogue_model_with_a_suite_of_its_own() -> None:
    pair = make_pair(load_suite("digits-quick"), "resnet_small", "digits:resnet_large", tuned_on="sketch", images=200)
    assert pair.before.model == "resnet_small"
    assert pair.after.tuned_on == "digits:sketch"
    assert not pair.identical
    assert [look.name for look in pair.plan.looks] == ["cka", "drift"]


# -- mistakes ----------------------------------------------------------------------------------------------------------


def spoil(place: Path, what: str) -> Path:
    """A file that cannot be compared."""
    weights = take_weights(classifier("resnet").net)
    file = place / f"{what}.pth"
    match what:
        case "head":
            weights = take_weights(classifier("resnet", classes=7).net)
        case "nan":
            weights["head.weight"][1, 2] = torch.nan
        case "other":
            weights = take_weights(classifier("vit").net)
        case "pickle":
            torch.save({"a": 1, "b": "text"}, file)
            return file
        case "module":
            torch.save(nn.Linear(2, 2), file)
            return file
        case "noise":
            file.write_bytes(b"this is no checkpoint")
            return file
    torch.save(weights, file)
    return file


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        ("head", ["TUNED cannot be compared", "another number of classes", "7 outputs", "valid:  4"]),
        ("nan", ["not finite", "NaN or infinity in head.weight"]),
        ("other", ["does not fit", "stem.weight is missing", "is not part of the model", "differences"]),
        ("pickle", ["does not hold a state dict", "got:    int a, str b", "names to tensors"]),
        ("module", ["cannot read the checkpoint", "GLOBAL torch.nn.modules.linear.Linear", "model.state_dict()"]),
        ("noise", ["cannot read the checkpoint", "Error: "]),
    ],
)
def test_spoilt_checkpoints(place: Path, rib_says: Say, what: str, texts: list[str]) -> None:
    code, said = rib_says("compare", "resnet", spoil(place, what), "--suite", place / "tiny.toml", "--store", "s")
    assert code == 2, said
    for text in texts:
        assert text in said


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["resne", "x.pth"], ["BASE: unknown model 'resne'", "did you mean 'resnet'?"]),
        (["resnet", "no/such.pth"], ["TUNED: no such file or folder", "no/such.pth", "valid:"]),
        (["resnet", "GOOD", "--model", "timm:resnet18"], ["BASE states its own", "leave --model out"]),
        (["GOOD", "GOOD"], ["the architecture of BASE is unknown", "--model timm:NAME"]),
        (["GOOD", "GOOD", "--model", "resne"], ["--model: unknown model 'resne'", "did you mean 'resnet'?"]),
        (["GOOD", "GOOD", "--model", "timm:resnet_18"], ["unknown timm model", "did you mean 'resnet18"]),
        (["GOOD", "GOOD", "--model", "torchvision:resnet19"], ["unknown torchvision model", "did you mean"]),
        (["resnet", "digits:vit_small"], ["of different architectures", "is missing", "rib.models.small:small_resnet"]),
        (["resnet", "."], ["does not state its architecture", "no config.json"]),
        (["resnet", "GOOD", "--layers", "block.1"], ["unknown layer 'block.1'", "did you mean 'blocks.1'?"]),
        (["resnet", "GOOD", "--tuned-on", "whol"], ["--tuned-on", "did you mean 'whole'?"]),
        (["resnet", "GOOD", "--suite", "digit"], ["unknown suite 'digit'", "did you mean 'digits'?"]),
        (["resnet", "GOOD", "--fail-if", "ri"], ["is not a condition", "QUANTITY"]),
        (["resnet", "GOOD", "--fail-if", "change[whol] < 1"], ["did you mean 'change[whole]'?"]),
        (["resnet", "GOOD", "--fail-if", "own < 1"], ["unknown quantity of --fail-if: 'own'", "--tuned-on"]),
        (["resnet", "GOOD", "--device", "gpu"], ["unknown device"]),
    ],
)
def test_mistakes(place: Path, rib_says: Say, words: list[str], texts: list[str]) -> None:
    given_words = [str(place / "good.safetensors") if word == "GOOD" else word for word in words]
    suite = [] if "--suite" in words else ["--suite", place / "tiny.toml"]
    code, said = rib_says("compare", *given_words, *suite, "--store", "s")
    assert code == 2, said
    for text in texts:
        assert text in said


def test_a_suite_and_one_model_are_too_few(place: Path, rib_says: Say) -> None:
    code, said = rib_says("compare", place / "tiny.toml", "resnet")
    assert (code, "takes a suite and two models" in said, "SUITE BASE TUNED" in said) == (2, True, True)


def test_a_missing_extra(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    file = place / "good.safetensors"
    words = ("compare", file, file, "--model", "open_clip:ViT-B-32", "--suite", place / "tiny.toml", "--store", "s")
    code, said = rib_says(*words)
    assert code == 2, said
    assert "pip install" in said


def test_too_few_images_for_cka(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rib.analysis.cka.LEAST", 1000)
    words = ("compare", "resnet", place / "good.safetensors", "--suite", place / "tiny.toml", "--store", "s")
    code, said = rib_says(*words, "--workers", 1, "--html", "page.html")
    assert code == 1
    assert "CKA needs 1000 images or more, not 80" in said
    assert "RI" in said, "what is known is shown all the same"
    assert "CKA needs 1000 images" in Path("page.html").read_text()


def test_nothing_to_test_on(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path, per_class=1)
    (tmp_path / "few.toml").write_text(toml(made))
    code, said = rib_says("compare", "resnet", "digits:resnet_small", "--suite", "few.toml", "--store", "s")
    assert code == 2, said
    assert "no images to test on" in said


def test_the_cache_is_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rib.store.store import cache_store

    monkeypatch.delenv("RIB_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_store() == tmp_path / "rib" / "store"
    monkeypatch.setenv("RIB_STORE", str(tmp_path / "mine"))
    assert cache_store() == tmp_path / "mine"


def test_an_interrupt_is_no_result(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Workshop, "do", stop)
    words = ("compare", "resnet", place / "good.safetensors", "--suite", place / "tiny.toml", "--store", "s")
    code, said = rib_says(*words, "--workers", 1)
    assert code == 130
    assert "kept" in said


def test_gates_that_claim_a_change_are_adjusted_for_each_other() -> None:
    """p 0.02 and 0.015, one-sided: each is broken by itself; of two, 0.03 and 0.03 are not below 0.025."""
    found = Interval(-2.0, -3.9, -0.1, se=1.0)
    one = GateVerdict(parse_gate("ri.high < 0", NAMES), found, p=0.02)
    other = GateVerdict(parse_gate("change[sketch].high < 0", NAMES), found, p=0.015)
    assert [each.failed for each in adjusted_together([one])] == [True]
    both = adjusted_together([one, other])
    assert [(each.alone, each.failed, each.adjusted) for each in both] == [(True, False, 0.03)] * 2
    assert "broken by itself, not among all tests" in both[0].words
    clear = adjusted_together([one, GateVerdict(other.gate, found, p=0.001)])
    assert [each.failed for each in clear] == [True, True]
    kept = GateVerdict(parse_gate("ri.low < -5", NAMES), found)
    assert not kept.gate.claims
    said = level_of([*both, kept, GateVerdict(parse_gate("ri < -9", NAMES), found)])
    assert said.startswith("3 of 4 gates are on a bound of a 95 % interval: one-sided, level 2.5 % each. The 2 that")
    assert said.endswith("Those that must rule a change out hold only together, so they need no adjustment.")
    assert level_of([GateVerdict(parse_gate("ri < -9", NAMES), found)]) == ""


def test_one_gate_on_a_bound_is_worded_alone() -> None:
    found = Interval(-2.0, -3.9, -0.1, se=1.0)
    assert level_of([GateVerdict(parse_gate("ri.high < 0", NAMES), found)]) == (
        "1 of 1 gate is on a bound of a 95 % interval: one-sided, level 2.5 % each."
    )


def test_the_gate_own_exists_only_for_a_known_tuned_set() -> None:
    assert "own" in quantity_names(["a", "b"], own=True)
    assert "own" not in quantity_names(["a", "b"], own=False)


def test_a_number_that_is_not_finite_is_said_to_be_so() -> None:
    gate = parse_gate("ri < -5", NAMES)
    assert "it is not a finite number" in GateVerdict(gate, Interval(float("nan"), -1.0, 1.0)).words
    assert "finite" not in GateVerdict(gate, None).words


def test_a_gate_on_the_worst_set_is_several_tests() -> None:
    """Alone, too: p 0.06 of three sets is no loss, though one interval lies below 0. Above a limit all must be."""
    found = Interval(-2.0, -3.9, -0.1, se=1.0)
    lowest, value = GateVerdict(parse_gate("worst.high < 0", NAMES), found, p=0.06), parse_gate("worst < -5", NAMES)
    (one,) = adjusted_together([lowest])
    assert (one.alone, one.failed, one.adjusted) == (True, False, 0.06)
    assert "broken by itself, not among all tests: p = 0.06" in one.words
    assert level_of([one]).endswith("level 2.5 % each. A loss on the worst set is tested on all sets together.")
    assert [each.failed for each in adjusted_together([replace(lowest, p=0.02)])] == [True]
    other = GateVerdict(parse_gate("ri.high < 0", NAMES), found, p=0.0251)
    assert [each.failed for each in adjusted_together([other, GateVerdict(value, found)])] == [True, False]
    assert not parse_gate("worst.low > 0", NAMES).some
    assert not value.some


def test_gates_on_the_worst_set_take_the_p_values_of_all_sets() -> None:
    """A loss on some set: three times the smallest p. A gain on every set: the largest."""
    changes = (Interval(-2.0, -4.0, -0.1, se=1.0), Interval(1.0, -1.0, 3.0, se=1.0), Interval(3.0, 1.0, 5.0, se=1.0))
    asked = SimpleNamespace(tested=[SimpleNamespace(change=change) for change in changes])

    def p_of(text: str) -> float | None:
        return Comparison._p(cast(Comparison, asked), parse_gate(text, NAMES), changes[0])

    assert p_of("worst.high < 0") == pytest.approx(3 * stats.norm.sf(2))
    assert p_of("worst.low > -5") == pytest.approx(stats.norm.sf(3))
    assert p_of("worst.low > -1") == 1.0
    assert p_of("ri.high < 0") == pytest.approx(stats.norm.sf(2))
    assert p_of("worst.low < 0") is None


# -- gates -------------------------------------------------------------------------------------------------------------

NAMES = quantity_names(["digits:sketch", "v2", "web-0.7"], own=True)


@given(
    quantity=st.sampled_from(sorted(set(NAMES.values()))),
    bound=st.sampled_from(["value", "low", "high"]),
    sign=st.sampled_from(list(SIGNS)),
    limit=st.floats(-100, 100).map(lambda value: float(f"{value:.4f}")),
    spaces=st.lists(st.sampled_from(["", " ", "  "]), min_size=4, max_size=4),
    plain=st.booleans(),
)
def test_gates_are_read_as_written(
    quantity: str, bound: Any, sign: str, limit: float, spaces: list[str], plain: bool
) -> None:
    tail = "" if bound == "value" and plain else f".{bound}"
    text = f"{spaces[0]}{quantity}{tail}{spaces[1]}{sign}{spaces[2]}{limit:.4f}{spaces[3]}"
    gate = parse_gate(text, NAMES)
    assert gate == Gate(quantity, bound, sign, limit)
    assert parse_gate(f"{gate.subject} {sign} {limit!r}" if "e" not in repr(limit) else text, NAMES) == gate


@given(st.text("ri.<>=change[]slowhigh -+.0123456789", max_size=24))
def test_any_text_is_a_gate_or_a_mistake_of_the_user(text: str) -> None:
    with suppress(UserError):
        assert parse_gate(text, NAMES).quantity in NAMES.values()


@pytest.mark.parametrize(
    ("text", "quantity", "bound"),
    [
        ("ri<-2", "ri", "value"),
        ("ri.low < -2.5", "ri", "low"),
        ("change[digits:sketch] < -5", "change[sketch]", "value"),
        ("change[web-0.7].high <= .5", "change[web-0.7]", "high"),
        ("change[web-0.7] > +1.", "change[web-0.7]", "value"),
    ],
)
def test_gates_by_hand(text: str, quantity: str, bound: str) -> None:
    gate = parse_gate(text, NAMES)
    assert (gate.quantity, gate.bound) == (quantity, bound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a condition"),
        ("ri", "is not a condition"),
        ("ri = -2", "is not a condition"),
        ("ri < -2 < 3", "is not a condition"),
        ("-2 > ri", "no number after >"),
        ("ri < two", "no number after <"),
        ("ri < 1e3", "no number after <"),
        ("ri < nan", "no number after <"),
        ("ri < -2 points", "no number after <"),
        ("ri.lo < -2", "did you mean 'low'?"),
        ("ry < -2", "did you mean 'ri'?"),
        ("mri.low < -2", "did you mean 'ri'?"),
        ("change[scetch] < -5", "did you mean 'change[sketch]'?"),
        ("change[sketch].hi < -5", "did you mean 'high'?"),
        ("change < -5", "unknown quantity"),
    ],
)
def test_malformed_gates(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("[", r"\[").replace("?", r"\?")):
        parse_gate(text, NAMES)


@pytest.mark.parametrize(
    ("text", "failed", "words"),
    [
        ("ri < -2", True, "requires ri ≥ -2; measured -3.00 [-4.0, -2.0]: broken"),
        ("ri < -3", False, "requires ri ≥ -3; measured -3.00 [-4.0, -2.0]: holds"),
        ("ri <= -3", True, "requires ri > -3; measured -3.00 [-4.0, -2.0]: broken"),
        ("ri < -2.9996", True, "requires ri ≥ -2.9996; measured -3.0000 [-4.0, -2.0]: broken"),
        ("ri.high < -2.5", False, "requires ri.high ≥ -2.5; measured -2.00: holds"),
        ("ri.low > -4.5", True, "requires ri.low ≤ -4.5; measured -4.00: broken"),
        ("ri >= 0", False, "requires ri < 0; measured -3.00 [-4.0, -2.0]: holds"),
        ("worst < -5", False, "requires worst ≥ -5; measured -3.00 [-4.0, -2.0]: holds"),
    ],
)
def test_verdicts(text: str, failed: bool, words: str) -> None:
    verdict = GateVerdict(parse_gate(text, NAMES), Interval(-3.0, -4.0, -2.0))
    assert verdict.failed == failed
    assert verdict.state == ("broken" if failed else "holds")
    assert verdict.words == words
    assert GateVerdict(verdict.gate, None).failed, "a gate whose number is missing does not pass"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("bound", ["value", "low", "high"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, None])
def test_a_gate_without_a_number_is_broken(sign: str, bound: Any, number: float | None) -> None:
    found = None if number is None else Interval(number, number, number)
    verdict = GateVerdict(Gate("ri", bound, sign, -2), found, missing="no prediction on sketch")
    assert verdict.failed
    assert verdict.words.endswith("is missing (no prediction on sketch): broken")
    assert (verdict.number, verdict.margin) == (None, None)


@given(st.lists(st.tuples(*[st.floats(-9, 9)] * 3).map(sorted), min_size=1, max_size=4), st.floats(-9, 9))
def test_the_worst_change_is_that_of_some_set(numbers: list[list[float]], limit: float) -> None:
    """A gate on the worst change is broken exactly where the same gate on one of the sets is."""
    changes = {f"set {place}": Interval(value, low, high) for place, (low, value, high) in enumerate(numbers)}
    found = worst_of(changes)
    assert found
    name, worst = found
    assert changes[name].value == min(change.value for change in changes.values())
    for bound in ("value", "low", "high"):
        each = [GateVerdict(Gate("x", bound, "<", limit), change).failed for change in changes.values()]
        assert GateVerdict(Gate("worst", bound, "<", limit), worst).failed == any(each)
    assert worst_of(changes | {"lost": None}) is None, "nothing is the worst while one is not measured"
    assert worst_of(changes | {"lost": Interval(np.nan, 0, 0)}) is None


def test_sets_with_one_short_name_are_named_in_full() -> None:
    known = quantity_names(["one:set", "two:set", "three:Set", "digits:sketch", "mine:own", "v2"], own=False)
    for name in ("one:set", "two:set", "three:Set", "mine:own"):
        assert parse_gate(f"change[{name}] < 0", known).quantity == f"change[{name}]"
    assert parse_gate("change[digits:sketch] < 0", known) == parse_gate("change[sketch] < 0", known)
    with pytest.raises(UserError, match="ambiguous") as error:
        parse_gate("change[set].low < -5", known)
    assert error.value.valid == "change[one:set], change[two:set]"
    with pytest.raises(UserError, match="unknown quantity"):
        parse_gate("change[nowhere:sketch] < 0", known)


# -- pages, paths and homes --------------------------------------------------------------------------------------------


def test_checkpoints_of_one_name_have_pages_of_their_own(place: Path, suite: Suite, tmp_path: Path) -> None:
    files = [tmp_path / run / "best.pth" for run in ("7", "8")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        torch.save({name: value + number for name, value in classifier("resnet", 3).net.state_dict().items()}, file)
    names = [make_pair(suite, "resnet", str(file)).page_name() for file in (*files, files[0])]
    assert names[0] == names[2]
    assert names[0] != names[1]
    assert names[0].startswith("compare-resnet-best.pth-")


def test_calls_that_show_other_things_have_pages_of_their_own(place: Path, suite: Suite) -> None:
    file = str(place / "good.safetensors")
    options: list[dict[str, Any]] = [{}, {"tuned_on": "whole"}, {"tuned_on": "part"}, {"images": 5}]
    names = [make_pair(suite, "resnet", file, **each).page_name() for each in options]
    names.append(make_pair(suite, "resnet", file).page_name(["ri < -2"]))
    assert len(set(names)) == 5
    assert make_pair(suite, "resnet", file).page_name() == names[0]


@pytest.mark.parametrize(("on", "named"), [(None, "clean, whole, part, other"), ("part", "clean, part")])
def test_test_images_that_rib_drew_may_be_training_images(
    place: Path, suite: Suite, on: str | None, named: str
) -> None:
    notes = make_pair(suite, "resnet", str(place / "good.safetensors"), tuned_on=on).plan.notes
    assert [note for note in notes if note.startswith(f"RIB drew the test images of {named} (`test_fraction`)")]
    rows = {name: row.model_copy(update={"test_fraction": 0.0}) for name, row in suite.data.items()}
    whole = suite.model_copy(update={"data": rows}).based_at(place)
    notes = make_pair(whole, "resnet", str(place / "good.safetensors"), tuned_on=on).plan.notes
    assert not [note for note in notes if "RIB drew" in note]


def test_a_quick_comparison_does_not_replace_the_page_of_a_whole_one(place: Path, suite: Suite) -> None:
    file = str(place / "good.safetensors")
    options: list[dict[str, Any]] = [{}, {"analyses": False}, {"layers": "blocks.0"}]
    names = [make_pair(suite, "resnet", file, **each).page_name() for each in options]
    assert len(set(names)) == 3


def test_one_of_several_sets_of_weights_is_named_after_the_file(suite: Suite, tmp_path: Path) -> None:
    plain = classifier("resnet", 3).net.state_dict()
    ema = {name: value + 1 for name, value in plain.items()}
    for name in ("best.pth", "a#b.pth"):
        torch.save({"state_dict": plain, "state_dict_ema": ema}, tmp_path / name)
        with pytest.raises(UserError, match="BASE cannot be compared") as error:
            make_pair(suite, str(tmp_path / name), "resnet", model="resnet")
        assert f"{name}#state_dict_ema" in str(error.value.remedy)
        before, after = weights_of(
            suite, f"{tmp_path / name}#state_dict", f"{tmp_path / name}#state_dict_ema", model="resnet"
        )
        assert same_weights(before, plain)
        assert same_weights(after, ema)


def test_without_a_home_the_store_is_to_be_named(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("RIB_STORE", raising=False)
    words = ("compare", "resnet", place / "good.safetensors", "--suite", place / "tiny.toml")
    code, said = rib_says(*words)
    assert code == 2
    assert "no home folder is known" in said
    assert "--store" in said
