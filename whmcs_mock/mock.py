"""Arrange, assert and misbehave in one test: what the fixture ``whmcs_mock`` gives."""

from __future__ import annotations

import datetime
import difflib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from whmcs_mock.api import Action, parse_clientid
from whmcs_mock.errors import quoted
from whmcs_mock.faults import Fault
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.journal import Call, is_secret, redactor
from whmcs_mock.model import Client, Credit, Ledger, Profile

if TYPE_CHECKING:
    from whmcs_mock.app import Setup
    from whmcs_mock.server import MockServer

__all__ = ["WhmcsMock"]

_SHOWN = 50  # calls in a report


class WhmcsMock:
    """Steer the server for the length of one test.

    Args:
        server: The running server.
        folder: The folder of the test, where ``load`` looks first.
        ca_path: The certificate authority that a client must trust, when the server speaks TLS by it.
    """

    def __init__(self, server: MockServer, folder: Path | None = None, ca_path: Path | None = None) -> None:
        self.server = server
        self._folder = folder or Path()
        self._ca_path = ca_path
        self._given: list[Call] = []  # what wait_for_call returned

    def __repr__(self) -> str:
        return f"<WhmcsMock {self.url} profile={self.profile} calls={len(self.calls)}>"

    @property
    def _setup(self) -> Setup:
        return self.server.app.setup

    # Where it is, and how to get in.

    @property
    def url(self) -> str:
        """Give the URL of the API."""
        return self.server.url

    @property
    def base_url(self) -> str:
        """Give the URL of the WHMCS itself, without a slash at its end."""
        return self.server.base_url

    @property
    def identifier(self) -> str:
        """Give an identifier that is accepted, that of ``secret``."""
        return self._credentials()[0]

    @property
    def secret(self) -> str:
        """Give the secret of ``identifier``."""
        return self._credentials()[1]

    @property
    def ca_path(self) -> Path:
        """Give the PEM file that a client must trust, with ``whmcs_mock_tls = true``."""
        if self._ca_path is None:
            raise LookupError(
                "there is no ca_path: set whmcs_mock_tls = true, or use the one of your whmcs_mock_ssl_context"
            )
        return self._ca_path

    def _credentials(self) -> tuple[str, str]:
        all_ = self._setup.books.credentials
        if not all_:
            return "any-identifier", "any-secret"
        usable = sorted((one for one in all_ if not one.admin), key=lambda one: one.actions is not None)
        if not usable:
            raise LookupError("the fixtures give no identifier and secret, only an admin's username and password")
        return usable[0].name, usable[0].secret

    # Arrange.

    @property
    def profile(self) -> Profile:
        """Give the profile of this test: ``documented`` or ``live``."""
        return self.server.profile

    @profile.setter
    def profile(self, name: str) -> None:
        self.server.profile = name

    def client(self, id: int) -> Client:
        """Return a client as it is now; ``LookupError`` when there is none with that id."""
        client = self._setup.books.client(id)
        if client is None:
            raise LookupError(f"there is no client {id}; add it with add_client({id})")
        return client

    def credits(self, id: int) -> list[Credit]:
        """Return a client's credit log as it is now, oldest first."""
        return list(self.client(id).credits)

    def balance(self, id: int) -> Decimal:
        """Return the sum of a client's credit log."""
        return self.client(id).balance

    def add_client(self, id: int, credits: Iterable[Credit | Mapping[str, Any]] = ()) -> Client:
        """Add a client.

        Args:
            id: Its id, which no other client has.
            credits: Its log: ``Credit`` values, or mappings of what ``add_credit`` takes.

        Raises:
            ValueError: An id is taken, or a value is not what it should be.
        """
        log = list(credits)
        books = self._setup.books
        taken = [books.next_credit_id - 1]
        taken += [c.id if isinstance(c, Credit) else int(c.get("id", 0)) for c in log]
        free = itertools.count(max(taken) + 1)
        usual = {"date": datetime.date.today(), "description": ""}
        entries = [c if isinstance(c, Credit) else Credit(**{"id": next(free), **usual, **c}) for c in log]
        client = Client(id, entries)
        books.add_ledger(Ledger([client]))
        return client

    def add_credit(
        self,
        clientid: int,
        *,
        amount: Decimal | float | str,
        description: str = "",
        date: datetime.date | str | None = None,
        relid: int = 0,
    ) -> Credit:
        """Append an entry to a client's log under the next free id; see ``Credit`` for the values.

        Args:
            clientid: The client.
            amount: In the account's currency, below zero when credit was used: ``"-12.50"``.
            description: Any text.
            date: Its date; without one, today.
            relid: The id of what it is related to.

        Raises:
            LookupError: There is no such client.
            ValueError: A value is not what it should be.
        """
        self.client(clientid)
        day = date or datetime.date.today()
        return self._setup.books.add_credit(clientid, amount=amount, date=day, description=description, relid=relid)[0]

    def remove_client(self, id: int) -> None:
        """Remove a client and its log; ``LookupError`` when there is none with that id."""
        self.client(id)
        self._setup.books.remove_client(id)

    def load(self, *paths: str | os.PathLike[str]) -> None:
        """Load more fixture files over what is there, for this test.

        Args:
            paths: Files or folders, from the folder of the test, or else from the working directory.

        Raises:
            FixtureError: Something is wrong in them.
            ValueError: An id in them is taken.
        """
        found = [self._folder / path if (self._folder / path).exists() else Path(path) for path in paths]
        more = load_fixtures(*found, first_credit_id=self._setup.books.next_credit_id)
        self._setup.books.add_ledger(more)
        self._setup.learn_secrets(more)

    def action(self, name: str) -> Callable[[Action], Action]:
        """Answer an action with a function of the parameters; see ``MockServer.action``."""
        return self.server.action(name)

    # Misbehave.

    def fail_next(
        self,
        names: str | Sequence[str] = "",
        *,
        times: int = 1,
        seconds: float | None = None,
        status: int | None = None,
        body: str | bytes | None = None,
    ) -> None:
        """Let the next calls fail.

        Args:
            names: A fault of docs/fidelity.md such as ``maintenance``, or several in their order.
            times: How often.
            seconds: How late ``slow`` answers; without it, later than clients usually wait.
            status: The HTTP status, instead of the fault's own or without one.
            body: The body, likewise.

        Raises:
            ValueError: There is no such fault; the message lists them.
        """
        data = body.encode() if isinstance(body, str) else body
        late = {} if seconds is None else {"seconds": seconds}
        each = [names] if isinstance(names, str) else names
        if times < 1 or not each:
            raise ValueError("fail_next takes a fault at least, and times= from 1 up")
        faults = [Fault(name, status=status, body=data, **late) for name in each]
        if seconds is not None and "slow" not in each:
            raise ValueError("seconds= goes with the fault slow")
        self._setup.faults.add(faults * times)

    # Assert.

    @property
    def calls(self) -> list[Call]:
        """List the calls in this test, oldest first."""
        return self._setup.journal.calls()

    def calls_to(self, action: str, **params: object) -> list[Call]:
        """List the calls to an action whose parameters have the given values.

        Args:
            action: The action, in any case.
            params: Parameters, compared as text; ``clientid`` as a number.
        """
        if secret := next(filter(is_secret, params), None):
            raise ValueError(f"{secret} is not kept in the journal, so it cannot be asked for")
        return [call for call in self.calls if _matches(call, action, params)]

    def assert_called(self, action: str, **params: object) -> list[Call]:
        """Return the calls to an action, or fail when there is none and list what came instead."""
        __tracebackhide__ = True
        found = self.calls_to(action, **params)
        if not found:
            self._fail("was not called", action, params)
        return found

    def assert_called_once(self, action: str, **params: object) -> Call:
        """Return the one call to an action, or fail and list what came."""
        __tracebackhide__ = True
        found = self.calls_to(action, **params)
        if len(found) != 1:
            times = f"was called {len(found)} times, not once" if found else "was not called"
            self._fail(times, action, params)
        return found[0]

    def assert_not_called(self, action: str = "", **params: object) -> None:
        """Fail when there was a call to an action; without one, when there was any."""
        __tracebackhide__ = True
        found = self.calls_to(action, **params) if action or params else self.calls
        if found:
            self._fail("was called", action or "The server", params)

    def wait_for_call(self, action: str, *, timeout: float = 5.0, **params: object) -> Call:
        """Return the next call to an action that this has not returned yet, when need be after waiting.

        Args:
            action: The action, in any case.
            timeout: How long to wait, in seconds.
            params: As for ``calls_to``.
        """
        __tracebackhide__ = True

        def new(call: Call) -> bool:
            return _matches(call, action, params) and not any(call is given for given in self._given)

        call = self._setup.journal.wait_for(new, timeout)
        if call is None:
            self._fail(f"was not called within {timeout:g} s", action, params)
        self._given.append(call)
        return call

    def _fail(self, what: str, action: str, params: Mapping[str, object]) -> NoReturn:
        __tracebackhide__ = True
        calls = self.calls
        wanted = " ".join([action, *(f"{key}={value}" for key, value in params.items())])
        message = f"{wanted} {what}.\n{self.report()}"
        if calls and "not" in what and not any(_matches(call, action, params) for call in calls):
            message += "\n" + _nearest(calls, action, params)
        raise AssertionError(message)

    # Explain.

    def report(self) -> str:
        """Tell the calls in this test, each with its answer, why, and advice."""
        calls = self.calls
        hidden = self._setup.journal.dropped + len(calls[:-_SHOWN])
        lines = [f"Profile {self.profile}; served from {', '.join(self._setup.books.sources) or 'a ledger'}."]
        lines += [f"({hidden} earlier calls are not shown)"] if hidden else []
        if not calls:
            lines += [f"No call came. The server listens at {self.url}: is the code under test configured with it?"]
        for number, call in enumerate(calls[-_SHOWN:], hidden + 1):
            lines.append(f"{number}. {call.time:%H:%M:%S.%f}"[:-3] + f" {call} [{call.duration * 1000:.1f} ms]")
            lines += [f"   advice: {advice}" for advice in call.advice]
            lines += [f"   {call.late}"] if call.late else []
        lines += [f"{call.late}: {call}" for call in self._setup.journal.late]
        return "\n".join(lines + self.complaints())

    def complaints(self) -> list[str]:
        """List what a test should not leave behind: faults that no call met, and exceptions in actions."""
        left = self._setup.faults.left()
        complaints = [f"fail_next: no call came for {', '.join(map(str, left))}"] if left else []
        redact = redactor({}, self._setup.secrets)
        return complaints + [redact(f"an exception in the server: {error!r}") for error in self.server.handler_errors]


def _matches(call: Call, action: str, params: Mapping[str, object]) -> bool:
    return (not action or call.action.lower() == action.lower()) and not _differences(call, params)


def _differences(call: Call, params: Mapping[str, object]) -> list[str]:
    different = []
    for key, value in params.items():
        sent = call.params.get(key)
        same = sent == str(value)
        if key == "clientid" and sent is not None and not same:
            same = parse_clientid(sent) is not None and parse_clientid(sent) == parse_clientid(str(value))
        if not same:
            different.append(f"{key} was {'not sent' if sent is None else quoted(sent)}, not {quoted(str(value))}")
    return different


def _nearest(calls: list[Call], action: str, params: Mapping[str, object]) -> str:
    def likeness(call: Call) -> float:
        name = difflib.SequenceMatcher(None, call.action.lower(), action.lower()).ratio()
        return 2 * name - len(_differences(call, params)) / (len(params) + 1)

    call = max(calls, key=likeness)
    different = _differences(call, params)
    if call.action.lower() != action.lower():
        different.insert(0, f"the action was {quoted(call.action)}, not {quoted(action)}")
    return f"Nearest miss: call {calls.index(call) + 1}: {'; '.join(different)}"
