"""Control a world over HTTP: the routes under ``/_mock/``, each a function of the world and the request.

Anything in a fixture file can be posted; docs/server.md has a curl line for each route.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

from whmcs_mock import __version__
from whmcs_mock.errors import FixtureError, quote, shorten
from whmcs_mock.fixtures import dump_clients
from whmcs_mock.ledger import PROFILES, format_address, parse_clientid, parse_profile
from whmcs_mock.redaction import REDACTED, is_secret, redactor
from whmcs_mock.report import matches, nearest_miss, report
from whmcs_mock.request import ENDPOINT, FAVICON, MAX_POST, Request
from whmcs_mock.response import HTML, PLAIN, HTTPError, Response

if TYPE_CHECKING:
    from whmcs_mock.app import App
    from whmcs_mock.journal import Call
    from whmcs_mock.world import World

_MAX_WAIT = 600  # seconds
_JSON = "application/json"

Route: TypeAlias = Callable[["App", "World", Request, str], Response]


def respond(app: App, world: World, request: Request, path: str) -> Response:
    """Return the response to a request of the control API."""
    try:
        return _route(app, world, request, path)
    except HTTPError as error:
        if error.response.status == 403:
            app.on_event(f"refused {_show(world, request.method)} {_show(world, path)}: {error}")
        return refuse(error.response)


def _route(app: App, world: World, request: Request, path: str) -> Response:
    if reason := _is_foreign(world, request):
        raise HTTPError(403, reason)
    if len(request.body) > MAX_POST:
        raise HTTPError(413, f"content too large: a posted file may have at most {MAX_POST} bytes")
    if path == FAVICON:
        return Response(204, [])
    place, _, rest = path.strip("/").removeprefix("_mock").strip("/").partition("/")
    methods = _ROUTES.get((place, bool(rest)))
    if methods is None:
        paths = ", ".join(f"/_mock/{name}{'/ID' if more else ''}" for name, more in _ROUTES)
        raise HTTPError(404, f"there is no {_show(world, path)}; the routes are {paths}")
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        raise HTTPError(405, f"{_show(world, path)} supports only {allowed}", ("Allow", allowed))
    if request.query_string and route not in (_page, _post_fixtures, _get_calls):
        raise HTTPError(400, f"{_show(world, path)} takes no query string; remove everything from the ? on")
    return route(app, world, request, rest)


def refuse(response: Response) -> Response:
    """Return the refusal of an unreadable request as a JSON error."""
    headers = (pair for pair in response.headers if pair[0] != "Content-Type")
    return _json({"error": response.why}, response.status, *headers)


def _json(value: Any, status: int = 200, *headers: tuple[str, str]) -> Response:
    return Response(status, [("Content-Type", _JSON), *headers], f"{json.dumps(value, indent=2)}\n".encode())


def _hide(world: World, text: str) -> str:
    """Return what was sent, without known secrets."""
    return redactor(world.store.secrets)(text)


def _show(world: World, text: str) -> str:
    return quote(_hide(world, text))


def _site(request: Request, host: str) -> str:
    return f"{'https' if request.secure else 'http'}://{host}"


# Pages of other sites must not control the server from a browser.


def _is_foreign(world: World, request: Request) -> str:
    """Return why a request is not allowed, or an empty string."""
    host = request.headers.get("host", "")
    name = re.sub(":[0-9]*$", "", host)
    if host and _is_loopback(request.server) and not (_is_loopback(name) or name.lower() == request.server.lower()):
        return f"the Host {_show(world, host)} is not a name of this machine; call 127.0.0.1 or localhost"
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    own = _site(request, host).lower()
    if site not in ("same-origin", "none") or (origin is not None and origin.lower() != own):
        return "pages of other sites cannot control whmcs-mock; call it from a program, or use its own page"
    return ""


def _is_loopback(host: str) -> bool:
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(format_address(host.strip("[]"))).is_loopback
    except ValueError:
        return False


# The routes.


def _url(world: World, request: Request) -> str:
    path = f"/world/{world.name}" if request.path.lstrip("/").startswith("world/") else ""
    return f"{_site(request, _hide(world, request.headers.get('host') or 'localhost'))}{path}{ENDPOINT}"


def _health(app: App, world: World, request: Request, _rest: str) -> Response:
    return _json(
        {
            "status": "problems" if app.problems else "ok",
            "version": __version__,
            "url": _url(world, request),
            "profile": world.profile,
            **world.counts(),
            "calls": len(world.journal.calls()),
            "fixtures": list(world.store.sources),
            "problems": list(app.problems),
            **app.facts,
        }
    )


def _reset(app: App, world: World, _request: Request, _rest: str) -> Response:
    app.worlds.restart(world.name)
    return Response(204, [])


def _post_fixtures(app: App, world: World, request: Request, _rest: str) -> Response:
    query = _query(request)
    reset = query.get("reset", "false").lower()
    if reset not in ("true", "false", "1", "0", "") or set(query) - {"reset"}:
        raise HTTPError(400, "the only query parameter of fixtures is reset=true")
    try:
        world = app.worlds.add(world, request.body, reset=reset in ("true", "1"))
    except FixtureError as error:
        raise HTTPError(400, "\n".join(shorten(error.problems))) from None
    return _json(world.counts())


def _get_clients(_app: App, world: World, _request: Request, rest: str) -> Response:
    if not rest:
        return _json(dump_clients(world.store.clients()))
    id = parse_clientid(rest)
    client = world.store.client(id) if id is not None else None
    if client is None:
        raise HTTPError(404, f"there is no client {_show(world, rest)}; GET /_mock/clients lists them")
    return _json(dump_clients([client]))


def _get_calls(_app: App, world: World, request: Request, _rest: str) -> Response:
    query = _query(request)
    after = _number(world, query.pop("after", "0"), "after is the id of a call")
    wait = _number(world, query.pop("wait", "0"), "wait is a number of seconds")
    if wait > _MAX_WAIT:
        raise HTTPError(400, f"wait is at most {_MAX_WAIT} seconds")
    action = query.pop("action", "")

    def wanted(call: Call) -> bool:
        return call.id > after and matches(call, action, query)

    if wait and world.journal.wait_for(wanted, wait) is None:
        if world.journal.stopping:
            raise HTTPError(503, "whmcs-mock is stopping, or this world was dropped")
        action = _hide(world, action)
        query = {_hide(world, name): v if is_secret(name) else _hide(world, v) for name, v in query.items()}
        sent = (f"{name}={REDACTED if is_secret(name) else value}" for name, value in query.items())
        what = " ".join([action or "a call", *sent])
        later = [call for call in world.journal.calls() if call.id > after]
        near = nearest_miss(later, action[:100], query) if later else ""
        text = report(world, _url(world, request))
        error = f"{what} did not arrive within {wait:g} s"
        return _json({"error": error, "nearest_miss": near, "report": text}, 408)
    # One call per line: indenting 10,000 calls would take a second.
    lines = ",\n".join(json.dumps(call.as_json()) for call in world.journal.calls() if wanted(call))
    return Response(200, [("Content-Type", _JSON)], f"[{lines}]\n".encode())


def _delete_calls(_app: App, world: World, _request: Request, _rest: str) -> Response:
    world.journal.clear()
    return Response(204, [])


def _get_report(app: App, world: World, request: Request, _rest: str) -> Response:
    text = "\n".join([report(world, _url(world, request)), *app.problems])
    return Response(200, [("Content-Type", PLAIN)], f"{text}\n".encode("utf-8", "backslashreplace"))


def _put_profile(_app: App, world: World, request: Request, _rest: str) -> Response:
    text = request.body.decode("utf-8", "replace").strip().strip('"')
    if text not in PROFILES:
        raise HTTPError(400, f'the profile is "documented" or "live", not {_show(world, text)}')
    world.profile = parse_profile(text)
    return Response(204, [])


def _page(_app: App, _world: World, _request: Request, _rest: str) -> Response:
    page, policy = _read_page()
    headers = [
        ("Content-Type", HTML),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ]
    return Response(200, headers, page)


@cache
def _read_page() -> tuple[bytes, str]:
    """Return the page, and the policy that allows only its own script and style."""
    import base64
    import hashlib

    with open(os.path.join(os.path.dirname(__file__), "page.html"), "rb") as file:
        page = file.read()

    def hashes(tag: bytes) -> str:
        texts = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in texts)

    policy = f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'"
    return page, f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


#: The methods of each route; the flag says whether an id follows.
_ROUTES: Mapping[tuple[str, bool], Mapping[str, Route]] = {
    ("", False): {"GET": _page},
    ("health", False): {"GET": _health},
    ("reset", False): {"POST": _reset},
    ("fixtures", False): {"POST": _post_fixtures},
    ("clients", False): {"GET": _get_clients},
    ("clients", True): {"GET": _get_clients},
    ("calls", False): {"GET": _get_calls, "DELETE": _delete_calls},
    ("report", False): {"GET": _get_report},
    ("profile", False): {"PUT": _put_profile},
}


def _query(request: Request) -> dict[str, str]:
    text = request.query_string.decode("utf-8", "replace")
    return dict(parse_qsl(text, keep_blank_values=True, errors="replace"))


def _number(world: World, text: str, what: str) -> float:
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", text):
        raise HTTPError(400, f"{what}, not {_show(world, text)}")
    return float(text)
