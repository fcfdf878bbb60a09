"""Use every public name as a typed project of a user does; checked by mypy, and run."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from typing_extensions import assert_type

from whmcs_mock import (
    Access,
    AddressInUseError,
    ApiError,
    Call,
    CannedAnswer,
    Client,
    Credentials,
    Credit,
    FaultRule,
    FixtureError,
    Ledger,
    ListenError,
    MockServer,
    Problem,
    WhmcsMock,
    WhmcsMockError,
    WhmcsMockWarning,
    create_app,
    load_fixtures,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def ledger() -> Ledger:
    """Build a ledger of values."""
    credit = Credit(1, datetime.date(2024, 2, 29), "Refund", Decimal("25.00"), relid=17)
    client = Client(
        id=7, credits=[credit, Credit(2, "2024-03-01", "Used", "-5.50"), Credit(3, "2024-03-02", "Gift", 1)]
    )
    assert_type(credit.id, int)
    assert_type(credit.date, datetime.date)
    assert_type(credit.description, str)
    assert_type(credit.amount, Decimal)
    assert_type(credit.relid, int)
    assert_type(client.balance, Decimal)
    return Ledger(
        [client, Client(8)],
        credentials=(Credentials("known", "secret", actions=frozenset({"getcredits", "getinvoices"})),),
        access=Access(frozenset({"127.0.0.1"}), key="passphrase"),
        answers=(CannedAnswer("getinvoices", {"result": "success", "total": 0}, params={"userid": "7"}),),
        admins=frozenset({1}),
        faults=(FaultRule("slow", seconds=2.5, clientid=8, times=1), FaultRule(message="No", action="GetInvoice")),
    )


@pytest.fixture(scope="session")
def whmcs_mock_fixtures() -> Ledger:
    """Serve the ledger."""
    return ledger()


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context() -> ssl.SSLContext | None:
    """Serve http."""
    return None


@pytest.mark.whmcs_mock(profile="live", strict=False)
def test_arrange(whmcs_mock: WhmcsMock, tmp_path: Path) -> None:
    """Everything that arranges."""
    extra = tmp_path / "extra.yaml"
    extra.write_text("clients: [{id: 20}]")
    assert_type(whmcs_mock.add_client(9), Client)
    whmcs_mock.add_client(10, credits=[Credit(50, "2024-01-01", "", "1.00"), {"amount": "2.00", "description": "two"}])
    assert_type(whmcs_mock.add_credit(9, amount="12.50", description="x", date="2024-01-31", relid=3), Credit)
    whmcs_mock.add_credit(9, amount=Decimal("-2.50"), date=datetime.date(2024, 1, 31))
    assert_type(whmcs_mock.balance(9), Decimal)
    assert_type(whmcs_mock.credits(9), list[Credit])
    assert_type(whmcs_mock.client(9), Client)
    whmcs_mock.remove_client(9)
    whmcs_mock.load(str(extra))
    whmcs_mock.profile = "documented"
    assert_type(whmcs_mock.url, str)
    assert_type(whmcs_mock.base_url, str)
    assert_type(whmcs_mock.identifier, str)
    assert_type(whmcs_mock.secret, str)
    assert_type(whmcs_mock.server, MockServer)
    with pytest.raises(LookupError):
        assert_type(whmcs_mock.ca_path, Path)


def test_misbehave(whmcs_mock: WhmcsMock) -> None:
    """Everything that makes the server misbehave."""
    whmcs_mock.fail_next("maintenance", times=2)
    whmcs_mock.fail_next(["reset", "bad-gateway"])
    whmcs_mock.fail_next("slow", seconds=0.5)
    whmcs_mock.fail_next(status=500, body="text")
    whmcs_mock.fail_next(status=500, body=b"bytes", headers={"Retry-After": "3"}, times=None)
    whmcs_mock.fail_next(message="Invoice ID Not Found", action="GetInvoice", clientid=7, params={"invoiceid": 5})
    assert_type(whmcs_mock.problems(), list[str])

    @whmcs_mock.action("GetInvoice")
    def get_invoice(params: Mapping[str, str]) -> dict[str, object]:
        if "invoiceid" not in params:
            raise ApiError("Invoice ID Not Found", 200, why="the test sent none")
        return {"invoiceid": params["invoiceid"], "items": {"item": [{"amount": Decimal(1)}]}}

    @whmcs_mock.action("GetOrders")
    def pass_on(_params: Mapping[str, str]) -> None:
        return None

    assert get_invoice({"invoiceid": "5"})["invoiceid"] == "5"
    pass_on({})
    whmcs_mock.clear_calls()
    whmcs_mock.reset()
    assert_type(whmcs_mock.world.profile, Literal["documented", "live"])
    whmcs_mock.fail_next("reset")  # which no call meets


def test_assert(whmcs_mock: WhmcsMock) -> None:
    """Everything that asks for calls."""
    whmcs_mock.assert_not_called()
    whmcs_mock.assert_not_called("AddCredit", clientid=7)
    assert_type(whmcs_mock.calls, list[Call])
    assert_type(whmcs_mock.calls_to("GetCredits", clientid=7), list[Call])
    assert_type(whmcs_mock.report(), str)
    with pytest.raises(AssertionError):
        assert_type(whmcs_mock.assert_called("GetCredits", clientid="7"), list[Call])
    with pytest.raises(AssertionError):
        told(whmcs_mock.assert_called_once("GetCredits"))
    with pytest.raises(AssertionError):
        told(whmcs_mock.wait_for_call("GetCredits", timeout=0, clientid=7))


def told(call: Call) -> str:
    """Read every part of a call."""
    assert_type(call.action, str)
    assert_type(call.clientid, "str | None")
    assert_type(call.params, dict[str, str])
    assert_type(call.result, str)
    assert_type(call.message, str)
    assert_type(call.status, int)
    assert_type(call.response_type, str)
    assert_type(call.duration, float)
    assert_type(call.why, str)
    assert_type(call.advice, tuple[str, ...])
    assert_type(call.method, str)
    assert_type(call.path, str)
    assert_type(call.time, datetime.datetime)
    assert_type(call.id, int)
    assert_type(call.answer, str)
    return repr(call)


def test_server(whmcs_mock_server: MockServer, tmp_path: Path) -> None:
    """The server, on its own and beside pytest-httpserver's habits."""
    whmcs_mock_server.expect_request("/hook").respond_with_json({"ok": True})
    assert_type(whmcs_mock_server.url_for("/hook"), str)
    whmcs_mock_server.check_assertions()
    whmcs_mock_server.clear()
    calls: list[Call] = []
    with MockServer(ledger(), host="127.0.0.1", port=0, profile="live", on_call=calls.append) as server:
        assert_type(server.url, str)
        assert_type(server.base_url, str)
        server.profile = "documented"
        server.action("Ping")(lambda params: {"pong": params.get("n", "")})
        server.reset(ledger(), profile="live")
        with pytest.raises(AddressInUseError) as caught:
            MockServer(port=server.port).start()
    errors: list[WhmcsMockError] = [caught.value]
    assert isinstance(errors[0], ListenError)
    (tmp_path / "wrong.yaml").write_text("clients: [{id: no}]")
    assert broken([tmp_path / "wrong.yaml"])[0].line == 1


