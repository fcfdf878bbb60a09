"""Serve connections: workers take turns accepting, each response is one write, and stopping is immediate."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import os
import re
import selectors
import socket
import socketserver
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from whmcs_mock.errors import AddressInUseError, ListenError
from whmcs_mock.reader import IDLE_SECONDS, NOT_TLS, REQUEST_SECONDS, Limits, Reader
from whmcs_mock.request import MAX_BODY, Request
from whmcs_mock.response import HTTPError, Response
from whmcs_mock.writer import SOCKET, linger, send

if TYPE_CHECKING:
    import ssl

    from werkzeug.serving import ThreadedWSGIServer


def _import_serving() -> Any:
    """Import only werkzeug.serving, since werkzeug's ``__init__`` also imports its test client and more."""
    if "werkzeug" not in sys.modules and (spec := importlib.util.find_spec("werkzeug")):
        sys.modules["werkzeug"] = importlib.util.module_from_spec(spec)
        try:
            return importlib.import_module("werkzeug.serving")
        finally:
            del sys.modules["werkzeug"]  # a later import gets the complete werkzeug
    return importlib.import_module("werkzeug.serving")


if not TYPE_CHECKING:
    ThreadedWSGIServer = _import_serving().ThreadedWSGIServer

_STOPPING = 1.0  # seconds to wait at the end for answers in progress
_PAUSE = 0.05  # seconds before accepting again when threads or descriptors have run out
_SPARE = 8  # idle workers to keep
_SPARE_SECONDS = 5.0  # seconds to keep more than those

_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


