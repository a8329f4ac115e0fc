"""Data sets of texts: three kinds of tables, faults in words, tokens, pairs, groups and misspellings."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import rib
from helpers import CAUSAL, TEXT, tiny, world
from rib.data import snippets
from rib.data.catalogue import ROWS as ROWS_OF_DATA
from rib.data.catalogue import DataRow, find_row, open_data
from rib.data.check import check
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Part
from rib.data.fields import DOWNSTREAM, FieldsSet
from rib.data.fields.recipe import domain_rows
from rib.data.labels import LabelMap, match_classes
from rib.data.misspelling import Misspelling
from rib.data.pack import open_pack
from rib.data.snippets import write_snippets
from rib.data.texts import TextSet
from rib.data.tokens import BEGIN, END, MASK, bytes_view, token_counts, tokenized
from rib.data.views import Pixels, Tokens
from rib.errors import UserError
from rib.identity import digest
from rib.models.build import build
from rib.models.catalogue import ROWS as ROWS_OF_MODELS
from rib.models.catalogue import ZOO
from rib.models.catalogue import find_row as find_model
from rib.models.describe import describe
from rib.models.loading import load_pretrained
from rib.models.weights import put_weights
from rib.objectives.tokens import MaskedTokens, NextToken
from rib.plan import make_plan
from rib.steps import How
from rib.suite.load import load_suite
from rib.training.predict import predict

PARTS: tuple[Part, ...] = ("tune", "test")

ROWS = [
    {"text": "a fine film", "label": "pos", "who": "x"},
    {"text": 'he said "no", twice', "label": "neg", "who": "y"},
    {"text": "zwei\nZeilen, über", "label": "pos", "who": "x"},
    {"text": "東京\u2028は", "label": "neg", "who": "z"},
]


def write(path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> Path:
    """A table of texts; with `names`, Parquet labels are numbers of these, as Hugging Face's library writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table = pa.Table.from_pylist([dict(row) for row in rows])
        if names:
            numbers = pa.array([names.index(row["label"]) for row in rows])
            table = table.set_column(table.schema.get_field_index("label"), "label", numbers)
            features = {"label": {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def opened(path: Path, **row: Any) -> Any:
    return open_data("mine", DataRow(text=path.name, **row), path.parent, None)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_the_same_rows_are_the_same_set_in_every_kind_of_table(name: str, tmp_path: Path) -> None:
    data = opened(write(tmp_path / name, ROWS), source_column="who")
    assert data.classes == ("neg", "pos")
    assert data.index("tune").labels.tolist() == [1, 0, 1, 0]
    sources = data.index("tune").sources
    assert sources[0] == sources[2]
    assert len(set(sources.tolist())) == 3
    assert data.texts("tune", [2, 3])[0] == ["zwei\nZeilen, über", "東京\u2028は"]
    assert data.names("tune")[1] == f"{name}, row 2"
    other = opened(write(tmp_path / "other" / "o.jsonl", ROWS), source_column="who")
    assert data.fingerprint("tune") == other.fingerprint("tune")
    changed = [*ROWS[:3], {**ROWS[3], "text": "東京"}]
    third = opened(write(tmp_path / "third" / "o.jsonl", changed), source_column="who")
    assert data.fingerprint("tune") != third.fingerprint("tune")


def test_a_folder_of_tables_is_their_rows_in_order_and_keeps_the_authors_classes(tmp_path: Path) -> None:
    for number in range(2):
        rows = ROWS[2 * number : 2 * number + 2]
        write(tmp_path / "data" / f"train-0000{number}-of-00002.parquet", rows, names=("pos", "neg"))
    data = open_data("mine", DataRow(text="data"), tmp_path, None)
    assert data.classes == ("pos", "neg")
    assert data.index("tune").labels.tolist() == [0, 1, 0, 1]
    assert data.names("tune")[2] == "train-00001-of-00002.parquet, row 1"


FAULTS: Mapping[str, tuple[list[dict[str, Any]], str]] = {
    "empty": ([*ROWS, {"text": "  ", "label": "pos", "who": "x"}], r"1 of 5 rows have no text.*row 5"),
    "null": ([{**ROWS[0], "text": None}, *ROWS], r"1 of 5 rows have no text.*row 1"),
    "number": ([*ROWS, {"text": 7, "label": "pos", "who": "x"}], r"holds int, not text.*row 5"),
    "no label": ([*ROWS, {"text": "x", "label": None, "who": "x"}], r"1 of 5 labels are missing.*row 5"),
    "hidden label": ([*ROWS, {"text": "x", "label": -1, "who": "x"}], r"1 of 5 labels are negative.*row 5"),
    "half a pair": ([*ROWS, {"text": "\ud800", "label": "pos", "who": "x"}], r"cannot be written in UTF-8.*row 5"),
    "fraction": ([*ROWS, {"text": "x", "label": 0.5, "who": "x"}], r"are neither whole numbers nor names.*row 5"),
    "disagreement": ([{**row, "class": "a" if place else "b"} for place, row in enumerate(ROWS)], r"disagree"),
    "pairs": ([{**row, "hypothesis": "so"} for row in ROWS], r"may hold pairs of texts"),
    "nothing to see": ([*ROWS, {**ROWS[0], "text": "\u200b\ufeff\x00"}], r"1 of 5 rows have no text.*row 5"),
    "pandas": ([*ROWS, {"text": "nan", "label": "pos", "who": "x"}], r"1 of 5 rows have no text.*row 5"),
    "question": ([{**row, "question": "so?"} for row in ROWS], r"may hold pairs of texts.*text, question"),
    "gold labels": ([{**row, "gold_label": "neg"} for row in ROWS], r"two label columns that disagree"),
    "labels alike": ([*ROWS, {"text": "x", "label": "pos\u200b", "who": "x"}], r"two classes differ.*t.jsonl"),
    "spaces alike": ([{**ROWS[0], "label": "a b"}, {**ROWS[0], "label": "a\u00a0b"}], r"two classes differ.*t.jsonl"),
    "columns alike": ([{**row, "Label": "x"} for row in ROWS], r"t.jsonl differ only in case.*'label', 'Label'"),
    "no source": ([{**ROWS[0], "who": ""}, *ROWS], r"'who' is empty in 1 rows.*row 1.*a value in every row"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_named_with_its_file(fault: str, tmp_path: Path) -> None:
    rows, words = FAULTS[fault]
    with pytest.raises(UserError, match=f"(?s){words}") as found:
        opened(write(tmp_path / "t.jsonl", rows), source_column="who")
    assert "t.jsonl" in str(found.value)


RAW: Mapping[str, tuple[str, bytes, str]] = {
    "latin-1": ("t.csv", "text,label\nok,a\nüber,b\n".encode("latin-1"), r"not UTF-8.*t.csv, line 3"),
    "latin-1 lines": ("t.jsonl", '{"text": "é", "label": "a"}\n'.encode("latin-1"), r"not UTF-8.*t.jsonl, line 1"),
    "semicolons": ("t.csv", b"text;label\nx;a\n", r"no readable header"),
    "another width": ("t.csv", b"text,label\nx,a\ny, z,b\n", r"3 fields.*row 2 \(line 3\)"),
    "no quotes": ("t.csv", b'text,label\n"x" y,a\n', r"cannot read.*line 2"),
    "no JSON": ("t.jsonl", b'{"text": "x", "label": "a"}\n{"text": \n', r"no JSON.*line 2"),
    "a list": ("t.jsonl", b'["x", "a"]\n', r"no object.*line 1"),
    "no text column": ("t.csv", b"body,label\nx,a\n", r"lacks the column 'text'"),
    "two headers": ("t.csv", b"text,text,label\nx,y,a\n", r"no readable header"),
    "a second header": ("t.csv", b"text,label\nx,a\ntext,label\ny,b\n", r"header is there twice.*row 2 \(line 3\)"),
    "UTF-16": ("t.csv", "text,label\nx,a\n".encode("utf-16"), r"not UTF-8.*iconv -f utf-16"),
    "Windows": ("t.csv", "text,label\n“x”,a\n".encode("cp1252"), r"not UTF-8.*iconv -f windows-1252"),
    "two encodings": ("t.csv", "é,label\n".encode() + "é,a\n".encode("latin-1"), r"line 2.*repair this text alone"),
    "gzip": ("t.csv", gzip.compress(b"text,label\nx,a\n"), r"not UTF-8.*gunzip"),
    "tabs": ("t.tsv", b"text\tlabel\nx\ta\n", r"no table of texts.*read_csv"),
    "an array": ("t.jsonl", b'[{"text": "x", "label": "a"}]', r"no object.*line 1"),
    "no rows": ("t.csv", b"text,label\n", r"no rows"),
    "parquet": ("t.parquet", b"PAR1 and no more", r"cannot read"),
}


@pytest.mark.parametrize("fault", RAW)
def test_a_file_that_is_no_table_is_refused(fault: str, tmp_path: Path) -> None:
    name, content, words = RAW[fault]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"(?s){words}"):
        opened(tmp_path / name)
    checked = check("mine", DataRow(text=name), tmp_path)
    assert not checked.fine
    assert checked.survey.faults


def test_a_column_of_parquet_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["x", "y"]), pa.array([0, 1]), pa.array([1, 0])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "label", "label"]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"(?s)no readable header.*text, label, label"):
        opened(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "roles", [{"pair_column": "text"}, {"label_column": "text"}, {"text_column": "label"}], ids=str
)
def test_a_column_has_one_role(roles: Mapping[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one column has two roles"):
        opened(write(tmp_path / "t.csv", ROWS), **roles)


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [{**row, "title": "t", "score": 3} for row in ROWS]
    data = opened(write(tmp_path / "t.csv", rows), source_column="who")
    assert data.left_out == ("columns of t.csv that are not read: title, score",)
    assert opened(write(tmp_path / "u.csv", ROWS), source_column="who").left_out == ()


def test_files_of_one_set_have_one_kind_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.csv", [{"text": "x", "label": "0"}, {"text": "y", "label": "1"}])
    write(tmp_path / "d" / "b.csv", [{"text": "z", "label": "neg"}, {"text": "w", "label": "pos"}])
    with pytest.raises(
        UserError, match=r"(?s)numbers for labels, and another has names.*a.csv \(0\) and b.csv \(neg\)"
    ):
        opened(tmp_path / "d")


@pytest.mark.parametrize("pair", [("d1", "d1 "), ("1", "1.0"), ("\u00e9", "e\u0301")], ids=["space", "point", "form"])
def test_a_source_is_written_in_one_way(pair: tuple[str, str], tmp_path: Path) -> None:
    rows = [{**row, "who": pair[place % 2]} for place, row in enumerate(ROWS)]
    with pytest.raises(UserError, match="a source is written in two ways"):
        opened(write(tmp_path / "t.csv", rows), source_column="who")


def test_labels_of_the_tested_part_that_the_tuned_part_lacks_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "b.csv", [*ROWS, {"text": "x", "label": "mixed", "who": "x"}])
    with pytest.raises(UserError, match=r"texts of classes that are not in"):
        open_data("mine", DataRow(text="a.csv", test_text="b.csv"), tmp_path, None)
    chosen = open_data("mine", DataRow(text="a.csv", test_text="b.csv", classes=("pos", "neg")), tmp_path, None)
    assert len(chosen.index("test")) == 4
    assert "mixed" in " ".join(chosen.left_out)


def test_groups_are_kept_row_by_row(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "t.csv", ROWS), group_column="who", test_fraction=0.5)
    for part in ("tune", "test"):
        index = data.index(part)
        texts = data.texts(part, range(len(index)))[0]
        want = [next(row["who"] for row in ROWS if row["text"] == text) for text in texts]
        assert [index.group_names[group] for group in index.groups] == want


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_bytes_are_the_text_between_marks_and_blank_is_no_token() -> None:
    view = bytes_view(8)
    assert tokenized(view, ["añ", "abcdefghij"]).tolist() == [
        [BEGIN, 97, 0xC3, 0xB1, END, view.blank, view.blank, view.blank],
        [BEGIN, *b"abcdef", END],
    ]
    assert tokenized(bytes_view(8, "end"), ["abcdefghij"])[0].tolist() == [BEGIN, *b"efghij", END]
    assert token_counts(view, ["añ", "abcdefghij"]).tolist() == [5, 12]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12), st.integers(4, 20), st.sampled_from(["start", "end"]))
