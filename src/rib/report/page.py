"""Page: the results as one HTML file that needs no network."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rib.data.imagenet_classes import spoken
from rib.files import json_text, write_aside
from rib.metrics.intervals import Interval
from rib.report.figure_data import figure_data
from rib.report.grid import duration
from rib.report.matched_gain import BRIEF, note, sign
from rib.report.page_json import page_json
from rib.report.panels import panel_data, shown_panels
from rib.report.profile import HEADS as PROFILE_HEADS
from rib.report.profile import row_cells, summary
from rib.report.results_json import provenance
from rib.report.samples import samples
from rib.report.settings import method_words
from rib.report.targets import PAGE_START, require_kind
from rib.report.views import unstated, view_lines
from rib.report.wording import Wording
from rib.results.adapted import adapted_rows
from rib.results.failures import alike
from rib.results.finding import claim
from rib.results.inside import inside
from rib.results.inside.signatures import HEADS, VERDICTS, SignatureRow, held_against, limit, measured, telling
from rib.results.matched_gain import matched_gains
from rib.results.merges import merge_rows
from rib.results.profile import Profile
from rib.results.results import Results
from rib.results.rows import main_size, unmarked_reason
from rib.results.words import extent, holes, lacking, ordered, signed, size_name, suite_word
from rib.text.wording import about

SCRIPTS = ("plots.js", "panels.js", "page.js")
"""Scripts of the page, in order: shared ones first, then its own."""


@dataclass(frozen=True)
class Scale:
    """The common scale of a table's drawn intervals, in points."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Position of a value, as a CSS length."""
        return f"{100 * (value - self.low) / (self.high - self.low):z.1f}%"

    def across(self, interval: Interval) -> str:
        """Length of an interval, as a CSS length."""
        return f"{100 * (interval.high - interval.low) / (self.high - self.low):z.1f}%"


MATCHED: dict[str, Any] = {"note": note, "brief": BRIEF, "sign": sign}
"""What the table of matched gain needs."""


def write_page(results: Results, path: Path, profile: Profile | None = None) -> None:
    """Write the page of a suite.

    Args:
        results: the results to show.
        path: the file; its folder is created if missing.
        profile: the profile of the run, if it is to be shown.

    Raises:
        UserError: the file cannot be written.
    """
    require_kind(path, PAGE_START)
    write_aside(path, _render(results, profile).encode())


def _render(results: Results, profile: Profile | None) -> str:
    rows = [row for _, row in ordered(results)]
    tuned = [row for row in rows if row.method != "pretrained"]
    data, found = figure_data(results), inside(results)
    insides = panel_data(found)
    told, said = telling(results, found.signatures), claim(results)
    return render(
        "page.html.jinja",
        SCRIPTS,
        results,
        page_json(data) | {"inside": insides},
        title=results.suite.name,
        lead=typeset(said.lead),
        detail=typeset(said.detail),
        extent=extent(results),
        called=suite_word(results),
        samples=samples(results.plan),
        rows=rows,
        tuned=tuned,
        merges=merge_rows(results),
        adapted=adapted_rows(results),
        matched=matched_gains(results),
        **MATCHED,
        scale=scale([row.mri for row in tuned]),
        several_sizes=len({row.size for row in tuned}) > 1,
        several_seeds=len({seed for row in tuned for seed in row.seeds}) > 1,
        lacking=lacking(row.mri for row in tuned),
        unmarked_reason=unmarked_reason(tuned),
        chart_height=84 + 22 * len(data.first),
        own=any(row.own_after for row in tuned),
        seen=any(row.seen_after for row in tuned),
        classes=any(row.mri_absent for row in tuned),
        starts=_starts(results),
        limit=max([1.0, *(abs(ri.value) for row in tuned for ri in row.ri.values() if ri)]),
        drawn={"sizes": bool(data.curves), "tradeoff": bool(data.tradeoffs), "statistics": _split(told)},
        signed=told,
        heads=HEADS,
        verdicts=VERDICTS,
        measured=measured,
        held_against=held_against,
        panels=shown_panels(insides, results.plan.noun),
        groups=found.groups,
        worst_groups=found.worst_groups,
        worst=[row for row in found.classes if row.size == main_size(rows)],
        **_profile(profile),
    )


