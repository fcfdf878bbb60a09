"""Fail as real installations do: a fault is a function of the call and the correct answer.

docs/fidelity.md says where each was seen.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from whmcs_mock.api import AUTHENTICATION_FAILED, INVALID_IP, INVALID_PERMISSIONS
from whmcs_mock.errors import shorten
from whmcs_mock.ledger import FaultRule, format_address, parse_clientid
from whmcs_mock.response import HTML, Answer, Response

_PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"
_JSON_UTF8 = "Error generating JSON encoded response: Malformed UTF-8 characters, possibly incorrectly encoded"
_PHP_WARNING = (
    b"<br />\n<b>Warning</b>:  Undefined array key &quot;credit&quot; in "
    b"<b>/var/www/whmcs/includes/hooks/custom.php</b> on line <b>42</b><br />\n"
)


class Asked(NamedTuple):
    """The call that a fault applies to.

    Args:
        params: The parameters of the call.
        address: The IP address it comes from.
        response_type: ``json``, ``xml`` or ``nvp``.
        right: Carries out the call and returns the correct response.
        write: Returns the response for an answer.
    """

    params: Mapping[str, str]
    address: str
    response_type: str
    right: Callable[[], Response]
    write: Callable[[Answer], Response]


Fault: TypeAlias = Callable[[Asked, FaultRule], Response]


def _refusal(message: str) -> Fault:
    def refuse(asked: Asked, _rule: FaultRule) -> Response:
        action = asked.params.get("action", "").lower()
        text = message.format(address=format_address(asked.address), action=action)
        return asked.write(Answer.error(text, 403))

    return refuse


def _page(status: int, body: str, *headers: tuple[str, str]) -> Fault:
    def show(_asked: Asked, _rule: FaultRule) -> Response:
        return Response(status, [("Content-Type", HTML), *headers], body.encode())

    return show


def _before_json(data: bytes) -> Fault:
    def spoil(asked: Asked, _rule: FaultRule) -> Response:
        response = asked.right()
        if asked.response_type == "json":
            response.body = data + response.body
        return response

    return spoil


def _json_utf8(asked: Asked, _rule: FaultRule) -> Response:
    response = asked.right()  # the action is carried out before its answer is encoded
    return asked.write(Answer.error(_JSON_UTF8)) if asked.response_type == "json" else response


def _truncated(asked: Asked, _rule: FaultRule) -> Response:
    response = asked.right()
    response.length = len(response.body)
    response.body = response.body[: len(response.body) // 2]
    response.close = True
    return response


def _slow(asked: Asked, rule: FaultRule) -> Response:
    response = asked.right()
    response.delay = rule.seconds
    return response


def _reset(_asked: Asked, _rule: FaultRule) -> Response:
    return Response(0, [])


def _plain(asked: Asked, rule: FaultRule) -> Response:
    if rule.message:
        return asked.write(Answer.error(rule.message))
    if rule.status is None and rule.body is None:
        return asked.right()  # only its headers change
    return Response(200, [("Content-Type", HTML)])


_FAULTS: dict[str, Fault] = {
    "": _plain,
    "invalid-ip": _refusal(INVALID_IP),
    "auth-failed": _refusal(AUTHENTICATION_FAILED),
    "missing-permission": _refusal(INVALID_PERMISSIONS),
    "maintenance": _page(503, "Down for Maintenance (Err2)"),
    "waf": _page(403, _PAGE.format("Access denied by Imunify360 bot-protection")),
    "rate-limit": _page(429, _PAGE.format("429 Too Many Requests"), ("Retry-After", "1")),
    "bad-gateway": _page(502, _PAGE.format("502 Bad Gateway")),
    "gateway-timeout": _page(504, _PAGE.format("504 Gateway Timeout")),
    "empty-body": _page(200, ""),
    "json-utf8": _json_utf8,
    "php-warning": _before_json(_PHP_WARNING),
    "bom": _before_json(b"\xef\xbb\xbf"),
    "truncated": _truncated,
    "slow": _slow,
    "reset": _reset,
}


def apply(rule: FaultRule, asked: Asked) -> Response:
    """Return the response of a fault to a call."""
    response = _FAULTS[rule.fault](asked, rule)
    if not response.status:
        response.why = f"fault {rule}"
        return response
    if rule.body is not None:
        response.body, response.length, response.type = rule.body, None, ""
    if rule.status is not None:
        response.status = rule.status
    response.replace_headers(rule.headers)
    response.why = f"fault {rule}" + (f"; {response.why}" if response.why else "")
    return response


class _Armed:
    """Rules that apply in turn, repeatedly, until ``left`` is used up."""

    __slots__ = ("left", "met", "next", "rules")

    def __init__(self, rules: Sequence[FaultRule], left: int | None) -> None:
        self.rules, self.left, self.met, self.next = rules, left, 0, rules[0]

    def use(self) -> None:
        self.met += 1
        self.next = self.rules[self.met % len(self.rules)]
        if self.left is not None:
            self.left -= 1

    def unused(self) -> Iterator[tuple[str, int]]:
        count = len(self.rules)
        left = (0 if self.met else count) if self.left is None else self.left
        whole, part = divmod(left, count)
        for number in range(count):
            yield str(self.rules[(self.met + number) % count]), whole + (number < part)


class Faults:
    """Fault rules, of which the first that matches a call applies; thread-safe.

    Args:
        rules: The rules of the fixtures.
    """

    def __init__(self, rules: Iterable[FaultRule] = ()) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._standing = [_Armed((rule,), rule.times) for rule in rules]
        self.released = threading.Event()  # set when calls should no longer be held back

    def __bool__(self) -> bool:
        return bool(self._armed or self._standing)

    def add(self, rules: Sequence[FaultRule], times: int | None = 1) -> None:
        """Add the rules of a test, in order and ``times`` times, before those of the fixtures."""
        with self._lock:
            self._armed.append(_Armed(tuple(rules), None if times is None else times * len(rules)))

    def add_standing(self, rules: Sequence[FaultRule]) -> None:
        """Add rules of more fixtures, before the existing ones."""
        with self._lock:
            self._standing[:0] = [_Armed((rule,), rule.times) for rule in rules]

    def take(self, params: Mapping[str, str]) -> FaultRule | None:
        """Use up and return the rule that applies to a call, or None."""
        clients = [parse_clientid(params.get(name, "")) for name in ("clientid", "userid")]
        with self._lock:
            for all_ in (self._armed, self._standing):
                for armed in all_:
                    rule = armed.next
                    if rule.matches(params, clients):
                        armed.use()
                        if armed.left == 0:
                            all_.remove(armed)
                        return rule
        return None

    def unused(self) -> list[str]:
        """Return a short description of each unused rule of a test."""
        left: Counter[str] = Counter()
        with self._lock:
            for armed in self._armed:
                for rule, times in armed.unused():
                    left[rule] += times
        words = [rule + (f" ({times} times)" if times > 1 else "") for rule, times in left.items() if times]
        return shorten(words, 10)
