"""Requests about what is in messages beside their finished texts: fields of headers, decoded parts, previews, identity.

All run beside the account's task and read in disk jobs, at most 500 messages a call.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from appliance.accounts.acl import need, rights_of
from appliance.accounts.box import Box
from appliance.accounts.client import AccountError, unpack
from appliance.accounts.sections import section_path
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.charsets import decode_transfer, is_known_encoding, text_of
from appliance.formats.headers import first_fields, header_end
from appliance.formats.mime import Part, parse_structure
from appliance.formats.wire import to_wire
from appliance.kernel.files import Files
from appliance.mailstore.flags import DELETED
from appliance.mailstore.store import Found, Store

__all__ = ["decoded", "header_fields", "identities", "previews", "totals", "validities"]

MAX_MESSAGES: Final = 500
MAX_FIELD: Final = 16 * 1024
"""Octets of one field that are told."""
PIECE: Final = 256 * 1024
PREVIEW: Final = 200
"""Characters of a preview (RFC 8970, 3.2 allows 256)."""
_HEADER: Final = 64 * 1024
_TEXT: Final = 16 * 1024
_LARGEST: Final = 64 << 20
"""Messages whose parts are decoded."""
_TRIES: Final = 5
_TAGS = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]{0,2000}>", re.I | re.S)
_ENTITIES: Final = {"&nbsp;": " ", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}

_T = TypeVar("_T")


class Decoded:
    """A part without its transfer encoding, kept while it is read piece by piece."""

    __slots__ = ("data", "section", "uid")

    def __init__(self, uid: int, section: str, data: bytes) -> None:
        self.uid = uid
        self.section = section
        self.data = data


async def _each(
    state: State, box: Box, uids: Sequence[int], look: Callable[[Files, Store, Found], _T]
) -> list[tuple[int, _T]]:
    """What `look` says of each message that is still there."""
    if len(uids) > MAX_MESSAGES:
        raise AccountError("LIMIT", "Too many messages in one request")
    for _ in range(_TRIES):
        async with box:
            founds = box.founds(box.table.indices(uids))
            try:
                return await state.shared.disk.run(_look, box.store, founds, look)
            except FileNotFoundError:
                continue
    raise AccountError("TEMPORARY", "The mailbox is being changed")


def _look(
    files: Files, store: Store, founds: list[Found], look: Callable[[Files, Store, Found], _T]
) -> list[tuple[int, _T]]:
    return [(found.uid, look(files, store, found)) for found in founds]


def _begin(files: Files, store: Store, found: Found, limit: int) -> bytes:
    return store.read(files, [found])[0] if found.length <= limit else store.raw(files, found, 0, limit)


async def header_fields(
    state: State, session: Session, number: int, packed: bytes, names: Sequence[str]
) -> list[tuple[int, tuple[bytes | None, ...]]]:
    wanted = [name.lower().encode("ascii", "replace") for name in names]

    def look(files: Files, store: Store, found: Found) -> tuple[bytes | None, ...]:
        content = _begin(files, store, found, _HEADER)
        fields = first_fields(content, 0, header_end(content))
        return tuple(None if (value := fields.get(name)) is None else value[:MAX_FIELD] for name in wanted)

    return await _each(state, session.view(number).box, unpack(packed), look)


async def previews(state: State, session: Session, number: int, packed: bytes) -> list[tuple[int, str]]:
    return await _each(state, session.view(number).box, unpack(packed), _preview)


def _preview(files: Files, store: Store, found: Found) -> str:
    content = _begin(files, store, found, 1 << 20)
    parts = [
        part
        for part in parse_structure(content).walk()
        if part.type.lower() == b"text" and not part.is_multipart and not part.is_message
    ]
    for kind in (b"plain", b"html"):
        for part in parts:
            if part.subtype.lower() == kind:
                text = _plain(content, part, html=kind == b"html")
                if text:
                    return text
    return ""


def _plain(content: bytes, part: Part, *, html: bool) -> str:
    text = text_of(content, part, _TEXT)
    if html:
        text = _TAGS.sub(" ", text)
        for entity, sign in _ENTITIES.items():
            text = text.replace(entity, sign)
    words = " ".join(text[: 20 * PREVIEW].split())[:PREVIEW]
    if words.isprintable():
        return words
    return " ".join("".join(sign if sign.isprintable() else " " for sign in words).split())


async def identities(state: State, session: Session, number: int, packed: bytes) -> list[tuple[int, str]]:
    return await _each(state, session.view(number).box, unpack(packed), _identity)


def _identity(files: Files, store: Store, found: Found) -> str:
    """The same for the same content of the same date, whichever mailbox holds it: so copies keep it (RFC 8474, 5.1)."""
    digest = hashlib.sha256(b"%d\n" % found.date)
    if found.length <= 1 << 20:
        digest.update(store.read(files, [found])[0])
    else:
        at = 0
        while piece := store.raw(files, found, at, 1 << 20):
            digest.update(piece)
            at += len(piece)
    return "M" + digest.hexdigest()[:40]


async def decoded(
    state: State, session: Session, number: int, uid: int, section: str, offset: int, length: int
) -> tuple[int, bytes]:
    view = session.view(number)
    kept = view.reading
    if not (isinstance(kept, Decoded) and kept.uid == uid and kept.section == section):
        path, text = section_path(section)
        if text:
            raise AccountError("CANNOT", "There is no such section")

        def look(files: Files, store: Store, found: Found) -> tuple[int, bytes]:
            return _decode(files, store, found, path)

        made = await _each(state, view.box, [uid], look)
        if not made:
            raise AccountError("NONEXISTENT", "The message is gone")
        size, data = made[0][1]
        if size < 0:
            return size, b""
        kept = Decoded(uid, section, data)
        # Small ones are made again sooner than kept for a client that does not come back.
        view.reading = kept if len(data) > PIECE else None
    data = kept.data[offset : offset + max(0, min(length, PIECE))]
    if isinstance(view.reading, Decoded) and offset + len(data) >= len(kept.data):
        view.reading = None
    return len(kept.data), data


def _decode(files: Files, store: Store, found: Found, path: tuple[int, ...]) -> tuple[int, bytes]:
    """Size and octets; -1: no such part, -2: its encoding is not known, -3: it is too large."""
    if found.length > _LARGEST:
        return -3, b""
    content = store.read(files, [found])[0]
    if not path:
        data = to_wire(content)
        return len(data), data
    part = parse_structure(content).find(path)
    if part is None:
        return -1, b""
    body = to_wire(content[part.body_start : part.end])
    if not part.is_multipart and not part.is_message:
        if not is_known_encoding(part.encoding):
            return -2, b""
        body = decode_transfer(body, part.encoding)
    return len(body), body


async def validities(state: State, session: Session) -> dict[str, int]:
    return {name: box.info.validity for name, box in state.boxes.items() if "l" in rights_of(state, session, box)}


async def totals(state: State, session: Session, name: str) -> dict[str, int]:
    box = state.find(name)
    need(state, session, box, "r")
    if not box.info.deleted:
        return {"DELETED-STORAGE": 0}
    await state.read(box)
    table = box.table
    return {
        "DELETED-STORAGE": sum(wire for wire, flags in zip(table.wires, table.flags, strict=True) if flags & DELETED)
    }
