"""Hold clients, credits and what else a fixture file says as plain values, without any I/O."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import threading
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, cast

from whmcs_mock.errors import quoted

__all__ = [
    "Access",
    "Books",
    "CannedAnswer",
    "Client",
    "Credentials",
    "Credit",
    "Ledger",
    "Profile",
    "address_text",
    "checked_profile",
    "parse_amount",
    "parse_date",
    "parse_id",
    "parse_relid",
]

Profile = Literal["documented", "live"]

_ID = re.compile(r"[1-9][0-9]*")
_RELID = re.compile(r"0|[1-9][0-9]{0,17}")
_AMOUNT = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def checked_profile(name: str) -> Profile:
    """Return the name of a profile, or raise ``ValueError`` naming the two there are."""
    if name in ("documented", "live"):
        return cast("Profile", name)
    raise ValueError(f'the profile is "documented" or "live", not {quoted(str(name))}')


def parse_id(text: str, digits: int = 18) -> int:
    """Read the id of a client or a credit; ``ValueError`` unless it is a whole number from 1 up."""
    if len(text) <= digits and _ID.fullmatch(text):
        return int(text)
    raise ValueError(f"an id is a whole number from 1 up of at most 18 digits, such as 7, not {quoted(text)}")


def parse_relid(text: str) -> int:
    """Read the id that a credit is related to; ``ValueError`` unless it is a whole number from 0 up."""
    if _RELID.fullmatch(text):
        return int(text)
    raise ValueError(f"relid is a whole number from 0 up, such as 0, not {quoted(text)}")


def parse_amount(text: str) -> Decimal:
    """Read an amount in the account's currency; ``ValueError`` unless it is exact to the cent."""
    if _AMOUNT.fullmatch(text):
        return Decimal(text) + 0  # + 0 makes 0.00 of -0.00
    raise ValueError(
        f"an amount is a decimal number with at most two decimal places, such as -10.50, not {quoted(text)}"
    )


def parse_date(text: str) -> datetime.date:
    """Read a ``YYYY-MM-DD`` date; ``ValueError`` unless it has that form and stands in the calendar."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"a date is written YYYY-MM-DD, such as 2016-01-31, not {quoted(text)}")
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not in the calendar; write a day that exists") from None


def address_text(address: str) -> str:
    """Write an IP address as WHMCS tells it: IPv6 in its short form, an IPv4-mapped one as IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(ip, "ipv4_mapped", None) or ip)


@dataclass(frozen=True, slots=True, init=False)
class Credit:
    """Hold one entry of a client's credit log.

    Args:
        id: The entry's id, from 1 up, unique in the ledger.
        date: A ``datetime.date``, or its text ``YYYY-MM-DD``.
        description: Any text.
        amount: In the account's currency, exact to the cent: best a ``Decimal`` or a text.
        relid: The id of what the entry is related to; 0 for nothing.

    Raises:
        ValueError: A value is not what it should be.
    """

    id: int
    date: datetime.date
    description: str
    amount: Decimal
    relid: int

    def __init__(
        self, id: int, date: datetime.date | str, description: str, amount: Decimal | float | str, relid: int = 0
    ) -> None:
        if not isinstance(description, str):
            raise ValueError(f"a description is text, not {description!r}")  # noqa: TRY004  # one error for all values
        set_ = object.__setattr__
        set_(self, "id", parse_id(str(id), 30))  # more than a file may give: one can always be numbered on
        set_(self, "date", date if type(date) is datetime.date else parse_date(str(date)))
        set_(self, "description", description)
        set_(self, "amount", parse_amount(f"{amount:f}" if isinstance(amount, Decimal) else str(amount)))
        set_(self, "relid", parse_relid(str(relid)))