def test_pairs_share_the_room_and_lose_no_more_than_they_must(one: str, two: str, length: int, keep: Any) -> None:
    view = bytes_view(length, keep)
    row = tokenized(view, [one], [two])[0]
    row = row[row != view.blank].tolist()
    assert row[0] == BEGIN
    assert row[-1] == END
    assert row.count(END) == 2
    first, second = (len(text.encode()) for text in (one, two))
    middle = row.index(END)
    sizes = middle - 1, len(row) - middle - 2
    assert sum(sizes) == min(first + second, length - 3)
    cut = [size < whole for size, whole in zip(sizes, (first, second), strict=True)]
    if sum(cut) == 1:  # the one that is cut is at least as long as the other
        assert sizes[cut.index(True)] + 1 >= sizes[cut.index(False)]


def test_a_pack_of_texts_holds_their_tokens_and_its_name_says_the_tokenizer(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "t.csv", ROWS))
    decoded = Decoded(data, "tune", bytes_view(16))
    examples = open_pack(decoded, tmp_path / "packs")
    want = tokenized(bytes_view(16), [row["text"] for row in ROWS])
    np.testing.assert_array_equal(examples.batch(np.arange(4)), want)
    names = {view.name for view in (bytes_view(16), bytes_view(17), bytes_view(16, "end"), Tokens(16, "ab" * 20, 300))}
    assert len(names) == 4
    assert decoded.name.endswith("tokens-16-bytes-259")


