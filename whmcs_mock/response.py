"""Define HTTP responses and the answers they carry."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from threading import Event
from types import MappingProxyType
from typing import Any, NamedTuple

from whmcs_mock.ledger import Client, Page

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def status_line(status: int) -> str:
    """Return a status with its reason, such as ``404 Not Found``."""
    return _REASONS.get(status) or f"{status} Unknown"


class Answer(NamedTuple):
    """The API's answer to a call, independent of its format.

    Args:
        body: Its content, in the order in which it is written.
        status: The HTTP status.
        why: The reason in whmcs-mock's own words, for the journal; never sent to the client.
        client: Instead of a body: the client whose credit log is the answer.
        page: The documentation page that the body comes from.
        notes: Advice about the answer, for the journal.
    """

    body: Any = MappingProxyType({})
    status: int = 200
    why: str = ""
    client: Client | None = None
    page: Page | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def error(cls, message: str, status: int = 200, why: str = "") -> "Answer":
        """Return WHMCS's error answer."""
        return cls({"result": "error", "message": message}, status, why)

    def text(self, name: str) -> str:
        """Return a top-level text of the body, or an empty string."""
        if self.client or not isinstance(self.body, Mapping):
            return ""
        return str(self.body.get(name, ""))


_NO_ANSWER = Answer()


class Response:
    """An HTTP response.

    Args:
        status: The status; 0 for a connection that is reset instead of answered.
        headers: Names and values; Content-Length and Connection are added when it is sent.
        body: The body.
        answer: The API's answer that the body was written from.
        length: The Content-Length, if it is not the length of the body.
        flat: Whether its JSON has flat bracket keys.
        type: The response type that the answer is written in.
        close: Whether the connection is closed after it.
        why: The reason in whmcs-mock's own words, for the journal.

    Attributes:
        delay: How long to wait before it is sent, in seconds.
        released: Ends that wait early when it is set.
        finish: Called with True just before it is sent, or with False if the client has disconnected.
    """

    def __init__(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        answer: Answer = _NO_ANSWER,
        *,
        length: int | None = None,
        flat: bool = False,
        type: str = "",
        close: bool = False,
        why: str = "",
    ) -> None:
        self.status, self.headers, self.body, self.answer = status, headers, body, answer
        self.length, self.flat, self.type, self.close, self.why = length, flat, type, close, why
        self.delay = 0.0
        self.released: Event | None = None
        self.finish: Callable[[bool], None] | None = None

    @classmethod
    def plain(cls, status: int, text: str, *headers: tuple[str, str]) -> "Response":
        """Return one line of plain text."""
        return cls(status, [("Content-Type", PLAIN), *headers], f"{text}\n".encode(), why=text)

    @property
    def has_body(self) -> bool:
        """Return whether a response with this status may have a body."""
        return self.status not in (204, 304)

    @property
    def kind(self) -> str:
        """Return what the body is: ``json``, ``xml``, ``nvp``, ``html``, ``text`` or ``empty``; nothing for a reset."""
        if not self.status:
            return ""
        if not self.body or not self.has_body:
            return "empty"
        if self.type:
            return self.type
        content_type = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return next((kind for kind in ("json", "xml", "html") if kind in content_type), "text")

    def replace_headers(self, headers: Mapping[str, str]) -> None:
        """Set headers, replacing those of the same name."""
        names = {name.lower() for name in headers}
        self.headers = [pair for pair in self.headers if pair[0].lower() not in names] + list(headers.items())


class HTTPError(Exception):
    """Answers a request with an HTTP error and one line of plain text."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.response = Response.plain(status, text, *headers)
