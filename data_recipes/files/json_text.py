"""JSON text cut into its entries without building them, so that a bad entry costs nothing but itself.

A parser gives up at the first mistake and with it all that follows. Here entries are found by their brackets and
strings alone, each is parsed on its own, and where brackets do not close, the next entry is found again: by the
indentation of the line that it begins, or by the key that all entries begin with. Valid text is always cut as a parser
would. Entries are bounded in size and depth: nested lists take some 30 times the memory of their text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

MAX_BYTES = 16 << 20
"""Longest entry."""
MAX_DEPTH = 100
"""Deepest nesting of an entry."""
CHUNK = 1 << 20
GUESSES = 8
"""So many wrong guesses in a row at where entries end, and every further entry is looked at closely."""

BROKEN_OFF = "expected JSON to its end, got no valid JSON: the file breaks off"
"""Problem of the last piece of a text that ends too soon."""

_TOKEN = re.compile(
    rb'[\[\]{}]|"(?:[^"\\\n]++|\\.)*+("|\n)?', re.DOTALL
)  # a string ends at a line break at the latest
_REST = re.compile(rb'(?:[^"\\\n]++|\\.)*+("|\n)?', re.DOTALL)  # of such a string
_STRING = re.compile(rb'"(?:[^"\\\n]++|\\.)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[\]}]|[^,\]}\n]+")
_FIRST_KEY = re.compile(rb'\{\s*("(?:[^"\\\n]|\\.)*"\s*:)')
_AFTER_OBJECT = re.compile(rb"(?<=\}),\s*\{")
_KEY_BEFORE = re.compile(rb'"(?:[^"\\\n]|\\.)*"\s*:\s*\Z')
_CLOSES = {ord("{"): ord("}"), ord("["): ord("]")}


@dataclass(frozen=True)
class Piece:
    """One entry. at: index or key. line: where it begins, from 1. problem: why `content` is not all of it."""

    at: int | str
    line: int
    content: bytes
    problem: str | None = None


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text. ValueError if it is none, is no UTF-8, or is nested more than MAX_DEPTH deep."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return json.loads(content if isinstance(content, str) else content.decode("utf-8"))


def _depth(content: bytes) -> int:
    depth = deepest = 0
    for match in _TOKEN.finditer(content):
        token = content[match.start()]
        if token in _CLOSES:
            depth += 1
            deepest = max(deepest, depth)
        elif token != ord('"'):
            depth -= 1
    return deepest


def lines(file: IO[bytes]) -> Iterator[Piece]:
    """Lines that are not blank; `at` is the line."""
    number = 0
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        problem = None
        if len(line) > MAX_BYTES and not line.endswith(b"\n"):
            problem = _too_long()
            while (rest := file.readline(MAX_BYTES)) and not rest.endswith(b"\n"):
                pass
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            yield Piece(number, number, b"" if problem else line, problem)


def items(file: IO[bytes]) -> Iterator[Piece]:
    """Elements of a text that is one array; `at` is the index from 0."""
    text = Text(file)
    text.next_byte()
    text.position += 1
    yield from text.items()


def pairs(file: IO[bytes]) -> Iterator[Piece]:
    """Values of a text that is one object; `at` is the key."""
    text = Text(file)
    text.next_byte()
    text.position += 1
    yield from text.pairs()


def values(file: IO[bytes]) -> Iterator[Piece]:
    """Values that follow each other; `at` is the index from 0."""
    text = Text(file)
    index = 0
    while text.next_byte():
        yield text.value(index)
        index += 1


def sections(file: IO[bytes], names: tuple[str, ...]) -> Iterator[tuple[str, Piece]]:
    """(name, element) of the arrays under `names` in a text that is one object, in the text's order."""
    text = Text(file)
    if text.next_byte() != b"{":
        yield "", Piece(0, text.line, b"", "expected a JSON object")
        return
    text.position += 1
    while (byte := text.next_byte()) and byte != b"}":
        key = text.key()
        if key is None:
            yield "", text.garbage(0)
        elif (byte := text.next_byte()) == b"[" and key in names:
            text.position += 1
            for piece in text.items(inner=True):
                yield key, piece
        elif byte:
            text.value(key, keep=False)
    if not byte:
        yield "", Piece("end", text.line, b"", BROKEN_OFF)


def _too_long() -> str:
    return f"expected at most {MAX_BYTES >> 20} MiB in one record, got more"


