"""Define the values of fixture files: plain, immutable, and without any I/O."""

import datetime
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import cached_property, lru_cache, wraps
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

from whmcs_mock.errors import nearest, quote
from whmcs_mock.redaction import REDACTED, is_secret

__tracebackhide__ = True  # as in handle
Profile = Literal["documented", "live"]
PROFILES: tuple[str, ...] = get_args(Profile)

#: The faults that have a name; docs/fidelity.md shows where each was seen.
FAULTS = (
    "invalid-ip",
    "auth-failed",
    "missing-permission",
    "maintenance",
    "waf",
    "rate-limit",
    "bad-gateway",
    "gateway-timeout",
    "empty-body",
    "json-utf8",
    "php-warning",
    "bom",
    "truncated",
    "slow",
    "reset",
)

_ID = re.compile(r"[1-9][0-9]*")
_RELID = re.compile(r"0|[1-9][0-9]{0,17}")
_AMOUNT = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLIENTID = re.compile(r"0*(0|[1-9][0-9]{0,17})(\.0+)?")
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
_FRAMING = ("content-length", "transfer-encoding")
_WHITE_SPACE = " \t\n\r\f\v"


def parse_profile(name: str) -> Profile:
    """Return the name of a profile; raise ``ValueError`` unless it is one of the two."""
    if name in PROFILES:
        return cast("Profile", name)
    raise ValueError(f'the profile is "documented" or "live", not {quote(str(name))}')


def parse_id(text: str, digits: int = 18) -> int:
    """Return the id of a client or a credit; ``ValueError`` unless it is a positive integer."""
    if len(text) <= digits and _ID.fullmatch(text):
        return int(text)
    raise ValueError(f"an id is a positive integer of at most 18 digits, such as 7, not {quote(text)}")


def parse_relid(text: str) -> int:
    """Return the id that a credit is related to; ``ValueError`` unless it is zero or a positive integer."""
    if _RELID.fullmatch(text):
        return int(text)
    raise ValueError(f"relid is zero or a positive integer, such as 0, not {quote(text)}")


def parse_amount(text: str) -> Decimal:
    """Return an amount in the account's currency; ``ValueError`` unless it is exact to the cent."""
    if _AMOUNT.fullmatch(text):
        return Decimal(text) + 0  # + 0 turns -0.00 into 0.00
    raise ValueError(
        f"an amount is a decimal number with at most two decimal places, such as -10.50, not {quote(text)}"
    )


@lru_cache(maxsize=4096)
def parse_date(text: str) -> datetime.date:
    """Return a ``YYYY-MM-DD`` date; ``ValueError`` unless it has that form and exists."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"a date is written YYYY-MM-DD, such as 2016-01-31, not {quote(text)}")
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"no such date: {quote(text)}; write a day that exists") from None


def parse_status(text: str) -> int:
    """Return an HTTP status; ``ValueError`` unless it is one from 200 to 599."""
    if re.fullmatch("[2-5][0-9][0-9]", text):
        return int(text)
    raise ValueError(f"status is an HTTP status from 200 to 599, not {quote(text)}")


def parse_seconds(value: Any) -> float:
    """Return a delay in seconds; ``ValueError`` unless it is a number from 0 to 999999."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 1e6:
        raise ValueError(f"seconds is a number from 0 to 999999, not {value!r}")
    return number


def parse_clientid(text: str) -> int | None:
    """Return the client's id that a request gives (``1``, `` 1 ``, ``01`` and ``1.00`` are 1), or None if malformed."""
    found = _CLIENTID.fullmatch(text.strip(_WHITE_SPACE))
    return int(found[1]) if found else None


