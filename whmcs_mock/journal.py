"""Record calls and their answers."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from whmcs_mock.advice import advise
from whmcs_mock.errors import quote
from whmcs_mock.redaction import REDACTED, is_secret, redactor, secrets_of

if TYPE_CHECKING:
    from whmcs_mock.ledger import Page
    from whmcs_mock.request import Request
    from whmcs_mock.response import Response
    from whmcs_mock.store import Store

ANSWER_BYTES = 64 * 1024  # shown of each answer
_VALUE = 64 * 1024  # characters shown of each parameter
_MARGIN = 8 * 1024  # kept beyond these, so that a secret across the end is found as a whole
_OVERHEAD, _PARAM = 600, 200  # bytes that a call and each of its parameters take in addition to their texts
_SHOWN = 50  # parameters in the line of a call
_DOTS = "... ("

_numbers = itertools.count(1)


def cut(text: str) -> str:
    """Return a value as the journal keeps it: truncated if long, with its length."""
    return text if len(text) <= _VALUE else f"{text[: _VALUE + _MARGIN]}{_DOTS}{len(text)} characters)"


def _show(text: str, redact: Callable[[str], str]) -> str:
    """Return a kept value without secrets, truncated if long."""
    if len(text) <= _VALUE:
        return redact(text)
    kept, _, length = text.rpartition(_DOTS)
    return redact(kept)[:_VALUE] + _DOTS + length


class Call:
    """A request to the server and its answer.

    It exists as soon as the request has arrived. Secrets are redacted in everything that it shows.
    """

    def __init__(self, request: Request, store: Store, path: str) -> None:
        params, length = request.params, len(request.query_string) + len(request.body)
        if length > _VALUE:
            params = {cut(name): cut(value) for name, value in params.items()}
            length = sum(len(name) + len(value) for name, value in params.items())
        #: The parameters as they were sent, including secrets: only for comparison, never for display.
        self.raw: Mapping[str, str] = params
        self.id = 0  # set when it is added to a journal
        self.agent = request.headers.get("user-agent", "")[:200]
        self.unread = request.unread
        self.flat = False  # whether the answer was JSON with flat bracket keys
        self.query_secrets = tuple(filter(is_secret, request.query)) if request.query else ()
        self._secrets = store.secrets
        self._own: frozenset[str] | None = None  # the secrets among the parameters, once they were needed
        self._begun = time.time(), time.perf_counter()
        self._action = request.method, path
        self._page: Page | None = store.pages.get(params.get("action", "").lower()) if store.pages else None
        self._notes: tuple[str, ...] = ()
        self._held = ""  # why there is no answer yet
        self._sent: tuple[int, str, str, str, str, bytes, float] | None = None
        self.size = _OVERHEAD + _PARAM * len(params) + length + len(path)

    # Set by the server.

    def hold(self, why: str) -> None:
        """Record that the answer is held back."""
        self._held = why

    def complete(self, response: Response, *, sent: bool = True) -> None:
        """Record the response; ``sent`` is false if the client disconnected before it was sent."""
        answer = response.answer
        status, kind, why = (response.status, response.kind, response.why) if sent else (0, "", "")
        result = answer.text("result") or ("success" if answer.client else "")
        texts = (result, answer.text("message")) if sent else ("", "")
        body = response.body[: ANSWER_BYTES + _MARGIN] if sent and response.has_body else b""
        self._notes, self.flat = answer.notes, response.flat and b"[0]" in body
        self._held = "" if sent else "client left"
        self.size += len(body) - (len(self._sent[5]) if self._sent else 0)
        self._sent = (status, kind, *texts, why, body, time.perf_counter() - self._begun[1])

    @property
    def is_answered(self) -> bool:
        """Return whether the answer was sent or the client disconnected."""
        return self._sent is not None

    @property
    def is_settled(self) -> bool:
        """Return whether it was answered, is being held back, or its client disconnected."""
        return self._sent is not None or bool(self._held)

    # Read by users.

    @property
    def _redact(self) -> Callable[[str], str]:
        if self._own is None:
            self._own = secrets_of(self.raw)
        return redactor(self._own, self._secrets)

    @property
    def action(self) -> str:
        """Return the action as it was sent; empty if there was none."""
        return _show(self.raw.get("action", ""), self._redact)

    @property
    def clientid(self) -> str | None:
        """Return the client's id as it was sent, or None if there was none."""
        return self.params.get("clientid")

    @property
    def params(self) -> dict[str, str]:
        """Return all parameters, the values of secret ones as ``***``."""
        return dict(self._shown(self._redact))

    def _shown(self, redact: Callable[[str], str]) -> Iterator[tuple[str, str]]:
        names = redactor(self._secrets)  # names are not hidden, even if a secret value equals one
        for name, value in self.raw.items():
            yield _show(name, names), REDACTED if value and is_secret(name) else _show(value, redact)

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return self._redact(self._action[0])

    @property
    def path(self) -> str:
        """Return the path within its world, without the query."""
        return self._redact(self._action[1])

    @property
    def time(self) -> datetime:
        """Return when the request arrived, in local time."""
        return datetime.fromtimestamp(self._begun[0])

    @property
    def status(self) -> int:
        """Return the HTTP status; 0 if there is no answer (yet)."""
        return self._sent[0] if self._sent else 0

    @property
    def response_type(self) -> str:
        """Return the type of the answer: ``json``, ``xml`` or ``nvp``, or else ``html``, ``text`` or ``empty``."""
        return self._sent[1] if self._sent else ""

    @property
    def result(self) -> str:
        """Return ``success`` or ``error``; empty if the API did not answer (yet)."""
        return self._redact(self._sent[2]) if self._sent else ""

    @property
    def message(self) -> str:
        """Return the message of an error."""
        return self._redact(self._sent[3]) if self._sent else ""

    @property
    def why(self) -> str:
        """Return the reason for the answer, or that the client left; empty while there is no answer."""
        return self._redact(self._sent[4] or self._held) if self._sent else ""

    @property
    def answer(self) -> str:
        """Return the body that was sent, truncated at 64 KiB."""
        return self._redact(self._sent[5].decode("utf-8", "replace"))[:ANSWER_BYTES] if self._sent else ""

    @property
    def duration(self) -> float:
        """Return how long the answer took, or how long it has been pending, in seconds."""
        return self._sent[6] if self._sent else time.perf_counter() - self._begun[1]

    @property
    def advice(self) -> tuple[str, ...]:
        """Return where a real WHMCS would treat the request differently, one sentence each."""
        notes = (*advise(self, self._action[1], self._page), *self._notes)
        return tuple(map(self._redact, notes)) if notes else ()

    def __str__(self) -> str:
        redact = self._redact
        asked = self.action or f"{self.method} {self.path}"
        shown = [(name, value) for name, value in islice(self._shown(redact), _SHOWN + 1) if name != "action"]
        sent = " ".join(f"{_short(name)}={_short(value)}" for name, value in shown)
        sent += f" ... ({len(self.raw)} parameters)" if len(self.raw) > _SHOWN + 1 else ""
        if self._held:
            answer = self._held if self._held == "client left" else f"no answer yet ({self._held})"
        elif self._sent is None:
            answer = "no answer yet"
        else:
            status, kind, result, message, why = self._sent[:5]
            answer = f"{status or 'connection reset'} {kind} {redact(result)}".rstrip()
            answer += f" {quote(redact(message))}" if message else ""
            answer += f": {redact(why)}" if why else ""
        return f"{_short(asked)} {sent}".rstrip() + f" -> {answer}"

    def __repr__(self) -> str:
        return f"<Call {self}>"

    def as_json(self) -> dict[str, Any]:
        """Return the call as the control API shows it."""
        names = ("id", "action", "clientid", "params", "method", "path", "status", "response_type", "result", "message")
        rest = ("why", "advice", "duration", "answer")
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            **{name: getattr(self, name) for name in (*names, *rest)},
        }


