"""Merging: hand-made weights, the plan of a merge, and what would be a leak."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import rib
from helpers import CLASSES, classifier, document, same_weights, tiny, write_arrays
from rib.errors import UserError
from rib.methods import METHODS, Ingredient, MergeContext, Method, SetMerge
from rib.methods.dare import DARE, thin
from rib.methods.diwa import DiWA, UniformDiWA
from rib.methods.finetune import FineTune
from rib.methods.fisher import Fisher
from rib.methods.lines import LiNeS, strengths
from rib.methods.model_stock import ModelStock, ratio
from rib.methods.regmean import RegMean, regression_mean
from rib.methods.task_arithmetic import TaskArithmetic
from rib.methods.ties import TIES, ties
from rib.methods.tsv import TSV, merged_matrix
from rib.models.classifier import Classifier
from rib.models.small import small_vit
from rib.models.weights import Weights, take_weights
from rib.plan import Plan, make_plan
from rib.plan.merges import require_unseen
from rib.report.settings import method_words, settings_json
from rib.steps import Fit, How, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite
from test_methods import MERGES, find_architecture, make_task, run_method

ALONE = How(workers=1)
PLACE = MergeContext(find_architecture("resnet"), 0)


def vector(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float32)}


# -- several sets, by hand ---------------------------------------------------------------------------------------------


def test_task_arithmetic_by_hand() -> None:
    start, models = vector(1, 1), [vector(2, 1), vector(1, 4)]
    assert TaskArithmetic(scale=0.5).combine(start, models, PLACE)["w"].tolist() == [1.5, 2.5]
    assert TaskArithmetic(scale="mean").combine(start, models, PLACE)["w"].tolist() == [1.5, 2.5]
    assert TaskArithmetic(scale=1.0).combine(start, models, PLACE)["w"].tolist() == [2, 4]


def test_ties_by_hand() -> None:
    """Two of four entries are kept: (4, 0, 0, 3) and (-2, 0, 0, 5); the sign of the first place is that of 4 - 2."""
    vectors = torch.tensor([[4.0, 1.0, -1.0, 3.0], [-2.0, 1.0, 1.0, 5.0]])
    assert ties(vectors, 0.5).tolist() == [4, 0, 0, 4]
    start = vector(10, 10, 10, 10)
    models = [{"w": start["w"] + row} for row in vectors]
    assert TIES(density=0.5, scale=0.5).combine(start, models, PLACE)["w"].tolist() == [12, 10, 10, 12]


def test_ties_gives_an_undecided_place_the_sign_that_most_places_have() -> None:
    assert ties(torch.tensor([[2.0, 1.0, 1.0], [-2.0, 1.0, 1.0]]), 1.0).tolist() == [2, 1, 1]
    assert ties(torch.tensor([[2.0, -1.0, -1.0], [-2.0, -1.0, -1.0]]), 1.0).tolist() == [-2, -1, -1]


@pytest.mark.parametrize("seed", range(3))
def test_ties_against_a_loop(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(3, 50)).astype(np.float32)
    trimmed = np.zeros_like(vectors)
    for row, values in enumerate(vectors):
        for place in sorted(range(50), key=lambda at: -abs(values[at]))[:10]:
            trimmed[row, place] = values[place]
    expected = np.zeros(50)
    for place in range(50):
        column = trimmed[:, place]
        agreeing = [value for value in column if value * column.sum() > 0]
        expected[place] = np.mean(agreeing) if agreeing else 0
    np.testing.assert_allclose(ties(torch.from_numpy(vectors), 0.2).numpy(), expected, rtol=1e-5)


def test_ties_trims_all_tensors_of_a_model_together() -> None:
    start = {"a": torch.zeros(2), "b": torch.zeros(2)}
    model = {"a": torch.tensor([0.1, 0.2]), "b": torch.tensor([5.0, 6.0])}
    found = TIES(density=0.5).combine(start, [model, model], PLACE)
    assert found["a"].tolist() == [0, 0]
    assert found["b"].tolist() == [5, 6]


def test_dare_keeps_the_mean_and_drops_each_model_anew() -> None:
    ones = torch.ones(200_000)
    thinned = thin(ones, 0.9, torch.Generator().manual_seed(1))
    assert thinned.unique().tolist() == [0.0, pytest.approx(10.0)]
    assert float((thinned > 0).float().mean()) == pytest.approx(0.1, abs=0.004)
    start, models = {"w": torch.zeros(1000)}, [{"w": torch.ones(1000)}] * 2
    found = DARE(drop=0.5, scale=1.0).combine(start, models, PLACE)["w"]
    assert set(found.unique().tolist()) == {0.0, 2.0, 4.0}  # 2 where one model is kept: they are not dropped together
    assert torch.equal(found, DARE(drop=0.5, scale=1.0).combine(start, models, PLACE)["w"])
    other = DARE(drop=0.5, scale=1.0).combine(start, models, MergeContext(PLACE.architecture, 1))["w"]
    assert not torch.equal(found, other)
    assert DARE(drop=0.0, scale=0.5).combine(start, models, PLACE)["w"].unique().tolist() == [1.0]


def test_fisher_by_hand() -> None:
    """In the first entry the models weigh 1 : 3, in the second equally: both are below the floor."""
    start, models = vector(0, 0), [vector(4, 2), vector(8, 4)]
    information = [vector(1, 1e-9), vector(3, 0)]
    made = [each for pair in zip(models, information, strict=True) for each in pair]
    torch.testing.assert_close(Fisher().combine(start, made, PLACE)["w"], torch.tensor([7.0, 3.0]))
    made = [each for model in models for each in (model, {})]
    torch.testing.assert_close(Fisher().combine(start, made, PLACE)["w"], torch.tensor([6.0, 3.0]))


def test_fisher_with_equal_information_is_the_mean() -> None:
    start, models = vector(1, 1), [vector(4, 2), vector(8, 4)]
    made = [each for model in models for each in (model, vector(5, 0.1))]
    torch.testing.assert_close(Fisher().combine(start, made, PLACE)["w"], torch.tensor([6.0, 3.0]))


@pytest.mark.parametrize("scale", [1.0, 0.9])
def test_regmean_is_the_least_squares_solution(scale: float) -> None:
    """The outputs are nearest to those of each model on its own inputs; with scale 1 it is plain least squares."""
    draw = np.random.default_rng(0)
    inputs, weights = draw.normal(size=(2, 40, 5)), draw.normal(size=(2, 3, 5))
    grams = [torch.from_numpy(x.T @ x) for x in inputs]
    found = regression_mean([torch.from_numpy(w) for w in weights], grams, scale).numpy()
    if scale == 1:
        stacked = np.concatenate([x @ w.T for x, w in zip(inputs, weights, strict=True)])
        expected = np.linalg.lstsq(np.concatenate(list(inputs)), stacked, rcond=None)[0].T
    else:
        reduced = [scale * g.numpy() + (1 - scale) * np.diag(np.diag(g.numpy())) for g in grams]
        pulled = sum(g @ w.T for g, w in zip(reduced, weights, strict=True))
        expected = (np.linalg.inv(sum(reduced)) @ pulled).T
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_regmean_averages_what_no_input_shows() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.0]))
    found = regression_mean([torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 5.0]])], [gram, 3 * gram], 0.9)
    torch.testing.assert_close(found, torch.tensor([[2.5, 3.0]]))


def test_gram_matrices_are_those_of_a_layers_inputs() -> None:
    task, _ = make_task("vit")
    start = take_weights(classifier("vit").net)
    _, gram_of = RegMean().ingredients()
    assert isinstance(gram_of, Method)
    found = gram_of.fit(start, task, [start])
    net, total = task.build(start).eval(), torch.zeros(())
    images = torch.from_numpy(task.tuning.batch(slice(None)))
    with torch.no_grad():
        features = net.features(images)
    total = features.T @ features / len(images)
    torch.testing.assert_close(found[f"{net.head_name}.weight"], total, rtol=1e-4, atol=1e-5)
    linear = {f"{name}.weight" for name, module in net.net.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(found) <= linear


def test_tsv_of_orthogonal_changes_is_their_sum() -> None:
    one, two = torch.zeros(4, 4), torch.zeros(4, 4)
    one[0, 1], one[1, 0], two[2, 3], two[3, 2] = 3.0, 2.0, 5.0, 1.0
    torch.testing.assert_close(merged_matrix([one, two]), one + two)


def test_tsv_against_numpy() -> None:
    """Half of the singular vectors of each of two changes, made orthogonal by polar decomposition."""
    changes = np.random.default_rng(3).normal(size=(2, 6, 8))
    parts = [np.linalg.svd(change, full_matrices=False) for change in changes]
    left = np.concatenate([u[:, :3] for u, _, _ in parts], axis=1)
    right = np.concatenate([v[:3] for _, _, v in parts])
    values = np.concatenate([s[:3] for _, s, _ in parts])

    def polar(matrix: Any) -> Any:
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        return u @ v

    expected = polar(left) @ np.diag(values) @ polar(right)
    np.testing.assert_allclose(merged_matrix([torch.from_numpy(c) for c in changes]).numpy(), expected, rtol=1e-4)


def test_tsv_averages_what_is_no_matrix_and_takes_a_convolution_as_one() -> None:
    start = {"bias": torch.zeros(3), "conv": torch.zeros(2, 1, 2, 2)}
    models = [{"bias": torch.full((3,), float(k)), "conv": torch.randn(2, 1, 2, 2)} for k in (1, 3)]
    found = TSV().combine(start, models, PLACE)
    assert found["bias"].tolist() == [2, 2, 2]
    expected = merged_matrix([model["conv"].reshape(2, 4) for model in models])
    torch.testing.assert_close(found["conv"].reshape(2, 4), expected)


@pytest.mark.parametrize("method", sorted(MERGES))
def test_statistics_are_averaged_and_counters_those_of_the_last(method: str) -> None:
    """A sum of task vectors could make a variance negative."""
    start = {
        "n.running_var": torch.ones(2),
        "n.running_mean": torch.zeros(2),
        "n.num_batches_tracked": torch.tensor(0),
        "n.weight": torch.ones(2),
    }
    models = [{name: torch.full_like(tensor, k) for name, tensor in start.items()} for k in (0.0 + 1, 0.0 + 2, 0.0 + 6)]
    made = METHODS.classes[method]()
    assert isinstance(made, SetMerge)
    kinds = len(made.ingredients())
    fitted = [each for model in models for each in (model, *([{}] * (kinds - 1)))]
    found = made.combine(start, fitted, PLACE)
    assert found["n.running_var"].tolist() == [3, 3]
    assert found["n.running_mean"].tolist() == [3, 3]
    assert found["n.num_batches_tracked"] == 6
    assert list(found) == list(start)


# -- one set, with seeds and rates of their own ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0, 1.0), (60, 2 * 0.5 / 1.5), (90, 0.0), (120, 0.0)], ids=lambda value: str(value)
)
def test_model_stock_goes_as_far_as_the_angle_says(degrees: float, expected: float) -> None:
    one = torch.tensor([2.0, 0.0])
    two = 3 * torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    assert ratio([one, two]) == pytest.approx(expected, abs=1e-6)


def test_model_stock_by_hand() -> None:
    """cos = 0.6, t = 1.2 / 1.6 = 0.75, mean = (4, 2); a tensor that did not move stays."""
    start = {"w": torch.zeros(2), "still": torch.ones(2)}
    models = [{"w": torch.tensor(w), "still": torch.ones(2)} for w in ([5.0, 0.0], [3.0, 4.0])]
    found = ModelStock().merge(start, models)
    torch.testing.assert_close(found["w"], torch.tensor([3.0, 1.5]))
    assert found["still"].tolist() == [1, 1]


def test_model_stock_of_three() -> None:
    """The mean cosine of three pairs: 1/2, 1/2 and 1; t = 3 c / (1 + 2 c)."""
    half = torch.tensor([0.5, math.sqrt(3) / 2])
    cosine = (0.5 + 0.5 + 1) / 3
    assert ratio([torch.tensor([1.0, 0.0]), half, half]) == pytest.approx(3 * cosine / (1 + 2 * cosine))


def test_lines_grows_from_alpha_in_the_first_block_to_one_in_the_last() -> None:
    net = Classifier(small_vit(4), 4)
    found = strengths(net, take_weights(net.net), 0.2)
    by_block = [{value for name, value in found.items() if name.startswith(f"blocks.{at}.")} for at in range(4)]
    assert [sorted(values) for values in by_block] == [[pytest.approx(0.2 + 0.8 * at / 3)] for at in range(4)]
    assert {value for name, value in found.items() if name.startswith(f"{net.head_name}.")} == {1.0}
    rest = {v for name, v in found.items() if not name.startswith(("blocks.", f"{net.head_name}."))}
    assert rest == {0.2}


@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm"])
def test_lines_at_one_is_the_tuned_model_and_moves_each_tensor_by_its_strength(family: str) -> None:
    net = classifier(family)
    start, end = take_weights(net.net), take_weights(classifier(family, 1).net)
    place = MergeContext(find_architecture(family))
    assert all(
        torch.allclose(value, end[name]) for name, value in LiNeS(alpha=1.0).combine(start, [end], place).items()
    )
    found, strength = LiNeS(alpha=0.25).combine(start, [end], place), strengths(net, start, 0.25)
    for name in start:
        if start[name].is_floating_point():
            expected = start[name] + strength[name] * (end[name] - start[name])
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_diwa_keeps_what_helps_and_its_uniform_form_is_the_mean() -> None:
    task, notes = make_task("resnet")
    start = take_weights(classifier("resnet").net)
    good = run_method(FineTune(lr=0.05), "resnet")
    bad = {name: -tensor if tensor.is_floating_point() else tensor for name, tensor in good.items()}
    assert task.held_out_accuracy(good) > task.held_out_accuracy(bad)
    found = DiWA(runs=3).fit(start, task, [good, bad, good])
    assert notes["members_kept"] in ("0, 2", "0, 1, 2")
    assert same_weights(found, good) == (notes["members_kept"] == "0, 2")
    uniform = UniformDiWA(runs=3).merge(start, [good, bad, good])
    for name in good:
        torch.testing.assert_close(uniform[name], good[name] / 3 if good[name].is_floating_point() else good[name])


def trained_fits(plan: Plan) -> list[Fit]:
    return [step for step in plan.steps if isinstance(step, Fit) and step.data is not None]


def test_replicas_train_on_the_same_images_in_another_order(tmp_path: Path) -> None:
    suite = tiny(tmp_path, runs=[{"methods": ["finetune", "model_stock"], "downstream": ["whole"], "sizes": [12]}])
    plan = make_plan(suite)
    stock = next(run.fit for run in plan.runs if run.method == "model_stock")
    first, second = stock.ingredients
    assert first == next(run.fit for run in plan.runs if run.method == "finetune")
    assert (second.seed, second.size, second.replica) == (first.seed, first.size, 1)
    assert second.title.endswith(", run 2")
    shop = Workshop(suite, Store(tmp_path / "store"), How(device="cpu"), lambda *_: None)
    tasks = [fit._task(shop, _Nothing(), {}) for fit in (first, second)]
    assert tasks[0].tuning.rows.tolist() == tasks[1].tuning.rows.tolist()
    assert tasks[0].held_out.rows.tolist() == tasks[1].held_out.rows.tolist()
    assert tasks[0].seed != tasks[1].seed
    for fit in (first, second):
        shop.do(fit)
    assert not same_weights(shop.weights(first), shop.weights(second))


class _Nothing:
    def __call__(self, images: int) -> None: ...

    def seen(self, images: int) -> None: ...


def test_diwa_trains_at_rates_around_that_of_its_method(tmp_path: Path) -> None:
    suite = tiny(tmp_path, runs=[{"methods": ["diwa", "finetune"], "downstream": ["whole"]}])
    plan = make_plan(suite)
    members = next(run.fit for run in plan.runs if run.method == "diwa").ingredients
    rates = [getattr(fit.method, "lr", None) for fit in members]
    assert [fit.replica for fit in members] == [None, 1, 2, 3, 4, 5]
    assert rates == [None, pytest.approx(0.01 / 3), pytest.approx(0.05 / 3)] * 2
    assert members[0] == next(run.fit for run in plan.runs if run.method == "finetune")
    assert len(trained_fits(plan)) == 7


def test_a_replica_of_a_merge_is_a_merge_of_replicas(tmp_path: Path) -> None:
    method = {"stock": {"kind": "model_stock", "tuned": "wise_ft"}}
    plan = make_plan(tiny(tmp_path, runs=[{"methods": ["stock"], "downstream": ["whole"]}], method=method))
    wise = next(run.fit for run in plan.runs if run.method == "stock").ingredients
    assert [fit.ingredients[0].replica for fit in wise] == [None, 1]
    assert wise[0].key != wise[1].key


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"kind": "diwa", "tuned": "wise_ft"}, "'wise_ft' has no rate of its own"),
        ({"kind": "model_stock", "tuned": "diwa_uniform"}, "trains several times"),
        ({"kind": "model_stock", "tuned": "ties"}, "cannot be an ingredient"),
        ({"kind": "lines", "choose": {"alpha": 0.5}}, "choose is a table of lists"),
        ({"kind": "lines", "choose": {"alfa": [0.5, 1.0]}}, "alfa"),
        ({"kind": "lines", "choose": {"alpha": [0.5, 2.0]}}, "2"),
        ({"kind": "rib.methods.regmean:InputGram"}, "only an ingredient of other methods"),
    ],
)
def test_what_cannot_be_merged_is_said_when_it_is_planned(method: dict[str, Any], words: str, tmp_path: Path) -> None:
    suite = tiny(tmp_path, runs=[{"methods": ["mine"]}], method={"mine": method})
    with pytest.raises(UserError, match=words):
        make_plan(suite)


# -- choose ------------------------------------------------------------------------------------------------------------


def test_a_chosen_strength_is_that_of_wise_ft_held_out(tmp_path: Path) -> None:
    """One shape: a fixed value, `sweep` for all values, `choose` for the best on held-out images."""
    tenths = [step / 10 for step in range(11)]
    suite = tiny(
        tmp_path,
        runs=[{"methods": ["wise_ft_held_out", "wise", "lines_chosen", "l2"], "downstream": ["whole"]}],
        method={
            "wise": {"kind": "wise_ft", "choose": {"alpha": tenths}},
            "lines_chosen": {"kind": "lines", "choose": {"alpha": [0.0, 1.0]}},
            "l2": {"kind": "l2_sp", "choose": {"strength": [0.0, 0.1]}},
        },
    )
    plan = make_plan(suite)
    fits = {run.method: run.fit for run in plan.runs}
    assert fits["wise"].ingredients == fits["wise_ft_held_out"].ingredients  # nothing is trained or stored for a value
    assert [fit.method.name for fit in fits["l2"].ingredients] == ["l2_sp", "l2_sp"]
    candidates = settings_json(plan)["methods"]["l2"]["candidates"]
    assert [one["strength"] for one in candidates] == [0.0, 0.1]
    assert method_words(plan)["l2"] == "chosen on held-out images: strength=0, strength=0.1"
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    assert not finished.failed
    shop = Workshop(suite, Store(tmp_path / "store"), How(device="cpu"), lambda *_: None)
    assert same_weights(shop.weights(fits["wise"]), shop.weights(fits["wise_ft_held_out"]))
    notes = {note.method: note.values for note in finished.results.notes}
    assert notes["wise"]["chosen"] == f"alpha={notes['wise_ft_held_out']['chosen_alpha']:g}"
    assert notes["l2"]["chosen"] in ("strength=0", "strength=0.1")


# -- leave-one-out merging ---------------------------------------------------------------------------------------------

THREE = {"downstream": ["whole", "part", "other"]}


def merging(folder: Path, *methods: str, **fields: Any) -> dict[str, Any]:
    return document(folder, **({"runs": [], "merges": [{"methods": list(methods)}]} | THREE | fields))


def test_each_set_is_scored_by_a_merge_of_the_others(tmp_path: Path) -> None:
    plan = make_plan(parse_suite(merging(tmp_path, "task_arithmetic", "fisher")).based_at(tmp_path))
    assert [(merge.method, merge.left_out, merge.of) for merge in plan.merges] == [
        (method, left, tuple(name for name in THREE["downstream"] if name != left))
        for left in THREE["downstream"]
        for method in ("task_arithmetic", "fisher")
    ]
    for merge in plan.merges:
        assert merge.left_out not in {data.name for data in merge.fit.sets}
        assert merge.score.data.name == merge.left_out
        assert set(merge.others) == {*merge.of, "clean"}
        assert [single.fit.tuned_on.name for single in merge.singles.values() if single.fit.tuned_on] == list(merge.of)
        assert merge.fit.tuned_on is None
    assert len({step.key for step in trained_fits(plan) if step.method.name == "finetune"}) == 3


@pytest.mark.parametrize("method", sorted(MERGES))
@pytest.mark.parametrize("family", ["resnet", "vit", "text"])
def test_every_merge_runs(method: str, family: str, tmp_path: Path) -> None:
    suite = tiny(tmp_path, (family,), runs=[], merges=[{"methods": [method]}], **THREE)
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    assert not finished.failed
    plan = finished.results.plan
    shop = Workshop(suite, Store(tmp_path / "store"), How(device="cpu"), lambda *_: None)
    for merge in plan.merges:
        weights = shop.weights(merge.fit)
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        assert not same_weights(weights, shop.weights(merge.fit.start))
        made = merge.fit.method
        assert isinstance(made, SetMerge)
        fitted = [shop.weights(part) for part in merge.fit.ingredients]
        again = made.combine(
            shop.weights(merge.fit.start), fitted, MergeContext(merge.fit.architecture, merge.fit.seed)
        )
        assert same_weights(weights, again)
        assert shop.store.record(merge.fit.key) is not None


def test_the_mean_of_two_trained_models_is_scored(tmp_path: Path) -> None:
    """The numbers of the records are those of weights that are merged by hand."""
    method = {"middle": {"kind": "task_arithmetic", "scale": "mean"}}
    suite = tiny(tmp_path, runs=[], merges=[{"methods": ["middle"]}], method=method, **THREE)
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    shop = Workshop(suite, Store(tmp_path / "store"), How(device="cpu"), lambda *_: None)
    merge = finished.results.plan.merges[0]
    models = [shop.weights(part) for part in merge.fit.ingredients]
    net = classifier("resnet")
    mean = {
        name: (models[0][name] + models[1][name]) / 2 if value.is_floating_point() else value
        for name, value in models[1].items()
    }
    net.net.load_state_dict(mean)
    pool = shop.examples(merge.score.data, merge.fit.architecture.view)
    with torch.no_grad():
        answers = merge.score.data.label_map.mask(net.eval()(torch.from_numpy(pool.batch(slice(None))))).argmax(1)
    right = float((answers.numpy() == pool.labels).mean())
    found = finished.results.accuracies.of_step(merge.score)
    assert found is not None
    assert found.value == pytest.approx(100 * right)


# -- leaks -------------------------------------------------------------------------------------------------------------


def test_sets_of_the_family_of_the_one_left_out_are_left_out_too(tmp_path: Path) -> None:
    fields = merging(tmp_path, "ties", downstream=["whole", "part", "other", "twin"])
    write_arrays(tmp_path / "twin.npz", 2, CLASSES, 12, 20.0)  # the pictures of `whole` with less noise
    fields["data"]["twin"] = {"arrays": "twin.npz", "test_fraction": 0.5, "family": "whole"}
    fields["data"]["whole"]["family"] = "whole"
    plan = make_plan(parse_suite(fields).based_at(tmp_path))
    of = {merge.left_out: merge.of for merge in plan.merges}
    assert of["whole"] == of["twin"] == ("part", "other")
    assert of["part"] == ("whole", "other", "twin")


def test_too_few_sets_of_other_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only 1 model can be merged to be scored on 'whole'"):
        make_plan(parse_suite(merging(tmp_path, "ties", downstream=["whole", "part"])).based_at(tmp_path))


class Nested(SetMerge):
    """A user's merge whose ingredients have ingredients of their own."""

    name: ClassVar[str] = "nested"

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        return ("stock",)

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        return {name: models[0][name] - start[name] for name in start}


