"""Keep separate worlds: each has its own data, faults and journal, based on the same fixtures."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable

from whmcs_mock.api import Action, ActionT
from whmcs_mock.faults import Faults
from whmcs_mock.fixtures import parse_fixtures
from whmcs_mock.journal import Call, Journal
from whmcs_mock.ledger import FaultRule, Ledger, Profile, parse_profile
from whmcs_mock.request import is_control, is_steering
from whmcs_mock.response import HTTPError
from whmcs_mock.store import Store

__tracebackhide__ = True  # as in handle
_PATH = r"(?s)/+world/(?!includes/api\.php$)([^/]*)(/.*)?"
_NAME = r"[A-Za-z0-9._-]{1,64}"
_LATE = 100  # late calls of a test that are kept


class World:
    """Everything that a reset replaces.

    Args:
        ledger: The fixtures.
        profile: ``documented`` or ``live``.
        name: Its name in paths; empty for the one served without a name.
        before: The world whose functions and journal it takes over.
    """

    def __init__(self, ledger: Ledger, profile: Profile, name: str = "", before: World | None = None) -> None:
        self.ledger, self.profile, self.name = ledger, profile, name
        self.first_profile: Profile = profile  # restored by a reset
        self.store = Store(ledger)
        self.faults = Faults(ledger.faults)
        self.actions: dict[str, Action] = before.actions if before else {}
        self.journal: Journal = before.journal if before else Journal()

    def action(self, name: str) -> Callable[[ActionT], ActionT]:
        """Answer an action with a function of the parameters; raise ``TypeError`` without a name."""
        if not isinstance(name, str) or not name:
            raise TypeError('action takes the name of an action: write @action("GetInvoice"), not @action')

        def register(function: ActionT) -> ActionT:
            if not callable(function):
                raise TypeError(f"an action is answered by a function of its parameters, not by {function!r}")
            self.actions[name.lower()] = function
            return function

        return register

    def counts(self) -> dict[str, int]:
        """Return the number of clients, credits and actions."""
        clients = list(self.store.clients())
        names = {*self.actions, *(answer.action.lower() for answer in self.store.answers), *self.store.pages}
        return {
            "clients": len(clients),
            "credits": sum(len(client.credits) for client in clients),
            "actions": len(names | {"getcredits", "addcredit"}),
        }

    def add_ledger(self, more: Ledger, *, replace: bool = False) -> None:
        """Add more fixtures; see ``Store.add_ledger``."""
        self.store.add_ledger(more, replace=replace)
        self.faults.add_standing(tuple(more.faults))

    def check_messages(self, rules: list[FaultRule]) -> None:
        """Raise ``ValueError`` for a fault whose message the action's documentation page does not list."""
        for rule in rules:
            if rule.message and (page := self.store.pages.get(rule.action)):
                from whmcs_mock.documented import unlisted

                if wrong := unlisted(page, rule.message):
                    raise ValueError(wrong)