def test_texts_and_images_do_not_mix(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "t.csv", ROWS))
    with pytest.raises(UserError, match="holds texts, and the model takes none"):
        data.require_view(Pixels(32))
    images = open_data("digits:ref", DataRow(digits="ref"), tmp_path, None)
    with pytest.raises(UserError, match="holds images, and the model takes none"):
        images.require_view(bytes_view(8))


# -- misspellings ------------------------------------------------------------------------------------------------------

LONG = "Mrs. Éloïse O'Brien-Smith lives at 12 Rue de l'Église, Orléans, and types 100 lines of old letters" * 4


def distance(one: str, two: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(two) + 1))
    for place, a in enumerate(one, 1):
        before, row = row, [place]
        for at, b in enumerate(two, 1):
            row.append(min(before[at] + 1, row[-1] + 1, before[at - 1] + (a != b)))
    return row[-1]


@pytest.mark.parametrize("kind", Misspelling.kinds())
def test_damage_grows_with_severity_and_depends_on_the_text_alone(kind: str) -> None:
    harm = [distance(LONG, Misspelling.of(kind, severity).misspelt(LONG)) for severity in range(1, 6)]
    assert harm == sorted(harm)
    assert 0 < harm[0] < harm[-1]
    assert Misspelling.of(kind, 3).misspelt(LONG) == Misspelling.of(kind, 3).misspelt(LONG)


