"""Read one YAML file as nodes that know their line and column, straight from the parser's events.

Every scalar stays the text that stands in the file. Anchors, aliases and merge keys work; tags,
endless aliases and deep nesting are refused before they cost anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import yaml
from yaml import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

__all__ = ["Mapping", "Node", "Scalar", "Sequence", "root"]

MAX_DEPTH = 50
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may come without its C extension


class Scalar:
    """Hold one value as it stands in the file; ``plain`` when no quotes are around it."""

    __slots__ = ("column", "line", "plain", "text")

    def __init__(self, text: str, plain: bool, line: int, column: int) -> None:  # noqa: FBT001  # by position: faster
        self.text, self.plain, self.line, self.column = text, plain, line, column


class Sequence:
    """Hold a list of nodes."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.items: list[Node] = []
        self.line, self.column = line, column


class Mapping:
    """Hold a mapping of texts to nodes, each with the node of its key; ``broken`` when the YAML ends within."""

    __slots__ = ("broken", "column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.items: dict[str, tuple[Scalar, Node]] = {}
        self.broken = False
        self.line, self.column = line, column


Node: TypeAlias = "Scalar | Sequence | Mapping | None"  # None: wrong, and reported already
Report: TypeAlias = Callable[[int, int, str], None]


class _Refused(Exception):
    """Stop reading a file in which nothing further can be made out."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.place = line, column


def root(data: bytes, report: Report, streamed: str, take: Callable[[Node], None]) -> Mapping | None:
    """Read the mapping that a file holds; None when there is none to be made out.

    Args:
        data: The content of the file.
        report: Takes each problem as line, column (both from 1) and message.
        streamed: The key of a long list, which is left empty in the mapping.
        take: Takes each item of that list as soon as it is read, so that they never stand in memory together.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        report(*_place(before), f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
        return None
    if found := _FORBIDDEN.search(text):
        place = _place(text[: found.start()])
        report(*place, "this character is not allowed in YAML; remove it, or write it as an escape")
        return None
    composer = _Composer(data, report, streamed, take)
    try:
        return composer.document()
    except _Refused as error:
        report(*min(error.place, _place(text)), str(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        end = _place(text)
        line, column = min((mark.line + 1, mark.column + 1), end) if mark else end
        lines = _BREAK.split(text)
        tab = lines[line - 1][column - 1 : column] == "\t"
        report(line, column, f"this is not YAML: {_explained(error.problem or 'the parser gave up', tab=tab)}")
    except ValueError:  # an escape that names no character, a directive's number without end
        report(
            *composer.place, "this is not YAML: something below cannot be read; look at escapes, tags and directives"
        )
    return composer.root


_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _place(before: str) -> tuple[int, int]:
    """Return the line and column that follow a text, with the line breaks of YAML 1.1."""
    lines = _BREAK.split(before)
    return len(lines), len(lines[-1]) + 1


def _explained(problem: str, *, tab: bool) -> str:
    problem = problem.partition("'!")[0]  # a tag's name may be a badly written secret
    if "cannot start any token" in problem:
        return f"{problem}; {'indent with spaces instead of tabs' if tab else 'put the value in quotes'}"
    if "mapping values are not allowed" in problem:
        return f'{problem}; put a text that holds ": " in quotes, or mend the indentation'
    return f"{problem}; look at the quotes, brackets and indentation here and above; a text with # in it needs quotes"


class _Composer:
    def __init__(self, data: bytes, report: Report, streamed: str, take: Callable[[Node], None]) -> None:
        self._streamed, self._take = streamed, take
        self._section = ""  # the key at the top level that is being read
        self.place = 1, 1
        self.root: Mapping | None = None  # what is read of it so far
        self._broken: Node = None  # what was being read when the YAML ended too early
        self._next: Callable[[], Any] = _LOADER(data).get_event
        self._report = report
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._deepest = 0  # the deepest level reached since it was last looked at
        self._read = 0  # nodes that stand in the file
        self._repeated = 0  # nodes that aliases stand for

    def document(self) -> Mapping:
        self._next()
        event = self._next()
        if type(event) is not DocumentStartEvent:
            raise _Refused(1, 1, "the file is empty; write clients: with a list of clients below it")
        event = self._next()
        if type(event) is not MappingStartEvent:
            empty = type(event) is ScalarEvent and not event.value
            what = "the document is empty" if empty else "the file does not hold a mapping"
            raise _Refused(*_mark(event), f"{what}; write clients: with a list of clients below it")
        node = self._mapping(event, 1)
        self._tag(event)
        self._next()
        event = self._next()
        if type(event) is not StreamEndEvent:
            self._report(*_mark(event), "a second document begins here; put it into a file of its own")
        return node

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        self._read += 1
        if kind is ScalarEvent:
            mark = event.start_mark
            node: Node = Scalar(event.value, not event.style, mark.line + 1, mark.column + 1)
            if event.anchor:
                self._anchors[event.anchor] = node, 1, 0
            return None if event.tag and self._tag(event) else node
        if kind is AliasEvent:
            return self._alias(event, depth)
        self._deepest = max(self._deepest, depth)
        if depth > MAX_DEPTH:
            raise _Refused(*_mark(event), f"this is nested more than {MAX_DEPTH} levels deep; write it flatter")
        before = self._read + self._repeated
        if event.anchor:
            self._anchors[event.anchor] = None, -1, 0
            outer, self._deepest = self._deepest, depth
        node = self._sequence(event, depth) if kind is SequenceStartEvent else self._mapping(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = node, self._read + self._repeated - before + 1, self._deepest - depth
            self._deepest = max(outer, self._deepest)
        return None if event.tag and self._tag(event) else node

    def _sequence(self, start: Any, depth: int) -> Sequence:
        node = Sequence(*_mark(start))
        streams = depth == 2 and self._section == self._streamed and not start.anchor
        add = self._take if streams else node.items.append
        try:
            while type(event := self._next()) is not SequenceEndEvent:
                add(self._node(event, depth + 1))
        except yaml.YAMLError:
            if self._broken is not None:
                add(self._broken)
            self._broken = node
            raise
        return node

    def _mapping(self, start: Any, depth: int) -> Mapping:
        node = Mapping(*_mark(start))
        self.root = self.root or node
        self.place = node.line, node.column
        items, next_event, read = node.items, self._next, self._node
        key: Scalar | None = None
        try:
            while type(event := next_event()) is not MappingEndEvent:
                key = self._key(read(event, depth + 1), event)
                if depth == 1:
                    self._section = key.text if key else ""
                value = read(next_event(), depth + 1)
                if key is not None and (key.text not in items or self._is_new(key, node)):
                    items[key.text] = key, value
        except yaml.YAMLError:
            if key is not None and self._broken is not None:
                items.setdefault(key.text, (key, self._broken))
            node.broken = True
            self._broken = node
            raise
        if "<<" in items and items["<<"][0].plain:
            for source in self._sources(items.pop("<<")[1]):
                for text, pair in source.items.items():
                    items.setdefault(text, pair)
        return node

    def _key(self, node: Node, event: Any) -> Scalar | None:
        if type(node) is Scalar:
            return Scalar(node.text, node.plain, *_mark(event)) if type(event) is AliasEvent else node
        if node is not None:
            self._report(*_mark(event), "a key must be one word of text; a list or mapping cannot be a key")
        return None

    def _is_new(self, key: Scalar, mapping: Mapping) -> bool:
        if (first := mapping.items.get(key.text)) is None:
            return True
        self._report(key.line, key.column, f"this key stands in line {first[0].line} already; keep one of the two")
        return False

    def _sources(self, value: Node) -> list[Mapping]:
        sources = value.items if isinstance(value, Sequence) else [value]
        for source in sources:
            if source is not None and not isinstance(source, Mapping):
                self._report(
                    source.line, source.column, "<< merges a mapping, or a list of mappings; write <<: *anchor"
                )
        return [source for source in sources if isinstance(source, Mapping)]

    def _alias(self, event: Any, depth: int) -> Node:
        if event.anchor not in self._anchors:
            self._report(*_mark(event), "no anchor of that name stands above; put a text that begins with * in quotes")
            return None
        node, weight, height = self._anchors[event.anchor]
        self._deepest = max(self._deepest, depth + height)
        if depth + height > MAX_DEPTH:
            raise _Refused(
                *_mark(event), f"with this alias it is nested more than {MAX_DEPTH} levels deep; write it flatter"
            )
        if weight < 0:
            raise _Refused(*_mark(event), "this alias stands inside its own anchor; write the value out")
        self._repeated += weight
        if self._repeated > 100_000 + 4 * self._read:
            raise _Refused(
                *_mark(event),
                "the aliases up to here stand for far more than the file holds; write less with them",
            )
        return node

    def _tag(self, event: Any) -> bool:
        if event.tag:
            self._report(
                *_mark(event),
                "tags are not allowed, every scalar is read as text; remove the tag, or put a text that begins with ! in quotes",
            )
        return bool(event.tag)


def _mark(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
