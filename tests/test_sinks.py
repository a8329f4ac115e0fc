"""Names of others in everything that RIB writes: shown as they are, or refused before any work starts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from helpers import CLASSES, Say, document, toml
from rib.errors import UserError
from rib.report.export import latex
from rib.report.markdown import code, markdown
from rib.suite.load import parse_suite
from rib.text.terminal import LONGEST_NAME, name_fault

SHOWN = (
    "| a | b |",
    "=cmd|' /C calc'!A0",
    "$HOME",
    "${TOKEN}",
    "%s%n",
    "{{ 7 * 7 }}",
    "\\input{/etc/passwd}",
    "<b onclick=x>x</b>",
    "`x` ``y``",
    "[x](javascript:alert(1))",
    "![x](http://x/y.png)",
    "'; drop table x; --",
    "# x",
    "- x",
    "--- x: y",
    "猫🦆",
    "e\u0301",
    "x" * LONGEST_NAME,
)
"""Names that mean something to Markdown, LaTeX, a page, a spreadsheet, SQL, a shell or YAML."""

REFUSED = ("a\nb", "a\tb", "---\nx: y", "\u202eabc", "\x1b[2J", "x" * (LONGEST_NAME + 1), " ", "")


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
@pytest.mark.parametrize("table", ["data", "model", "method", "analysis"])
def test_a_name_that_cannot_be_shown_is_refused_first(tmp_path: Path, table: str, name: str) -> None:
    made = document(tmp_path)
    made.setdefault(table, {})[name] = {}
    with pytest.raises(UserError, match=r"control character|more than 200 characters|nothing to see"):
        parse_suite(made)


@pytest.mark.parametrize("name", [one for one in REFUSED if one], ids=ascii)
def test_so_is_the_name_of_a_class(tmp_path: Path, rib_says: Say, name: str) -> None:
    made = document(tmp_path)
    with np.load(tmp_path / "whole.npz") as known:
        np.savez(tmp_path / "odd.npz", images=known["images"], labels=known["labels"], classes=[name, *CLASSES[1:]])
    made["data"]["whole"] = {"arrays": "odd.npz", "test_fraction": 0.5}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert re.search(r"a class name has|class .* has|name", said)


@pytest.mark.parametrize("name", SHOWN, ids=ascii)
def test_each_sink_shows_a_name_as_it_is(name: str) -> None:
    assert name_fault(name) is None
    shown = markdown(name)
    assert re.sub(r"\\(.)", r"\1", shown) == name  # nothing is lost
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`<>\[\]]", shown)  # and nothing of it acts
    span = code(name)
    fence = re.match("`+", span)
    assert fence
    assert span.strip("`").strip() == name.strip("`") or fence[0] + " " in span
    assert fence[0] not in re.findall("`+", span[len(fence[0]) : -len(fence[0])])
    assert not re.search(r"(?<!\\)[%$#&_](?![$])", latex(name).replace(r"$\to$", "").replace("$-$", ""))


def test_a_card_of_hostile_names_has_the_rows_that_it_should(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path)
    cell, model, method = "| a | b |", "[x](javascript:alert(1))", "`x` ``y``"
    made["data"] |= {cell: made["data"].pop("whole")}
    made["downstream"] = [cell if name == "whole" else name for name in made["downstream"]]
    made["models"], made["model"] = [model], {model: made["model"]["resnet"]}
    made["method"] = {method: {"kind": "finetune"}}
    made["runs"] = [{"methods": [method]}]
    (tmp_path / "s.toml").write_text(toml(made))
    where = (tmp_path / "s.toml", "--store", tmp_path / "store")
    assert rib_says("run", *where, "--workers", 1)[0] == 0
    code_, said = rib_says("export", tmp_path / "out", *where)
    assert code_ == 0, said
    for card in (tmp_path / "out").rglob("*.md"):
        rows = [line for line in card.read_text("utf-8").splitlines() if line.startswith("|")]
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
        assert columns == {7}, card.read_text("utf-8")
        assert not re.search(r"(?<!\\)\]\(", card.read_text("utf-8"))
