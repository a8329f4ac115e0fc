"""Models: every kind of source gives the weights that lie in its file, and says what is missing or does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rib import _compat
from rib.data.views import Pixels
from rib.errors import UserError
from rib.models import clip, imagenet
from rib.models.build import build
from rib.models.catalogue import ROWS, ModelRow
from rib.models.describe import describe
from rib.models.loading import load_pretrained, weights_digest
from rib.models.sources import find_weights

_compat.declare_missing_operators()

import timm  # noqa: E402
import torchvision  # noqa: E402

VIT = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2}
IMAGENET = sorted(name for name in ROWS if name.startswith("imagenet:"))
WORDS = ("tench", "great white shark", "hen")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache of the machine's, and no network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny_vit(classes: int = 10) -> nn.Module:
    return timm.create_model(VIT, num_classes=classes, **SMALL)


def vit_row(**fields: Any) -> ModelRow:
    return ModelRow(**{"timm": VIT, "arguments": SMALL, "size": 32} | fields)


def hub_file(repository: str, file: str, home: Path) -> Path:
    """The place of a file in a hub cache that `hf download` has filled."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    return folder / "snapshots" / "abc123" / file


def loaded(row: ModelRow, base: Path, classes: int = 10) -> dict[str, Tensor]:
    return load_pretrained("mine", row, describe(row, classes, base), base)


@torch.no_grad()
def pixels(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


# -- the catalogue -----------------------------------------------------------------------------------------------------


SIDES = {"imagenet:efficientnet_lite1": 240, "imagenet:efficientnet_lite2": 260}


@pytest.mark.parametrize("name", IMAGENET)
def test_every_row_is_described_without_its_weights(name: str) -> None:
    row = ROWS[name]
    if row.open_clip is not None:
        pytest.importorskip("open_clip")
    architecture = describe(row, 1000)
    assert (architecture.size, architecture.classes) == (SIDES.get(name, 224), 1000)
    assert row.pretraining
    assert row.pretraining_images is not None
    assert row.pretraining_images > 1_000_000
    assert row.weights or find_weights(row, Path()).found is None


def test_the_catalogue_has_every_size_and_pretraining_of_the_paper_that_timm_publishes() -> None:
    known = set(timm.list_pretrained("vit_*"))
    bases = ("vit_base_patch16", "vit_base_patch32", "vit_small_patch16", "vit_small_patch32", "vit_large_patch16")
    endings = (
        *("_224.augreg_in1k", "_224.sam_in1k", "_224.orig_in21k_ft_in1k", "_224_miil.in21k_ft_in1k"),
        *("_224.augreg_in21k_ft_in1k", "_clip_224.openai_ft_in1k", "_clip_224.laion2b_ft_in1k"),
    )
    published = {base + ending for base in bases for ending in endings} & known
    assert {row.timm for row in ROWS.values() if row.timm} >= published
    assert len(published) == 16


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("vit_b16_in21k_augreg", Pixels(224, 0.9, "bicubic")),
        ("vit_b16_laion2b", Pixels(224, 1.0, "bicubic")),
        ("vit_b16_in21k_p", Pixels(224, 0.875, "bilinear")),
        ("resnet18", Pixels(224, 0.875, "bilinear")),
        ("resnet50", Pixels(224, 224 / 232, "bilinear")),
    ],
)
def test_preprocessing_is_the_models_own(name: str, view: Pixels) -> None:
    assert describe(ROWS[f"imagenet:{name}"], 1000).view == view


@pytest.mark.parametrize("name", [name for name in imagenet.LINES if name.startswith("clip_")])
def test_clip_rows_have_the_preprocessing_of_open_clip(name: str) -> None:
    library = pytest.importorskip("open_clip")
    architecture = describe(ROWS[f"imagenet:{name}"], 1000)
    assert architecture.mean == library.OPENAI_DATASET_MEAN
    assert architecture.std == library.OPENAI_DATASET_STD
    assert architecture.view == Pixels(224, 1.0, "bicubic")


def test_the_clip_activation_is_that_of_the_published_weights() -> None:
    pytest.importorskip("open_clip")
    names = ("clip_rn50_cc12m", "clip_b32_openai", "clip_b32_laion2b")
    quick = {name: describe(ROWS[f"imagenet:{name}"], 10).arguments.get("quick_gelu") for name in names}
    assert quick["clip_rn50_cc12m"]
    assert quick["clip_b32_openai"]
    assert not quick["clip_b32_laion2b"]


# -- weights, from every place -----------------------------------------------------------------------------------------


def save_st(net: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), path)


def save_pth(net: nn.Module, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, path)


@pytest.mark.parametrize(("file", "save"), [("w.safetensors", save_st), ("w.pth", save_pth)])
def test_a_local_file(file: str, save: Callable[[nn.Module, Path], None], tmp_path: Path) -> None:
    net = tiny_vit().eval()
    save(net, tmp_path / file)
    row = vit_row(weights=file)
    assert same_logits(net, row, tmp_path)


