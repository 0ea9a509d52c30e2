"""What of a message is stored, and the fields that LOCAL puts in front of it.

A stored message has one Return-Path, the first of its fields (RFC 5321, 4.4): those that it came with are taken out. What is
stored must be the same each time it is made, because a start compares it with what was stored before a crash.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from appliance.formats.addresses import quote_local
from appliance.formats.headers import header_end, remove_fields
from appliance.transfer.message import QueuedMessage, Recipient

__all__ = ["LARGE", "added_header", "content_of", "envelope_addresses", "stored_content"]

LARGE: Final = 256 << 10
"""Longer messages go into the account piece by piece."""
_MAX_HEADER: Final = 2 << 20
_RETURN_PATH: Final = b"return-path"
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")
_LINE: Final = 70


def stored_content(data: bytes) -> bytes:
    """The message, store form, without its old Return-Path fields."""
    if _RETURN_PATH not in data[: header_end(data)].lower():
        return data
    return remove_fields(data, (_RETURN_PATH,))


def added_header(message: QueuedMessage, return_path: bytes, field: str, addresses: Sequence[str]) -> bytes:
    """The lines in front: Return-Path, the envelope-recipients field if there are addresses for it, server rules' fields."""
    lines = b"Return-Path: <%s>\n" % return_path
    if addresses and _FIELD_NAME.fullmatch(field):
        lines += f"{field}: {_list(addresses)}\n".encode("utf-8", "surrogateescape")
    return lines + message.added_header


def _list(addresses: Sequence[str]) -> str:
    """Separated by commas, folded before the lines get long (RFC 5322, 2.1.1)."""
    parts: list[str] = []
    length = 0
    for address in addresses:
        if parts:
            length += len(address) + 2
            parts.append(", " if length < _LINE else ",\n ")
            length = length if length < _LINE else len(address)
        else:
            length = len(address)
        parts.append(address)
    return "".join(parts)


def envelope_addresses(recipients: Sequence[Recipient], unified: bool) -> list[str]:
    """What the envelope-recipients field tells: of a unified account the local parts, else the whole addresses; each once."""
    found: dict[str, None] = {}
    for recipient in recipients:
        if unified and recipient.route is not None:
            found[quote_local(recipient.route.address)] = None
        else:
            found[recipient.address] = None
    return list(found)


async def content_of(message: QueuedMessage) -> bytes | Callable[[], AsyncIterator[bytes]]:
    """What is to be stored: all of it, or what gives it in pieces if it is large. OSError."""
    held = message.held
    if held is not None:
        return stored_content(held)
    if message.size <= LARGE:
        return stored_content(await message.content())
    return lambda: _pieces(message)


async def _pieces(message: QueuedMessage) -> AsyncIterator[bytes]:
    header = b""
    complete = False
    async for piece in message.chunks():
        if complete:
            yield piece
            continue
        header += piece
        complete = b"\n\n" in header or len(header) > _MAX_HEADER
        if complete:
            yield stored_content(header)
            header = b""
    if header:
        yield stored_content(header)
