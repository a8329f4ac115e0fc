"""Training: the one loop that changes weights."""

from __future__ import annotations

import itertools
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rib.data.examples import Examples
from rib.data.feed import fed, placed
from rib.data.labels import LabelMap
from rib.data.splits import Rows, named_generator, named_seed
from rib.errors import DivergedError
from rib.files import is_stamped, plain, stamp, written_aside
from rib.models.classifier import Classifier
from rib.models.compiled import compiled
from rib.models.weights import first_not_finite
from rib.objectives.base import Loss
from rib.prediction import Watch, autocast, collect
from rib.recipe import Recipe

DIVERGED = 1.1
"""A run has diverged when its loss ends above this many times the larger of its first epoch's and a uniform guess's,"""

EXPLODED = 3.0
"""or above this many times the larger of its first batch's, before any step, and a uniform guess's."""

AT_CHANCE = 0.05
"""A run ends at chance unless guessing the most frequent class would do as well with a probability below this."""


class Penalty(Protocol):
    """A term added to the cross-entropy of a batch."""

    def __call__(self, net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        """The term, a scalar.

        Args:
            net: the module in training, with its parameters as they are.
            logits: its masked logits on the batch, (n, classes of the data set).
            rows: int64 (n,), which examples of the tuning set are in the batch, on the device of the training.
        """
        ...


@dataclass(frozen=True)
class Pull:
    """A quadratic term strength · Σ F (θ - θ0)² of the loss, added as its gradient 2 · strength · F (θ - θ0).

    It does not go through autograd: that would keep and walk a graph as large as the weights at every step.

    Attributes:
        strength: of the pull.
        anchor: θ0 by the name of the parameter, on the device of the training; what is not named is not pulled.
        weight: F by name, where it is not one everywhere.
    """

    strength: float
    anchor: Mapping[str, Tensor]
    weight: Mapping[str, Tensor] | None = None

    @torch.no_grad()
    def add_to(self, net: nn.Module) -> None:
        """Add its gradient to the gradients of the parameters, wherever there is one."""
        pulled = [(n, v) for n, v in net.named_parameters() if v.grad is not None and n in self.anchor]
        if not pulled:
            return
        gradients = [value.grad for _, value in pulled if value.grad is not None]
        change = torch._foreach_sub([value for _, value in pulled], [self.anchor[name] for name, _ in pulled])
        if self.weight is not None:
            torch._foreach_mul_(change, [self.weight[name] for name, _ in pulled])
        torch._foreach_add_(gradients, change, alpha=2 * self.strength)


class Checkpoint(Protocol):
    """Where a run leaves its state after an epoch."""

    def load(self) -> dict[str, Any] | None: ...

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep a state; the callable is called only when the time for a checkpoint has come."""


@dataclass(frozen=True)
class Outcome:
    """How a run went. Losses are the mean over an epoch of the cross-entropy without penalty, or of the objective.

    Attributes:
        losses: one an epoch.
        accuracies: percent of the tuning set that was right, or matched right, during each epoch.
        diverged: whether the last epoch's loss is well above where it began and that of a uniform guess.
        chance: percent of the tuning set that its most frequent class has; None for an objective.
        seen: images of the last epoch.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    diverged: bool
    chance: float | None
    seen: int

    @property
    def accuracy(self) -> float:
        """That of the last epoch."""
        return self.accuracies[-1]

    @property
    def at_chance(self) -> bool:
        """Whether the last epoch's accuracy is not above chance: see `is_at_chance`."""
        return self.chance is not None and is_at_chance(self.accuracy, self.chance, self.seen)

    @property
    def values(self) -> dict[str, float]:
        """For a record: last loss and accuracy, and `chance` and `at_chance` (0 or 1) where classes are told."""
        found = {"last_loss": self.losses[-1], "tuning_accuracy": self.accuracy}
        return found if self.chance is None else found | {"chance": self.chance, "at_chance": float(self.at_chance)}


def is_at_chance(accuracy: float, chance: float, count: int) -> bool:
    """Whether an accuracy is no evidence of more than always naming the most frequent class.

    It is where the number of images that are right lies within the lower 95 % of what a binomial draw with the chance
    gives, P(X >= right) > 0.05. With one class alone there is nothing to tell.

    Args:
        accuracy: in percent.
        chance: share of the most frequent class, in percent.
        count: images.
    """
    if not 0 < chance < 100 or not count:
        return False
    from scipy.stats import binom  # takes half a second

    right = round(accuracy * count / 100)
    return float(binom.sf(right - 1, count, chance / 100)) > AT_CHANCE


@dataclass
class _State:
    """What a run carries from epoch to epoch."""

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    rights: list[float] = field(default_factory=list)
    began: float = math.nan


def train(
    classifier: Classifier,
    examples: Examples,
    label_map: LabelMap,
    recipe: Recipe,
    *,
    seed: int,
    trainable: frozenset[str] | None = None,
    penalty: Penalty | None = None,
    pull: Pull | None = None,
    objective: Loss | None = None,
    stages: Sequence[float] = (1.0,),
    features: Tensor | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Minimise the cross-entropy of masked logits, plus a penalty, or else an objective, in place.

    The data order of an epoch, and torch's own random state within it, depend on `seed` and the epoch's number
    alone: a run resumed from any epoch's checkpoint equals an uninterrupted one.

    Args:
        classifier: on the device that is to be used; its `net` is changed.
        examples: the tuning set.
        label_map: of the tuning set.
        recipe: optimizer, schedule, precision.
        seed: of everything random.
        trainable: names of the parameters that may change; None for all. A BatchNorm whose parameters may not change
            uses and keeps its statistics; with the head alone, the whole net stays in evaluation mode. What the net's
            author has frozen stays frozen.
        penalty: a further term of the cross-entropy.
        pull: a further term on the weights.
        objective: takes the place of the cross-entropy; on the same device, and trained too.
        stages: in equal parts of the run, batches come from this share of the tuning set, its first examples.
        features: what the head sees of the examples, float32 (N, D) on the device, for a head that is trained alone;
            computed where it is not given.
        checkpoint: where to resume from and where to leave the state.
        watch: told of progress in images.

    Raises:
        DivergedError: the loss or a weight is no longer finite.
        StepError: the recipe says `compile`, and the net cannot be compiled on this machine.
    """
    loop = _Loop(classifier, examples, label_map, recipe, seed, trainable, penalty, pull, objective, stages, features)
    state = _resume(loop, checkpoint)
    if watch:
        watch(loop.images(min(state.epoch * loop.per_epoch, loop.total)))
    with torch.random.fork_rng(devices=[]), compiled(classifier.net, loop.compile):
        while state.epoch * loop.per_epoch < loop.total:
            loss, right, began = loop.epoch(state.epoch, watch)
            state.rights.append(right)
            state.began = state.began if state.losses else began
            state.losses.append(loss)
            state.epoch += 1
            _require_finite(state.losses, loop.modules)
            if checkpoint and state.epoch * loop.per_epoch < loop.total:
                checkpoint.save(lambda: _snapshot(loop, state))
    uniform = math.log(max(2, len(label_map.groups))) if objective is None else 0.0
    limit = min(DIVERGED * max(uniform, state.losses[0]), EXPLODED * max(uniform, state.began))
    chance = None if objective is not None else 100 * float(np.bincount(examples.labels).max()) / len(examples)
    return Outcome(
        tuple(state.losses), tuple(state.rights), state.losses[-1] > limit, chance, loop.seen(state.epoch - 1)
    )


class _Loop:
    """One epoch at a time, over pixels or over frozen features."""

    def __init__(
        self,
        classifier: Classifier,
        examples: Examples,
        label_map: LabelMap,
        recipe: Recipe,
        seed: int,
        trainable: frozenset[str] | None,
        penalty: Penalty | None,
        pull: Pull | None,
        objective: Loss | None,
        stages: Sequence[float],
        features: Tensor | None,
    ) -> None:
        self.classifier, self.examples, self.label_map = classifier, examples, label_map
        self.recipe, self.seed = recipe, seed
        self.penalty, self.pull, self.objective = penalty, pull, objective
        self.prefixes = prefixes(examples.labels, stages)
        self.modules: dict[str, nn.Module] = {"net": classifier.net}
        if objective is not None:
            self.modules["objective"] = objective
        self.device = classifier.mean.device
        self.labels = torch.from_numpy(examples.labels).to(self.device)
        self.trainable = trainable
        self.head_alone = trainable == classifier.head_parameters
        classifier.contiguous = trainable is not None and not self.head_alone
        for name, parameter in classifier.net.named_parameters():
            parameter.requires_grad_((trainable is None or name in trainable) and name not in classifier.frozen)
        everything = (parameter for module in self.modules.values() for parameter in module.parameters())
        self.parameters = [parameter for parameter in everything if parameter.requires_grad]
        self.optimizer = _optimizer(self.parameters, recipe)
        self.norms = frozenset() if self.head_alone else classifier.batch_norms(trainable)
        merged = bool(self.norms) or objective is not None  # a batch of one has nothing to compare with, either
        self.sizes = recipe.batches(len(examples), merged)
        self.per_epoch, self.total = len(self.sizes), recipe.total_steps(len(examples), merged)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.features = None
        if self.head_alone and classifier.direct:
            self.features = self._frozen_features() if features is None else features
        whole = not self.head_alone and objective is None  # heads alone, and objectives, look inside the net
        self.compile = recipe.compile if whole else None

    def _frozen_features(self) -> Tensor:
        """A head alone is trained on features that are computed once: they cannot change."""
        with torch.inference_mode(False):
            features = collect(self.classifier, self.classifier.features, self.examples, self.recipe.eval_batch_size)
        return features.clone().to(self.device)

    def images(self, steps: int) -> int:
        """How many images the first so many steps see."""
        whole, rest = divmod(steps, self.per_epoch)
        return whole * sum(self.sizes) + sum(self.sizes[:rest])

    def epoch(self, number: int, watch: Watch | None) -> tuple[float, float, float]:
        """Mean loss and percent right over the epoch, and the loss of its first batch."""
        self._set_mode()
        torch.manual_seed(named_seed("torch state", self.seed, number))
        loss_sum = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        began = loss_sum
        seen = 0
        for step, rows, images in self._batches(number):
            loss, hits = self._step(step, rows, images)
            began = began if seen else loss
            loss_sum += loss * len(rows)
            right += hits
            seen += len(rows)
            if watch:
                watch(len(rows))
        return float(loss_sum) / seen, 100 * float(right) / seen, float(began)

    def seen(self, epoch: int) -> int:
        """Number of images that an epoch has."""
        return sum(self.sizes[: self.total - epoch * self.per_epoch])

    def _set_mode(self) -> None:
        """Training mode, less what is frozen."""
        self.classifier.train(not self.head_alone)
        for module in self.classifier.net.modules():
            if isinstance(module, _BatchNorm):
                module.train(module in self.norms)

    def _batches(self, epoch: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Number, examples and images of every step; no images where features stand for them."""
        order, first = self._order(epoch), epoch * self.per_epoch
        steps = range(first, min(first + self.per_epoch, self.total))
        wanted = np.split(order, np.cumsum(self.sizes)[:-1])[: len(steps)]
        known = self.features is not None
        images = itertools.repeat(None, len(steps)) if known else fed(self.examples, wanted, self.device)
        on_device = placed(order, self.device).split(self.sizes)[: len(steps)]
        yield from zip(steps, on_device, images, strict=True)

    def _order(self, epoch: int) -> Rows:
        """The examples of an epoch, as many as there are, in its order; of a prefix each comes round several times."""
        generator = named_generator("shuffle", self.seed, epoch)
        drawn = []
        steps = range(epoch * self.per_epoch, (epoch + 1) * self.per_epoch)
        for prefix, group in itertools.groupby(steps, self._prefix):
            wanted = sum(self.sizes[step % self.per_epoch] for step in group)
            rounds = [generator.permutation(prefix) for _ in range(-(-wanted // prefix))]
            drawn.append(np.concatenate(rounds)[:wanted])
        return np.concatenate(drawn)

    def _prefix(self, step: int) -> int:
        """How many of the first examples a step may draw."""
        return self.prefixes[min(step * len(self.prefixes) // self.total, len(self.prefixes) - 1)]

    def _step(self, step: int, rows: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * rate(step, self.recipe.warmup(self.total), self.total)
        with autocast(self.device, self.recipe.precision):
            loss, told, right = self._objective(rows, images) if self.objective else self._cross_entropy(rows, images)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.pull is not None:
            self.scaler.unscale_(self.optimizer)
            self.pull.add_to(self.classifier.net)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return told.detach().float(), right

    def _cross_entropy(self, rows: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised, what of it is told, and how many are right."""
        labels = self.labels[rows]
        logits = self.label_map.mask(self._forward(rows, images))
        entropy = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        loss = entropy + self.penalty(self.classifier.net, logits, rows) if self.penalty else entropy
        return loss, entropy, (logits.detach().argmax(dim=1) == labels).sum()

    def _objective(self, rows: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise."""
        assert self.objective is not None
        assert images is not None
        loss, right = self.objective(self.classifier.features, images, self.labels[rows])
        return loss, loss, right

    def _forward(self, rows: Tensor, images: Tensor | None) -> Tensor:
        if self.features is not None:
            logits: Tensor = self.classifier.head(self.features[rows])
            return logits
        return self.classifier(images)


def prefixes(labels: Rows, stages: Sequence[float]) -> tuple[int, ...]:
    """How many examples each stage has: its share of them, but no fewer than one a class.

    Args:
        labels: int64 (N,), in an order of which every prefix is balanced.
        stages: shares in (0, 1].
    """
    fewest = len(np.unique(labels))
    return tuple(min(max(round(share * len(labels)), fewest), len(labels)) for share in stages)


def rate(step: int, warmup: int, total: int) -> float:
    """The factor of the peak learning rate at a step, counted from 0.

    Linear over the warm-up, (step + 1) / warmup, then half a cosine to 0. A run no longer than its warm-up never
    decays.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _require_finite(losses: Sequence[float], modules: Mapping[str, nn.Module]) -> None:
    found = (first_not_finite(module.state_dict()) for module in modules.values())
    bad = "the loss" if not math.isfinite(losses[-1]) else next(filter(None, found), None)
    if bad:
        told = ", ".join(f"{loss:.3g}" for loss in losses[-3:])
        raise DivergedError(
            f"training diverged: {bad} is no longer finite after epoch {len(losses)} (losses {told}); "
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
    }


def _resume(loop: _Loop, checkpoint: Checkpoint | None) -> _State:
    kept = checkpoint.load() if checkpoint else None
    if kept is None or "rights" not in kept:  # older versions kept no accuracy of each epoch: begin again
        return _State()
    for name, module in loop.modules.items():
        module.load_state_dict(kept[name])
    loop.optimizer.load_state_dict(kept["optimizer"])
    if kept["scaler"]:
        loop.scaler.load_state_dict(kept["scaler"])
    return _State(kept["epoch"], list(kept["losses"]), list(kept["rights"]), kept["began"])


class FileCheckpoint:
    """A checkpoint in a file, written at most once in so many seconds, and for at most a twentieth of the time.

    Args:
        path: the file; removed with `clear` when its run is done.
        seconds: least time between two writes; 0 writes always.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._last, self._pause = time.monotonic(), seconds

    def load(self) -> dict[str, Any] | None:
        """The state that was kept; None without one, or with one that is not whole (torch sees no flipped bit)."""
        try:
            if not is_stamped(self.path):
                return None
            state: dict[str, Any] = torch.load(plain(self.path), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
            return None
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless one was written not long ago."""
        began = time.monotonic()
        if began - self._last < self._pause:
            return
        with written_aside(self.path) as aside:
            with aside.open("wb") as file:  # given a name, torch does not say why it could not write
                torch.save(state(), file)
            stamp(aside, self.path.name)
        self._last = time.monotonic()
        self._pause = max(self.seconds, 20 * (self._last - began)) if self.seconds else 0.0

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
