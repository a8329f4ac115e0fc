"""Views: the form in which a model takes its inputs. Above data/ and models/ nothing else is known of inputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rib.errors import UserError
from rib.identity import RUNTIME

Inputs = NDArray[Any]
"""Examples as a view has them: (N, *view.shape) of `view.dtype`."""

Decode = Literal["exact", "fast"]
Filter = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Resize = Literal["squash", "border"]
Keep = Literal["start", "end"]


class View(ABC):
    """The form of inputs. A concrete view is a frozen dataclass: equal views give equal inputs."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For names of files: equal only for views that give equal inputs."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of an example's numbers."""

    @property
    @abstractmethod
    def words(self) -> str:
        """For messages, e.g. "224 pixels"."""

    @property
    def one_thread(self) -> bool:
        """Whether torch must use one thread while examples are decoded, as they are decoded side by side."""
        return False

    @property
    def bytes(self) -> int:
        """Size of one example."""
        return math.prod(self.shape) * self.dtype.itemsize

    def batch(self, count: int) -> Inputs:
        """A batch of blank examples, to be filled or to try a model with: zeros (count, *shape)."""
        return np.zeros((count, *self.shape), self.dtype)


@dataclass(frozen=True)
class Pixels(View):
    """The pixels that a model sees before normalisation, as timm, torchvision and open_clip make them: uint8 (H, W, 3).

    Attributes:
        size: side of the square that the model sees, in pixels.
        crop: the image is resized to `size / crop`, and its centre of `size` is cut out.
        interpolation: Pillow's filter.
        decode: "exact" gives Pillow's pixels, bit for bit; "fast" resizes as torchvision does tensors, which differ by
            0.004 grey levels in the mean, and by 7 at most.
        resize: None resizes the shorter side and keeps the shape; "squash" resizes both sides; "border" resizes the
            longer side, keeps the shape and pads what is missing.
        fill: RGB colour of the border, 0 … 255.
    """

    size: int
    crop: float = 1.0
    interpolation: Filter = "bicubic"
    decode: Decode = "exact"
    resize: Resize | None = None
    fill: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """The name without default values; the crop has six digits if they suffice."""
        short = f"{self.crop:g}"
        enough = math.floor(self.size / float(short)) == math.floor(self.size / self.crop)
        words = [str(self.size), (short if enough else repr(self.crop)).replace(".", "_"), self.interpolation]
        words += [self.decode] if self.decode != "exact" else []
        words += [self.resize] if self.resize else []
        words += ["".join(f"{value:02x}" for value in self.fill)] if self.fill else []
        return "-".join(words)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        return (self.size, self.size, 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Grey levels 0 … 255."""
        return np.dtype(np.uint8)

    @property
    def words(self) -> str:
        """Its side."""
        return f"{self.size} pixels"

    @property
    def one_thread(self) -> bool:
        """Torch resizes in the fast way."""
        return self.decode != "exact"


def as_pixels(view: View, name: str) -> Pixels:
    """The view of a model of images.

    Args:
        view: of a model.
        name: of a data set of images.

    Raises:
        UserError: the model takes no images.
    """
    if isinstance(view, Pixels):
        return view
    raise UserError(f"data set {name!r} holds images, and the model takes none", got=view.words, valid="pixels")


@dataclass(frozen=True)
class Tokens(View):
    """Token ids of a text, or of a pair of texts: uint16 or uint32 (length,).

    A shorter text ends in `blank`, which is no token: the mask of a batch is `inputs != view.blank`, whatever token a
    model pads with. The ids of a second segment are stored as id + vocabulary.

    Attributes:
        length: tokens of a text, those that mark its start and end among them.
        tokenizer: "bytes", or the digest of the tokenizer's files.
        vocabulary: number of ids.
        segments: how many segments the tokenizer tells apart: 2 for BERT, 1 for most others.
        keep: which end of a longer text is kept.
        folder: of the tokenizer's files; empty for RIB's own.
    """

    length: int
    tokenizer: str
    vocabulary: int
    segments: int = 1
    keep: Keep = "start"
    folder: str = field(default="", compare=False, metadata=RUNTIME)

    @property
    def name(self) -> str:
        """The length, the tokenizer, and what is not the default."""
        words = ["tokens", str(self.length), self.tokenizer[:24], str(self.vocabulary)]
        words += [f"{self.segments}s"] if self.segments > 1 else []
        words += [self.keep] if self.keep != "start" else []
        return "-".join(words)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of tokens."""
        return (self.length,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds every id of every segment, and `blank`."""
        return np.dtype(np.uint16 if self.vocabulary * self.segments < 2**16 else np.uint32)

    @property
    def blank(self) -> int:
        """What stands if there is no token: the largest number of the type."""
        return int(np.iinfo(self.dtype).max)

    @property
    def words(self) -> str:
        """Its length."""
        return f"{self.length} tokens"


def as_tokens(view: View, name: str) -> Tokens:
    """The view of a model of text.

    Args:
        view: of a model.
        name: of a data set of texts.

    Raises:
        UserError: the model takes no text.
    """
    if isinstance(view, Tokens):
        return view
    raise UserError(f"data set {name!r} holds texts, and the model takes none", got=view.words, valid="tokens")
