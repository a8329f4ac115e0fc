"""Methods: ways from pretrained weights to tuned weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.data.splits import named_seed
from rib.errors import NotFiniteError
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.text_side import TextSide
from rib.models.weights import Weights, is_extended, put_weights, take_weights
from rib.objectives.base import Loss
from rib.recipe import Frozen, Recipe
from rib.training.checkpoint import Checkpoint
from rib.training.hooks import FeatureTerm, Replayed, SecondPass, StepHook
from rib.training.loop import train
from rib.training.predict import Watch, collect, finite, predict
from rib.training.training import Penalty, Pull, Training

Note = Callable[[str, float | str | list[float]], None]


class Passes(NamedTuple):
    """Number of images that pass through the net in a method.

    Attributes:
        trained: forward and backward.
        seen: forward only.
    """

    trained: int = 0
    seen: int = 0

    @property
    def forwards(self) -> int:
        """Number of forward passes."""
        return self.trained + self.seen

    @property
    def cost(self) -> float:
        """The cost in forward passes; a backward pass costs two."""
        return 3.0 * self.trained + self.seen


@dataclass(frozen=True)
class Task:
    """The inputs of a method. They never include an evaluation set.

    Attributes:
        architecture: the architecture of the model.
        tuning: the tuning examples, in an order whose prefixes are balanced over classes.
        held_out: examples of other source images of the tuned set, for choices; may be empty.
        label_map: the label map of the tuned set.
        recipe: the recipe of the suite for this model.
        seed: seed of all random draws.
        device: where to compute.
        watch: called with the number of images that passed forward and backward.
        seen: called with the number of images that only passed forward.
        checkpoint: stores the state of a training, which resumes from it.
        note: stores a named value in the record.
        known: the pretrained model's features of the tuning examples, float32 (N, D), if the store has them.
        reference: training images of the reference set, for a method that replays them.
        reference_map: label map of the reference set.
        extended: architecture of the tuned model, if the method changes it.
        texts: vectors of texts in the space of the model's features, for a method that trains with them.
    """

    architecture: Architecture
    tuning: Examples
    held_out: Examples
    label_map: LabelMap
    recipe: Recipe
    seed: int
    device: torch.device
    watch: Watch
    checkpoint: Checkpoint | None
    note: Note
    known: Tensor | None = None
    seen: Watch | None = None
    reference: Examples | None = None
    reference_map: LabelMap | None = None
    extended: Architecture | None = None
    texts: TextSide | None = None

    def build(self, weights: Weights) -> Classifier:
        """A classifier with these weights, on the task's device, of the model or of its extended form."""
        architecture = self.extended if self.extended and is_extended(weights) else self.architecture
        classifier = build(architecture, last_block=self.recipe.last_block)
        put_weights(classifier.net, weights)
        return classifier.to(self.device)

    def initial(self, start: Weights) -> Weights:
        """The weights that training starts from: the pretrained ones, with random ones for what the method adds."""
        if self.extended is None:
            return start
        net = build(self.extended, seed=named_seed("extension", self.seed)).net
        return {**take_weights(net), **start}

    def features(self, start: Weights) -> Tensor:
        """The features of the tuning examples in the pretrained model: float32 (N, D), on the task's device.

        They are computed in the same batches whether the store has them or not, so the result is the same.
        """
        if self.known is not None:
            return self.known.to(self.device)
        classifier = self.build(start)
        found = collect(classifier, classifier.features, self.tuning, self.recipe.eval_batch_size, watch=self.seen)
        return found.clone().to(self.device)  # so that they are no inference tensors

    def answers(self, start: Weights) -> Tensor:
        """The pretrained model's logits of the tuning examples: float32 (N, classes), on the task's device.

        Raises:
            NotFiniteError: one is NaN or infinite.
        """
        classifier, size = self.build(start), self.recipe.eval_batch_size
        if not classifier.direct:
            found = collect(classifier, classifier.forward, self.tuning, size, watch=self.seen)
            return found.clone().to(self.device)
        features = self.features(start)
        with torch.no_grad():
            return finite(torch.cat([classifier.head(batch) for batch in features.split(size)]))

    @property
    def head_input(self) -> str:
        """What a `FeatureTerm` calls the features that the head sees."""
        return f"input of {build(self.architecture).head_name}"

    def replay(self, share: float) -> Replayed | None:
        """The reference images to add to every batch; None for a share of 0."""
        if not share:
            return None
        assert self.reference is not None
        assert self.reference_map is not None
        return Replayed(self.reference, self.reference_map, share, self.seed)

    @property
    def training(self) -> Training:
        """Training of all weights on the tuning examples by the suite's recipe; methods change copies of it."""
        return Training(self.tuning, self.label_map, self.recipe, self.seed)

    def train(self, classifier: Classifier, training: Training) -> None:
        """Train a classifier in place, and store the outcome in the record.

        Args:
            classifier: from `build`.
            training: usually `dataclasses.replace(task.training, ...)`.

        Raises:
            StepError: training diverged.
        """
        passes = self.watch if training.features is None else lambda _: self.watch(0)  # features skip the net
        outcome = train(classifier, training, self.checkpoint, passes)
        for name, value in ({"first_loss": outcome.losses[0]} | outcome.values).items():
            self.note(name, value)
        self.note("diverged", float(outcome.diverged))
        self.note("loss_by_epoch", list(outcome.losses))
        self.note("tuning_accuracy_by_epoch", list(outcome.accuracies))

    def held_out_accuracy(self, weights: Weights) -> float:
        """Masked accuracy in percent on the held-out examples; 0 if an output is NaN or infinite."""
        classifier = self.build(weights)
        try:
            size = self.recipe.eval_batch_size
            predictions = predict(classifier, self.held_out, self.label_map, batch_size=size, watch=self.seen)
        except NotFiniteError:
            return 0.0
        return 100 * float(predictions.masked_right.mean())


