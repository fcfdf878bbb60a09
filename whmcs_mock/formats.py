"""Encode an answer as JSON (nested or with flat bracket keys), XML or NVP; all walk the same structure."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from whmcs_mock.ledger import Profile

CONTENT_TYPES = {"json": "application/json", "xml": "application/xml", "nvp": "text/plain; charset=utf-8"}

#: The headers that a recorded installation sends besides the content type.
LIVE_HEADERS = (
    ("Expires", "Thu, 19 Nov 1981 08:52:00 GMT"),
    ("Cache-Control", "no-store, no-cache, must-revalidate"),
    ("Pragma", "no-cache"),
)

#: The actions whose documentation shows flat bracket keys, in lower case.
FLAT_ACTIONS = frozenset(
    {
        "getaffiliates",
        "getannouncements",
        "getcancelledpackages",
        "getclientsaddons",
        "getclientsdomains",
        "getcredits",
        "getcurrencies",
        "getemailtemplates",
        "getmoduleconfigurationparameters",
        "getmodulequeue",
        "getproject",
    }
)

_VERSION = "8.13.1"  # the WHMCS version in XML answers
_LAYOUTS = {"documented": ("\n", "    ", ": "), "live": ("", "", ":")}

# Characters that occur only inside JSON strings, and how PHP escapes them.
_ESCAPES = {
    "documented": (("/", r"\/"),),
    "live": (("<", r"\u003C"), (">", r"\u003E"), ("&", r"\u0026"), ("'", r"\u0027")),
}
_PYTHON_ESCAPE = r'\\(?:\\|"|u007f)'
_PHP_ESCAPES = {"documented": {r"\u007f": "\x7f"}, "live": {r"\u007f": "\x7f", r"\"": r"\u0022"}}

_SURROGATE = "[\ud800-\udfff]"
_NOT_XML = "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
_NOT_NAME = r"[^A-Za-z0-9_.-]"


def parse_response_type(asked: str, profile: Profile) -> str:
    """Return ``json``, ``xml`` or ``nvp``: the requested one, case-insensitive, or the profile's default."""
    asked = asked.lower()
    return asked if asked in CONTENT_TYPES else "nvp" if profile == "live" else "json"


def encode(body: Any, response_type: str, profile: Profile, action: str = "", *, flat: bool | None = None) -> bytes:
    """Return the bytes of an answer.

    Args:
        body: A mapping or a list, of mappings, lists and scalars; a mapping that contains one empty list
            is what WHMCS writes for "no entries".
        response_type: ``json``, ``xml`` or ``nvp``.
        profile: Decides the layout and the escapes of JSON.
        action: The requested action, case-insensitive; XML answers contain it.
        flat: Whether JSON in the documented profile has flat bracket keys; None for one of ``FLAT_ACTIONS`` only.

    Raises:
        TypeError: The body contains a value of a type that cannot be encoded.
        ValueError: The body contains a number that is not finite.
    """
    action = action.lower()
    if response_type == "xml":
        return _xml(body, action).encode()
    if response_type == "nvp":
        text = ";".join([f"{key}={text}" for key, text in _flatten(body, keep_empty=True).items()])
        return re.sub(_SURROGATE, "\ufffd", text).encode()
    if profile == "documented" and (action in FLAT_ACTIONS if flat is None else flat):
        body = _flatten(body, keep_empty=False)
    elif profile == "live" and action == "getcredits" and isinstance(body, Mapping):
        body = {name: "" if item == {"credit": []} else item for name, item in body.items()}
    text = _json(body, *_LAYOUTS[profile])
    if "\\" in text:
        php = _PHP_ESCAPES[profile]
        text = re.sub(_PYTHON_ESCAPE, lambda found: php.get(found[0], found[0]), text)
    for character, escape in _ESCAPES[profile]:
        text = text.replace(character, escape)
    return text.encode()


