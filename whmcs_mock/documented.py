"""Answer a call with the example of a documentation page, and check the call against the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from whmcs_mock.errors import ApiError, nearest, quote
from whmcs_mock.ledger import Client, Page, Parameter, parse_clientid
from whmcs_mock.response import Answer
from whmcs_mock.store import Store

_CLIENT = ("clientid", "userid")  # how a page names the client; if it has both, userid is a user
_ECHOED = {"applycredit": ("amount",)}  # parameters besides ids that the answer repeats
_CLIENT_NOT_FOUND = re.compile(r"client (id )?not found", re.IGNORECASE)

#: Parameters of every action, and those that some clients send with every action.
_COMMON = frozenset(("action", "identifier", "secret", "username", "password", "accesskey", "responsetype", "endpoint"))
_TYPES = {
    "int": re.compile(r"\s*[+-]?[0-9]+(\.0+)?\s*"),
    "float": re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*"),
    "bool": re.compile(r"0|1|true|false|on|off|yes|no", re.IGNORECASE),
}
_INDEX = re.compile(r"\[[0-9]*\]")
_NUMBER = re.compile(r"[0-9]+$")
_PLACEHOLDER = re.compile(
    r"(?<=: )[^:]*\.\.\.,?"  # one of: enom, resellerclub...
    r"|\bx+\b(?: \([^)]*\))?"  # the placeholder, followed by its values in brackets
    r"|\$\w+|<[\w-]+>|(?<=')[^']+\|[^']+(?=')",
    re.IGNORECASE,
)
_MOST = 10  # sentences of advice per call


def answer(page: Page, params: Mapping[str, str], store: Store) -> Answer:
    """Return the page's example, with values from the call and the store filled in.

    The body is the page's own ``example`` object if nothing in it changes.

    Raises:
        ApiError: The call names a client that is not in the store, and the page has an error for that.
    """
    sent = {name: text for name, text in params.items() if text}
    name, client = _client(page, params, store)
    if client is not None:
        sent[name] = str(client.id)
    changes: dict[str, Any] = {}
    if isinstance(page.example, dict):
        echoed = _ECHOED.get(page.action.lower(), ())
        for key in page.example:
            if key in sent and (key.lower().endswith("id") or key in echoed):
                changes[key] = _like(page.example[key], sent[key])
        details = page.example.get("client")
        if client is not None and isinstance(details, dict) and "credit" in details:
            changes["client"] = {**details, "credit": f"{client.balance:.2f}"}
    changes = {key: value for key, value in changes.items() if value != page.example[key]}
    why = f"the example of {page.source or 'its page'}" + (f", with {', '.join(changes)} changed" if changes else "")
    return Answer({**page.example, **changes} if changes else page.example, why=why, page=page)


def _client(page: Page, params: Mapping[str, str], store: Store) -> tuple[str, Client | None]:
    """Return the parameter that names the client, and the client if it is in the store."""
    known = {parameter.name: parameter for parameter in page.parameters}
    name = next((name for names in (known, params) for name in _CLIENT if name in names), "")
    text = params.get(name, "")
    number = parse_clientid(text)
    client = store.client(number) if number is not None else None
    needed = text or (name in params and name in known and known[name].required)
    messages = [message for message in page.errors if _CLIENT_NOT_FOUND.fullmatch(message)]
    if client is None and needed and len(messages) == 1:
        sources = ", ".join(store.sources) or "the ledger"
        raise ApiError(messages[0], why=f"{name} is {quote(text)}, and no such client is in {sources}")
    return name, client


def _like(example: Any, sent: str) -> Any:
    """Return the sent value in the type of the example, or the example if it cannot be converted."""
    if isinstance(example, str) or example is None:
        return sent
    number = parse_clientid(sent) if type(example) is int else None
    return example if number is None else number


def unlisted(page: Page, message: str) -> str:
    """Return a sentence with the nearest messages if the page lists others but not this one, otherwise nothing."""
    for error in page.errors:
        pattern = ".*".join(map(re.escape, _PLACEHOLDER.split(error)))
        if re.fullmatch(pattern, message, re.DOTALL):
            return ""
    near = ", ".join(nearest(message, page.errors, most=3, cutoff=0.0))
    return near and f"{page.action} has no error {quote(message)}; the nearest are {near}"


def advice(page: Page, params: Mapping[str, str]) -> tuple[str, ...]:
    """Return how the parameters of a call differ from the page, one sentence each."""
    found: dict[str, None] = {}
    for sentence in _departures(page, params):
        if len(found) == _MOST and sentence not in found:
            return (*found, f"more parameters differ from the page of {page.action}")
        found[sentence] = None
    return tuple(found)


def _departures(page: Page, params: Mapping[str, str]) -> Iterator[str]:
    known = {parameter.name: parameter for parameter in page.parameters}
    matches = {name: _find(known, name) for name in params if name not in _COMMON}
    sent = {match.name for name, match in matches.items() if match and (params[name] or "string" in match.type)}
    for name, parameter in known.items():
        if parameter.required and name not in sent and name not in _COMMON:
            yield f"{page.action} requires {name}"
    for name, match in matches.items():
        if match is None:
            yield f"{page.action} has no parameter {_printable(name)}; {_nearest(known, name)}"
        else:
            yield from _wrong_use(page, match, name, params[name])


def _find(known: Mapping[str, Parameter], name: str) -> Parameter | None:
    """Return the parameter that a sent name belongs to: ``items[0][desc]`` to ``items[x][desc]`` or ``items``."""
    base = name.partition("[")[0]
    names = (name, _INDEX.sub("[x]", name), base, _NUMBER.sub("x", base))
    return next((known[name] for name in names if name in known), None)


def _wrong_use(page: Page, parameter: Parameter, name: str, value: str) -> Iterator[str]:
    if parameter.deprecated:
        yield f"{page.action}'s parameter {parameter.name} is deprecated"
    many = parameter.type.endswith("[]")
    in_array = "[" in name and "[" not in parameter.name
    kinds = parameter.type.removesuffix("[]").split("|")
    takes = f"{page.action} takes {parameter.name} as {parameter.type}"
    if many and not in_array:
        yield f"{takes}; send {parameter.name}[0]"
    elif in_array and not many and _TYPES.keys() & kinds:
        yield f"{takes}, not as an array"
    elif value and not any(kind not in _TYPES or _TYPES[kind].fullmatch(value) for kind in kinds):
        yield f"{takes}, not as {quote(value)}"


def _nearest(known: Mapping[str, Parameter], name: str) -> str:
    names = [known_name for known_name in known if known_name not in _COMMON]
    twins = [twin for twin in _CLIENT if name in _CLIENT and twin in known]
    near = twins or nearest(name[:60], names)
    if near or not names:
        return f"it has {near[0] if near else 'none'}"
    return f"it has {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if names[8:] else "")


def _printable(name: str) -> str:
    return name if re.fullmatch(r"[\w\[\]]{1,60}", name) else quote(name)
