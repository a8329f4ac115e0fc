"""Preprocessing and construction as the weights' publishers do them: pixels and logits against the libraries' own."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import CLASSES, Say, document, odd_images, toml
from rib import _compat
from rib.data.images import apply_view
from rib.data.views import Pixels
from rib.errors import UserError
from rib.models import vision
from rib.models.build import build
from rib.models.catalogue import ROWS, Architecture, ModelRow
from rib.models.describe import describe, preprocessing
from rib.models.loading import load_pretrained
from rib.models.preprocessing import of_timm
from rib.models.weights import put_weights

_compat.declare_missing_operators()
timm = pytest.importorskip("timm")
models: Any = pytest.importorskip("torchvision.models")


def assert_same_pixels(view: Pixels, theirs: Any) -> None:
    """`theirs` maps an image of Pillow's to one of Pillow's, or to a tensor on the 0 … 1 scale."""
    for image in odd_images():
        wanted = theirs(image)
        if isinstance(wanted, Tensor):
            wanted = (wanted * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(apply_view(image, view), np.asarray(wanted)), (view, image.size)


# -- timm --------------------------------------------------------------------------------------------------------------


def timm_transform(config: dict[str, Any], side: int | None = None) -> Any:
    """timm's own, without the normalisation."""
    from timm.data import create_transform, resolve_data_config

    data = resolve_data_config(pretrained_cfg=config)
    if side:
        data["input_size"] = (3, side, side)
    transform = create_transform(**data, is_training=False)
    normalise = transform.transforms.pop()
    assert torch.equal(normalise.mean, torch.tensor(data["mean"]))
    return transform


def square_configs() -> dict[str, dict[str, Any]]:
    every = {name: timm.get_pretrained_cfg(name).to_dict() for name in timm.list_pretrained()}
    return {name: config for name, config in every.items() if len(set(config["input_size"][1:])) == 1}


def test_every_configuration_of_timm_is_read_as_timm_reads_it() -> None:
    kinds: dict[tuple[Any, ...], str] = {}
    for name, config in square_configs().items():
        own = of_timm(config, name)
        assert (own.mean, own.std, own.size) == (config["mean"], config["std"], config["input_size"][-1])
        resize = timm_transform(config).transforms[0]
        side = resize.size if isinstance(resize.size, int) else resize.size[0]
        assert side == math.floor(own.size / own.crop), name
        kinds[config["crop_mode"], own.interpolation, own.crop, config["mean"] if own.fill else None] = name
    assert len(kinds) > 30
    assert {mode for mode, *_ in kinds} == {"center", "squash", "border"}
    for name in kinds.values():
        config = square_configs_of(name)
        own = of_timm(config, name)
        view = Pixels(48, own.crop, own.interpolation, resize=own.resize, fill=own.fill)
        assert_same_pixels(view, timm_transform(config, 48))


def square_configs_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = timm.get_pretrained_cfg(name).to_dict()
    return config


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"interpolation": "random"}, "unknown interpolation"),
        ({"crop_mode": "rrc"}, "unknown crop_mode"),
        ({"input_size": (1, 28, 28), "mean": (0.5,), "std": (0.5,)}, "1 × 28 × 28"),
        ({"input_size": (3, 1024, 768)}, "3 × 1024 × 768"),
        ({"mean": (0.5, 0.5)}, "number of channels"),
    ],
)
def test_a_configuration_that_no_view_fits_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=re.escape(text)):
        of_timm({"input_size": (3, 32, 32)} | change, "config.json")


def test_what_a_configuration_leaves_out_is_timms_default() -> None:
    own = of_timm({"input_size": (3, 32, 32), "crop_pct": None}, "config.json")
    assert (own.crop, own.interpolation, own.mean) == (0.875, "bicubic", (0.485, 0.456, 0.406))


# -- torchvision -------------------------------------------------------------------------------------------------------


def published() -> list[Any]:
    return [weights for name in models.list_models(module=models) for weights in models.get_model_weights(name)]


