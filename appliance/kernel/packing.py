"""A small binary form for what the journal and the members of a cluster say to each other.

A value is None, a bool, an int, a float, bytes, a str, a list or a dict with str keys, to any depth. Each is written as one
tag byte and what it needs; lengths stand before contents, so a reader never searches and never guesses:

    N        None                       i <q>            integer of at most 64 bits, signed
    T, F     true, false                I <I> <bytes>    larger integer, signed, little-endian
    d <d>    float                      b, B <H or I>    bytes: length in 2 or 4 octets, contents
    l <I>    list: count, values        s, S <H or I>    str as UTF-8 with surrogateescape
    m <I>    dict: count, then key as a str value, value, ...

All numbers are little-endian. The form itself has no version; a record that may change puts its version first, and grows at
its end: readers take what they know and ignore the rest.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

__all__ = ["PackingError", "Value", "pack", "unpack"]

Value: TypeAlias = "bool | int | float | bytes | str | list[Value] | tuple[Value, ...] | dict[str, Value] | None"

_DEPTH = 32
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_TAGGED_I64 = struct.Struct("<cq")
_TAGGED_U16 = struct.Struct("<cH")
_TAGGED_U32 = struct.Struct("<cI")


class PackingError(ValueError):
    """Bytes that are not a packed value."""


def pack(value: Value) -> bytes:
    """The value as bytes. TypeError for anything else than the types above; tuples come back as lists."""
    parts: list[bytes] = []
    _pack(value, parts, _DEPTH)
    return b"".join(parts)


def _pack(value: Value, parts: list[bytes], depth: int) -> None:
    kind = type(value)
    if kind is bytes:
        assert isinstance(value, bytes)
        _pack_octets(value, b"b", b"B", parts)
    elif kind is str:
        assert isinstance(value, str)
        _pack_octets(value.encode("utf-8", "surrogateescape"), b"s", b"S", parts)
    elif value is None:
        parts.append(b"N")
    elif value is True:
        parts.append(b"T")
    elif value is False:
        parts.append(b"F")
    elif isinstance(value, int):
        if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
            parts.append(_TAGGED_I64.pack(b"i", value))
        else:
            octets = int(value).to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            parts.append(_TAGGED_U32.pack(b"I", len(octets)))
            parts.append(octets)
    elif kind is float:
        parts.append(b"d" + _F64.pack(value))
    elif depth == 0:
        raise TypeError("nested too deeply to be packed")
    elif kind is list or kind is tuple:
        assert isinstance(value, (list, tuple))
        parts.append(_TAGGED_U32.pack(b"l", len(value)))
        for item in value:
            _pack(item, parts, depth - 1)
    elif kind is dict:
        assert isinstance(value, dict)
        parts.append(_TAGGED_U32.pack(b"m", len(value)))
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError("only str keys can be packed")
            _pack_octets(key.encode("utf-8", "surrogateescape"), b"s", b"S", parts)
            _pack(item, parts, depth - 1)
    elif isinstance(value, str):  # an enumeration of str
        _pack_octets(str.__str__(value).encode("utf-8", "surrogateescape"), b"s", b"S", parts)
    else:
        raise TypeError(f"{kind.__name__} cannot be packed")


def _pack_octets(octets: bytes, short: bytes, long: bytes, parts: list[bytes]) -> None:
    size = len(octets)
    parts.append(_TAGGED_U16.pack(short, size) if size < 0x10000 else _TAGGED_U32.pack(long, size))
    parts.append(octets)


def unpack(data: bytes) -> Value:
    """The value that `pack` was given; PackingError if the bytes are not exactly one value."""
    try:
        value, end = _unpack(data, 0, _DEPTH)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise PackingError(f"not a packed value: {error}") from error
    if end != len(data):
        raise PackingError("bytes after the packed value")
    return value


def _unpack(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    tag = data[at]
    at += 1
    if tag in b"bBsS":
        return _unpack_octets(data, at, tag)
    if tag == 0x69:  # i
        return _I64.unpack_from(data, at)[0], at + 8
    if tag == 0x4E:  # N
        return None, at
    if tag == 0x54:  # T
        return True, at
    if tag == 0x46:  # F
        return False, at
    if tag == 0x64:  # d
        return _F64.unpack_from(data, at)[0], at + 8
    count = _U32.unpack_from(data, at)[0]
    at += 4
    if count > len(data) - at:  # each value takes an octet at least
        raise PackingError("a count larger than the data")
    if tag == 0x49:  # I
        return int.from_bytes(data[at : at + count], "little", signed=True), at + count
    if depth == 0:
        raise PackingError("nested too deeply")
    if tag == 0x6C:  # l
        items: list[Value] = []
        for _ in range(count):
            item, at = _unpack(data, at, depth - 1)
            items.append(item)
        return items, at
    if tag == 0x6D:  # m
        mapping: dict[str, Value] = {}
        for _ in range(count):
            key, at = _unpack(data, at, 0)
            if not isinstance(key, str):
                raise PackingError("a key that is no text")
            mapping[key], at = _unpack(data, at, depth - 1)
        return mapping, at
    raise PackingError(f"unknown tag {tag}")


def _unpack_octets(data: bytes, at: int, tag: int) -> tuple[Value, int]:
    if tag in b"bs":
        size = _U16.unpack_from(data, at)[0]
        at += 2
    else:
        size = _U32.unpack_from(data, at)[0]
        at += 4
    octets = data[at : at + size]
    if len(octets) != size:
        raise PackingError("cut short")
    if tag in b"bB":
        return octets, at + size
    return octets.decode("utf-8", "surrogateescape"), at + size
