"""Keep a ledger together with the changes made by calls and tests."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from decimal import Decimal

from whmcs_mock.ledger import CannedAnswer, Client, Credit, Ledger

__tracebackhide__ = True  # as in handle


class Store:
    """A ledger together with the changes made by calls and tests.

    The ledger stays as it was loaded, so a reset is just a new ``Store`` and costs the same for ten
    clients and for a hundred thousand. Thread-safe.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.credentials = tuple(ledger.credentials)
        self.access = ledger.access
        self.answers = tuple(ledger.answers)
        self.admins = None if ledger.admins is None else frozenset(ledger.admins)
        self.pages = {page.action.lower(): page for page in ledger.pages}
        self.sources = tuple(ledger.sources)
        self.secrets = set(ledger.secrets)  # changed in place, since calls refer to it
        self.next_credit_id = ledger.next_credit_id
        self._loaded = ledger.by_id
        self._over: dict[int, Client | None] = {}  # clients that were changed, added or removed since
        self._turns: dict[int, int] = {}  # uses of canned answers with a sequence
        self.lock = threading.RLock()  # held while something is added

    def client(self, id: int) -> Client | None:
        """Return a client, or None if there is none with that id."""
        return self._over[id] if id in self._over else self._loaded.get(id)

    def clients(self) -> Iterator[Client]:
        """Return the clients: loaded ones first, then added ones."""
        for id, loaded in self._loaded.items():
            if client := self._over.get(id, loaded):
                yield client
        yield from (client for id, client in list(self._over.items()) if client and id not in self._loaded)

    def add_credit(
        self,
        clientid: int,
        *,
        amount: Decimal | float | str,
        date: datetime.date | str | None = None,
        description: str = "",
        relid: int = 0,
    ) -> tuple[Credit, Client]:
        """Append to a client's log under the next free id; return the entry and the client as it is now.

        Args:
            clientid: The client.
            amount: In the account's currency; see ``Credit`` for the values.
            date: The entry's date; today by default.
            description: Any text.
            relid: The id of a related item.

        Raises:
            KeyError: There is no such client.
            ValueError: A value is invalid.
        """
        with self.lock:
            if (client := self.client(clientid)) is None:
                raise KeyError(clientid)
            credit = Credit(self.next_credit_id, date or datetime.date.today(), description, amount, relid)
            self.next_credit_id += 1
            client = client._replace(credits=(*client.credits, credit))
            self._over[clientid] = client
            return credit, client

    def add_ledger(self, more: Ledger, *, replace: bool = False) -> None:
        """Add another ledger.

        Args:
            more: The other ledger.
            replace: Whether its clients may replace existing ones.

        Raises:
            ValueError: An id of a client or of a credit is already defined; nothing has changed.
        """
        with self.lock:
            for client in more.clients:
                if not replace and self.client(client.id) is not None:
                    raise ValueError(f"client {client.id} is already defined; use another id")
            if taken := self.taken_credits(more):
                raise ValueError(f"credit {min(taken)} is already defined; use another id")
            self._over.update(more.by_id)
            self.next_credit_id = max(self.next_credit_id, more.next_credit_id)
            self.credentials += tuple(more.credentials)
            self.answers = tuple(more.answers) + self.answers
            self.access = more.access or self.access
            if more.admins is not None:
                self.admins = (self.admins or frozenset()) | frozenset(more.admins)
            self.pages = {**self.pages, **{page.action.lower(): page for page in more.pages}}
            self.sources += tuple(more.sources)
            self.secrets |= more.secrets

    def taken_credits(self, more: Ledger) -> set[int]:
        """Return the credit ids of another ledger that are taken by clients which it does not replace."""
        below = {c.id for client in more.clients for c in client.credits if c.id < self.next_credit_id}
        kept = (client for client in self.clients() if client.id not in more.by_id) if below else ()
        return below.intersection(credit.id for client in kept for credit in client.credits)

    def remove_client(self, id: int) -> None:
        """Remove a client; ``KeyError`` if there is none with that id."""
        with self.lock:
            if self.client(id) is None:
                raise KeyError(id)
            self._over[id] = None

    def next_turn(self, answer: CannedAnswer) -> int:
        """Return how often a canned answer was used before, and count this use."""
        with self.lock:
            turn = self._turns.get(id(answer), 0)
            self._turns[id(answer)] = turn + 1
            return turn
