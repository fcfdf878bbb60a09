r"""Run the snippets of README.md and docs/*.md, and check that each one does what it shows.

A document is split into sections: the part before the first ``## `` heading, and the part below each one. A section
is one test. Its snippets run from top to bottom in one new folder, and whatever they start is stopped at the end.
The sections of README.md start in a copy of the project, as for its reader; those of docs/ in an empty folder with a
copy of ``fixtures/``. The port 8421 is replaced by a free one.

The language of a fenced block determines what is done with it:

``console``
    Each ``$ command`` is run by bash; one that ends in a backslash continues on the next line, as it does on
    lines that begin with ``>``. The lines below it are the expected output, with ``...`` for any text; without
    such lines any output is accepted.
``python``
    Run by pytest if it contains a ``def test_``, together with the adjacent snippets unless it defines a
    session-scoped fixture; otherwise as a script.
``yaml``
    Loaded as fixtures if it contains a key of a fixture file, such as ``clients:``.
``text``, ``json``, ``xml``, ``toml``, ``ini`` and none
    Only shown.

Any other language requires a comment on the lines before the block, and every block may have some:

``<!-- file: tests/credits.yaml -->``
    The block is first written to that file; Python tests are still run, scripts are not.
``<!-- shows: examples/shell/test.sh -->``
    The block is part of that file, as whole lines; the file is tested elsewhere.
``<!-- exit code: 1 -->``
    The last command of the block exits with that code instead of 0.
``<!-- keeps running -->``
    The last command of the block is a server: it keeps running once it has printed what is shown.
``<!-- not run: it needs a WHMCS -->``
    The block is skipped, for that reason.
``<!-- needs: responses -->``
    The block is skipped if that package is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import pytest

from whmcs_mock import FixtureError, load_fixtures
from whmcs_mock.fixtures.schema import FILE, RECORDS
from whmcs_mock.fixtures.shapes import ListOf, Record
from whmcs_mock.ledger import FAULTS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

HEADING_OR_BLOCK = re.compile(
    r"^##[ ](?P<heading>.+)$"
    r"|(?P<marks>(?:^[ ]*<!--.*-->[ ]*\n\s*)*)"
    r"^(?P<indent>[ ]*)(?P<fence>`{3,})(?P<language>\w*).*\n(?P<text>(?s:.*?))^[ ]*(?P=fence)[ ]*$",
    re.MULTILINE,
)
MARK = re.compile(r"<!-- (file|shows|exit code|keeps running|not run|needs)(?:: (.*?))? -->")
SHOWN_ONLY = ("", "text", "json", "xml", "toml", "ini")
#: The plugins to load for snippets that contain a given text; loading all installed ones takes a second each time.
PLUGINS = {"": "whmcs_mock", "asyncio": "asyncio", "httpserver": "pytest_httpserver", "pytest_socket": "pytest_socket"}
PATIENCE = 120  # seconds allowed for one snippet, which may install something


@dataclass(frozen=True)
class Snippet:
    place: str
    language: str
    text: str
    marks: dict[str, str]

    @property
    def test(self) -> str:
        """Return the name of the snippet's test file, which includes the line number."""
        return f"test_line_{self.place.rpartition(':')[2]}.py"

    def fail(self, complaint: str) -> NoReturn:
        pytest.fail(f"{self.place}: {complaint}", pytrace=False)


@dataclass(frozen=True)
class Section:
    name: str
    snippets: list[Snippet]


def sections(name: str, text: str) -> Iterator[Section]:
    section = Section(name, [])
    for found in HEADING_OR_BLOCK.finditer(text):
        if found["heading"]:
            yield section
            section = Section(f"{name}: {found['heading']}", [])
        else:
            lines = found["text"].splitlines(keepends=True)
            snippet = Snippet(
                place=f"{name}:{text.count(chr(10), 0, found.start('text')) + 1}",
                language=found["language"],
                text="".join(line.removeprefix(found["indent"]) for line in lines),
                marks=dict(MARK.findall(found["marks"])),
            )
            section.snippets.append(snippet)
    yield section


