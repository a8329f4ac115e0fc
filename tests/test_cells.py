"""Cells: a corruption set of one's own is one row, every cell of it weighs the same."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rib
from helpers import CLASSES, document
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data
from rib.errors import UserError
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import parse_suite

CELLS = ("blur/2", "blur/10", "fog/1")
"""As they are named; 2 stands before 10."""

COUNTS = {"blur/2": 2, "blur/10": 5, "fog/1": 3}
"""Images of a class in each: the mean over images is not that over cells."""


def picture(label: int, cell: str, place: int) -> bytes:
    pixels = np.random.default_rng([label, CELLS.index(cell), place]).integers(0, 255, (12, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def images() -> list[tuple[str, int, int]]:
    return [(cell, label, place) for cell in CELLS for label in range(4) for place in range(COUNTS[cell])]


def tree(root: Path) -> dict[str, Any]:
    for cell, label, place in images():
        folder = root / cell / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place}.png").write_bytes(picture(label, cell, place))
    return {"folder": root.name, "cells": 2}


def parquet_folders(root: Path) -> dict[str, Any]:
    for cell in CELLS:
        (root / cell).mkdir(parents=True)
        _write(root / cell / "x.parquet", [one for one in images() if one[0] == cell], columns=False)
    return {"parquet": root.name, "cells": 2}


def parquet_columns(root: Path) -> dict[str, Any]:
    root.mkdir()
    _write(root / "x.parquet", images()[::-1], columns=True)
    return {"parquet": root.name, "cells": ["corruption", "severity"]}


def _write(file: Path, given: list[tuple[str, int, int]], columns: bool) -> None:
    table = {
        "image": [{"bytes": picture(label, cell, place), "path": f"{place}.png"} for cell, label, place in given],
        "label": [CLASSES[label] for _, label, _ in given],
    }
    if columns:
        table["corruption"] = [cell.split("/")[0] for cell, _, _ in given]
        table["severity"] = [int(cell.split("/")[1]) for cell, _, _ in given]
    pq.write_table(pa.table(table), file)


def arrays(root: Path) -> dict[str, Any]:
    given = images()[::-1]
    np.savez(
        root.with_suffix(".npz"),
        images=np.stack([_pixels(picture(label, cell, place)) for cell, label, place in given]),
        labels=np.array([CLASSES[label] for _, label, _ in given]),
        corruption=np.array([cell.split("/")[0] for cell, _, _ in given]),
        severity=np.array([int(cell.split("/")[1]) for cell, _, _ in given]),
        sources=np.array([f"{CLASSES[label]}/{place}" for _, label, place in given]),
    )
    return {"arrays": root.with_suffix(".npz").name, "cells": ["corruption", "severity"]}


def _pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


FORMS = {"tree": tree, "parquet in folders": parquet_folders, "parquet columns": parquet_columns}


def opened(base: Path, **row: Any) -> DataSet:
    return open_data("c", DataRow.model_validate(row), base, None)


@pytest.mark.parametrize("form", FORMS)
def test_every_row_has_its_cell_class_and_source(form: str, tmp_path: Path) -> None:
    data = opened(tmp_path, **FORMS[form](tmp_path / "c"))
    index = data.index("test")
    assert data.classes == CLASSES
    assert index.cell_names == CELLS
    found = {}
    for row, name in enumerate(data.names("test")):
        *cell, label, file = name.split("/")
        assert index.cell_names[index.cells[row]] == "/".join(cell)
        assert data.classes[index.labels[row]] == label
        pixels = np.asarray(Image.open(io.BytesIO(picture(int(index.labels[row]), "/".join(cell), int(file[:-4])))))
        assert np.array_equal(data.read("test", [row], _view())[0], pixels)
        found.setdefault((label, file), set()).add(int(index.sources[row]))
    assert len(index) == len(images())
    assert all(len(sources) == 1 for sources in found.values())  # one image, whatever was done to it
    assert len(set.union(*found.values())) == len(found) == 4 * 5


def test_cells_of_columns_in_a_folder_of_files(tmp_path: Path) -> None:
    """As on a hub: the folder of the files is not part of a class; two folders may be two versions."""
    row = parquet_columns(tmp_path / "c")
    (tmp_path / "c" / "data").mkdir()
    (tmp_path / "c" / "x.parquet").rename(tmp_path / "c" / "data" / "x.parquet")
    data = opened(tmp_path, **row)
    assert data.classes == CLASSES
    assert data.index("test").cell_names == CELLS
    shutil.copytree(tmp_path / "c" / "data", tmp_path / "c" / "more")
    with pytest.raises(UserError, match="its files lie in 2 folders"):
        opened(tmp_path, **row)


def _view() -> Any:
    from rib.data.views import Pixels

    return Pixels(12)


def test_all_forms_have_the_same_parts_and_a_moved_cell_another_fingerprint(tmp_path: Path) -> None:
    made = {form: opened(tmp_path, **FORMS[form](tmp_path / form), test_fraction=0.4) for form in FORMS}
    tables = {}
    for form, data in made.items():
        rows = zip(data.names("test"), data.index("test").sources.tolist(), strict=True)
        tables[form] = sorted(rows)
        tune, test = (set(data.index(part).sources.tolist()) for part in ("tune", "test"))
        assert not tune & test
    assert tables["tree"] == tables["parquet in folders"] == tables["parquet columns"]
    before = made["tree"].fingerprint("test")
    (tmp_path / "tree" / "fog" / "1").rename(tmp_path / "tree" / "fog" / "3")
    again = opened(tmp_path, folder="tree", cells=2, test_fraction=0.4)
    assert again.fingerprint("test") != before


def test_cells_of_arrays_are_those_of_the_same_images_in_a_tree(tmp_path: Path) -> None:
    tables = []
    for row in (tree(tmp_path / "t"), arrays(tmp_path / "t")):
        data = opened(tmp_path, **row, test_fraction=0.4)
        whole = opened(tmp_path, **row)
        index = whole.index("test")
        assert index.cell_names == CELLS
        pixels = whole.read("test", range(len(index)), _view())
        rows = zip(index.cells.tolist(), index.labels.tolist(), index.sources.tolist(), strict=True)
        tables.append(sorted((*row, image.tobytes()) for row, image in zip(rows, pixels, strict=True)))
        tune, test = (set(data.index(part).sources.tolist()) for part in ("tune", "test"))
        assert tune
        assert test
        assert not tune & test
    assert tables[0] == tables[1]
    plain = {key: value for key, value in arrays(tmp_path / "t").items() if key != "cells"}
    assert opened(tmp_path, **plain).fingerprint("test") != whole.fingerprint("test")


def test_accuracy_is_the_mean_over_cells(tmp_path: Path) -> None:
    made = document(tmp_path, runs=[], evaluate=["c"])
    made["data"]["c"] = tree(tmp_path / "c")
    results = rib.run(parse_suite(made).based_at(tmp_path), store=tmp_path / "store", how=How(workers=1)).results
    run = results.plan.runs[0]
    table = Store(tmp_path / "store").predictions(run.scores["c"].key).to_pylist()
    by_cell: dict[int, list[bool]] = {}
    for row in table:
        by_cell.setdefault(row["cell"], []).append(row["masked_right"])
    assert {len(rows) for rows in by_cell.values()} == {8, 20, 12}
    score = next(score for score in results.scores if score.tested_on == "c")
    expected = 100 * np.mean([np.mean(rows) for rows in by_cell.values()])
    assert score.masked == pytest.approx(expected)
    assert abs(expected - 100 * np.mean([row["masked_right"] for row in table])) > 0.1  # the two can be told apart


def test_a_family_pairs_every_cell_with_the_clean_images(tmp_path: Path) -> None:
    for label, name in enumerate(CLASSES):
        (tmp_path / "clean" / name).mkdir(parents=True)
        for place in range(5):
            (tmp_path / "clean" / name / f"{place}.jpg").write_bytes(picture(label, CELLS[0], place))
    clean = opened(tmp_path, folder="clean", family="f")
    data = opened(tmp_path, **tree(tmp_path / "c"), family="f")
    assert set(data.index("test").sources.tolist()) == set(clean.index("test").sources.tolist())


@pytest.mark.parametrize(
    ("change", "cells", "words"),
    [
        (lambda root: shutil.rmtree(root / "fog" / "1" / "bee"), 2, "the cell 'fog/1' has no images of class 'bee'"),
        (lambda root: (root / "fog" / "0.png").write_bytes(b"x"), 2, "beside the classes of a cell"),
        (lambda root: (root / "fog" / "1" / "0.png").write_bytes(b"x"), 2, "beside the classes of a cell"),
        (lambda root: None, 3, "no class folders|has no images|another number of folders"),
        (lambda root: None, 1, "folders below class|has no images"),
        (lambda root: [file.unlink() for file in (root / "fog" / "1" / "bee").iterdir()], 2, "'bee'"),
    ],
)
def test_trees_that_are_not_whole(change: Any, cells: int, words: str, tmp_path: Path) -> None:
    tree(tmp_path / "c")
    change(tmp_path / "c")
    with pytest.raises(UserError, match=words):
        opened(tmp_path, folder="c", cells=cells)


def test_a_file_in_another_folder_of_parquet(tmp_path: Path) -> None:
    parquet_folders(tmp_path / "c")
    shutil.copy(tmp_path / "c" / "fog" / "1" / "x.parquet", tmp_path / "c" / "fog" / "x.parquet")
    with pytest.raises(UserError, match="another number of folders"):
        opened(tmp_path, parquet="c", cells=2)


@pytest.mark.parametrize(
    "row",
    [
        {"folder": "c", "cells": 0},
        {"folder": "c", "cells": 5},
        {"folder": "c", "cells": ["corruption"]},
        {"parquet": "c", "cells": []},
        {"arrays": "c.npz", "cells": 1},
        {"imagenet": "c", "cells": 2},
    ],
)
def test_cells_that_mean_nothing(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cells"):
        DataRow.model_validate(row)
