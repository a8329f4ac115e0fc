"""Names of others in everything that RIB writes: shown as they are, or refused before any work starts."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import pytest
from jinja2 import Environment
from rich.text import Text

from helpers import CLASSES, Say, document, toml
from rib.errors import UserError
from rib.files import file_name, json_text
from rib.report.latex import latex
from rib.report.markdown import code, markdown
from rib.report.page import packed, unpacked
from rib.suite.load import parse_suite
from rib.text.terminal import LONGEST_NAME, UNPRINTABLE, console, name_fault, printable, say

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


# -- every name in every sink: what an independent reader of the sink finds is the name -------------------------------


class Texts(HTMLParser):
    """What a browser would show, and the tags in it."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", list[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def of_html(name: str) -> str:
    reader = Texts()
    reader.feed(f"<td>{Environment(autoescape=True).from_string('{{ name }}').render(name=name)}</td>")
    reader.close()
    assert reader.tags == ["td"]
    return reader.text


def of_attribute(name: str) -> str:
    shown = Environment(autoescape=True).from_string('<td title="{{ name }}">').render(name=name)
    found = re.fullmatch(r'<td title="([^"<>]*)">', shown)
    assert found, shown
    return unescape(found[1])


def of_script(name: str) -> str:
    shown = str(packed(json_text({"name": name}, None)))
    assert re.fullmatch(r"[\w+/=]+", shown)
    found: str = json.loads(unpacked(f'<script id="packed-figures">{shown}</script>', "figures"))["name"]
    return found


def of_latex(name: str) -> str:
    back = {latex(sign): sign for sign in "\\~^→≈−·&%$#_{}"}
    longest = sorted(back, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest)), lambda found: back[found[0]], latex(name))


def of_csv(name: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow((1, name, "x"))
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    return row[1]


def of_sql(name: str) -> str:
    found = duckdb.execute("select name from (select $name as name) where name = $name", {"name": name}).fetchall()
    return str(found[0][0])


SINKS = {one.__name__: one for one in (of_html, of_attribute, of_script, of_latex, of_csv, of_sql)}

ALSO_SHOWN = ("x" * 10_000, "a'b\"c", "&lt;b&gt;", "]]>", "${{7*7}}", "-- x", "\\", "</script>", "<!--")


def short_id(name: object) -> str:
    return ascii(name)[:20]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("name", [*SHOWN, *ALSO_SHOWN], ids=short_id)
def test_each_name_in_each_sink(sink: str, name: str) -> None:
    assert SINKS[sink](name) == name


MARKS = ("\u200fabc", "abc\u200e", "\u061cx", "a\u2028b", "a\u2029b", "a\x85b", "\u2067x")
ODD = ("x" * 10_000, "a\r\nb", "../../x", "CON", "\ud800", "~", "$(reboot)", "/etc/passwd", "..")


@pytest.mark.parametrize("name", [*SHOWN, *REFUSED, *MARKS, *ODD], ids=short_id)
def test_each_name_on_a_terminal_in_a_log_and_as_a_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """None moves the cursor, reorders or adds a line; no two become one file, and none leaves its folder."""
    console().print(Text(name))
    say(f"step failed: {name!r}")
    shown = capsys.readouterr()
    assert not UNPRINTABLE.search(shown.out + shown.err)
    assert shown.err.count("\n") == 1
    made = file_name(name.replace("\ud800", "?"))
    assert re.fullmatch(r"[\w.+=,@-]*", made, re.ASCII)
    assert not made.startswith(".")
    assert len(made) <= 200
    assert [other for other in (*SHOWN, *MARKS) if other != name and file_name(other) == made] == []


@pytest.mark.parametrize("name", MARKS, ids=ascii)
def test_marks_that_reorder_and_separators_of_lines_are_no_part_of_a_name(name: str) -> None:
    assert name_fault(name) == "control characters"
    assert "\\" in printable(name)
    assert not UNPRINTABLE.search(printable(name))


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
