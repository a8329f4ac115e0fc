"""Texts that would make a number wrong in silence: cut off, in two classes, tuned on and tested on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers import document, tiny, toml
from rib.cli.app import app
from rib.data import lengths
from rib.data.catalogue import DataRow, open_data
from rib.data.overlap import Overlap, Roles, overlaps
from rib.data.sources import as_one
from rib.data.tokens import bytes_view
from rib.plan import make_plan

ROLES = Roles("ref", ("one",), (), ("one",))


def table(folder: Path, name: str, rows: Sequence[tuple[str, str]]) -> DataRow:
    """A table of texts with their labels."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t, "label": c}) + "\n" for t, c in rows), "utf-8")
    return DataRow(text=f"{name}.jsonl")


def plain(name: str, count: int = 40) -> list[tuple[str, str]]:
    return [(f"{name} text {place}", "ab"[place % 2]) for place in range(count)]


def found(folder: Path, **sets: DataRow) -> list[Overlap]:
    return overlaps({name: open_data(name, row, folder, None) for name, row in sets.items()}, ROLES)


# -- cut off ---------------------------------------------------------------------------------------------------------


def test_texts_longer_than_a_view_are_counted_in_tokens(tmp_path: Path) -> None:
    texts = ["x" * 6, "x" * 7, "é" * 3, "é" * 4]  # 8, 9, 8 and 10 tokens: the bytes, a mark before and one behind
    data = open_data(
        "mine", table(tmp_path, "t", [(text, "ab"[at % 2]) for at, text in enumerate(texts)]), tmp_path, None
    )
    cut = data.cut("tune", bytes_view(8), None)
    assert (cut.longer, cut.looked, cut.total, cut.longest) == (2, 4, 4, 10)
    assert data.cut("tune", bytes_view(10), None).longer == 0
    known = tmp_path / "facts"
    assert data.cut("tune", bytes_view(8), known) == data.cut("tune", bytes_view(8), known) == cut
    assert len(list(known.iterdir())) == 1


def test_of_many_texts_a_sample_is_counted_and_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "MOST", 10)
    rows = [("x" * (20 if place % 2 else 3), "ab"[place % 2]) for place in range(100)]
    cut = open_data("mine", table(tmp_path, "t", rows), tmp_path, None).cut("tune", bytes_view(8), None)
    assert (cut.looked, cut.total) == (10, 100)
    assert cut.words("mine") == f"mine about {10 * cut.longer:.1f} % of 100"
    assert 3 <= cut.longer <= 7


