"""DIGEST-MD5 (RFC 2831), the server's side, for old clients: a digest of the password over both sides' nonces (qop "auth").

The exchange ends with a proof of the server (`rspauth`), which only who knows the password can make: `DigestMd5Proof.reply`
has it when the proof was found to hold. Nothing is remembered for a later, shorter exchange.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from appliance.formats.passwords import ScramKeys
from appliance.protocols.sasl.exchange import Challenge, DigestProof, Done, SaslMalformed, Step

_PAIR: Final = re.compile(rb'[ \t]*([A-Za-z-]{1,40})=("(?:[^"\\]|\\.)*"|[^",\s]*)[ \t]*(?:,|\Z)')
_HEX: Final = re.compile(rb"[0-9a-f]{32}")
MAX_PAIRS: Final = 30


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _directives(text: bytes) -> dict[str, bytes]:
    """The list of directives. Raises SaslMalformed for wrong syntax and for what stands there twice."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        name = pair[1].decode("ascii").lower() if pair else ""
        if pair is None or name in found or len(found) >= MAX_PAIRS:
            raise SaslMalformed("DIGEST-MD5 response is malformed")
        value = pair[2]
        found[name] = re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value.startswith(b'"') else value
        at = pair.end()
    return found


def _octets(text: str) -> bytes:
    """Names and passwords are hashed in Latin-1 if it has all their characters (RFC 2831, 2.1.2.1)."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


class DigestMd5Proof(DigestProof):
    """Evidence: what the client made of its password. After `holds` said yes, `reply` is the server's own proof."""

    said: dict[str, bytes]
    reply: bytes = b""

    @classmethod
    def of(cls, nonce: bytes, said: dict[str, bytes]) -> DigestMd5Proof:
        proof = cls("DIGEST-MD5", nonce, said["response"].decode("ascii"))
        proof.said = said
        return proof

    def holds(self, password: str) -> bool:
        """Whether the digest was made with `password`, the account's clear one."""
        said = self.said
        user, realm = (_octets(_text(said.get(name, b""), said)) for name in ("username", "realm"))
        secret = _md5(b"%b:%b:%b" % (user, realm, _octets(password)))
        first = secret + b":%b:%b" % (self.challenge, said["cnonce"])
        if said.get("authzid"):
            first += b":" + said["authzid"]

        def proof(second: bytes) -> bytes:
            middle = b"%b:%b:%b:auth" % (self.challenge, said["nc"], said["cnonce"])
            text = b"%b:%b:%b" % (_md5(first).hex().encode(), middle, _md5(second).hex().encode())
            return _md5(text).hex().encode("ascii")

        right = hmac.compare_digest(proof(b"AUTHENTICATE:" + said["digest-uri"]), self.digest.encode("ascii"))
        if right:
            self.reply = b"rspauth=" + proof(b":" + said["digest-uri"])
        return right


def _text(value: bytes, said: dict[str, bytes]) -> str:
    """A name as it was meant: UTF-8 if the client says so, else Latin-1."""
    if said.get("charset", b"").lower() == b"utf-8":
        return value.decode("utf-8", "surrogateescape")
    return value.decode("latin-1")


class DigestMd5Server:
    """`nonce`: printable characters, never given twice; `realm`: a name of this server; `service`: as in `imap/host`."""

    __slots__ = ("_nonce", "_realm", "_service")

    def __init__(self, nonce: bytes, realm: str, service: str) -> None:
        self._nonce = nonce
        self._realm = realm.encode("utf-8")
        self._service = service.encode("ascii") + b"/"

    def keys(self, keys: ScramKeys) -> Step:
        """No keys are asked for."""
        raise AssertionError("no keys were asked for")

    def step(self, response: bytes | None) -> Step:
        """The challenge; then what the client makes of it."""
        if response is None:
            form = b'realm="%b",nonce="%b",qop="auth",algorithm=md5-sess,charset=utf-8'
            return Challenge(form % (self._realm, self._nonce))
        said = _directives(response)
        if (
            not said.get("username")
            or said.get("nonce") != self._nonce
            or not said.get("cnonce")
            or said.get("nc") != b"00000001"
            or said.get("qop", b"auth") != b"auth"
            or said.get("realm", b"") not in (b"", self._realm)
            or not said.get("digest-uri", b"").lower().startswith(self._service)
            or _HEX.fullmatch(said.get("response", b"")) is None
        ):
            raise SaslMalformed("DIGEST-MD5 response is malformed")
        name = _text(said["username"], said)
        return Done(name, _text(said.get("authzid", b""), said), DigestMd5Proof.of(self._nonce, said))
