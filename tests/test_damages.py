"""Damages: data that cannot be read as their author means them are refused in words, by check, plan and run alike."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import holders
from helpers import Said, Say, document, toml
from holders import items, members, table

CLASSES = ("ant", "bee", "dog")
MADE = items(CLASSES)
"""Four images of each class."""

LABELS = [item.label for item in MADE]
NUMBERS = [CLASSES.index(label) for label in LABELS]

Row = dict[str, Any]
Damage = Callable[[Path], Row]
DAMAGES: dict[str, tuple[Damage, str]] = {}
"""What is spoilt; a function that writes it into a folder and gives the set's row; words of the refusal."""


def damage(words: str) -> Callable[[Damage], Damage]:
    def keep(make: Damage) -> Damage:
        DAMAGES[make.__name__] = (make, words)
        return make

    return keep


# -- folders -----------------------------------------------------------------------------------------------------------


def tree(root: Path, order: tuple[str, ...] = ()) -> Row:
    holders.tree(root / "x", MADE, order)
    return {"folder": "x"}


@damage("2 images lie in folders below class 'bee'")
def images_below_a_class(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "bee" / "2021").mkdir()
    for place in (0, 1):
        shutil.copy(root / "x" / "ant" / "000.png", root / "x" / "bee" / "2021" / f"{place}.png")
    return row


@damage("point the data set one level deeper, at")
def one_level_too_deep(root: Path) -> Row:
    holders.tree(root / "x" / "inner", MADE)
    return {"folder": "x"}


@damage("point the data set two levels deeper, at")
def two_levels_too_deep(root: Path) -> Row:
    holders.tree(root / "x" / "x" / "inner", MADE)
    return {"folder": "x"}


@damage("and test_folder at another part: val")
def splits_in_the_root(root: Path) -> Row:
    for part in ("train", "val"):
        holders.tree(root / "x" / part, MADE)
    return {"folder": "x"}


@damage("move the images up, from bee/images into bee")
def a_class_with_a_folder_of_images(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "bee").rename(root / "x" / "images")
    (root / "x" / "bee").mkdir()
    (root / "x" / "images").rename(root / "x" / "bee" / "images")
    return row


@damage("class 'bee' has no images")
def an_empty_class(root: Path) -> Row:
    row = tree(root)
    for file in (root / "x" / "bee").iterdir():
        file.unlink()
    return row


@damage("4 images of classes that are not in")
def a_class_that_is_only_tested_on(root: Path) -> Row:
    holders.tree(root / "t", items((*CLASSES, "cat"), seed=1))
    return tree(root) | {"test_folder": "t"}


@damage("no folder or label for class 'dog'")
def a_class_that_is_only_tuned_on(root: Path) -> Row:
    holders.tree(root / "t", items(("ant", "bee"), seed=1))
    return tree(root) | {"test_folder": "t"}


@damage("1 links beside the classes are dangling")
def a_class_that_is_a_link_to_nothing(root: Path) -> Row:
    row = tree(root)
    shutil.rmtree(root / "x" / "bee")
    (root / "x" / "bee").symlink_to(root / "not mounted" / "bee")
    return row


@damage("1 links beside the classes are dangling")
def a_cell_that_is_a_link_to_nothing(root: Path) -> Row:
    for cell in ("fog/1", "fog/2", "snow/1"):
        holders.tree(root / "x" / cell, MADE)
    (root / "x" / "snow" / "2").symlink_to(root / "x" / "snow" / "2")
    return {"folder": "x", "cells": 2}


@damage("an empty file, as 2 more are")
def files_of_no_bytes(root: Path) -> Row:
    row = tree(root)
    for place in range(3):
        (root / "x" / "bee" / f"00{place}.png").write_bytes(b"")
    return row


@damage("2 names of files or folders are not UTF-8")
def names_in_latin_1(root: Path) -> Row:
    row = tree(root)
    for place in range(2):
        shutil.copy(root / "x" / "bee" / "000.png", os.fsencode(root / "x" / "bee") + b"/caf\xe9%d.png" % place)
    return row


@damage("1 names of files or folders are not UTF-8")
def a_class_in_latin_1(root: Path) -> Row:
    row = tree(root)
    shutil.copytree(root / "x" / "bee", root / "x" / os.fsdecode(b"caf\xe9"))
    return row


@damage("differ only in case")
def two_classes_that_differ_in_case(root: Path) -> Row:
    holders.tree(root / "x", [*MADE, *items(("Bee",), seed=1)])
    return {"folder": "x"}


@damage("differ only in case, spaces")
def two_classes_that_differ_in_a_space(root: Path) -> Row:
    holders.tree(root / "x", [*MADE, *items(("bee ",), seed=1)])
    return {"folder": "x"}


@damage("'e\\u0301' and '\\xe9'")
def two_classes_that_differ_in_unicode_form(root: Path) -> Row:
    holders.tree(root / "x", [*MADE, *items(("\u00e9", "e\u0301"), seed=1)])
    return {"folder": "x"}


@damage("differ only in case, spaces or spelling")
def two_numbers_that_differ_in_zeros(root: Path) -> Row:
    holders.tree(root / "x", items(("1", "01")))
    return {"folder": "x"}


@damage("4 of 16 labels are negative")
def a_class_of_minus_one(root: Path) -> Row:
    holders.tree(root / "x", [*MADE, *items(("-1",), seed=1)])
    return {"folder": "x"}