@dataclass(frozen=True)
class Ingredient:
    """An ingredient that is trained with its own seed or learning rate, on the same images as the others.

    Attributes:
        method: as in `Method.ingredients`.
        replica: number of the training: 0 is the one in the table; each other has another order of the data and other
            random draws in training.
        rate: factor of the learning rate.
    """

    method: str | Method
    replica: int = 0
    rate: float = 1.0


class Method(Frozen, ABC):
    """A method. Its fields are its hyper-parameters.

    Attributes:
        name: its name in suites.
        needs_data: whether it uses the downstream set.
        needs_held_out: whether it chooses something on held-out examples.
        takes_diverged: whether an ingredient may have diverged, because the method chooses among ingredients.
        reads_features: whether `fit` reads the pretrained model's features of the tuning examples.
        keeps_backbone: whether its weights differ from the pretrained ones at most in the head.
        takes_single_gradients: whether it computes gradients of single images.
        replays: whether it trains on images of the reference set's part `tune`.
        needs_texts: whether it trains with the vectors of texts: `task.texts`.
        takes: which nets it needs, in words; empty for any.
        listed: whether a suite may name it; False for mere ingredients of other methods.
        merges_sets: whether it merges models tuned on different sets, and so belongs to `[[merges]]`, not `[[runs]]`.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = True
    needs_held_out: ClassVar[bool] = False
    takes_diverged: ClassVar[bool] = False
    reads_features: ClassVar[bool] = False
    keeps_backbone: ClassVar[bool] = False
    takes_single_gradients: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    needs_texts: ClassVar[bool] = False
    takes: ClassVar[str] = ""
    listed: ClassVar[bool] = True
    merges_sets: ClassVar[bool] = False

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The methods whose weights this one needs: values, or names in the suite."""
        return ()

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Number of images that pass through the net in `fit`, without stored features.

        Args:
            recipe: the recipe of the suite.
            images: number of tuning examples.
            held_out: number of held-out examples.
        """
        return Passes()

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe with the values of this method's own fields."""
        return recipe

    def extend(self, architecture: Architecture) -> Architecture:
        """The architecture of the weights that this method returns; by default that of the model.

        Args:
            architecture: of the model; `architecture.extended(function, ...)` adds modules to it.
        """
        return architecture

    def head_alone(self, recipe: Recipe, images: int) -> int:
        """Number of images that pass forward through a net with several heads of which only the heads are trained."""
        return recipe.images(images)

    def random_tokens(self) -> int:
        """Number of random tokens in the texts that this method draws; 0 if it draws none."""
        return 0

    def trains(self, classifier: Classifier) -> frozenset[str] | None:
        """Names of the parameters of a model without weights that are trained in training mode; None for all."""
        return None

    def require(self, classifier: Classifier) -> None:
        """Refuse a model that this method cannot change as described; planning builds it without weights.

        Raises:
            UserError: the method cannot change it.
        """

    @property
    def inspects(self) -> bool:
        """Whether it refuses some models, by their nets."""
        return type(self).require is not Method.require

    @abstractmethod
    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Tuned weights.

        Args:
            start: the pretrained weights.
            task: the downstream data and how to train on them.
            fitted: the ingredients' weights, in their order.

        Raises:
            StepError: training diverged.
        """


class TrainedMethod(Method):
    """A method that trains. It states which parameters change and what is added to the loss; RIB runs the loop."""

    epochs: int | None = Field(None, ge=1, description="in place of the recipe's")
    steps: int | None = Field(None, ge=1, description="fixed number of steps, in place of epochs")
    lr: float | None = Field(None, gt=0, description="in place of the recipe's")

    def trainable(self, classifier: Classifier) -> frozenset[str] | None:
        """Names of the parameters that may change; None for all."""
        return None

    def trains(self, classifier: Classifier) -> frozenset[str] | None:
        """Names of the parameters that are trained in training mode; none if only the head is trained."""
        trainable = self.trainable(classifier)
        return frozenset() if trainable == classifier.head_parameters else trainable

    def penalty(self, start: Weights, task: Task) -> Penalty | None:
        """The term that is added to the cross-entropy; None for none."""
        return None

    def pull(self, start: Weights, task: Task) -> Pull | None:
        """The term that pulls the weights back to their start; None for none."""
        return None

    def hook(self, start: Weights, task: Task) -> StepHook | None:
        """The hook that changes gradients or weights at every step; None for none."""
        return None

    def rate_factors(self, classifier: Classifier, task: Task) -> Mapping[str, float] | None:
        """Factors of the learning rate by parameter name; 1 for all others.

        Args:
            classifier: the model with the weights that training starts from.
            task: the task.
        """
        return None

    def feature_term(self, start: Weights, task: Task) -> FeatureTerm | None:
        """The term of the loss that reads features; None for none."""
        return None

    def second_pass(self, start: Weights, task: Task) -> SecondPass | None:
        """Moves the weights to where a step's gradient is computed, at the cost of a second pass; None without."""
        return None

    def objective(self, start: Weights, task: Task) -> Loss | None:
        """A loss that takes the place of the cross-entropy and of all terms; None for the cross-entropy.

        Its parameters are trained with the net. `Loss.finish` writes what they say into the net, as a head for example.
        """
        return None

    def replayed(self) -> float:
        """Share of each batch that is drawn from the reference set, for methods that replay."""
        return 0.0

    def stop_after(self) -> int | None:
        """Number of steps after which the run ends; its learning rates are those of the whole run. None: never."""
        return None

    def hold_rate_after(self) -> float:
        """Share of the run after which the learning rate is constant."""
        return 1.0

    def initial(self, start: Weights, task: Task) -> Weights:
        """The weights that training starts from if there is no ingredient."""
        return task.initial(start)

    def stages(self) -> tuple[float, ...]:
        """Shares of the tuning set from which batches are drawn; each holds for an equal part of the run, in order."""
        return (1.0,)

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe with the values of this method's own fields."""
        return run_recipe(recipe, self.epochs, self.lr, self.steps)

    def head_alone(self, recipe: Recipe, images: int) -> int:
        """Counts every image of every epoch."""
        return self.run_recipe(recipe).images(images)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch, and of an estimate of statistics; none if only the head is trained."""
        if self.keeps_backbone:
            return Passes()
        run = self.run_recipe(recipe)
        return Passes(trained=run.images(images), seen=images if run.batchnorm == "reestimate" else 0)

    @final
    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Train from the last ingredient's weights, or from the pretrained ones."""
        classifier = task.build(fitted[-1] if fitted else self.initial(start, task))
        training = replace(
            task.training,
            recipe=self.run_recipe(task.recipe),
            trainable=self.trainable(classifier),
            penalty=self.penalty(start, task),
            pull=self.pull(start, task),
            stages=self.stages(),
            features=task.features(start) if self.keeps_backbone and classifier.direct else None,
            rates=self.rate_factors(classifier, task),
            hold=self.hold_rate_after(),
            stop=self.stop_after(),
            hook=self.hook(start, task),
            feature_term=self.feature_term(start, task),
            second_pass=self.second_pass(start, task),
            replay=task.replay(self.replayed()),
            objective=self.objective(start, task),
        )
        training.require_one_loss(self.name)
        task.train(classifier, training)
        return take_weights(classifier.net)


def run_recipe(recipe: Recipe, epochs: int | None, lr: float | None, steps: int | None = None) -> Recipe:
    """A recipe with a method's own length and learning rate, if it has any."""
    changed: dict[str, int | float | None] = {"steps": steps} if epochs or steps else {}
    changed |= {name: value for name, value in (("epochs", epochs), ("lr", lr)) if value is not None}
    return recipe.model_copy(update=changed)
