"""Writes examples/first_look.ipynb from notebook.md: text becomes Markdown cells, code becomes code cells.

python docs/tutorials/make_notebook.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("notebook.md")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_look.ipynb"

BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def notebook_text() -> str:
    """The notebook as the text of its file, without outputs."""
    pieces = BLOCK.split(PAGE.read_text("utf-8"))
    cells = [_cell(piece, code=number % 2 == 1, number=number) for number, piece in enumerate(pieces) if piece.strip()]
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _cell(text: str, code: bool, number: int) -> dict[str, Any]:
    kind = {"cell_type": "code", "execution_count": None, "outputs": []} if code else {"cell_type": "markdown"}
    shown = text if code else LINK.sub(r"\1", text)  # links of the page lead nowhere from a notebook
    return kind | {"id": f"cell-{number}", "metadata": {}, "source": shown.strip().splitlines(keepends=True)}


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_text(), "utf-8")