def test_every_transform_of_torchvision_is_read_as_torchvision_reads_it() -> None:
    kinds: dict[tuple[Any, ...], tuple[Pixels, Any]] = {}
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            own, theirs = vision.own_view(name, weights.name), weights.transforms()
            assert (own.mean, own.std) == (tuple(theirs.mean), tuple(theirs.std))
            assert math.floor(own.size / own.crop) == theirs.resize_size[0]
            kinds[own.size, own.crop, own.interpolation] = Pixels(own.size, own.crop, own.interpolation), theirs
    assert len(kinds) > 20
    from torchvision.transforms import functional

    for view, theirs in kinds.values():
        image = odd_images()[2]
        resized = functional.resize(image, theirs.resize_size, interpolation=theirs.interpolation)
        wanted = functional.center_crop(resized, theirs.crop_size)
        assert np.array_equal(apply_view(image, view), np.asarray(wanted)), view


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A densenet's tensors as torchvision's published files call them."""
    named = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key): value for key, value in state.items()}
    return {key: value for key, value in named.items() if "num_batches" not in key}


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "inception_v3", "mnasnet0_5", "resnet18"])
def test_published_files_of_torchvision_give_torchvisions_logits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    more = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    state = models.get_model(name, **more).state_dict()
    file, _ = vision.cached_file(name, None)
    file.parent.mkdir(parents=True)
    torch.save(old_names(state) if name == "densenet121" else state, file)
    theirs = models.get_model(name, weights="DEFAULT").eval()

    row = ModelRow(torchvision=name)
    mine = net_of(row, tmp_path)
    pixels = torch.randn(2, 3, preprocessing(row).size, preprocessing(row).size)
    with torch.no_grad():
        assert torch.equal(mine.eval()(pixels), theirs(pixels))
    assert isinstance(mine.train()(pixels), Tensor)  # no auxiliary outputs


def net_of(row: ModelRow, base: Path, classes: int = 1000) -> nn.Module:
    architecture = describe(row, classes, base)
    net = build(architecture).net
    put_weights(net, load_pretrained("mine", row, architecture, base))
    return net


def test_a_vision_transformer_of_another_size_is_built_for_it() -> None:
    row = ModelRow(torchvision="vit_b_16", tag="IMAGENET1K_SWAG_E2E_V1")
    assert describe(row, 1000).arguments == {"name": "vit_b_16", "image_size": 384}
    assert describe(row, 1000).size == 384
    assert describe(ModelRow(torchvision="vit_b_16"), 1000).arguments == {"name": "vit_b_16"}


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_what_happens_to_pixels_within_the_net_is_stated(name: str, tmp_path: Path) -> None:
    row = {"torchvision": name, "weights": "mine.pth"}
    with pytest.raises(UserError, match="transform_input"):
        describe(ModelRow.model_validate(row), 3, tmp_path)
    for stated in (True, False):
        arguments = {"transform_input": stated}
        assert describe(ModelRow.model_validate(row | {"arguments": arguments}), 3).arguments == {
            "name": name,
            **arguments,
        }
    assert describe(ModelRow.model_validate(row | {"tag": "IMAGENET1K_V1"}), 3).arguments["transform_input"]
    drawn = ModelRow.model_validate({"torchvision": name, "pretrain": {}})
    assert "transform_input" not in describe(drawn, 3).arguments


# -- open_clip ---------------------------------------------------------------------------------------------------------


def test_every_configuration_of_open_clip_is_read_as_open_clip_reads_it() -> None:
    library = pytest.importorskip("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    kinds: dict[tuple[Any, ...], tuple[Pixels, Any]] = {}
    for name, tag in library.list_pretrained():
        given = library.get_pretrained_cfg(name, tag)
        size = library.get_model_config(name)["vision_cfg"]["image_size"]
        if not isinstance(size, int) and size[0] != size[1]:
            continue
        own = preprocessing(ModelRow(open_clip=name, tag=tag))
        theirs = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), given | {"size": size}))
        assert (own.size, own.mean, own.std) == (size if isinstance(size, int) else size[0], theirs.mean, theirs.std)
        kinds[own.resize, own.interpolation] = Pixels(48, own.crop, own.interpolation, resize=own.resize), theirs
    assert {resize for resize, _ in kinds} == {None, "squash"}
    for view, theirs in kinds.values():
        theirs.size = 48
        transform = image_transform_v2(theirs, is_train=False)
        transform.transforms.pop()
        assert_same_pixels(view, transform)


@pytest.mark.parametrize(("mode", "fill"), [("longest", 0), ("longest", 77), ("squash", 0), ("shortest", 0)])
def test_a_folder_of_open_clip_states_its_own_preprocessing(mode: str, fill: int, tmp_path: Path) -> None:
    import json

    pytest.importorskip("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    own = {"size": 48, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "resize_mode": mode, "fill_color": fill}
    tower = {"image_size": 48, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    config = {"embed_dim": 8, "vision_cfg": tower, "text_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": own}))
    architecture = describe(ModelRow(open_clip=str(tmp_path)), 3)
    assert architecture.mean == (0.1, 0.2, 0.3)
    transform = image_transform_v2(PreprocessCfg(**own), is_train=False)  # type: ignore[arg-type]
    transform.transforms.pop()
    assert_same_pixels(architecture.view, transform)


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_has_the_last_word_and_the_sources_say_so() -> None:
    row = ModelRow(timm="convnext_tiny.fb_in22k_ft_in1k_384")
    assert describe(row, 1000).resize == "squash"
    changed = row.model_copy(update={"resize": "shortest", "crop": 0.5})
    own = preprocessing(changed)
    assert describe(changed, 1000).view == Pixels(384, 0.5, "bicubic")
    assert own.sources["resize"] == own.sources["crop"] == "the model's row"
    assert own.sources["mean"] == "timm's configuration of convnext_tiny.fb_in22k_ft_in1k_384"
    border = row.model_copy(update={"resize": "border", "mean": (0.0, 0.5, 1.0)})
    assert describe(border, 1000).fill == (0, 128, 255)


def test_views_that_were_there_keep_their_keys_and_packs() -> None:
    """Neither field is hashed nor named where the image is resized as it always was."""
    from rib.identity import canonical

    for name in ("imagenet:vit_b16_in1k", "imagenet:resnet50", "digits:resnet_small"):
        assert not {"resize", "fill"} & set(canonical(describe(ROWS[name], 1000)))
    squash = describe(ModelRow(timm="convnext_tiny.fb_in22k_ft_in1k_384"), 1000)
    assert canonical(squash)["resize"] == "squash"
    assert Architecture.model_validate_json(squash.model_dump_json()) == squash
    assert Pixels(224, 0.875, "bilinear").name == "224-0_875-bilinear"
    assert Pixels(224, 224 / 232, "bilinear").name == "224-0_965517-bilinear"
    assert Pixels(224, 0.875, "bilinear", "fast").name == "224-0_875-bilinear-fast"


def test_views_with_other_pixels_have_other_packs() -> None:
    views = [
        Pixels(48, 1.0),
        Pixels(48, 1.0, resize="squash"),
        Pixels(48, 1.0, resize="border", fill=(0, 0, 0)),
        Pixels(48, 1.0, resize="border", fill=(0, 0, 1)),
        Pixels(230, 230 / 3),
        Pixels(230, 230 / (3 - 1e-6)),  # a pixel apart, and equal in six digits
    ]
    assert len({view.name for view in views}) == len(views)


# -- who stated it -----------------------------------------------------------------------------------------------------

BUILDER = """
import types
from torch import nn
def plain(num_classes):
    body = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, num_classes))
