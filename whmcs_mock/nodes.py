"""Read one YAML file as nodes that know their line and column, straight from the parser's events.

Every scalar stays the text that stands in the file. Anchors, aliases and merge keys work; tags,
endless aliases and deep nesting are refused before they cost anything.
"""

from __future__ import annotations

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
from yaml.reader import ReaderError

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
    """Hold a mapping of texts to nodes, each with the node of its key."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.items: dict[str, tuple[Scalar, Node]] = {}
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
        data.decode("utf-8")
        return _Composer(data, report, streamed, take).document()
    except UnicodeDecodeError as error:
        report(*_place(data[: error.start]), f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
    except _Refused as error:
        report(*error.place, str(error))
    except ReaderError as error:
        # The C parser gives an offset in bytes, the Python one in characters.
        offset = int(error.position)
        before = data.decode("utf-8-sig")[:offset].encode() if _LOADER is yaml.SafeLoader else data[:offset]
        report(*_place(before), "this character is not allowed in YAML; remove it, or write it as an escape")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found = data.decode("utf-8-sig").split("\n")[line - 1 : line]
        tab = bool(found) and found[0][column - 1 : column] == "\t"
        report(line, column, f"this is not YAML: {_explained(error.problem or 'the parser gave up', tab=tab)}")
    return None


def _place(before: bytes) -> tuple[int, int]:
    text = before.decode("utf-8", "replace").removeprefix("\ufeff")
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _explained(problem: str, *, tab: bool) -> str:
    problem = problem.partition("'!")[0]  # a tag's name may be a badly written secret
    if "cannot start any token" in problem:
        return f"{problem}; {'indent with spaces instead of tabs' if tab else 'put the value in quotes'}"
    if "mapping values are not allowed" in problem:
        return f'{problem}; put a text that holds ": " in quotes, or mend the indentation'
    return f"{problem}; look at the quotes, brackets and indentation here and above"


class _Composer:
    def __init__(self, data: bytes, report: Report, streamed: str, take: Callable[[Node], None]) -> None:
        self._streamed, self._take = streamed, take
        self._section = ""  # the key at the top level that is being read
        self._next: Callable[[], Any] = _LOADER(data).get_event
        self._report = report
        self._anchors: dict[str, tuple[Node, int]] = {}
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
                self._anchors[event.anchor] = node, 1
            return None if event.tag and self._tag(event) else node
        if kind is AliasEvent:
            return self._alias(event)
        if depth > MAX_DEPTH:
            raise _Refused(*_mark(event), f"this is nested more than {MAX_DEPTH} levels deep; write it flatter")
        before = self._read + self._repeated
        if event.anchor:
            self._anchors[event.anchor] = None, -1
        node = self._sequence(event, depth) if kind is SequenceStartEvent else self._mapping(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = node, self._read + self._repeated - before + 1
        return None if event.tag and self._tag(event) else node

    def _sequence(self, start: Any, depth: int) -> Sequence:
        node = Sequence(*_mark(start))
        streams = depth == 2 and self._section == self._streamed and not start.anchor
        add = self._take if streams else node.items.append
        while type(event := self._next()) is not SequenceEndEvent:
            add(self._node(event, depth + 1))
        return node

    def _mapping(self, start: Any, depth: int) -> Mapping:
        node = Mapping(*_mark(start))
        items, next_event, read = node.items, self._next, self._node
        merged: list[Mapping] = []
        while type(event := next_event()) is not MappingEndEvent:
            key = self._key(read(event, depth + 1))
            if depth == 1:
                self._section = key.text if key else ""
            value = read(next_event(), depth + 1)
            if key is None:
                continue
            if key.text == "<<" and key.plain:
                merged += self._sources(key, value)
            elif key.text not in items or self._is_new(key, node):
                items[key.text] = key, value
        for source in merged:
            for text, pair in source.items.items():
                node.items.setdefault(text, pair)
        return node

    def _key(self, node: Node) -> Scalar | None:
        if type(node) is Scalar:
            return node
        if node is not None:
            self._report(node.line, node.column, "a key must be one word of text; a list or mapping cannot be a key")
        return None

    def _is_new(self, key: Scalar, mapping: Mapping) -> bool:
        if (first := mapping.items.get(key.text)) is None:
            return True
        self._report(key.line, key.column, f"this key stands in line {first[0].line} already; keep one of the two")
        return False

    def _sources(self, key: Scalar, value: Node) -> list[Mapping]:
        sources = value.items if isinstance(value, Sequence) else [value]
        if not all(source is None or isinstance(source, Mapping) for source in sources):
            self._report(key.line, key.column, "<< merges a mapping, or a list of mappings; write << : *anchor")
        return [source for source in sources if isinstance(source, Mapping)]

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._report(*_mark(event), "no anchor of that name stands above; put a text that begins with * in quotes")
            return None
        node, weight = self._anchors[event.anchor]
        if weight < 0:
            raise _Refused(*_mark(event), "this alias stands inside its own anchor; write the value out")
        self._repeated += weight
        if self._repeated > 100_000 + 20 * self._read:
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
