"""Render scans into labelled images. The same arguments give the same pixels, and `count` gives a prefix.

Images are drawn in chunks of a fixed size, each with its own named generator, so no image depends on the number of
images that are requested.
"""

import torch
from torch import Tensor

from rib.data.digits.adversary import fools_adversary
from rib.data.digits.corruptions import corrupt
from rib.data.digits.domains import ALL, DOMAIN_TABLE, PRETRAINING_TABLE, SEVERITIES, STRENGTHS, Domain
from rib.data.digits.draws import DigitDraws
from rib.data.digits.finish import FINISHES
from rib.data.digits.looks import DigitStyle, Finish
from rib.data.digits.paint import paint
from rib.data.digits.rendered import DigitPart, Rendered
from rib.data.digits.scans import scan_labels, scans_in, scans_of

CHUNK = 512
POOL = 2000
ADVERSARIAL_ROUNDS = 16
CELL_IMAGES = 24
CELLS = tuple(f"{name}/{severity}" for name in STRENGTHS for severity in SEVERITIES)


def render(domain: str, part: DigitPart, count: int | None = None) -> Rendered:
    """Render a domain's tuning pool, its test set, or a pretraining set; `digits.render` describes the arguments.

    Raises:
        ValueError: the domain or the part does not exist, or it has fewer than `count` images.
    """
    _check(domain, part, count)
    cell = None
    if domain in PRETRAINING_TABLE:
        images, source = _mixture(domain)
    elif domain == "corrupted":
        images, source, cell = _corrupted(part)
    elif DOMAIN_TABLE[domain].filtered:
        images, source = _fooling(DOMAIN_TABLE[domain], part)
    else:
        images, source = _plain(DOMAIN_TABLE[domain], part, count)
    if count is not None and count > len(source):
        raise ValueError(f"{domain!r} has {len(source)} images in part {part!r}; got count={count}")
    return Rendered(
        images=images[:count].numpy(),
        labels=scan_labels()[source[:count]].numpy(),
        source=source[:count].numpy(),
        cell=None if cell is None else cell[:count].numpy(),
        cells=() if cell is None else CELLS,
    )


def reference_images(stream: str, count: int) -> tuple[Tensor, Tensor]:
    """Images of the reference set from pretraining scans, with a separate seed: uint8 [N, S, S, 3], and scans [N]."""
    return _stream(stream, DOMAIN_TABLE["ref"].look, count)


def _check(domain: str, part: str, count: int | None) -> None:
    valid = ("pretrain",) if domain in PRETRAINING_TABLE else ("tune", "test")
    if domain not in PRETRAINING_TABLE and domain not in DOMAIN_TABLE:
        raise ValueError(f"unknown domain {domain!r}: choose one of {[*DOMAIN_TABLE, *PRETRAINING_TABLE]}")
    if part not in valid:
        raise ValueError(f"{domain!r} has no part {part!r}: choose one of {valid}")
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1; got {count}")


