"""HTTP/1.1 is parsed as strictly as by h11 and llhttp, in pieces of any size and within time limits."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import h11
import httptools
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug import Response
from wire import ENDPOINT, FORM, Answer, Connection, is_plain_line, post

from whmcs_mock import MockServer
from whmcs_mock.reader import IDLE_SECONDS, REQUEST_SECONDS
from whmcs_mock.request import split_target

BODY = b"action=GetCredits&clientid=9"
NOT_FOUND = b'{\n    "result": "error",\n    "message": "Client ID Not Found"\n}'
REFUSALS = (400, 413, 414, 431, 501, 505)
TARGET = ENDPOINT.encode() + b"?" + BODY
LINE = b"GET " + TARGET + b" HTTP/1.1\r\n"
GET = LINE + b"Host: a\r\n"
POST = b"POST " + ENDPOINT.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Type: " + FORM.encode() + b"\r\n"
SIZE = b"%x" % len(BODY)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
MIB = 1024 * 1024
Connect: TypeAlias = Callable[[MockServer], socket.socket]


def old(data: bytes) -> bytes:
    """Change a request to HTTP/1.0."""
    return data.replace(b"HTTP/1.1", b"HTTP/1.0")


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """Start one server for all requests."""
    with MockServer() as server:
        yield server


def exchange(server: MockServer, *pieces: bytes) -> list[Answer]:
    """Send the pieces in order, close the sending side, and return all answers until the connection closes."""
    answers = []
    with Connection(server) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server has already refused it
            for piece in pieces:
                connection.send(piece)
        connection.end()
        while answer := connection.read():
            answers.append(answer)
    return answers


def is_refused(answers: list[Answer]) -> bool:
    """Return whether the last answer is a one-line refusal that closes the connection."""
    return (
        bool(answers)
        and answers[-1].status in REFUSALS
        and answers[-1].headers["connection"] == "close"
        and is_plain_line(answers[-1])
    )


# The two other parsers.


def is_read_by_h11(data: bytes) -> bool:
    """Return whether h11 accepts all of the data."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MIB)
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return True
                connection.start_next_cycle()
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return True
    except h11.RemoteProtocolError:
        return False


def is_read_by_llhttp(data: bytes) -> bool:
    """Return whether llhttp accepts all of the data."""
    try:
        httptools.HttpRequestParser(object()).feed_data(data)
    except httptools.HttpParserUpgrade:
        return True
    except httptools.HttpParserError:
        return False
    return True