class Reader:
    """Do what the reader of one section would do, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ours = {"PATH": path, "NO_COLOR": "1", "COLUMNS": "100"}
        ours |= {
            "WHMCS_MOCK_PORT": self.port,
            "CURL_HOME": str(folder.parent),
            "PIP_NO_COMPILE": "0",
        }  # pip: yes
        (folder.parent / ".curlrc").write_text("silent\nshow-error\n")  # like curl on a terminal
        ours |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        theirs = ("PYTEST", "WHMCS_MOCK", "FORCE_COLOR", "PY_COLORS")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(theirs)} | ours
        self.servers = ExitStack()
        self.tests: list[Snippet] = []  # tests to be run together, since pytest takes a second to start

    def follow(self, section: Section) -> None:
        with self.servers:
            for snippet in section.snippets:
                if "shows" in snippet.marks:
                    check_shown(snippet)
                elif "not run" not in snippet.marks and is_installed(snippet.marks.get("needs", "pytest")):
                    self.use(snippet, snippet.text.replace("8421", self.port))
            self.test()

    def use(self, snippet: Snippet, text: str) -> None:
        file = snippet.marks.get("file")
        tested = snippet.language == "python" and "def test_" in text
        alone = bool(snippet.marks) or 'scope="session"' in text
        if alone or not (tested or snippet.language in ("yaml", *SHOWN_ONLY)):
            self.test()
        path = self.folder / (file or (snippet.test if tested else f"snippet.{snippet.language}"))
        if file or snippet.language in ("python", "yaml"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if snippet.language == "console":
            self.console(snippet, text)
        elif tested:
            self.tests.append(snippet)
            if alone:
                self.test()
        elif snippet.language == "python" and not file:
            self.check_exit(snippet, *self.run(snippet, sys.executable, str(path)))
        elif snippet.language == "yaml":
            if re.search(f"^({'|'.join(FILE.fields)}):", text, re.MULTILINE):
                load(snippet, path)
        elif not file and snippet.language not in SHOWN_ONLY:
            snippet.fail(f"no one runs {snippet.language}: mark it as not run, or as a file")

    def test(self) -> None:
        """Run the collected tests."""
        if self.tests:
            unset = ("env", "-u", "WHMCS_MOCK_PORT")  # a server may already use that port
            texts = "".join(snippet.text for snippet in self.tests)
            named = [word for text, name in PLUGINS.items() if text in texts for word in ("-p", name)]
            files = [snippet.marks.get("file", snippet.test) for snippet in self.tests]
            command = (*unset, sys.executable, "-m", "pytest", "-q", *named, *files)
            snippet = self.tests[-1]
            self.tests.clear()
            self.check_exit(snippet, *self.run(snippet, *command))

    def console(self, snippet: Snippet, text: str) -> None:
        before, *commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
        if before.strip() or not commands:
            snippet.fail("a console begins with $ and a command")
        for number, command in enumerate(commands, 1):
            line, shown = re.fullmatch(r"((?:.*\\\n)*.*\n(?:>.*\n)*)((?s:.*))", command).groups()  # type: ignore[union-attr]  # always matches
            line = re.sub("^> ?", "", line, flags=re.MULTILINE)
            last = number == len(commands)
            if last and "keeps running" in snippet.marks:
                self.servers.enter_context(self.serving(snippet, line, shown))
                return
            code, output = self.run(snippet, "bash", "-c", line)
            if shown and not pattern(shown).fullmatch(output.strip()):
                snippet.fail(f"{line}should print\n{shown}and printed\n{output}")
            self.check_exit(snippet, code, output, last=last)

    def run(self, snippet: Snippet, *command: str) -> tuple[int, str]:
        with self.started(*command, stdout=subprocess.PIPE) as process:
            try:
                output = process.communicate(timeout=PATIENCE)[0].decode()
            except subprocess.TimeoutExpired:
                snippet.fail(f"{command[-1]}does not end: mark it as one that keeps running")
            return process.returncode, output

    def check_exit(self, snippet: Snippet, code: int, output: str, *, last: bool = True) -> None:
        expected = int(snippet.marks.get("exit code", 0)) if last else 0
        if code != expected:
            snippet.fail(f"exit code {code} instead of {expected}, after\n{output}")

    @contextmanager
    def serving(self, snippet: Snippet, line: str, shown: str) -> Iterator[None]:
        log = self.folder.with_suffix(".log")
        with log.open("wb") as stdout, self.started("bash", "-c", line, stdout=stdout) as server:
            until = time.monotonic() + PATIENCE
            while not pattern(shown).search(output := log.read_text("utf-8")):
                if server.poll() is not None or time.monotonic() > until:
                    snippet.fail(f"{line}should print\n{shown}go on, and printed\n{output}")
                time.sleep(0.02)
            yield

    @contextmanager
    def started(self, *command: str, stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command, and stop it with all processes that it started."""
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pattern(shown: str) -> re.Pattern[str]:
    return re.compile(re.escape(shown.strip()).replace(r"\.\.\.", ".*?"), re.DOTALL)


