"""The documentation site: every page is in its navigation, every link leads somewhere, every TOML block is valid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from helpers import module_at
from rib.analysis import ANALYSES
from rib.execute.runtime import Runtime
from rib.methods import METHODS
from rib.suite.load import parse_suite
from rib.suite.schema import suite_schema

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
hooks = module_at(DOCS / "assets" / "hooks.py")

PAGES = [ROOT / name for name in hooks.PAGES] + sorted(DOCS.rglob("*.md"))
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))

BLOCKS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}:{page.read_text('utf-8')[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in hooks.TOML.finditer(page.read_text("utf-8"))
    for text in match.groups()
]


def listed(nav: Any) -> Iterator[str]:
    """Pages of a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from listed(part)


# -- pages and links ---------------------------------------------------------------------------------------------------


def test_the_navigation_has_every_page_once() -> None:
    """Or a page of it has a link to that page, and `not_in_nav` names it."""
    found = list(listed(CONFIG["nav"]))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    unlisted = {page for page in pages for pattern in CONFIG["not_in_nav"].split() if fnmatch(f"/{page}", pattern)}
    assert sorted(found) == sorted({*hooks.PAGES.values(), *pages} - unlisted)
    for page in unlisted:
        assert f"]({Path(page).name})" in (DOCS / page).with_name("README.md").read_text("utf-8"), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_on_the_forge(page: Path) -> None:
    """To a file, and to a heading of it by the name that a forge gives it. For the site, its builder checks this."""
    source = page.relative_to(ROOT).as_posix()
    for match in links(page.read_text("utf-8")):
        target = ROOT / hooks.resolved(match[2], source) if match[2] else page
        assert target.exists(), match[0]
        if match[3]:
            assert match[3][1:] in anchors(target), match[0]


def links(text: str) -> Iterator[re.Match[str]]:
    """Relative links outside of code, those within the page included."""
    for part in hooks.parts(text):
        if not part.startswith("```"):
            yield from hooks.LINK.finditer(part)
            yield from re.finditer(r"(\]\()()(#[^)]+)", part)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings: lower case, no punctuation, hyphens for spaces, numbered if repeated."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", "".join(hooks.parts(page.read_text("utf-8"))), re.MULTILINE):
        plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading)
        found.append(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return {name if not (again := found[:place].count(name)) else f"{name}-{again}" for place, name in enumerate(found)}


def test_links_are_moved_to_where_the_site_has_their_pages() -> None:
    text = (
        '[a](docs/models.md#rows) [b](SECURITY.md) ![c](docs/images/c.png) <img src="docs/x.png"> [d](https://e.org)\n'
    )
    moved = '[a](models.md#rows) [b](SECURITY.md) ![c](images/c.png) <img src="x.png"> [d](https://e.org)\n'
    assert hooks.relinked(text, "README.md") == moved
    assert hooks.relinked("[a](../../SECURITY.md) [b](../models.md)", "docs/tutorials/ci.md") == (
        "[a](../SECURITY.md) [b](../models.md)"
    )
    assert hooks.relinked("[a](../examples/pacs.toml)", "docs/examples.md") == "[a](examples/pacs.toml)"
    code = "```\n[a](docs/b.md)\n```\n"
    assert hooks.relinked(code, "README.md") == code


def test_files_outside_of_the_pages_come_along() -> None:
    text = "[a](../examples/pacs.toml) [b](../SECURITY.md) [c](models.md) [d](../nowhere.toml)"
    assert list(hooks.outside(text, "docs/examples.md")) == ["examples/pacs.toml"]


# -- TOML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        ("reference = 1\ndownstream = 1\nmodels = 1\nruns = 1", "suite file"),
        ("reference = 1", "part of a suite file"),
        ("executor = 1", "runtime file"),
        ("[paths]", "configuration file"),
        ("# my/suite.toml\nreference = 1", ""),
    ],
)
def test_a_block_says_what_it_is(keys: str, title: str) -> None:
    assert hooks.title_of(keys) == title
    shown = f'```toml title="{title}"\n' if title else "```toml\n"
    assert hooks.titled(f"```toml\n{keys}\n```\n") == f"{shown}{keys}\n```\n"


@pytest.mark.parametrize("block", BLOCKS)
def test_toml_is_valid(block: str) -> None:
    """Whole suites are read, parts are checked by the schema, and what they name exists."""
    document = tomllib.loads(block)
    if "paths" in document:
        assert set(document) == {"paths"}
    elif set(document) <= hooks.RUNTIME:
        Runtime.model_validate(document)
    elif set(document) >= hooks.SUITE:
        assert parse_suite(document).runs
    else:
        jsonschema.validate(document, suite_schema() | {"required": []})
    for table, registry in (("method", METHODS), ("analysis", ANALYSES)):
        for name, row in document.get(table, {}).items():
            require_fields(row, name, registry)


CHOICES = {"kind", "sweep", "choose", "rates"}
"""Keys of a method's table that are no fields of it."""


def require_fields(row: dict[str, Any], name: str, registry: Any) -> None:
    kind = row.get("kind", name)
    if ":" in kind:
        return
    fields = set(registry.find(kind).model_fields)
    used = {*row, *row.get("sweep", {}), *row.get("choose", {})} - CHOICES
    assert used <= fields, f"{name}: {used - fields}"


@pytest.mark.parametrize(
    "block", ["downstrem = ['a']", "[[runs]]\nsize = [3]", "[data.a]\nfolder = 3", "[recipe]\nlr = 'x'"]
)
def test_a_wrong_part_is_found(block: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        test_toml_is_valid(block)


def test_a_wrong_field_of_a_method_is_found() -> None:
    with pytest.raises(AssertionError, match="alfa"):
        test_toml_is_valid('[method.a]\nkind = "wise_ft"\nsweep = { alfa = [0.5] }')


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_samples_are_those_of_the_embedded_sets() -> None:
    """If not: python docs/images/samples.py. The names in the picture are left out: fonts differ."""
    samples = module_at(DOCS / "images" / "samples.py")
    assert samples.SHEET.stat().st_size <= 200_000
    shown, drawn = (np.asarray(image.convert("RGB")) for image in (Image.open(samples.SHEET), samples.contact_sheet()))
    assert shown.shape == drawn.shape
    assert np.array_equal(shown[:, samples.LEFT :], drawn[:, samples.LEFT :])
    assert samples.text_table() in samples.PAGE.read_text("utf-8")


# -- the site ----------------------------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source") or (tag == "link" and given.get("rel") != "canonical"):
            self.found += [value for name in ("src", "href") if (value := given.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds; a warning of any kind stops it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_loads_nothing_from_the_net(site: Path) -> None:
    for name in listed(CONFIG["nav"]):
        page = site / name.replace("README.md", "index.md").replace(".md", ".html")
        for address in Loads(page.read_text("utf-8")).found:
            assert not re.match(r"(https?:)?//", address), f"{name} loads {address}"
            assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), f"{name} lacks {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text("utf-8")), style


def test_the_site_has_what_the_code_documents(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "api.html").read_text("utf-8"))
    for words in ("load_suite", "with_seeds", "to_pandas", "Load a shipped suite by name, or a suite file by path."):
        assert words in text
    assert "docs/images" not in (site / "index.html").read_text("utf-8")
    assert (site / "examples" / "first_look.ipynb").exists()
    assert (site / "search" / "search_index.js").read_text("utf-8").startswith("var __index = {")
    assert 'class="filename">part of a suite file' in (site / "extending.html").read_text("utf-8")