def leaky(plan: Plan, left: str, depth: int) -> Fit:
    """A merge that has a model tuned on the set left out as an ingredient, or as one of an ingredient of its own."""
    seen = next(fit for fit in trained_fits(plan) if fit.data and fit.data.name == left)
    fit = next(merge.fit for merge in plan.merges if merge.left_out == left)
    for _ in range(depth):
        seen = Fit(seen.start, METHODS.classes["wise_ft"](), None, None, 0.0, None, None, (seen,))
    return Fit(fit.start, fit.method, None, None, 0.0, None, None, (*fit.ingredients, seen))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_merge_that_saw_the_set_it_is_scored_on_is_refused(depth: int, tmp_path: Path) -> None:
    plan = make_plan(parse_suite(merging(tmp_path, "ties")).based_at(tmp_path))
    for merge in plan.merges:
        require_unseen(plan.world, merge.fit, merge.left_out)
    with pytest.raises(UserError, match=r"saw: ties .* on 'part'(.|\n)*finetune .* on part.*tuned on 'part'"):
        require_unseen(plan.world, leaky(plan, "part", depth), "part")


def test_a_merge_that_saw_the_family_or_the_images_of_the_set_is_refused(tmp_path: Path) -> None:
    fields = merging(tmp_path, "ties", downstream=["whole", "part", "other", "twin"])
    write_arrays(tmp_path / "twin.npz", 2, CLASSES, 12, 20.0)
    fields["data"]["twin"] = {"arrays": "twin.npz", "test_fraction": 0.5, "family": "whole"}
    fields["data"]["whole"]["family"] = "whole"
    plan = make_plan(parse_suite(fields).based_at(tmp_path))
    part = next(merge.fit for merge in plan.merges if merge.left_out == "part")  # merges whole, other and twin
    for tested in ("whole", "twin"):
        alone = Fit(part.start, part.method, None, None, 0.0, None, None, part.ingredients[:2])
        with pytest.raises(UserError, match="tuned on 'whole'"):
            require_unseen(plan.world, alone, tested)
    require_unseen(plan.world, part, "part")