METHODS = [b"GET", b"G(T", b"GE T", b"", b"G\0T", b"G\xc9T", b"M-SEARCH", b"QUERY", b'"GET"', b"GET,", b"G\x7fT"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP/1", b"HTTP/11", b"HTTP/1.11", b"http/1.1", b"HTTP /1.1", b""]
VERSIONS += [b"HTTPS/1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/-1.1", b"HTTP/1,1", b"XHTTP/1.1", b"HTTP/1.1 x"]
VERSIONS += [b"HTTP/01.1", b"ICE/1.0", b"HTTP/1.x", b"HTTP/1.1\0"]
TARGETS = [b"/", b"*", b"//", b"http://a/x", b"HTTP://A:80/x?y", b"/a b", b"/a\tb", b"/\0", b"/\x7f", b"/#f", b"/?a#b"]
TARGETS += [b"", b"/%zz", b"/<>", b'/"', b"/{}|\\^`", b"https://a/", b"http://a", b"http://a b/", b"/a\x0bb", b"/\x1f"]
TARGETS += [b"http://[::1]/", b"http://u:p@a/", b"//[x", b"/a\rb"]
NAMES = [
    b"X",
    b"X y",
    b"X ",
    b"X\t",
    b"",
    b"X\0",
    b"X\x7f",
    b"X\xe9",
    b"X(",
    b"X:",
    b"X@",
    b"X!#$%&'*+-.^_`|~",
    b"X\x0b",
]
NAMES += [b'"X"', b"X/", b"X[", b"X{", b"X=", b"X;", b"X,", b"Content Length", b"Content-Length\x0b", b"\0X", b"X\\"]
VALUES = [
    b"",
    b" ",
    b"a\0b",
    b"a\x0bb",
    b"\xff",
    b"\xc3\xa9",
    b"a\tb",
    b"\0",
    b"  a  ",
    b"\t",
    b"a\x0cb",
    b"a\rb",
    b"\r",
]
LENGTHS = [
    b"28",
    b"28 ",
    b" 28",
    b"\t28",
    b"28\t",
    b"28  \t",
    b"028",
    b"+28",
    b"-28",
    b"-1",
    b"",
    b"x",
    b"0x1c",
    b"28.0",
]
LENGTHS += [
    b"28,0",
    b"1e1",
    b"2 8",
    b"\xb2\xb8",
    b"9" * 20,
    b"18446744073709551644",
    b"2_8",
    b"28;a=b",
    b'"28"',
    b"28\0",
]
LENGTHS += [b"28\x0b", b"28\x0c", b"\x0b28", b"28a", b"28\r", b"\xd9\xa1", b"\0", b"2\r8", b",28", b"28,", b"0", b"00"]
CODINGS = [
    b"chunked",
    b"Chunked",
    b"CHUNKED",
    b"chunked ",
    b" chunked",
    b"\tchunked",
    b"chunked, identity",
    b"identity",
]
CODINGS += [b"gzip", b"chunked, gzip", b"chunked, chunked", b"chunked,", b"xchunked", b"chunkedx", b"chunked;a=b"]
CODINGS += [
    b'"chunked"',
    b"chunked\0",
    b"chunked\x0b",
    b"\x0bchunked",
    b"",
    b"cow",
    b"chu nked",
    b"chunked\r",
    b"chunk",
]
CODINGS += [b"chunked x", b"x chunked", b"chunked\x0c", b"chunk\xe9d", b"chunked,chunked"]
SIZES = [
    b"1c",
    b"1C",
    b"01c",
    b"0000000000001c",
    b" 1c",
    b"1c;a",
    b"1c;a=b",
    b'1c;a="b"',
    b"1c ;a",
    b"1c ; a=b",
    b"0x1c",
]
SIZES += [b"+1c", b"-1c", b"", b"g", b"1cg", b"1c\0", b"1c\r", b"1c;a\nb", b"1c,", b"1_c", b"\xb2", b"1c\x0b", b"\n1c"]
SIZES += [
    b"10000000000000000",
    b"f" * 16 + b"1c",
    b"1c:a",
    b"1c#",
    b"1c\xa0",
    b"%1c",
    b"1c;a=b;c",
    b"1c;" + b"x" * 20_000,
]
TRAILERS = [
    b"X: y\r\n",
    b"X: y\r\nZ: a\r\n",
    b"nocolon\r\n",
    b"X : y\r\n",
    b": y\r\n",
    b" X: y\r\n",
    b"X: \0\r\n",
    b"\0: y\r\n",
]
TRAILERS += [b"X: a\rb\r\n", b"GET / HTTP/1.1\r\n", b"Host: b\r\n", b"Connection: close\r\n", b"Content-Length: z\r\n"]
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CASES = {
    **{f"method {method!r}": GET.replace(b"GET", method, 1) + b"\r\n" for method in METHODS},
    **{f"version {text!r}": GET.replace(b"HTTP/1.1", text) + b"\r\n" for text in VERSIONS},
    **{f"target {target!r}": GET.replace(TARGET, target) + b"\r\n" for target in TARGETS},
    **{f"name {name!r}": GET + name + b": y\r\n\r\n" for name in NAMES},
    **{f"value {value!r}": GET + b"X: " + value + b"\r\n\r\n" for value in VALUES},
    **{f"length {text!r}": POST + b"Content-Length: " + text + b"\r\n\r\n" + BODY for text in LENGTHS},
    **{f"coding {text!r}": POST + b"Transfer-Encoding: " + text + b"\r\n\r\n" + CHUNKS for text in CODINGS},
    **{f"size {size[:30]!r}": CHUNKED + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n" for size in SIZES},
    **{f"trailer {text!r}": CHUNKED + CHUNKS[:-2] + text + b"\r\n" for text in TRAILERS},
    "two spaces in a line without a version": b"GET  /\r\n\r\n",
    "tabs in the line": GET.replace(b" ", b"\t", 2) + b"\r\n",
    "a space first": b" " + GET + b"\r\n",
    "NUL first": b"\0" + GET + b"\r\n",
    "junk first": b"xx\r\n" + GET + b"\r\n",
    "From first": b"From " + GET + b"\r\n",
    "a first header that begins From": LINE + b"From x\r\nHost: a\r\n\r\n",
    "a first header that begins >From": LINE + b">From x: y\r\nHost: a\r\n\r\n",
    "a folded first header": LINE + b" X: y\r\nHost: a\r\n\r\n",
    "no colon": GET + b"nocolon\r\n\r\n",
    "no space behind the colon": GET + b"X:y\r\n\r\n",
    "CR alone everywhere": GET.replace(b"\r\n", b"\r") + b"\r",
    "CR alone behind the line": GET.replace(b"\r\n", b"\r", 1) + b"\r\n",
    "CR before Content-Length": POST + b"\r" + LENGTH + b"\r\n" + BODY,
    "CR between two headers": POST + b"X: a\r" + LENGTH + b"\r\n" + BODY,
    "CR before Transfer-Encoding": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "CR CR LF": GET + b"X: y\r\r\n\r\n",
    "CR CR LF at the end": GET + b"\r\r\n",
    "two lengths": POST + LENGTH + b"Content-Length: 1\r\n\r\n" + BODY,
    "two lengths, one with a zero": POST + LENGTH + b"Content-Length: 028\r\n\r\n" + BODY,
    "two lengths, one empty": POST + LENGTH + b"Content-Length:\r\n\r\n" + BODY,
    "a blank before the colon of the length": POST + LENGTH.replace(b":", b" :") + b"\r\n" + BODY,
    "no space before the length": POST + LENGTH.replace(b" ", b"") + b"\r\n" + BODY,
    "a length in lower case": POST + LENGTH.lower() + b"\r\n" + BODY,
    "NUL in the name of the length": POST + b"Content-Length\0: 5\r\n\r\n",
    "Transfer-Encoding twice": CHUNKED.replace(b"Transfer", b"Transfer-Encoding: chunked\r\nTransfer") + CHUNKS,
    "chunked, then gzip": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n" + CHUNKS,
    "chunked, then identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS,
    "chunked, then nothing": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n" + CHUNKS,
    "an empty coding and a length": POST + b"Transfer-Encoding:\r\n" + LENGTH + b"\r\n" + BODY,
    "identity and a length": POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY,
    "a blank before the colon of the coding": CHUNKED.replace(b"Encoding:", b"Encoding :") + CHUNKS,
    "chunks of a GET": GET + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunks of HTTP/1.0": old(CHUNKED) + CHUNKS,
    "no CRLF behind a chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"0\r\n\r\n",
    "LF behind a chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\n0\r\n\r\n",
    "CR behind a chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\r0\r\n\r\n",
    "CR CR LF behind a chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\r\r\n0\r\n\r\n",
    "junk behind a chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"xx\r\n0\r\n\r\n",
    "LF behind a size": CHUNKED + SIZE + b"\n" + BODY + b"\r\n0\r\n\r\n",
    "CR behind a size": CHUNKED + SIZE + b"\r" + BODY + b"\r\n0\r\n\r\n",
    "LF behind the last chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\r\n0\n\n",
    "zeros in the last chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\r\n000\r\n\r\n",
    "an extension of the last chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"\r\n0;a=b\r\n\r\n",
    "two chunks": CHUNKED + b"5\r\n" + BODY[:5] + b"\r\n17\r\n" + BODY[5:] + b"\r\n0\r\n\r\n",
    "only the last chunk": CHUNKED + b"0\r\n\r\n",
    "a request behind a length": POST + LENGTH + b"\r\n" + BODY + GET + b"\r\n",
    "a request behind chunks": CHUNKED + CHUNKS + GET + b"\r\n",
    "junk behind a length": POST + LENGTH + b"\r\n" + BODY + b"junk\r\n\r\n",
    "junk behind chunks": CHUNKED + CHUNKS + b"junk\r\n\r\n",
    "NUL in the Host": LINE + b"Host: a\0\r\n\r\n",
    "an empty Host": LINE + b"Host:\r\n\r\n",
    "an upgrade": GET + UPGRADE + b"\r\n",
    "an upgrade with a length": POST + UPGRADE + LENGTH + b"\r\n" + BODY,
    "an upgrade with chunks": POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "an upgrade to WebSocket": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "bytes": bytes(range(256)) + b"\r\n\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_framing(server: MockServer, data: bytes) -> None:
    """Data that both h11 and llhttp reject is refused, and the connection closed; data that both accept is answered."""
    read = {is_read_by_h11(data), is_read_by_llhttp(data)}
    answers = exchange(server, data)
    if read == {False}:
        assert is_refused(answers)
    elif read == {True}:
        assert answers
        assert not is_refused(answers)
    else:
        assert all(answer.status in (200, 404, 405, *REFUSALS) for answer in answers)


def test_framing_judges() -> None:
    """The two parsers agree on more than 134 of the cases, and both reject more than 100."""
    agreed = [is_read_by_h11(data) for data in CASES.values() if is_read_by_h11(data) is is_read_by_llhttp(data)]
    assert len(agreed) > 134
    assert agreed.count(False) > 100


#: Data that one of the parsers accepts, or that both accept as the beginning of something else.
REFUSED = {
    "Content-Length before chunks": (CHUNKED.replace(b"\r\n\r\n", b"\r\n" + LENGTH + b"\r\n") + CHUNKS, 400),
    "Content-Length behind chunks": (POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    "the same length twice": (POST + LENGTH + LENGTH + b"\r\n" + BODY, 400),
    "a list of lengths": (POST + b"Content-Length: 28, 28\r\n\r\n" + BODY, 400),
    "obs-fold": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "obs-fold by a tab": (GET + b"X: a\r\n\tb\r\n\r\n", 400),
    "obs-fold before a length": (POST + b"Content-Length:\r\n 28\r\n\r\n" + BODY, 400),
    "obs-fold in a trailer": (CHUNKED + CHUNKS[:-2] + b"X: y\r\n z\r\n\r\n", 400),
    "whitespace before the colon": (GET + b"X : y\r\n\r\n", 400),
    "a tab before the colon": (GET + b"X\t: y\r\n\r\n", 400),
    "bare LF everywhere": (GET.replace(b"\r\n", b"\n") + b"\n", 400),
    "bare LF behind the line": (GET.replace(b"\r\n", b"\n", 1) + b"\r\n", 400),
    "bare LF behind a header": (GET + b"X: y\n\r\n", 400),
    "bare LF at the end": (GET + b"\n", 400),
    "bare LF in a trailer": (CHUNKED + CHUNKS[:-2] + b"X: y\n\r\n", 400),
    "bare LF behind the last chunk": (CHUNKED + SIZE + b"\r\n" + BODY + b"\r\n0\n\r\n", 400),
    "blanks behind a size": (CHUNKED + SIZE + b"  \r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "two Hosts": (GET + b"Host: b\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\n\r\n", 400),
    "a version of its own": (b"GET / RTSP/1.0\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "a head that breaks off": (GET, 400),
    "a body that breaks off": (POST + LENGTH + b"\r\n" + BODY[:-1], 400),
    "chunks that break off": (CHUNKED + CHUNKS[:-2], 400),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    "gzip and chunked": (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 501),
    "gzip, chunked of an upgrade": (POST + UPGRADE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (GET.replace(b"/1.1", b"/0.9") + b"\r\n", 505),
    "HTTP/3": (GET.replace(b"/1.1", b"/3.0") + b"\r\n", 505),
    "a proxy": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + GET + b"\r\n", 405),
    "a long target": (b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n\r\n", 414),
    "a long target without an end": (b"GET /" + 70_000 * b"x", 414),
    "a long header": (GET + b"X: " + 66_000 * b"x" + b"\r\n\r\n", 431),
    "long headers": (GET + 7 * (b"X: " + 10_000 * b"x" + b"\r\n") + b"\r\n", 431),
    "a long header without an end": (GET + 70_000 * b"x", 431),
    "101 headers": (LINE + 101 * b"X: y\r\n" + b"\r\n", 431),
    "1,000 headers": (LINE + 1000 * b"X: y\r\n" + b"\r\n", 431),
    "a body that is announced as too large": (POST + b"Content-Length: %d\r\n\r\n" % (MIB + 1), 413),
    "a number that is too large": (POST + b"Content-Length: %s\r\n\r\n" % (5000 * b"9"), 413),
    "chunks that hold nothing": (CHUNKED + 30_000 * b"1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(server: MockServer, data: bytes, status: int) -> None:
    """An ambiguous or oversized request is refused with its status, and nothing after it is read."""
    answers = exchange(server, data)
    assert [answer.status for answer in answers] == [status]
    assert answers[0].headers["connection"] == "close"
    assert is_plain_line(answers[0])


ACCEPTED = {
    "a trailing blank behind the length": (POST + LENGTH.replace(b"\r", b" \r") + b"\r\n" + BODY, True),
    "a length of many zeros": (POST + LENGTH.replace(b" ", b" " + 5000 * b"0") + b"\r\n" + BODY, True),
    "empty lines first": (b"\r\n\r\n" + GET + b"\r\n", True),
    "100 headers": (LINE + 100 * b"X: y\r\n" + b"\r\n", True),
    "a head of nearly 64 KiB": (GET + b"X: " + 65_000 * b"x" + b"\r\n\r\n", True),
    "no Host": (LINE + b"\r\n", True),
    "a Host with a comma": (LINE + b"Host: a,b\r\n\r\n", True),
    "raw UTF-8 in the target": (GET.replace(b"clientid", "é=ö&clientid".encode()) + b"\r\n", True),
    "bytes in the target": (GET.replace(b"clientid", b"x=\xff\xfe&clientid") + b"\r\n", True),
    "an absolute target": (GET.replace(b"/inc", b"http://whmcs.example:8421/inc") + b"\r\n", True),
    "an absolute target in upper case": (GET.replace(b"/inc", b"HTTP://whmcs.example/inc") + b"\r\n", True),
    "an absolute target with UTF-8": (GET.replace(b"/inc", "http://a/é/inc".encode()) + b"\r\n", True),
    "trailers": (CHUNKED + CHUNKS[:-2] + b"X-Checksum: 1\r\n\r\n", True),
    "an upgrade": (GET + UPGRADE + b"\r\n", True),
    "an upgrade with a length": (POST + UPGRADE + LENGTH + b"\r\n" + BODY, True),
    "an upgrade with chunks": (POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
    "an upgrade that closes": (GET + UPGRADE.replace(b"Upgrade,", b"close, Upgrade,") + b"\r\n", False),
    "close": (GET + b"Connection: close\r\n\r\n", False),
    "Close": (GET + b"Connection: Close\r\n\r\n", False),
    "TE, close": (GET + b"TE: deflate,gzip;q=0.3\r\nConnection: TE, close\r\n\r\n", False),
    "close among others": (GET + b"Connection: a ,\tCLOSE ,b\r\n\r\n", False),
    "two Connections": (GET + b"Connection: TE\r\nConnection: close\r\n\r\n", False),
    "two Connections, close first": (GET + b"Connection: close\r\nConnection: keep-alive\r\n\r\n", False),
    "no close": (GET + b"Connection: closed, x-close\r\n\r\n", True),
    "HTTP/1.0": (old(GET) + b"\r\n", False),
    "HTTP/1.0 keep-alive": (old(GET) + b"Connection: Keep-Alive\r\n\r\n", True),
    "HTTP/1.0 with a length": (old(POST) + b"Connection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY, True),
    "HTTP/1.0 with chunks": (old(CHUNKED) + CHUNKS, False),
    "HTTP/1.0 keep-alive with chunks": (
        old(POST) + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        False,  # RFC 9112, 6.1: the framing is faulty, so the connection must be closed
    ),
}


def test_many_empty_lines(server: MockServer) -> None:
    """Empty lines before a request are skipped, however many there are, also one that arrives in two parts."""
    answers = exchange(server, 500_000 * b"\r\n", b"\r", b"\n" + GET + b"\r\n")
    assert [answer.body for answer in answers] == [NOT_FOUND]


@pytest.mark.parametrize("target", [b"http://h?a=1", b"http://h:80/?a=1", b"/?a=1", b"https://h/?a=1#b?c=2"])
def test_absolute_target_without_a_path(target: bytes) -> None:
    """A target that is a whole URL without a path has the path ``/``, and keeps its query."""
    assert split_target(target) == ("/", b"a=1")


@pytest.mark.parametrize(("data", "kept"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(server: MockServer, data: bytes, kept: bool) -> None:
    """An unusual but unambiguous request is answered; only the client or its HTTP version closes the connection."""
    answers = exchange(server, data + GET + b"\r\n")
    assert [(answer.status, answer.body) for answer in answers] == (2 if kept else 1) * [(200, NOT_FOUND)]
    assert answers[0].headers["connection"] == ("keep-alive" if kept else "close")


@pytest.mark.parametrize("method", ["BREW", "post", "get", "FOO!BAR", "M-SEARCH", "PRI", "QUERY", "TRACE", "SOURCE"])
@pytest.mark.parametrize("framing", [LENGTH + b"\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS])
def test_any_method(server: MockServer, method: str, framing: bytes) -> None:
    """Any token is a valid method: an unsupported one gets a 405, and the connection is kept."""
    asked = POST.replace(b"POST", method.encode()) + framing
    answers = exchange(server, asked, asked, GET + b"\r\n")
    assert [answer.status for answer in answers] == [405, 405, 200]
    assert answers[0].headers["allow"] == "GET, POST, HEAD, OPTIONS"


# Pipelining.


@pytest.mark.parametrize(
    "one",
    [
        GET + b"\r\n",
        POST + LENGTH + b"\r\n" + BODY,
        CHUNKED + CHUNKS,
        POST + UPGRADE + LENGTH + b"\r\n" + BODY,
        b"PUT /elsewhere HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY,
        b"BREW" + POST[4:] + LENGTH + b"\r\n" + BODY,
        POST + b"Content-Length: 0\r\n\r\n",
    ],
    ids=["GET", "length", "chunks", "upgrade", "404 with a body", "405 with a body", "400 of the API"],
)
def test_ten_in_one_packet(server: MockServer, one: bytes) -> None:
    """Ten requests in one packet get ten answers, and the request after them is answered as well."""
    answers = exchange(server, 10 * one + GET + b"\r\n")
    assert len(answers) == 11
    assert len({answer.status for answer in answers[:10]}) == 1
    assert answers[10].body == NOT_FOUND


@pytest.mark.parametrize("before", [0, 1, 9])
def test_ten_around_a_413(server: MockServer, before: int) -> None:
    """A 413 closes the connection: requests before it are answered, and data after it is not parsed."""
    large = POST + b"Content-Length: %d\r\n\r\n" % (2 * MIB)
    answers = exchange(server, before * (GET + b"\r\n") + large + (9 - before) * (GET + b"\r\n"))
    assert [answer.status for answer in answers] == before * [200] + [413]
    assert answers[-1].headers["connection"] == "close"


@pytest.mark.parametrize("refused", [GET + b"X : y\r\n\r\n", CHUNKED + b"zz\r\n\r\n", b"junk\r\n\r\n"])
def test_nothing_behind_a_refusal(server: MockServer, refused: bytes) -> None:
    """Requests that follow a refused request are not answered."""
    answers = exchange(server, GET + b"\r\n" + refused + 5 * (GET + b"\r\n"))
    assert [answer.status for answer in answers] == [200, 400]


def test_head_in_a_row(server: MockServer) -> None:
    """An answer to HEAD has no body, so the next answer follows its headers."""
    with Connection(server) as connection:
        connection.send(b"HEAD" + GET[3:] + b"\r\n" + GET + b"\r\n")
        head = connection.read(head_only=True)
        get = connection.read()
    assert head
    assert get
    assert (head.status, head.headers["content-length"]) == (200, get.headers["content-length"])
    assert get.body == NOT_FOUND


# Pieces of any size.

PIECES = {
    "length": 2 * (POST + LENGTH + b"\r\n" + BODY),
    "chunks": 2 * (CHUNKED + b"5;a=b\r\n" + BODY[:5] + b"\r\n17\r\n" + BODY[5:] + b"\r\n0\r\nX: y\r\n\r\n"),
    "empty lines": 2 * (b"\r\n\r\n" + GET + b"\r\n"),
    "blank lines in chunks": CHUNKED + b"24\r\n\r\n\r\n\r\n\r\n" + BODY + b"\r\n0\r\n\r\n" + GET + b"\r\n",
    "an upgrade": POST + UPGRADE + LENGTH + b"\r\n" + BODY + GET + b"\r\n",
    "UTF-8": GET.replace(b"clientid", "é=ö&clientid".encode()) + b"\r\n" + GET + b"\r\n",
    "a 404 with a body": b"BREW /x HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY + GET + b"\r\n",
    "bare LF": GET + b"\r\n" + GET.replace(b"\r\n", b"\n") + b"\n" + GET,
    "a space before the colon": GET + b"\r\n" + GET + b"X : y\r\n\r\n" + GET,
    "an unclear length": POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "a wrong chunk": CHUNKED + SIZE + b"\r\n" + BODY + b"x\r\n0\r\n\r\n",
    "a trailer without a colon": CHUNKED + CHUNKS[:-2] + b"nocolon\r\n\r\n" + GET,
}


def essence(answers: list[Answer]) -> list[tuple[int, str, bytes]]:
    return [(answer.status, answer.headers["connection"], answer.body) for answer in answers]


@pytest.mark.parametrize("data", PIECES.values(), ids=PIECES)
def test_byte_by_byte(server: MockServer, data: bytes) -> None:
    """Requests sent byte by byte get the same answers as those sent at once."""
    assert essence(exchange(server, *(bytes([byte]) for byte in data))) == essence(exchange(server, data))


@pytest.mark.parametrize("data", PIECES.values(), ids=PIECES)
def test_split_anywhere(server: MockServer, data: bytes) -> None:
    """Requests split at any point get the same answers as those sent at once."""
    expected = essence(exchange(server, data))
    for at in range(1, len(data)):
        assert essence(exchange(server, data[:at], data[at:])) == expected


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(CASES.values())), st.lists(st.integers(1, 400), max_size=8))
def test_any_pieces(server: MockServer, data: bytes, splits: list[int]) -> None:
    """Requests in arbitrary pieces are answered or refused like those sent at once."""
    at = [0, *sorted(splits), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(at)]
    assert essence(exchange(server, *pieces)) == essence(exchange(server, data))


# Expect, and large bodies.


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
@pytest.mark.parametrize(
    ("framing", "body"), [(LENGTH, BODY), (b"Transfer-Encoding: chunked\r\n", CHUNKS)], ids=["length", "chunks"]
)
def test_expect(server: MockServer, expect: bytes, framing: bytes, body: bytes) -> None:
    """A client that sends Expect: 100-continue gets a 100 Continue before its body, and the connection is kept."""
    with Connection(server) as connection:
        for _ in range(2):
            connection.send(POST + b"Expect: " + expect + b"\r\n" + framing + b"\r\n")
            assert connection.line() + connection.line() == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert connection.ask(body).body == NOT_FOUND


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + BODY,  # the body has already arrived
        old(POST) + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + BODY,  # RFC 9110, 10.1.1
        GET + b"Expect: 100-continue\r\n\r\n",  # there is no body
        POST + b"Expect: something\r\n" + LENGTH + b"\r\n" + BODY,
    ],
)
def test_expect_nothing(server: MockServer, data: bytes) -> None:
    """No 100 Continue is sent if the body has arrived or there is none, or for HTTP/1.0 or another Expect value."""
    assert [answer.body for answer in exchange(server, data)] == [NOT_FOUND]


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: %d\r\n\r\n" % (MIB + 1),
        POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MIB + 1),
        POST + b"Content-Length: %d\r\n\r\naction=" % 10**18,
        POST + b"Content-Length: %s\r\n\r\n" % (100 * b"9"),
        CHUNKED + b"%x\r\n" % (2 * MIB) + (MIB + 1) * b"x",
        CHUNKED + (MIB + 1) * b"1\r\nx\r\n",
    ],
    ids=["announced", "expecting", "begun", "absurd", "one chunk", "many chunks"],
)
def test_too_large(server: MockServer, data: bytes) -> None:
    """A body over 1 MiB is refused before the client has sent all of it, and the connection is closed."""
    with Connection(server) as connection:
        answer = connection.ask(data)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert is_plain_line(answer)
        connection.end()
        assert connection.line() == b""


# Time limits.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the certificate authority that the tests trust."""
    return trustme.CA()


@pytest.fixture(scope="module", params=["http", "https"])
def context(request: pytest.FixtureRequest, authority: trustme.CA) -> ssl.SSLContext | None:
    """Return the TLS context of the server, or None for http."""
    if request.param == "http":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def connect(authority: trustme.CA) -> Iterator[Callable[[MockServer], socket.socket]]:
    """Return a function that connects to a server, over TLS if the server uses it."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with contextlib.ExitStack() as stack:

        def connect(server: MockServer) -> socket.socket:
            plain = stack.enter_context(socket.create_connection((server.host, server.port), timeout=20))
            if server.ssl_context is None:
                return plain
            return stack.enter_context(trusting.wrap_socket(plain, server_hostname="127.0.0.1"))

        yield connect


def received(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


BEGUN = {
    "half a line": GET[:9],
    "half a head": GET,
    "half a body": POST + LENGTH + b"\r\n" + BODY[:5],
    "half a chunk": CHUNKED + SIZE + b"\r\n" + BODY[:5],
    "no last chunk": CHUNKED + CHUNKS[:-2],
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_stalled(context: ssl.SSLContext | None, connect: Connect, begun: bytes) -> None:
    """A request that is not complete in time gets a 408, and the connection is closed."""
    assert REQUEST_SECONDS == 30
    with MockServer(ssl_context=context, request_seconds=0.1) as server:
        answer = _ask(connect(server), GET + b"\r\n" + begun)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 Request Timeout\r\n" in answer
    assert answer.endswith(b"Connection: close\r\n\r\nRequest timeout: the request was not complete after 0.1 s\n")


def _ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return received(connection)


@pytest.mark.parametrize("start", [GET + b"X: ", POST + b"Content-Length: 1000\r\n\r\n"], ids=["head", "body"])
def test_dripping(context: ssl.SSLContext | None, connect: Connect, start: bytes) -> None:
    """A client that sends single bytes slowly is subject to the same time limit."""
    with MockServer(ssl_context=context, request_seconds=0.2) as server:
        connection = connect(server)
        connection.sendall(start)
        connection.settimeout(0.02)
        for _ in range(900):
            with contextlib.suppress(TimeoutError):
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
                break
            connection.sendall(b"x")
        else:
            pytest.fail("it was never cut off")


@pytest.mark.parametrize("sent", [b"", GET + b"\r\n", b"\r\n"], ids=["new", "kept", "empty line"])
def test_idle(context: ssl.SSLContext | None, connect: Connect, sent: bytes) -> None:
    """A connection without a request is closed silently after the idle time."""
    assert IDLE_SECONDS == 75
    with MockServer(ssl_context=context, idle_seconds=0.1) as server:
        answer = _ask(connect(server), sent)
    assert answer.endswith(NOT_FOUND) if sent.strip() else answer == b""


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["silent", "half a handshake"])
def test_no_handshake(authority: trustme.CA, sent: bytes) -> None:
    """A client that does not complete the TLS handshake is disconnected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with (
        MockServer(ssl_context=context, request_seconds=0.1, idle_seconds=0.1) as server,
        socket.create_connection((server.host, server.port), timeout=20) as connection,
    ):
        assert _ask(connection, sent) == b""


@pytest.mark.parametrize("limits", [(20, 0.15), (0.15, 20)], ids=["idle", "request"])
def test_limits_are_separate(context: ssl.SSLContext | None, connect: Connect, limits: tuple[float, float]) -> None:
    """The time limits for idle connections and for requests are independent."""
    pause, rest = (GET[:9], GET[9:]) if limits[1] < 1 else (b"", GET)
    with MockServer(ssl_context=context, request_seconds=limits[0], idle_seconds=limits[1]) as server:
        connection = connect(server)
        for _ in range(2):
            connection.sendall(pause)
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(20)
            connection.sendall(rest + b"\r\n")
            assert connection.recv(65536).endswith(NOT_FOUND)


def test_slow_answer(context: ssl.SSLContext | None, connect: Connect) -> None:
    """There is no time limit for an answer, which may be slow and large."""
    with MockServer(ssl_context=context, request_seconds=0.1, idle_seconds=0.1) as server:
        size = 3_000_000
        server.expect_request("/large").respond_with_handler(lambda _: _Slow(b"x" * size))
        connection = connect(server)
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        assert received(connection).count(b"x") >= size


class _Slow(Response):
    """A response that takes a moment to create."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        threading.Event().wait(0.4)


# TLS and plain HTTP.


def test_http_to_https(authority: trustme.CA) -> None:
    """Plain HTTP to an https server gets a one-line error, and the mismatch is recorded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with MockServer(ssl_context=context) as server:
        answer = exchange(server, GET + b"\r\n")
        assert [text for _, text in server.mismatches] == ["a client spoke http to this https port"]
    assert is_refused(answer)
    assert b"https" in answer[0].body


def test_https_to_http(server: MockServer) -> None:
    """A TLS handshake with an http server gets a one-line error, and the mismatch is recorded."""
    answer = exchange(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert is_refused(answer)
    assert b"https" in answer[0].body
    assert server.mismatches[-1][1] == "a client spoke https to this http port"
    assert post(server, BODY).body == NOT_FOUND