@dataclass(frozen=True, slots=True)
class Client:
    """Hold a client and its credit log, in the order in which GetCredits tells it."""

    id: int
    credits: Sequence[Credit] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", parse_id(str(self.id)))
        object.__setattr__(self, "credits", tuple(self.credits))

    @property
    def balance(self) -> Decimal:
        """Give the sum of the credit log."""
        return sum((credit.amount for credit in self.credits), Decimal("0.00"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Hold what a caller may authenticate with, and which actions that allows.

    Args:
        name: An API identifier, or an admin's username.
        secret: The API secret, or the admin's password in plain; on the wire that is its md5 in hex.
        admin: Whether this is an admin's username and password.
        actions: The allowed actions, in any case; None allows all.
    """

    name: str
    secret: str = field(repr=False)
    admin: bool = False
    actions: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.actions is not None:
            object.__setattr__(self, "actions", frozenset(action.lower() for action in self.actions))

    @property
    def wire_secret(self) -> str:
        """Give the secret as a request carries it."""
        if self.admin:
            return hashlib.md5(self.secret.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
        return self.secret


@dataclass(frozen=True, slots=True)
class Access:
    """Hold the addresses that may call, and the key that lets any other one pass."""

    addresses: frozenset[str] = frozenset()
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", frozenset(map(address_text, self.addresses)))


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """Hold the answer to an action, given when each of ``params`` is equal in the request."""

    action: str
    result: Mapping[str, Any]
    params: Mapping[str, str] = field(default_factory=dict)
    status: int = 200

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", self.action.lower())


@dataclass(frozen=True)
class Ledger:
    """Hold everything the fixtures say; a loaded ledger never changes.

    Args:
        clients: The clients, in any order; ids of clients and of credits are unique.
        credentials: What callers may authenticate with; without any, everything is accepted.
        access: Who may call; None lets every address.
        answers: Canned answers, the first that matches wins.
        admins: The admin ids AddCredit knows; None leaves ``adminid`` unchecked.
        sources: The names of the files it came from.

    Raises:
        ValueError: An id is given twice.
    """

    clients: Sequence[Client] = ()
    credentials: Sequence[Credentials] = ()
    access: Access | None = None
    answers: Sequence[CannedAnswer] = ()
    admins: Collection[int] | None = None
    sources: Sequence[str] = ()
    next_credit_id: int = field(init=False, repr=False, compare=False)
    by_id: Mapping[int, Client] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        clients = tuple(self.clients)
        by_id: dict[int, Client] = {}
        credit_ids: set[int] = set()
        for client in clients:
            if by_id.setdefault(client.id, client) is not client:
                raise ValueError(f"client {client.id} is given twice")
            for credit in client.credits:
                if credit.id in credit_ids:
                    raise ValueError(f"credit {credit.id} is given twice")
                credit_ids.add(credit.id)
        set_ = object.__setattr__
        set_(self, "clients", clients)
        set_(self, "by_id", by_id)
        set_(self, "next_credit_id", max(credit_ids, default=0) + 1)


class Books:
    """Keep the books of a running server: the ledger, and what calls and tests change over it.

    The ledger stays as it was loaded, so a reset is a new ``Books`` and costs the same for ten
    clients and for a hundred thousand. Safe to use from many threads.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.credentials = tuple(ledger.credentials)
        self.access = ledger.access
        self.answers = tuple(ledger.answers)
        self.admins = None if ledger.admins is None else frozenset(ledger.admins)
        self.sources = tuple(ledger.sources)
        self.next_credit_id = ledger.next_credit_id
        self._clients: ChainMap[int, Client | None] = ChainMap({}, ledger.by_id)  # type: ignore[arg-type]  # read only
        self._lock = threading.Lock()

    def client(self, id: int) -> Client | None:
        """Return a client, or None when there is none with that id."""
        return self._clients.get(id)

    def clients(self) -> Iterator[Client]:
        """Go through the clients: the loaded ones first, then the added ones."""
        over, loaded = self._clients.maps
        for id, client in loaded.items():
            if client := over.get(id, client):
                yield client
        yield from (client for id, client in list(over.items()) if client and id not in loaded)

    def add_credit(
        self,
        clientid: int,
        *,
        amount: Decimal | float | str,
        date: datetime.date | str,
        description: str,
        relid: int = 0,
    ) -> tuple[Credit, Client]:
        """Append to a client's log under the next free id; return the entry and the client as it is now.

        Raises:
            KeyError: There is no such client.
        """
        with self._lock:
            if (client := self._clients.get(clientid)) is None:
                raise KeyError(clientid)
            credit = Credit(self.next_credit_id, date, description, amount, relid)
            self.next_credit_id += 1
            client = replace(client, credits=(*client.credits, credit))
            self._clients[clientid] = client
            return credit, client

    def add_ledger(self, more: Ledger) -> None:
        """Lay another ledger over this one.

        Raises:
            ValueError: An id of a client or of a credit is taken already.
        """
        with self._lock:
            taken = {credit.id for client in self.clients() for credit in client.credits}
            for client in more.by_id.values():
                if self._clients.get(client.id) is not None:
                    raise ValueError(f"there is a client {client.id} already; give it another id")
                for credit in client.credits:
                    if credit.id in taken:
                        raise ValueError(f"there is a credit {credit.id} already; give it another id")
            self._clients.update(more.by_id)
            self.next_credit_id = max(self.next_credit_id, more.next_credit_id)
            self.credentials += tuple(more.credentials)
            self.answers = tuple(more.answers) + self.answers
            self.access = more.access or self.access
            if more.admins is not None:
                self.admins = (self.admins or frozenset()) | frozenset(more.admins)
            self.sources += tuple(more.sources)

    def remove_client(self, id: int) -> None:
        """Take a client out; ``KeyError`` when there is none with that id."""
        with self._lock:
            if self._clients.get(id) is None:
                raise KeyError(id)
            self._clients[id] = None
