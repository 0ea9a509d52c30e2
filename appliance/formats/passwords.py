"""The stored forms of an account's password, and the check of a password against them.

A stored password is one string of the account's settings. Its first character tells the form:

- none of the marks below: the password itself ("clear");
- character 1: reversible ("A-crpt"): base64 of a 12-byte nonce and the AES-GCM of the password under the server's key;
- character 2: one-way ("U-crpt"). What follows is, for passwords set here,
  `{SCRAM-SHA-256}iterations:salt$StoredKey:ServerKey` (RFC 5803's values, base64), where a clear password can be
  checked and SCRAM log-ins work; other methods' keys may follow, divided by a space. For passwords that came from
  other servers it is `{SHA}`, `{MD5}` (base64 digests), `{NS-MTA-MD5}` (64 hexadecimal digits), `{crypt}` or
  `{WM-CRY}` with a crypt value, or a bare crypt value (`$1$...`, or what the host's crypt knows).

Everything here is pure: salts and nonces are given by the caller. Functions that say "slow" belong in a worker thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from enum import StrEnum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.formats.saslprep import password_bytes
from appliance.formats.unixcrypt import crypt

REVERSIBLE = "\x01"
ONE_WAY = "\x02"
# 25 ms on one core of 2020; the client of a SCRAM log-in does the same work, telephones too.
ITERATIONS = 100_000
# Beyond this a stored value is a mistake or an attack on the worker threads.
MAX_ITERATIONS = 5_000_000
# Longer passwords are refused: hashing time is a stranger's otherwise.
MAX_PASSWORD = 1024
SALT_SIZE = 16
KEY_SIZE = 32
NONCE_SIZE = 12

_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


class Encryption(StrEnum):
    """How a new password is stored (the account setting Password Encryption)."""

    CLEAR = "clear"
    A_CRPT = "A-crpt"
    U_CRPT = "U-crpt"


class PasswordError(ValueError):
    """A password that cannot be stored; the text says why."""


class ScramKeys(NamedTuple):
    """What a SCRAM server keeps of a password (RFC 5802, 3): enough to check a log-in, not enough to make one."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def check_new(password: str) -> None:
    """Raises PasswordError if `password` may not become a password: empty, over 1,024 bytes, control characters."""
    if not password:
        raise PasswordError("empty passwords are not allowed")
    if len(password.encode("utf-8", "surrogateescape")) > MAX_PASSWORD:
        raise PasswordError("the password is too long")
    if any(char < " " or char == "\x7f" for char in password):
        raise PasswordError("control characters are not allowed in passwords")


def store(password: str, encryption: Encryption, *, salt: bytes, key: bytes = b"", iterations: int = ITERATIONS) -> str:
    """The stored form of a new password. Slow for U-crpt.

    `salt`: 16 random bytes (the first 12 are the nonce of A-crpt); `key`: the server's key of 32 bytes, for A-crpt.
    Raises PasswordError as `check_new`.
    """
    check_new(password)
    if encryption is Encryption.CLEAR:
        return password
    if encryption is Encryption.A_CRPT:
        nonce = salt[:NONCE_SIZE]
        sealed = nonce + AESGCM(key).encrypt(nonce, password.encode("utf-8", "surrogateescape"), None)
        return REVERSIBLE + base64.b64encode(sealed).decode("ascii")
    return ONE_WAY + scram_text("SCRAM-SHA-256", derive("SCRAM-SHA-256", password, salt, iterations))


def import_one_way(value: str) -> str:
    """The stored form of a one-way value of another server (the import column UnixPassword)."""
    return value if value.startswith(ONE_WAY) else ONE_WAY + value


def is_one_way(stored: str) -> bool:
    """Whether the password itself cannot be had back from `stored`."""
    return stored.startswith(ONE_WAY)


def clear_text(stored: str, key: bytes = b"") -> str | None:
    """The password itself, where the form allows it: clear, or reversible under the server's `key`."""
    if not stored or stored.startswith(ONE_WAY):
        return None
    if not stored.startswith(REVERSIBLE):
        return stored
    try:
        sealed = base64.b64decode(stored[1:], validate=True)
        clear = AESGCM(key).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], None)
    except (InvalidTag, ValueError):
        return None
    return clear.decode("utf-8", "surrogateescape")


def verify(stored: str, password: str, key: bytes = b"") -> bool:
    """Whether `password` is the one behind `stored`. Slow. An empty password, or an empty stored one, never matches."""
    if not stored or not password or len(password) > MAX_PASSWORD:
        return False
    if not stored.startswith(ONE_WAY):
        clear = clear_text(stored, key)
        return (
            clear is not None and bool(clear) and hmac.compare_digest(password_bytes(clear), password_bytes(password))
        )
    return _verify_one_way(stored[1:], password)