def test_kinds_do_what_they_say() -> None:
    plain = unicodedata.normalize("NFD", LONG)
    bare = "".join(one for one in plain if not unicodedata.combining(one) and not one.isspace())
    assert Misspelling.of("dropped", 5).misspelt(LONG) == bare
    assert Misspelling.of("case", 5).misspelt(LONG).casefold() == LONG.casefold()
    typed = Misspelling.of("keyboard", 5).misspelt("f" * 400)
    assert set(typed) <= set("frtdgcv")
    assert len(set(typed)) > 3
    assert Misspelling.of("dropped", 5).misspelt(" ") == " "


def test_a_misspelt_set_is_every_tested_text_in_every_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROWS)
    clean = opened(path)
    data = opened(path, misspelt=("typos", "ocr"))
    index = data.index("test")
    assert len(index) == 4 * 10
    assert index.cell_names[0] == "typos/1"
    part: Part = "test"
    for cell, name in enumerate(index.cell_names):
        kind, severity = name.split("/")
        rows = np.flatnonzero(index.cells == cell)
        want = [Misspelling.of(kind, int(severity)).misspelt(row["text"]) for row in ROWS]
        assert data.texts(part, rows.tolist())[0] == want
        np.testing.assert_array_equal(index.sources[rows], clean.index("test").sources)
    assert data.fingerprint("test") != opened(path, misspelt=("typos",)).fingerprint("test")
    with pytest.raises(UserError, match="typo"):
        opened(path, misspelt=("typo",))
    assert isinstance(clean, TextSet)