def _listen(host: str, port: int) -> socket.socket:
    # Werkzeug itself prints a message and exits the process if it cannot listen.
    if not 0 <= port <= 65535:
        raise ListenError(f"{port} is not a valid port; write one from 1 to 65535 (0 takes a free one)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not re.fullmatch(r"[0-9.]+|[0-9a-f:]+", host):  # create_server leaves a socket open if the host is invalid
            socket.getaddrinfo(host or None, port, family)
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "another program is listening there" if taken else getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (")[0]  # the message below has the address
        hint = "stop it, or choose another port" if taken else "choose another host or port"
        raise (AddressInUseError if taken else ListenError)(
            f"cannot listen on {host} port {port}: {reason}; {hint} (0 takes a free one)"
        ) from error


def _complain(error: BaseException) -> None:
    print(f"whmcs-mock: {error!r}", file=sys.stderr)  # noqa: T201  # one line, if nothing else handles it


class Listener(ThreadedWSGIServer):
    """Accept connections and serve each in a worker thread; idle workers are used again.

    The workers take turns accepting: a worker that has accepted a connection passes the turn on and
    serves the connection itself, so that no request waits for another thread to wake up.

    Args:
        host: The name or address to listen on.
        port: The port; 0 takes a free one.
        respond: Returns the response to a request.
        tls: Serves https.
        limit: Returns how many bytes the body of a request to a path may have.
        refuse: Turns the plain response to an unreadable request into the one for its path.
        on_mismatch: Called when a client speaks TLS to a plain port or the other way round, or refuses the certificate.
        on_error: Called with an unexpected exception; by default it is written to stderr.
        request_seconds: How long a request may take from its first byte to its last.
        idle_seconds: How long a connection may be idle between two requests.

    Raises:
        AddressInUseError: Another program is listening there.
        ListenError: It is not possible to listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        respond: Callable[[Request], Response],
        *,
        tls: ssl.SSLContext | None = None,
        limit: Callable[[str], int] = lambda _path: MAX_BODY,
        refuse: Callable[[str, Response], Response] = lambda _path, response: response,
        on_mismatch: Callable[[str], None] = lambda _text: None,
        on_error: Callable[[BaseException], None] = _complain,
        request_seconds: float = REQUEST_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.respond, self.tls, self.on_mismatch, self.on_error = respond, tls, on_mismatch, on_error
        self.refuse = refuse
        self.limits = Limits(request_seconds, idle_seconds, limit)
        self._turn = threading.Lock()  # held by the worker that accepts
        self._lock = threading.Lock()
        self._idle = 0  # workers that wait for their turn
        self._workers: set[threading.Thread] = set()
        self._open: set[socket.socket] = set()
        self._stopped = threading.Event()
        self.socket = _listen(host, port)
        # Werkzeug's __init__ is not called, since it binds differently; the lines below set what it would set.
        socketserver.BaseServer.__init__(self, self.socket.getsockname(), None)  # type: ignore[arg-type]  # no handler
        self.host, self.port, self.address_family = host, self.socket.getsockname()[1], self.socket.family
        self.ssl_context, self.passthrough_errors = tls, False
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
        self._waker, self._awakened = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.socket, selectors.EVENT_READ)
        self._selector.register(self._awakened, selectors.EVENT_READ)
        _listeners.add(self)

    # Accepting.

    def serve_forever(self, _poll_interval: float = 0.5) -> None:
        """Serve until shutdown()."""
        while not self._stopped.is_set():
            with contextlib.suppress(RuntimeError):  # no thread available
                self._start_worker()
                break
            self._stopped.wait(_PAUSE)
        self._stopped.wait()

    def _start_worker(self) -> None:
        worker = threading.Thread(target=self._work, daemon=True, name="whmcs-mock-worker")
        with self._lock:  # the worker needs the lock first, so it cannot end before it is counted
            worker.start()
            self._workers.add(worker)
            self._idle += 1

    def _work(self) -> None:
        try:
            while self._take_turn():
                try:
                    accepted = self._accept()
                finally:
                    self._turn.release()
                if accepted:
                    self._serve(*accepted)
                with self._lock:
                    self._idle += 1
        finally:
            with self._lock:
                self._workers.discard(threading.current_thread())

    def _take_turn(self) -> bool:
        """Wait for a turn to accept; return False if this worker should end."""
        while not self._turn.acquire(timeout=_SPARE_SECONDS):
            with self._lock:
                if self._idle > _SPARE:
                    self._idle -= 1
                    return False
        with self._lock:
            self._idle -= 1
        if self._stopped.is_set():
            self._turn.release()
            return False
        return True

    def _accept(self) -> tuple[socket.socket, str] | None:
        """Return the next connection, or None at the end; accept only if another worker can accept after this one."""
        while self._selector.select() and not self._stopped.is_set():
            try:
                if not self._idle:
                    self._start_worker()
                # Not accept(): it creates a socket of a class that tests may block, and would then leak the descriptor.
                descriptor, address = self.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001
                try:
                    return SOCKET(self.socket.family, self.socket.type, self.socket.proto, descriptor), address[0]
                except BaseException:
                    socket.close(descriptor)
                    raise
            except BlockingIOError:
                continue
            except Exception:  # noqa: BLE001  # no thread, descriptor or memory: the connection waits in the queue
                self._stopped.wait(_PAUSE)
        return None

    # Serving.

    def _serve(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            self._open.add(connection)
        current: Any = connection
        try:
            connection.setblocking(True)  # on some systems it inherits this from the listening socket
            if self.tls and not self._stopped.is_set():
                current = self._wrap(connection, self.tls)
                with self._lock:
                    self._open.add(current)
                current.do_handshake()
            self._serve_requests(current, address)
        except (OSError, MemoryError) as error:  # the client disconnected, or stop() closed the connection
            if re.search("ALERT.*(CA|CERT)", getattr(error, "reason", None) or ""):
                self.on_mismatch("a client refused the certificate: does it trust the CA file?")
        except BaseException as error:  # noqa: BLE001  # from a test's own function, or a bug: the worker continues
            self.on_error(error)
        finally:
            current.close()
            with self._lock:
                self._open -= {connection, current}

    def _wrap(self, connection: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        connection.settimeout(self.limits.idle_seconds)
        first = connection.recv(1, socket.MSG_PEEK)
        connection.settimeout(self.limits.request_seconds)  # for the handshake
        if first not in (b"\x16", b""):
            error = HTTPError(400, "Bad request: this port speaks https, not http")
            self.on_mismatch("a client spoke http to this https port")
            send(connection, error.response, keep=False)
            linger(connection)
            raise ConnectionError
        return tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _serve_requests(self, connection: socket.socket, address: str) -> None:
        reader = Reader(connection, address, self.limits, self.host)
        keep = True
        while keep and not self._stopped.is_set():
            request = None
            try:
                if (request := reader.read()) is None:
                    return
                response = self._respond(request)
            except HTTPError as error:
                if self._stopped.is_set():
                    return
                response = self.refuse(reader.path, error.response)
                if error.response.why == NOT_TLS:
                    self.on_mismatch("a client spoke https to this http port")
            keep = request is not None and reader.keep_alive and not response.close
            bare = request is not None and request.method == "HEAD"
            if not send(connection, response, keep=keep, bare=bare):
                return
            if request is None:
                linger(connection)

    def _respond(self, request: Request) -> Response:
        try:
            return self.respond(request)
        except Exception as error:  # noqa: BLE001  # a bug or no memory; it is reported, and the worker continues
            self.on_error(error)
            return Response.plain(500, f"whmcs-mock: internal error: {type(error).__name__}")

    # Stopping.

    def shutdown(self) -> None:
        """Stop accepting, and end every connection and worker."""
        self._stopped.set()
        with contextlib.suppress(OSError):  # closed by a forked child
            self._waker.send(b".")

    def end_connections(self) -> None:
        """Close every connection and the listening socket, and wait for the workers that are still answering."""
        _listeners.discard(self)
        with self._lock:
            connections, workers = list(self._open), list(self._workers)
        for connection in connections:
            with contextlib.suppress(OSError):  # already closed
                SOCKET.shutdown(connection, socket.SHUT_RDWR)  # below TLS
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # it refuses connections, even if a forked child still holds it
        until = time.monotonic() + _STOPPING
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        self.abandon()

    def abandon(self) -> None:
        """Close every socket without notifying the peer, as a forked child must."""
        self._selector.close()
        for one in (self.socket, self._waker, self._awakened, *self._open):
            one.close()


def _abandon_all() -> None:
    """In a forked child, drop what belongs to its parent: sockets, and locks that threads may have held."""
    stopped = threading.Event()
    stopped.set()
    for listener in list(_listeners):
        listener.__dict__.update(_turn=threading.Lock(), _lock=threading.Lock(), _stopped=stopped, _workers=set())
        listener.abandon()
    _listeners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
