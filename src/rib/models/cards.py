"""Descriptions of an architecture's task and inputs, for model cards."""

from __future__ import annotations

from collections.abc import Iterator

from rib.models.catalogue import Architecture


def task(architecture: Architecture) -> str:
    """The task, by the name that model hubs use."""
    return "text-classification" if architecture.tokens else "image-classification"


def input_lines(architecture: Architecture) -> Iterator[str]:
    """Sentences on how a model takes its inputs."""
    if (tokens := architecture.tokens) is not None:
        yield (
            f"Texts: {tokens.length} tokens of the tokenizer `{tokens.tokenizer[:24]}` ({tokens.vocabulary:,} ids); "
            f"the {tokens.keep} of longer texts is kept."
        )
        return
    side, filtered = int(architecture.size / architecture.crop), architecture.interpolation
    resized = {None: "shorter side", "squash": "both sides", "border": "longer side"}[architecture.resize]
    border = f", on a border of RGB {architecture.fill}" if architecture.fill else ""
    yield f"Images: {resized} to {side} pixels ({filtered}){border}, centre crop of {architecture.size}."
    yield f"Normalisation: mean {list(architecture.mean)}, standard deviation {list(architecture.std)}."
