"""The vectors of texts in the space of a model's features, for methods that train with them.

A CLIP model has a text tower, whose vectors are in the space of its image tower's features. A model without one may
have class vectors: one per class, in the space of the head's input, as UniCL learns them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rib.errors import UserError
from rib.models.weights import first_not_finite, read_weights

NAMES = "classes"
"""The tensor in a file of class vectors, (classes, D). The file may also have a number `scale`."""

PLAIN_SCALE = 1 / 0.07
"""The scale if the file has none: CLIP's initial one."""


class Tower(nn.Module, ABC):
    """A copy of the text side whose parameters are trained."""

    log_scale: nn.Parameter

    @abstractmethod
    def forward(self, classes: Tensor) -> Tensor:
        """A text of each class (n,), from a template drawn from torch's random state: unit vectors (n, D)."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """The unit vector of each class, the mean over templates: (classes, D)."""


class TextSide(ABC):
    """The frozen vectors of texts, which can be copied for training.

    Attributes:
        classes: unit vectors (classes, D) of the reference set's classes, in their order, averaged over templates.
        contexts: unit vectors (templates, D), averaged over classes; without a text tower, the class vectors.
        scale: factor of the cosines of features and texts.
    """

    classes: Tensor
    contexts: Tensor
    scale: float

    @abstractmethod
    def random(self, count: int, length: int) -> Tensor:
        """Unit vectors (count, D) of texts of random tokens, drawn from torch's random state on the CPU."""

    @abstractmethod
    def tower(self) -> Tower:
        """A copy whose parameters are trained, on the device of the vectors."""


class ClassVectors(TextSide):
    """Class vectors without a text tower. A text of random tokens is the mean of random class vectors."""

    def __init__(self, vectors: Tensor, scale: float) -> None:
        self.classes = self.contexts = F.normalize(vectors.float(), dim=1)
        self.scale = scale

    def random(self, count: int, length: int) -> Tensor:
        """Means of `length` random class vectors each: (count, D)."""
        drawn = torch.randint(len(self.classes), (count, length)).to(self.classes.device)
        return F.normalize(self.classes[drawn].mean(dim=1), dim=1)

    def tower(self) -> Tower:
        """The vectors themselves."""
        return _VectorTower(self.classes, self.scale)


