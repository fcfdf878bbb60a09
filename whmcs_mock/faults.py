"""Misbehave as real installs do: the faults by their names, and the queue of those to come.

Where each was seen stands in docs/fidelity.md.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from whmcs_mock.api import AUTHENTICATION_FAILED, INVALID_IP, INVALID_PERMISSIONS, Answer, Params
from whmcs_mock.errors import quoted
from whmcs_mock.model import address_text

__all__ = ["NAMES", "Fault", "Faults", "Reply", "ResetConnection"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold an HTTP response; ``length`` is the Content-Length when it is not that of the body."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None


class ResetConnection(Exception):
    """Tell the server to reset the connection instead of answering."""


_HTML = "text/html; charset=utf-8"
_PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"

#: Answers in the API's own words.
_ANSWERS = {
    "invalid-ip": INVALID_IP,
    "auth-failed": AUTHENTICATION_FAILED,
    "missing-permission": INVALID_PERMISSIONS,
}
#: Answers of something else than the API.
_PAGES = {
    "maintenance": Reply(503, _HTML, b"Down for Maintenance (Err2)"),
    "waf": Reply(403, _HTML, _PAGE.format("Access denied by Imunify360 bot-protection").encode()),
    "rate-limit": Reply(429, _HTML, _PAGE.format("429 Too Many Requests").encode(), (("Retry-After", "1"),)),
    "bad-gateway": Reply(502, _HTML, _PAGE.format("502 Bad Gateway").encode()),
    "gateway-timeout": Reply(504, _HTML, _PAGE.format("504 Gateway Timeout").encode()),
    "empty-body": Reply(200, _HTML, b""),
}
#: What becomes of the right answer; the action was carried out before.
_SPOILED = ("json-utf8", "php-warning", "bom", "truncated", "slow")

_JSON_UTF8 = "Error generating JSON encoded response: Malformed UTF-8 characters, possibly incorrectly encoded"
_PHP_WARNING = (
    b"<br />\n<b>Warning</b>:  Undefined array key &quot;credit&quot; in "
    b"<b>/var/www/whmcs/includes/hooks/custom.php</b> on line <b>42</b><br />\n"
)

NAMES = (*_ANSWERS, *_PAGES, *_SPOILED, "reset")


@dataclass(frozen=True, slots=True)
class Fault:
    """Hold one fault: a name of the table, or a status and a body, or a name with those changed.

    Args:
        name: One of ``NAMES``; empty for a plain status and body.
        seconds: How late ``slow`` answers.
        status: The HTTP status instead of the fault's own.
        body: The body instead of the fault's own.

    Raises:
        ValueError: There is no fault of that name (the message lists them), or a value is not what it should be.
    """

    name: str = ""
    seconds: float = 31.0  # one more than clients usually wait
    status: int | None = None
    body: bytes | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES and (self.name or (self.status is None and self.body is None)):
            wrong = f"there is no fault {quoted(self.name)}" if self.name else "nothing to fail with"
            raise ValueError(f"{wrong}; write one of {', '.join(NAMES)}, or status= and body=")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status is an HTTP status from 200 to 599, not {self.status}")
        if self.seconds < 0:
            raise ValueError(f"seconds is a time to wait, not {self.seconds}")

    def __str__(self) -> str:
        return self.name or f"status {self.status or 200}"

    def answer(self, params: Params, address: str) -> Answer | None:
        """Return what the API answers instead of the right answer; None when that is not what fails."""
        if self.name not in _ANSWERS:
            return None
        message = _ANSWERS[self.name].format(address=address_text(address), action=params.get("action", "").lower())
        return Answer({"result": "error", "message": message}, 403)

    def told(self, answer: Answer, kind: str) -> Answer:
        """Return what the API tells instead of the right answer, once the action is carried out."""
        broken = self.name == "json-utf8" and kind == "json"
        return Answer({"result": "error", "message": _JSON_UTF8}) if broken else answer

    def page(self) -> Reply | None:
        """Return what something else answers in the API's place; None when that is not what fails.

        Raises:
            ResetConnection: Nothing is to be answered.
        """
        if self.name == "reset":
            raise ResetConnection
        return _PAGES.get(self.name) or (None if self.name else Reply(self.status or 200, _HTML, self.body or b""))

    def spoiled(self, reply: Reply) -> Reply:
        """Return the response with what the fault does to it."""
        if self.name == "php-warning" and reply.content_type == "application/json":
            reply = replace(reply, body=_PHP_WARNING + reply.body)
        elif self.name == "bom" and reply.content_type == "application/json":
            reply = replace(reply, body=b"\xef\xbb\xbf" + reply.body)
        elif self.name == "truncated":
            reply = replace(reply, body=reply.body[: len(reply.body) // 2], length=len(reply.body))
        if self.body is not None:
            reply = replace(reply, body=self.body)
        return replace(reply, status=self.status or reply.status)


class Faults:
    """Keep the faults to come, in order; safe to use from many threads."""

    def __init__(self) -> None:
        self._queue: deque[Fault] = deque()
        self._over = threading.Event()

    def add(self, faults: Sequence[Fault]) -> None:
        """Let the next calls fail, one call for each fault."""
        self._queue.extend(faults)

    def take(self) -> Fault | None:
        """Return the fault for this call; None when it is to be answered rightly."""
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    def left(self) -> list[Fault]:
        """Return the faults that no call has met yet."""
        return list(self._queue)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the faults are over."""
        self._over.wait(seconds)

    def end(self) -> None:
        """Let every call go that a slow fault holds."""
        self._over.set()
