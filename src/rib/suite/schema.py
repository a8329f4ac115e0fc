"""The JSON Schema of a suite file, made from the types, for editors that complete and check TOML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rib.recipe import RECIPES
from rib.suite.suite import Suite

FILE = Path(__file__).parents[1] / "suites" / "suite.schema.json"
"""The schema beside the shipped suites, whose first line names it (`#:schema`)."""


def suite_schema() -> dict[str, Any]:
    """The JSON Schema of a suite file: every key with its description, type and default."""
    schema = Suite.model_json_schema()
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    schema["title"] = "A suite of RIB"
    definitions = schema["$defs"]
    recipe = definitions["Recipe"]["properties"]
    recipe["base"] = {"enum": list(RECIPES), "description": "a named recipe that the other fields change"}
    _also(recipe["batchnorm"], "update")
    for owner in (
        schema["properties"]["recipe"],
        *(definitions["HeadRow"]["properties"][n] for n in ("probe", "finetune")),
    ):
        _also(owner, *RECIPES)
    _also(definitions["DataRow"]["properties"]["classes"], "imagenet")
    return schema


def _also(field: dict[str, Any], *words: str) -> None:
    """Allow a field to be one of these words, too, which the types convert into another value."""
    kinds = field.pop("anyOf", None) or [{name: field.pop(name) for name in ("$ref", "enum", "type") if name in field}]
    field["anyOf"] = [*kinds, {"enum": list(words)}]


def schema_text() -> str:
    """The schema as the text of its file."""
    return json.dumps(suite_schema(), indent=1, ensure_ascii=False) + "\n"