@damage("no folder or label for class 'wasp', which")
def an_order_file_of_other_classes(root: Path) -> Row:
    return tree(root, ("ant", "bee", "wasp"))


@damage("4 images of classes that are not in")
def an_order_file_that_lacks_a_class(root: Path) -> Row:
    return tree(root, ("ant", "bee"))


@damage("two files give the classes in different orders")
def two_order_files(root: Path) -> Row:
    row = tree(root, ("dog", "bee", "ant"))
    (root / "x" / "classes.json").write_text('["ant", "bee", "dog"]')
    return row


@damage("'ant' appears twice")
def an_order_file_with_a_class_twice(root: Path) -> Row:
    return tree(root, ("ant", "bee", "ant"))


@damage("not numbered from 0 or 1")
def an_order_file_with_a_gap(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "class_to_idx.json").write_text('{"ant": 0, "bee": 1, "dog": 3}')
    return row


@damage("cannot read the order of the classes")
def an_order_file_in_latin_1(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "classes.txt").write_bytes(b"caf\xe9\nant\nbee")
    return row


@damage("are in different orders")
def two_trees_with_two_orders(root: Path) -> Row:
    holders.tree(root / "t", items(CLASSES, seed=1), ("dog", "bee", "ant"))
    return tree(root, CLASSES) | {"test_folder": "t"}


@damage("000.png")
def an_image_cut_off(root: Path) -> Row:
    row = tree(root)
    file = root / "x" / "bee" / "000.png"
    file.write_bytes(file.read_bytes()[:80])
    return row


@damage("holds only files that are not read (4 .gif)")
def a_class_of_gifs(root: Path) -> Row:
    row = tree(root)
    for file in list((root / "x" / "bee").iterdir()):
        file.rename(file.with_suffix(".gif"))
    return row


@damage("names two sources for ant/001.png")
def two_lines_of_sources_for_one_image(root: Path) -> Row:
    lines = [f"{item.label}/{item.name},{place}" for place, item in enumerate(MADE)]
    (root / "s.csv").write_text("\n".join(["file,source", *lines, "ant/001.png,other"]))
    return tree(root) | {"source_file": "s.csv"}


@damage("the file does not say which value is white")
def an_image_of_twelve_bits_in_sixteen(root: Path) -> Row:
    row = tree(root)
    Image.fromarray(np.full((12, 12), 2000, np.uint16)).save(root / "x" / "bee" / "000.png")
    return row


@damage("the file does not say which value is white")
def an_image_of_fractions(root: Path) -> Row:
    row = tree(root)
    Image.fromarray(np.full((12, 12), 0.5, np.float32)).save(root / "x" / "bee" / "000.tif")
    (root / "x" / "bee" / "000.png").unlink()
    return row


@damage("000.png")
def an_image_that_is_a_page(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "bee" / "000.png").write_text("<html>404</html>")
    return row


def beside_each(root: Path, name: str, suffix: str = ".png") -> Row:
    """A tree with another picture beside each image; `{}` stands for the image's stem."""
    row = tree(root)
    for item, other in zip(MADE, items(CLASSES, seed=7), strict=True):
        stem = item.name.removesuffix(".png")
        folder = root / "x" / item.label
        (folder / item.name).rename(folder / f"{stem}{suffix}")
        (folder / name.format(stem)).write_bytes(other.content)
    return row


@damage("12 of 24 images look by their names like masks")
def masks_beside_the_images(root: Path) -> Row:
    return beside_each(root, "{}_mask.png")


@damage("000.seg.png beside 000.jpg")
def masks_with_a_second_suffix(root: Path) -> Row:
    return beside_each(root, "{}.seg.png", ".jpg")


@damage("mask_000_1.png beside image_000_1.png")
def masks_with_a_word_before(root: Path) -> Row:
    row = tree(root)
    for item, other in zip(MADE, items(CLASSES, seed=7), strict=True):
        folder = root / "x" / item.label
        (folder / item.name).rename(folder / f"image_{item.name.removesuffix('.png')}_1.png")
        (folder / f"mask_{item.name.removesuffix('.png')}_1.png").write_bytes(other.content)
    return row


@damage("12 of 24 images have the name of another image of their class, with another suffix")
def two_formats_of_every_image(root: Path) -> Row:
    return beside_each(root, "{}.png", ".jpg")


@damage("12 images without a class in")
def images_without_class_folders(root: Path) -> Row:
    (root / "x").mkdir()
    for place, item in enumerate(MADE):
        (root / "x" / f"{place}.png").write_bytes(item.content)
    return {"folder": "x"}


@damage("all images lie in one folder 'images', which names no class")
def one_folder_of_all_images(root: Path) -> Row:
    (root / "x" / "images").mkdir(parents=True)
    for place, item in enumerate(MADE):
        (root / "x" / "images" / f"val_{place}.JPEG").write_bytes(item.content)
    (root / "x" / "val_annotations.txt").write_text("val_0.JPEG\tant\t0\t0\t62\t62\n")
    return {"folder": "x"}


@damage("the others are sets of their own: photo, sketch")
def a_folder_of_domains(root: Path) -> Row:
    for seed, domain in enumerate(("art", "photo", "sketch")):
        holders.tree(root / "x" / domain, items(CLASSES, seed=seed))
    return {"folder": "x"}


