"""Read the example request of an action's page, which is PHP code, as PHP would send it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CALL = re.compile(r"http_build_query\(\s*(?:array\(|\[)")
_PHP = re.compile(
    r"""//[^\n]*|(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'"()\[\],=]+(?![\w(]))|(?P<array>(?:\barray)?\(|\[)"""
    r"""|(?P<function>\w+\()|(?P<close>[)\]])|(?P<arrow>=>)|(?P<comma>,)"""
)
_FORM_VALUES = {"true": "1", "false": "0", "null": None}  # what PHP's http_build_query makes of them
_CREDENTIALS = ("identifier", "secret", "username", "password", "accesskey")


def request_of(text: str) -> dict[str, str]:
    """Return the parameters of a page's example request, without credentials."""
    code = text.partition("### Example Request (CURL)")[2].partition("\n### ")[0]
    if not (call := _CALL.search(code)):
        return {}
    return {
        name.removeprefix("$"): value  # AddOrder's has a label that begins with $, SendEmail's has ones with //
        for name, word in _form(_PHP.finditer(code, call.end()), code)
        if name not in _CREDENTIALS and name[:2] != "//" and (value := _plain(word)) is not None
    }


def _form(tokens: Iterator[re.Match[str]], code: str, array: str = "") -> Iterator[tuple[str, str]]:
    """Yield the words of a PHP array up to its closing bracket, as http_build_query names them."""
    key, word, number = "", "", 0
    for token in tokens:
        kind = token.lastgroup
        name = f"{array}[{key or number}]" if array else key
        if kind == "arrow":
            key, word = _plain(word) or "", ""
        elif kind == "array":
            yield from _form(tokens, code, name)
        elif kind in ("comma", "close"):
            if word:
                yield name, word
            if kind == "close":
                return
            key, word, number = "", "", number + 1
        elif kind == "function":  # an expression is kept as written
            word = code[token.start() : _closed(tokens)]
        elif kind:
            word = token[0]


def _plain(word: str) -> str | None:
    return word[1:-1].replace("\\'", "'") if word[0] in "'\"" else _FORM_VALUES.get(word.lower(), word)


def _closed(tokens: Iterator[re.Match[str]]) -> int:
    """Return the position where the bracket just opened is closed."""
    depth, end = 1, 0
    while depth and (token := next(tokens, None)):
        depth += {"array": 1, "function": 1, "close": -1}.get(token.lastgroup or "", 0)
        end = token.end()
    return end
