"""Write an answer as documented JSON, nested JSON, XML or NVP: all of them walks over one structure."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from whmcs_mock.model import Profile

__all__ = ["CONTENT_TYPES", "response_type", "written"]

CONTENT_TYPES = {"json": "application/json", "xml": "application/xml", "nvp": "text/plain; charset=utf-8"}

_VERSION = "8.13.1"  # the WHMCS version that XML answers name
_ESCAPE = re.compile(r"\\(u007f|.)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NOT_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_XML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


def response_type(asked: str, profile: Profile) -> str:
    """Return ``json``, ``xml`` or ``nvp``: the one asked for, in any case, or else the profile's default."""
    asked = asked.lower()
    return asked if asked in CONTENT_TYPES else "nvp" if profile == "live" else "json"


def written(body: Mapping[str, Any], kind: str, profile: Profile, action: str = "") -> bytes:
    """Write the body of an answer.

    Args:
        body: Mappings, lists and scalars; a mapping that holds one empty list is what WHMCS tells
            as "no entries".
        kind: ``json``, ``xml`` or ``nvp``.
        profile: Decides between flat and nested JSON.
        action: The action that was asked for; XML answers name it.

    Raises:
        TypeError: The body holds a value of a type that no answer can hold.
    """
    if kind == "xml":
        return _xml(body, action)
    if kind == "nvp":
        text = ";".join(f"{key}={'' if value is _NOTHING else _text(value)}" for key, value in _flat(body))
        return _SURROGATE.sub("\ufffd", text).encode()
    if profile == "live":
        text = json.dumps(_nested(body), separators=(",", ":"), allow_nan=False)
    else:
        flat = {key: _text(value) for key, value in _flat(body) if value is not _NOTHING}
        text = json.dumps(flat, separators=(",\n    ", ": "))
        text = "{\n    " + text[1:-1] + "\n}" if flat else "{}"
    if "\\" in text:  # escapes that PHP writes otherwise than Python
        php = {"u007f": "\x7f"} | ({'"': r"\u0022"} if profile == "live" else {})
        text = _ESCAPE.sub(lambda found: php.get(found[1], found[0]), text)
    return text.replace("/", r"\/").encode()


_NOTHING = object()  # an empty list: flat JSON has no key for it, NVP an empty value


def _flat(body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List the scalars with their bracket keys, as in ``credits[credit][0][id]``."""
    scalars: list[tuple[str, Any]] = []
    for name, value in body.items():
        _flatten(str(name), value, scalars)
    return scalars


def _flatten(key: str, value: Any, scalars: list[tuple[str, Any]]) -> None:
    if isinstance(value, str) or not isinstance(value, (Mapping, list, tuple)):
        scalars.append((key, value))
        return
    items: Iterable[tuple[Any, Any]] = enumerate(value)
    if isinstance(value, Mapping):
        items = () if _is_empty(value) else value.items()
    before = len(scalars)
    for name, item in items:
        _flatten(f"{key}[{name}]", item, scalars)
    if len(scalars) == before:
        scalars.append((key, _NOTHING))


def _is_empty(value: Mapping[Any, Any]) -> bool:
    return not value or (len(value) == 1 and next(iter(value.values())) in ([], ()))


def _nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "" if value and _is_empty(value) else {str(name): _nested(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nested(item) for item in value]
    return value if value is None or isinstance(value, (int, float)) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (Decimal, float)) and not math.isfinite(value):
        raise ValueError(f"an answer cannot hold {value}")
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if value is None or isinstance(value, bool):
        return "1" if value else ""  # as PHP writes true, false and null in a text
    if isinstance(value, (int, float, datetime.date)):
        return str(value)
    raise TypeError(f"an answer holds texts, numbers, dates, lists and mappings, not {type(value).__name__}")


def _xml(body: Mapping[str, Any], action: str) -> bytes:
    head = {"action": action.lower()} if action else {}
    root = f'<whmcsapi version="{_VERSION}">'
    lines = ['<?xml version="1.0" encoding="utf-8"?>', root, *_elements({**head, **body}), "</whmcsapi>"]
    return "\n".join(lines).encode()


def _elements(body: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in body.items():
        tag = _NOT_NAME.sub("_", str(name))
        tag = tag if tag[:1].isalpha() or tag[:1] == "_" else f"_{tag}"
        for item in value if isinstance(value, (list, tuple)) and value else [value]:
            inner = dict(enumerate(item)) if isinstance(item, (list, tuple)) else item
            if not isinstance(inner, Mapping):
                text = _NOT_XML.sub("\ufffd", _text(inner)).translate(_XML_ESCAPES)
                yield f"<{tag}>{text}</{tag}>"
            elif _is_empty(inner):
                yield f"<{tag}/>"
            else:
                yield f"<{tag}>"
                yield from _elements(inner)
                yield f"</{tag}>"