@damage("fetch the files: git lfs pull")
def images_that_are_pointers(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "bee" / "000.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return row


@damage("metadata.csv says other classes than the folders")
def a_table_of_labels_that_contradicts_the_folders(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "metadata.csv").write_text("file_name,label\nbee/000.png,ant\nant/000.png,ant\n")
    return row


@damage("4 of 16 labels stand for a missing value ('nan')")
def a_class_of_what_had_no_label(root: Path) -> Row:
    holders.tree(root / "x", [*MADE, *items(("nan",), seed=1)])
    return {"folder": "x"}


@damage("the field 'ant' stands there twice")
def an_order_file_with_a_number_twice(root: Path) -> Row:
    row = tree(root)
    (root / "x" / "class_to_idx.json").write_text('{"ant": 0, "bee": 1, "ant": 2, "dog": 2}')
    return row


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet(root: Path, labels: list[Any], kind: Any = None, names: tuple[str, ...] = (), files: int = 1) -> Row:
    holders.parquet(root / "x", table(MADE[: len(labels)], labels, kind, names), files)
    return {"parquet": "x"}


@damage("2 of 12 labels are negative, such as -1")
def rows_without_a_label(root: Path) -> Row:
    return parquet(root, [*NUMBERS[:-2], -1, -1], names=CLASSES)


@damage("3 of 12 labels are missing (null)")
def rows_of_null(root: Path) -> Row:
    return parquet(root, [*LABELS[:-3], None, None, None])


@damage("2 of 12 labels are out of range")
def labels_beyond_the_names(root: Path) -> Row:
    return parquet(root, [*NUMBERS[:-2], 3, 7], names=CLASSES)


@damage("1 of 12 labels are out of range")
def labels_beyond_the_classes_of_the_row(root: Path) -> Row:
    return parquet(root, [*NUMBERS[:-1], 3]) | {"classes": CLASSES}


@damage("12 of 12 labels are of type double")
def labels_with_a_point(root: Path) -> Row:
    return parquet(root, [float(number) for number in NUMBERS])


@damage("are of type bool")
def labels_of_truth(root: Path) -> Row:
    return parquet(root, [bool(number) for number in NUMBERS])


@damage("are of type list")
def labels_in_lists(root: Path) -> Row:
    return parquet(root, [[number] for number in NUMBERS])


@damage("1 of 12 labels are empty")
def a_label_of_no_letters(root: Path) -> Row:
    return parquet(root, [*LABELS[:-1], ""])


@damage("is not UTF-8")
def labels_in_latin_1(root: Path) -> Row:
    return parquet(root, [*[label.encode() for label in LABELS[:-1]], b"caf\xe9"], pa.binary())


@damage("names a class twice")
def names_that_stand_there_twice(root: Path) -> Row:
    return parquet(root, NUMBERS, names=("ant", "bee", "ant"))


@damage("no folder or label for class 'wasp', which the metadata")
def names_of_which_one_has_no_images(root: Path) -> Row:
    return parquet(root, NUMBERS, names=(*CLASSES, "wasp"))


@damage("in different orders")
def files_with_two_orders(root: Path) -> Row:
    parquet(root, NUMBERS, names=CLASSES)
    pq.write_table(table(MADE, NUMBERS, names=CLASSES[::-1]), root / "x" / "more.parquet")
    return {"parquet": "x"}


@damage("or only one of them does")
def files_of_which_one_has_names(root: Path) -> Row:
    parquet(root, NUMBERS, names=CLASSES)
    pq.write_table(table(MADE, NUMBERS), root / "x" / "more.parquet")
    return {"parquet": "x"}


@damage("name the columns differently")
def files_with_two_names_of_a_column(root: Path) -> Row:
    parquet(root, LABELS)
    pq.write_table(table(MADE, LABELS).rename_columns(["img", "label"]), root / "x" / "more.parquet")
    return {"parquet": "x"}


@damage("lacks a column")
def two_columns_of_images(root: Path) -> Row:
    parquet(root, LABELS)
    whole = table(MADE, LABELS).rename_columns(["mask", "label"])
    pq.write_table(whole.append_column("photo", whole["mask"]), root / "x" / "train-00000-of-00001.parquet")
    return {"parquet": "x"}


def two_columns(root: Path, labels: list[Any], others: list[Any], name: str = "class") -> Row:
    parquet(root, labels)
    file = root / "x" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).append_column(name, pa.array(others)), file)
    return {"parquet": "x"}


@damage("has two label columns that disagree")
def a_column_that_says_another_class(root: Path) -> Row:
    return two_columns(root, LABELS, ["bee", *LABELS[1:]])


@damage("has two label columns that disagree")
def numbers_from_nought_and_from_one(root: Path) -> Row:
    return two_columns(root, NUMBERS, [number + 1 for number in NUMBERS]) | {"classes": CLASSES}


@damage("has two label columns that disagree")
def labels_of_several_levels(root: Path) -> Row:
    return two_columns(root, LABELS, ["animal"] * 12, "fine_label")


@damage("3 of 12 sources are unknown")
def a_column_of_sources_that_are_unknown(root: Path) -> Row:
    return two_columns(root, LABELS, [-1, -1, -1, *range(9)], "scan") | {"source_column": "scan"}


@damage("2 of 12 sources are unknown")
def a_column_of_sources_that_are_not_available(root: Path) -> Row:
    return two_columns(root, LABELS, ["N/A", "-inf", *map(str, range(10))], "scan") | {"source_column": "scan"}


@damage("a cell has a part that is empty or contains a slash")
def cells_of_columns_whose_names_run_together(root: Path) -> Row:
    two_columns(root, LABELS, ["a/b", "a"] * 6, "c")
    file = root / "x" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).append_column("d", pa.array(["c", "b/c"] * 6)), file)
    return {"parquet": "x", "cells": ["c", "d"]}