# -- what is for images alone ------------------------------------------------------------------------------------------


def test_what_is_for_images_alone_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vpt adds tokens"):
        make_plan(tiny(tmp_path, ("text",), runs=[{"methods": ["vpt"]}]))
    recipe = {"epochs": 1, "batch_size": 8, "lr": 0.01}
    pretrain = {"data": "clean", "recipe": recipe, "objective": "simclr"}
    pretrain["reference"] = {"probe": recipe, "finetune": recipe}
    with pytest.raises(UserError, match=r"simclr.*augments images"):
        make_plan(tiny(tmp_path, ("text",), model={"text": TEXT | {"pretrain": pretrain}}))
    with pytest.raises(UserError, match="holds texts, and the model takes none"):
        make_plan(tiny(tmp_path, ("resnet",), data=world(tmp_path, texts=True)))


@pytest.mark.parametrize("family", ["text", "causal"])
def test_pretraining_on_hidden_or_next_tokens_learns(family: str, tmp_path: Path) -> None:
    """The loss that it ends with is below that of guessing by frequency; a reference stage makes a classifier of it."""
    recipe = {"epochs": 30, "batch_size": 8, "lr": 0.02, "optimizer": "adamw"}
    objective = "masked" if family == "text" else "next"
    pretrain = {"data": "clean", "recipe": recipe, "objective": objective}
    pretrain["reference"] = {"probe": recipe, "finetune": recipe}
    model = {"text": (TEXT if family == "text" else CAUSAL) | {"pretrain": pretrain}}
    suite = tiny(tmp_path, ("text",), model=model, runs=[{"methods": ["finetune"]}])
    finished = rib.run(suite, store=tmp_path / "store", how=How(workers=1, device="cpu"))
    assert finished.failed == {}
    (row,) = [summary for summary in finished.summaries if summary.method == "finetune"]
    assert row.reference_before is not None
    assert row.reference_before.value > 60


