"""Files of another kind than expected: pointers of Git LFS, web pages, compressed files, files of other tools."""

from __future__ import annotations

import re
from pathlib import Path

from rib.files import plain

_START = 512
"""Number of bytes that show what a file is."""

_KINDS = (
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file", "fetch the files: git lfs pull"),
    (rb"[./]*(\.git/)?annex/objects/", "a pointer of git-annex in place of the file", "fetch the files: git annex get"),
    (rb"\s*<(!doctype|html|head)", "a web page", "download the file again: the address gave a page"),
    (rb"\x1f\x8b", "a file compressed by gzip", "decompress it: gzip -d"),
    (rb"BZh[1-9]", "a file compressed by bzip2", "decompress it: bzip2 -d"),
    (rb"\xfd7zXZ\0", "a file compressed by xz", "decompress it: xz -d"),
    (rb"\x28\xb5\x2f\xfd", "a file compressed by zstd", "decompress it: zstd -d"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"PAR1", "a Parquet file", "name it under `parquet`"),
    (rb"\x93NUMPY", "one NumPy array (.npy)", "save images and labels in one file: np.savez(FILE, images=…, labels=…)"),
    (rb"MATLAB ", "a MAT-file", "convert it: scipy.io.loadmat(FILE), then np.savez(FILE, images=…, labels=…)"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, MATLAB 7.3)", "convert it with the library that wrote it"),
)
"""First bytes of a file, what such a file is, and what to do about it."""


def kind_of(start: bytes, besides: str = "") -> tuple[str, str] | None:
    """What a file is by its first bytes, and what to do about it; None if the bytes are of no kind that RIB knows.

    Args:
        start: the file's first bytes.
        besides: a kind that is expected here, so that only the other kinds are found.
    """
    found = ((what, remedy) for pattern, what, remedy in _KINDS if re.match(pattern, start[:_START], re.IGNORECASE))
    what, remedy = next(found, ("", ""))
    return (what, remedy) if what and what != besides else None


def kind_of_file(path: Path, besides: str = "") -> tuple[str, str] | None:
    """As `kind_of`, of a file; None if it cannot be read."""
    try:
        with plain(path).open("rb") as file:
            return kind_of(file.read(_START), besides)
    except OSError:
        return None