@damage("1 of 12 sources are unknown")
def a_column_with_a_source_that_is_no_number(root: Path) -> Row:
    return two_columns(root, LABELS, [float("nan"), *map(float, range(11))], "scan") | {"source_column": "scan"}


@damage("12 of 12 rows hold no image")
def paths_in_place_of_images(root: Path) -> Row:
    images = pa.array([{"bytes": None, "path": item.name} for item in MADE], table(MADE, LABELS).schema[0].type)
    (root / "x").mkdir()
    pq.write_table(table(MADE, LABELS).set_column(0, "image", images), root / "x" / "a.parquet")
    return {"parquet": "x"}


@damage("3 of 12 rows hold no image")
def images_missing_in_a_file_without_statistics(root: Path) -> Row:
    said = [{"bytes": None if place > 8 else item.content, "path": item.name} for place, item in enumerate(MADE)]
    images = pa.array(said, table(MADE, LABELS).schema[0].type)
    (root / "x").mkdir()
    whole = table(MADE, LABELS).set_column(0, "image", images)
    pq.write_table(whole, root / "x" / "a.parquet", write_statistics=False)
    return {"parquet": "x"}


@damage("rows of several splits in one set")
def a_column_of_splits(root: Path) -> Row:
    return two_columns(root, LABELS, ["train"] * 8 + ["test"] * 4, "split")


@damage("rows of several splits in one set")
def a_column_that_says_what_is_tested_on(root: Path) -> Row:
    return two_columns(root, LABELS, [False] * 8 + [True] * 4, "is_test")


@damage("rows of several splits in one set")
def a_column_that_numbers_the_splits(root: Path) -> Row:
    return two_columns(root, LABELS, [0] * 6 + [1] * 2 + [2] * 4, "partition")


@damage("12 of 12 labels differ from the folder of their image")
def names_in_another_order_than_the_folders_of_the_paths(root: Path) -> Row:
    return parquet(root, NUMBERS, names=(*CLASSES[1:], CLASSES[0]))


@damage("two files have labels of different kinds")
def files_with_numbers_and_with_names(root: Path) -> Row:
    parquet(root, NUMBERS)
    pq.write_table(table(MADE, LABELS), root / "x" / "more.parquet")
    return {"parquet": "x"}


@damage("lacks a column")
def a_label_column_that_stands_there_twice(root: Path) -> Row:
    whole = table(MADE, LABELS)
    (root / "x").mkdir()
    twice = pa.table([*whole.columns, pa.array(LABELS[::-1])], names=["image", "label", "label"])
    pq.write_table(twice, root / "x" / "a.parquet")
    return {"parquet": "x"}


@damage("labels and their names disagree")
def one_number_with_two_names(root: Path) -> Row:
    return two_columns(root, NUMBERS, ["wasp", *LABELS[1:]], "label_name")


@damage("has several columns of images")
def images_under_two_usual_names(root: Path) -> Row:
    parquet(root, LABELS)
    whole = table(MADE, LABELS)
    pq.write_table(whole.append_column("img", whole["image"]), root / "x" / "train-00000-of-00001.parquet")
    return {"parquet": "x"}


@damage("a file beside the set has as many names")
def numbers_that_a_card_above_may_name(root: Path) -> Row:
    parquet(root / "hub", NUMBERS)
    (root / "hub" / "README.md").write_text(holders.card(CLASSES[::-1]))
    return {"parquet": "hub/x"}


@damage("1 of 4 numbered files are missing")
def a_part_of_four(root: Path) -> Row:
    row = parquet(root, LABELS, files=4)
    (root / "x" / "train-00002-of-00004.parquet").unlink()
    return row


@damage("1 of the 4 files that a pattern names are missing")
def a_part_of_a_range(root: Path) -> Row:
    parquet(root, LABELS, files=4)
    (root / "x" / "train-00003-of-00004.parquet").unlink()
    return {"parquet": "x/train-{00000..00003}-of-00004.parquet"}


@damage("two numberings")
def parts_of_two_versions(root: Path) -> Row:
    parquet(root, LABELS, files=2)
    return parquet(root, LABELS, files=3)


@damage("files of several splits in one set")
def splits_in_one_folder(root: Path) -> Row:
    for split in ("train", "validation", "test"):
        holders.parquet(root / "x", table(MADE, LABELS), name=split)
    return {"parquet": "x"}


@damage("files of several splits in one set")
def splits_in_folders_below(root: Path) -> Row:
    for split in ("train", "test"):
        holders.parquet(root / "x" / split, table(MADE, LABELS), name="part")
    return {"parquet": "x"}


@damage("its files lie in 2 folders")
def files_in_two_folders(root: Path) -> Row:
    for folder in ("a", "b"):
        holders.parquet(root / "x" / folder, table(MADE, LABELS), name="part")
    return {"parquet": "x"}


@damage("1 .parquet files are not copied to their end")
def a_copy_under_way(root: Path) -> Row:
    row = parquet(root, LABELS)
    (root / "x" / "more.parquet.part").write_bytes(b"PAR1")
    return row


@damage("cannot read")
def a_file_cut_off(root: Path) -> Row:
    row = parquet(root, LABELS)
    file = root / "x" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    return row


@damage("no .parquet files")
def no_files(root: Path) -> Row:
    (root / "x").mkdir()
    return {"parquet": "x"}