def _json(value: Any, margin: str, indent: str, colon: str) -> str:
    """Return a value as JSON; each item follows ``margin`` and one ``indent``."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    inner = margin + indent
    if isinstance(value, Mapping):
        quote, brackets = encode_basestring_ascii, "{}"
        items = [
            f"{quote(str(key))}{colon}{quote(item) if type(item) is str else _json(item, inner, indent, colon)}"
            for key, item in value.items()
        ]
    elif isinstance(value, (list, tuple)):
        brackets = "[]"
        items = [_json(item, inner, indent, colon) for item in value]
    elif value is None:
        return "null"
    elif isinstance(value, (int, float)):
        return str(value).lower() if isinstance(value, bool) else _text(value, digits=17)
    else:
        return encode_basestring_ascii(_text(value))
    return f"{brackets[0]}{inner}{f',{inner}'.join(items)}{margin}{brackets[1]}" if items else brackets


def _flatten(body: Any, *, keep_empty: bool) -> dict[str, str]:
    """Return the scalars by their bracket keys, as in ``credits[credit][0][id]``."""
    texts: dict[str, str] = {}

    def add(items: Mapping[Any, Any], outer: str | None = None) -> None:
        for name, item in items.items():
            key = str(name) if outer is None else f"{outer}[{name}]"
            if type(item) is str:
                texts[key] = item
            elif not isinstance(item, (Mapping, list, tuple)):
                texts[key] = _text(item)
            elif not _is_empty(item):
                add(_as_mapping(item), key)
            elif keep_empty:
                texts[key] = ""

    add(_as_mapping(body))
    return texts


def _as_mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else dict(enumerate(value))


def _is_empty(value: Any) -> bool:
    return not value or (isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) in ([], ()))


def _text(value: Any, digits: int = 14) -> str:
    """Return a scalar as PHP's echo writes it; a float with 17 digits as its json_encode does."""
    if isinstance(value, str):
        return str.__str__(value)  # the text itself, even for a member of an enumeration
    if value is None or isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, (Decimal, float)) and not math.isfinite(value):
        raise ValueError(f"an answer cannot contain {value}; write a finite number")
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, float):
        return _float(value, digits)
    if isinstance(value, datetime.date):
        return str(value)
    raise TypeError(f"an answer may contain texts, numbers, dates, lists and mappings, but not {type(value).__name__}")


def _float(value: float, digits: int) -> str:
    text = float.__repr__(value).removesuffix(".0") if digits == 17 else f"{value:.14G}"
    e = "e" if digits == 17 else "E"
    mantissa, _, exponent = text.partition(e)
    if not exponent:
        return text
    if int(exponent) in range(16, digits):  # PHP switches to exponents one digit later than Python
        return f"{Decimal(text):f}"
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{int(exponent):+d}"


def _xml(body: Any, action: str) -> str:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f'<whmcsapi version="{_VERSION}">']
    _add_elements(lines, ({"action": action} if action else {}) | dict(_as_mapping(body)))
    lines.append("</whmcsapi>")
    text = "\n".join(lines).replace("\r", "&#13;")  # a parser would read an unescaped one as a line feed
    return re.sub(_NOT_XML, "\ufffd", text)


def _add_elements(lines: list[str], body: Mapping[Any, Any]) -> None:
    for name, value in body.items():
        tag = _tag(str(name))
        for item in value if isinstance(value, (list, tuple)) and value else [value]:
            if type(item) is str or not isinstance(item, (Mapping, list, tuple)):
                text = _text(item).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                lines.append(f"<{tag}>{text}</{tag}>")
            elif _is_empty(item):
                lines.append(f"<{tag}/>")
            else:
                lines.append(f"<{tag}>")
                _add_elements(lines, _as_mapping(item))
                lines.append(f"</{tag}>")


@lru_cache(maxsize=1024)
def _tag(name: str) -> str:
    tag = re.sub(_NOT_NAME, "_", name)
    return tag if tag[:1].isalpha() or tag[:1] == "_" else f"_{tag}"