def test_a_set_under_two_names_is_refused(tmp_path: Path) -> None:
    """A merge would be tuned on it by one name and scored by the other."""
    fields = merging(tmp_path, "ties", downstream=["whole", "part", "other", "twin"])
    write_arrays(tmp_path / "twin.npz", 2, CLASSES, 12, 70.0)  # the pictures of `whole`
    fields["data"]["twin"] = {"arrays": "twin.npz", "test_fraction": 0.5}
    with pytest.raises(UserError, match=r"'(whole|twin)'"):
        make_plan(parse_suite(fields).based_at(tmp_path))


def test_ingredients_of_ingredients_see_the_sets_of_the_merge_alone(tmp_path: Path) -> None:
    method = {"nested": {"kind": f"{__name__}:Nested"}, "stock": {"kind": "soup", "members": ["wise_ft", "lp_ft"]}}
    plan = make_plan(parse_suite(merging(tmp_path, "nested", method=method)).based_at(tmp_path))
    for merge in plan.merges:
        assert tuple(data.name for data in merge.fit.sets) == merge.of


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"merges": [{"methods": ["finetune"]}]}, r"'finetune' tunes on one set(.|\n)*\[\[runs\]\]"),
        (
            {"runs": [{"methods": ["ties"]}], "merges": []},
            r"'ties' merges models tuned(.|\n)*\[\[merges\]\]",
        ),
        ({"method": {"ties": {"choose": {"scale": [0.5, 1.0]}}}}, "choose takes held-out images of the one set"),
        ({"method": {"ties": {"tuned": "dare"}}}, "cannot be an ingredient"),
        ({"method": {"ties": {"density": 0.0}}}, "density"),
        (
            {"method": {"ties": {"tuned": "adapter"}}},
            "weights of 'adapter', which are of another net",
        ),
        ({"method": {"ties": {"tuned": "pretrained"}}}, "'ties' merges models that no data set tuned"),
    ],
)
def test_a_merge_in_the_wrong_place_is_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        make_plan(parse_suite(merging(tmp_path, "ties", **fields)).based_at(tmp_path))


@pytest.mark.parametrize("block", [{"downstream": ["clean"]}, {"models": ["nobody"]}])
def test_a_merge_of_unknown_names_is_refused(block: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"merges: (downstream|models) '(clean|nobody)' is not among"):
        parse_suite(merging(tmp_path, merges=[{"methods": ["ties"]} | block]))
