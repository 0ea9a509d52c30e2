"""The crypt routines of old password files: BSD MD5 (`$1$`) by own code, the others by the library of the host."""

from __future__ import annotations

import ctypes
import functools
import hashlib

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
# The library's working area: glibc's is 131,232 bytes, libxcrypt's 32,768.
_AREA = 256 * 1024


def md5_crypt(password: bytes, setting: str) -> str:
    """The `$1$salt$digest` form of a password; `setting` is such a string or `$1$salt`. The same on every host."""
    salt = setting[3:].split("$", 1)[0][:8].encode("utf-8", "surrogateescape")
    inner = hashlib.md5(password + salt + password, usedforsecurity=False).digest()
    start = password + b"$1$" + salt + (inner * (len(password) // 16 + 1))[: len(password)]
    bits = len(password)
    tail = bytearray()
    while bits:
        tail += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    digest = hashlib.md5(start + bytes(tail), usedforsecurity=False).digest()
    for turn in range(1000):
        text = password if turn & 1 else digest
        if turn % 3:
            text += salt
        if turn % 7:
            text += password
        text += digest if turn & 1 else password
        digest = hashlib.md5(text, usedforsecurity=False).digest()
    order = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
    encoded = "".join(_sixes(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in order)
    return f"$1${salt.decode('utf-8', 'surrogateescape')}${encoded}{_sixes(digest[11], 2)}"


def crypt(password: bytes, setting: str) -> str | None:
    """What the crypt of the host makes of a password under `setting` (salt or whole value).

    None where the host has no such library or does not know the method. Slow by design: a worker thread calls it.
    """
    if setting.startswith("$1$"):
        return md5_crypt(password, setting)
    routine = _routine()
    if routine is None or not setting or b"\0" in password:
        return None
    result = routine(password, setting.encode("utf-8", "surrogateescape"), ctypes.create_string_buffer(_AREA))
    # A method that the library does not know gives nothing, or a string that begins with an asterisk.
    if result is None or result.startswith(b"*"):
        return None
    return bytes(result).decode("ascii", "replace")


@functools.cache
def _routine() -> ctypes._NamedFuncPointer | None:
    for name in _LIBRARIES:
        try:
            routine = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        routine.restype = ctypes.c_char_p
        routine.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        return routine
    return None


def _sixes(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))