def scram_keys(stored: str, mechanism: str, *, key: bytes = b"", salt: bytes = b"") -> ScramKeys | None:
    """The keys for a SCRAM log-in by `mechanism` ("SCRAM-SHA-256", "SCRAM-SHA-1"), or None where there are none.

    From a clear or reversible password they are made under `salt`, which must be the same at each log-in of the
    account, or else a stranger sees which accounts exist; that is slow.
    """
    if mechanism not in _HASHES:
        return None
    if stored.startswith(ONE_WAY):
        mark = "{" + mechanism + "}"
        for part in stored[1:].split(" "):
            if part.startswith(mark):
                return _parse_scram(part[len(mark) :])
        return None
    clear = clear_text(stored, key)
    return derive(mechanism, clear, salt, ITERATIONS) if clear else None


def decoy_keys(name: str, mechanism: str, key: bytes) -> ScramKeys:
    """Keys that no password fits, for a name that has none: steady from log-in to log-in, as real ones are.

    So a stranger cannot tell by the salt whether the account exists (RFC 5802, 9). `key`: the server's own secret.
    """
    size = hashlib.new(_HASHES[mechanism]).digest_size
    mark = mechanism.encode("ascii") + b"\0" + name.encode("utf-8", "surrogateescape")
    parts = [hmac.digest(key, bytes((number,)) + mark, "sha256") for number in range(3)]
    return ScramKeys(parts[0][:SALT_SIZE], ITERATIONS, parts[1][:size], parts[2][:size])


def derive(mechanism: str, password: str, salt: bytes, iterations: int) -> ScramKeys:
    """SCRAM keys from a password (RFC 5802, 3). Slow: `iterations` rounds of PBKDF2."""
    digest = _HASHES[mechanism]
    salted = hashlib.pbkdf2_hmac(digest, password_bytes(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", digest)
    stored_key = hashlib.new(digest, client_key).digest()
    return ScramKeys(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", digest))


def scram_text(mechanism: str, keys: ScramKeys) -> str:
    """The text form of SCRAM keys inside a stored password."""
    salt, stored, server = (base64.b64encode(part).decode("ascii") for part in (keys.salt, *keys[2:]))
    return f"{{{mechanism}}}{keys.iterations}:{salt}${stored}:{server}"


def _parse_scram(text: str) -> ScramKeys | None:
    head, _, tail = text.partition("$")
    count, _, salt = head.partition(":")
    stored, _, server = tail.partition(":")
    if not count.isdecimal() or not 0 < int(count[:9]) <= MAX_ITERATIONS:
        return None
    try:
        parts = [base64.b64decode(part, validate=True) for part in (salt, stored, server)]
    except (binascii.Error, ValueError):
        return None
    return ScramKeys(parts[0], int(count), parts[1], parts[2])


def _verify_one_way(value: str, password: str) -> bool:
    raw = password.encode("utf-8", "surrogateescape")
    if value.startswith("{"):
        method, _, rest = value[1:].partition("}")
        method = method.upper()
        if method in _HASHES:
            keys = _parse_scram(rest.split(" ", 1)[0])
            if keys is None:
                return False
            found = derive(method, password, keys.salt, keys.iterations)
            return hmac.compare_digest(found.stored_key, keys.stored_key)
        if method in ("SHA", "MD5"):
            digest = hashlib.new("sha1" if method == "SHA" else "md5", raw, usedforsecurity=False).digest()
            return hmac.compare_digest(base64.b64encode(digest), rest.encode("utf-8", "surrogateescape"))
        if method == "NS-MTA-MD5":
            return _verify_ns_mta_md5(rest, raw)
        if method not in ("CRYPT", "WM-CRY"):
            return False
        value = rest
    found_text = crypt(raw, value)
    return found_text is not None and hmac.compare_digest(
        found_text.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
    )


def _verify_ns_mta_md5(rest: str, password: bytes) -> bool:
    """32 digits of MD5(salt, 0x59, password, 0xF7, salt), then the salt as 32 characters."""
    if len(rest) != 64:
        return False
    salt = rest[32:].encode("utf-8", "surrogateescape")
    digest = hashlib.md5(salt + b"\x59" + password + b"\xf7" + salt, usedforsecurity=False).hexdigest()
    return hmac.compare_digest(digest.encode("ascii"), rest[:32].lower().encode("utf-8", "surrogateescape"))