def same_logits(net: nn.Module, row: ModelRow, base: Path, classes: int = 10) -> bool:
    architecture = describe(row, classes, base)
    classifier = build(architecture).eval()
    classifier.net.load_state_dict(loaded(row, base, classes))
    images = pixels(architecture.size)
    with torch.no_grad():
        return float((classifier.net(images) - net(images)).abs().max()) == 0.0


def test_a_hugging_face_folder(tmp_path: Path) -> None:
    net = tiny_vit().eval()
    config = {"pretrained_cfg": {"crop_pct": 0.95, "mean": [0.1, 0.2, 0.3], "input_size": [3, 32, 32]}}
    given = {"model_config": config, "model_args": SMALL}  # newer timm finds the arguments by itself
    timm.models.save_for_hf(net, str(tmp_path / "saved"), **given, safe_serialization=True)
    row = ModelRow(hf="saved")
    architecture = describe(row, 10, tmp_path)
    assert architecture.view == Pixels(32, 0.95, "bicubic")
    assert architecture.mean == (0.1, 0.2, 0.3)
    assert same_logits(net, row, tmp_path)
    with torch.no_grad():
        plain = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
        assert torch.equal(plain(pixels(32)), net(pixels(32)))


def test_a_hugging_face_cache_offline(tmp_path: Path) -> None:
    net = timm.create_model("vit_tiny_patch16_224", num_classes=1000).eval()
    save_st(net, hub_file("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors", tmp_path / "hf"))
    row = ModelRow(timm="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert same_logits(net, row, tmp_path, 1000)
    assert len(weights_digest("mine", row, tmp_path)) == 40


def test_the_torchvision_cache(tmp_path: Path) -> None:
    net = torchvision.models.resnet18(num_classes=1000).eval()
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(net.state_dict(), file)
    assert same_logits(net, ROWS["imagenet:resnet18"], tmp_path, 1000)


def test_a_foreign_form_is_converted_by_timm_and_keeps_its_head(tmp_path: Path) -> None:
    net = tiny_vit().eval()
    foreign = {f"visual.trunk.{name}": value for name, value in net.state_dict().items()}
    torch.save(foreign, tmp_path / "foreign.pth")
    assert same_logits(net, vit_row(weights="foreign.pth"), tmp_path)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_wrong_head_is_refused_and_not_drawn_anew(tmp_path: Path) -> None:
    save_st(tiny_vit(12), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"12 outputs \(head.weight is \(12, 48\)\)\n  valid:  10,"):
        loaded(vit_row(weights="w.safetensors"), tmp_path)


@pytest.mark.parametrize("prefix", ["visual.trunk.", "backbone."])
def test_a_foreign_form_with_a_wrong_head_is_refused(prefix: str, tmp_path: Path) -> None:
    torch.save({prefix + name: value for name, value in tiny_vit(12).state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="has another number of classes"):
        loaded(vit_row(weights="w.pth"), tmp_path)


def test_published_weights_with_another_head_are_refused(tmp_path: Path) -> None:
    net = timm.create_model("vit_tiny_patch16_224", num_classes=21843)
    save_st(net, hub_file("timm/vit_tiny_patch16_224.augreg_in21k", "model.safetensors", tmp_path / "hf"))
    with pytest.raises(UserError, match=r"21843 outputs \(head.weight is \(21843, 192\)\)\n  valid:  1000,"):
        loaded(ModelRow(timm="vit_tiny_patch16_224.augreg_in21k"), tmp_path, 1000)


def test_missing_published_weights_name_file_place_and_command(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        weights_digest("vit", ROWS["imagenet:vit_b16_in1k"], tmp_path)
    text = str(caught.value)
    assert "model.safetensors of timm/vit_base_patch16_224.augreg_in1k" in text
    assert str(tmp_path / "hf" / "hub") in text
    assert "hf download timm/vit_base_patch16_224.augreg_in1k model.safetensors" in text
    with pytest.raises(UserError) as caught:
        weights_digest("resnet", ROWS["imagenet:resnet50"], tmp_path)
    text = str(caught.value)
    assert str(tmp_path / "torch" / "hub" / "checkpoints" / "resnet50-11ad3fa6.pth") in text
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in text


def test_weights_that_timm_does_not_publish_are_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown timm model 'vit_small_patch32_224\.sam_in1k'"):
        describe(ModelRow(timm="vit_small_patch32_224.sam_in1k"), 1000)
    with pytest.raises(UserError, match="timm publishes no weights under the name 'coatnet_0_224'"):
        weights_digest("mine", ModelRow(timm="coatnet_0_224"), tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"torchvision": "resnet19"}, "unknown torchvision model 'resnet19'"),
        ({"torchvision": "resnet18", "tag": "IMAGENET1K_V9"}, "unknown weights of torchvision model"),
        ({"hf": "nowhere"}, "no such model folder"),
        ({"timm": VIT, "size": 32}, "takes images of 224 pixels"),
    ],
)
def test_a_row_that_cannot_be_described(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        describe(ModelRow(**row), 10, tmp_path)


def test_a_folder_of_another_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ViTForImageClassification"]}))
    with pytest.raises(UserError, match="does not describe a timm model"):
        describe(ModelRow(hf="."), 10, tmp_path)


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_digest_is_the_content_and_is_read_again_only_when_the_file_changes(tmp_path: Path) -> None:
    save_st(tiny_vit(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    facts = tmp_path / "facts"
    a, b = (weights_digest("m", vit_row(weights=f"{name}.safetensors"), tmp_path, (), facts) for name in "ab")
    assert a == b
    assert len(list(facts.iterdir())) == 2
    save_st(tiny_vit(), tmp_path / "b.safetensors")
    assert weights_digest("m", vit_row(weights="b.safetensors"), tmp_path, (), facts) != a


# -- open_clip ---------------------------------------------------------------------------------------------------------

CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def clip_folder(tmp_path: Path) -> tuple[Path, Any]:
    """A folder as open_clip publishes one, and the model that was saved there."""
    library = pytest.importorskip("open_clip")
    model = library.CLIP(**CLIP).eval()
    folder = tmp_path / "tiny-clip"
    save_st(model, folder / "open_clip_model.safetensors")
    (folder / clip.CONFIG).write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}))
    return folder, model