@damage("are in different orders")
def a_list_beside_that_contradicts(root: Path) -> Row:
    row = parquet(root, NUMBERS, names=CLASSES)
    holders.ordered(root / "x", CLASSES[::-1])
    return row


# -- shards ------------------------------------------------------------------------------------------------------------


def shards(root: Path, content: list[tuple[str, Any]], name: str = "a.tar") -> Row:
    holders.shard(root / "x" / name, content)
    return {"shards": "x"}


WHOLE = members(MADE)


@damage("2 names stand in one shard twice")
def a_key_twice(root: Path) -> Row:
    return shards(root, [*WHOLE, *members(MADE[:1])])


@damage("12 images are in two shards, under one key")
def a_shard_twice(root: Path) -> Row:
    shards(root, WHOLE, "b.tar")
    return shards(root, WHOLE)


@damage("1 keys have several images")
def two_images_of_a_key(root: Path) -> Row:
    return shards(root, [*WHOLE, ("ant_000.jpg", MADE[5].content)])


@damage("12 keys have no image")
def only_a_mask(root: Path) -> Row:
    return shards(root, [(name.replace(".png", ".mask.png"), content) for name, content in WHOLE])


@damage("ant_000 (it has .gif, .cls)")
def an_image_of_an_unknown_kind(root: Path) -> Row:
    return shards(root, [("ant_000.gif", b"GIF89a"), *WHOLE[1:]])


@damage("1 images have no label")
def an_image_without_a_label(root: Path) -> Row:
    return shards(root, WHOLE[:-1])


@damage("2 links lead to nothing in the shard")
def links_to_nothing(root: Path) -> Row:
    links = [("x.png", ("sym", "gone.png")), ("y.png", ("hard", "y.png")), ("x.cls", b"ant"), ("y.cls", b"ant")]
    return shards(root, [*WHOLE, *links])


@damage("1 members are devices or pipes")
def a_pipe(root: Path) -> Row:
    row = shards(root, WHOLE)
    with tarfile.open(root / "x" / "a.tar", "a") as tar:
        member = tarfile.TarInfo("p.png")
        member.type = tarfile.FIFOTYPE
        tar.addfile(member)
    return row


@damage("1 members are sparse files")
def a_sparse_file(root: Path) -> Row:
    row = shards(root, WHOLE)
    file = root / "x" / "a.tar"
    content = bytearray(file.read_bytes())
    content[156:157] = tarfile.GNUTYPE_SPARSE  # the first member, by hand: one block of 12 bytes at 0
    size = int(content[124:135], 8)
    content[257:265] = b"ustar  \0"
    content[386:410] = b"%011o\0%011o\0" % (0, size)
    content[483:495] = b"%011o\0" % size
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    file.write_bytes(content)
    return row


@damage("1 of 12 labels are negative")
def a_label_of_minus_one(root: Path) -> Row:
    numbers = [
        (name, str(CLASSES.index(data.decode())).encode() if name.endswith("cls") else data) for name, data in WHOLE
    ]
    return shards(root, [*numbers[:-1], ("dog_003.cls", b"-1")]) | {"classes": CLASSES}


@damage("two shards have labels of different kinds")
def shards_with_numbers_and_with_names(root: Path) -> Row:
    shards(root, WHOLE[:16])
    numbers = {label: place for place, label in enumerate(CLASSES)}
    holders.shard(root / "x" / "b.tar", members(MADE[4:], numbers))
    return {"shards": "x"}


@damage("1 of 12 labels differ from the folder of their image")
def a_label_that_contradicts_the_folder_in_a_shard(root: Path) -> Row:
    below = [(f"{name.partition('_')[0]}/{name}", data) for name, data in WHOLE]
    return shards(root, [*below[:-1], (below[-1][0], b"bee")])


@damage("12 of 12 labels have control characters")
def labels_of_bytes(root: Path) -> Row:
    return shards(root, [(n, np.int64(len(d)).tobytes() if n.endswith("cls") else d) for n, d in WHOLE])


@damage("12 of 12 labels are several numbers each ('0 1')")
def labels_of_several_numbers(root: Path) -> Row:
    return shards(root, members(MADE, {label: f"{place} 1" for place, label in enumerate(CLASSES)}))


@damage("12 of 12 labels are fractions or no numbers")
def labels_of_fractions(root: Path) -> Row:
    return shards(root, members(MADE, {label: float(place) for place, label in enumerate(CLASSES)}))


@damage("1 of 12 labels are empty")
def an_empty_label(root: Path) -> Row:
    return shards(root, [*WHOLE[:-1], ("dog_003.cls", b" \n")])


@damage("1 files of labels are not UTF-8")
def a_label_in_latin_1(root: Path) -> Row:
    return shards(root, [*WHOLE[:-1], ("dog_003.cls", b"caf\xe9")])


@damage("1 files of labels are no JSON")
def a_label_that_is_no_json(root: Path) -> Row:
    return shards(root, [*WHOLE[:-1], ("dog_003.json", b"{dog")])


@damage("12 labels are neither a whole number nor a name")
def labels_of_lists_in_json(root: Path) -> Row:
    return shards(root, [(n, json.dumps({"label": [1]}).encode() if n.endswith("n") else d) for n, d in _in_json()])


@damage("1 images have no label")
def json_without_a_label(root: Path) -> Row:
    return shards(root, [*_in_json()[:-1], ("dog_003.json", b'{"caption": "a dog"}')])


def _in_json() -> list[tuple[str, bytes]]:
    return [
        (name if name.endswith("png") else name.replace("cls", "json"), data)
        for name, data in members(MADE, form="json")
    ]