def check_shown(snippet: Snippet) -> None:
    path = (ROOT / snippet.place.partition(":")[0]).parent / snippet.marks["shows"]
    if not path.is_file():
        snippet.fail(f"there is no {path}")
    if f"\n{snippet.text}" not in f"\n{path.read_text('utf-8')}":
        snippet.fail(f"this does not stand in {path}")


def load(snippet: Snippet, path: Path) -> None:
    try:
        load_fixtures(path)
    except FixtureError as error:
        snippet.fail(f"these are no fixtures\n{error}")


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Return a reader in a folder with the project's fixtures."""
    folder = tmp_path / "folder"
    shutil.copytree(ROOT / "fixtures", folder / "fixtures")
    return Reader(folder)


needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="the snippets are written for a POSIX shell")


@needs_bash
@pytest.mark.parametrize(
    "section",
    [
        section
        for document in DOCUMENTS
        for section in sections(document.relative_to(ROOT).as_posix(), document.read_text("utf-8"))
        if section.snippets
    ],
    ids=lambda section: section.name,
)
def test_snippets(section: Section, reader: Reader) -> None:
    """The snippets of a section do what they show."""
    if section.name.startswith("README.md"):
        unneeded = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "bench", "build", "dist")
        shutil.copytree(ROOT, reader.folder, ignore=unneeded, dirs_exist_ok=True)
        (reader.folder / "pytest.ini").touch()  # hides the pytest settings in pyproject.toml
    reader.follow(section)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document: Path) -> None:
    """A relative link leads to an existing file, and to a heading in it."""
    text = re.sub(r"^( *)(`{3,})(?s:.*?)^ *\2", "", document.read_text("utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" not in path:
            file = document.parent / path if path else document
            assert file.exists(), f"{document.name} links to {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE) if anchor else []
            anchors = [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, f"{document.name} links to {target}"


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_first_screen() -> None:
    """The README has at most 200 lines, and links to every document."""
    readme = text_of("README.md")
    assert len(readme.splitlines()) <= 200
    for document in DOCUMENTS[1:]:
        assert document.name == "README.md" or f"]({document.relative_to(ROOT).as_posix()})" in readme, document


def reference(record: Record) -> str:
    """Return the table of a record's keys as it is in docs/fixtures.md."""
    lines = ["| Key | Type | Example | Default | |", "| --- | --- | --- | --- | --- |"]
    for name, field in record.fields.items():
        item = field.shape.item if isinstance(field.shape, ListOf) else field.shape
        kind = field.shape.type
        if isinstance(item, Record):
            kind = f"[{kind}](#{item.name.replace(' ', '-')})"
        others = [group[0] for group in record.either if name not in group]
        default = "required" if field.required else field.default or "-"
        if others and any(name in group for group in record.either):
            default = f"required unless `{others[0]}` is given"
        lines.append(f"| `{name}` | {kind} | `{field.example}` | {default} | {field.note} |")
    return "\n".join(lines)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_keys_of_fixture_files(record: Record) -> None:
    """docs/fixtures.md documents every key of a fixture file as the loader defines it."""
    heading = f"## {record.name[0].upper()}{record.name[1:]}\n"
    _, _, section = text_of("docs/fixtures.md").partition(heading)
    assert section.strip().partition("\n\n")[0] == reference(record)


def test_magic_clients() -> None:
    """The magic clients in docs/fixtures.md match fixtures/faults.yaml, with one for each fault."""
    rows = re.findall(r"^\| (9\d+) \| `([\w-]+)` \|", text_of("docs/fixtures.md"), re.MULTILINE)
    rules = load_fixtures(ROOT / "fixtures" / "faults.yaml").faults
    assert rows == [(str(rule.clientid), rule.fault) for rule in rules]
    assert sorted(fault for _, fault in rows) == sorted(FAULTS)


def test_picture_of_a_report() -> None:
    """The picture in the README shows the calls as a failed test prints them."""
    make_report = runpy.run_path(str(ROOT / "docs" / "images" / "make_report.py"))

    def calls(image: str) -> str:
        text: str = make_report["text_of"](image)
        return text.partition("calls in this test")[2].partition("====")[0]

    assert calls(text_of("docs/images/report.svg")) == calls(make_report["draw"](make_report["run"]()))


def test_security_promises() -> None:
    """Every promise in SECURITY.md names existing tests."""
    rows = re.findall(r"^\| (?!-|Promise)(.*) \|$", text_of("SECURITY.md"), re.MULTILINE)
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            assert re.search(rf"^def {name}\(", text_of(path), re.MULTILINE), name


SAMPLE = """\
<!-- not run: there is no such program -->
```console
$ no-such-program
```

```console
$ echo one; \\
  echo two
one
two
$ echo "$(date) three"
... three
$ cat <<END
> four
>   five
> END
four
  five
```
<!-- shows: LICENSE -->
```php
MIT License
```
<!-- exit code: 1 -->
```console
$ true
$ whmcs-mock check nowhere.yaml
nowhere.yaml:1:1: ...
```

## Files ##

1. Inside a list:

   <!-- file: tests/credits.yaml -->
   ```yaml
   clients:
     - id: 7
   ```

<!-- keeps running -->
```console
$ whmcs-mock serve tests/credits.yaml
whmcs-mock ready http://127.0.0.1:8421/includes/api.php clients=1 credits=0
```
```console
$ curl -d 'action=GetCredits' -d clientid=7 http://127.0.0.1:8421/includes/api.php
{
    "result": "success",
    "totalresults": "0",
    "clientid": "7"
}
```
```python
import urllib.request

## no heading
with urllib.request.urlopen("http://127.0.0.1:8421/includes/api.php?action=GetCredits&clientid=7") as answer:
    assert answer.status == 200
```
<!-- file: conftest.py -->
```python
import pytest


@pytest.fixture(scope="session")
def whmcs_mock_fixtures():
    return ["tests/credits.yaml"]
```
```python
def test_clients(whmcs_mock):
    assert whmcs_mock.credits(7) == []
```
<!-- file: test_of_readers.py -->
<!-- exit code: 1 -->
```python
def test_that_fails(whmcs_mock):
    assert whmcs_mock.balance(7) == 1
```
"""


@needs_bash
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_sample(reader: Reader) -> None:
    """Every kind of snippet is run, section by section."""
    first, second = sections("SAMPLE.md", SAMPLE)
    reader.follow(first)
    reader.follow(second)
    assert second.name == "SAMPLE.md: Files ##"
    assert (reader.folder / "tests" / "credits.yaml").read_text() == "clients:\n  - id: 7\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(reader.port)))


@needs_bash
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("```console\n$ echo one\ntwo\n```", "X.md:2: echo one\nshould print\ntwo\nand printed\none"),
        ("```console\n$ echo one two\none\n```", "should print"),
        ("```console\n$ false\n```", "exit code 1 instead of 0"),
        ("```console\n$ false\n$ true\n```", "exit code 1 instead of 0"),
        ("<!-- exit code: 2 -->\n```console\n$ false\n```", "exit code 1 instead of 2"),
        ("```console\necho one\n```", "begins with"),
        ("<!-- keeps running -->\n```console\n$ echo one\ntwo\n```", "should print"),
        ("```python\nassert False\n```", "exit code 1 instead of 0"),
        ("```python\ndef test_it():\n    assert False\n```", "exit code 1 instead of 0"),
        ("```yaml\nclients: 1\n```", "no fixtures\n.*snippet.yaml:1:10"),
        ("<!-- shows: LICENSE -->\n```php\nIT License\n```", "X.md:3: this does not stand in .*LICENSE"),
        ("<!-- shows: nowhere.php -->\n```php\n?\n```", "there is no .*nowhere.php"),
        ("\n```sh\nwhmcs-mock serve\n```", "X.md:3: no one runs sh"),
    ],
)
def test_wrong_snippets(wrong: str, complaint: str, reader: Reader) -> None:
    """A snippet that does not do what it shows fails, and so does one that would not be run."""
    (section,) = sections("X.md", wrong)
    with pytest.raises(pytest.fail.Exception, match=complaint):
        reader.follow(section)
