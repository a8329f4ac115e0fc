"""Part of P10: the commands and the page that a person waits for, on the store of a finished sweep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.base import Row, Setting, shown
from rib.store.store import Store

SECONDS = {"run": 1.0, "report": 10.0, "export": 3.0}
"""Maximum processor seconds of a command, with everything that it starts."""

MEGABYTES = 3.0
"""Maximum size of the page."""

PAINTED = 1.0
"""Maximum wall seconds from opening the page to the browser's first contentful paint."""

PAINT = 'performance.getEntriesByName("first-contentful-paint")[0]?.startTime'
"""Milliseconds to the first contentful paint, in the page's own clock."""

ONE_MODEL = ("--model", "digits:resnet_small", "--method", "finetune", "--tuned-on", "digits:sketch", "--seeds", "1")
"""Options that choose a tuned model of one seed in digits and digits-quick."""


def interactive(setting: Setting, suite: str, store: Store) -> list[Row]:
    """Time the commands in processes of their own, beside a process that only imports torch, which all of them need."""
    bare = median([processor_seconds("-c", "import torch") for _ in range(setting.repeats(3))])
    limit = f"importing torch alone takes {bare:.1f} s"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        words = {
            "run": ("run", suite),
            "report": ("report", suite, "--parquet", f"{folder}/tables", "--figures", f"{folder}/figures"),
            "export": ("export", suite, f"{folder}/models", *ONE_MODEL),
        }
        rows = [command(name, words[name], store, setting, limit) for name in words]
        rib("report", suite, "--html", str(page), store=store)
        return [*rows, size(page, suite), paint(page, suite, setting)]


def command(name: str, words: tuple[str, ...], store: Store, setting: Setting, limit: str) -> Row:
    """Time a command: processor seconds of the process and of those that it waited for."""
    seconds = median([rib(*words, store=store) for _ in range(setting.repeats(3))])
    options = [word for word in words if word.startswith("--")]
    title = " ".join(["rib", *words[:2], *options])
    wanted = SECONDS[name]
    met = seconds <= wanted
    return Row("P10", title, "the clock", f"≤ {wanted:g} CPU-s", f"{seconds:.1f} CPU-s", met, limit=limit)


def rib(*words: str, store: Store) -> float:
    """Processor seconds of a command of RIB."""
    return processor_seconds("-m", "rib", *words, "--store", str(store.root))


def processor_seconds(*words: str) -> float:
    """Processor seconds of a Python process and of those that it waited for.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = os.times()
    surroundings = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, env=surroundings)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def size(page: Path, suite: str) -> Row:
    """The size of the page, which holds everything that it shows."""
    megabytes = page.stat().st_size / 1e6
    goal = f"≤ {MEGABYTES:g} MB"
    return Row("P10", f"page of {suite}", "its size", goal, f"{megabytes:.2f} MB", megabytes <= MEGABYTES)


def paint(page: Path, suite: str, setting: Setting) -> Row:
    """Seconds to the first contentful paint in headless Chromium; no goal is judged where there is no browser."""
    browser = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    title = f"page of {suite}, first paint"
    if browser is None:
        return shown("P10", title, "the clock", "no browser", "needs chromium and the package playwright")
    seconds = []
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(setting.repeats(5)):
            view = opened.new_page(viewport={"width": 1500, "height": 1000})
            view.goto(page.as_uri())
            view.wait_for_function(f"{PAINT} !== undefined")
            seconds.append(view.evaluate(PAINT) / 1e3)
            view.close()
        opened.close()
    found = median(seconds)
    return Row("P10", title, "the clock", f"≤ {PAINTED:g} s", f"{found:.2f} s", found <= PAINTED)


def median(values: list[float]) -> float:
    """The middle value."""
    return sorted(values)[len(values) // 2]
