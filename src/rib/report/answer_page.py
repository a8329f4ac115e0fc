"""The page of a study's answer in one HTML file: the figure, the verdict and its numbers. It needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rib.files import write_aside
from rib.report.answer_figures import bounds, is_lacking, line_style, reach
from rib.report.answer_text import said
from rib.report.page import render, scale, typeset
from rib.report.page_json import page_json
from rib.report.targets import PAGE_START, require_kind
from rib.results.answer import RULE, Answer
from rib.results.results import Results
from rib.results.words import extent, lacking


def write_answer(answer: Answer, results: Results, path: Path) -> None:
    """Write the page of an answer.

    Args:
        answer: the answer to show.
        results: results of the study's suite.
        path: the file; its folder is created if missing.

    Raises:
        UserError: the file cannot be written.
    """
    page = render(
        "study.html.jinja",
        ("plots.js", "study.js"),
        results,
        page_json(figures(answer)),
        title=f"study: {answer.study}",
        answer=answer,
        said=typeset(said(answer)),
        rule=RULE,
        extent=extent(results),
        lacking=lacking(span for panel in answer.panels for line in panel.lines for span in line.spans),
        scale=scale([one.interval for one in answer.contrasts]),
    )
    require_kind(path, PAGE_START)
    write_aside(path, page.encode())


def figures(answer: Answer) -> dict[str, Any]:
    """The data of the page's figures."""
    low, high = bounds(answer.panels)
    return {
        "surface": answer.surface,
        "measure": answer.measure,
        "limit": reach(answer),
        "range": [low, high],
        "panels": [
            {
                "across": panel.across,
                "ticks": panel.ticks,
                "joined": panel.joined,
                "lines": [
                    {
                        "name": line.name,
                        "colour": style.colour,
                        "symbol": style.symbol,
                        "spans": line.spans,
                        "lacking": [is_lacking(span) for span in line.spans],
                    }
                    for at, line in enumerate(panel.lines)
                    for style in [line_style(answer, line, at)]
                ],
            }
            for panel in answer.panels
        ],
    }
