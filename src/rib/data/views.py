"""Views: the form of a model's inputs. Code outside data/ and models/ knows inputs only through them."""

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
"""Examples in the form of a view: (N, *view.shape) of `view.dtype`."""

Decode = Literal["exact", "fast"]
Filter = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Resize = Literal["squash", "border"]
Keep = Literal["start", "end"]


class View(ABC):
    """The form of inputs. A concrete view is a frozen dataclass; equal views give equal inputs."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Identifies the view in file names; two views have the same name only if they give equal inputs."""

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
        """A description for messages, such as "224 pixels"."""

    @property
    @abstractmethod
    def form(self) -> str:
        """A batch in words, for people who call a model: what it holds, its type and shape."""

    @property
    def one_thread(self) -> bool:
        """Whether torch must use one thread while examples are decoded, because they are decoded in parallel."""
        return False

    @property
    def bytes(self) -> int:
        """Size of one example in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def batch(self, count: int) -> Inputs:
        """A batch of zeros (count, *shape), to be filled or to try a model with."""
        return np.zeros((count, *self.shape), self.dtype)


@dataclass(frozen=True)
class Pixels(View):
    """The pixels that a model sees before normalisation, as timm, torchvision and open_clip make them: uint8 (H, W, 3).

    Attributes:
        size: side of the square that the model sees, in pixels.
        crop: the image is resized to `size / crop`, then its centre of side `size` is cut out.
        interpolation: Pillow's filter.
        decode: "exact" gives Pillow's pixels, bit for bit; "fast" resizes as torchvision does for tensors, which
            differs by 0.004 grey levels on average and by 7 at most.
        resize: None resizes the shorter side and keeps the aspect ratio; "squash" resizes both sides; "border" resizes
            the longer side, keeps the aspect ratio and pads the rest.
        fill: RGB colour of the padding, 0 … 255.
    """

    size: int
    crop: float = 1.0
    interpolation: Filter = "bicubic"
    decode: Decode = "exact"
    resize: Resize | None = None
    fill: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """Size and crop, and the fields that differ from their defaults. The crop has six digits if they are exact."""
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
        """uint8, grey levels 0 … 255."""
        return np.dtype(np.uint8)

    @property
    def words(self) -> str:
        """Its side in pixels."""
        return f"{self.size} pixels"

    @property
    def form(self) -> str:
        """Images of this side."""
        return f"images, {self.dtype} (n, {self.size}, {self.size}, 3)"

    @property
    def one_thread(self) -> bool:
        """True for fast decoding, which uses torch."""
        return self.decode != "exact"


def as_pixels(view: View, name: str) -> Pixels:
    """A view as `Pixels`.

    Args:
        view: the view of a model.
        name: the name of a data set of images, for the error.

    Raises:
        UserError: the model does not take images.
    """
    if isinstance(view, Pixels):
        return view
    raise UserError(f"data set {name!r} holds images, and the model takes none", got=view.words, valid="pixels")


@dataclass(frozen=True)
class Tokens(View):
    """Token ids of a text, or of a pair of texts: uint16 or uint32 (length,).

    Shorter texts are padded with `blank`, which is no token id: the mask of a batch is `inputs != view.blank`, whatever
    padding token a model uses. Ids of the second segment are stored as id + vocabulary.

    Attributes:
        length: tokens per text, including start and end marks.
        tokenizer: "bytes", or the digest of the tokenizer's files.
        vocabulary: number of ids.
        segments: number of segments that the tokenizer distinguishes: 2 for BERT, 1 for most others.
        keep: which end of a longer text is kept.
        folder: folder of the tokenizer's files; empty for RIB's own.
    """

    length: int
    tokenizer: str
    vocabulary: int
    segments: int = 1
    keep: Keep = "start"
    folder: str = field(default="", compare=False, metadata=RUNTIME)

    @property
    def name(self) -> str:
        """The length, the tokenizer, and fields that differ from their defaults."""
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
        """The value after the last token: the largest number of the type."""
        return int(np.iinfo(self.dtype).max)

    @property
    def words(self) -> str:
        """Its length in tokens."""
        return f"{self.length} tokens"

    @property
    def form(self) -> str:
        """Token ids of texts of this length."""
        return f"token ids of texts, {self.dtype} (n, {self.length}), padded with {self.blank}"


def as_tokens(view: View, name: str) -> Tokens:
    """A view as `Tokens`.

    Args:
        view: the view of a model.
        name: the name of a data set of texts, for the error.

    Raises:
        UserError: the model does not take text.
    """
    if isinstance(view, Tokens):
        return view
    raise UserError(f"data set {name!r} holds texts, and the model takes none", got=view.words, valid="tokens")
