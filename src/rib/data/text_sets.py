"""Sets of texts in the catalogue. The user puts their tables into folders (docs/datasets.md, Texts)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rib.data import snippets

SENTIMENT, NLI = ("negative", "neutral", "positive"), ("entailment", "neutral", "contradiction")

TEXT_SETS: Mapping[str, tuple[str, tuple[str, ...], str, str]] = {
    "sentiment:amazon": ("sentiment", SENTIMENT, "https://github.com/lifan-yuan/OOD_NLP (BOSS)", "research"),
    "sentiment:dynasent": ("sentiment", SENTIMENT, "https://github.com/cgpotts/dynasent", "CC BY 4.0"),
    "sentiment:semeval": ("sentiment", SENTIMENT, "https://github.com/lifan-yuan/OOD_NLP (BOSS)", "research"),
    "sentiment:sst": ("sentiment", SENTIMENT, "https://nlp.stanford.edu/sentiment", "research"),
    "sentiment:yelp": ("sentiment", SENTIMENT, "https://www.yelp.com/dataset", "Yelp's terms"),
    "sentiment:imdb": (
        "sentiment",
        ("negative", "positive"),
        "https://ai.stanford.edu/~amaas/data/sentiment",
        "research",
    ),
    "nli:mnli": ("nli", NLI, "https://cims.nyu.edu/~sbowman/multinli", "by genre, free"),
    "nli:anli": ("nli", NLI, "https://github.com/facebookresearch/anli", "CC BY-NC 4.0"),
    "nli:wanli": ("nli", NLI, "https://github.com/alisawuffles/wanli", "CC BY 4.0"),
    "nli:snli": ("nli", NLI, "https://nlp.stanford.edu/projects/snli", "CC BY-SA 4.0"),
    "nli:contract": ("nli", NLI, "https://stanfordnlp.github.io/contract-nli", "CC BY 4.0"),
    "nli:hans": ("nli", ("entailment", "non-entailment"), "https://github.com/tommccoy1/hans", "MIT"),
    "toxicity:civil": ("toxicity", ("fine", "toxic"), "https://wilds.stanford.edu/datasets/#civilcomments", "CC0"),
    "toxicity:implicit": ("toxicity", ("fine", "toxic"), "https://github.com/lifan-yuan/OOD_NLP (BOSS)", "research"),
    "toxicity:adversarial": ("toxicity", ("fine", "toxic"), "https://github.com/lifan-yuan/OOD_NLP (BOSS)", "research"),
    "toxicity:toxigen": ("toxicity", ("fine", "toxic"), "https://github.com/microsoft/TOXIGEN", "its own terms"),
}
"""Sets of texts: folder, classes, where to get them, licence."""


def text_sets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and row of each set of texts in the catalogue."""
    for domain in snippets.DOMAINS:
        yield (
            f"snippets:{domain}",
            {
                "text": f"snippets/{domain}.jsonl",
                "source_column": "document",
                "test_fraction": 0.4,
                "url": "the package vaderSentiment: rib data fetch snippets",
                "licence": "MIT; texts of their authors",
            },
        )
    for name, (folder, labels, where, licence) in TEXT_SETS.items():
        pairs = folder == "nli"
        yield (
            name,
            {
                "text": f"{folder}/{name.partition(':')[2]}/train.parquet",
                "test_text": f"{folder}/{name.partition(':')[2]}/test.parquet",
                "text_column": "premise" if pairs else "text",
                "pair_column": "hypothesis" if pairs else "",
                "group_column": "group" if folder == "toxicity" else None,
                "classes": labels,
                "labels": {"non-entailment": ("neutral", "contradiction")} if "non-entailment" in labels else {},
                "combine": "sum" if "non-entailment" in labels else "max",
                "url": where,
                "licence": licence,
            },
        )