@damage("labels are lists of numbers ('[0 0 1]')")
def one_hot_labels_as_text(root: Path) -> Row:
    said = {name: str(np.eye(3, dtype=int)[place]) for place, name in enumerate(CLASSES)}
    return shards(root, members(MADE, said))


@damage("look by their names like masks")
def masks_with_labels_of_their_own(root: Path) -> Row:
    masks = [(name.replace(".", "_mask."), data) for name, data in members(items(CLASSES, seed=7))]
    return shards(root, [*WHOLE, *masks])


@damage("a file compressed by gzip")
def a_shard_that_is_compressed_under_its_plain_name(root: Path) -> Row:
    row = shards(root, WHOLE)
    file = root / "x" / "a.tar"
    file.write_bytes(gzip.compress(file.read_bytes()))
    return row


@damage("1 labels in .cls and .json files differ")
def two_labels_that_differ(root: Path) -> Row:
    return shards(root, [*WHOLE, ("ant_000.json", b'{"label": "bee"}')])


def _with_class(said: list[Any]) -> list[tuple[str, bytes]]:
    """The shard's files, with two fields of labels in .json files: `label`, and `class` as it is given."""
    pairs = zip(_in_json()[::2], _in_json()[1::2], said, strict=True)
    return [
        file
        for image, (name, text), word in pairs
        for file in (image, (name, json.dumps(json.loads(text) | {"class": word}).encode()))
    ]


@damage("image has two labels that do not agree")
def a_class_beside_the_label_that_is_another(root: Path) -> Row:
    return shards(root, _with_class(["bee", *LABELS[1:]]))


@damage("image has two labels that do not agree")
def a_class_that_is_coarser_than_the_label(root: Path) -> Row:
    return shards(root, _with_class(["animal"] * 12))


@damage("image has two labels that do not agree")
def a_number_beside_the_label_that_counts_from_one(root: Path) -> Row:
    said = [json.dumps({"label": number, "cls": number + 1}).encode() for number in NUMBERS]
    files = [(name, data) for (name, _), data in zip(_in_json()[1::2], said, strict=True)]
    return shards(root, [*_in_json()[::2], *files]) | {"classes": CLASSES}


@damage("1 names are not UTF-8")
def a_member_in_latin_1(root: Path) -> Row:
    return shards(root, [*WHOLE, ("caf\udce9.png", MADE[0].content)])


@damage("rows of several splits in one set")
def a_field_of_splits(root: Path) -> Row:
    said = ["train"] * 8 + ["validation"] * 4
    files = zip(_in_json()[1::2], said, strict=True)
    fields = [(name, json.dumps(json.loads(data) | {"split": split}).encode()) for (name, data), split in files]
    return shards(root, [*_in_json()[::2], *fields])


@damage("files of several splits in one set")
def splits_as_folders_of_a_shard(root: Path) -> Row:
    return shards(root, [(f"{'val' if '003' in name else 'train'}/{name}", data) for name, data in WHOLE])


@damage("12 files of labels are no JSON")
def a_field_that_stands_there_twice(root: Path) -> Row:
    fields = [(name, data[:-1] + b', "label": "ant"}') for name, data in _in_json()[1::2]]
    return shards(root, [*_in_json()[::2], *fields])


@damage("the file ends without an end mark")
def a_shard_cut_off_between_members(root: Path) -> Row:
    row = shards(root, WHOLE)
    file = root / "x" / "a.tar"
    with tarfile.open(file) as tar:
        last = tar.getmembers()[-2]
    file.write_bytes(file.read_bytes()[: last.offset])
    return row


@damage("data follow the end mark")
def two_shards_joined(root: Path) -> Row:
    row = shards(root, WHOLE)
    file = root / "x" / "a.tar"
    file.write_bytes(file.read_bytes() * 2)
    return row


@damage("truncated or damaged")
def a_shard_cut_off_within_a_member(root: Path) -> Row:
    row = shards(root, WHOLE)
    file = root / "x" / "a.tar"
    file.write_bytes(file.read_bytes()[:700])
    return row


@damage("1 of 3 numbered files are missing")
def a_gap_in_a_numbering(root: Path) -> Row:
    shards(root, members(MADE[:6]), "t-000.tar")
    return shards(root, members(MADE[6:]), "t-002.tar")


@damage("1 .tar files are compressed")
def a_shard_that_is_compressed(root: Path) -> Row:
    row = shards(root, WHOLE)
    (root / "x" / "b.tar.gz").write_bytes(b"\x1f\x8b")
    return row


# -- arrays ------------------------------------------------------------------------------------------------------------


def arrays(root: Path, **others: Any) -> Row:
    holders.arrays(root / "x.npz", MADE, **others)
    return {"arrays": "x.npz"}


@damage("12 of 12 labels are of type float64")
def numbers_with_a_nan(root: Path) -> Row:
    return arrays(root, labels=np.where(np.arange(12) == 3, np.nan, NUMBERS), classes=np.array(CLASSES))


@damage("1 of 12 labels are negative (-1)")
def numbers_below_zero(root: Path) -> Row:
    return arrays(root, labels=np.array([*NUMBERS[:-1], -1]), classes=np.array(CLASSES))


@damage("2 of 12 labels are out of range")
def numbers_beyond_the_classes(root: Path) -> Row:
    return arrays(root, labels=np.array([*NUMBERS[:-2], 3, 9]), classes=np.array(CLASSES))


