"""Write corrupted copies of a data set, in the layout of ImageNet-C.

Every image is resized and cropped as for the published set, corrupted, and written as a JPEG of quality 85 to
`corruption/severity/class/name.JPEG`. Its random numbers depend on the bytes of its file, the corruption, the severity
and the seed, but neither on its name nor on its position among other images.
"""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from threadpoolctl import threadpool_limits

from rib.arrays import Rows
from rib.data.budget import room, shown_bytes
from rib.data.catalogue import ROWS as DATA
from rib.data.containers import Container
from rib.data.corruptions.base import SMALLEST, Image
from rib.data.corruptions.catalogue import check_severity, corrupt, find_corruption, image_seed
from rib.data.corruptions.frost import Textures, procedural, read_textures
from rib.data.folders import FolderContainer, check_class_folders
from rib.data.generated import FILE, Marker
from rib.data.imagenet import find_container
from rib.data.images import apply_view, decode_pixels
from rib.data.published import CORRUPTIONS, PUBLISHED, SEVERITIES, Published
from rib.data.survey import Survey, class_list, look, match
from rib.data.views import Pixels
from rib.errors import StepError, UserError, nearest
from rib.files import write_aside
from rib.identity import digest
from rib.text.progress import Advance

QUALITY = 85
"""Quality of the JPEG files, as published."""

SIZE = 224
"""Height and width of the published images. Before cropping, the shorter side is resized to 256 pixels."""

AT_ONCE = 8
"""Number of images that a worker takes at a time."""

_PROBES = 3


@dataclass(frozen=True)
class CorruptionSource:
    """The images to corrupt.

    Attributes:
        name: name of the set.
        container: holds the images.
        rows: their rows in the container.
        names: `class/name.JPEG` of each.
        border: pixels to cut off on every side first.
    """

    name: str
    container: Container
    rows: Rows
    names: tuple[str, ...]
    border: int = 0


@dataclass(frozen=True)
class CorruptionOrder:
    """The settings of the corruption of a set.

    Attributes:
        out: root of the tree to write.
        cells: corruptions and severities.
        seed: seed of all random numbers.
        size: height and width in pixels; 0 to keep the size of every image.
        border: pixels to cut off on every side first.
        frost: folder of frost pictures; None for generated ones.
    """

    out: Path
    cells: tuple[tuple[str, int], ...]
    seed: int
    size: int
    border: int
    frost: Path | None

    @property
    def textures(self) -> Textures:
        """The frost pictures."""
        return read_textures(self.frost) if self.frost else procedural()

    def paths(self, name: str) -> Iterator[tuple[str, int, Path]]:
        """Corruption, severity and file of every corrupted copy of one image."""
        for corruption, severity in self.cells:
            yield corruption, severity, self.out / corruption / str(severity) / name


def find_source(what: str, base: Path) -> CorruptionSource:
    """The images of a published set or a folder.

    Args:
        what: a published ImageNet set of the catalogue, or the path of a folder with one folder per class.
        base: the folder that relative paths start from.

    Raises:
        UserError: there is no such set, it is not on this machine, or its images cannot be corrupted.
    """
    if what in DATA:
        key = DATA[what].imagenet
        if key is None:
            raise UserError(f"{what} cannot be corrupted", got="images of 28 pixels", valid=f"at least {SMALLEST}")
        return _published(what, PUBLISHED[key], key, base)
    folder = base / Path(what).expanduser()
    if not folder.is_dir():
        raise nearest(what, DATA, "data set or folder")
    container = FolderContainer(folder, what)
    check_class_folders(container, what)
    listing = container.listing()
    if not len(listing):
        raise UserError(f"{what} holds no images", got=folder, valid="<folder>/<class>/<image>")
    classes = [listing.folders[number] for number in listing.folder_of.tolist()]
    return CorruptionSource(folder.name, container, np.arange(len(listing)), _file_names(classes, listing.names))


def _published(name: str, published: Published, key: str, base: Path) -> CorruptionSource:
    if published.celled:
        raise UserError(f"{name} is corrupted already", got=name, valid="a set of uncorrupted images: imagenet:val")
    container, _ = find_container(name, key, DATA[name].place, base)
    survey = container if isinstance(container, Survey) else look(name, published, container)
    if isinstance(container, Survey) or survey.state not in ("complete", "incomplete"):
        raise survey.error()
    listing = container.listing()
    labels = match(published, listing, isinstance(container, FolderContainer)).labels[listing.folder_of]
    rows = np.flatnonzero(labels >= 0)
    known = class_list(published)
    classes = [known[label] for label in labels[rows].tolist()]
    names = _file_names(classes, [listing.names[row] for row in rows.tolist()])
    return CorruptionSource(name, container, rows, names, published.border)