class Worlds:
    """Keep the worlds of a server by their names; safe to use from many threads.

    Args:
        ledger: The fixtures of all worlds.
        profile: The profile of new worlds.
        limit: How many named worlds are kept, the newest.
    """

    def __init__(self, ledger: Ledger, profile: str = "documented", *, limit: int = 1000) -> None:
        if not isinstance(ledger, Ledger):
            raise TypeError(f"expected a Ledger, such as load_fixtures(...) returns, got {ledger!r}")
        self.ledger = ledger
        self.profile: Profile = parse_profile(profile)
        self.current = ""  # the name of the world that paths without one lead to
        self.ended: dict[str, str] = {}  # worlds whose test has ended, with that test
        self.late: dict[str, list[Call]] = {}  # by test: the first calls to such a world by its path
        self.unlisted: Counter[str] = Counter()  # by test: how many more there were
        self._limit = limit
        self._lock, self._posting = threading.RLock(), threading.Lock()
        self._worlds: OrderedDict[str, World] = OrderedDict({"": World(ledger, self.profile)})

    def find(self, path: str) -> tuple[World, str]:
        """Return the world that a path leads to, and the path within it; a new world on first use.

        Raises:
            HTTPError: The name of the world in the path is invalid.
        """
        found = re.fullmatch(_PATH, path) if path.lstrip("/").startswith("world/") else None
        if found is None:
            return self[self.current], path
        if not re.fullmatch(_NAME, found[1]):
            raise HTTPError(404, "Not found: the name of a world is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        rest = found[2] or "/"
        if is_steering(rest) and not is_control(rest):
            raise HTTPError(404, f"Not found: the control API of the world {found[1]} is at /world/{found[1]}/_mock/")
        return self[found[1]], rest

    def __getitem__(self, name: str) -> World:
        with self._lock:
            world = self._worlds.get(name)
            if world is None:
                return self._keep(World(self.ledger, self.profile, name))
            self._worlds.move_to_end(name)
            return world

    def _keep(self, world: World) -> World:
        """Store a world under its name, and drop the oldest one above the limit; the lock is held."""
        before = self._worlds.pop(world.name, None)
        self._worlds[world.name] = world
        if before is not None:
            before.faults.released.set()
        elif len(self._worlds) - 1 > self._limit:
            oldest = next((name for name in self._worlds if name not in ("", self.current, world.name)), None)
            if oldest is not None:
                self._worlds[oldest].journal.stop_waiting()
                self._worlds.pop(oldest).faults.released.set()
        return world

    def all(self) -> list[World]:
        """Return the worlds that are kept, oldest first."""
        with self._lock:
            return list(self._worlds.values())

    def reset(self, name: str, ledger: Ledger | None = None, profile: str | None = None) -> World:
        """Restart a world; calls that are still being answered keep the old one."""
        world = World(ledger or self.ledger, parse_profile(profile or self.profile), name)
        with self._lock:
            self._keep_journal(world)
            return self._keep(world)

    def restart(self, name: str) -> World:
        """Restart a world from its fixtures."""
        with self._lock:
            return self.reset(name, self[name].ledger, self[name].first_profile)

    def _keep_journal(self, world: World) -> None:
        """Pass the cleared journal on to a new world, since something may be waiting for a call in it."""
        if before := self._worlds.get(world.name):
            world.journal = before.journal
            world.journal.clear()

    def begin(self, name: str, ledger: Ledger, profile: str) -> None:
        """Start the world of a test; from now on, paths without a world lead to it."""
        self.reset(name, ledger, profile)
        self.current = name

    def end(self, name: str, test: str) -> None:
        """End the world of a test; later calls to it are kept in ``late`` with the test's name."""
        self.ended[name] = test
        self.current = ""
        self[name].faults.released.set()

    def record_late(self, name: str, call: Call) -> None:
        """Keep a call to a world by its path, if the test of that world has ended."""
        if test := self.ended.get(name):
            with self._lock:
                calls = self.late.setdefault(test, [])
                if len(calls) < _LATE:
                    calls.append(call)
                else:
                    self.unlisted[test] += 1

    def add(self, world: World, data: bytes, *, reset: bool = False) -> World:
        """Add a posted fixture file to a world, or to a new one in its place.

        Existing clients are replaced, so that clients that were read can be posted again.

        Raises:
            FixtureError: There are problems in the file; nothing has changed.
        """
        with self._posting:
            world = self[world.name]  # with the fixtures of the last reload
            target = World(world.ledger, world.first_profile, world.name) if reset else world
            with target.store.lock:  # so that no call takes the ids of new credits meanwhile
                self._lay(target, data)
            if reset:
                with self._lock:
                    self._keep_journal(target)
                    self._keep(target)
            return target

    @staticmethod
    def _lay(target: World, data: bytes) -> None:
        first = target.store.next_credit_id
        more = parse_fixtures(data, first_credit_id=first, pages=target.store.pages)
        if taken := target.store.taken_credits(more):
            parse_fixtures(data, first_credit_id=first, taken=lambda kind, number: kind == "credit" and number in taken)
        target.add_ledger(more, replace=True)

    def reload(self, ledger: Ledger) -> None:
        """Restart all worlds with new fixtures, and keep their calls."""
        with self._posting, self._lock:
            self.ledger = ledger
            for name, before in list(self._worlds.items()):
                self._keep(World(ledger, before.first_profile, name, before))

    def release(self) -> None:
        """Release every answer that is held back, and end every wait for a call."""
        for world in self.all():
            world.faults.released.set()
            world.journal.stop_waiting()
