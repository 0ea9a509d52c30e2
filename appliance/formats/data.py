"""The notation of settings files, command lines and rules: strings, arrays and dictionaries (manual, Data Formats).

A value is a string, a list of values, or a dictionary of values; numbers, sizes, times and yes/no values are
strings too (see `values`). In memory a line end inside a string is always `\\n`: both `\\e` and `\\n` read as it, and
the writer gives `\\e`, so that a value is the same on every platform. Bytes that are not UTF-8 live as surrogate
escapes and are written as `\\nnn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

Value = str | list["Value"] | dict[str, "Value"]
_Put = Callable[[str], object]

MAX_TEXT: Final = 64 * 1024 * 1024
"""Most characters (or bytes) of one text."""
MAX_DEPTH: Final = 100
"""Deepest nesting of arrays and dictionaries."""


class DataError(ValueError):
    """The text does not follow the notation. `line` and `column` count from 1; `position` is an offset from 0."""

    def __init__(self, problem: str, text: str = "", position: int = 0) -> None:
        self.problem = problem
        self.position = position
        self.line = text.count("\n", 0, position) + 1
        self.column = position - text.rfind("\n", 0, position)
        super().__init__(f"{problem} at line {self.line}, column {self.column}")


# Readers take more letters than writers use: real files and clients hold bare user@domain, test-1, 10.0.0.1.
_ATOM = r"[A-Za-z0-9.\-_@!#%:+~*\x80-\U0010ffff]+"
_PLAIN = r'"[^"\\\x00-\x08\x0a-\x1f]*"'
_ESCAPED = r'"[^"\\\x00-\x08\x0a-\x1f]*(?:\\(?:["\\rnet]|[0-9]{3})[^"\\\x00-\x08\x0a-\x1f]*)+"'
_WS = r"[ \t\r\n]*"

_SPACE = re.compile(_WS)
_TOKEN = re.compile(rf"{_WS}(?:({_ATOM})|({_PLAIN})|({_ESCAPED})|\[([A-Za-z0-9+/= \t\r\n]*)\]|([(){{}}]))")
_WORD = re.compile(rf"{_WS}({_ATOM[:-2]}=]+)")
_NEXT_PART = re.compile(rf"{_WS}(?=\")")
# One match for the usual pair and the usual element: most files are nothing else.
_PAIR = re.compile(rf"{_WS}({_ATOM}|{_PLAIN}){_WS}={_WS}({_ATOM}|{_PLAIN}){_WS};")
_ELEMENT = re.compile(rf"{_WS}({_ATOM}|{_PLAIN}){_WS}([,)])")
_ESCAPE = re.compile(r'\\(["\\rnet]|[0-9]{3})')
_LETTERS: Final = {'"': '"', "\\": "\\", "r": "\r", "n": "\n", "e": "\n", "t": "\t"}
_BLANKS: Final = str.maketrans("", "", " \t\r\n")


class _Reader:
    __slots__ = ("lenient", "text", "warnings")

    def __init__(self, text: str, *, lenient: bool, warnings: list[str] | None) -> None:
        self.text = text
        self.lenient = lenient
        self.warnings = warnings

    def warn(self, problem: str, position: int) -> None:
        if self.warnings is not None:
            self.warnings.append(str(DataError(problem, self.text, position)))

    def unescape(self, body: str, position: int) -> str:
        raw = False

        def symbol(match: re.Match[str]) -> str:
            nonlocal raw
            name = match[1]
            if name in _LETTERS:
                return _LETTERS[name]
            code = int(name)
            if not 0 < code < 256:
                raise DataError(f"symbol code {name} is not allowed", self.text, position)
            if code < 128:
                return chr(code)
            raw = True
            return chr(0xDC00 + code)

        result = _ESCAPE.sub(symbol, body)
        if raw:  # codes above 127 are bytes of UTF-8, possibly several for one character
            with suppress(UnicodeEncodeError):  # a lone surrogate from elsewhere: no bytes to join
                result = result.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        return result

    def quoted(self, match: re.Match[str], position: int, *, join: bool) -> tuple[str, int]:
        """The string of a quoted token; adjacent quoted parts are joined if `join`."""
        token = match[match.lastindex or 0]
        result = token[1:-1] if match.lastindex == 2 else self.unescape(token[1:-1], position)
        end = match.end()
        if not join or not _NEXT_PART.match(self.text, end):
            return result, end
        parts = [result]
        while following := _NEXT_PART.match(self.text, end):
            part = _TOKEN.match(self.text, end)
            if part is None:
                raise self.unexpected(following.end())
            text, end = self.quoted(part, following.end(), join=False)
            parts.append(text)
        return "".join(parts), end

    def value(self, position: int, depth: int, *, join: bool = True) -> tuple[Value, int]:
        match = _TOKEN.match(self.text, position)
        if match is None:
            raise self.unexpected(position)
        kind = match.lastindex
        if kind == 1:
            return match[1], match.end()
        if kind == 2 or kind == 3:
            return self.quoted(match, position, join=join)
        if kind == 4:
            return match[4].translate(_BLANKS), match.end()
        if match[5] in ")}":
            raise self.unexpected(match.end() - 1)
        if depth >= MAX_DEPTH:
            raise DataError(f"more than {MAX_DEPTH} levels", self.text, position)
        if match[5] == "(":
            return self.array(match.end(), depth + 1)
        return self.dictionary(match.end(), depth + 1)

    def array(self, position: int, depth: int) -> tuple[list[Value], int]:
        text = self.text
        result: list[Value] = []
        position = self.skip(position)
        if text.startswith(")", position):
            return result, position + 1
        while True:
            if match := _ELEMENT.match(text, position):
                element = match[1]
                result.append(element[1:-1] if element[0] == '"' else element)
                position = match.end()
                if match[2] == ")":
                    return result, position
                continue
            value, position = self.value(position, depth)
            result.append(value)
            position = self.skip(position)
            if text.startswith(")", position):
                return result, position + 1
            if not text.startswith(",", position):
                raise self.unexpected(position, "',' or ')'")
            position += 1

    def dictionary(self, position: int, depth: int) -> tuple[dict[str, Value], int]:
        text = self.text
        result: dict[str, Value] = {}
        value: Value
        while True:
            if match := _PAIR.match(text, position):
                start = position
                key, value = match[1], match[2]
                if key[0] == '"':
                    key = key[1:-1]
                if value[0] == '"':
                    value = value[1:-1]
                position = match.end()
            else:
                start = position = self.skip(position)
                if text.startswith("}", position):
                    return result, position + 1
                name, position = self.value(position, depth)
                if not isinstance(name, str):
                    raise DataError("a key must be a string", text, start)
                key = name
                position = self.skip(position)
                if not text.startswith("=", position):
                    raise self.unexpected(position, "'='")
                value, position = self.value(position + 1, depth)
                position = self.skip(position)
                if text.startswith(";", position):
                    position += 1
                elif self.lenient and text.startswith("}", position):
                    self.warn("';' is missing", position)
                else:
                    raise self.unexpected(position, "';'")
            if key in result:
                self.warn(f"key {key!r} is repeated, the last value is taken", start)
            result[key] = value

    def skip(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return match.end() if match else position

    def unexpected(self, position: int, wanted: str = "a value") -> DataError:
        position = self.skip(position)
        if position >= len(self.text):
            return DataError(f"the text ends where {wanted} is expected", self.text, position)
        symbol = self.text[position]
        if symbol == '"':
            return DataError("a quoted string is not closed or has a symbol that is not allowed", self.text, position)
        return DataError(f"{symbol!r} stands where {wanted} is expected", self.text, position)


def _decode(data: bytes, *, lenient: bool, warnings: list[str] | None) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not lenient:
            raise DataError("the text is not UTF-8") from error
    if warnings is not None:
        warnings.append("the text is not UTF-8, it is read as Latin-1")
    return data.decode("latin-1")


def parse(text: str | bytes, *, lenient: bool = True, warnings: list[str] | None = None) -> Value:
    """Read one value that fills the whole text.

    Lenient is for files: a missing last `;` and bytes that are not UTF-8 (read as Latin-1) are accepted and reported
    into `warnings`. Strict is for commands: both are refused. Repeated keys are reported, the last one wins.
    At most 64 MB and 100 levels. Raises DataError and nothing else.
    """
    if len(text) > MAX_TEXT:
        raise DataError(f"the text is longer than {MAX_TEXT} bytes")
    if isinstance(text, bytes):
        text = _decode(text, lenient=lenient, warnings=warnings)
    reader = _Reader(text, lenient=lenient, warnings=warnings)
    value, position = reader.value(0, 0)
    position = reader.skip(position)
    if position < len(text):
        raise DataError("there is more after the end of the value", text, position)
    return value


def parse_prefix(text: str, pos: int) -> tuple[Value, int]:
    """Read the value that begins at `pos` (after blanks) and return it with the offset behind it.

    For the parameters of a command: strict, a bare word may hold `=`, and two quoted strings side by side are two
    parameters, so a top-level string is never joined with the next one. Raises DataError.
    """
    if len(text) > MAX_TEXT:
        raise DataError(f"the text is longer than {MAX_TEXT} bytes")
    if match := _WORD.match(text, pos):
        return match[1], match.end()
    return _Reader(text, lenient=False, warnings=None).value(pos, 0, join=False)


_STRICT_ATOM = re.compile(r"[A-Za-z0-9]+")
_SPECIAL = re.compile('["\\\\\x00-\x1f\x7f\ud800-\udfff]')
_NAMES: Final = {'"': '\\"', "\\": "\\\\", "\r": "\\r", "\n": "\\e", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    symbol = match[0]
    if symbol in _NAMES:
        return _NAMES[symbol]
    code = ord(symbol)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code == 0 or code > 255:  # the notation has no NUL, and a lone surrogate is no text
        return "\ufffd"
    return f"\\{code:03d}"


def render_string(text: str) -> str:
    """A string as an atom if it is letters and digits only, else quoted. NUL cannot be written: it becomes U+FFFD."""
    if _STRICT_ATOM.fullmatch(text):
        return text
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(_escape, text)
    return f'"{text}"'


def render(value: Value) -> str:
    """A value on one line, keys sorted: the form of commands and their results. Raises DataError above 100 levels."""
    parts: list[str] = []
    _render(value, parts.append, 0)
    return "".join(parts)


def _render(value: Value, put: _Put, depth: int) -> None:
    if isinstance(value, str):
        put(render_string(value))
        return
    if depth >= MAX_DEPTH:
        raise DataError(f"more than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        put("{")
        for key in sorted(value):
            put(render_string(key))
            put("=")
            _render(value[key], put, depth + 1)
            put(";")
        put("}")
    else:
        put("(")
        for number, element in enumerate(value):
            if number:
                put(",")
            _render(element, put, depth + 1)
        put(")")


def render_file(value: Value) -> str:
    """A value as a file holds it: one pair per line, one space of indent for each level, keys sorted, LF at the end."""
    parts: list[str] = []
    _render_lines(value, parts.append, 0)
    parts.append("\n")
    return "".join(parts)


def _render_lines(value: Value, put: _Put, depth: int) -> None:
    if depth >= MAX_DEPTH and not isinstance(value, str):
        raise DataError(f"more than {MAX_DEPTH} levels")
    if isinstance(value, dict) and value:
        indent = "\n" + " " * (depth + 1)
        put("{")
        for key in sorted(value):
            put(indent)
            put(render_string(key))
            put(" = ")
            _render_lines(value[key], put, depth + 1)
            put(";")
        put("\n" + " " * depth + "}")
    elif isinstance(value, list) and any(isinstance(element, (dict, list)) for element in value):
        indent = "\n" + " " * (depth + 1)
        put("(")
        for number, element in enumerate(value):
            if number:
                put(",")
            put(indent)
            _render_lines(element, put, depth + 1)
        put("\n" + " " * depth + ")")
    else:
        _render(value, put, depth)
