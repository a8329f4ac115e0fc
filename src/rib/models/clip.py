"""open_clip's models as classifiers: the image tower, and a linear head computed once from class names by the text
tower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rib import _compat
from rib.errors import RibError, UserError, nearest, told
from rib.files import parse_json, read_plain
from rib.given import perhaps_at_home
from rib.models.checkpoints import read_checkpoint
from rib.models.fitting import require_numbers
from rib.models.guard import nothing_but_building
from rib.models.preprocessing import Preprocessing, of_open_clip

BUILDER = "rib.models.clip:clip_classifier"
CONFIG = "open_clip_config.json"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of the checkpoint on the hub and in a folder, the preferred one first."""

_NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


class ClipClassifier(nn.Module):
    """Logits are scale · cosine of image features and class embeddings, computed by a linear layer on normalised
    features.

    Args:
        visual: maps normalised float images (N, 3, H, W) to features (N, D).
        features: D.
        classes: number of outputs.
    """

    def __init__(self, visual: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.visual(images)
        features = seen[0] if isinstance(seen, tuple) else seen  # CoCa's towers also return their tokens
        logits: Tensor = self.head(F.normalize(features, dim=-1))
        return logits


def clip_classifier(
    num_classes: int, embed_dim: int, vision: dict[str, Any], quick_gelu: bool = False, custom: bool = False
) -> nn.Module:
    """An image tower with random weights and a head.

    Args:
        num_classes: number of outputs.
        embed_dim: number of features D.
        vision: open_clip's `vision_cfg`.
        quick_gelu: whether to use the activation of the first CLIP models.
        custom: whether open_clip builds it as a model with a custom text tower.
    """
    config = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": _NO_TEXT, "quick_gelu": quick_gelu}
    return ClipClassifier(_clip(config, custom).visual, embed_dim, num_classes)


def model_config(name: str, tag: str | None, base: Path) -> tuple[dict[str, Any], Preprocessing]:
    """open_clip's configuration of a model, and its preprocessing.

    Args:
        name: open_clip's name, or a folder with open_clip_config.json.
        tag: which published weights; they can determine normalisation and activation.
        base: the folder that a relative folder starts from.

    Raises:
        UserError: open_clip is not installed, or has no such model or weights, or the folder has no configuration.
    """
    _open_clip()
    if folder := clip_folder(name, base):
        return _of_folder(folder / CONFIG)
    config, published = _catalogued(name, tag)
    return _completed(config, published, f"open_clip's configuration of {name} {tag or ''}".strip())


def _of_folder(file: Path) -> tuple[dict[str, Any], Preprocessing]:
    """Read the configuration in a folder.

    Raises:
        UserError: it is missing or unreadable.
    """
    try:
        document = parse_json(read_plain(file))
        return _completed(document["model_cfg"], document.get("preprocess_cfg", {}), str(file))
    except RibError:
        raise
    except Exception as error:  # open_clip completes the configuration, and may raise any error for an unknown one
        valid = "the open_clip_config.json of a model that open_clip saved"
        raise UserError(f"cannot read {file}", got=told(error), valid=valid) from None


def _completed(config: dict[str, Any], published: dict[str, Any], source: str) -> tuple[dict[str, Any], Preprocessing]:
    if published.get("quick_gelu"):
        config = config | {"quick_gelu": True}
    return config, of_open_clip(published, config["vision_cfg"].get("image_size", 224), source)


def builder_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `clip_classifier` in a configuration, which describe the image tower."""
    arguments = {"embed_dim": config["embed_dim"], "vision": config["vision_cfg"]}
    if config.get("quick_gelu"):
        arguments["quick_gelu"] = True
    if _is_custom(config):
        arguments["custom"] = True
    return arguments


def tower_fields() -> frozenset[str]:
    """Names of the fields of open_clip's `vision_cfg`."""
    library = _open_clip()
    return frozenset(field.name for field in dataclasses.fields(library.CLIPVisionCfg))


def text_fields() -> frozenset[str]:
    """Names of the fields of open_clip's `text_cfg`."""
    library = _open_clip()
    return frozenset(field.name for field in dataclasses.fields(library.CLIPTextCfg))


def clip_folder(name: str, base: Path) -> Path | None:
    """The folder that a name stands for; None if it is open_clip's name of a model."""
    folder = base / perhaps_at_home(name)
    return folder if (folder / CONFIG).is_file() else None


def hub_place(name: str, tag: str | None) -> tuple[str, tuple[str, ...]]:
    """Repository of the published weights, and possible names of their file. Raises as `model_config`."""
    _catalogued(name, tag)
    published = _open_clip().get_pretrained_cfg(name, tag)
    repository, _, file = published.get("hf_hub", "").rpartition("/")
    return repository, (file,) if file else FILES


def classifier_weights(
    file: Path, name: str, config: dict[str, Any], names: Sequence[str], prompts: Sequence[str] | None, device: str
) -> dict[str, Tensor]:
    """Weights of a `ClipClassifier` whose head is the text tower's embeddings of the class names.

    Args:
        file: the checkpoint of the whole CLIP model.
        name: the model's name or its folder, for the tokenizer.
        config: from `model_config`.
        names: words for the classes, in order.
        prompts: templates with one {}; None for open_clip's 80.
        device: where the text tower runs.

    Raises:
        UserError: the checkpoint does not fit.
    """
    library, model = _open_clip(), read_model(file, name, config)
    tokenizer, templates = tokenizer_of(name), templates_of(prompts)
    model.to(device)
    with torch.no_grad():
        directions = library.build_zero_shot_classifier(model, tokenizer, tuple(names), templates, device=device)
        head = (directions.T * model.logit_scale.exp()).float().cpu()
    bias = model.logit_bias
    shift = float(bias) if bias is not None else 0.0
    return tower_weights(model) | {"head.weight": head.contiguous(), "head.bias": torch.full((len(head),), shift)}


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a model, by its name or folder."""
    with nothing_but_building(f"the tokenizer of the open_clip model {name!r}"):
        return _open_clip().get_tokenizer(f"local-dir:{name}" if Path(name, CONFIG).is_file() else name)


def templates_of(prompts: Sequence[str] | None) -> tuple[Any, ...]:
    """Templates, texts with one {} or functions of a word; open_clip's 80 for ImageNet if None are given."""
    return tuple(prompts) if prompts else tuple(_open_clip().OPENAI_IMAGENET_TEMPLATES)


def tower_weights(model: Any) -> dict[str, Tensor]:
    """The weights of a whole CLIP model's image tower, under the names of a `ClipClassifier`."""
    return {f"visual.{key}": value.detach().cpu() for key, value in model.visual.state_dict().items()}


def read_model(file: Path, name: str, config: dict[str, Any]) -> Any:
    """A whole CLIP model with the weights of a checkpoint.

    Args: as `classifier_weights`.

    Raises:
        UserError: the checkpoint does not fit, or holds no floating-point weights.
    """
    checkpoint = read_checkpoint(file)
    require_numbers(checkpoint.tensors(checkpoint.likeliest), f"the CLIP checkpoint {file}")
    library = _open_clip()
    try:
        with nothing_but_building(f"the open_clip model {name!r}"):
            model = _clip(config, _is_custom(config)).eval()
            library.load_checkpoint(model, str(file), weights_only=True)
    except RibError:
        raise
    except Exception as error:  # open_clip raises torch's errors and its own
        reason = str(error).strip().splitlines()
        raise UserError(
            f"cannot load the CLIP checkpoint {file}",
            got="; ".join(line.strip() for line in reason[:3])[:300] or type(error).__name__,
            valid=f"weights of open_clip's {name!r}",
            remedy="check `open_clip` and `tag`",
        ) from None
    return model


def class_words(classes: Sequence[str]) -> tuple[str, ...]:
    """Words for classes: open_clip's names for ImageNet's wnids; otherwise the name itself, with `_` as a space.

    Raises:
        UserError: only some are wnids, or a wnid is not one of the 1000.
    """
    wnid = [len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in classes]
    if not any(wnid):
        return tuple(name.replace("_", " ") for name in classes)
    from timm.data.imagenet_info import ImageNetInfo

    position = {name: place for place, name in enumerate(ImageNetInfo().label_names())}
    if lost := [name for name in classes if name not in position]:
        raise UserError(
            "a class of the reference set has no name in words",
            got=", ".join(lost[:5]),
            valid="the 1000 wnids of ImageNet, or names in words",
            remedy="give the model `class_names`, one per class, in order",
        )
    words = _open_clip().IMAGENET_CLASSNAMES
    return tuple(words[position[name]] for name in classes)


def text_identity(names: Sequence[str], prompts: Sequence[str] | None) -> list[list[str]]:
    """The inputs of the head besides the checkpoint: class names, and the prompts applied to one example word."""
    templates = tuple(prompts) if prompts else _open_clip().OPENAI_IMAGENET_TEMPLATES
    return [list(names), [text.format("x") if isinstance(text, str) else text("x") for text in templates]]


def is_installed() -> bool:
    """Whether the extra `clip` is installed."""
    try:
        _open_clip()
    except UserError:
        return False
    return True


def _catalogued(name: str, tag: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    library = _open_clip()
    known = library.list_models()
    if name.replace("/", "-") not in known:  # open_clip would ask the Hub for some other names
        raise nearest(name, known, "open_clip model")
    config = library.get_model_config(name)
    if tag is None:
        return config, {}
    tags = library.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise nearest(tag, tags, f"weights of open_clip model {name!r}:")
    return config, library.get_pretrained_cfg(name, tag)


def _is_custom(config: dict[str, Any]) -> bool:
    return bool(config.get("custom_text")) or "hf_model_name" in config.get("text_cfg", {})


def _clip(config: dict[str, Any], custom: bool) -> Any:
    library = _open_clip()
    fields = {key: value for key, value in config.items() if key != "custom_text"}
    if "hf_model_name" in fields.get("text_cfg", {}):  # the checkpoint has the text tower's weights
        fields["text_cfg"] = fields["text_cfg"] | {"hf_model_pretrained": False}
    return (library.CustomTextCLIP if custom else library.CLIP)(**fields)


def _open_clip() -> Any:
    _compat.declare_missing_operators()
    try:
        import open_clip
    except ImportError:
        raise UserError(
            "models of open_clip need the extra `clip`",
            got="open_clip is not installed",
            remedy="pip install 'rib-benchmark[clip]'",
        ) from None
    return open_clip
