"""Run the command ``serve``: the ready line, the access log, reloading, and a clean shutdown."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from whmcs_mock.access_log import AccessLog
from whmcs_mock.app import App
from whmcs_mock.errors import shorten
from whmcs_mock.listener import Listener
from whmcs_mock.redaction import redactor
from whmcs_mock.request import ENDPOINT
from whmcs_mock.watch import Watch

if TYPE_CHECKING:
    import ssl

    from whmcs_mock.errors import Problem
    from whmcs_mock.journal import Call
    from whmcs_mock.ledger import Ledger

_RELOAD = getattr(signal, "SIGHUP", None)
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)]
_FLAT = "flat bracket keys, as documented; code that reads credits.credit needs --profile live"


class Options(SimpleNamespace):
    """The options of the command ``serve``, by name."""

    paths: Sequence[str]
    host: str
    port: int
    profile: str
    control: bool
    watch: bool
    quiet: bool
    log_file: str | None
    tls: bool
    tls_cert: str | None
    tls_key: str | None
    request_timeout: float
    idle_timeout: float


class Service:
    """Serves fixtures until a signal arrives.

    Args:
        load: Returns the fixtures.
        options: How to serve them.

    Raises:
        ListenError: The server cannot listen there.
        OSError: The log file cannot be opened, or a file for TLS cannot be read.
    """

    def __init__(self, load: Callable[[], Ledger], options: Options) -> None:
        self.options = options
        self._agents: set[str] = set()  # client programs that have been given the hint
        self._came: list[int] = []  # signals, where there is no sigwait
        # It is created before the files are loaded, so that no change in between is missed.
        interval = 1.0 if options.watch and options.paths else None
        self._watch = Watch(options.paths, self._reloaded, self._not_reloaded, interval)
        self._terminal = _has_terminal()
        self._colours = self._terminal and options.log_file is None and not os.environ.get("NO_COLOR")
        _block(_RELOAD)
        ledger = load()
        with ExitStack() as stack:
            descriptor, tls, facts = self._descriptor(stack), *self._tls(stack)  # these may wait for a pipe
            for number in _SIGNALS:
                signal.signal(number, lambda number, _frame: self._came.append(number))
            _block(*_SIGNALS)  # also in the threads that start below, so that no signal is lost or disturbs the end
            self._log = AccessLog(descriptor)
            self.app = App(
                ledger,
                options.profile,
                on_call=None if options.quiet else self._log_call,
                on_error=self._fail,
                on_event=self._tell,
                steerable=options.control,
            )
            self.listener = Listener(
                options.host,
                options.port,
                self.app.respond,
                limit=self.app.body_limit,
                refuse=self.app.refuse,
                on_mismatch=self._tell,
                on_error=self._fail,
                request_seconds=options.request_timeout,
                idle_seconds=options.idle_timeout,
                tls=tls,
            )
            self.app.facts.update(facts)
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        """Return the URL of the API; a loopback one if the server listens on all addresses."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.host, self.options.host)  # noqa: S104
        scheme = "https" if self.listener.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.listener.port}{ENDPOINT}"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve within the context; the value is the ready line."""
        serving = threading.Thread(target=self.listener.serve_forever, daemon=True, name="whmcs-mock")
        serving.start()
        self._watch.start()
        facts = {**self.app.worlds[""].counts(), "profile": self.options.profile, **self.app.facts}
        try:
            yield " ".join(["whmcs-mock ready", self.url, *_facts(facts)])
        finally:
            self._watch.stop()
            self.app.worlds.release()
            self.listener.shutdown()
            serving.join()
            self.listener.end_connections()
            self._log.close()
            self._stack.close()

    def wait(self) -> None:
        """Reload on SIGHUP, and return on the first signal that ends the program."""
        for number in self._signals():
            if number != _RELOAD or (self._terminal and not _has_terminal()):  # its terminal was closed
                return
            self._watch.reload_now()

    def _signals(self) -> Iterator[int]:
        while True:
            if self._came:
                yield self._came.pop(0)
            elif hasattr(signal, "sigwait"):
                yield signal.sigwait(_SIGNALS)
            else:
                time.sleep(0.1)  # returns so that signal handlers can run

    # The log.

    def _descriptor(self, stack: ExitStack) -> int:
        if self.options.log_file is None:
            return 2
        return stack.enter_context(open(self.options.log_file, "ab", buffering=0)).fileno()

    def _log_call(self, call: Call) -> None:
        self._log.write(lambda: "\n".join(self._lines(call)), call.size)

    def _lines(self, call: Call) -> list[str]:
        line = f"{call.time.isoformat(timespec='seconds')[11:]} {call}"
        if self._colours:
            line = f"\x1b[{32 if call.result == 'success' else 31}m{line}\x1b[0m"
        lines = [line, *(f"  advice: {advice}" for advice in call.advice)]
        if call.flat and call.agent not in self._agents and len(self._agents) < 1000:
            self._agents.add(call.agent)
            lines.append(f"  hint: {_FLAT}")
        return lines

    def _fail(self, error: BaseException) -> None:
        self._tell(redactor(self.app.worlds[""].store.secrets)(repr(error)))

    def _tell(self, *lines: str) -> None:
        first, *rest = lines
        for line in (f"{time.strftime('%H:%M:%S')} whmcs-mock: {first}", *rest):
            self._log.write(lambda line=line: line)  # type: ignore[misc]  # mypy mistakes the default for a parameter

    # Reloading.

    def _reloaded(self, ledger: Ledger) -> None:
        self.app.problems = ()
        self.app.worlds.reload(ledger)
        if not self.options.quiet:
            self._tell(" ".join(["reloaded", *_facts(self.app.worlds[""].counts())]))

    def _not_reloaded(self, problems: Sequence[Problem]) -> None:
        self.app.problems = tuple(shorten(problems))
        self._tell("not reloaded, the last good fixtures are still served:", *self.app.problems)

    # TLS.

    def _tls(self, stack: ExitStack) -> tuple[ssl.SSLContext | None, dict[str, str]]:
        """Return the context, and where the certificate authority is that clients must trust."""
        options = self.options
        if not (options.tls or options.tls_cert):
            return None, {}
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if options.tls_cert and options.tls_key:
            for path in (options.tls_cert, options.tls_key):
                open(path, "rb").close()  # its error names the file, unlike the one below
            context.load_cert_chain(options.tls_cert, options.tls_key, password="")  # does not prompt for one
            return context, {}
        import tempfile

        import trustme

        authority = trustme.CA()
        authority.issue_cert(*dict.fromkeys(("localhost", "127.0.0.1", "::1", options.host))).configure_cert(context)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="whmcs-mock-"))
        path = os.path.join(folder, "ca.pem")
        authority.cert_pem.write_to_path(path)
        return context, {"ca": path}


def _block(*numbers: Any) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [number for number in numbers if number])


def _has_terminal() -> bool:
    return bool(sys.stderr and sys.stderr.isatty())


def _facts(facts: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in facts.items()]