def test_plan_and_data_check_say_how_many_texts_are_cut(tmp_path: Path) -> None:
    suite = tiny(tmp_path, ("text",), runs=[])
    assert make_plan(suite, None).notes == ()
    lines = (tmp_path / "whole.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    longer = [row | {"text": row["text"] + "z" * 20} if place < 5 else row for place, row in enumerate(rows)]
    (tmp_path / "whole.jsonl").write_text("".join(json.dumps(row) + "\n" for row in longer), "utf-8")
    plan = make_plan(suite, None)
    whole: Any = plan.world["whole"]  # a set of texts
    here = {part: whole.texts(part, range(24))[0] for part in ("tune", "test")}
    counts = {part: sum(len(text) > 12 for text in texts) for part, texts in here.items()}
    assert sum(counts.values()) == 5
    (note,) = plan.notes
    assert note.startswith("texts of more than 14 tokens are read without their end: ")
    assert f"whole (test) {counts['test']} of 24" in note
    made = document(tmp_path / "again", ("text",), runs=[])
    (tmp_path / "again" / "whole.jsonl").write_text((tmp_path / "whole.jsonl").read_text("utf-8"), "utf-8")
    (tmp_path / "again" / "tiny.toml").write_text(toml(made), "utf-8")
    said = CliRunner().invoke(app, ["data", "check", str(tmp_path / "again" / "tiny.toml")])
    assert said.exit_code == 0, said.output
    assert "texts of more than 14 tokens are read without their end: whole" in " ".join(said.output.split())


# -- two classes, tuned on and tested on -----------------------------------------------------------------------------


def test_a_few_texts_in_two_classes_are_counted_and_many_are_refused(tmp_path: Path) -> None:
    rows = [*plain("one"), ("one text 0", "b"), ("one text 1", "b")]
    (note,) = [one for one in found(tmp_path, ref=table(tmp_path, "r", plain("ref")), one=table(tmp_path, "o", rows))
               if "another class" in one.words]  # fmt: skip
    assert "2 of 42 texts" in note.words
    assert "'a' and 'b'" in note.words
    assert not note.refused
    many = [*plain("one"), *((text, "ba"["ab".index(label)]) for text, label in plain("one", 4))]
    refused = found(tmp_path, ref=table(tmp_path, "r", plain("ref")), one=table(tmp_path, "o", many))
    assert any(one.refused and "8 of 44 texts" in one.words for one in refused)


def test_images_in_two_classes_are_refused_by_the_same_rule(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4), np.uint8)
    for name, seen in {"ref": images, "one": np.concatenate([images[:10] // 2, images[:10] // 2])}.items():
        labels = np.array(["a"] * 10 + ["b"] * 10)
        np.savez(tmp_path / f"{name}.npz", images=seen, labels=labels)
    rows = {name: DataRow(arrays=f"{name}.npz") for name in ("ref", "one")}
    assert any(one.refused and "20 of 20 images" in one.words and "another class" in one.words
               for one in found(tmp_path, **rows))  # fmt: skip


@pytest.mark.parametrize("change", [str, str.upper, "  {}\n".format, lambda text: text.replace(" ", "\u00a0")],
                         ids=["same", "capitals", "spaces", "no-break"])  # fmt: skip
def test_texts_tuned_on_and_tested_on_are_refused_as_images_are(change: Any, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps({"text": change(t) if place < 6 else f"new {t}", "label": c}) + "\n"
                for place, (t, c) in enumerate(plain("one"))), "utf-8")  # fmt: skip
    row = table(tmp_path, "o", plain("one")).model_copy(update={"test_text": "test.jsonl"})
    (refused,) = [one for one in found(tmp_path, ref=table(tmp_path, "r", plain("ref")), one=row) if one.refused]
    assert "6 of 40 texts of the test part of 'one' are" in refused.words
    assert ("byte for byte" if change is str else "but for case and spaces") in refused.words


def test_pairs_are_the_same_only_if_both_texts_are(tmp_path: Path) -> None:
    def pairs(name: str, ends: str) -> DataRow:
        rows = [
            {"text": f"premise {place}", "pair": f"{ends} {place}", "label": "ab"[place % 2]} for place in range(20)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return DataRow(text=f"{name}.jsonl", pair_column="pair")

    apart = found(tmp_path, ref=pairs("r", "none"), one=pairs("o", "other"))
    assert not any(one.refused for one in apart)
    same = found(tmp_path, ref=pairs("r", "NONE"), one=pairs("o", "none"))
    assert any("but for case and spaces" in one.words for one in same)


def test_copies_of_one_text_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    """Ten texts are there twice, in other capitals and spaces. RIB would refuse the split if it tore them apart."""
    rows = [(f"text  {place}" if again else f"TEXT {place}", "ab"[place % 2])
            for again in range(2) for place in range(10)]  # fmt: skip
    row = table(tmp_path, "o", rows + plain("single", 40)).model_copy(update={"test_fraction": 0.4})
    data: Any = open_data("one", row, tmp_path, None)
    sides = [{text.casefold().replace("  ", " ") for text in data.texts(part, range(len(data.index(part))))[0]}
             for part in ("tune", "test")]  # fmt: skip
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 50
    assert len(np.unique(np.concatenate([data.index(part).sources for part in ("tune", "test")]))) == 50
    assert not any(one.refused for one in found(tmp_path, ref=table(tmp_path, "r", plain("ref")), one=row))


def test_sources_with_a_copy_in_common_are_one_with_the_smallest_number() -> None:
    sources = np.array([7, 3, 3, 9, 5, 4])
    copies = np.array([1, 1, 2, 2, 8, 6], np.uint64)  # 7 and 3 share one, 3 and 9 another
    assert as_one(sources, copies).tolist() == [3, 3, 3, 3, 5, 4]
    assert as_one(sources, np.arange(6, dtype=np.uint64)).tolist() == sources.tolist()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("premise", "hypothesis"), ""),
        (("hypothesis", "premise"), "models read hypothesis + premise of 'one' and premise + hypothesis of 'ref'"),
        (("premise", ""), "models read premise of 'one' and premise + hypothesis of 'ref'"),
    ],
)
def test_pairs_in_another_order_and_single_texts_beside_pairs_are_named(
    columns: tuple[str, str], words: str, tmp_path: Path
) -> None:
    sets = {}
    for name, (text, pair) in {"ref": ("premise", "hypothesis"), "one": columns}.items():
        rows = [{"premise": f"{name} p {at}", "hypothesis": f"{name} h {at}", "label": "ab"[at % 2]} for at in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        sets[name] = DataRow(text=f"{name}.jsonl", text_column=text, pair_column=pair)
    notes = [one for one in found(tmp_path, **sets) if "models read" in one.words]
    assert [one.words.startswith(words) and not one.refused for one in notes] == [True] * bool(words)
