"""The server's command line as an administrator's script uses it: over the PWD port, each answer on one line."""

from __future__ import annotations

import re
import socket

from tests.interop.processes import LOOPBACK


class Answer(Exception):
    """A command was refused; the text is the answer's line."""


class CommandLine:
    """A session, for the length of a `with`. Raises Answer when the log-in or a command is refused."""

    def __init__(self, port: int, name: str, password: str) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), 20)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self("USER " + name)
        self("PASS " + password)
        self("INLINE")

    def __call__(self, command: str) -> str:
        """The data of the answer, as it stands on the line."""
        self.socket.sendall(command.encode() + b"\r\n")
        line = self.file.readline().decode(errors="replace").rstrip("\r\n")
        if line[:1] not in ("2", "3"):
            raise Answer(line)
        return line[4:]

    def __enter__(self) -> CommandLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


def first_password(settings: str) -> str:
    """The password in the text of an account.settings file."""
    found = re.search(r'\bPassword\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]+)\s*;', settings)
    assert found is not None, settings
    word = found[1]
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
