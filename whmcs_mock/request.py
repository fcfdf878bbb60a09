"""Read the parameters of a call from an HTTP request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from whmcs_mock.response import HTTPError

ENDPOINT = "/includes/api.php"
FORM = "application/x-www-form-urlencoded"
MAX_BODY = 1024 * 1024  # bytes
MAX_POST = 16 * 1024 * 1024  # bytes that may be sent to the control API
UNTYPED = "without Content-Type"  # why a body has no parameters; no media type has an upper-case letter
FAVICON = "/favicon.ico"  # requested by browsers; there is none, and it is not recorded as a call

METHODS = "GET, POST, HEAD, OPTIONS"
_MULTIPART = "multipart/form-data"


def is_endpoint(path: str) -> bool:
    """Return whether a path is that of the API, below any base path."""
    return path.endswith(ENDPOINT)


def is_control(path: str) -> bool:
    """Return whether a path within a world is one of the control API, or the page."""
    path = f"/{path.lstrip('/')}" if path else ""
    return path in ("/", "/_mock", FAVICON) or path.startswith("/_mock/")


def is_steering(path: str) -> bool:
    """Return whether a path is one of the control API, in any world."""
    return path.endswith("/_mock") or "/_mock/" in path


class Request:
    """An HTTP request.

    Args:
        method: The method.
        path: The path, decoded.
        query_string: The query string, as it was sent.
        headers: The headers by lower-case name; those sent twice are joined by commas.
        body: The whole body.
        address: The IP address it comes from.
        secure: Whether it came over TLS.
        server: The name or address that the server listens on.
    """

    def __init__(
        self,
        method: str,
        path: str,
        query_string: bytes = b"",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        address: str = "",
        secure: bool = False,  # noqa: FBT001, FBT002  # by position, as one is created for each call
        server: str = "",
    ) -> None:
        self.method, self.path, self.query_string, self.headers = method, path, query_string, headers or {}
        self.body, self.address, self.secure, self.server = body, address, secure, server
        self.query: Mapping[str, str] = {}
        self.params: Mapping[str, str] = {}
        self.unread = ""  # why the body has no parameters

    def read_params(self) -> None:
        """Read the parameters of a call, merged from query and body; the body takes precedence.

        Raises:
            HTTPError: It is not a request to the API.
        """
        if not is_endpoint(self.path):
            raise HTTPError(404, f"Not found: the WHMCS API is at {ENDPOINT}, or any path ending in it")
        if self.method == "OPTIONS":
            raise HTTPError(200, f"The WHMCS API supports {METHODS}", ("Allow", METHODS))
        if self.method not in ("GET", "POST", "HEAD"):
            raise HTTPError(405, f"Method not allowed: the WHMCS API supports only {METHODS}", ("Allow", METHODS))
        self.query = self.params = _form(self.query_string) if self.query_string else {}
        if self.body and self.method == "POST":
            self.params = {**self.query, **self._read_body()}
        elif self.body:
            self.unread = f"that of a {self.method} request"

    def _read_body(self) -> Mapping[str, str]:
        content_type = self.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        sent: Mapping[str, str] = {}
        if media_type == FORM:
            sent = _form(self.body)
        elif media_type == _MULTIPART:
            sent = _multipart(self.body, content_type)
        encoding = self.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            self.unread = f"encoded ({encoding})"
        elif self.body.lstrip()[:1] in (b"{", b"["):
            self.unread = "JSON"
        elif media_type not in (FORM, _MULTIPART):
            self.unread = media_type or UNTYPED
        elif not sent:
            self.unread = f"not valid {media_type}"
        return sent


def split_target(target: bytes) -> tuple[str, bytes]:
    """Return the decoded path and the query string of a request's target, which may be a whole URL."""
    if target[:1] != b"/" and b"://" in target[:9]:
        authority = re.search(rb"://[^/?#]*", target)
        target = target[authority.end() :] if authority else target
    path, _, query = target.partition(b"#")[0].partition(b"?")
    path = re.sub(b"%(?=2[fF])", b"%25", path or b"/")  # an encoded slash separates nothing
    return unquote_to_bytes(path).decode("utf-8", "replace"), query


def _form(data: bytes) -> dict[str, str]:
    """Read a urlencoded form; the last of repeated parameters counts, as in PHP."""
    text = data.decode("utf-8", "replace")
    if "%" in text or "+" in text:
        return dict(parse_qsl(text, keep_blank_values=True, errors="replace"))
    return {name: value for name, _, value in (pair.partition("=") for pair in text.split("&") if pair)}


def _multipart(data: bytes, content_type: str) -> dict[str, str]:
    from werkzeug.formparser import FormDataParser
    from werkzeug.http import parse_options_header

    options = parse_options_header(content_type)[1]
    parser: Any = FormDataParser(stream_factory=lambda *_args, **_kwargs: BytesIO())
    form = parser.parse(BytesIO(data), _MULTIPART, len(data), options)[1]
    return {name: value for name, value in form.items(multi=True) if name}