@damage("are of type bool")
def labels_that_are_true_or_false(root: Path) -> Row:
    return arrays(root, labels=np.array(NUMBERS) > 0, classes=np.array(CLASSES))


@damage("rows of several splits in one set")
def an_array_of_splits(root: Path) -> Row:
    return arrays(root, split=np.array(["train"] * 8 + ["test"] * 4))


@damage("two arrays name the classes differently")
def two_lists_of_classes(root: Path) -> Row:
    return arrays(root, labels=np.array(NUMBERS), classes=np.array(CLASSES), label_names=np.array(CLASSES[::-1]))


@damage("has images that are all but black")
def images_of_nought_and_one(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE]) // 128)


@damage("another part goes into a file of its own, under test_arrays")
def arrays_of_several_parts(root: Path) -> Row:
    pixels = np.stack([item.pixels for item in MADE])
    parts = {"train_images": pixels, "train_labels": np.array(NUMBERS), "test_images": pixels[:3]}
    np.savez(root / "x.npz", **parts)
    return {"arrays": "x.npz"}


@damage("one NumPy array (.npy)")
def one_array_alone(root: Path) -> Row:
    np.save(root / "x.npy", np.stack([item.pixels for item in MADE]))
    return {"arrays": "x.npy"}


@damage("a MAT-file")
def arrays_of_matlab(root: Path) -> Row:
    (root / "x.npz").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(100))
    return {"arrays": "x.npz"}


@damage("images.reshape(N, H, W, 3)")
def images_without_a_height(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE]).reshape(12, -1, 3))


@damage("images uint8 (12, 3, 12, 3)")
def images_whose_channels_may_come_first(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE])[:, :3])


@damage("labels have one axis: labels[:, 0]")
def labels_of_two_axes(root: Path) -> Row:
    return arrays(root, labels=np.array(NUMBERS)[:, None], classes=np.array(CLASSES))


@damage("save labels.argmax(1)")
def labels_that_are_one_hot(root: Path) -> Row:
    return arrays(root, labels=np.eye(3)[NUMBERS], classes=np.array(CLASSES))


@damage("(images * 255).round()")
def images_of_fractions(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE]) / 255)


@damage("images.transpose(0, 2, 3, 1)")
def images_with_channels_first(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE]).transpose(0, 3, 1, 2))


@damage("images[..., 0]")
def grey_images_with_an_axis(root: Path) -> Row:
    return arrays(root, images=np.stack([item.pixels for item in MADE])[..., :1])


@damage("images uint8 (12, 0, 12, 3)")
def images_without_pixels(root: Path) -> Row:
    return arrays(root, images=np.zeros((12, 0, 12, 3), np.uint8))


@damage("an array of Python objects")
def labels_that_are_objects(root: Path) -> Row:
    return arrays(root, labels=np.array(LABELS, object))


@damage("does not give the source of every image")
def too_few_sources(root: Path) -> Row:
    return arrays(root, sources=np.arange(11))


@damage("2 of 12 sources are unknown")
def sources_that_are_unknown(root: Path) -> Row:
    return arrays(root, sources=np.array([-1, -1, *range(10)]))


@damage("1 of 12 sources are unknown")
def a_source_without_a_name(root: Path) -> Row:
    return arrays(root, sources=np.array(["", *map(str, range(11))]))


@damage("12 of 12 sources are unknown")
def sources_beyond_what_a_number_holds(root: Path) -> Row:
    return arrays(root, sources=np.full(12, 2**64 - 1, np.uint64))


@damage("a cell has a part that is empty or contains a slash")
def cells_of_arrays_whose_names_run_together(root: Path) -> Row:
    parts = {"c": np.array(["a/b", "a"] * 6), "d": np.array(["c", "b/c"] * 6)}
    return arrays(root, sources=np.arange(12), **parts) | {"cells": ["c", "d"]}


@damage("lacks an array 'severity' of whole numbers or names")
def cells_that_are_not_there(root: Path) -> Row:
    corruption = np.array(["fog", "blur"] * 6)
    return arrays(root, corruption=corruption, sources=np.arange(12)) | {"cells": ["corruption", "severity"]}


@damage("lacks an array 'sources' of whole numbers or names")
def cells_of_which_nobody_knows_the_source(root: Path) -> Row:
    return arrays(root, corruption=np.array(["fog", "blur"] * 6)) | {"cells": ["corruption"]}


@damage("the cell 'fog' has no images of class 'dog'")
def a_cell_of_arrays_without_a_class(root: Path) -> Row:
    corruption = np.array(["fog", "blur"] * 4 + ["blur"] * 4)
    return arrays(root, corruption=corruption, sources=np.arange(12)) | {"cells": ["corruption"]}


@damage("does not give the source of every image")
def sources_with_a_nan(root: Path) -> Row:
    return arrays(root, sources=np.full(12, np.nan))


@damage("has no images to test on")
def one_source_of_all(root: Path) -> Row:
    return arrays(root, sources=np.zeros(12, int)) | {"test_fraction": 0.5}


@damage("no folder or label for class 'wasp', which the array `classes`")
def a_class_without_images(root: Path) -> Row:
    return arrays(root, classes=np.array((*CLASSES, "wasp")))


@damage("is not a list of names")
def classes_that_are_numbers(root: Path) -> Row:
    return arrays(root, classes=np.arange(3))


