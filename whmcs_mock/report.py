"""Describe calls in words: the request, the answer, and the reason for it."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from whmcs_mock.api import describe_difference
from whmcs_mock.errors import quote
from whmcs_mock.journal import Call, cut
from whmcs_mock.ledger import parse_clientid
from whmcs_mock.redaction import redactor

if TYPE_CHECKING:
    from whmcs_mock.world import World

_SHOWN = 50  # calls in a report
_LONGEST = 2_000  # characters of an exception
_OURS = ("whmcs_mock", "pytest_httpserver", "werkzeug")  # whose frames are not shown
_FLAT = "the JSON has flat bracket keys, as documented; code that reads credits.credit needs the profile live"


def report(world: World, url: str, silence: Sequence[str] = ()) -> str:
    """Return a text of the calls in a world, each with its answer, the reason, and advice.

    Args:
        world: The world.
        url: Where its API is.
        silence: Possible reasons if there were no calls.
    """
    calls = world.journal.calls()
    hidden = world.journal.dropped + len(calls[:-_SHOWN])
    lines = [f"Profile {world.profile}; served from {', '.join(world.store.sources) or 'a ledger'}."]
    lines += [f"({hidden} earlier calls are not shown)"] if hidden else []
    if not calls:
        question = "is the code under test configured to use it?"
        lines += [f"No calls were received. The server listens at {url}: {question}", *silence]
    for number, call in enumerate(calls[-_SHOWN:], hidden + 1):
        lines.append(f"{number}. {call.time:%H:%M:%S.%f}"[:-3] + f" {call} [{call.duration * 1000:.1f} ms]")
        lines += [f"   advice: {advice}" for advice in call.advice]
    lines += [f"hint: {_FLAT}"] if any(call.flat for call in calls) else []
    return "\n".join(lines)


def explain_proxy(url: str) -> list[str]:
    """Return which environment variables send clients to a proxy instead of a URL."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # no stub

    parts, proxies = urlsplit(url), getproxies_environment()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), "")
    spared = [word.strip() for word in proxies.get("no", "").split(",")]
    in_network = any(_is_in(parts.hostname or "", word) for word in spared)
    if not kind or in_network or proxy_bypass_environment(parts.netloc, proxies):
        return []
    name = next(name for name in os.environ if name.lower() == f"{kind}_proxy" and os.environ[name])
    return [f"{name} is set and NO_PROXY does not name {parts.hostname}: clients may call the proxy instead."]


def _is_in(host: str, network: str) -> bool:
    """Return whether an address is in a network, as requests and curl interpret NO_PROXY."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def matches(call: Call, action: str, params: Mapping[str, object]) -> bool:
    """Return whether a call is to an action (any if empty) and sent these parameters; actions are case-insensitive."""
    return (not action or call.raw.get("action", "").lower() == action.lower()) and not differences(call, params)


def differences(call: Call, params: Mapping[str, object]) -> list[str]:
    """Return the parameters in which a call differs; ids are compared as numbers."""
    different = []
    shown = None
    for name, value in params.items():
        sent, wanted = call.raw.get(name), cut(str(value))
        same = sent == wanted
        if name in ("clientid", "userid") and sent is not None and not same:
            same = parse_clientid(sent) is not None and parse_clientid(sent) == parse_clientid(wanted)
        if not same:
            shown = shown or call.params
            different.append(describe_difference(name, None if sent is None else shown.get(name, ""), wanted))
    return different


def nearest_miss(calls: Sequence[Call], action: str, params: Mapping[str, object]) -> str:
    """Return the call that is nearest to the expected one, and how it differs."""
    import difflib

    def likeness(call: Call) -> float:
        name = difflib.SequenceMatcher(None, call.raw.get("action", "").lower()[:100], action.lower()).ratio()
        return 2 * name - len(differences(call, params)) / (len(params) + 1)

    call = max(calls, key=likeness)
    different = differences(call, params)
    if action and call.raw.get("action", "").lower() != action.lower():
        different.insert(0, f"the action was {quote(call.action)} (expected {quote(action)})")
    return f"Nearest miss: call {calls.index(call) + 1}: {'; '.join(different)}"


def format_error(error: BaseException, world: World) -> str:
    """Return a text of an exception in a user's function, with only the user's own frames and secrets redacted."""
    import traceback

    modules = [sys.modules[name] for name in _OURS if name in sys.modules]
    folders = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in modules)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(folders)]
    redact = redactor(world.store.secrets)
    places = redact("".join(traceback.format_list(frames)).rstrip())
    return f"an exception in the server: {redact(repr(error))[:_LONGEST]}" + (f"\n{places}" if places else "")
