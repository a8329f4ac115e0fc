"""Findings: writes docs/findings.md from the answers of `rib study all --json`. Every number on the page is copied by
this script.

rib study all --store STORE --json > answers.json
rib run digits-reference --store STORE --json > reference.json
python -m soak.findings answers.json                    prints every number and verdict, and the changed verdicts
python -m soak.findings answers.json reference.json     writes soak/findings.json, docs/findings.md and its figures
python -m soak.findings texts texts.json                 the same of the studies of texts (`fields-studies`)
python -m soak.findings remedies remedies.json           the same of four studies of methods (`digits-remedies`)
python -m soak.findings                                 writes docs/findings.md again from soak/findings.json

`python -m soak.photographs` puts the numbers of real pictures into soak/findings.json, and `python -m soak.methods`
those of the suite of all methods. `soak/findings*.md.jinja` have the prose of the page and name the numbers;
`soak/findings.json` has the needed part of the answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rib.files import json_text
from rib.metrics.intervals import Interval
from rib.report.answer_figures import answer_figures
from rib.report.plotting import write_drawn
from rib.results.answer import Answer, AnswerLine, AnswerPanel, Contrast
from rib.results.words import signed

HERE = Path(__file__).parent
KEPT = HERE / "findings.json"
PAGE = HERE.parent / "docs" / "findings.md"
FIGURES = HERE.parent / "docs" / "images" / "studies"

NAMES = {
    "resnet": "ResNet",
    "vit": "ViT",
    "tf_efficientnet_lite0": "Lite0",
    "encoder": "encoder",
    "decoder": "decoder",
}

BEFORE: Mapping[tuple[str, str, str], str] = {
    ("size", "resnet", "10 epochs"): "reversed",
    ("size", "resnet", "70 steps"): "reversed",
    ("size", "vit", "10 epochs"): "reversed",
    ("size", "vit", "70 steps"): "not shown",
    ("pretraining", "resnet", "large minus small"): "reversed",
    ("pretraining", "resnet", "size alone"): "not shown",
    ("pretraining", "resnet", "diversity alone"): "reversed",
    ("pretraining", "vit", "large minus small"): "reversed",
    ("map", "resnet", "the corner"): "reversed",
    ("map", "resnet", "largest minus smallest"): "shown",
    ("map", "vit", "the corner"): "reversed",
    ("map", "vit", "largest minus smallest"): "not shown",
    ("objective", "resnet", "simclr minus"): "not shown",
    ("objective", "resnet", "simclr: largest"): "not shown",
    ("objective", "resnet", "unicl minus"): "shown",
    ("objective", "resnet", "unicl: largest"): "reversed",
    ("rate", "", "mri at the best rate"): "shown",
    ("rate", "", "largest minus smallest"): "reversed",
    ("methods", "vit", "lp_ft"): "not shown",
    ("methods", "", ""): "shown",
    ("curriculum", "", ""): "reversed",
    ("similarity", "", "largest minus smallest"): "reversed",
    ("similarity", "", ""): "shown",
    ("distance", "", "otdd"): "not shown",
    ("distance", "", ""): "shown",
    ("forgetting", "", ""): "shown",
}
"""Verdict of each contrast under the earlier rule: percentile bootstrap, no adjustment, pairs treated as independent.

Keys are study, family and a part of the contrast's words; an empty part matches every remaining contrast. The first
match counts.
"""


def before(study: str, family: str, says: str) -> str:
    """The verdict under the earlier rule; empty if the contrast is new."""
    fits = (
        verdict
        for (one, of, words), verdict in BEFORE.items()
        if one == study and of in ("", family) and words in says.lower()
    )
    return next(fits, "")


# -- soak/findings.json ------------------------------------------------------------------------------------------------


def stripped(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The part of the answers that the page needs: numbers with three decimals, verdicts and sentences."""
    return [
        {
            **{name: answer[name] for name in ("study", "question", "claim", "verdict", "families", "said", "power")},
            "contrasts": [
                {name: one[name] for name in ("family", "says", "claimed", "verdict", "alone")}
                | {"interval": rounded(one["interval"])}
                for one in answer["contrasts"]
            ],
            "panels": [
                {
                    "title": panel["title"],
                    "ticks": panel["ticks"],
                    "lines": [
                        {"name": line["name"], "spans": [rounded(span) for span in line["spans"]]}
                        for line in panel["lines"]
                    ],
                }
                for panel in answer["panels"]
            ],
            "notes": answer["notes"],
            "missing": answer["missing"],
        }
        for answer in answers
    ]


