"""Check whether a running server is healthy."""

from __future__ import annotations

import http.client
import json
import re
import time
from urllib.parse import quote, urlsplit

_TIMEOUT = 3.0  # seconds for one answer
_PAUSE = 0.1
_LONGEST = 16 * 1024 * 1024  # bytes
_BELOW = re.compile(r"(/includes/api\.php|/_mock(/.*)?|/)$")


def ask(url: str, wait: float = 0.0) -> str:
    """Return what is wrong with the server at a URL, or an empty string.

    Args:
        url: The URL of the server, of one of its worlds, of its API or its page; without a scheme, http is used.
        wait: How long to wait until it is healthy, in seconds.

    Raises:
        ValueError: The URL is invalid.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.hostname or parts.scheme not in ("http", "https") or (parts.port or 1) < 1:
        raise ValueError("it has no host, or its scheme is not http or https")
    try:
        connection = _connect(parts.scheme, parts.hostname, parts.port)
    except http.client.InvalidURL as error:
        raise ValueError("its host contains a space") from error
    until = time.monotonic() + wait
    while True:
        problem = _ask(url, connection, _BELOW.sub("", parts.path))
        if not problem or time.monotonic() >= until:
            return problem
        time.sleep(_PAUSE)


def _connect(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    import ssl

    insecure = ssl._create_unverified_context()  # noqa: SLF001, S323  # the certificate does not matter for health
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=insecure)


def _ask(url: str, connection: http.client.HTTPConnection, path: str) -> str:
    try:
        connection.request("GET", f"{quote(path, safe='/%')}/_mock/health", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(_LONGEST)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return f"{url} does not answer: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    finally:
        connection.close()
    try:
        problems = json.loads(body)["problems"]
        return "\n".join(map(str, problems))
    except (ValueError, TypeError, KeyError):
        return (
            f"{url} answers with status {answer.status}, but does not seem to be whmcs-mock; "
            "is it served with --no-control, or over https?"
        )
