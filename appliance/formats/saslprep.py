"""Preparation of user names and passwords for comparison (SASLprep, RFC 4013).

Two keyboards make two byte forms of one password ("é" as one character, or as a letter and an accent);
both must log in.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared form of `text` (RFC 4013, 2); characters without a code point in Unicode 3.2 are let through.

    Raises ValueError for a prohibited character or a forbidden mix of writing directions.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    for char in prepared:
        if any(table(char) for table in _PROHIBITED):
            raise ValueError("prohibited character")
    if any(stringprep.in_table_d1(char) for char in prepared):
        if any(stringprep.in_table_d2(char) for char in prepared):
            raise ValueError("mixed writing directions")
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            raise ValueError("mixed writing directions")
    return prepared


def password_bytes(password: str) -> bytes:
    """The bytes of a password as key material: prepared where that is possible, as they are elsewhere.

    A password that SASLprep prohibits was perhaps set long ago by another program; it goes on working as it stands.
    """
    try:
        return saslprep(password).encode("utf-8")
    except ValueError:
        return password.encode("utf-8", "surrogateescape")