def rounded(span: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if span is None:
        return None
    numbers = {name: span.get(name) for name in ("value", "low", "high", "p", "adjusted")}
    kept = {name: None if number is None else round(number, 3) + 0.0 for name, number in numbers.items()}
    return kept | {"lacks": list(span.get("lacks") or ())}


def starts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The part of the report on tuning on the reference set that the page needs: mRI and gain of each row."""
    return [
        {name: row[name] for name in ("model", "size")}
        | {name: rounded(row[name]) for name in ("mri", "gain", "ood_before")}
        for row in report["summaries"]
        if row["method"] == "finetune"
    ]


def as_answer(document: Mapping[str, Any]) -> Answer:
    """An answer from its JSON."""

    def interval(span: Mapping[str, Any] | None) -> Interval | None:
        return None if span is None else Interval(**{**span, "lacks": tuple(span["lacks"])})

    def line(given: Mapping[str, Any]) -> AnswerLine:
        return AnswerLine(given["name"], given["rank"], given["shape"], tuple(map(interval, given["spans"])))

    def panel(given: Mapping[str, Any]) -> AnswerPanel:
        lines = tuple(map(line, given["lines"]))
        return AnswerPanel(given["title"], given["across"], tuple(given["ticks"]), lines, given["joined"])

    words = {name: document[name] for name in ("study", "suite", "question", "claim", "measure", "surface")}
    contrasts = tuple(
        Contrast(one["family"], one["says"], one["claimed"], interval(one["interval"])) for one in document["contrasts"]
    )
    return Answer(**words, contrasts=contrasts, panels=tuple(map(panel, document["panels"])))


# -- the page ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """Numbers of the answers by name, for the page's template."""

    answers: Sequence[Mapping[str, Any]]
    reference: Sequence[Mapping[str, Any]] = ()
    photos: Mapping[str, Any] = field(default_factory=dict)
    of_texts: Sequence[Mapping[str, Any]] = ()
    of_remedies: Sequence[Mapping[str, Any]] = ()
    of_methods: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remedies(self) -> Numbers:
        """The numbers of the studies of methods at matched gain."""
        return Numbers(self.of_remedies)

    @property
    def texts(self) -> Numbers:
        """The numbers of the studies of texts."""
        return Numbers(self.of_texts)

    def on_texts(self, study: str) -> str:
        """The verdict of a study of texts on each family; "not run" without one."""
        run = any(answer["study"] == study for answer in self.of_texts)
        return self.texts.families(study) if run else "not run"

    def of(self, study: str) -> Mapping[str, Any]:
        """The answer of a study. Raises KeyError if there is none."""
        for answer in self.answers:
            if answer["study"] == study:
                return answer
        raise KeyError(f"no answer of {study}")

    def contrast(self, study: str, family: str, words: str) -> Mapping[str, Any]:
        """The contrast of a family whose words contain these. Raises KeyError unless there is exactly one."""
        fits = [
            one
            for one in self.of(study)["contrasts"]
            if one["family"] == family and words.lower() in one["says"].lower()
        ]
        if len(fits) != 1:
            raise KeyError(f"{len(fits)} contrasts of {study}, {family} say {words!r}")
        return fits[0]

    def number(self, study: str, family: str, words: str) -> str:
        """The value of a contrast with its interval."""
        return spanned(self.contrast(study, family, words)["interval"])

    def value(self, study: str, family: str, words: str) -> str:
        """The value of a contrast."""
        return points(self.contrast(study, family, words)["interval"]["value"])

    def point(self, study: str, panel: str, line: str, tick: str) -> str:
        """A point of the figure with its interval. Raises KeyError if there is none."""
        return spanned(self._span(study, panel, line, tick))

    def height(self, study: str, panel: str, line: str, tick: str) -> str:
        """A point of the figure without its interval."""
        return points(self._span(study, panel, line, tick)["value"])

    def _span(self, study: str, panel: str, line: str, tick: str) -> Mapping[str, Any]:
        places = [
            (row["spans"], one["ticks"])
            for one in self.of(study)["panels"]
            for row in one["lines"]
            if (one["title"], row["name"]) == (panel, line) and tick in one["ticks"]
        ]
        spans: list[Mapping[str, Any]] = [span for spans, ticks in places if (span := spans[ticks.index(tick)])]
        if len(spans) != 1:
            raise KeyError(f"{len(spans)} points of {study}: {panel}, {line}, {tick}")
        return spans[0]

    def families(self, study: str) -> str:
        """The verdict on each family, in bold."""
        found = self.of(study)["families"].items()
        return ", ".join(f"{NAMES.get(family, family)}: **{verdict}**" for family, verdict in found)

    def count(self, study: str, verdict: str) -> str:
        """How many of the contrasts have a verdict: "3 of 8"."""
        contrasts = self.of(study)["contrasts"]
        return f"{sum(one['verdict'] == verdict for one in contrasts)} of {len(contrasts)}"

    def alone(self, study: str, verdict: str) -> str:
        """How many of the contrasts would have a verdict without adjustment."""
        return str(sum(one["alone"] == verdict for one in self.of(study)["contrasts"]))

    def table(self, study: str) -> str:
        """Every contrast of a study as Markdown."""
        return "\n".join(table(self.of(study)))

    def power(self, study: str) -> str:
        """The smallest differences that its seeds could detect."""
        return _typeset(str(self.of(study)["power"]))

    def notes(self, study: str) -> str:
        """Its further results, as a list."""
        return "\n".join(f"- {_typeset(note)}" for note in self.of(study)["notes"])

    def tuned_on_reference(self) -> str:
        """mRI after tuning on the reference set, as a table."""
        sizes = list(dict.fromkeys(row["size"] for row in self.reference))
        lines = [
            "| mRI, points [95 %] | pretrained: OOD | " + " | ".join(f"n = {size:,}" for size in sizes) + " |",
            "|---" * (len(sizes) + 2) + "|",
        ]
        for model in dict.fromkeys(row["model"] for row in self.reference):
            mine = {row["size"]: row for row in self.reference if row["model"] == model}
            cells = [spanned(mine[size]["mri"]) for size in sizes]
            lines.append(f"| {model} | {mine[sizes[0]]['ood_before']['value']:.1f} % | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def gains_on_reference(self) -> str:
        """Lowest and highest gain on unseen images of the reference set, by model."""
        said = []
        for model in dict.fromkeys(row["model"] for row in self.reference):
            gains = [row["gain"]["value"] for row in self.reference if row["model"] == model]
            said.append(f"{model} {points(min(gains))} to {points(max(gains))}")
        return ", ".join(said)

    @property
    def of_photos(self) -> Numbers:
        """The answers of the studies of photos, by the same names."""
        return Numbers(self.photos["answers"])

    def photo(self, part: str, method: str, number: str) -> str:
        """A number of a tuned row of photos with its interval; accuracies in percent, changes in points."""
        return self._shown(self.photos[part][method][number], number)

    def photo_value(self, part: str, method: str, number: str) -> str:
        """A number of a tuned row of photos without its interval."""
        span = self.photos[part][method][number]
        return f"{span['value']:.1f}" if number in _LEVELS else points(span["value"])

    def _shown(self, span: Mapping[str, Any], number: str) -> str:
        if number not in _LEVELS:
            return spanned(span)
        return f"{span['value']:.1f} [{span['low']:.1f}, {span['high']:.1f}]"

    def held_out_rates(self) -> str:
        """Mean held-out accuracies of photos by learning rate, as a table; the best of each row in bold."""
        found = self.photos["held_out"]
        rates = sorted({rate for row in found.values() for rate in row}, key=float)
        names = {"best_rate": "updated (default)", "best_rate_frozen": "frozen"}
        lines = ["| BatchNorm's statistics | " + " | ".join(rates) + " |", "|---" * (len(rates) + 1) + "|"]
        for method, row in found.items():
            cells = [f"{row[rate]:.1f}" if rate in row else "" for rate in rates]
            best = max(row, key=lambda rate: row[rate])
            cells[rates.index(best)] = f"**{row[best]:.1f}**"
            lines.append(f"| {names[method]} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def held_out_settings(self) -> str:
        """Held-out accuracy of photos by setting, at the better rate of each, as a table."""
        head = ("setting", "updated: rate", "art", "cue", "mean", "frozen: rate", "art", "cue", "mean")
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for title, model, ending, size in _SETTINGS:
            cells = [cell for method in ("tuned", "frozen") for cell in self._held_out(model, method + ending, size)]
            if any(cells):
                lines.append(f"| {title} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _held_out(self, model: str, method: str, size: int) -> tuple[str, ...]:
        """The rate that is better on average, the accuracy on each set, and the mean; empty where it was not run."""
        wanted = (model, method, size)
        whole = [row for row in self.photos["settings"] if {"pacs_art", "cue"} <= row["sets"].keys()]
        rows = [row for row in whole if (row["model"], row["method"], row["size"]) == wanted]
        if not rows:
            return ("",) * 4
        best = max(rows, key=lambda row: sum(row["sets"].values()))
        accuracies = [best["sets"]["pacs_art"], best["sets"]["cue"]]
        return best["rate"], *(f"{value:.1f}" for value in (*accuracies, sum(accuracies) / 2))

    def split(self, tested_on: str, part: str) -> str:
        """A share of a change of accuracy on photos in points, or the accuracy at a corner in percent."""
        value = self.photos["statistics"][tested_on][part]
        return points(value) if part in ("change", "of_weights", "of_statistics") else f"{value:.1f}"

    def folded(self, model: str, method: str, number: str) -> str:
        """A number of a tuned row of photos-folded with its interval."""
        return self._shown(self.photos["folded"][model][method][number], number)

    def short(self, suite: str, size: int) -> str:
        """Accuracy on unseen pictures after tuning on `size` images: mean over seeds, lowest and highest."""
        values = self.photos["short"][suite][str(size)]
        return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    def method(self, model: str, method: str, number: str) -> str:
        """A number of a row of digits-methods with its interval; accuracies in percent, changes in points."""
        return self._shown(self._method(model, method)[number], number)

    def _method(self, model: str, method: str) -> Mapping[str, Any]:
        return next(row for row in self.of_methods["rows"] if (row["model"], row["method"]) == (model, method))

    def all_methods(self, *models: str) -> str:
        """Gain, mRI and the difference from fine-tuning at its gain, of each method on some models, as a table."""
        rows = {(row["model"], row["method"]): row for row in self.of_methods["rows"] if row["model"] in models}
        head = [
            "method",
            *(f"{_net(model)}: {words}" for model in models for words in ("gain", "mRI", "at equal gain")),
        ]
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for method in dict.fromkeys(method for _, method in rows):
            found = [rows.get((model, method)) for model in models]
            cells = [cell for row in found for cell in (_of_method(row) if row else ("", "", ""))]
            lines.append(f"| `{method}` | {' | '.join(cells)} |")
        return "\n".join(lines)

    def merged(self, *models: str) -> str:
        """mRI of leave-one-out merges, and the difference from the models that are merged, as a table."""
        rows = {(row["model"], row["method"]): row for row in self.of_methods["merges"]}
        head = ["merge", *(f"{_net(model)}: {words}" for model in models for words in ("mRI", "minus its models"))]
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for method in dict.fromkeys(method for _, method in rows):
            found = [rows[model, method] for model in models]
            cells = [spanned(row[number]) for row in found for number in ("mri", "against_singles")]
            lines.append(f"| `{method}` | {' | '.join(cells)} |")
        return "\n".join(lines)

    def changed(self) -> str:
        """The verdicts that differ between the two rules, as a table."""
        rows = [
            f"| `{study}` | {family} | {says} | {was} | {now} |"
            for study, family, says, was, now in moved(self.answers)
        ]
        return "\n".join(["| study | family | contrast | before | now |", "|---|---|---|---|---|", *rows])


_SETTINGS = (
    ("128 pixels, 5 epochs, 96 pictures (`photos`)", "lite0", "", 96),
    ("64 pixels", "lite0_64", "", 96),
    ("224 pixels", "lite0_224", "", 96),
    ("10 epochs", "lite0", "_10", 96),
    ("24 pictures", "lite0", "", 24),
    ("BatchNorm folded", "lite0_folded", "", 96),
)
"""Settings of photos: title, model, ending of the methods' names, and size."""

_LEVELS = ("own_before", "own_after", "reference_before", "reference_after", "ood_before")
"""Numbers of rows that are accuracies."""


def page(kept: Mapping[str, Any]) -> str:
    """The text of docs/findings.md."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    return environment.get_template("findings.md.jinja").render(
        is_=Numbers(
            *(kept["answers"], kept["reference"], kept["photos"], kept.get("texts", ()), kept.get("remedies", ())),
            kept.get("methods", {}),
        )
    )


def _of_method(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Cells of a method: gain, mRI, and the difference at equal gain; bold if it is distinguishable among all."""
    there = row["there"]
    words = _REACHES[row["reach"]] if there is None else spanned(there)
    bold = there is not None and there["adjusted"] is not None and there["adjusted"] <= 0.05
    return points(row["gain"]["value"]), spanned(row["mri"]), f"**{words}**" if bold else words


def _net(model: str) -> str:
    return NAMES[model.partition("_")[0]]


_REACHES = {"": "", "never": "gains less", "beyond": "gains more", "uncertain": "too uncertain"}
"""Words for a method without a number at the gain of fine-tuning."""


def points(value: float) -> str:
    """Points with one decimal and a sign, in the page's typography."""
    return signed(value).replace("-", "−")


def spanned(span: Mapping[str, Any] | None) -> str:
    """A value with its interval; ° if it lacks seeds."""
    if span is None:
        return "missing"
    mark = "°" if span.get("lacks") else ""
    return f"{points(span['value'])} [{points(span['low'])}, {points(span['high'])}]{mark}"


def _typeset(text: str) -> str:
    return text.replace(" -", " −").replace("[-", "[−").replace("(-", "(−")


def table(answer: Mapping[str, Any]) -> Iterator[str]:
    """The contrasts of an answer, in Markdown."""
    yield "| family | contrast | claimed | points [95 %] | p, and p among all | verdict |"
    yield "|---|---|---|---|---|---|"
    for one in answer["contrasts"]:
        side = {"above": "> 0", "below": "< 0"}[one["claimed"]]
        number, p = spanned(one["interval"]), _p(one["interval"])
        yield f"| {one['family']} | {one['says']} | {side} | {number} | {p} | {one['verdict']} |"


def _p(span: Mapping[str, Any] | None) -> str:
    if not span or span.get("p") is None:
        return ""
    known = [span[name] for name in ("p", "adjusted") if span.get(name) is not None]
    return ", ".join("< 0.001" if p < 0.0005 else f"{p:.3f}" for p in known)


def moved(answers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str, str]]:
    """Contrasts whose verdict has changed: study, family, words, verdict before, verdict now."""
    for answer in answers:
        for one in answer["contrasts"]:
            was = before(answer["study"], one["family"], one["says"])
            if was and was != one["verdict"]:
                yield answer["study"], one["family"], one["says"], was, one["verdict"]


def write(kept: Mapping[str, Any]) -> None:
    """Write docs/findings.md, and what it is made of."""
    text = page(kept)
    KEPT.write_text(json_text(kept, None) + "\n", "utf-8")
    PAGE.write_text(text, "utf-8")


def main(words: Sequence[str]) -> None:
    """Print everything, or write the page."""
    if (part := "".join(words[:1])) in ("texts", "remedies"):
        of_part = [answer for path in words[1:] for answer in json.loads(Path(path).read_text("utf-8"))]
        write(json.loads(KEPT.read_text("utf-8")) | {part: stripped(of_part)})
        return
    given = [json.loads(Path(path).read_text("utf-8")) for path in words]
    if len(given) != 1:
        answers = {"answers": stripped(given[0]), "reference": starts(given[1])} if given else {}
        for answer in given[0] if given else ():
            write_drawn(answer_figures(as_answer(answer)), FIGURES, ("png",))
        write(json.loads(KEPT.read_text("utf-8")) | answers)
        return
    numbers = Numbers(stripped(given[0]))
    for answer in numbers.answers:
        print(f"## {answer['study']}: {answer['question']}\n\n{answer['said']}\n")
        print("\n".join([numbers.table(answer["study"]), "", answer["power"], "", *answer["notes"], ""]))
    print(f"## Verdicts that changed\n\n{numbers.changed()}")


if __name__ == "__main__":
    main(sys.argv[1:])
