"""Provide the object behind the fixture ``whmcs_mock``: arrange, assert, and make calls fail in one test."""

from __future__ import annotations

import datetime
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from whmcs_mock.api import ActionT
from whmcs_mock.errors import FixtureError, Problem
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.fixtures.loader import missing
from whmcs_mock.journal import Call
from whmcs_mock.ledger import (
    Client,
    Credit,
    FaultRule,
    Ledger,
    Profile,
    parse_id,
    parse_profile,
    parse_seconds,
    parse_status,
)
from whmcs_mock.redaction import REDACTED, is_secret, redactor, secrets_of
from whmcs_mock.report import explain_proxy, format_error, matches, nearest_miss, report
from whmcs_mock.request import ENDPOINT

if TYPE_CHECKING:
    from whmcs_mock.server import MockServer
    from whmcs_mock.world import World

_CREDIT = ("id", "date", "description", "amount", "relid")
__tracebackhide__ = True  # pytest shows an exception of this module at the line of the test


class WhmcsMock:
    """Controls the server for the duration of one test.

    Args:
        server: The running server.
        folder: The folder of the test, which ``load`` searches first.
        ca_path: The certificate authority that clients must trust, if the server uses TLS.
        name: The world to control; by default the one that the server's own URL leads to.
    """

    def __init__(
        self, server: MockServer, folder: Path | None = None, ca_path: Path | None = None, *, name: str | None = None
    ) -> None:
        self.server = server
        self._name = name
        self._begun = time.time()
        self.told: AssertionError | None = None  # the failed assertion that lists the calls
        self._folder = folder or Path()
        self._ca_path = ca_path
        self._given: list[Call] = []  # calls that wait_for_call has returned

    def __repr__(self) -> str:
        return f"<WhmcsMock {self.url} profile={self.profile} calls={len(self.calls)}>"

    @property
    def world(self) -> World:
        """Return the world of this test."""
        return self.server.world if self._name is None else self.server.app.worlds[self._name]

    # URL and credentials.

    @property
    def url(self) -> str:
        """Return the URL of the API in this test's world."""
        return self.base_url + ENDPOINT

    @property
    def base_url(self) -> str:
        """Return the base URL of the WHMCS, without a trailing slash."""
        return self.server.base_url + (f"/world/{self._name}" if self._name else "")

    @property
    def identifier(self) -> str:
        """Return an accepted API identifier; its secret is ``secret``."""
        return self._credentials()[0]

    @property
    def secret(self) -> str:
        """Return the secret of ``identifier``."""
        return self._credentials()[1]

    @property
    def ca_path(self) -> Path:
        """Return the PEM file that clients must trust, with ``whmcs_mock_tls = true``."""
        if self._ca_path is None:
            raise LookupError(
                "there is no ca_path; set whmcs_mock_tls = true, "
                "or trust the authority of your own whmcs_mock_ssl_context"
            )
        return self._ca_path

    def _credentials(self) -> tuple[str, str]:
        all_ = self.world.store.credentials
        if not all_:
            return "any-identifier", "any-secret"
        usable = sorted((one for one in all_ if not one.admin), key=lambda one: one.actions is not None)
        if not usable:
            raise LookupError("the fixtures have no identifier and secret, only an admin's username and password")
        return usable[0].name, usable[0].secret

    # Arrange.

    @property
    def profile(self) -> Profile:
        """Return the profile of this test: ``documented`` or ``live``."""
        return self.world.profile

    @profile.setter
    def profile(self, name: str) -> None:
        self.world.profile = parse_profile(name)

    def client(self, id: int) -> Client:
        """Return a client as it is now; raise ``LookupError`` if there is none with that id."""
        client = self.world.store.client(parse_id(str(id)))
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
            id: A free id.
            credits: Its log: ``Credit`` values, or mappings of what ``add_credit`` takes.

        Raises:
            ValueError: An id is taken, or a value is invalid.
        """
        log, store = [credits] if isinstance(credits, (str, Mapping)) else list(credits), self.world.store
        taken = [c.id if isinstance(c, Credit) else parse_id(str(c["id"])) for c in log if "id" in _keys(c)]
        free = itertools.count(max([store.next_credit_id - 1, *taken]) + 1)
        usual = {"date": datetime.date.today(), "description": ""}
        entries = [c if isinstance(c, Credit) else Credit(**{"id": next(free), **usual, **c}) for c in log]
        client = Client(id, entries)
        store.add_ledger(Ledger([client]))
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
            amount: In the account's currency; negative when credit was used: ``"-12.50"``.
            description: Any text.
            date: Its date; today by default.
            relid: The id of a related item.

        Raises:
            LookupError: There is no such client.
            ValueError: A value is invalid.
        """
        id = self.client(clientid).id
        return self.world.store.add_credit(id, amount=amount, date=date, description=description, relid=relid)[0]

    def remove_client(self, id: int) -> None:
        """Remove a client and its log; raise ``LookupError`` if there is none with that id."""
        self.world.store.remove_client(self.client(id).id)

    def load(self, *paths: str | os.PathLike[str]) -> None:
        """Load more fixture files for this test.

        Args:
            paths: Files or folders, relative to the folder of the test or to the working directory.

        Raises:
            FixtureError: There are problems in them.
            ValueError: An id in them is taken.
        """
        found = find_paths(paths, (self._folder, Path()))
        self.world.add_ledger(load_fixtures(*found, first_credit_id=self.world.store.next_credit_id))

    def action(self, name: str) -> Callable[[ActionT], ActionT]:
        """Answer an action with a function of the parameters; see ``MockServer.action``."""
        return self.world.action(name)

    def reset(self) -> None:
        """Restore the fixtures; drop calls, faults, actions and everything else that was added in this test."""
        self.server.app.worlds.restart(self.world.name)

    def clear_calls(self) -> None:
        """Clear the recorded calls; everything else stays."""
        self.world.journal.clear()

    # Misbehave.

    def fail_next(
        self,
        names: str | Sequence[str] = "",
        *,
        times: int | None = 1,
        action: str | None = None,
        clientid: int | str | None = None,
        params: Mapping[str, object] | None = None,
        seconds: float | None = None,
        status: int | None = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        message: str = "",
    ) -> None:
        """Make the next matching calls fail.

        Args:
            names: A fault of docs/fidelity.md such as ``maintenance``, or several in order.
            times: How many calls fail, or, with several faults, how many rounds; None for all calls.
            action: Only calls of this action fail.
            clientid: Only calls for this client fail.
            params: Only calls that send all of these fail.
            seconds: The delay of ``slow``; by default longer than clients usually wait.
            status: The HTTP status, instead of the fault's own or without a fault.
            body: The body, in the same way.
            headers: Headers to send, replacing those of the same name.
            message: Answer with a WHMCS error that has this message.

        Raises:
            ValueError: There is no such fault, or a value is invalid; the message says what to write.
        """
        rule = {"action": action or "", "clientid": clientid, "params": params, "seconds": seconds, "status": status}
        rules = _rules(names, times, {**rule, "body": body, "headers": headers, "message": message})
        self.world.check_messages(rules)
        self.world.faults.add(rules, times)

    # Assert.

    @property
    def calls(self) -> list[Call]:
        """Return the calls in this test, oldest first."""
        return self.world.journal.calls()

    def calls_to(self, action: str, **params: object) -> list[Call]:
        """Return the calls to an action whose parameters have the given values.

        Args:
            action: The action, case-insensitive.
            params: Parameters, compared as text; ``clientid`` as a number.
        """
        return [call for call in self.calls if matches(call, action, params)]

    def assert_called(self, action: str, **params: object) -> list[Call]:
        """Return the calls to an action; if there are none, fail and list all calls."""
        found = self.calls_to(action, **params)
        if not found:
            self._fail("was not called", action, params)
        return found

    def assert_called_once(self, action: str, **params: object) -> Call:
        """Return the only call to an action; if there is not exactly one, fail and list all calls."""
        found = self.calls_to(action, **params)
        if len(found) != 1:
            times = f"was called {len(found)} times, not once" if found else "was not called"
            self._fail(times, action, params)
        return found[0]

    def assert_not_called(self, action: str = "", **params: object) -> None:
        """Fail if there was a call to an action, or any call if no action is named."""
        found = self.calls_to(action, **params) if action or params else self.calls
        if found:
            self._fail("was called", action or "The server", params)

    def wait_for_call(self, action: str, *, timeout: float = 5.0, **params: object) -> Call:
        """Return the next call to an action, waiting for it if necessary; each call is returned once.

        Args:
            action: The action, case-insensitive.
            timeout: How long to wait, in seconds.
            params: As for ``calls_to``.
        """

        def new(call: Call) -> bool:
            return matches(call, action, params) and not any(call is given for given in self._given)

        if not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout= is a number of seconds, not {timeout!r}")
        call = self.world.journal.wait_for(new, timeout)
        if call is None:
            self._fail(f"was not called within {timeout:g} s", action, params)
        self._given.append(call)
        return call

    def _fail(self, what: str, action: str, params: Mapping[str, object]) -> NoReturn:
        calls = self.calls
        shown = {name: REDACTED if is_secret(name) else value for name, value in params.items()}
        wanted = " ".join([action, *(f"{name}={value}" for name, value in shown.items())])
        message = f"{wanted} {what}.\n{self.report()}"
        if calls and "not" in what and not any(matches(call, action, params) for call in calls):
            message += "\n" + nearest_miss(calls, action, params)
        sent = (secrets_of(call.raw) for call in calls)
        self.told = AssertionError(redactor(self.world.store.secrets, *sent, named=False)(message))
        raise self.told

    # Explain.

    def report(self) -> str:
        """Return a text of the calls in this test, each with its answer, the reason, and advice."""
        silence = [] if self.calls else self._explain_silence()
        return "\n".join([report(self.world, self.url, silence), *self.problems()])

    def _explain_silence(self) -> list[str]:
        """Return possible reasons why there were no calls, as far as they can be detected."""
        reasons = explain_proxy(self.url)
        for when, text in self.server.mismatches:
            if when >= self._begun:
                reasons.append(text if text.endswith("?") else f"{text}: does the code under test use {self.url}?")
        worlds = self.server.app.worlds
        for world in worlds.all():
            calls = [] if world is self.world else world.journal.calls()
            if calls and calls[-1].time.timestamp() >= self._begun:
                path = f"/world/{world.name}" * bool(world.name)
                test = f", the URL of {worlds.ended[world.name]}" if world.name in worlds.ended else ""
                reasons.append(f"Calls went to {path or '/'} instead{test}: read whmcs_mock.url in each test.")
        return reasons

    def problems(self) -> list[str]:
        """Return what a test should not leave behind: unused faults, and exceptions in actions."""
        unused = self.world.faults.unused()
        problems = [f"fail_next: no call matched {', '.join(unused)}"] if unused else []
        problems = list(map(redactor(self.world.store.secrets, named=False), problems))
        return problems + [format_error(error, self.world) for error in self.server.handler_errors]