def test_open_clip_becomes_a_linear_head_on_normalised_features(clip_folder: tuple[Path, Any], tmp_path: Path) -> None:
    import open_clip

    folder, model = clip_folder
    prompts = ("a photo of a {}.", "a drawing of the {}.")
    row = ModelRow(open_clip=folder.name, prompts=prompts)
    architecture = describe(row, 3, tmp_path)
    assert (architecture.size, architecture.mean[0]) == (32, 0.5)
    weights = load_pretrained("clip", row, architecture, tmp_path, WORDS, tmp_path / "facts")
    classifier = build(architecture).eval()
    classifier.net.load_state_dict(weights)
    images = pixels(32)
    tokens = open_clip.SimpleTokenizer()
    with torch.no_grad():
        texts = [tokens([prompt.format(word) for prompt in prompts]) for word in WORDS]
        means = [model.encode_text(text, normalize=True).mean(0) for text in texts]
        directions = torch.stack([mean / mean.norm() for mean in means])
        expected = model.logit_scale.exp() * model.encode_image(images, normalize=True) @ directions.T
        assert torch.allclose(classifier.net(images), expected, atol=1e-4)
    again = load_pretrained("clip", row, architecture, tmp_path, WORDS, tmp_path / "facts")
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_the_words_and_prompts_are_part_of_what_clip_weights_are(clip_folder: tuple[Path, Any], tmp_path: Path) -> None:
    def digest(words: tuple[str, ...], **fields: Any) -> str:
        return weights_digest("c", ModelRow(open_clip="tiny-clip", **fields), tmp_path, words)

    assert digest(WORDS) == digest(WORDS)
    others = [digest(WORDS[::-1]), digest(WORDS, prompts=("{}",)), digest(WORDS, class_names=("a", "b", "c"))]
    assert len({digest(WORDS), *others}) == 4


def test_wnids_become_words() -> None:
    library = pytest.importorskip("open_clip")
    from timm.data.imagenet_info import ImageNetInfo

    wnids = ImageNetInfo().label_names()
    assert clip.class_words(wnids) == tuple(library.IMAGENET_CLASSNAMES)
    assert clip.class_words(["n01440764"]) == ("tench",)
    assert clip.class_words(["ice_cream"]) == ("ice cream",)
    with pytest.raises(UserError, match="has no name in words"):
        clip.class_words(["n01440764", "n99999999"])


def test_a_clip_checkpoint_that_does_not_fit_is_refused(clip_folder: tuple[Path, Any], tmp_path: Path) -> None:
    wide = CLIP | {"embed_dim": 32}
    (clip_folder[0] / clip.CONFIG).write_text(json.dumps({"model_cfg": wide}))
    row = ModelRow(open_clip="tiny-clip")
    with pytest.raises(UserError, match="cannot load the CLIP checkpoint"):
        load_pretrained("c", row, describe(row, 3, tmp_path), tmp_path, WORDS)


def test_missing_clip_weights_name_repository_and_command(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(UserError, match=r"hf download timm/resnet50_clip\.cc12m --include 'open_clip\*'"):
        weights_digest("c", ROWS["imagenet:clip_rn50_cc12m"], tmp_path, WORDS)


def test_a_published_clip_model_is_found_in_the_hub_cache(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    file = hub_file("timm/resnet50_clip.cc12m", "open_clip_model.safetensors", tmp_path / "hf")
    file.write_bytes(b"anything")
    assert find_weights(ROWS["imagenet:clip_rn50_cc12m"], tmp_path).found == file
