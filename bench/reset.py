"""Measure the reset of a running server, as before each test, with 10 and with 100,000 clients."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from decimal import Decimal
from statistics import median

from measure import interleaved, machine, percentile, table

from whmcs_mock import Client, Credit, Ledger, MockServer

ROUNDS = 500
SIZES = (10, 100_000)


def ledger(clients: int) -> Ledger:
    """Return a ledger of clients with one credit each."""
    day, amount = datetime.date(2016, 1, 1), Decimal("10.00")
    return Ledger([Client(n, [Credit(n, day, "Overpayment", amount)]) for n in range(1, clients + 1)])


def resetting(server: MockServer) -> Callable[[], float]:
    """Return a function that measures one reset."""

    def reset() -> float:
        begun = time.perf_counter()
        server.reset()
        return time.perf_counter() - begun

    return reset


def main() -> None:
    """Let the servers take turns."""
    print(machine())
    servers = {f"{size:,} clients": MockServer(ledger(size)) for size in SIZES}
    for server in servers.values():
        server.start()
    results = interleaved({name: resetting(server) for name, server in servers.items()}, ROUNDS, warm_up=20)
    base = median(next(iter(results.values())))
    table(
        f"reset(), {ROUNDS} times",
        ("", "p50", "p99", "p50 ratio"),
        *(
            (
                name,
                f"{median(times) * 1e6:.0f} µs",
                f"{percentile(times, 99) * 1e6:.0f} µs",
                f"{median(times) / base:.2f}",
            )
            for name, times in results.items()
        ),
    )
    for server in servers.values():
        server.stop()


if __name__ == "__main__":
    main()
