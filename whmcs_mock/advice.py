"""Point out where a real WHMCS would treat a request differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whmcs_mock.errors import quote
from whmcs_mock.formats import CONTENT_TYPES
from whmcs_mock.ledger import parse_clientid
from whmcs_mock.request import FORM, UNTYPED, is_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whmcs_mock.journal import Call
    from whmcs_mock.ledger import Page

_CREDENTIALS = ("identifier", "secret", "username", "password")


def advise(call: Call, path: str, page: Page | None) -> Iterator[str]:
    """Yield the advice for a call, one sentence each; secrets are not redacted."""
    if not is_endpoint(path):
        return
    params = call.raw
    if call.query_secrets:
        names = [quote(name)[1:-1] for name in call.query_secrets[:3]]
        were, them = ("was", "it") if len(names) == 1 else ("were", "them")
        yield f"{' and '.join(names)} {were} sent in the query string, which servers log; send {them} in the body"
    if call.unread == UNTYPED:
        yield f"the body has no Content-Type, so WHMCS does not read it; send a form ({FORM})"
    elif call.unread:
        yield f"the body is {quote(call.unread)[1:-1]}, which WHMCS does not read; send a form ({FORM}) with POST"
    if not params.get("responsetype"):
        yield "no responsetype was sent, for which a real WHMCS may answer NVP; send responsetype=json"
    elif params["responsetype"].lower() not in CONTENT_TYPES:
        yield "the responsetype is unknown to WHMCS; send json, xml or nvp"
    yield from _about_credentials([name for name in _CREDENTIALS if params.get(name)])
    if "clientid" in params and parse_clientid(params["clientid"]) is None:
        yield "clientid is not an integer; send one such as 1"
    if params.get("action", "").lower() == "addcredit" and page is None and not params.get("description"):
        yield "AddCredit requires description"
    if page is not None:
        from whmcs_mock.documented import advice

        yield from advice(page, params)


def _about_credentials(given: list[str]) -> Iterator[str]:
    if not given:
        yield "no credentials were sent, which a real WHMCS refuses; send identifier and secret"
    elif len(given) == 1:
        yield f"only {given[0]} was sent as credentials, which a real WHMCS refuses; send both parts of the pair"