def carrying(num_classes):
    net = plain(num_classes)
    net.default_cfg = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "crop_pct": 0.9, "crop_mode": "squash"}
    return net
def wrapping(num_classes):
    import timm
    return timm.create_model("resnet10t", num_classes=num_classes)
"""


@pytest.fixture
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stating_net.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_net_that_carries_its_preprocessing_has_it(builders: Path) -> None:
    row = ModelRow(build="stating_net:carrying", size=40, weights="x.pth")
    own = describe(row, 3)
    assert (own.mean, own.std, own.view) == ((0.1, 0.2, 0.3), (1.0,) * 3, Pixels(40, 0.9, "bicubic", resize="squash"))
    assert preprocessing(row, classes=3).sources["crop"] == "the net's own `default_cfg`"
    wrapping = describe(row.model_copy(update={"build": "stating_net:wrapping"}), 3)
    assert wrapping.mean == timm.get_pretrained_cfg("resnet10t").mean != (0.5, 0.5, 0.5)
    stated = row.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    assert describe(stated, 3).mean == (0.0, 0.0, 0.0)
    assert describe(stated, 3).std == (1.0, 1.0, 1.0)


def test_a_net_that_rib_trains_has_ribs_default(builders: Path) -> None:
    trained = ModelRow.model_validate({"build": "stating_net:carrying", "size": 40, "pretrain": {}})
    assert describe(trained, 3).mean == (0.5, 0.5, 0.5)
    assert preprocessing(trained).sources["mean"] == "RIB's default, in its training too"


def test_what_nobody_stated_is_said_everywhere(builders: Path, rib_says: Say, tmp_path: Path) -> None:
    made = document(tmp_path)
    made["runs"], made["models"] = [], ["mine"]
    made["model"] = {"mine": {"build": "stating_net:plain", "size": 24, "weights": "mine.pth"}}
    row = ModelRow(build="stating_net:plain", size=24, weights="mine.pth")
    torch.save(build(describe(row, len(CLASSES))).net.state_dict(), tmp_path / "mine.pth")
    file = tmp_path / "s.toml"
    file.write_text(toml(made))
    words = "mean = std = 0.5, RIB's default"
    code, text = rib_says("plan", file)
    assert (code, words in text) == (0, True)
    assert "mine: 24 pixels (the model's row); shorter side to 24, centre of 24, bicubic, mean 0.5, std 0.5" in text
    assert rib_says("run", file, "--workers", 1)[0] == 0
    page = next((tmp_path / "rib-store" / "reports").glob("*.html")).read_text()
    assert words in page.replace("&#39;", chr(39))
    code, text = rib_says("report", file)
    assert words in text
    found = json.loads(rib_says("report", file, "--json")[1])
    assert words in found["unstated"][0]
    assert found["views"]["mine"]["sources"]["mean"] == "RIB's default"
    made["model"]["mine"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    file.write_text(toml(made))
    assert words not in rib_says("plan", file)[1]