@damage("is not UTF-8")
def names_that_are_no_text(root: Path) -> Row:
    return arrays(root, labels=np.array([b"ant"] * 11 + [b"caf\xe9"]))


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, document(folder, per_class=4)


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_there_are_enough_of_them() -> None:
    assert len(DAMAGES) >= 115


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_refused_by_check_plan_and_run_alike(
    rib_says: Say, tmp_path: Path, world: tuple[Path, dict[str, Any]], name: str
) -> None:
    make, words = DAMAGES[name]
    folder, made = world
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    row = make(tmp_path)
    file = tmp_path / "tiny.toml"
    file.write_text(toml(made | {"data": made["data"] | {"part": row}}))
    said: dict[str, Said] = {}
    for command in (("data", "check"), ("plan",), ("run", "--workers", "1")):
        said[command[0]] = rib_says(*command, file)
    assert [code for code, _ in said.values()] == [1, 2, 2], said
    for name, (_, text) in said.items():
        assert squeezed(words) in squeezed(text), (name, text)
    problem = said["plan"][1].splitlines()[0].removeprefix("error: ").removeprefix("cannot read the image ")
    assert squeezed(problem) in squeezed(said["data"][1])
    assert said["run"][1].splitlines()[0] == said["plan"][1].splitlines()[0]
    assert not list((tmp_path / "rib-store" / "records").rglob("*.json"))


@pytest.mark.parametrize("kind", ["folder", "parquet", "shards", "arrays"])
def test_without_damage_they_are_taken(
    rib_says: Say, tmp_path: Path, world: tuple[Path, dict[str, Any]], kind: str
) -> None:
    whole = {"folder": tree, "parquet": lambda root: parquet(root, LABELS), "arrays": arrays}
    make = whole.get(kind, lambda root: shards(root, WHOLE))
    shutil.copytree(world[0], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tiny.toml"
    file.write_text(toml(world[1] | {"data": world[1]["data"] | {"part": make(tmp_path)}}))
    code, text = rib_says("data", "check", file)
    assert code == 0, text
    assert "expected" not in text
    assert [line.split()[:4] for line in text.splitlines() if line.startswith("part")] == [["part", "found", "12", "3"]]
    assert rib_says("plan", file)[0] == 0


# -- what is left out is said ------------------------------------------------------------------------------------------


def beside_images(root: Path) -> Row:
    row = tree(root)
    for name in ("a.gif", "b.gif", "c.avif", "plain", ".hidden.png"):
        (root / "x" / "bee" / name).write_bytes(b"x")
    for junk in ("._000.png", ".DS_Store", "Thumbs.db"):
        (root / "x" / "bee" / junk).write_bytes(b"x")
    (root / "x" / "__MACOSX" / "bee").mkdir(parents=True)
    (root / "x" / "__MACOSX" / "bee" / "._000.png").write_bytes(b"x")
    return row


def beside_classes(root: Path) -> Row:
    row = tree(root)
    for name in ("loose.png", "README.md", "labels.csv"):
        (root / "x" / name).write_bytes(b"x")
    shutil.copytree(root / "x" / "bee", root / "x" / ".ipynb_checkpoints")
    return row


def beside_members(root: Path) -> Row:
    masks = [(f"ant_00{place}.seg.png", MADE[0].content) for place in range(4)]
    return shards(root, [*masks, *WHOLE, ("README", b"text")])


def chosen_parts(root: Path) -> Row:
    parquet(root, LABELS, files=4)
    return {"parquet": "x/train-{00000..00002}-of-00004.parquet", "classes": ("ant", "bee")}


def other_files(root: Path) -> Row:
    row = parquet(root, LABELS)
    holders.shard(root / "x" / "a.tar", WHOLE)
    return row


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (beside_images, "leaves out 5 files (2 .gif, 1 "),
        (beside_classes, "leaves out 5 files (4 in hidden folders beside the classes, 1 .png beside the classes)"),
        (beside_members, "leaves out 5 files in shards (4 .seg.png, 1 of keys without image and label)"),
        (chosen_parts, "leaves out 1 of 4 numbered files that were not named, such as train-00003-of-00004.parquet"),
        (chosen_parts, "leaves out 1 images of classes that `classes` does not name (dog)"),
        (other_files, "leaves out 1 files beside the .parquet files, such as a.tar"),
    ],
    ids=["beside images", "beside classes", "members", "parts", "classes", "other files"],
)
def test_what_is_left_out_is_said_by_check_plan_and_report(
    rib_says: Say, tmp_path: Path, world: tuple[Path, dict[str, Any]], make: Damage, words: str
) -> None:
    shutil.copytree(world[0], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tiny.toml"
    made = world[1] | {"data": world[1]["data"] | {"part": make(tmp_path)}, "runs": [{"methods": ["pretrained"]}]}
    file.write_text(toml(made))
    for command in (("data", "check"), ("plan",), ("run", "--workers", "1"), ("report",)):
        code, text = rib_says(*command, file)
        assert code == 0, text
        assert squeezed(words) in squeezed(text), (command, text)
    notes = next(each["notes"] for each in json.loads(rib_says("data", "check", file, "--json")[1]) if each["notes"])
    assert any(note.startswith(words) for note in notes)


def test_a_suite_with_a_byte_order_mark_is_read(
    rib_says: Say, tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    shutil.copytree(world[0], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tiny.toml"
    file.write_text(toml(world[1]), "utf-8-sig")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert rib_says("plan", file)[0] == 0
    file.write_text(toml(world[1]), "utf-16")
    code, text = rib_says("plan", file)
    assert code == 2
    assert "TOML, in UTF-8" in text