class Text:
    """A text under way: `buffer` from the last entry on, `position` in it, `line` at the position."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.buffer = file.read(CHUNK).removeprefix(b"\xef\xbb\xbf")
        self.position, self.line = 0, 1
        self._indent: bytes | None = b""  # of the line that the position begins; None: does not begin one
        self._entry: re.Pattern[bytes] | None = None  # how entries begin
        self._array = self._keyed = False  # whether the whole text is one array, one object
        self._guesses = GUESSES

    def _more(self) -> bool:
        """Read on; what lies before the position is dropped."""
        chunk = self._file.read(
            max(CHUNK, len(self.buffer) - self.position)
        )  # a long entry is looked at few times
        self.buffer, self.position = self.buffer[self.position :] + chunk, 0
        return bool(chunk)

    def next_byte(self) -> bytes:
        """Step over white space and commas; the byte there, b"" at the end of the file."""
        skipped = b"\n" if self._indent == b"" and self.line == 1 else b""
        while True:
            rest = self.buffer[self.position : self.position + 4096]
            stripped = rest.lstrip(b" \t\r\n,")
            space = rest[: len(rest) - len(stripped)]
            skipped = (skipped + space)[-4096:]
            self.line += space.count(b"\n")
            self.position += len(space)
            if stripped:
                break
            if self.position >= len(self.buffer) and not self._more():
                return b""
        _, newline, indent = skipped.rpartition(b"\n")
        self._indent = indent if newline and not indent.strip(b" \t") else None
        return stripped[:1]

    def items(self, *, inner: bool = False) -> Iterator[Piece]:
        """Elements up to the array's end; `inner`: more text may follow it."""
        index, self._array = 0, not inner
        while byte := self.next_byte():
            if byte == b"]" and (inner or self._nothing_follows()):
                self.position += 1
                return
            yield self.value(index)
            index += 1
        yield Piece(index, self.line, b"", BROKEN_OFF)

    def pairs(self) -> Iterator[Piece]:
        """Values up to the object's end."""
        last, self._keyed = "", True
        while byte := self.next_byte():
            if byte == b"}" and self._nothing_follows():
                return
            indent = self._indent
            last = self.key() or ""
            if not last or not self.next_byte():
                yield self.garbage(last)
                continue
            self._indent = indent
            yield self.value(last, opens=b'"')
        yield Piece(f"after {last}", self.line, b"", BROKEN_OFF)

    def key(self) -> str | None:
        """Step over a key and its colon; None, and no step, if there is none."""
        while (match := _STRING.match(self.buffer, self.position)) is None or match.end() + 64 > len(
            self.buffer
        ):
            start = self.buffer[self.position :]
            if len(start) > 4096 or not self._more():
                break
        match = _STRING.match(self.buffer, self.position)
        colon = re.compile(rb"\s*:").match(self.buffer, match.end()) if match else None
        if match is None or colon is None:
            return None
        try:
            key = str(json.loads(match.group()))
        except ValueError:
            return None
        self.line += self.buffer.count(b"\n", self.position, colon.end())
        self.position = colon.end()
        return key

    def garbage(self, at: int | str) -> Piece:
        """What stands where a key belongs, up to the next comma or line."""
        piece = self.value(at)
        return Piece(at, piece.line, piece.content, f'expected "key": value, got {piece.content[:60]!r}')

    def value(self, at: int | str, *, opens: bytes = b"{", keep: bool = True) -> Piece:
        """Step over the value at the position. opens: what the line of another entry begins with."""
        line, indent = self.line, self._indent
        if self.buffer[self.position] not in _CLOSES:
            content, problem = self._scalar(), None
        else:
            mark = b"\n" + indent + opens if indent is not None else None
            content, problem = self._bracketed(mark, keep)
        return Piece(at, line, content, problem)

    def _scalar(self) -> bytes:
        """Step over a string, number or word, or over a bracket that closes nothing."""
        string = self.buffer[self.position] == ord('"')
        while True:
            match = (_TOKEN if string else _SCALAR).match(self.buffer, self.position)
            end = match.end() if match else self.position + 1
            whole = match is not None and match.group(1) is not None if string else end < len(self.buffer)
            if whole or end - self.position > MAX_BYTES or not self._more():
                return self._take(min(end, len(self.buffer)))

    def _take(self, end: int) -> bytes:
        """Step to `end`; the bytes on the way."""
        content = self.buffer[self.position : end]
        self.line += content.count(b"\n")
        self.position = end
        return content.strip()

    def _bracketed(self, mark: bytes | None, keep: bool) -> tuple[bytes, str | None]:
        """(content, problem) of an object or array; where it does not close, up to the next entry."""
        if keep and self._guesses and (content := self._guessed(mark)) is not None:
            return content, None
        open_brackets = bytearray()
        scan, dropped, inside = (
            0,
            False,
            False,
        )  # scan: from the position; inside: a string whose beginning is dropped
        while True:
            at = self.position + scan
            match = _REST.match(self.buffer, at) if inside else _TOKEN.search(self.buffer, at)
            string = inside or (match is not None and self.buffer[match.start()] == ord('"'))
            if match is None or (string and match.group(1) is None):
                scan = (match.start() if match else len(self.buffer)) - self.position
                if match is not None and len(self.buffer) - match.start() > MAX_BYTES:
                    inside = dropped = True
                    self._take(len(self.buffer) - (self.buffer[-1] == ord("\\")))
                    scan = 0
                if not self._more():
                    return self._unclosed(mark, dropped)
            else:
                scan, inside = match.end() - self.position, False
                token = self.buffer[match.start()]
                if string:
                    pass
                elif token in _CLOSES:
                    open_brackets.append(_CLOSES[token])
                elif token in open_brackets:
                    while open_brackets.pop() != token:
                        pass
                if not open_brackets:
                    return self._closed(self.position + scan, mark, dropped, keep)
            if scan > MAX_BYTES:
                if keep and not dropped and (cut := self._next_entry(mark)):
                    return self._take(cut).rstrip(b", \t\r\n"), None
                self._take(self.position + scan)
                scan, dropped = 0, True

    def _closed(self, end: int, mark: bytes | None, dropped: bool, keep: bool) -> tuple[bytes, str | None]:
        """An entry whose brackets close. If another seems to begin in it, it may be two, the first one broken."""
        if not keep or dropped:
            self._take(end)
            return b"", _too_long() if keep else None
        if self._array and self.buffer[self.position] == ord("["):
            end = self._own_end(end)
        cut = self.buffer.find(mark, self.position, end) if mark else -1
        if 0 <= cut < end:
            try:
                parse_json(self.buffer[self.position : end])
            except ValueError:
                end = cut
        content = self._take(end).rstrip(b", \t\r\n")
        self._learn(content)
        return content, None

    def _own_end(self, end: int) -> int:
        """Where an array that seems to end at `end` ends: before the next entry, if that bracket is the file's last one."""
        length = end - self.position
        last = self._nothing_follows(length)
        cut = self._next_by_key() if last else -1
        return cut if 0 <= cut < self.position + length else self.position + length

    def _unclosed(self, mark: bytes | None, dropped: bool) -> tuple[bytes, str | None]:
        """An entry that the end of the file cuts off, or one whose brackets do not close."""
        cut = self._next_entry(mark)
        content = self._take(cut or len(self.buffer))
        return (content.rstrip(b", \t\r\n"), None) if cut and not dropped else (b"", BROKEN_OFF)

    def _next_entry(self, mark: bytes | None) -> int | None:
        """Where the text of the entry at the position seems to end, as another begins there; None if none does."""
        at = self.buffer.find(mark, self.position) if mark else -1
        return min((cut for cut in (at, self._next_by_key()) if cut >= 0), default=None)

    def _next_by_key(self) -> int:
        """The next place that holds the key that entries begin with, or -1."""
        match = None
        if self._entry:
            match = self._entry.search(self.buffer, self.position + 1)
        elif first := _FIRST_KEY.match(
            self.buffer, self.position
        ):  # the first entry: what follows an object's end?
            own = re.compile(rb"(?<=\}),\s*\{\s*" + re.escape(first.group(1)))
            match = own.search(self.buffer, self.position + 1)
        if not self._entry and not match:
            match = _AFTER_OBJECT.search(self.buffer, self.position + 1)
        if match and self._keyed:  # the entry's own key belongs to it
            match = _KEY_BEFORE.search(
                self.buffer, max(match.start() - 500, self.position + 1), match.start()
            )
        return match.start() if match else -1

    def _guessed(self, mark: bytes | None) -> bytes | None:
        """The entry at the position, if what stands before the next one is JSON: several times as fast as to look closely."""
        cut = self.buffer.find(mark, self.position) if mark else self._next_by_key()
        if cut < 0:
            return None
        try:
            parse_json(content := self.buffer[self.position : cut].rstrip(b", \t\r\n"))
        except ValueError:
            self._guesses -= 1
            return None
        self._guesses = GUESSES
        self._take(cut)
        self._learn(content)
        return content

    def _learn(self, content: bytes) -> None:
        """Remember how entries begin, from one that is whole."""
        if self._entry is None and (first := _FIRST_KEY.match(content)):
            self._entry = re.compile(rb"\{\s*" + re.escape(first.group(1)))

    def _nothing_follows(self, length: int = 1) -> bool:
        """Whether only white space follows so many bytes after the position."""
        while not self.buffer[self.position + length :].strip():
            if not self._more():
                return True
        return False