def _file_names(classes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """`class/name.JPEG` of each image.

    Raises:
        UserError: two images would have the same file.
    """
    stems = (name.rpartition(".")[0] or name for name in names)
    found = tuple(f"{folder}/{stem}.JPEG" for folder, stem in zip(classes, stems, strict=True))
    if len({name.casefold() for name in found}) < len(found):
        twice = Counter(name.casefold() for name in found).most_common(1)[0][0]
        raise UserError("two images would be written to one file", got=twice, remedy="rename one of them")
    return found


def write_corrupted(
    source: CorruptionSource,
    out: Path,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    size: int = SIZE,
    frost: Path | None = None,
    workers: int = 1,
    advance: Advance | None = None,
) -> int:
    """Write a corrupted set. Files from an earlier call are kept.

    Args:
        source: the images.
        out: root of the tree: empty, new, or from an earlier call with the same settings.
        corruptions: their names.
        severities: 1 to 5.
        seed: seed of all random numbers, at least 0.
        size: height and width of the written images in pixels; 0 to keep the size of every image.
        frost: folder of frost pictures; None for generated ones.
        workers: number of processes; 1 uses only the current process.
        advance: called with the number of images finished since the last call.

    Returns:
        The number of files written.

    Raises:
        UserError: an argument is invalid, an image is unreadable or too small, or the disk has too little space.
        StepError: the disk is full, or a worker died.
    """
    order, marker = _ordered(source, out, corruptions, severities, seed, size, frost)
    _check_out(out, marker)
    left = [place for place, name in enumerate(source.names) if not _is_done(order, name)]
    _check_room(order, source, left)
    write_aside(out / FILE, marker.content())
    tell = advance or (lambda _: None)
    tell(len(source.names) - len(left))
    written = 0
    for images, files in _done(order, source, left, workers):
        written += files
        tell(images)
    write_aside(out / FILE, replace(marker, complete=True).content())
    return written


def _ordered(
    source: CorruptionSource,
    out: Path,
    corruptions: Sequence[str],
    severities: Sequence[int],
    seed: int,
    size: int,
    frost: Path | None,
) -> tuple[CorruptionOrder, Marker]:
    """Check the arguments and return the work to do and the marker of the result."""
    corruptions, severities = tuple(dict.fromkeys(corruptions)), tuple(sorted(set(severities)))
    for name in corruptions:
        find_corruption(name)
    for severity in severities:
        check_severity(severity)
    if not corruptions or not severities:
        raise UserError("nothing to do", got="no corruption or no severity", valid="at least one of each")
    if seed < 0:
        raise UserError("a seed must not be negative", got=seed, valid="0, 1, 2, …")
    if size and size < SMALLEST:
        raise UserError(
            "images would be too small", got=size, valid=f"at least {SMALLEST} pixels, or 0 to keep their size"
        )
    cells = tuple((name, severity) for name in corruptions for severity in severities)
    order = CorruptionOrder(out, cells, seed, size, source.border, frost)
    textures = order.textures if frost and "frost" in corruptions else None
    marker = Marker(
        version=version("rib-benchmark"),
        seed=seed,
        source=source.name,
        images=len(source.names),
        listing=digest("\n".join(source.names).encode()),
        corruptions=corruptions,
        severities=severities,
        size=size,
        frost=f"{textures.source} {textures.digest}" if textures else "procedural",
    )
    return order, marker


def _check_out(out: Path, marker: Marker) -> None:
    """Refuse a folder that contains anything but the same corrupted set, complete or not.

    Raises:
        UserError: it contains something else.
    """
    there = Marker.read(out)
    if there is None:
        if out.exists() and not out.is_dir():
            raise UserError("not a folder", got=out, remedy="choose another path with --out")
        if out.is_dir() and next(out.iterdir(), None) is not None:
            raise UserError(f"{out} is not empty", got=f"no {FILE} in it", remedy="choose a new folder with --out")
        return
    new, old = vars(marker), vars(there)
    differing = [name for name in new if name != "complete" and new[name] != old[name]]
    if differing:
        raise UserError(
            f"{out} contains a set made with other settings",
            got=", ".join(f"{name} {_shown(new[name])}" for name in differing),
            valid=", ".join(f"{name} {_shown(old[name])}" for name in differing),
            remedy="use the same settings, or choose a new folder with --out",
        )


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _is_done(order: CorruptionOrder, name: str) -> bool:
    return all(path.exists() for _, _, path in order.paths(name))


def _check_room(order: CorruptionOrder, source: CorruptionSource, left: Sequence[int]) -> None:
    """Check the disk space, estimated from the corrupted files of a few images.

    Raises:
        UserError: there is too little.
    """
    if not left:
        return
    probes = sorted({left[0], left[len(left) // 2], left[-1]})[:_PROBES]
    contents = source.container.read(source.rows[probes])
    sizes = [
        len(encoded)
        for place, content in zip(probes, contents, strict=True)
        for _, encoded in _made(order, source.names[place], _title(source, place), content)
    ]
    needed, space = sum(sizes) / len(probes) * len(left), room(order.out)
    if needed > space:
        raise UserError(
            f"no room for the corrupted set in {order.out}",
            got=f"about {shown_bytes(needed)} for {len(left):,} images in {len(order.cells)} ways each",
            valid=f"{shown_bytes(space)} free, less a reserve",
            remedy="free some space, name a larger disk with --out, or ask for fewer corruptions or severities",
        )


def _title(source: CorruptionSource, place: int) -> str:
    return source.container.title(int(source.rows[place]))


Work = list[tuple[str, str, bytes]]


def _done(
    order: CorruptionOrder, source: CorruptionSource, left: Sequence[int], workers: int
) -> Iterator[tuple[int, int]]:
    """Corrupt the remaining images in groups, in the fastest order; yield numbers of images and files per group."""
    ranked = source.container.reading_order(source.rows)
    wanted = set(left)
    places = [place for place in ranked.tolist() if place in wanted]
    works = (_work(source, places[start : start + AT_ONCE]) for start in range(0, len(places), AT_ONCE))
    if workers == 1:
        with threadpool_limits(1, user_api="blas"):
            yield from (_write(order, work) for work in works)
        return
    with _pool(workers) as pool:
        waiting: deque[Future[tuple[int, int]]] = deque()
        for work in works:
            waiting.append(pool.submit(_write, order, work))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Worker processes with one thread each. After an error, groups that have not started are dropped."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    try:
        yield pool
    except BrokenProcessPool:
        raise StepError("a worker died, perhaps out of memory; run again with fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    threadpool_limits(1, user_api="blas")


def _work(source: CorruptionSource, places: Sequence[int]) -> Work:
    """File name, title and bytes of some images."""
    contents = source.container.read(source.rows[list(places)])
    return [
        (source.names[place], _title(source, place), content) for place, content in zip(places, contents, strict=True)
    ]


def _write(order: CorruptionOrder, work: Work) -> tuple[int, int]:
    """Write the missing files of some images: number of images, and of files."""
    files = 0
    for name, title, content in work:
        for path, encoded in _made(order, name, title, content):
            write_aside(path, encoded)
            files += 1
    return len(work), files


def _made(order: CorruptionOrder, name: str, title: str, content: bytes) -> Iterator[tuple[Path, bytes]]:
    """The missing files of one image, encoded."""
    image = _prepared(order, title, content)
    seed = image_seed(content, order.seed)
    textures = order.textures if any(corruption == "frost" for corruption, _ in order.cells) else None
    for corruption, severity, path in order.paths(name):
        if not path.exists():
            found = corrupt(image[None], corruption, severity, [seed], textures=textures)
            yield path, _encoded(found[0])


def _prepared(order: CorruptionOrder, title: str, content: bytes) -> Image:
    """The image to corrupt.

    Raises:
        UserError: it is unreadable or too small.
    """
    pixels = decode_pixels(content, title)
    if order.border:
        pixels = pixels[order.border : -order.border, order.border : -order.border]
    if order.size:
        return np.ascontiguousarray(apply_view(pixels, Pixels(order.size, 0.875, "bilinear")))
    if min(pixels.shape[:2]) < SMALLEST:
        height, width = pixels.shape[:2]
        raise UserError(
            f"the image {title} is too small to be corrupted",
            got=f"{width} × {height} pixels",
            valid=f"at least {SMALLEST}",
            remedy="omit --size, so that RIB enlarges it",
        )
    return np.ascontiguousarray(pixels)


def _encoded(image: Image) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
