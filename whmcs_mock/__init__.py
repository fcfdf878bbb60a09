"""Mock the WHMCS billing API in tests and development.

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whmcs_mock.app import create_app
    from whmcs_mock.errors import (
        AddressInUseError,
        ApiError,
        FixtureError,
        ListenError,
        Problem,
        WhmcsMockError,
        WhmcsMockWarning,
    )
    from whmcs_mock.fixtures import load_fixtures
    from whmcs_mock.handle import WhmcsMock
    from whmcs_mock.journal import Call
    from whmcs_mock.ledger import Access, CannedAnswer, Client, Credentials, Credit, FaultRule, Ledger
    from whmcs_mock.server import MockServer

__all__ = [
    "Access",
    "AddressInUseError",
    "ApiError",
    "Call",
    "CannedAnswer",
    "Client",
    "Credentials",
    "Credit",
    "FaultRule",
    "FixtureError",
    "Ledger",
    "ListenError",
    "MockServer",
    "Problem",
    "WhmcsMock",
    "WhmcsMockError",
    "WhmcsMockWarning",
    "create_app",
    "load_fixtures",
]

__version__ = "0.2.0"

_MODULES = {
    "create_app": "app",
    "load_fixtures": "fixtures",
    "Call": "journal",
    "MockServer": "server",
    "WhmcsMock": "handle",
}
_MODELS = ("Access", "CannedAnswer", "Client", "Credentials", "Credit", "FaultRule", "Ledger")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name) or ("ledger" if name in _MODELS else "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
