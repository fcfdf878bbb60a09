"""Load 10,000 clients with 50,000 credits: ``load_fixtures`` and ``yaml.load`` with the C loader, on one file.

Each load runs in its own process. The time is that of the load alone, after the imports; the memory
is the growth of the process's peak (``ru_maxrss``, so POSIX only) from after the imports to after the load.
Other load on the machine can only add to a time, so the fastest run counts; the median is shown as well.

With a number of credits as the argument, such as 1000000, it measures increasing sizes up to that number instead:
time and memory per credit, from 1,000 credits on.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine, table

CLIENTS, CREDITS = 10_000, 5
ROUNDS = 5
GOALS = {"time": 0.37, "peak memory": 0.2}


def write(path: Path, clients: int) -> None:
    """Write a fixture file in the style of the documentation."""
    with path.open("w", encoding="utf-8") as file:
        file.write("clients:\n")
        for client in range(1, clients + 1):
            file.write(f"  - id: {client}\n    credits:\n")
            for number in range((client - 1) * CREDITS + 1, client * CREDITS + 1):
                amount = f"{number % 997}.{number % 100:02d}"
                file.write(f"      - {{id: {number}, date: 2016-{number % 12 + 1:02d}-{number % 28 + 1:02d}, ")
                file.write(f'description: "Credit Applied to Invoice #{number}", amount: -{amount}, relid: 0}}\n')


def load(contender: str, path: str) -> None:
    """Load the file, in a process of its own; print seconds and bytes."""
    import resource

    if contender.endswith("pure Python"):
        sys.modules["yaml._yaml"] = None  # type: ignore[assignment]  # makes its import fail, as without the C extension
    import yaml

    from whmcs_mock import load_fixtures

    loader: Any = yaml.SafeLoader if contender.endswith("pure Python") else yaml.CSafeLoader
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    if contender.startswith("yaml.load"):
        with open(path, "rb") as file:
            clients = len(yaml.load(file, Loader=loader)["clients"])
    else:
        clients = len(load_fixtures(path).clients)
    seconds = time.perf_counter() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([clients, seconds, grown * (1 if sys.platform == "darwin" else 1024)]))


def measured(contender: str, path: Path, clients: int) -> tuple[float, float]:
    """Return the seconds and bytes of one load, in a process of its own."""
    told = subprocess.run([sys.executable, __file__, contender, str(path)], check=True, stdout=subprocess.PIPE)
    loaded, seconds, grown = json.loads(told.stdout)
    assert loaded == clients, f"{contender} loaded {loaded} clients"
    return seconds, grown


def compare(title: str, contenders: tuple[str, str], path: Path, clients: int, rounds: int) -> dict[str, float]:
    """Print one table; return the ratios of the second contender to the first."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            results[name].append(measured(name, path, clients))
    best = {name: [min(column) for column in zip(*runs, strict=True)] for name, runs in results.items()}
    base = best[contenders[0]]
    table(
        f"{title}, the fastest of {rounds}",
        ("", "time", "(median)", "ratio", "peak memory", "ratio"),
        *(
            (
                name,
                f"{seconds:.2f} s",
                f"{statistics.median(run[0] for run in results[name]):.2f} s",
                f"{seconds / base[0]:.2f}",
                f"+{grown / 1e6:.0f} MB",
                f"{grown / base[1]:.2f}",
            )
            for name, (seconds, grown) in best.items()
        ),
    )
    return {goal: best[contenders[1]][n] / base[n] for n, goal in enumerate(GOALS)}


def curve(path: Path, largest: int) -> None:
    """Print what each credit costs, for increasing numbers of credits."""
    rows = []
    credits = 1_000
    while credits <= largest:
        write(path, credits // CREDITS)
        seconds, grown = min(measured("load_fixtures", path, credits // CREDITS) for _ in range(3))
        row = (f"{credits:,}", f"{seconds:.2f} s", f"{seconds / credits * 1e6:.1f} µs", f"+{grown / 1e6:.0f} MB")
        rows.append((*row, f"{grown / credits:.0f} B"))
        credits *= 10
    table("load_fixtures, the fastest of 3", ("credits", "time", "each", "peak memory", "each"), *rows)


def main() -> None:
    """Compare with the C loader and, on a tenth of the file, with the pure-Python one; or measure increasing sizes."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clients.yaml")
        if sys.argv[1:]:
            curve(path, int(sys.argv[1]))
            return
        write(path, CLIENTS)
        title = f"{CLIENTS:,} clients, {CLIENTS * CREDITS:,} credits, {path.stat().st_size / 1e6:.1f} MB of YAML"
        ratios = compare(title, ("yaml.load, CSafeLoader", "load_fixtures"), path, CLIENTS, ROUNDS)
        for goal, most in GOALS.items():
            print(f"goal: a {goal} ratio of at most {most}: {'met' if ratios[goal] <= most else 'MISSED'}")
        write(path, CLIENTS // 10)
        title = f"Without PyYAML's C extension: {CLIENTS // 10:,} clients, {CLIENTS * CREDITS // 10:,} credits"
        compare(title, ("yaml.load, pure Python", "load_fixtures, pure Python"), path, CLIENTS // 10, 3)


if __name__ == "__main__":
    load(*sys.argv[1:]) if sys.argv[2:] else main()