class _VectorTower(Tower):
    def __init__(self, vectors: Tensor, scale: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        self.log_scale = nn.Parameter(torch.tensor(scale, device=vectors.device).log())

    def forward(self, classes: Tensor) -> Tensor:
        return F.normalize(self.vectors[classes], dim=1)

    def matrix(self) -> Tensor:
        return F.normalize(self.vectors, dim=1)


class ClipTexts(TextSide):
    """The text tower of an open_clip model.

    Args:
        read: reads the whole model; called when the tower is first needed.
        tokenizer: open_clip's tokenizer of the model.
        names: words for the classes.
        templates: functions, or texts with one {}.
        device: where the tower runs.
        known: `classes`, `contexts` and `scale`, if they were computed before.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        tokenizer: Any,
        names: Sequence[str],
        templates: Sequence[Any],
        device: torch.device,
        known: dict[str, Tensor] | None = None,
    ) -> None:
        self._read, self._tokenizer, self._device = read, tokenizer, device
        self._texts = [[text.format(n) if isinstance(text, str) else text(n) for text in templates] for n in names]
        self._model: Any = None
        found = known or self._computed()
        self.classes, self.contexts = found["classes"].to(device), found["contexts"].to(device)
        self.scale = float(found["scale"])

    @property
    def known(self) -> dict[str, Tensor]:
        """`classes`, `contexts` and `scale` as tensors on the CPU."""
        return {
            "classes": self.classes.cpu().contiguous(),
            "contexts": self.contexts.cpu().contiguous(),
            "scale": torch.tensor(self.scale),
        }

    def random(self, count: int, length: int) -> Tensor:
        """The tower's vectors of `length` random tokens between the start and end tokens: (count, D).

        Raises:
            UserError: as `first_and_last`.
        """
        whole = int(self._tower.context_length)
        start, end = first_and_last(self._tokenizer, length, whole)
        tokens = torch.zeros(count, whole, dtype=torch.int64)
        tokens[:, 0], tokens[:, length + 1] = start, end
        tokens[:, 1 : length + 1] = torch.randint(start, (count, length))
        with torch.no_grad():
            vectors: Tensor = self._tower.encode_text(tokens.to(self._device), normalize=True)
        return vectors.float()

    def tower(self) -> Tower:
        """The text tower, read again from its file."""
        return _ClipTower(_text_part(self._read()).to(self._device), self._tokens().to(self._device), self.scale)

    @property
    def _tower(self) -> Any:
        if self._model is None:
            self._model = _text_part(self._read()).to(self._device).eval().requires_grad_(False)
        return self._model

    def _tokens(self) -> Tensor:
        return torch.stack([self._tokenizer(texts) for texts in self._texts])

    def _computed(self) -> dict[str, Tensor]:
        classes, contexts = [], torch.zeros(())
        with torch.no_grad():
            for texts in self._texts:
                vectors = self._tower.encode_text(self._tokenizer(texts).to(self._device), normalize=True).float()
                classes.append(F.normalize(vectors.mean(dim=0), dim=0))
                contexts = contexts.to(vectors) + vectors
            scale = self._tower.logit_scale.exp()
        return {
            "classes": torch.stack(classes),
            "contexts": F.normalize(contexts, dim=1),
            "scale": scale.detach().float(),
        }


def first_and_last(tokenizer: Any, length: int, context: int) -> tuple[int, int]:
    """The tokens at which a text starts and ends.

    Args:
        tokenizer: open_clip's tokenizer of a model.
        length: number of random tokens between them.
        context: number of tokens that the text tower reads.

    Raises:
        UserError: the tokenizer does not state these two tokens, or the tower reads fewer tokens.
    """
    start, end = (getattr(tokenizer, f"{name}_token_id", None) for name in ("sot", "eot"))
    if start is None or end is None:
        raise UserError(
            "the model's tokenizer does not state the tokens at which a text starts and ends",
            got=type(tokenizer).__name__,
            valid="a model with CLIP's own tokenizer",
            remedy="leave out lipsum_ft for this model",
        )
    if length > context - 2:
        raise UserError(
            "texts of random tokens are longer than what the model's text tower reads",
            got=f"length = {length}",
            valid=f"at most {context - 2}: the tower reads {context} tokens, with the first and the last",
            remedy="set a smaller `length` under [method.lipsum_ft]",
        )
    return int(start), int(end)


class _ClipTower(Tower):
    """The text tower in training.

    Args:
        model: the CLIP model without its image tower.
        tokens: int64 (classes, templates, length).
    """

    tokens: Tensor

    def __init__(self, model: nn.Module, tokens: Tensor, scale: float) -> None:
        super().__init__()
        self.model: Any = model
        self.register_buffer("tokens", tokens, persistent=False)
        self.log_scale = nn.Parameter(torch.tensor(scale, device=tokens.device).log())
        for name in ("logit_scale", "logit_bias"):
            if isinstance(own := getattr(model, name, None), nn.Parameter):
                own.requires_grad_(False)

    def forward(self, classes: Tensor) -> Tensor:
        chosen = torch.randint(self.tokens.shape[1], (len(classes),)).to(self.tokens.device)
        vectors: Tensor = self.model.encode_text(self.tokens[classes, chosen], normalize=True)
        return vectors

    def matrix(self) -> Tensor:
        means = (self.model.encode_text(each, normalize=True).float().mean(dim=0) for each in self.tokens)
        return F.normalize(torch.stack(list(means)), dim=1)


def _text_part(model: Any) -> Any:
    model.visual = nn.Identity()
    return model


def read_class_vectors(file: Path, classes: int, width: int, what: str) -> ClassVectors:
    """The class vectors in a file.

    Args:
        file: a safetensors file with the tensor `classes` (classes, D), and perhaps `scale`.
        classes: number of the reference set's classes.
        width: D, the number of the head's inputs.
        what: their owner, for errors.

    Raises:
        UserError: the file is missing, or has other content.
    """
    found = read_weights(file)
    vectors, scale = found.get(NAMES), float(found.get("scale", torch.tensor(PLAIN_SCALE)))
    if vectors is None or tuple(vectors.shape) != (classes, width) or not vectors.is_floating_point():
        raise UserError(
            f"the class vectors of {what} do not fit",
            got=", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items()) or "no tensor",
            valid=f"a tensor `{NAMES}` ({classes}, {width}): classes of the reference set, features that the head sees",
            remedy=f"check {file}",
        )
    if (bad := first_not_finite(found)) or not vectors.any(dim=1).all() or not scale > 0:
        raise UserError(
            f"the class vectors of {what} have no direction",
            got=f"NaN or infinity in {bad}" if bad else f"a vector of zeros, or scale = {scale:g}",
            valid="finite vectors other than zero, scale above 0",
        )
    return ClassVectors(vectors, scale)


def text_key(content: str, texts: Sequence[Sequence[str]]) -> str:
    """The identity of a text side as JSON: the digest of its checkpoint, class names, and templates applied to one
    word.
    """
    return json.dumps([content, *texts])
