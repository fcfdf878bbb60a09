"""Answer a call as WHMCS does: the access rules first, then the action. No HTTP and no format in mind.

Where a behaviour comes from stands in docs/fidelity.md.
"""

from __future__ import annotations

import datetime
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, TypeAlias

from whmcs_mock.errors import ApiError, quoted
from whmcs_mock.model import Books, Client, Credentials, address_text, parse_date

__all__ = ["Action", "Answer", "Params", "answer", "parse_clientid"]

#: The parameters of a call by name, query and body merged.
Params: TypeAlias = Mapping[str, str]

#: A function that answers an action of the user's own; it may raise ``ApiError``.
Action: TypeAlias = Callable[[Params], Mapping[str, Any]]

INVALID_IP = "Invalid IP {address}"
AUTHENTICATION_FAILED = "Authentication Failed"
INVALID_PERMISSIONS = 'Invalid Permissions: API action "{action}" is not allowed'

_CLIENTID = re.compile(r"0*(0|[1-9][0-9]{0,17})(\.0+)?")
_AMOUNT = re.compile(r"[0-9]{1,18}(\.[0-9]{2})?")
_WHITE_SPACE = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the answer to a call.

    Args:
        body: What it says, in the order in which it is written; ``result`` comes first.
        status: The HTTP status.
        why: The reason in whmcs-mock's own words, for the journal; never sent.
    """

    body: Mapping[str, Any]
    status: int = 200
    why: str = ""


def answer(params: Params, address: str, books: Books, actions: Mapping[str, Action] | None = None) -> Answer:
    """Answer a call.

    Args:
        params: The parameters of the request.
        address: The IP address the call comes from.
        books: What there is to tell.
        actions: The user's own actions by lower-case name; they come before all others.
    """
    name = params.get("action", "").lower()
    try:
        _check_address(params, address, books)
        allowed = _check_credentials(params, books)
        if not name:
            raise ApiError("Empty action request", 400, why="the request names no action")
        if allowed is not None and name not in allowed:
            raise ApiError(
                INVALID_PERMISSIONS.format(action=name),
                403,
                why=f"the credentials allow {', '.join(sorted(allowed)) or 'nothing'}",
            )
        if actions and name in actions:
            body = actions[name](params)
            if not isinstance(body, Mapping):
                raise TypeError(f"it returned {type(body).__name__}; return a mapping")
            return Answer(_with_result(body), why="a function given to server.action")
        for canned in books.answers:
            if canned.action == name and all(params.get(key) == text for key, text in canned.params.items()):
                why = f"a canned answer in {_sources(books)}"
                return Answer(_with_result(canned.result), canned.status, why)
        if name not in _ACTIONS:
            why = f"no action {quoted(params['action'])}; give it an answer in a fixture file, or a function"
            raise ApiError("Command Not Found", why=why)
        return _ACTIONS[name](params, books)
    except ApiError as error:
        return Answer({"result": "error", "message": error.message}, error.status, error.why)


def _with_result(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"result": "success", **body}  # first, whatever it is


# Access: who may call.


def _check_address(params: Params, address: str, books: Books) -> None:
    if (access := books.access) is None:
        return
    address = address_text(address)
    if address in access.addresses:
        return
    sent = params.get("accesskey", "")
    if not _same(sent, access.key) or not sent:
        why = (
            "the accesskey is another" if sent else "the address is not in access: addresses, and no accesskey was sent"
        )
        raise ApiError(INVALID_IP.format(address=address), 403, why=why)


def _check_credentials(params: Params, books: Books) -> frozenset[str] | None:
    """Return the actions that the sent credentials allow; None for all."""
    if not books.credentials:
        return None
    admin = not (params.get("identifier") and params.get("secret"))
    name, secret = ("username", "password") if admin else ("identifier", "secret")
    if not (params.get(name) and params.get(secret)):
        sent = [key for key in ("identifier", "secret", "username", "password") if params.get(key)]
        why = (
            f"of identifier and secret, or username and password, only {', '.join(sent)} came"
            if sent
            else "none were sent"
        )
        raise ApiError("Invalid or missing credentials", 403, why=why)
    found: Credentials | None = None
    for credentials in books.credentials:
        if _opens(credentials, params[name], params[secret], admin=admin):
            found = credentials
    if found is None:
        known = any(_same(credentials.name, params[name]) for credentials in books.credentials)
        why = f"the {secret} is not the one of that {name}" if known else f"that {name} is not"
        raise ApiError(AUTHENTICATION_FAILED, 403, why=f"{why} in {_sources(books)}")
    return found.actions


def _opens(credentials: Credentials, name: str, secret: str, *, admin: bool) -> bool:
    if credentials.admin:
        secret = secret.lower()  # hex digits in either case
    same = _same(credentials.name, name) & _same(credentials.wire_secret, secret)
    return same and (admin or not credentials.admin)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


# Actions: each takes the parameters and the books.


def _get_credits(params: Params, books: Books) -> Answer:
    client = _client(params, books)
    credits = [
        {
            "id": str(credit.id),
            "date": credit.date,
            "description": credit.description,
            "amount": credit.amount,
            "relid": str(credit.relid),
        }
        for credit in client.credits
    ]
    body = {
        "result": "success",
        "totalresults": len(credits),
        "clientid": str(client.id),
        "credits": {"credit": credits},
    }
    return Answer(body, why=f"client {client.id} has {len(credits)} credit{'s' * (len(credits) != 1)}")


def _add_credit(params: Params, books: Books) -> Answer:
    sent = {key: params.get(key, "") for key in ("type", "adminid", "amount", "date")}
    if sent["type"] not in ("", "add", "remove"):
        raise ApiError("Type can only be add or remove", why=f"type is {quoted(sent['type'])}")
    client = _client(params, books)
    if books.admins is not None and sent["adminid"] and parse_clientid(sent["adminid"]) not in books.admins:
        raise ApiError("Admin ID Not Found", why=f"no admin {quoted(sent['adminid'])} in admins:")
    if not sent["amount"]:
        raise ApiError("No Amount Provided", why="no amount was sent")
    if not _AMOUNT.fullmatch(sent["amount"]) or not Decimal(sent["amount"]):
        raise ApiError("Amount must be in decimal format: ### or ###.##", why=f"amount is {quoted(sent['amount'])}")
    try:
        date = parse_date(sent["date"]) if sent["date"] else datetime.date.today()
    except ValueError as error:
        raise ApiError("Date Format is not Valid", why=str(error)) from None
    amount = Decimal(sent["amount"]) * (-1 if sent["type"] == "remove" else 1)
    try:
        credit, client = books.add_credit(
            client.id, amount=amount, date=date, description=params.get("description", "")
        )
    except KeyError:  # removed between the check and now
        raise ApiError("Client ID Not Found", why=f"client {client.id} was just removed") from None
    return Answer(
        {"result": "success", "newbalance": client.balance},
        why=f"credit {credit.id} was added to client {client.id}",
    )


_ACTIONS: dict[str, Callable[[Params, Books], Answer]] = {
    "getcredits": _get_credits,
    "addcredit": _add_credit,
}


def _client(params: Params, books: Books) -> Client:
    sent = params.get("clientid")
    number = parse_clientid(sent or "")
    client = books.client(number) if number is not None else None
    if client:
        return client
    if sent is None:
        why = "no clientid was sent"
    elif number is None:
        why = f"clientid {quoted(sent)} is no whole number"
    else:
        ids = [str(client.id) for client in islice(books.clients(), 11)]
        known = ", ".join(ids[:10]) + (" and more" if ids[10:] else "")
        why = f"no client {number} in {_sources(books)} (clients: {known or 'none'})"
    raise ApiError("Client ID Not Found", why=why)


def parse_clientid(text: str) -> int | None:
    """Read an id as a request gives it (``1``, `` 1 ``, ``01`` and ``1.00`` are 1); None when it is none."""
    found = _CLIENTID.fullmatch(text.strip(_WHITE_SPACE))
    return int(found[1]) if found else None


def _sources(books: Books) -> str:
    return ", ".join(books.sources) or "the ledger"
