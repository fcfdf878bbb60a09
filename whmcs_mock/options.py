"""Read options of the command and of the pytest plugin; every one can also be set in the environment."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from whmcs_mock.errors import nearest, quote
from whmcs_mock.terminal import say

_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


class UsageError(Exception):
    """Raised for wrong usage; the message says what is wrong."""


class Option(NamedTuple):
    """An option of a command, or a positional argument, whose name is written in upper case.

    Args:
        name: Its name without dashes.
        help: Its purpose, empty to hide it from the help; for an argument, its form in the usage line.
        default: Its value if it is not given anywhere; False or True makes it a flag.
        parse: Returns the value of a text, or raises ``ValueError`` with what is wrong.
        choices: The allowed texts.
        multiple: Whether it may be repeated; in the environment, its values are separated as in PATH.
        variable: The environment variable; by default that of an option is its name with ``WHMCS_MOCK_`` in
            front, and an argument has none.
    """

    name: str
    help: str
    default: Any = None
    parse: Callable[[str], Any] = str
    choices: Sequence[str] | None = None
    multiple: bool = False
    variable: str = ""

    @property
    def key(self) -> str:
        """Return its name as an identifier."""
        return self.name.replace("-", "_").lower()

    @property
    def is_argument(self) -> bool:
        """Return whether it is a positional argument."""
        return self.name.isupper()

    @property
    def is_flag(self) -> bool:
        """Return whether it is true or false."""
        return isinstance(self.default, bool)

    @property
    def place(self) -> str:
        """Return how it is written on the command line."""
        return self.help.strip("[.]") if self.is_argument else f"--{self.name}"

    @property
    def env(self) -> str:
        """Return its environment variable, or an empty string if it has none."""
        return self.variable or ("" if self.is_argument else f"WHMCS_MOCK_{self.key.upper()}")

    def read(self, text: str) -> Any:
        """Return the value of a text; raise ``ValueError`` with what is wrong."""
        if not text:
            raise ValueError("empty; is a shell variable unset?")
        if self.choices and text not in self.choices:
            raise ValueError(f"{quote(text)} is not one of {', '.join(self.choices)}")
        if not self.is_flag:
            return self.parse(text)
        if text.strip().lower() not in _BOOLEANS:
            raise ValueError(f"{quote(text)} is neither true nor false")
        return _BOOLEANS[text.strip().lower()]

    def from_environment(self) -> Any:
        """Return the value from the environment, or the default; raise ``ValueError`` with what is wrong."""
        text = os.environ.get(self.env) if self.env else None
        if not text:
            return () if self.multiple else self.default
        return [self.read(one) for one in text.split(os.pathsep)] if self.multiple else self.read(text)

    def explain(self) -> str:
        """Return its line in the help."""
        if not self.help:
            return argparse.SUPPRESS
        default = "" if self.default is None or self.is_flag else f"; default: {self.default}"
        return f"{self.help} [{self.env}{default}]".replace("%", "%%")


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return a parser for an integer in a range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
            raise ValueError(f"{quote(text)} is not an integer from {least} to {most}")
        return int(text)

    return parse


def seconds(least: float) -> Callable[[str], float]:
    """Return a parser for a number of seconds."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not number >= least:
            raise ValueError(f"expected at least {least:g} seconds, got {quote(text)}")
        return number

    return parse


class Parser(argparse.ArgumentParser):
    """Parses the arguments of a command.

    Args:
        name: The command, as it is called.
        text: Its help.
        options: Its options and positional arguments.
    """

    def __init__(self, name: str, text: str, options: Sequence[Option]) -> None:
        usage = " ".join([name, "[OPTIONS]", *(one.help for one in options if one.is_argument)])
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(
            name, usage=usage, description=text, add_help=False, allow_abbrev=False, formatter_class=layout
        )
        self._options = options
        for one in options:
            if one.is_argument:
                self.add_argument(one.key, nargs="*" if one.multiple else "?", help=argparse.SUPPRESS)
                continue
            if one.is_flag:
                kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction if one.default else "store_true"}
            else:
                shown = "|".join(one.choices) if one.choices else one.key.upper()
                kind = {"action": "append" if one.multiple else "store", "metavar": shown}
            self.add_argument(one.place, dest=one.key, default=None, help=one.explain(), **kind)
        self.add_argument("-h", "--help", action="help", help="Show this message and exit.")

    def read(self, args: Sequence[str]) -> dict[str, Any]:
        """Return the values of all arguments; raise ``UsageError`` if something is wrong."""
        known, unknown = self.parse_known_intermixed_args(args)
        given = vars(known)
        if unknown:
            near = nearest(unknown[0], self._option_string_actions)
            what = "no such option" if unknown[0].startswith("-") else "unexpected argument"
            raise UsageError(f"{what} {quote(unknown[0])}" + (f"; did you mean {near[0]}?" if near else ""))
        return {one.key: self._value(one, given[one.key]) for one in self._options}

    def _value(self, option: Option, given: Any) -> Any:
        is_given = given not in (None, [])
        try:
            if not is_given:
                return option.from_environment()
            if isinstance(given, list):
                return [option.read(text) for text in given]
            return given if isinstance(given, bool) else option.read(given)
        except ValueError as error:
            raise UsageError(f"{option.place if is_given else option.env}: {error}") from None

    def print_help(self, _file: object = None) -> None:
        """Print the help; raise ``OSError`` if that fails, which argparse would hide."""
        say(self.format_help().replace("usage:", "Usage:", 1), end="")

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` for an error that argparse reports."""
        raise UsageError(message)
