"""The domains of `digits` as data sets, rendered from scikit-learn's scans when first used."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rib.data import digits
from rib.data.base import DataSet, Form
from rib.data.containers import short_digests
from rib.data.examples import Index, Part
from rib.data.images import apply_view
from rib.data.pictures import picture_digest
from rib.data.views import Inputs, View, as_pixels
from rib.errors import UserError, nearest
from rib.files import read_fact, write_fact
from rib.identity import digest


class DigitsSet(DataSet):
    """One domain of `digits`, or one of its pretraining sets.

    Args:
        name: the data set's name.
        domain: one of `digits.DOMAINS` or `digits.PRETRAINING`.
        cache: folder for labels and fingerprints of renderings, so that a finished run need not render again.

    Raises:
        UserError: there is no such domain.
    """

    def __init__(self, name: str, domain: str, cache: Path | None = None) -> None:
        if domain not in digits.DOMAINS + digits.PRETRAINING:
            raise nearest(domain, digits.DOMAINS + digits.PRETRAINING, "digits domain")
        self.name, self._domain, self._cache = name, domain, cache
        self._classes = digits.DOMAIN_CLASSES.get(domain, tuple(range(len(digits.CLASSES))))
        self.classes = tuple(digits.CLASSES[index] for index in self._classes)
        self.family = digits.FAMILY.get(domain, domain)
        self.units = "scan"  # every domain shows the same scans, so they are resampled together
        self.matched = self.shipped = True
        self.disjoint = True
        self.chunk = 10**9  # a domain is rendered as a whole
        self._known: dict[Part, tuple[Index, str]] = {}

    def index(self, part: Part) -> Index:
        return self._facts(part)[0]

    def fingerprint(self, part: Part) -> str:
        return self._facts(part)[1]

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        images, pixels = self._render(part).images[np.asarray(rows)], as_pixels(view, self.name)
        if images.shape[1:] == pixels.shape:
            return images
        return np.stack([apply_view(image, pixels) for image in images])

    def form(self, part: Part) -> Form:
        from rib.data.digits.geometry import SIDE  # imported here so that listings need no torch

        return Form(True, len(self.index(part)) * SIDE**2)

    def pictures(self, part: Part) -> NDArray[np.uint64]:
        return short_digests([picture_digest(image) for image in self._render(part).images])

    @property
    def parts(self) -> tuple[Part, ...]:
        return ("tune",) if self._domain in digits.PRETRAINING else ("tune", "test")

    def _facts(self, part: Part) -> tuple[Index, str]:
        if part not in self.parts:
            raise UserError(
                f"data set {self.name!r} has no test part: it is for pretraining only",
                got=self.name,
                valid=", ".join(f"digits:{name}" for name in digits.DOMAINS),
                remedy="to tune on images of the reference set, name it in the runs: "
                '[[runs]] downstream = ["digits:ref"] (rib run digits-reference)',
            )
        if part not in self._known:
            self._known[part] = self._read_facts(part) or self._make_facts(part)
        return self._known[part]

    def _render(self, part: Part) -> digits.Rendered:
        return _rendered(self._domain, part)

    def _make_facts(self, part: Part) -> tuple[Index, str]:
        rendered = self._render(part)
        content = (rendered.images, rendered.labels, rendered.source)
        fingerprint = digest(b"".join(array.tobytes() for array in content))
        labels = np.searchsorted(np.array(self._classes), rendered.labels).astype(np.int64)
        index = Index(labels, rendered.source.astype(np.int64), rendered.cell, rendered.cells)
        if (file := self._facts_file(part)) is not None:
            facts = {"labels": labels, "sources": index.sources, "fingerprint": np.array(fingerprint)}
            if index.cells is not None:
                facts |= {"cells": index.cells, "cell_names": np.array(index.cell_names)}
            buffer = io.BytesIO()
            np.savez(buffer, **cast(dict[str, Any], facts))
            write_fact(file, buffer.getvalue())
        return index, fingerprint

    def _read_facts(self, part: Part) -> tuple[Index, str] | None:
        file = self._facts_file(part)
        if file is None or (kept := read_fact(file)) is None:
            return None
        with np.load(io.BytesIO(kept), allow_pickle=False) as facts:
            cells = facts.get("cells", None)
            names = tuple(str(name) for name in facts["cell_names"]) if cells is not None else ()
            return Index(facts["labels"], facts["sources"], cells, names), str(facts["fingerprint"])

    def _facts_file(self, part: Part) -> Path | None:
        return self._cache / f"digits-{self._domain}-{part}-{_world_digest()}.npz" if self._cache else None


@lru_cache(maxsize=32)  # a rendering is needed twice in a row: for its fingerprint and for its pixels
def _rendered(domain: str, part: Part) -> digits.Rendered:
    pretraining = domain in digits.PRETRAINING and part == "tune"
    return digits.render(domain, "pretrain" if pretraining else part)


@cache
def _world_digest() -> str:
    """Digest of the renderer's source, so that a cache of another world is never used."""
    package = Path(digits.__file__).parent
    return digest(b"".join(file.read_bytes() for file in sorted(package.glob("*.py"))))[:16]
