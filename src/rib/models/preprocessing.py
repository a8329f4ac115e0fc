"""The view and normalisation of a model, as its library or its files state them, with the source of each field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, cast, get_args

from pydantic import AfterValidator, Field

from rib.data.views import Filter, Resize
from rib.errors import UserError, nearest

Triple = tuple[float, float, float]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _of_unit_scale(values: tuple[float, ...]) -> tuple[float, ...]:
    if max(values) > 1:
        raise ValueError("these numbers are for pixels from 0 to 255; for pixels from 0 to 1, divide them by 255")
    return values


Means = Annotated[tuple[Finite, Finite, Finite], AfterValidator(_of_unit_scale)]
Deviations = Annotated[tuple[Positive, Positive, Positive], AfterValidator(_of_unit_scale)]
"""A mean or standard deviation of each channel, for pixels from 0 to 1."""

HALF = (0.5, 0.5, 0.5)

DEFAULT = "RIB's default"
"""Source of a value that neither the suite nor the model states."""

UNSTATED = (
    "{models} {have} mean = std = 0.5, RIB's default: nothing states how the weights were trained; if otherwise, "
    "accuracies are wrong. State mean and std in the model's row, or as --mean and --std of `rib compare`"
)
"""What to say of models whose normalisation no source states."""

TRAINED = "RIB's default, in its training too"
"""Source of a value that is right in any case, because RIB trains the model with it."""

SUITE = "the model's row"
"""Source of a value that the suite or the catalogue states."""

FIELDS = ("size", "crop", "resize", "interpolation", "mean", "std")
"""Fields that a row can state."""


ROUNDED = 0.0051
"""Values that differ by less are taken for one value, rounded to two decimals."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image is processed before the net gets it.

    Attributes:
        size: side of the square in pixels.
        crop: share of the resized image's side that is kept.
        resize: None for the shorter side; else as in `Pixels`.
        interpolation: Pillow's filter.
        mean, std: normalisation on the 0 … 1 scale.
        border: grey level 0 … 255 of the padding; None for the mean's colour, as in timm.
        sources: the source of each field.
    """

    size: int
    crop: float
    resize: Resize | None
    interpolation: Filter
    mean: Triple
    std: Triple
    border: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def fill(self) -> tuple[int, int, int] | None:
        """RGB colour of the padding; None without padding. A crop larger than the image has black padding."""
        if self.resize != "border":
            return (0, 0, 0) if self.crop > 1 else None
        if self.border is not None:
            return (self.border,) * 3
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def overridden(self, stated: Mapping[str, Any]) -> Preprocessing:
        """A copy with the fields that a row states. "shortest" stands for a `resize` of None."""
        given = {name: value for name, value in stated.items() if value is not None}
        fields: dict[str, Any] = {name: None if value == "shortest" else value for name, value in given.items()}
        return replace(self, **fields, sources={**self.sources, **dict.fromkeys(given, SUITE)})

    def stated_by(self, fields: Collection[str], source: str) -> Preprocessing:
        """A copy with another source for some fields."""
        return replace(self, sources={**self.sources, **dict.fromkeys(fields, source)})

    @property
    def words(self) -> str:
        """A description for messages, with the source of each part."""
        side = int(self.size / self.crop)
        border = f" on a border of RGB {' '.join(map(str, self.fill))}" if self.fill else ""
        centre = f", centre of {self.size}" if side != self.size or self.resize is None else ""
        parts = {
            f"{self.size} pixels": ("size",),
            f"{_RESIZED[self.resize]} to {side}{border}{centre}": ("resize", "crop"),
            self.interpolation: ("interpolation",),
            f"mean {_numbers(self.mean)}": ("mean",),
            f"std {_numbers(self.std)}": ("std",),
        }
        by_source: dict[str, list[str]] = {}
        for words, fields in parts.items():
            source = " and ".join(dict.fromkeys(self.sources[field] for field in fields))
            by_source.setdefault(source, []).append(words)
        return "; ".join(f"{', '.join(words)} ({source})" for source, words in by_source.items())

    @property
    def document(self) -> dict[str, Any]:
        """The fields as JSON types, with their sources."""
        values: dict[str, Any] = {name: getattr(self, name) for name in FIELDS} | {"fill": self.fill}
        return {**values, "resize": self.resize or "shortest", "sources": dict(self.sources)}

    @property
    def unstated(self) -> str:
        """A sentence, with {models} and {have}, if no source states the normalisation; else empty."""
        return UNSTATED if DEFAULT in (self.sources["mean"], self.sources["std"]) else ""


_RESIZED = {None: "shorter side", "squash": "both sides", "border": "longer side"}


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))


def stated(source: str, **fields: Any) -> Preprocessing:
    """A preprocessing whose fields all have one source."""
    return Preprocessing(**fields, sources=dict.fromkeys(FIELDS, source))


def of_builder(size: int, source: str = DEFAULT) -> Preprocessing:
    """Preprocessing of a net of which only the size is known: the whole image, mean and std 0.5."""
    return stated(source, size=size, crop=1.0, resize=None, interpolation="bicubic", mean=HALF, std=HALF)


def of_net(net: object, size: int) -> Preprocessing | None:
    """Preprocessing from a net's `pretrained_cfg` or `default_cfg`, which timm's nets have; None without one."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(net, name, None)
        if config is not None and hasattr(config, "to_dict"):
            config = config.to_dict()
        if isinstance(config, Mapping) and config.get("mean") and config.get("std"):
            return of_timm({**config, "input_size": (3, size, size)}, f"the net's own `{name}`")
    return None


