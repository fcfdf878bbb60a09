"""Answer a call as WHMCS does: access rules first, then the action; independent of HTTP and formats.

docs/fidelity.md says what each behaviour is based on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from whmcs_mock.errors import ApiError, nearest, quote
from whmcs_mock.ledger import CannedAnswer, Client, Credentials, format_address, parse_clientid, parse_date
from whmcs_mock.redaction import is_secret
from whmcs_mock.response import Answer
from whmcs_mock.store import Store

#: The parameters of a call by name, query and body merged.
Params: TypeAlias = Mapping[str, str]

#: A user's function that answers an action; it may raise ``ApiError``, or return None to pass the call on.
Action: TypeAlias = Callable[[Params], "Mapping[str, Any] | None"]

#: The same function with its precise type.
ActionT = TypeVar("ActionT", bound=Action)

INVALID_IP = "Invalid IP {address}"
AUTHENTICATION_FAILED = "Authentication Failed"
INVALID_PERMISSIONS = 'Invalid Permissions: API action "{action}" is not allowed'

_AMOUNT = r"[0-9]{1,18}(\.[0-9]{2})?"
_PLACEHOLDER = r"\{\{\{\{|\{\{([^{}]+)\}\}"


def answer(params: Params, address: str, store: Store, actions: Mapping[str, Action] | None = None) -> Answer:
    """Answer a call.

    Args:
        params: The parameters of the request.
        address: The IP address the call comes from.
        store: The clients, credentials and answers.
        actions: The user's functions by lower-case action; they take precedence.
    """
    name = params.get("action", "").lower()
    try:
        _check_address(params, address, store)
        allowed = _check_credentials(params, store)
        if not name:
            raise ApiError("Empty action request", 400, why="the request has no action")
        if allowed is not None and name not in allowed:
            why = f"the credentials allow {', '.join(sorted(allowed)) or 'nothing'}"
            raise ApiError(INVALID_PERMISSIONS.format(action=name), 403, why=why)
        if actions and name in actions and (body := actions[name](params)) is not None:
            return _own(body)
        for source in (_canned, _BUILT_IN.get(name), _documented):
            if source and (found := source(params, store)):
                return found
        raise ApiError("Command Not Found", why=_why_unknown(params, store, actions or {}))
    except ApiError as error:
        return Answer.error(error.message, error.status, error.why)


def _own(body: Mapping[str, Any]) -> Answer:
    if not isinstance(body, Mapping):
        raise TypeError(f"it returned {type(body).__name__}; return a mapping, or None to pass the call on")
    return Answer(_with_result(body), why="a function registered by action()")


def _with_result(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body if "status" in body else {"result": "success", **body}  # first, whatever its value


# Access: who may call.


def _check_address(params: Params, address: str, store: Store) -> None:
    if (access := store.access) is None:
        return
    address = format_address(address)
    if address in access.addresses:
        return
    sent = params.get("accesskey", "")
    if not _same(sent, access.key) or not sent:
        why = "the accesskey is wrong" if sent else "the address is not in access: addresses, and no accesskey was sent"
        raise ApiError(INVALID_IP.format(address=address), 403, why=why)


def _check_credentials(params: Params, store: Store) -> frozenset[str] | None:
    """Return the actions that the sent credentials allow; None for all."""
    if not store.credentials:
        return None
    admin = not (params.get("identifier") and params.get("secret"))
    name, secret = ("username", "password") if admin else ("identifier", "secret")
    if not (params.get(name) and params.get(secret)):
        sent = [key for key in ("identifier", "secret", "username", "password") if params.get(key)]
        pairs = "identifier and secret, or username and password"
        why = f"only {', '.join(sent)} was sent; send {pairs}" if sent else "none were sent"
        raise ApiError("Invalid or missing credentials", 403, why=why)
    found: Credentials | None = None
    for credentials in store.credentials:
        if _opens(credentials, params[name], params[secret], admin=admin):
            found = credentials
    if found is None:
        known = any(_same(credentials.name, params[name]) for credentials in store.credentials)
        why = f"the {secret} does not match that {name}" if known else f"that {name} is unknown"
        raise ApiError(AUTHENTICATION_FAILED, 403, why=f"{why} in {_sources(store)}")
    return found.actions


def _opens(credentials: Credentials, name: str, secret: str, *, admin: bool) -> bool:
    if credentials.admin:
        secret = secret.lower()  # hex digits in either case
    same = _same(credentials.name, name) & _same(credentials.wire_secret, secret)
    return same and (admin or not credentials.admin)


def _same(one: str, other: str) -> bool:
    import hmac  # only fixtures with credentials or access rules need it

    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


# Answers: each function takes the parameters and the store, and may return None to pass the call on.


def _canned(params: Params, store: Store) -> Answer | None:
    name = params["action"].lower()
    for canned in store.answers:
        if canned.action.lower() == name and all(params.get(key) == text for key, text in canned.params.items()):
            turn = min(store.next_turn(canned), len(canned.results) - 1) if len(canned.results) > 1 else 0
            missing: list[str] = []
            body = _fill(canned.results[turn], params, missing)
            notes = [f"{name} is used in the answer but was not sent; it is empty there" for name in missing]
            why = f"a canned answer in {canned.place or _sources(store)}"
            return Answer(_with_result(body), canned.status, why, notes=tuple(notes))
    return None


def _fill(value: Any, params: Params, missing: list[str]) -> Any:
    """Replace ``{{name}}`` in the texts of an answer with the parameters of the call."""
    if isinstance(value, str) and "{{" in value:

        def sent(found: re.Match[str]) -> str:
            if not found[1]:
                return "{{"
            name = found[1].strip()
            missing.extend([name] if name not in params and name not in missing else [])
            return params.get(name, "")

        return re.sub(_PLACEHOLDER, sent, value)
    if isinstance(value, Mapping):
        return {name: _fill(item, params, missing) for name, item in value.items()}
    return [_fill(item, params, missing) for item in value] if isinstance(value, (list, tuple)) else value


def _documented(params: Params, store: Store) -> Answer | None:
    page = store.pages.get(params["action"].lower())
    if page is None:
        return None
    from whmcs_mock import documented

    return documented.answer(page, params, store)


def _get_credits(params: Params, store: Store) -> Answer:
    client = _client(params, store)
    count = len(client.credits)
    return Answer(client=client, why=f"client {client.id} has {count} credit{'s' * (count != 1)}")


def credit_log(client: Client) -> Mapping[str, Any]:
    """Return what GetCredits answers for a client."""
    credits = [
        {
            "id": str(credit.id),
            "date": credit.date.isoformat(),
            "description": credit.description,
            "amount": f"{credit.amount:.2f}",
            "relid": str(credit.relid),
        }
        for credit in client.credits
    ]
    body = {"result": "success", "totalresults": len(credits), "clientid": str(client.id)}
    return {**body, "credits": {"credit": credits}}


def _add_credit(params: Params, store: Store) -> Answer:
    sent = {key: params.get(key, "") for key in ("type", "adminid", "amount", "date")}
    if sent["type"] not in ("", "add", "remove"):
        raise ApiError("Type can only be add or remove", why=f"type is {quote(sent['type'])}")
    client = _client(params, store)
    if store.admins is not None and sent["adminid"] and parse_clientid(sent["adminid"]) not in store.admins:
        raise ApiError("Admin ID Not Found", why=f"no admin {quote(sent['adminid'])} in admins:")
    if not sent["amount"]:
        raise ApiError("No Amount Provided", why="no amount was sent")
    if not re.fullmatch(_AMOUNT, sent["amount"]) or not Decimal(sent["amount"]):
        raise ApiError("Amount must be in decimal format: ### or ###.##", why=f"amount is {quote(sent['amount'])}")
    try:
        date = parse_date(sent["date"]) if sent["date"] else None
    except ValueError as error:
        raise ApiError("Date Format is not Valid", why=str(error)) from None
    amount = Decimal(sent["amount"]) * (-1 if sent["type"] == "remove" else 1)
    try:
        credit, client = store.add_credit(
            client.id, amount=amount, date=date, description=params.get("description", "")
        )
    except KeyError:  # removed since the check
        raise ApiError("Client ID Not Found", why=f"client {client.id} was just removed") from None
    return Answer(
        {"result": "success", "newbalance": client.balance},
        why=f"credit {credit.id} was added to client {client.id}",
    )


_BUILT_IN: dict[str, Callable[[Params, Store], Answer]] = {
    "getcredits": _get_credits,
    "addcredit": _add_credit,
}
_SPELLINGS = ("GetCredits", "AddCredit")


def _client(params: Params, store: Store) -> Client:
    sent = params.get("clientid")
    number = parse_clientid(sent or "")
    client = store.client(number) if number is not None else None
    if client:
        return client
    if sent is None:
        why = "no clientid was sent"
    elif number is None:
        why = f"clientid {quote(sent)} is not an integer"
    else:
        ids = [str(client.id) for client in islice(store.clients(), 11)]
        known = ", ".join(ids[:10]) + (" and more" if ids[10:] else "")
        why = f"no client {number} in {_sources(store)} (clients: {known or 'none'})"
    raise ApiError("Client ID Not Found", why=why)


def _why_unknown(params: Params, store: Store, actions: Iterable[str]) -> str:
    """Return the nearest action or canned answer for a call that nothing answers."""
    name = params["action"].lower()
    same = [canned for canned in store.answers if canned.action.lower() == name]
    if same:
        best = min(same, key=lambda canned: len(_differences(canned, params)))
        where = f" in {best.place}" if best.place else ""
        return f"no answer matches; nearest is the one{where}: {'; '.join(_differences(best, params))}"
    spellings = {text.lower(): text for text in (*actions, *(canned.action for canned in store.answers), *_SPELLINGS)}
    spellings |= {lower: page.action for lower, page in store.pages.items()}
    spellings.pop(name, None)  # a function that returned None
    near = nearest(name, spellings, cutoff=0.75)
    hint = (
        f"did you mean {spellings[near[0]]}?"
        if near
        else "serve WHMCS's page of it, or add an answer in a fixture file or a function"
    )
    return f"no action {quote(params['action'])}; {hint}"


def _differences(canned: CannedAnswer, params: Params) -> list[str]:
    return [
        describe_difference(name, params.get(name), text)
        for name, text in canned.params.items()
        if params.get(name) != text
    ]


def describe_difference(name: str, sent: str | None, expected: str) -> str:
    """Return in words how a parameter differs from the expected one, without the value of a secret."""
    if is_secret(name):
        return f"{name} was not sent" if sent is None else f"{name} had a different value"
    return f"{name} was {'not sent' if sent is None else quote(sent)} (expected {quote(expected)})"


def _sources(store: Store) -> str:
    return ", ".join(store.sources) or "the ledger"