def _rules(names: str | Sequence[str], times: int | None, given: dict[str, Any]) -> list[FaultRule]:
    """Return the rules for the arguments of ``fail_next``; raise ``ValueError`` if one is invalid."""
    if isinstance(names, int):
        raise ValueError(  # noqa: TRY004  # like all others here
            f"a fault is given by name; for a status, write fail_next(status={names})"
        )
    each, body = [names] if isinstance(names, str) else list(names), given["body"]
    texts = (*each, given["message"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(body, (str, bytes, type(None))):
        raise ValueError("a fault and message= must be text; body= must be text or bytes")
    if not each:
        raise ValueError("the list of faults is empty; write at least one, such as maintenance")
    if times is not None and not (type(times) is int and times >= 1):
        raise ValueError(f"times= is a positive integer or None, not {times!r}")
    if not all(isinstance(given[name], (Mapping, type(None))) for name in ("params", "headers")):
        raise ValueError('params= and headers= are mappings, such as {"Retry-After": "3"}')
    parse: dict[str, Callable[[Any], object]] = {
        "clientid": lambda number: parse_id(str(number)),
        "params": _texts,
        "seconds": parse_seconds,
        "status": lambda status: parse_status(str(status)),
        "body": lambda body: body.encode() if isinstance(body, str) else body,
        "headers": _texts,
    }
    rule: dict[str, Any] = {name: parse.get(name, str)(value) for name, value in given.items() if value is not None}
    rules = [FaultRule(name, **rule) for name in each]
    if given["seconds"] is not None and "slow" not in each:
        raise ValueError("seconds= can only be used with the fault slow")
    return rules


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def find_paths(paths: Iterable[str | os.PathLike[str]], folders: Sequence[Path]) -> list[Path]:
    """Return paths in the first folder that has each; raise ``FixtureError`` with the problems of all if one is missing."""
    found: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        name = os.fspath(path)
        sought = dict.fromkeys(folder / name for folder in folders)
        if there := [place for place in sought if place.exists()] if name else []:
            found.append(there[0])
            continue
        problems.append(Problem(name, 1, 1, missing(name, sought)))
    if problems:
        try:
            load_fixtures(*found)
        except FixtureError as error:
            problems += error.problems
        raise FixtureError(tuple(problems))
    return found


def _keys(credit: Credit | Mapping[str, Any]) -> Iterable[str]:
    """Return the fields of a credit; raise ``ValueError`` if it is not a valid credit."""
    if isinstance(credit, Credit):
        return _CREDIT
    if not isinstance(credit, Mapping):
        raise ValueError(f'a credit is a Credit, or a mapping such as {{"amount": "10.00"}}, not {credit!r}')  # noqa: TRY004  # like all others here
    if unknown := [name for name in credit if name not in _CREDIT]:
        raise ValueError(f"a credit has no {unknown[0]}; its fields are {', '.join(_CREDIT)}")
    if "amount" not in credit:
        raise ValueError('a credit needs an amount, such as {"amount": "10.00"}')
    return credit