def of_timm(config: Mapping[str, Any], source: str) -> Preprocessing:
    """Preprocessing from a pretrained configuration of timm; timm's defaults fill missing fields.

    Raises:
        UserError: the images are not square, not in colour, or resized in a way that RIB does not support.
    """
    from rib import _compat

    _compat.declare_missing_operators()
    from timm.data.config import resolve_data_config

    data = resolve_data_config(pretrained_cfg=dict(config))
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"{source} needs images of a form that RIB does not support",
            got=f"{channels} × {height} × {width}",
            valid="3 channels and a square",
        )
    modes: dict[str, Resize | None] = {"center": None, "squash": "squash", "border": "border"}
    return stated(
        source,
        size=int(width),
        crop=float(data["crop_pct"]),
        resize=_one_of(data["crop_mode"], modes, source, "crop_mode"),
        interpolation=known_filter(data["interpolation"], source),
        mean=triple(data["mean"], source),
        std=triple(data["std"], source),
    )


def of_open_clip(config: Mapping[str, Any], size: int | Sequence[int], source: str) -> Preprocessing:
    """Preprocessing from a configuration of open_clip; open_clip's defaults fill missing fields.

    Raises as `of_timm`.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    data = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), dict(config)))
    sides = [size] if isinstance(size, int) else list(size)
    if len(set(sides)) != 1:
        raise UserError(
            f"{source} needs images of a form that RIB does not support", got=f"{size} pixels", valid="a square"
        )
    modes: dict[str, Resize | None] = {"shortest": None, "squash": "squash", "longest": "border"}
    return replace(
        stated(
            source,
            size=sides[0],
            crop=1.0,
            resize=_one_of(data.resize_mode, modes, source, "resize_mode"),
            interpolation="bilinear" if data.interpolation == "bilinear" else "bicubic",  # "random" is used in training
            mean=triple(data.mean, source),
            std=triple(data.std, source),
        ),
        border=data.fill_color,
    )


def known_filter(name: str, source: str) -> Filter:
    """A filter by the name that the libraries share.

    Raises:
        UserError: RIB has no filter of that name.
    """
    return cast(Filter, _one_of(name, {known: known for known in get_args(Filter)}, source, "interpolation"))


def triple(values: float | Sequence[float], source: str) -> Triple:
    """A value for each channel; a single value is used for all three.

    Raises:
        UserError: there are neither one nor three values.
    """
    listed = [values] if isinstance(values, int | float) else list(values)
    listed = listed * 3 if len(listed) == 1 else listed
    if len(listed) != 3:
        raise UserError(f"{source} has another number of channels", got=listed, valid="one value or three")
    return cast(Triple, tuple(float(value) for value in listed))


def _one_of(name: str, known: Mapping[str, Any], source: str, what: str) -> Any:
    if name not in known:
        raise UserError(
            f"{source} has an unknown {what}",
            got=name,
            valid=", ".join(known),
            remedy="state `interpolation` or `resize` in the model's row, in a copy of the configuration",
        )
    return known[name]


_CROP_MODES = {"center": "shortest", "squash": "squash", "border": "border"}


def stated_by_training(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the evaluation images in a training script's arguments or a configuration.

    The names are those of timm's and torchvision's scripts, of timm's `pretrained_cfg` and of Hugging Face's configs.
    """
    own = {name: arguments.get(name) for name in ("mean", "std", "interpolation")}
    own["crop"] = arguments.get("crop_pct")
    own["resize"] = _CROP_MODES.get(str(arguments.get("crop_mode")))
    sizes = (arguments.get(name) for name in ("input_size", "img_size", "image_size", "val_crop_size"))
    size = next((size for size in sizes if isinstance(size, int | float | list | tuple) and size), None)
    own["size"] = size[-1] if isinstance(size, list | tuple) else size
    if arguments.get("val_crop_size") and arguments.get("val_resize_size"):
        own["crop"] = arguments["val_crop_size"] / arguments["val_resize_size"]
    return {name: value for name, value in own.items() if not _says_nothing(value)}


