"""Record what was asked and how it was answered; secrets are redacted before they enter."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from whmcs_mock.errors import quoted

__all__ = ["Call", "Journal", "is_secret", "redactor"]

REDACTED = "***"

_NAMES = "secret|passw|accesskey|apikey|token|cardnum|cvv"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
#: A name and a value within a text, as in JSON that was sent as a form.
_SECRET_PAIR = re.compile(
    rf"""((?:{_NAMES})\w{{0,20}}["']?\s{{0,5}}(?:[=:]|%3D)\s{{0,5}})("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^&;\r\n]+)""",
    re.IGNORECASE,
)
_SOUGHT = 20  # secrets of one call that are sought within its other texts


@dataclass(frozen=True, slots=True)
class Call:
    """Tell one request to the server and how it was answered.

    Args:
        action: The action as it was sent; empty when there was none.
        clientid: The client's id as it was sent; None when there was none.
        params: All parameters, secrets redacted.
        result: ``success`` or ``error``; empty for what is answered below the API, as a 404 is.
        message: The message of an error.
        status: The HTTP status.
        response_type: ``json``, ``xml`` or ``nvp``; empty below the API.
        duration: How long the answer took, in seconds.
        why: Why it was answered so.
        advice: What a real WHMCS would take otherwise, a sentence each.
        method: The HTTP method.
        path: The path, without the query.
        time: When the request came, in local time.
        late: Set when the call may belong to an earlier test: the sentence that says so.
    """

    action: str
    clientid: str | None
    params: Mapping[str, str]
    result: str
    message: str
    status: int
    response_type: str
    duration: float
    why: str
    advice: tuple[str, ...]
    method: str
    path: str
    time: datetime
    late: str = ""

    def __str__(self) -> str:
        asked = self.action or f"{self.method} {self.path}"
        sent = " ".join(f"{_short(key)}={_short(value)}" for key, value in self.params.items() if key != "action")
        kind = f"{self.status or 'no answer'} {self.response_type}".rstrip()
        answer = f"{self.result} {quoted(self.message)}" if self.message else self.result
        because = f": {self.why}" if self.why else ""
        return f"{_short(asked)} {sent}".rstrip() + f" -> {kind} {answer}".rstrip() + because

    def __repr__(self) -> str:
        return f"<Call {self}>"


class Journal:
    """Keep the latest calls; safe to use from many threads."""

    def __init__(self, limit: int = 10_000) -> None:
        self.dropped = 0  # calls that came before the ones kept
        self.late: deque[Call] = deque(maxlen=100)  # calls that an earlier test began
        self._calls: deque[Call] = deque(maxlen=limit)
        self._came = threading.Condition()

    def add(self, call: Call) -> None:
        """Record a call, and wake who waits for it."""
        with self._came:
            self.dropped += len(self._calls) == self._calls.maxlen
            self._calls.append(call)
            self._came.notify_all()

    def calls(self) -> list[Call]:
        """Return the recorded calls, oldest first."""
        with self._came:
            return list(self._calls)

    def wait_for(self, wanted: Callable[[Call], bool], timeout: float) -> Call | None:
        """Return the first call that is wanted, when need be after waiting; None after ``timeout`` seconds."""

        def first() -> Call | None:
            return next((call for call in self._calls if wanted(call)), None)

        with self._came:
            return self._came.wait_for(first, timeout)


def is_secret(name: str) -> bool:
    """Tell by a parameter's name whether its value is kept from the journal."""
    return bool(_SECRET_NAME.search(name))


def redactor(params: Mapping[str, str], known: Collection[str]) -> Callable[[str], str]:
    """Return a function that hides secrets in a text: the known ones, and what parameters named like one hold."""
    sent = [value for key, value in params.items() if is_secret(key)]
    secrets = {*known, *sent} - {""}
    # A short one is part of too many words, and a long one is not repeated by accident.
    sought = sorted({s for s in [*known, *sent[:_SOUGHT]] if 3 < len(s) < 200}, key=len, reverse=True)
    within = re.compile("|".join(map(re.escape, sought)) or "(?!)", re.IGNORECASE)

    def redact(text: str) -> str:
        if text in secrets:
            return REDACTED
        text = within.sub(REDACTED, text)
        pairs = "=" in text or ":" in text or "%3" in text
        return _SECRET_PAIR.sub(lambda found: found[1] + REDACTED, text) if pairs else text

    return redact


def _short(text: str) -> str:
    """Write a value as it stands when it is one plain word, else in quotes."""
    return text if text.isprintable() and " " not in text and 0 < len(text) <= 60 else quoted(text)