def _profile(profile: Profile | None) -> dict[str, Any]:
    lines = [*profile.lines, profile.total] if profile else []
    return {
        "profile": profile,
        "profile_heads": PROFILE_HEADS,
        "profiled": [(line.title, row_cells(line, profile.total)) for line in lines if profile],
        "profile_summary": summary(profile) if profile else "",
    }


def render(template: str, scripts: Iterable[str], results: Results, figures: Any, **values: Any) -> str:
    """Render a page in the common frame, with the sections that every page of results has.

    Args:
        template: name of a template that extends the frame.
        scripts: names of the scripts that draw its figures, in order.
        results: results for the sections on missing runs and on provenance.
        figures: data of the figures, as JSON types.
        values: further values for the template.
    """
    environment = Environment(
        loader=PackageLoader("rib.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Wording],
    )
    environment.extend(noun=(noun := results.plan.noun))
    environment.filters |= {"points": _points, "percent": _percent, "duration": duration, "size": size_name}
    environment.filters |= {
        "typeset": typeset,
        "two_digits": _two_digits,
        "share": _share,
        "limit": limit,
        "spoken": spoken,
    }
    return environment.get_template(template).render(
        suite=results.suite,
        caveats=results.caveats,
        unstated=unstated(results.plan),
        views=list(view_lines(results.plan)),
        short=results.suite.set_names.short,
        holes=holes(results),
        failures=alike(results.failures),
        provenance=provenance(results),
        methods=method_words(results.plan),
        figures=packed(json_text(figures, None)),
        suite_text=json.dumps(results.suite.model_dump(mode="json"), indent=2, ensure_ascii=False),
        style=_asset("page.css"),
        script=packed(about(noun, "\n".join(map(_asset, scripts)))),
        plotly=_packed_plotly(),
        unpack=_asset("unpack.js"),
        **values,
    )


def typeset(text: str) -> str:
    """Text with typographic minus signs before numbers."""
    return re.sub(r"-(?=\d)", "−", text)


def _asset(name: str) -> Markup:
    """A shipped file, inserted without escaping."""
    return Markup((Path(__file__).parent / "template" / name).read_text("utf-8"))


def packed(text: str) -> Markup:
    """Text that the page unpacks (`unpack.js`): gzip in base64, so its content cannot close an HTML element."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def unpacked(page: str, name: str) -> str:
    """The text that a page contains under a name: "figures", "plotly" or "script"."""
    found = re.search(rf'id="packed-{name}">([^<]*)<', page)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode()


@cache
def _packed_plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs())


def scale(shown: Iterable[Interval | None]) -> Scale:
    """The common scale of these intervals; it includes 0."""
    known = [interval for interval in shown if interval]
    low = min([0.0, *(interval.low for interval in known)])
    high = max([0.0, *(interval.high for interval in known)])
    margin = 0.04 * ((high - low) or 1.0)
    return Scale(low - margin, high + margin)


def _split(rows: Iterable[SignatureRow]) -> bool:
    """Whether a share of running statistics is among the signs."""
    return any(sign.evidence for row in rows for sign in row.signs if sign.name == "statistics")


def _starts(results: Results) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Masked and unmasked accuracy of every pretrained model on every data set, in percent."""
    starts: dict[str, list[tuple[float | None, float | None]]] = {}
    for score in results.scores:
        if score.tuned_on is None:
            starts.setdefault(score.model, []).append((score.masked, score.unmasked))
    return list(starts.items())


def _points(value: float) -> str:
    return signed(value).replace("-", "−")


def _two_digits(value: float) -> str:
    return typeset(f"{value:z.2f}")


def _percent(value: float) -> str:
    return f"{value:z.1f}"


def _share(value: float | None) -> str:
    """A share in percent; a dash for None, which stands for a total of zero."""
    return "–" if value is None else f"{100 * value:z.1f} %"
