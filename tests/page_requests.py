"""Read the example request of a documentation page, to ask for the page's own example as a client would."""

from __future__ import annotations

import re
from collections.abc import Iterator

from whmcs_mock.fixtures.pages import _section

_CALL = re.compile(r"http_build_query\(\s*(?:array\(|\[)")
_PAIR = re.compile(r"'([^'\\]+)' => ('[^'\\]*'|\w+),")
_PHP = re.compile(
    r"""//[^\n]*|(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'"()\[\],=]+(?![\w(]))|(?P<array>(?:\barray)?\(|\[)"""
    r"""|(?P<function>\w+\()|(?P<close>[)\]])|(?P<arrow>=>)|(?P<comma>,)"""
)
_FORM_VALUES = {"true": "1", "false": "0", "null": None}  # what PHP's http_build_query makes of them
_CREDENTIALS = ("identifier", "secret", "username", "password", "accesskey")


def request_of(text: str) -> dict[str, str]:
    """Return the parameters of the example request in a page, without credentials."""
    return dict(_request(text))


def _request(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of the example request, without credentials."""
    start, end = _section(text, "### Example Request (CURL)")
    if call := _CALL.search(text, start, end):
        pairs: list[tuple[str, str]] = _PAIR.findall(text, call.end(), end)
        if len(pairs) < text.count("=>", call.end(), end):  # arrays and expressions, on one page in nine
            pairs = list(_form(_PHP.finditer(text, call.end(), end), text))
        for name, word in pairs:
            if name not in _CREDENTIALS and name[:2] != "//" and (value := _plain(word)) is not None:
                yield name.removeprefix("$"), value  # SendEmail's has labels that begin with //, AddOrder's one $


def _form(tokens: Iterator[re.Match[str]], text: str, array: str = "") -> Iterator[tuple[str, str]]:
    """Yield the words of a PHP array up to its closing bracket, as http_build_query names them."""
    key, word, number = "", "", 0
    for token in tokens:
        kind = token.lastgroup
        name = f"{array}[{key or number}]" if array else key
        if kind == "arrow":
            key, word = _plain(word) or "", ""
        elif kind == "array":
            yield from _form(tokens, text, name)
        elif kind in ("comma", "close"):
            if word:
                yield name, word
            if kind == "close":
                return
            key, word, number = "", "", number + 1
        elif kind == "function":  # an expression is kept as written
            word = text[token.start() : _closed(tokens)]
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
