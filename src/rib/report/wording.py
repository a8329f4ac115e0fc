"""Gives the text of a page's templates the word for what a suite's sets hold."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from rib.text.wording import IMAGES, about

_TAG = re.compile(r"(<[^>]*>)")


class Wording(Extension):
    """Writes text of templates, and sentences in their expressions, in the word of `environment.noun`."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        noun: str = getattr(self.environment, "noun", IMAGES)
        return (_worded(token, noun) for token in stream)


def _worded(token: Token, noun: str) -> Token:
    text = str(token.value)
    if token.type == "data":
        parts = _TAG.split(text)
        return Token(
            token.lineno, token.type, "".join(part if part[:1] == "<" else about(noun, part) for part in parts)
        )
    if token.type == "string" and " " in text:
        return Token(token.lineno, token.type, about(noun, text))
    return token
