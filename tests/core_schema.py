"""Read YAML as the core schema of YAML 1.2 has it, as editors do."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name, filled below


for tag, pattern in {
    "merge": "<<",
    "null": "~|null|",
    "bool": "true|false",
    "int": "[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), None)

_Loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))  # 010 is ten, not eight


def core_schema(text: str | bytes) -> Any:
    """Return what an editor's YAML parser makes of a text."""
    return yaml.load(text, _Loader)
