"""Hooks of the documentation site (mkdocs.yml): pages outside of docs/, their links, titles of TOML blocks."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PAGES = {"README.md": "index.md"} | {name: name for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")}
"""Pages of the repository outside of docs/, and their paths in the site."""

LINK = re.compile(r'(\]\(|(?:src|href)=")([^)#":\s]+)(#[^)"]*)?(?=[)"])')
"""A relative link or picture, in Markdown or HTML: what opens it, its path, its anchor."""

FENCE = re.compile(r"^```.*?^```\n", re.DOTALL | re.MULTILINE)
TOML = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)

SUITE = {"reference", "downstream", "models", "runs"}
"""Keys that every suite file has."""

RUNTIME = {"executor", "workers", "step_minutes", "retry_failed", "ray", "slurm"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages outside of docs/, and every other file of the repository that a page links to."""
    from mkdocs.structure.files import File

    pages = {source: ROOT / source for source in PAGES}
    pages |= {f"docs/{file.src_uri}": Path(file.abs_src_path) for file in files.documentation_pages()}
    for source, target in PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(pages[source])))
    for path in sorted({path for source, page in pages.items() for path in outside(page.read_text("utf-8"), source)}):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links of the repository lead to the site's pages, and give each TOML block its title."""
    sources = {target: source for source, target in PAGES.items()}
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
    return titled(relinked(markdown, sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")))


def on_post_build(config: Any) -> None:
    """Write the search index as a script too: pages that are opened from a folder cannot read JSON."""
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text("utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", "utf-8")


def relinked(text: str, source: str) -> str:
    """A page's text with each relative link as the site has it.

    Args:
        text: Markdown.
        source: the page's path in the repository.
    """
    here = posixpath.dirname(in_site(source))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.relpath(in_site(resolved(match[2], source)), here or ".")
        return f"{match[1]}{target}{match[3] or ''}"

    return "".join(part if FENCE.match(part) else LINK.sub(moved, part) for part in parts(text))


def parts(text: str) -> Iterator[str]:
    """The text between code blocks, and the code blocks, in order."""
    start = 0
    for match in FENCE.finditer(text):
        yield text[start : match.start()]
        yield match[0]
        start = match.end()
    yield text[start:]


def resolved(link: str, source: str) -> str:
    """The path in the repository that a page's relative link means."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def in_site(path: str) -> str:
    """Where the site has a file of the repository."""
    return PAGES.get(path, path.removeprefix("docs/"))


def outside(text: str, source: str) -> Iterator[str]:
    """Files outside of docs/ that a page links to, and that are no pages themselves."""
    for part in parts(text):
        for match in () if FENCE.match(part) else LINK.finditer(part):
            path = resolved(match[2], source)
            if path not in PAGES and not path.startswith("docs/") and (ROOT / path).is_file():
                yield path


def titled(text: str) -> str:
    """A page's text in which each TOML block says what it is a part of."""

    def block(match: re.Match[str]) -> str:
        title = title_of(match[1])
        return f'```toml title="{title}"\n{match[1]}```' if title else match[0]

    return TOML.sub(block, text)


def title_of(block: str) -> str:
    """What a TOML block is; "" if its first line is a comment with the name of its file."""
    if re.match(r"# \S+\.toml\b", block):
        return ""
    keys = set(tomllib.loads(block))
    if keys <= {"paths"}:
        return "configuration file"
    if keys <= RUNTIME:
        return "runtime file"
    return "suite file" if keys >= SUITE else "part of a suite file"
