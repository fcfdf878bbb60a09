"""Load YAML fixture files as a ledger, or tell everything that is wrong in them at once."""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from whmcs_mock.errors import FixtureError, Problem, quoted
from whmcs_mock.model import (
    Access,
    CannedAnswer,
    Client,
    Credentials,
    Credit,
    Ledger,
    parse_amount,
    parse_date,
    parse_id,
    parse_relid,
)
from whmcs_mock.nodes import Mapping, Node, Scalar, Sequence, root

__all__ = ["example_path", "load_fixtures"]

T = TypeVar("T")

_TOP = "at the top level"

#: Where each key belongs.
_KEYS = {
    _TOP: ("clients", "credentials", "access", "answers", "admins"),
    "a client": ("id", "credits"),
    "a credit": ("id", "date", "description", "amount", "relid"),
    "an entry of credentials": ("identifier", "secret", "username", "password", "actions"),
    "access": ("addresses", "key"),
    "an entry of answers": ("action", "params", "result", "status"),
}
_EXAMPLES = {
    "id": "1",
    "date": "2016-01-31",
    "amount": "10.00",
    "action": "GetClientsDetails",
    "result": "{result: success}",
}
_SECRET_PLACES = ("an entry of credentials", "access")  # nothing that stands there is repeated in a message
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_SUFFIXES = (".yaml", ".yml")


def example_path() -> Path:
    """Return the path of the documented example, which is served when no fixture is named."""
    installed = Path(__file__).with_name("documented.yaml")
    return installed if installed.exists() else Path(__file__).parents[1] / "fixtures" / installed.name


def load_fixtures(*paths: str | os.PathLike[str], first_credit_id: int = 1) -> Ledger:
    """Load fixture files, or folders of them, as one ledger.

    Args:
        paths: Files, and folders whose ``*.yaml`` and ``*.yml`` files are read in the order of their
            names, subfolders not included. Without any, the documented example.
        first_credit_id: The least number for credits that are given no id.

    Raises:
        FixtureError: Something is wrong; it lists every problem in all files.
    """
    reader = _Reader()
    for path in paths:
        reader.read(os.fspath(path))
    if not paths:
        reader.read(str(example_path()), "the documented example")
    return reader.ledger(first_credit_id)


