"""The training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rib.data.feed import fed, placed
from rib.data.splits import named_seed
from rib.errors import DivergedError
from rib.models.classifier import Classifier
from rib.models.compiled import compiled
from rib.models.layers import watched
from rib.models.weights import first_not_finite
from rib.recipe import Recipe
from rib.training.checkpoint import Checkpoint
from rib.training.hooks import ReplayBatch
from rib.training.outcome import Outcome, is_diverged
from rib.training.predict import Watch, autocast, collect
from rib.training.schedule import Schedule
from rib.training.statistics import estimate_statistics, put_statistics, take_statistics
from rib.training.training import Training


@dataclass
class _State:
    """The state of a run between epochs."""

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    rights: list[float] = field(default_factory=list)
    began: float = math.nan


def train(
    classifier: Classifier, training: Training, checkpoint: Checkpoint | None = None, watch: Watch | None = None
) -> Outcome:
    """Train a classifier in place.

    The data order of an epoch and torch's random state in it depend only on the seed and the number of the epoch. So a
    run that resumes from the checkpoint of any epoch equals an uninterrupted one.

    Args:
        classifier: on the device to use; its `net` is changed.
        training: examples, recipe and terms of the loss.
        checkpoint: stores the state; the training resumes from it.
        watch: called with the number of images.

    Raises:
        DivergedError: the loss or a weight is NaN or infinite.
        StepError: the recipe has `compile`, but the net cannot be compiled on this machine.
    """
    loop = _Loop(classifier, training)
    state = _resume(loop, checkpoint)
    if watch:
        watch(loop.images(state.epoch))
    with torch.random.fork_rng(devices=[]), compiled(classifier.net, loop.compile):
        while not loop.schedule.is_over(state.epoch):
            loss, right, began = loop.epoch(state.epoch, watch)
            state.rights.append(right)
            state.began = state.began if state.losses else began
            state.losses.append(loss)
            state.epoch += 1
            _require_finite(state.losses, loop.modules)
            if checkpoint and not loop.schedule.is_over(state.epoch):
                checkpoint.save(lambda: _snapshot(loop, state))
    loop.settle()
    return _outcome(loop, state)


def _outcome(loop: _Loop, state: _State) -> Outcome:
    training, labels, classes = loop.training, loop.training.examples.labels, None
    if training.objective is None:
        chance: float | None = 100 * float(np.bincount(labels).max()) / len(labels)
        classes = len(training.label_map.groups)
    else:
        chance = training.objective.chance(torch.from_numpy(labels), max(loop.schedule.sizes))
    diverged = is_diverged(state.losses, state.began, classes)
    return Outcome(tuple(state.losses), tuple(state.rights), diverged, chance, loop.schedule.seen(state.epoch - 1))


class _Loop:
    """One epoch at a time, over the inputs or over frozen features."""

    def __init__(self, classifier: Classifier, training: Training) -> None:
        self.classifier, self.training = classifier, training
        examples, recipe, trainable = training.examples, training.recipe, training.trainable
        self.modules: dict[str, nn.Module] = {"net": classifier.net}
        if training.objective is not None:
            self.modules["objective"] = training.objective
        self.device = classifier.device
        self.labels = torch.from_numpy(examples.labels).to(self.device)
        self.head_alone = trainable == classifier.head_parameters
        classifier.contiguous = trainable is not None and not self.head_alone
        for name, parameter in classifier.net.named_parameters():
            parameter.requires_grad_((trainable is None or name in trainable) and name not in classifier.frozen)
        self.factors, groups = _groups(self.modules, training.rates or {})
        self.optimizer = _optimizer(groups, recipe)
        keeps = self.head_alone or recipe.batchnorm == "freeze"
        self.norms = frozenset() if keeps else classifier.batch_norms(trainable)
        self.pretrained = take_statistics(classifier.net) if recipe.batchnorm == "pretrained" else {}
        one = training.objective is not None and recipe.leaves_one(len(examples))  # which no objective can use
        merged = bool(self.norms) or one
        self.schedule = Schedule(
            examples.labels, recipe, training.seed, training.stages, merged, training.hold, training.stop
        )
        if training.hook is not None:
            training.hook.total = self.schedule.total
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.features = None
        if self.head_alone and classifier.direct:
            self.features = self._frozen_features() if training.features is None else training.features
        inside = self.head_alone or training.objective is not None or training.feature_term is not None
        self.compile = None if inside else recipe.compile  # these read inside the net

    def _frozen_features(self) -> Tensor:
        """Features of the frozen backbone, computed once, if only the head is trained."""
        examples, size = self.training.examples, self.training.recipe.eval_batch_size
        with torch.inference_mode(False):
            features = collect(self.classifier, self.classifier.features, examples, size)
        return features.clone().to(self.device)

    def epoch(self, number: int, watch: Watch | None) -> tuple[float, float, float]:
        """Mean loss and percent right over the epoch, and the loss of its first batch."""
        self._set_mode()
        torch.manual_seed(named_seed("torch state", self.training.seed, number))
        loss_sum = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        began = loss_sum
        seen = 0
        for (step, rows, batch), more in zip(self._batches(number), self._replayed(number), strict=True):
            loss, hits = self._step(step, rows, batch, more)
            began = began if seen else loss
            loss_sum += loss * len(rows)
            right += hits
            seen += len(rows)
            if watch:
                watch(self.passes * (len(rows) + (len(more.labels) if more else 0)))
        return float(loss_sum) / seen, 100 * float(right) / seen, float(began)

    @property
    def passes(self) -> int:
        """Forward and backward passes of an image in a step."""
        return 1 if self.training.second_pass is None else 2

    def images(self, epochs: int) -> int:
        """Number of image passes in the first epochs."""
        tuned, replay = self.schedule.images(epochs), self.training.replay
        return self.passes * (tuned + (replay.count(tuned) if replay else 0))

    def settle(self) -> None:
        """After all epochs: the last changes of hook and objective, then the recipe's rule for BatchNorm statistics."""
        if self.training.hook is not None:
            with torch.no_grad():
                self.training.hook.finish(self.classifier.net)
        if self.training.objective is not None:
            with torch.no_grad():
                self.training.objective.finish(self.classifier)
        put_statistics(self.classifier.net, self.pretrained)
        if self.training.recipe.batchnorm == "reestimate" and self.norms:
            with autocast(self.device, self.training.recipe.precision):
                estimate_statistics(self.classifier, self.training, self.norms)

    def _set_mode(self) -> None:
        """Switch to training mode, except for frozen parts."""
        self.classifier.train(not self.head_alone)
        for module in self.classifier.net.modules():
            if isinstance(module, _BatchNorm):
                module.train(module in self.norms)

    def _batches(self, epoch: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Number, examples and inputs of every step; no inputs if features replace them."""
        order, steps, sizes = self.schedule.order(epoch), self.schedule.steps(epoch), self.schedule.sizes
        wanted = np.split(order, np.cumsum(sizes)[:-1])[: len(steps)]
        known = self.features is not None
        inputs = itertools.repeat(None, len(steps)) if known else fed(self.training.examples, wanted, self.device)
        on_device = placed(order, self.device).split(sizes)[: len(steps)]
        yield from zip(steps, on_device, inputs, strict=True)

    def _replayed(self, epoch: int) -> Iterator[ReplayBatch | None]:
        """The reference images of every step."""
        replay, steps = self.training.replay, self.schedule.steps(epoch)
        if replay is None:
            return itertools.repeat(None, len(steps))
        return replay.batches(self.schedule.images(epoch), self.schedule.sizes[: len(steps)], epoch, self.device)

    def _step(self, step: int, rows: Tensor, batch: Tensor | None, more: ReplayBatch | None) -> tuple[Tensor, Tensor]:
        for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
            group["lr"] = factor * self.schedule.lr(step)
        reported, right = self._backward(rows, batch, more)
        if self.training.second_pass is not None:
            statistics = take_statistics(self.classifier.net)
            move_back = self.training.second_pass(self.classifier.net)
            self._backward(rows, batch, more)
            move_back()
            put_statistics(self.classifier.net, statistics)
        self._update(step)
        return reported, right

    def _backward(self, rows: Tensor, batch: Tensor | None, more: ReplayBatch | None) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a batch; they stay in the parameters."""
        with autocast(self.device, self.training.recipe.precision):
            loss, reported, right = self._loss(rows, batch, more)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        return reported.detach().float(), right

    def _update(self, step: int) -> None:
        """Apply the optimizer to the current gradients."""
        training, net = self.training, self.classifier.net
        if training.pull is not None or training.hook is not None:
            self.scaler.unscale_(self.optimizer)
        if training.pull is not None:
            training.pull.add_to(net)
        hook = training.hook if training.hook and not (self.scaler.is_enabled() and _overflows(net)) else None
        with torch.no_grad():
            if hook:
                hook.gradients(net, step)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if hook:
                hook.weights(net, step)

    def _loss(self, rows: Tensor, batch: Tensor | None, more: ReplayBatch | None) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reported loss and hits of a batch, by the cross-entropy or by the pretraining objective."""
        training, labels = self.training, self.labels[rows]
        if training.objective is not None:
            assert batch is not None
            reads_tokens = training.objective.reads_tokens
            reading = self.classifier.hidden if reads_tokens else self.classifier.features
            loss, right = training.objective(reading, batch, labels)
            return loss, loss, right
        if more is not None and more.inputs is not None:
            assert batch is not None
            batch = torch.cat([batch, more.inputs])
        smoothing, count = training.recipe.label_smoothing, len(rows)
        output, features = self._forward(rows, batch)
        logits = training.label_map.mask(output[:count])
        entropy = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss = entropy
        if training.replay is not None and more is not None and len(more.labels):
            of_reference = training.replay.label_map.mask(output[count:])
            other = F.cross_entropy(of_reference, more.labels, label_smoothing=smoothing)
            loss = (count * entropy + len(more.labels) * other) / len(output)
        for term in self._terms(logits, {name: seen[:count] for name, seen in features.items()}, rows):
            loss = loss + term
        return loss, entropy, (logits.detach().argmax(dim=1) == labels).sum()

    def _terms(self, logits: Tensor, features: dict[str, Tensor], rows: Tensor) -> Iterator[Tensor]:
        """The terms that a method adds to the cross-entropy."""
        training, net = self.training, self.classifier.net
        if training.penalty is not None:
            yield training.penalty(net, logits, rows)
        if training.feature_term is not None:
            yield training.feature_term(features, rows)
        if training.hook is not None and (term := training.hook.loss(net, logits, rows)) is not None:
            yield term

    def _forward(self, rows: Tensor, batch: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the outputs of the layers that a term of the loss reads."""
        features: dict[str, Tensor] = {}
        if self.features is not None:
            return self.classifier.head(self.features[rows]), features
        if self.training.feature_term is None:
            return self.classifier(batch), features

        def see(name: str, output: Tensor) -> None:
            features.setdefault(name, output)

        with watched(self.classifier, self.training.feature_term.layers, see):
            return self.classifier(batch), features


def _groups(
    modules: Mapping[str, nn.Module], rates: Mapping[str, float]
) -> tuple[list[float], list[list[nn.Parameter]]]:
    """The factors of the learning rate, and the parameters that are trained with each."""
    groups: dict[float, list[nn.Parameter]] = {}
    for place, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(rates.get(name, 1.0) if place == "net" else 1.0, []).append(parameter)
    return list(groups), list(groups.values())


def _overflows(net: nn.Module) -> bool:
    """Whether a gradient is not finite."""
    return any(not value.grad.isfinite().all() for value in net.parameters() if value.grad is not None)


def _optimizer(groups: Sequence[list[nn.Parameter]], recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [{"params": group} for group in groups]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _require_finite(losses: Sequence[float], modules: Mapping[str, nn.Module]) -> None:
    faults = (first_not_finite(module.state_dict()) for module in modules.values())
    bad = "the loss" if not math.isfinite(losses[-1]) else next(filter(None, faults), None)
    if bad:
        last = ", ".join(f"{loss:.3g}" for loss in losses[-3:])
        raise DivergedError(
            f"training diverged: {bad} is no longer finite after epoch {len(losses)} (losses {last}); "
            "try a lower learning rate"
        )


def _snapshot(loop: _Loop, state: _State) -> dict[str, Any]:
    return {
        "epoch": state.epoch,
        "losses": state.losses,
        "rights": state.rights,
        "began": state.began,
        **{name: module.state_dict() for name, module in loop.modules.items()},
        "optimizer": loop.optimizer.state_dict(),
        "scaler": loop.scaler.state_dict(),
        **({"hook": loop.training.hook.state} if loop.training.hook else {}),
    }


def _resume(loop: _Loop, checkpoint: Checkpoint | None) -> _State:
    kept = checkpoint.load() if checkpoint else None
    if kept is None or "rights" not in kept:  # older versions stored no accuracy per epoch: start again
        return _State()
    if loop.training.hook is not None:
        loop.training.hook.state.update({name: value.to(loop.device) for name, value in kept["hook"].items()})
    for name, module in loop.modules.items():
        module.load_state_dict(kept[name])
    loop.optimizer.load_state_dict(kept["optimizer"])
    if kept["scaler"]:
        loop.scaler.load_state_dict(kept["scaler"])
    return _State(kept["epoch"], list(kept["losses"]), list(kept["rights"]), kept["began"])