def test_the_loss_of_hidden_tokens_is_of_the_hidden_ones_alone() -> None:
    torch.manual_seed(0)
    objective = MaskedTokens(share=0.3).loss(5, 4)
    ids = torch.from_numpy(tokenized(bytes_view(12), ["abcdefg", "xy"]))
    seen: list[torch.Tensor] = []

    def hidden(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return F.one_hot(torch.arange(12) % 5, 5).float().expand(2, -1, -1)

    loss, right = objective(hidden, ids, torch.zeros(2, dtype=torch.int64))
    places = (seen[0] == MASK).nonzero().tolist()
    assert places
    assert torch.equal(torch.where(seen[0] == MASK, 0, seen[0]), torch.where(seen[0] == MASK, 0, ids.long()))
    assert all(int(ids[row, at]) != bytes_view(12).blank for row, at in places)
    guess = objective.get_submodule("guess")
    logits = torch.stack([guess(F.one_hot(torch.tensor(at % 5), 5).float()) for _, at in places])
    want = torch.tensor([int(ids[row, at]) for row, at in places])
    assert loss.item() == pytest.approx(F.cross_entropy(logits, want).item(), rel=1e-5)
    assert 0 <= float(right) <= 2


def test_the_loss_of_next_tokens_looks_one_ahead() -> None:
    torch.manual_seed(0)
    objective = NextToken().loss(5, 4)
    ids = torch.from_numpy(tokenized(bytes_view(6), ["ab"]))  # begin, a, b, end
    states = torch.randn(1, 6, 5)
    loss, _ = objective(lambda _: states, ids, torch.zeros(1, dtype=torch.int64))
    logits = objective.get_submodule("guess")(states[0, :3])
    assert loss.item() == pytest.approx(F.cross_entropy(logits, torch.tensor([97, 98, END])).item(), rel=1e-5)


# -- the embedded suite ------------------------------------------------------------------------------------------------


def test_the_recipe_draws_the_shipped_values_again() -> None:
    """The first values of each class of a domain: those of no class depend on how many are drawn of another."""
    faker = pytest.importorskip("faker")
    if faker.VERSION != "40.63.0":
        pytest.skip("another version of Faker draws other values")
    for domain in ("us", "ja"):
        rows = [row for row in domain_rows(domain, tune=0, test=2) if row[1] == "test"]
        data = open_data(f"fields:{domain}", DataRow(fields=domain), Path(), None)
        assert isinstance(data, FieldsSet)
        labels = data.index("test").labels[: len(rows)].tolist()
        texts = data.texts("test", range(len(rows)))[0]
        assert [(data.classes[label], text) for label, text in zip(labels, texts, strict=True)] == [
            (row[2], row[3]) for row in rows
        ]


def test_the_domains_share_no_value_with_what_is_pretrained_on_or_tuned_on() -> None:
    seen = set(FieldsSet("p", "pretrain_large").texts("tune", range(50_000))[0])
    small = FieldsSet("p", "pretrain_small").texts("tune", range(3_000))[0]
    assert FieldsSet("p", "pretrain_large").texts("tune", range(3_000))[0] == small
    for domain in ("us", *DOWNSTREAM):
        data = FieldsSet(domain, domain)
        rows = {}
        for part in PARTS:
            texts, labels = data.texts(part, range(len(data.index(part))))[0], data.index(part).labels
            assert len(set(np.bincount(labels).tolist())) == 1
            rows[part] = set(zip(texts, labels.tolist(), strict=True))
        assert not {text for text, _ in rows["test"]} & seen
        assert not rows["test"] & rows["tune"]


# -- sets and models that a lab brings ---------------------------------------------------------------------------------


def test_snippets_are_taken_from_the_source_distribution_alone(tmp_path: Path) -> None:
    """The archive is known by its digest; another one, and none, are refused, and a folder says how to fetch it."""
    with pytest.raises(UserError, match="is not the source distribution"):
        write_snippets(tmp_path / "nothing.tar.gz", tmp_path)
    lines = b"1_1\t-0.9\tno picture\n1_2\t0.15\ta repost\n2_1\t2.5\tso good\n3\t0.5\tfine\n"
    inner = archive({f"hutto_ICWSM_2014/{name}_GroundTruth.txt": lines for name, _ in snippets.DOMAINS.values()})
    (tmp_path / "s.tar.gz").write_bytes(archive({snippets.INNER: inner}))
    with pytest.raises(UserError, match="holds other sentences of tweets"):
        write_snippets(tmp_path / "s.tar.gz", tmp_path)
    with pytest.raises(UserError, match=r"(?s)not found.*rib data fetch snippets"):
        open_data("snippets:films", ROWS_OF_DATA["snippets:films"], tmp_path, None)


def test_ratings_between_the_clear_ones_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"1_1\t-0.9\tno picture\n1_2\t0.15\ta repost\n2_1\t2.5\tso good\n3\t0.5\tfine\n3_1\t-0.5\tbad\n"
    known = {name: (file, digest(lines)) for name, (file, _) in snippets.DOMAINS.items()}
    monkeypatch.setattr(snippets, "DOMAINS", known)
    inner = archive({f"hutto_ICWSM_2014/{name}_GroundTruth.txt": lines for name, _ in known.values()})
    (tmp_path / "s.tar.gz").write_bytes(archive({snippets.INNER: inner}))
    assert write_snippets(tmp_path / "s.tar.gz", tmp_path / "snippets") == dict.fromkeys(known, 4)
    data = open_data(
        "snippets:films", ROWS_OF_DATA["snippets:films"].model_copy(update={"test_fraction": 0.0}), tmp_path, None
    )
    index = data.index("tune")
    assert [data.classes[label] for label in index.labels] == ["negative", "positive", "positive", "negative"]
    assert len(set(index.sources.tolist())) == 3  # documents 1, 2 and 3


def archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            made.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["sentiment", "nli", "toxicity"])
def test_suites_of_a_lab_name_what_is_missing_and_where_to_get_it(name: str, tmp_path: Path) -> None:
    suite = load_suite(name, tmp_path)
    for data in suite.tested:
        row = find_row(data, suite.data)
        with pytest.raises(UserError, match=r"(?s)not found.*get it from https"):
            open_data(data, row, tmp_path, None)
        folder = tmp_path / str(row.text)
        second = {row.pair_column: "so it is"} if row.pair_column else {}
        group = {row.group_column: "x"} if row.group_column else {}
        rows = [{str(row.text_column): f"{part} text {label}", "label": label, **second, **group}
                for part in "ab" for label in row.classes or ()]  # fmt: skip
        write(folder, rows[: len(rows) // 2])
        write(tmp_path / str(row.test_text), rows[len(rows) // 2 :])
        opened_set = open_data(data, row, tmp_path, None)
        assert opened_set.classes == row.classes
    with pytest.raises(UserError, match=r"(?s)no model of transformers.*hf download"):
        describe(find_model(suite.models[0], suite.model), 3, tmp_path)


def test_two_classes_stand_for_three_of_the_reference_set(tmp_path: Path) -> None:
    row = ROWS_OF_DATA["nli:hans"]
    targets = row.label_targets(tmp_path, row.classes)
    found = match_classes("hans", row.classes or (), ("entailment", "neutral", "contradiction"), targets, "", "sum")
    assert found.groups == ((0,), (1, 2))
    logits = torch.tensor([[1.0, 0.5, 0.7]])
    assert found.mask(logits).argmax(dim=1).tolist() == [1]  # neutral and contradiction together are likelier


def test_every_model_of_the_embedded_texts_is_shipped_and_starts_above_chance() -> None:
    """The table of docs/zoo.md: mean accuracy on the eight downstream sets, percent, of the first seed."""
    rows = {name: row for name, row in ROWS_OF_MODELS.items() if name.startswith("fields:")}
    assert all((ZOO / f"{name.removeprefix('fields:')}.safetensors").is_file() for name in rows)
    made = {f"fields:{name}" for name in load_suite("fields-pretrain").models}
    assert set(rows) <= made
    for name, expected in {"encoder_small": 55.1, "encoder_medium": 72.6, "encoder_large": 81.5}.items():
        row = rows[f"fields:{name}"]
        architecture = describe(row, 10)
        classifier = build(architecture)
        put_weights(classifier.net, load_pretrained(name, row, architecture, Path()))
        found = []
        for domain in DOWNSTREAM:
            data = FieldsSet(domain, domain)
            index = data.index("test")
            inputs = Examples.whole(data.read("test", range(len(index)), architecture.view), index)
            said = predict(classifier, inputs, LabelMap("own", tuple((k,) for k in range(10)), 10), batch_size=64)
            found.append(100 * float(said.masked_right.mean()))
        assert np.mean(found) == pytest.approx(expected, abs=0.3)


def test_the_record_of_a_prediction_has_the_accuracy_of_each_group_and_of_the_worst(tmp_path: Path) -> None:
    data = world(tmp_path, texts=True)
    data["whole"]["group_column"] = "who"
    suite = tiny(tmp_path, ("text",), data=data, runs=[])
    lines = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text("utf-8").splitlines()]
    write(tmp_path / "whole.jsonl", [{**row, "who": "xyz"[place % 3]} for place, row in enumerate(lines)])
    finished = rib.run(suite, store=tmp_path / "store", how=How(workers=1, device="cpu"))
    step = finished.results.plan.runs[0].scores["whole"]
    record = finished.results.store.record(step.key)
    assert record is not None
    rows = finished.results.store.predictions(step.key).to_pydict()
    index = finished.results.plan.world["whole"].index("test")
    assert index.groups is not None
    right = np.array(rows["masked_right"])
    want = {name: 100 * right[index.groups == place].mean() for place, name in enumerate(index.group_names)}
    assert record.values["group_accuracy"] == pytest.approx(want)
    assert record.values["worst_group"] == {min(want, key=want.__getitem__): pytest.approx(min(want.values()))}
    other = finished.results.store.record(finished.results.plan.runs[0].scores["part"].key)
    assert other is not None
    assert "group_accuracy" not in other.values