class _Reader:
    def __init__(self) -> None:
        self._path = ""
        self._paths: dict[str, str] = {}  # the files read, and how each was named
        self._problems: dict[Problem, None] = {}
        self._clients: dict[int, list[tuple[Any, ...]]] = {}  # what Credit is made of, by client
        self._places: dict[tuple[str, Any], tuple[str, int, int]] = {}  # where each id and name stands
        self._credentials: list[Credentials] = []
        self._access: Access | None = None
        self._answers: list[CannedAnswer] = []
        self._admins: set[int] | None = None
        self._sections: dict[str, Callable[[Node], None]] = {
            "clients": self._client,
            "credentials": self._credential,
            "answers": self._answer,
            "admins": self._admin,
        }

    def ledger(self, first_credit_id: int) -> Ledger:
        if self._problems:
            files = {path: n for n, path in enumerate(dict.fromkeys(problem.path for problem in self._problems))}
            places = sorted(self._problems, key=lambda problem: (files[problem.path], problem.line, problem.column))
            raise FixtureError(tuple(places))
        given = [credit[0] for credits in self._clients.values() for credit in credits if credit[0]]
        free = itertools.count(max([first_credit_id - 1, *given]) + 1)
        clients = tuple(
            Client(id, tuple(Credit(number or next(free), *rest) for number, *rest in credits))
            for id, credits in self._clients.items()
        )
        return Ledger(
            clients,
            credentials=tuple(self._credentials),
            access=self._access,
            answers=tuple(self._answers),
            admins=None if self._admins is None else frozenset(self._admins),
            sources=tuple(self._paths.values()),
        )

    def read(self, path: str, name: str = "") -> None:
        self._path = path
        try:
            if os.path.isdir(path):
                names = sorted(name for name in os.listdir(path) if name.endswith(_SUFFIXES) and name[0] != ".")
                files = [os.path.join(path, name) for name in names]
                if not (files := [file for file in files if not os.path.isdir(file)]):
                    self._report_at(1, 1, "this folder holds no *.yaml or *.yml file; put a fixture file there")
                for file in files:
                    self.read(file)
                return
            if os.path.exists(path) and not (os.path.isfile(path) or stat.S_ISFIFO(os.stat(path).st_mode)):
                raise ValueError("it is no file")
            data = Path(path).read_bytes()
        except FileNotFoundError:
            self._report_at(1, 1, "there is no such file or folder; check the path")
        except (OSError, ValueError) as error:
            self._report_at(1, 1, f"this cannot be read ({getattr(error, 'strerror', None) or error}); check the path")
        else:
            real = os.path.realpath(path)
            if real in self._paths:
                self._report_at(1, 1, f"this file is read as {self._paths[real]} already; name it once")
                return
            self._paths[real] = name or path
            self._file(data)

    def _file(self, data: bytes) -> None:
        document = root(data, self._report_at, "clients", self._client)
        for name, (key, value) in document.items.items() if document else ():
            if name == "access":
                self._access_rules(value)
            elif name in self._sections:
                if name == "admins" and self._admins is None:
                    self._admins = set()
                for item in self._list(value, name):
                    self._sections[name](item)
            elif not name.startswith("x-"):
                self._unknown(key, _TOP)

    # Sections: each reads one node and remembers what it says.

    def _client(self, node: Node) -> None:
        fields = self._fields(node, "a client", "id")
        if fields is None:
            return
        credits = [self._credit(item) for item in self._list(fields.get("credits"), "credits")]
        id = self._value(fields.get("id"), parse_id)
        if id and self._is_first(fields.get("id"), "client", id):
            self._clients[id] = [credit for credit in credits if credit]

    def _credit(self, node: Node) -> tuple[Any, ...] | None:
        fields = self._fields(node, "a credit", "date", "amount")
        if fields is None:
            return None
        get, value = fields.get, self._value
        id = value(get("id"), parse_id)
        if id:
            self._is_first(get("id"), "credit", id)
        return (
            id,
            value(get("date"), parse_date),
            value(get("description"), str) or "",
            value(get("amount"), parse_amount),
            value(get("relid"), parse_relid) or 0,
        )

    def _credential(self, node: Node) -> None:
        fields = self._fields(node, "an entry of credentials")
        if fields is None or not isinstance(node, Mapping):
            return
        admin = "username" in fields or ("password" in fields and "identifier" not in fields)
        name, secret = ("username", "password") if admin else ("identifier", "secret")
        for key in (name, secret):
            if key not in fields and not node.broken:
                self._report(node, f"{key} is missing; write identifier and secret, or username and password")
        for key in ("identifier", "secret") if admin else ("password",):
            if key in fields:
                self._report(node.items[key][0], f"{key} stands beside {name}; make two entries of them")
        names = [self._value(item, _action) for item in self._list(fields.get("actions"), "actions")]
        actions = frozenset(filter(None, names)) if "actions" in fields else None
        values = [self._value(fields.get(key), _secret_text) for key in (name, secret)]
        if values[0] and self._is_first(fields.get(name), name, values[0], f"this {name}"):
            self._credentials.append(Credentials(values[0], values[1] or "", admin, actions))

    def _access_rules(self, node: Node) -> None:
        fields = self._fields(node, "access")
        if fields is None or not isinstance(node, Mapping):
            return
        if not node.items:
            self._report(node, "access is empty; write addresses, key, or both, or remove it")
        addresses = [self._value(item, _address) for item in self._list(fields.get("addresses"), "addresses")]
        key = self._value(fields.get("key"), _secret_text) or ""
        if self._is_first(node, "access", None, "access"):
            self._access = Access(frozenset(filter(None, addresses)), key)

    def _answer(self, node: Node) -> None:
        fields = self._fields(node, "an entry of answers", "action", "result")
        if fields is None:
            return
        params, result = fields.get("params"), fields.get("result")
        for name in ("params", "result"):
            if name in fields and not isinstance(fields[name], Mapping):
                self._report(
                    fields[name], f"{name} must be a mapping, such as {{clientid: 1}}, not {_kind(fields[name])}"
                )
        equal = {key.text: self._value(value, str) for key, value in _pairs(params)}
        self._answers.append(
            CannedAnswer(
                self._value(fields.get("action"), _action) or "",
                {key.text: _plain(value) for key, value in _pairs(result)},
                {key: text or "" for key, text in equal.items()},
                self._value(fields.get("status"), _status) or 200,
            )
        )

    def _admin(self, node: Node) -> None:
        if (id := self._value(node, parse_id)) and self._admins is not None:
            self._admins.add(id)

    # Nodes: what is asked of any of them.

    def _fields(self, node: Node, place: str, *required: str) -> dict[str, Node] | None:
        if node is None:
            return None
        if not isinstance(node, Mapping):
            what = "a text" if place in _SECRET_PLACES and isinstance(node, Scalar) else _kind(node)
            self._report(node, f"{place} must be a mapping with the keys {_or(_KEYS[place])}, not {what}")
            return None
        known = _KEYS[place]
        fields = {}
        for text, (key, value) in node.items.items():
            if text in known:
                fields[text] = value
            else:
                self._unknown(key, place)
        for name in required:
            if name not in fields and not node.broken:
                self._report(node, f"{name} is missing; add {name}: {_EXAMPLES[name]}")
        return fields

    def _unknown(self, key: Scalar, place: str) -> None:
        homes = [home for home, keys in _KEYS.items() if key.text in keys]
        where = place if place == _TOP else f"in {place}"
        name = "this key" if (place in _SECRET_PLACES and not homes) or ":" in key.text else quoted(key.text)
        cutoff = 0.85 if homes else 0.6
        near = difflib.get_close_matches(key.text.partition(":")[0].lower(), _KEYS[place], n=1, cutoff=cutoff)
        if near:
            hint = f"did you mean {near[0]}?"
        elif homes:
            hint = f"it belongs {' or '.join(home if home == _TOP else f'in {home}' for home in homes)}"
        else:
            hint = f"write {_or(_KEYS[place])}" + (
                ", or a key of your own that begins with x-" if place == _TOP else ""
            )
        self._report(key, f"{name} is not known {where}; {hint}")

    def _list(self, node: Node, name: str) -> list[Node]:
        if node is None or isinstance(node, Sequence):
            return node.items if node else []
        what = "a text" if isinstance(node, Scalar) else _kind(node)
        self._report(
            node, f"{name} must be a list, not {what}; write its items below it, each with - in front, or [] for none"
        )
        return []

    def _value(self, node: Node, parse: Callable[[str], T]) -> T | None:
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self._report(node, f"one value is wanted here, not {_kind(node)}; put a text with brackets in quotes")
            return None
        try:
            return parse(node.text)
        except ValueError as error:
            self._report(node, str(error))
            return None

    def _is_first(self, node: Node, kind: str, name: Any, what: str = "") -> bool:
        """Remember where an id or a name stands, and report it where it stands again."""
        assert node is not None
        here = (self._path, node.line, node.column)
        first = self._places.setdefault((kind, name), here)
        if first is here:
            return True
        if first == here:
            self._report(node, f"{what or f'{kind} {name}'} is repeated by an alias below; write another one there")
            return False
        self._report(
            node,
            f"{what or f'{kind} {name}'} is given at {first[0]}:{first[1]}:{first[2]} already; keep one of the two",
        )
        return False

    def _report(self, node: Node, message: str) -> None:
        if node is not None:  # None: reported already
            self._report_at(node.line, node.column, message)

    def _report_at(self, line: int, column: int, message: str) -> None:
        self._problems[Problem(self._path, line, column, message)] = None


# Values: each reads the text of a scalar, or raises ValueError with what to write instead.


def _secret_text(text: str) -> str:
    if text:
        return text
    raise ValueError("this is empty; write a text, in quotes if it begins with a special character")


def _action(text: str) -> str:
    if text:
        return text
    raise ValueError("the name of an action is empty; write one such as GetCredits")


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("an address is one IPv4 or IPv6 address such as 127.0.0.1, without a network length") from None
    return text


def _status(text: str) -> int:
    if re.fullmatch("[2-5][0-9][0-9]", text):
        return int(text)
    raise ValueError(f"status is an HTTP status from 200 to 599, not {quoted(text)}")


def _plain(node: Node) -> Any:
    """Turn a node into what an answer is made of; only a plain integer is a number."""
    if isinstance(node, Mapping):
        return {key.text: _plain(value) for key, value in node.items.values()}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    if node is None:
        return None
    return int(node.text) if node.plain and _INTEGER.fullmatch(node.text) else node.text


def _pairs(node: Node) -> Iterable[tuple[Scalar, Node]]:
    return node.items.values() if isinstance(node, Mapping) else ()


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return f"the text {quoted(node.text)}" if node.text else "nothing"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