class Journal:
    """The latest calls, in bounded memory; thread-safe.

    Args:
        limit: How many calls are kept.
        size: How many bytes they may take together.
    """

    def __init__(self, limit: int = 10_000, size: int = 16 * 1024 * 1024) -> None:
        self.dropped = 0  # number of calls before those that are kept
        self._calls: deque[Call] = deque()
        self._limit, self._size, self._bytes = limit, size, 0
        self._changed = threading.Condition(threading.Lock())
        self._waiting = 0
        self.stopping = False

    def add(self, call: Call) -> None:
        """Record a call that has arrived."""
        with self._changed:
            call.id = next(_numbers)
            self._calls.append(call)
            self._bytes += call.size
            while len(self._calls) > self._limit or (self._bytes > self._size and len(self._calls) > 1):
                self._bytes -= self._calls.popleft().size
                self.dropped += 1
            if self._waiting:
                self._changed.notify_all()

    def complete(self, call: Call, response: Response, *, sent: bool = True) -> None:
        """Record the response to a call."""
        with self._changed:
            before = call.size
            call.complete(response, sent=sent)
            if self._calls and call.id >= self._calls[0].id:  # the call is still kept
                self._bytes += call.size - before
            if self._waiting:
                self._changed.notify_all()

    def hold(self, call: Call, why: str) -> None:
        """Record that the answer to a call is held back."""
        with self._changed:
            call.hold(why)
            self._changed.notify_all()

    def calls(self) -> list[Call]:
        """Return the recorded calls, oldest first."""
        with self._changed:
            return list(self._calls)

    def clear(self) -> None:
        """Remove all calls."""
        with self._changed:
            self._calls.clear()
            self._bytes = self.dropped = 0

    def stop_waiting(self) -> None:
        """End every wait for a call."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[Call], bool], timeout: float) -> Call | None:
        """Return the first matching call, once it is answered or held back; None after ``timeout`` seconds."""

        def first() -> Call | None:
            return next((call for call in self._calls if call.is_settled and wanted(call)), None)

        with self._changed:
            self._waiting += 1
            try:
                found = self._changed.wait_for(lambda: first() or self.stopping, timeout)
                return found if isinstance(found, Call) else None
            finally:
                self._waiting -= 1


def _short(text: str) -> str:
    """Return a value unchanged if it is one plain word, otherwise in quotes."""
    return text if text.isprintable() and " " not in text and 0 < len(text) <= 60 else quote(text)
