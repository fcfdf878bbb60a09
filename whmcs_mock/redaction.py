"""Redact secrets: by the names of parameters, and known secrets in any text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from itertools import islice
from urllib.parse import quote, quote_plus

REDACTED = "***"
SHORTEST = 8  # shorter secrets are not searched for, since they are part of too many words

_NAMES = "secret|passw|pwd|access[_-]?key|api[_-]?key|authorization|token|cardnum|cvv"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
#: A name and a value within a text, such as JSON that was sent as a form.
_SECRET_PAIR = rf"""((?:{_NAMES})\w{{0,20}}["']?\s{{0,5}}(?:[=:]|%3D)\s{{0,5}})("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^&;\r\n]+)"""
_SOUGHT = 20  # secrets of one call that are searched for in its other texts
_SPELT = 1024  # characters up to which a secret is searched for in all its spellings
_WORDS = frozenset(("password", "username", "identifier", "accesskey", "responsetype", "clientid"))


def is_secret(name: str) -> bool:
    """Return whether the value of a parameter with this name is a secret."""
    return bool(_SECRET_NAME.search(name)) if len(name) > 64 else _is_secret(name)


@lru_cache(maxsize=256)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def secrets_of(params: Mapping[str, str]) -> frozenset[str]:
    """Return the values of the first few parameters whose names are those of secrets."""
    names = list(islice(filter(is_secret, params), _SOUGHT))
    return frozenset(params[name] for name in names if params[name] not in names)


def redactor(*secrets: Collection[str], named: bool = True) -> Callable[[str], str]:
    """Return a function that hides secrets in a text, in linear time.

    Args:
        secrets: The known secrets.
        named: Whether to hide what follows a secret's name as well, up to the end of the line.
    """
    return _compile(frozenset().union(*secrets), named)


@lru_cache(maxsize=16)
def _compile(secrets: frozenset[str], named: bool) -> Callable[[str], str]:  # noqa: FBT001  # by position, for the cache
    sought = (secret for secret in secrets if len(secret) >= SHORTEST and secret.lower() not in _WORDS)
    spellings = {spelling for secret in sought for spelling in _spell(secret)}
    longest_first = sorted(spellings, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in longest_first:  # replace() is linear, unlike an alternation in a regular expression
            text = text.replace(secret, REDACTED)
        pairs = named and ("=" in text or ":" in text or "%3" in text)
        return re.sub(_SECRET_PAIR, lambda found: found[1] + REDACTED, text, flags=re.IGNORECASE) if pairs else text

    return redact


def _spell(secret: str) -> set[str]:
    """Return the spellings of a secret in texts: plain, URL-encoded, in a repr, in JSON, in XML, in upper-case hex."""
    if len(secret) > _SPELT:
        return {secret}
    encoded = secret.encode("utf-8", "surrogatepass")
    urls = {quote_plus(encoded), *(quote(encoded, safe) for safe in ("", "/", "!'()*~"))}
    lower = {re.sub("%..", lambda found: found[0].lower(), url) for url in urls}
    plain = json.dumps(secret)[1:-1]
    documented = plain.replace("/", "\\/")  # as PHP writes JSON; below with the options of the profile live
    live = re.sub("[<>&']", lambda found: f"\\u{ord(found[0]):04X}", plain.replace('\\"', "\\u0022"))
    xml = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    spellings = {secret, *urls, *lower, repr(secret)[1:-1], plain, documented, live, xml}
    return spellings | ({secret.upper()} if re.fullmatch("[0-9a-f]{32}", secret) else set())