def format_address(address: str) -> str:
    """Return an IP address as WHMCS writes it: IPv6 in its short form, an IPv4-mapped address as IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(ip, "ipv4_mapped", None) or ip)


# The values are named tuples: dataclasses would import inspect, which takes longer than this whole module.

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_R = TypeVar("_R")


def _checked(record: type[_R]) -> type[_R]:
    """Decorate a named tuple so that new records are passed through its method ``_checked``."""
    new: Any = record.__new__

    @wraps(new)
    def create(cls: type, *args: Any, **values: Any) -> Any:
        return new(cls, *args, **values)._checked()  # noqa: SLF001  # the decorator exists to call it

    record.__new__ = create  # type: ignore[method-assign]
    return record


class _Credit(NamedTuple):
    id: int
    date: datetime.date
    description: str
    amount: Decimal
    relid: int


class Credit(_Credit):
    """An entry of a client's credit log.

    Args:
        id: The entry's id, a positive integer, unique in the ledger.
        date: A ``datetime.date``, or its text ``YYYY-MM-DD``.
        description: Any text.
        amount: In the account's currency, at most two decimals; preferably a ``Decimal`` or a text.
        relid: The id of a related item; 0 for none.

    Raises:
        ValueError: A value is invalid.
    """

    __slots__ = ()

    def __new__(  # noqa: PYI034  # Python 3.10 has no Self
        cls, id: int, date: datetime.date | str, description: str, amount: Decimal | float | str, relid: int = 0
    ) -> "Credit":
        """Return a credit; raise ``ValueError`` if a value is invalid."""
        if not isinstance(description, str):
            raise ValueError(f"a description is text, not {description!r}")  # noqa: TRY004  # one error for all values
        return super().__new__(
            cls,
            parse_id(str(id), 30),  # more digits than a file may have, so that there always is a next id
            date if type(date) is datetime.date else parse_date(str(date)),
            description,
            parse_amount(f"{amount:f}" if isinstance(amount, Decimal) else str(amount)),
            parse_relid(str(relid)),
        )

    @classmethod
    def parsed(cls, *values: Any) -> "Credit":
        """Return a credit with values that the ``parse_`` functions returned, without parsing them again."""
        return cls._make(values)


@_checked
class Client(NamedTuple):
    """A client and its credit log, in the order that GetCredits returns."""

    id: int
    credits: Sequence[Credit] = ()

    def _checked(self) -> "Client":
        return self._replace(id=parse_id(str(self.id)), credits=tuple(self.credits))

    @property
    def balance(self) -> Decimal:
        """Return the sum of the credit log."""
        return sum((credit.amount for credit in self.credits), Decimal("0.00"))


@_checked
class Credentials(NamedTuple):
    """A pair that callers may authenticate with, and the actions it allows.

    Args:
        name: An API identifier, or an admin's username.
        secret: The API secret, or the admin's password in plain text, which calls send as MD5 in hex.
        admin: Whether this is an admin's username and password.
        actions: The allowed actions, case-insensitive; None allows all.
    """

    name: str
    secret: str
    admin: bool = False
    actions: frozenset[str] | None = None

    def _checked(self) -> "Credentials":
        allowed = None if self.actions is None else frozenset(action.lower() for action in self.actions)
        return self._replace(actions=allowed)

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r}, admin={self.admin!r}, actions={self.actions!r})"

    @property
    def wire_secret(self) -> str:
        """Return the secret as a request carries it."""
        if self.admin:
            import hashlib  # only admins need it

            return hashlib.md5(self.secret.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
        return self.secret


@_checked
class Access(NamedTuple):
    """The addresses that may call, and the key that allows calls from any other address."""

    addresses: frozenset[str] = frozenset()
    key: str = ""

    def _checked(self) -> "Access":
        return self._replace(addresses=frozenset(map(format_address, self.addresses)))

    def __repr__(self) -> str:
        return f"Access(addresses={self.addresses!r})"


@_checked
class CannedAnswer(NamedTuple):
    """A canned answer to an action, for calls that send all of ``params``.

    Args:
        action: The action, case-insensitive.
        result: The answer; ``{{name}}`` in a text is replaced with the value of that parameter.
        params: The parameters that a call must send.
        status: The HTTP status.
        sequence: Instead of ``result``: answers in turn; the last one repeats.
        place: Where the answer is defined, as ``file:line``.
    """

    action: str
    result: Mapping[str, Any] | None = None
    params: Mapping[str, str] = _NOTHING
    status: int = 200
    sequence: Sequence[Mapping[str, Any]] = ()
    place: str = ""

    def _checked(self) -> "CannedAnswer":
        return self._replace(params=dict(self.params))

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        """Return the answers in order: one, unless ``sequence`` holds more."""
        return self.sequence or (self.result or {},)


@_checked
class FaultRule(NamedTuple):
    """A rule that says which calls fail, how, and how often.

    Args:
        fault: One of ``FAULTS``; empty for a message, or just a status and body.
        message: Answers with a WHMCS error that has this message, in the requested response type.
        status: The HTTP status, instead of the fault's own.
        body: The body, instead of the fault's own.
        headers: Additional headers; they replace those of the same name.
        seconds: The delay of ``slow``; the default is one second more than clients usually wait.
        action: Applies to calls to this action only, case-insensitive.
        clientid: Applies only to calls for this client: its id in ``clientid`` or ``userid``.
        params: Applies to calls that send all of these only.
        times: How many calls fail; None for all.

    Raises:
        ValueError: There is no fault of that name, or a value is invalid.
    """

    fault: str = ""
    message: str = ""
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = _NOTHING
    seconds: float = 31.0
    action: str = ""
    clientid: int | None = None
    params: Mapping[str, str] = _NOTHING
    times: int | None = None

    def _checked(self) -> "FaultRule":
        if self.fault and self.fault not in FAULTS:
            near = nearest(self.fault.lower(), FAULTS)
            hint = f"did you mean {near[0]}? The names are" if near else "write one of"
            raise ValueError(f"there is no fault {quote(self.fault)}; {hint} {', '.join(FAULTS)}")
        if not self.fault and not self.message and self.status is None and self.body is None and not self.headers:
            raise ValueError(
                f"the rule does not say how to fail; write a fault ({', '.join(FAULTS)}), message, status or body"
            )
        if self.fault and self.message:
            raise ValueError(f"message cannot be combined with the fault {self.fault}; write only one of the two")
        if self.message and self.body is not None:
            raise ValueError("message cannot be combined with body; write only one of the two")
        if self.status is not None:
            parse_status(str(self.status))
        parse_seconds(self.seconds)
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is a positive integer, not {self.times}")
        self._check_headers()
        return self._replace(action=self.action.lower(), headers=dict(self.headers), params=dict(self.params))

    def _check_headers(self) -> None:
        for name, value in self.headers.items():
            if not re.fullmatch(_HEADER_NAME, name) or not re.fullmatch(_HEADER_VALUE, value):
                raise ValueError(f"{quote(name)}: {quote(value)} is not an HTTP header")
            if name.lower() in _FRAMING:
                raise ValueError(f"{name} is set by whmcs-mock; use the fault truncated for an incomplete body")

    def __str__(self) -> str:
        what = self.fault or (f"message={quote(self.message)}" if self.message else f"status={self.status or 200}")
        params = {name: REDACTED if is_secret(name) else value for name, value in self.params.items()}
        where = {"action": self.action, "clientid": self.clientid, **params}
        return " ".join([what, *(f"{name}={value}" for name, value in where.items() if value not in ("", None))])

    def matches(self, params: Mapping[str, str], clients: Collection[int | None]) -> bool:
        """Return whether the rule applies to a call with these parameters, which name these clients."""
        if self.clientid is not None and self.clientid not in clients:
            return False
        if self.action and self.action != params.get("action", "").lower():
            return False
        return all(params.get(name) == value for name, value in self.params.items())


class Parameter(NamedTuple):
    """A row of the request parameters on a documentation page."""

    name: str
    type: str = "string"
    required: bool = False
    deprecated: bool = False


class Page(NamedTuple):
    """A documentation page about an action.

    Args:
        action: The action, as the page writes it.
        block: The example response, as printed.
        example: The example response, parsed; nested where the page prints flat bracket keys.
        flat: Whether the page prints flat bracket keys.
        parameters: The request parameters, in the page's order.
        errors: The messages that the page lists, in its order.
        source: The file it was read from.
    """

    action: str
    block: str
    example: Any
    flat: bool
    parameters: Sequence[Parameter]
    errors: Sequence[str]
    source: str


class _Ledger(NamedTuple):
    clients: Sequence[Client] = ()
    credentials: Sequence[Credentials] = ()
    access: Access | None = None
    answers: Sequence[CannedAnswer] = ()
    admins: Collection[int] | None = None
    faults: Sequence[FaultRule] = ()
    pages: Sequence[Page] = ()
    sources: Sequence[str] = ()


@_checked
class Ledger(_Ledger):
    """Everything the fixtures define; a ledger never changes.

    Args:
        clients: The clients, in any order; ids of clients and of credits are unique.
        credentials: What callers may authenticate with; without any, all calls are accepted.
        access: Who may call; None admits every address.
        answers: Canned answers; the first that matches wins.
        admins: The admin ids AddCredit knows; None leaves ``adminid`` unchecked.
        faults: Fault rules; the first that matches applies.
        pages: Documentation pages, one for each action.
        sources: The names of its files.

    Raises:
        ValueError: An id is used twice.
    """

    def _checked(self) -> "Ledger":
        ledger = self._replace(clients=tuple(self.clients))
        client_ids: set[int] = set()
        credit_ids: set[int] = set()
        for client in ledger.clients:
            if client.id in client_ids:
                raise ValueError(f"client {client.id} is already defined; use each id once")
            client_ids.add(client.id)
            for credit in client.credits:
                if credit.id in credit_ids:
                    raise ValueError(f"credit {credit.id} is already defined; use each id once")
                credit_ids.add(credit.id)
        return ledger

    @cached_property
    def by_id(self) -> Mapping[int, Client]:
        """Return the clients by their ids."""
        return {client.id: client for client in self.clients}

    @cached_property
    def next_credit_id(self) -> int:
        """Return the number after the largest id of a credit."""
        return max((credit.id for client in self.clients for credit in client.credits), default=0) + 1

    @property
    def secrets(self) -> frozenset[str]:
        """Return what must never be shown: the credentials' secrets, plain and as sent, and the access key."""
        secrets = {text for one in self.credentials for text in (one.secret, one.wire_secret)}
        return frozenset(secrets | {self.access.key if self.access else ""}) - {""}
