"""The programs `mail` and `sendmail`: they put a message into the Submitted folder (manual, chapters 33 and 57).

    mail [-iInv] [-d base] [-s subject] [-f from] [-c cc] [-b bcc] to-addresses
    sendmail [-i] [-t] [-d base] [-f from] [-F name] [-V envid] [-O...] [-o...] [address ...]

The file is complete before it has the name that the server looks for. The server need not run.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Final, NamedTuple

from appliance.formats.compose import text_field
from appliance.formats.encodedwords import encode_mailbox
from firmware.options import DEFAULT_BASE

__all__ = ["main"]

USAGE: Final = 64
CANNOT_CREATE: Final = 73
TEMPORARY: Final = 75
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_PARAMETERS: Final = {"d", "f", "r", "F", "V", "B", "N", "R", "h", "L", "p", "X", "C", "O", "A"}
"""Options of `sendmail` that have a parameter; it may stand in the same word."""


class UsageError(Exception):
    """A wrong command line; the text says what is wrong."""


class Request(NamedTuple):
    """What is to be submitted: where, and the parts of the file."""

    base: str
    parts: list[bytes]


def main(arguments: Sequence[str]) -> int:
    """Submit what stands on the standard input; the first argument is the program's name. The exit status is sysexits'."""
    program, *rest = arguments
    try:
        request = (_mail if program == "mail" else _sendmail)(rest)
    except (UsageError, GetoptError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return USAGE
    folder = os.path.join(request.base, "Submitted")
    name = os.path.join(folder, f"{time.time_ns()}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _write(name, request.parts)
    except OSError as error:
        print(f"{program}: {folder}: {error.strerror}", file=sys.stderr)
        return TEMPORARY if os.path.isdir(folder) else CANNOT_CREATE
    return 0


def _write(name: str, parts: list[bytes]) -> None:
    temporary = name + ".tmp"
    mask = os.umask(0o007)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
        try:
            with open(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name + ".sub")
        except BaseException:
            os.unlink(temporary)
            raise
    finally:
        os.umask(mask)


def _user() -> str:
    """The name of who calls; the server gives it its domain."""
    if sys.platform == "win32":
        return os.environ.get("USERNAME", "user")
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def _field(name: str, value: str) -> bytes:
    """A field as it is; line ends would be fields of their own."""
    line = re.sub("[\r\n\0]+", " ", value).strip()
    return f"{name}: {line}\n".encode("utf-8", "surrogateescape")


def _listed(addresses: Sequence[str]) -> str:
    return ", ".join(part.strip() for word in addresses for part in word.split(",") if part.strip())


# -- mail -------------------------------------------------------------------------------------------------------------


def _mail(words: list[str]) -> Request:
    options, addresses = gnu_getopt(words, "iInvd:s:f:c:b:")
    given = dict(options)
    to = _listed(addresses)
    if not to:
        raise UsageError("usage: mail [-d base] [-s subject] [-f from] [-c cc] [-b bcc] to-addresses")
    parts = [_field("From", given.get("-f") or _user()), _field("To", to)]
    for option, name in (("-c", "Cc"), ("-b", "Bcc")):
        if given.get(option):
            parts.append(_field(name, _listed([given[option]])))
    if given.get("-s"):
        parts.append(text_field("Subject", given["-s"]))
    text = sys.stdin.buffer.read()
    if not text.isascii():
        parts.append(b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n")
    return Request(given.get("-d", DEFAULT_BASE), [*parts, b"\n", text])


# -- sendmail ---------------------------------------------------------------------------------------------------------


class _Sendmail(NamedTuple):
    flags: set[str]
    values: dict[str, str]
    addresses: list[str]


def _options(words: Sequence[str]) -> _Sendmail:
    """Options as callers of forty years write them: unknown ones mean nothing."""
    found = _Sendmail(set(), {}, [])
    left: Iterator[str] = iter(words)
    for word in left:
        if word == "--":
            found.addresses.extend(left)
        elif not word.startswith("-") or word == "-":
            found.addresses.append(word)
        elif word[1] in "oObqQ":
            if word.startswith(("-bs", "-bd", "-bp")):
                raise UsageError(f"{word} is not possible here")
            if word in ("-oi", "-OIgnoreDots=True"):
                found.flags.add("i")
            elif word in ("-O", "-o"):
                next(left, "")
        elif word[1] in _PARAMETERS:
            value = word[2:] or next(left, None)
            if value is None:
                raise UsageError(f"{word} needs a parameter")
            found.values["f" if word[1] == "r" else word[1]] = value
        else:
            found.flags.update(word[1:])
    return found


def _sendmail(words: list[str]) -> Request:
    given = _options(words)
    text = _text(dots="i" not in given.flags)
    addresses = _listed(given.addresses)
    if "t" not in given.flags and not addresses:
        raise UsageError("usage: sendmail [-i] [-t] [-d base] [-f from] [-F name] [-V envid] [address ...]")
    sender = given.values.get("f") or _user()
    parts = [_field("Return-Path", f"<{sender.strip('<> ')}>")]
    if "V" in given.values:
        parts.append(_field("Envelope-ID", given.values["V"]))
    if addresses:
        parts.append(_field("Envelope-Ignore" if "t" in given.flags else "Envelope-To", addresses))
    header = text[: _header_end(text)]
    if not re.search(rb"(?im)^From[ \t]*:", header):
        person = encode_mailbox(given.values.get("F", ""), sender.strip("<> "))
        parts.append(b"From: " + person + b"\n")
    if not header:
        parts.append(b"\n")
    return Request(given.values.get("d", DEFAULT_BASE), [*parts, text])


def _text(*, dots: bool) -> bytes:
    """The standard input; a line with a dot alone ends it if `dots`."""
    lines: list[bytes] = []
    for line in sys.stdin.buffer:
        if dots and line.rstrip(b"\r\n") == b".":
            break
        if not lines and line.startswith(b"From "):
            continue  # of a mailbox file
        lines.append(line)
    return b"".join(lines)


def _header_end(text: bytes) -> int:
    """The end of the header, 0 if the text has none."""
    if not _FIELD.match(text):
        return 0
    match = re.search(rb"\n\r?\n", text)
    return match.end() if match else len(text)
