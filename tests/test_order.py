"""Which source answers a call, and the reason given when none does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire import post

from whmcs_mock import MockServer, WhmcsMock, load_fixtures

PAGE = """\
### Request Parameters

| Parameter | Type | Description | Required |
| --------- | ---- | ----------- | -------- |
| action | string | "{action}" | Required |

### Example Response JSON

```
{{
    "result": "success",
    "from": "page"
}}
```
"""
ANSWERS = """\
answers:
  - {action: GetCredits, params: {clientid: 7}, result: {from: answers}}
  - {action: GetShade, params: {shade: red, size: 1}, result: {from: answers}}
  - {action: GetEmails, result: {status: error, reason: none}}
"""


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[WhmcsMock]:
    for action in ("GetCredits", "GetVoucher"):
        (tmp_path / f"{action.lower()}.md").write_text(PAGE.format(action=action), encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(ANSWERS, encoding="utf-8")
    with MockServer(load_fixtures(tmp_path)) as server:
        yield WhmcsMock(server)


def source(mock: WhmcsMock, action: str, **params: object) -> str:
    body = json.loads(post(mock.server, {"action": action, "responsetype": "json", **params}).body)
    return str(body.get("from") or body.get("message"))


def test_order(mock: WhmcsMock) -> None:
    """Functions come before fixtures, fixtures before built-in actions, and those before pages."""
    assert source(mock, "GetCredits", clientid=7) == "answers"
    assert source(mock, "GetCredits", clientid=8) == "Client ID Not Found"
    assert source(mock, "GetVoucher") == "page"
    assert source(mock, "GetNothing") == "Command Not Found"
    mock.action("GetCredits")(lambda _params: {"from": "function"})
    assert source(mock, "GetCredits", clientid=7) == "function"


def test_passed_on_by_a_function(mock: WhmcsMock) -> None:
    """An unanswered call that a function passed on is not hinted at that function's own name."""
    mock.action("GetTint")(lambda _params: None)
    assert source(mock, "GetTint") == "Command Not Found"
    assert "did you mean" not in mock.calls[-1].why


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        ({"action": "GetCredit"}, "did you mean GetCredits?"),
        ({"action": "getvouchers"}, "did you mean GetVoucher?"),
        ({"action": "GetShade", "shade": "red"}, 'size was not sent (expected "1")'),
        ({"action": "GetShade", "shade": "blue", "size": "1"}, 'shade was "blue" (expected "red")'),
    ],
)
def test_did_you_mean(mock: WhmcsMock, params: dict[str, str], hint: str) -> None:
    """The reason for an unanswered call names the nearest match; the answer does not."""
    answer = post(mock.server, {**params, "responsetype": "json"})
    assert json.loads(answer.body) == {"result": "error", "message": "Command Not Found"}
    assert hint in mock.calls[-1].why


def test_status_in_place_of_a_result(mock: WhmcsMock) -> None:
    """No result is added to an answer that has a status."""
    answer = post(mock.server, {"action": "GetEmails", "responsetype": "json"})
    assert json.loads(answer.body) == {"status": "error", "reason": "none"}