def broken(paths: Iterable[str | os.PathLike[str]]) -> tuple[Problem, ...]:
    """Return what is wrong in fixture files."""
    try:
        assert_type(load_fixtures(*paths), Ledger)
    except FixtureError as error:
        assert_type(error.problems[0].path, str)
        assert_type(error.problems[0].column, int)
        assert_type(error.problems[0].message, str)
        return error.problems
    return ()


def application() -> WSGIApplication:
    """Make a WSGI application, of the documented example."""
    create_app(ledger())
    return create_app(profile="live")


def test_application() -> None:
    """The application and the warning's class."""
    assert callable(application())
    assert issubclass(WhmcsMockWarning, UserWarning)


def mistakes(mock: WhmcsMock, server: MockServer) -> None:
    """Make mistakes that mypy must refuse: an ignore that nothing needs is an error, too."""
    mock.add_credit(7)  # type: ignore[call-arg]  # that it is an error is the test
    mock.add_credit(7, "12.50")  # type: ignore[call-arg]  # likewise
    mock.add_client("7")  # type: ignore[arg-type]  # likewise
    mock.add_credits(7)  # type: ignore[attr-defined]  # likewise
    mock.fail_next(404)  # type: ignore[arg-type]  # likewise
    mock.action(len)  # type: ignore[arg-type]  # likewise
    mock.url = "elsewhere"  # type: ignore[misc]  # likewise
    mock.calls[0].status = 404  # type: ignore[misc]  # likewise
    server.action("Ping")(lambda _: "pong")  # type: ignore[type-var]  # likewise
