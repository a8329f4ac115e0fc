"""Benchmarks: what they say of a goal, that each can run, and that they compare what is equal. Never how fast it is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from bench import __main__ as command
from bench import (
    base,
    images,
    p1_sweep,
    p2_loader,
    p3_decode,
    p4_methods,
    p5_step,
    p6_checkpoints,
    p7_corruptions,
    p8_intervals,
    p11_texts,
    rates,
)
from bench.base import Marks, Row, Setting, at_least, at_most, share, shown, total_met

from helpers import HALF, examples
from rib.data.corruptions import batched
from rib.methods import METHODS, TrainedMethod
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.small import small_resnet
from rib.recipe import Precision, Recipe

QUICK = Setting(quick=True)
SMALL = "test_vit"
"""A ViT of timm's that a step takes milliseconds of."""


@pytest.fixture(autouse=True)
def no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is collected before each measurement: in a test process that takes longer than what is measured."""
    monkeypatch.setattr(base.gc, "collect", lambda: 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a small model instead of the one that is measured, twice."""
    monkeypatch.setattr(Setting, "model", SMALL)
    monkeypatch.setattr(Setting, "repeats", lambda _setting, _usual: 1)


@pytest.fixture
def one_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs of one image that is rendered for it."""
    monkeypatch.setattr(images, "originals", lambda: list(images.rendered(1)))


@pytest.fixture
def peer() -> Iterator[Any]:
    """The library of corruptions, where it is there; the stubs that it needs go again."""
    if not all(map(importlib.util.find_spec, ("imagecorruptions", "cv2", "skimage"))):
        pytest.skip("the peer of the corruptions is not installed: pip install -e '.[bench]'")
    stubs = ("pkg_resources", "scipy.ndimage.interpolation")
    before = {name: sys.modules.pop(name, None) for name in stubs}
    yield p7_corruptions.load_peer()
    del np.float_  # type: ignore[attr-defined]
    for name, module in before.items():
        del sys.modules[name]
        if module:
            sys.modules[name] = module


def met(*rows: Row) -> list[bool | None]:
    return [row.met for row in rows]


# What is said


def test_a_ratio_meets_its_goal_or_not() -> None:
    assert met(at_least("P1", "", "", 2, 2.0), at_least("P1", "", "", 2, 1.99)) == [True, False]
    assert met(at_most("P1", "", "", 2, 2.0), at_most("P1", "", "", 2, 2.01)) == [True, False]
    assert met(share("P1", "", "", 85, 0.85), share("P1", "", "", 85, 0.849)) == [True, False]
    assert share("P1", "", "", 85, 0.849).measured == "84.9 %"
    assert met(shown("P1", "", "", "7 ×")) == [None]
    assert total_met([at_most("P1", "", "", 2, 1), at_most("P1", "", "", 2, 3), shown("P1", "", "", "7 ×")]) == (1, 2)


@pytest.mark.parametrize(("ratio", "told"), [(3.0, "12 images"), (1.0, "12 images; the disk is slow")])
def test_what_limits_a_goal_is_told_where_it_is_missed(ratio: float, told: str) -> None:
    row = at_least("P3", "decode", "Pillow", 2, ratio, "12 images", "the disk is slow")
    assert row.told == told
    assert command.lines([row], QUICK)[-1] == f"- P3 decode: {told}"


def test_what_limits_is_told_without_a_note_and_never_of_a_row_without_a_goal() -> None:
    assert at_most("P4", "", "", 2, 3, limit="a third").told == "a third"
    assert Row("P4", "", "", "", "3 ×", None, limit="a third").told == ""


def test_lines_are_a_table_in_markdown() -> None:
    rows = [at_least("P3", "decode", "Pillow", 1.6, 1.2), shown("P9", "memory", "forwards", "3 MiB")]
    head, empty, headings, rule, *body = command.lines(rows, QUICK)
    assert head == command.machine("cpu")
    assert empty == ""
    assert rule.count("|") == headings.count("|") == 7
    assert body == ["| P3 | decode | Pillow | ≥ 1.6 × | 1.2 × | no |", "| P9 | memory | forwards |  | 3 MiB |  |"]


def test_the_machine_line_names_the_libraries_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LIBRARIES", ("numpy", "no such library", "Pillow"))
    words = command.machine("cpu").split(", ")
    assert f"numpy {np.__version__}" in words
    assert words[-1].startswith("Pillow ")
    assert not any("no such library" in word for word in words)


# The command


def run(monkeypatch: pytest.MonkeyPatch, goals: dict[str, object], *words: str) -> int:
    """Exit status of the benchmark, were these its goals: rows, or an error, by the name of the module."""
    monkeypatch.setattr(command, "GOALS", tuple(goals))
    for name, outcome in goals.items():
        module: Any = ModuleType(name)

        def measure(_: Setting, outcome: object = outcome) -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        module.measure = measure
        monkeypatch.setitem(sys.modules, f"bench.{name}", module)
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    monkeypatch.setattr(command, "keep_freed", lambda: None)
    return command.main()


GOOD, BAD, FREE = at_least("P91", "a", "", 2, 3), at_least("P92", "b", "", 2, 1), shown("P93", "c", "", "7 ×")


@pytest.mark.parametrize(
    ("rows", "status"), [([GOOD], 0), ([GOOD, FREE], 0), ([FREE], 0), ([GOOD, BAD], 1), ([BAD, GOOD], 1)]
)
def test_the_exit_status_says_whether_a_goal_is_missed(
    rows: Sequence[Row], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, {f"p{number}_x": [row] for number, row in enumerate(rows)}) == status


def test_only_the_goals_that_are_named_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goals = {"p91_x": [GOOD], "p92_x": [BAD], "p93_x": [FREE]}
    assert run(monkeypatch, goals, "p91", "p93", "--quick", "--markdown", str(tmp_path / "table.md")) == 0
    assert (tmp_path / "table.md").read_text().splitlines()[4:] == [
        "| P91 | a |  | ≥ 2 × | 3 × | yes |",
        "| P93 | c |  |  | 7 × |  |",
    ]
    assert "1 of 1 goals met (quick: not to quote)" in capsys.readouterr().out


def test_a_goal_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, {"p91_x": [GOOD]}, "p91", "p19")
    assert stop.value.code == 2
    assert "no such goal: p19" in capsys.readouterr().err


def test_a_goal_that_fails_is_missed_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, {"p90_x": AssertionError("0.3 apart"), "p91_x": [GOOD]}) == 1
    told = capsys.readouterr()
    assert "P90 p90_x: AssertionError: 0.3 apart" in told.out
    assert "Traceback" in told.err
    assert "1 of 2 goals met" in told.out


def test_a_gpu_has_its_rates_measured_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(command, "rates", lambda device: asked.append(device) or rates.measured(CPU, 16, 100))
    monkeypatch.setattr(command, "machine", lambda _: "a machine")
    assert run(monkeypatch, {"p91_x": [GOOD]}, "--device", "cuda", "--markdown", str(tmp_path / "table.md")) == 0
    assert asked == ["cuda"]
    first, *_, last = (tmp_path / "table.md").read_text().partition("\n\n- ")[0].splitlines()[4:]
    assert first.startswith("| GPU | bf16 matrix products |")
    assert last.startswith("| P91 |")


# What is measured

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", command.GOALS)
def test_every_goal_can_be_measured(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert callable(module.measure)
    assert module.__doc__.startswith(f"{name.split('_')[0].upper()}: ")


def test_the_goals_are_all_there() -> None:
    assert list(dict.fromkeys(name.split("_")[0] for name in command.GOALS)) == [f"p{n}" for n in range(1, 12)]


def test_intervals_are_measured_of_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p8_intervals, "IMAGES", 5_000)
    rows = p8_intervals.measure(QUICK)
    assert [row.goal for row in rows] == ["P8"] * 4
    assert [row.wanted for row in rows] == ["≥ 300 ×", "≤ 50 ms"] * 2


@pytest.mark.usefixtures("small")
def test_steps_of_methods_are_measured_of_a_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p4_methods, "GOALS", {"lora": 0.78, "linear_probe": 0.005})
    rows = p4_methods.measure(QUICK)
    assert [(row.goal, row.what) for row in rows] == [("P4", "step of lora"), ("P4", "step of linear_probe")]
    assert [row.wanted for row in rows] == ["≤ 0.78 ×", "≤ 0.005 ×"]
    assert [bool(row.limit) for row in rows] == [True, False]


def test_every_method_that_trains_has_a_goal_for_its_step() -> None:
    trained = {name for name, kind in METHODS.classes.items() if issubclass(kind, TrainedMethod)}
    assert {*p4_methods.GOALS} == (trained - {"finetune"}) | {"lora", "peft"}


@pytest.mark.usefixtures("small")
def test_a_step_and_a_pass_are_measured_of_a_small_model() -> None:
    rows = p5_step.measure(QUICK)
    assert {row.goal for row in rows} == {"P5"}
    assert [(row.against, row.wanted) for row in rows] == [
        *[("bare passes of the same net", "≥ 95 %")] * 2,
        *[("timm's model in a plain loop", "≥ 1 ×")] * 2,
    ]
    assert [(row.goal, row.wanted) for row in p6_checkpoints.measure(QUICK)] == [("P6", "≤ 5 %")]


@pytest.mark.usefixtures("one_original")
def test_no_two_images_of_the_sets_of_a_benchmark_are_equal(tmp_path: Path) -> None:
    """RIB refuses sets with copies, and sets that share images."""
    for shift in range(2):
        images.tree(tmp_path / str(shift), 12, 64, shift)
    files = [*tmp_path.rglob("*.jpg")]
    assert len({file.read_bytes() for file in files}) == len(files) == 24


@pytest.mark.usefixtures("one_original")
def test_decoding_is_compared_with_the_decoder_alone_and_a_pack_with_its_peer(tmp_path: Path) -> None:
    root = p3_decode.tree(tmp_path / "224", 4, 224)
    rows = p3_decode._rows(QUICK, root, "224 px", goal=True)
    assert [(row.against, row.wanted) for row in rows] == [
        ("libjpeg-turbo alone", "≥ 85 %"),
        ("Pillow", ""),
        ("ImageFolder into a file, same threads", "≥ 1.15 ×"),
    ]
    assert [row.met is None for row in p3_decode._rows(QUICK, root, "full size", goal=False)] == [False, True, True]


def test_corruptions_are_not_judged_without_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("No module named 'imagecorruptions'")

    monkeypatch.setattr(p7_corruptions, "load_peer", absent)
    (row,) = p7_corruptions.measure(QUICK)
    assert (row.goal, row.measured, row.met) == ("P7", "no peer", None)


@pytest.mark.parametrize("name", ["brightness", "frost", "gaussian_noise"])
def test_corruptions_are_compared_with_the_peers(name: str, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, textures = p7_corruptions.photographs(2)[:, :64, :64], p7_corruptions.pictures(peer)
    p7_corruptions.check(peer, name, parts, textures)
    monkeypatch.setattr(peer, "corrupt", lambda image, severity, name: image)
    with pytest.raises(AssertionError, match=name):
        p7_corruptions.check(peer, name, parts, textures)


def test_rows_of_corruptions_are_of_their_harmonic_mean() -> None:
    ratios = dict.fromkeys(p7_corruptions.ROWS, 2.0) | {"fog": 0.5}
    all_published, _, least = p7_corruptions.rows(ratios)
    assert all_published.measured == f"{15 / (14 / 2 + 1 / 0.5):.3g} ×"
    assert (least.what, least.measured, least.met) == ("the slowest, fog", "0.5 ×", False)


def test_tokens_of_a_pack_are_compared_with_the_peers_and_a_missing_peer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    p11_texts.write(tmp_path, 30)
    peer, rows = p11_texts.texts_of(tmp_path)
    assert peer == "a list (no datasets)"
    packed = p11_texts.packed(tmp_path)
    p11_texts.check(packed, tmp_path, rows)
    assert sum(len(batch) for batch in p11_texts.through_loader(tmp_path, rows)) == 30
    with pytest.raises(AssertionError, match="not equal"):
        p11_texts.check(packed, tmp_path, rows[::-1])


# On a GPU, as far as a CPU can tell


def test_rates_are_operations_and_bytes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "interleaved", lambda works, _: base.Timings({name: [0.5] for name in works}))
    found = rates.measured(CPU, side=10, size=300)
    assert found.products == {"bf16": 10 * 2 * 10**3 / 0.5, "fp32": 10 * 2 * 10**3 / 0.5}
    assert set(found.copies.values()) == {600.0}
    assert met(*found.rows()) == [None] * 5


def test_what_rates_are_measured_of_is_done() -> None:
    factor, there = torch.eye(4), torch.zeros(8, dtype=torch.uint8)
    rates.product(factor)()
    rates.copy(torch.ones(8, dtype=torch.uint8), there)()
    assert there.tolist() == [1] * 8


def test_steps_on_a_gpu_are_timed_in_its_own_order_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            self.at = now[0]

        def elapsed_time(self, other: Event) -> float:
            return 1e3 * (other.at - self.at)

    class Method:
        def fit(self, start: object, task: Any, fitted: object) -> None:
            for seen, moment in ((0, 1.0), (8, 5.0), (8, 7.0), (8, 12.0)):
                now[0] = moment
                task.watch(seen)
            now[0] = 100.0  # weights on their way to the host

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    task = p4_methods.task_of(describe(ModelRow(timm=SMALL), classes=100), Recipe(batch_size=2), 2, "cpu")
    fitted: Any = Method()
    assert p4_methods.step_seconds(fitted, {}, task, Setting("cuda")) == 3.5


def test_steps_on_a_cpu_are_timed_from_report_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([5.0, 7.0, 12.0])
    monkeypatch.setattr(base.time, "process_time", lambda: next(moments))
    marks = Marks(QUICK)
    for seen in (0, 8, 8, 8):
        marks.watch(seen)
    assert marks.spans() == [2.0, 5.0]


def test_steps_of_a_compiled_net_are_timed_after_its_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([50.0, 90.0, 95.0, 98.0, 100.0])  # two steps an epoch, compiled in the first one

    def trained(*_: object, watch: Any, **__: object) -> None:
        for seen in (0, 2, 2, 2, 2, 2):
            watch(seen)

    monkeypatch.setattr(base.time, "process_time", lambda: next(moments))
    monkeypatch.setattr(p5_step, "train", trained)
    net = Classifier(small_resnet(num_classes=4, width=8), 4, HALF, HALF)
    assert p5_step.later_step(net, examples(4), Recipe(batch_size=2), QUICK) == 2.5


def test_batches_to_a_device_are_measured_beside_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Classifier(small_resnet(num_classes=10, width=8), 10, HALF, HALF)
    monkeypatch.setattr(p2_loader, "build", lambda _: net)
    monkeypatch.setattr(p2_loader, "BATCH", 4)
    monkeypatch.setattr(p2_loader, "rates", lambda _: rates.measured(CPU, 4, 100))
    before = [value.clone() for value in net.parameters()]
    rows = p2_loader._to_device(QUICK, examples(9))
    assert [(row.goal, row.wanted) for row in rows] == [("P2", "< 2 %"), ("P2", "")] * 2
    assert ["resident" in row.what for row in rows] == [True, True, False, False]
    assert any(not torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_compared_in_the_precision_of_the_step(precision: Precision) -> None:
    mine = build(describe(ModelRow(timm=SMALL), classes=p5_step.CLASSES), last_block="pooled")
    theirs = p5_step.plain_net(SMALL, mine)
    pixels = torch.from_numpy(p5_step.noise(4, 160).batch(slice(None)))
    assert p5_step.difference(mine, theirs, pixels, precision) < p5_step.TOLERANCE[precision]
    with torch.no_grad():
        theirs.blocks[-1].mlp.fc2.weight.mul_(1.5)
    assert p5_step.difference(mine, theirs, pixels, precision) > p5_step.TOLERANCE[precision]


@pytest.mark.parametrize("name", ["brightness", "fog", "gaussian_noise"])
def test_batched_corruptions_are_compared_with_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = np.tile(p7_corruptions.photographs(2)[:, :64, :64], (4, 1, 1, 1))
    p7_corruptions.check_batch(name, parts, "cpu")
    plain = batched.ON_DEVICE[name]
    off = {name: lambda seen, level, batch: seen + 1.5 * (plain(seen, level, batch) - seen)}
    monkeypatch.setattr(batched, "ON_DEVICE", {**batched.ON_DEVICE, **off})
    with pytest.raises(AssertionError, match=name):
        p7_corruptions.check_batch(name, parts, "cpu")


@pytest.mark.usefixtures("one_original")
def test_the_loop_reads_the_images_of_an_epoch_in_its_order(tmp_path: Path) -> None:
    p1_sweep.tree(tmp_path / "one", 6)
    loop = p1_sweep.Loop(tmp_path, {"one": 6}, Recipe(batch_size=4), "cpu", 0)
    loop.normal = build(describe(ModelRow(timm=p1_sweep.MODEL), classes=10))
    loop.loaders = {}

    def labels(epoch: int | None) -> list[int]:
        return torch.cat([labels for _, labels in loop.batches("one", epoch)]).tolist()

    order = p1_sweep.named_generator("shuffle", 0, 1).permutation(6)
    assert labels(None) == list(range(6))
    assert labels(1) == order.tolist()
    assert labels(None) == list(range(6))
