"""The command line over the declared operations (manual, Command Line Interface).

A line is a command (name or short form, in any case of letters) and its parameters: keywords, and objects in the
notation of `formats.data`. How a command is spelled is its declaration, nothing here knows a command by name, but
for HELP. Optional parts are told apart by keyword, then by type: the first reading that takes the whole line, with
earlier parts taken rather than left, is the one that counts.

Codes of refusal: 500 unknown command, 515 syntax, and whatever the operation itself answers.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, NamedTuple

from appliance.formats.data import DataError, Value, parse_prefix
from appliance.kernel.operations import Caller, Operation, OperationError, Operations, Parameter

UNKNOWN_COMMAND = 500
SYNTAX = 515

_COMMAND = re.compile(r"[ \t]*([A-Za-z0-9]+)(?![^ \t])")
_BLANK = re.compile(r"[ \t]*")
# A word that the notation would not take bare, but people and clients write: ~user/folder, user+tag&co@domain.
_WORD = re.compile(r"[^\s\"(){}<>,;]+")
# An address in angle brackets; the name before it, if there is one in quotation marks, belongs to it.
_ANGLE = re.compile(r"<[^<>\s\"]{1,512}>")


class _Form(Enum):
    BARE = auto()
    QUOTED = auto()
    ARRAY = auto()
    DICTIONARY = auto()


class Token(NamedTuple):
    """One thing on the line; only a bare word can be a keyword."""

    form: _Form
    value: Value


class Command(NamedTuple):
    """A line that was understood."""

    operation: Operation
    arguments: dict[str, Any]


class CommandLine:
    """The grammar over a registry of operations. Holds nothing else, so all sessions share one."""

    __slots__ = ("_operations",)

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def parse(self, line: str) -> Command:
        """What a line asks for. Raises OperationError with code 500 or 515."""
        found = _COMMAND.match(line)
        operation = self._operations.find(found[1]) if found else None
        if found is None or operation is None:
            raise OperationError("Unknown command", UNKNOWN_COMMAND)
        try:
            tokens = tokenize(line, found.end())
        except DataError as error:
            raise OperationError(f"Syntax error: {error.problem} at column {error.position + 1}", SYNTAX) from None
        arguments = _match(operation.parameters, 0, tokens, 0)
        if arguments is None:
            raise OperationError(f"Syntax error, the command is: {usage(operation)}", SYNTAX)
        return Command(operation, arguments)

    async def perform(self, caller: Caller, line: str) -> Value | None:
        """Parse a line and do it as `caller`; the data it gives, or None. Raises OperationError."""
        words = line.split(maxsplit=2)
        if words and words[0].upper() == "HELP" and self._operations.find("HELP") is None:
            return self.help(words[1] if len(words) > 1 else None)
        command = self.parse(line)
        return await self._operations.perform(caller, command.operation.name, command.arguments)

    def help(self, name: str | None = None) -> Value:
        """One command's spelling, short forms, purpose and result; or all commands' names by section."""
        if name is None:
            sections: dict[str, Value] = {}
            for operation in self._operations.all():
                names = sections.setdefault(operation.section, [])
                assert isinstance(names, list)
                names.append(operation.name)
            return sections
        found = self._operations.find(name)
        if found is None:
            raise OperationError("Unknown command", UNKNOWN_COMMAND)
        answer: dict[str, Value] = {"Syntax": usage(found)}
        if found.short:
            answer["ShortForms"] = list(found.short)
        if found.summary:
            answer["Summary"] = found.summary
        if found.result:
            answer["Result"] = found.result
        return answer


def usage(operation: Operation) -> str:
    """The spelling of a command for people."""
    parts = [operation.name]
    for parameter in operation.parameters:
        if parameter.kind == "flag":
            part = parameter.keyword
        else:
            part = "|".join(parameter.words) if parameter.kind == "word" else parameter.name
            if parameter.keyword:
                part = f"{parameter.keyword} {part}"
        parts.append(f"[{part}]" if parameter.optional else part)
    return " ".join(parts)


def tokenize(line: str, position: int = 0) -> list[Token]:
    """The words and objects of a line from `position` on. Raises DataError."""
    tokens: list[Token] = []
    while True:
        blank = _BLANK.match(line, position)
        assert blank is not None
        position = blank.end()
        if position >= len(line):
            return tokens
        if address := _ANGLE.match(line, position):
            position = address.end()
            if tokens and tokens[-1].form is _Form.QUOTED:
                name = str(tokens.pop().value).replace("\\", "\\\\").replace('"', '\\"')
                tokens.append(Token(_Form.QUOTED, f'"{name}" {address[0]}'))
            else:
                tokens.append(Token(_Form.QUOTED, address[0]))
            continue
        # "[" begins a data block of the notation, read as a string.
        if line[position] not in '"({[' and (word := _WORD.match(line, position)):
            tokens.append(Token(_Form.BARE, word[0]))
            position = word.end()
            continue
        value, position = parse_prefix(line, position)
        form = _Form.QUOTED if isinstance(value, str) else _Form.ARRAY if isinstance(value, list) else _Form.DICTIONARY
        tokens.append(Token(form, value))


def _match(parameters: tuple[Parameter, ...], index: int, tokens: list[Token], position: int) -> dict[str, Any] | None:
    """The arguments when the parameters from `index` take all tokens from `position`, else None."""
    if index == len(parameters):
        return {} if position == len(tokens) else None
    parameter = parameters[index]
    taken = _take(parameter, tokens, position)
    if taken is not None:
        value, after = taken
        rest = _match(parameters, index + 1, tokens, after)
        if rest is not None:
            return {parameter.argument: value, **rest}
    return _match(parameters, index + 1, tokens, position) if parameter.optional else None


def _take(parameter: Parameter, tokens: list[Token], position: int) -> tuple[Any, int] | None:
    """The value of one parameter and the position behind it, or None if the tokens there are not of its kind."""
    if parameter.keyword:
        if position >= len(tokens) or not _is_word(tokens[position], parameter.keyword):
            return None
        position += 1
        if parameter.kind == "flag":
            return True, position
    if position >= len(tokens):
        return None
    token = tokens[position]
    value = token.value
    match parameter.kind:
        case "string" if isinstance(value, str):
            return value, position + 1
        case "array" if isinstance(value, list):
            return value, position + 1
        case "dictionary" if isinstance(value, dict):
            return value, position + 1
        case "value":
            return value, position + 1
        case "number" if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value), position + 1
        case "word":
            for word in parameter.words:
                if _is_word(token, word):
                    return word, position + 1
    return None


def _is_word(token: Token, word: str) -> bool:
    return token.form is _Form.BARE and isinstance(token.value, str) and token.value.casefold() == word.casefold()