def balanced_sources(part: DigitPart, classes: tuple[int, ...], count: int, *name: object) -> Tensor:
    """Scans whose every prefix is balanced over `classes`. A class repeats a scan only after all its scans are used."""
    rounds = -(-count // len(classes))
    order = DigitDraws(1, *name, part, "order")
    labels = torch.stack([order.permutation(len(classes)) for _ in range(rounds)])
    queues = []
    for label in classes:
        scans, deal = scans_of(part, label), DigitDraws(1, *name, part, "deal", label)
        deals = [scans[deal.permutation(len(scans))] for _ in range(-(-rounds // len(scans)))]
        queues.append(torch.cat(deals)[:rounds])
    return torch.stack(queues, dim=1).gather(1, labels).flatten()[:count]


def _sources(row: Domain, part: DigitPart, count: int | None) -> Tensor:
    if part == "test":
        scans = scans_in(part)
        return scans[torch.isin(scan_labels()[scans], torch.tensor(row.classes))]
    whole_chunks = -(-(count or POOL) // CHUNK) * CHUNK
    return balanced_sources(part, row.classes, whole_chunks, row.stream)


def _plain(row: Domain, part: DigitPart, count: int | None) -> tuple[Tensor, Tensor]:
    source = _sources(row, part, None if count is None else min(count, POOL))
    return _images(source, row.look, part, row.finish, row.stream, part)[:POOL], source[:POOL]


def _images(source: Tensor, look: DigitStyle, part: DigitPart, finish: Finish, *name: object) -> Tensor:
    """Paint and finish the scans, uint8 [N, S, S, 3]."""
    strays, chunks = scans_in(part), []
    for number, chunk in enumerate(torch.split(source, CHUNK)):
        scene = paint(chunk, strays, look, DigitDraws(len(chunk), *name, number))
        finished = FINISHES[finish](scene, DigitDraws(len(chunk), *name, number, finish))
        chunks.append(as_bytes(finished))
    return torch.cat(chunks)


def as_bytes(images: Tensor) -> Tensor:
    """[N, 3, S, S] in [0, 1] to uint8 [N, S, S, 3]."""
    return (images.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _stream(stream: str, look: DigitStyle, count: int) -> tuple[Tensor, Tensor]:
    source = balanced_sources("pretrain", ALL, -(-count // CHUNK) * CHUNK, stream)
    return _images(source, look, "pretrain", "photo", stream, "pretrain")[:count], source[:count]


def _mixture(domain: str) -> tuple[Tensor, Tensor]:
    streams = [_stream(stream, look, count) for stream, look, count in PRETRAINING_TABLE[domain]]
    images, source = zip(*streams, strict=True)
    return torch.cat(images), torch.cat(source)


def _fooling(row: Domain, part: DigitPart) -> tuple[Tensor, Tensor]:
    """Draw each scan until the adversary is wrong. Scans that never fool it are left out."""
    source = _sources(row, part, None)
    labels, pending = scan_labels()[source], torch.arange(len(source))
    images = torch.zeros(len(source), 28, 28, 3, dtype=torch.uint8)
    for attempt in range(ADVERSARIAL_ROUNDS):
        candidates = _images(source[pending], row.look, part, row.finish, row.stream, part, attempt)
        fooling = fools_adversary(candidates, labels[pending], row.classes)
        images[pending[fooling]] = candidates[fooling]
        pending = pending[~fooling]
    kept = torch.ones(len(source), dtype=torch.bool)
    kept[pending] = False
    rows = torch.nonzero(kept).flatten()
    if part == "tune":
        rows = _rebalanced(rows, labels)[:POOL]
    return images[rows], source[rows]


def _rebalanced(rows: Tensor, labels: Tensor) -> Tensor:
    """The rows in turn over the classes, each class in its order, until one class has no more."""
    by_class = [rows[labels[rows] == label] for label in torch.unique(labels)]
    shortest = min(len(of_class) for of_class in by_class)
    return torch.stack([of_class[:shortest] for of_class in by_class], dim=1).flatten()


def _corrupted(part: DigitPart) -> tuple[Tensor, Tensor, Tensor]:
    """Corrupted reference images: for testing, a draw of test scans per cell; for tuning, one cell per image."""
    images, source = _plain(DOMAIN_TABLE["ref"], part, None)
    if part == "test":
        drawn = [balanced_sources(part, ALL, CELL_IMAGES, "corrupted", cell) for cell in CELLS]
        rows = torch.searchsorted(source, torch.cat(drawn))
        cell = torch.arange(len(CELLS)).repeat_interleave(CELL_IMAGES)
    else:
        rows = torch.arange(len(source))
        cell = rows * 7 % len(CELLS)  # 7 is coprime to 75 and to 10, so every class meets every cell
    clean = images.permute(0, 3, 1, 2).to(torch.float32) / 255.0
    out = images[rows]
    for index, name in enumerate(CELLS):
        mine = torch.nonzero(cell == index).flatten()
        kind, severity = name.split("/")
        draws = DigitDraws(len(mine), "corrupted", part, name)
        out[mine] = as_bytes(corrupt(clean[rows[mine]], kind, int(severity), draws))
    return out, source[rows], cell.to(torch.int16)