def _says_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple) and (not value or value == "random"))


def require_agreement(arguments: Mapping[str, Any], view: Mapping[str, Any], what: str, source: str) -> None:
    """Refuse weights that were trained with other images than the model will see.

    Args:
        arguments: of the training script or a configuration.
        view: size, crop, interpolation, mean and std that only a library states.
        what: the model, for the error.
        source: the source of the arguments, for the error.

    Raises:
        UserError: a field differs; the message names it.
    """
    for name, said in stated_by_training(arguments).items():
        if name in view and not _agree(said, view[name]):
            raise UserError(
                f"the checkpoint of {what} was trained with another {name} than it would see",
                got=f"{name} = {_shown(said)} in {source}",
                valid=f"{name} = {_shown(view[name])}",
                remedy=f"state one of the two: `{name}` in the model's row of a suite file, or {option_of(name)} "
                "for `rib compare`",
            )


def option_of(field: str) -> str:
    """The option of `rib compare` that states a field."""
    return f"--{field}"


def differing(one: Preprocessing, other: Preprocessing, stated: Collection[str] = ()) -> list[str]:
    """Names of the fields in which two preprocessings differ.

    Fields in `stated`, and fields without a source, do not count.
    """
    return [
        name
        for name in FIELDS
        if name not in stated
        and DEFAULT not in (one.sources.get(name), other.sources.get(name))
        and not _agree(getattr(one, name), getattr(other, name))
    ]


def _shown(value: Any) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, list | tuple) else str(value)


def _agree(said: Any, own: Any) -> bool:
    if isinstance(own, str) or own is None:
        return (said or "shortest") == (own or "shortest")
    try:
        values, mine = triple(said, "args"), triple(own, "view")
        scale = 255 if max(values) > 1 >= max(mine) else 1  # of a mean or std for pixels from 0 to 255
        return all(abs(one / scale - other) < ROUNDED for one, other in zip(values, mine, strict=True))
    except (TypeError, ValueError, UserError):
        return True  # not a number, so the entry means something else


@cache
def of_timm_model(name: str) -> Preprocessing:
    """Preprocessing of a timm model by its name. Raises as `timm_config`."""
    config = timm_config(name)
    tag = f".{config.tag}" if config.tag else ""
    return of_timm(config.to_dict(), f"timm's configuration of {config.architecture}{tag}")


def timm_config(name: str) -> Any:
    """timm's pretrained configuration of a model.

    Raises:
        UserError: there is no such model; the message suggests the nearest.
    """
    import timm

    if not timm.is_model(name):
        raise nearest(name, timm.list_models(), "timm model")
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        architecture = name.partition(".")[0]
        raise nearest(name, timm.list_pretrained(f"{architecture}.*"), "timm model") from None
    assert config is not None
    return config
