"""The steps of an authentication exchange (RFC 4422) and what comes out of it.

A server mechanism takes the client's responses (decoded) and answers each with one of three things: a Challenge to
send, a Lookup (it needs the stored keys of a name before it can go on), or Done with the names and the evidence.
It never sees an account: whether the evidence holds is decided by whoever has the stored secret.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import NamedTuple, Protocol

from appliance.formats.passwords import ScramKeys
from appliance.formats.saslprep import password_bytes

# RFC 4422 sets no bound; nothing that a mechanism here takes is longer than this when decoded.
MAX_RESPONSE = 4096


class SaslError(Exception):
    """The exchange has failed; the text may be shown to the client."""


class SaslMalformed(SaslError):
    """The client's response is not of the mechanism's syntax: a broken client, not a wrong password."""


class SaslCancelled(SaslError):
    """The client gave up the exchange by a lone asterisk."""


class SaslRefused(SaslError):
    """The proof does not fit the stored keys: counts as a wrong password."""


class PlainPassword(NamedTuple):
    """Evidence: the password itself, to be compared with the stored form (slow)."""

    password: str


class DigestProof(NamedTuple):
    """Evidence: a digest over the challenge and the password; needs the clear password to check (quick)."""

    method: str
    challenge: bytes
    digest: str

    def holds(self, password: str) -> bool:
        """Whether the digest was made with `password`, the account's clear one."""
        secret = password_bytes(password)
        if self.method == "APOP":  # RFC 1939, 7
            wanted = hashlib.md5(self.challenge + secret, usedforsecurity=False).hexdigest()
        else:  # CRAM-MD5, RFC 2195, 2
            wanted = hmac.new(secret, self.challenge, "md5").hexdigest()
        return hmac.compare_digest(wanted.encode("ascii"), self.digest.lower().encode("utf-8", "surrogateescape"))


class Proven(NamedTuple):
    """Evidence: the mechanism itself has checked the client against the stored keys it was given."""

    method: str


Evidence = PlainPassword | DigestProof | Proven


class Challenge(NamedTuple):
    """Send this (not yet encoded) and wait for a response."""

    data: bytes


class Lookup(NamedTuple):
    """Find the keys of `authcid` for `method`, then call the mechanism's `keys`."""

    authcid: str
    method: str


class Done(NamedTuple):
    """The exchange is over: who asks to be let in, in whose place (empty: his own), and why he should be believed."""

    authcid: str
    authzid: str
    evidence: Evidence


Step = Challenge | Lookup | Done


class ServerMechanism(Protocol):
    """The server's side of one mechanism, for one exchange."""

    def step(self, response: bytes | None) -> Step:
        """Take a decoded response; None at the start when the client sent no initial response.

        Raises SaslMalformed or SaslRefused; the exchange is over then.
        """
        ...

    def keys(self, keys: ScramKeys) -> Step:
        """Go on after a Lookup, with the stored keys or with decoys."""
        ...


class ClientMechanism(Protocol):
    """The client's side of one mechanism, for one exchange."""

    initial: bool
    """Whether the client speaks first, so that its response can ride on the command (RFC 4959)."""

    def step(self, challenge: bytes) -> bytes:
        """The response to a decoded challenge (empty at the start of a client-first mechanism).

        Raises SaslMalformed for a challenge that makes no sense, SaslRefused if the server did not prove itself.
        """
        ...

    @property
    def complete(self) -> bool:
        """Whether a success of the server may be believed now (RFC 4422, 5.d): all steps were made."""
        ...


def encode(data: bytes) -> bytes:
    """A challenge or response as protocols carry it."""
    return b64encode(data)


def decode(line: bytes) -> bytes:
    """The response in a line of the client.

    Raises SaslCancelled for "*", SaslMalformed for what is no base64 or over 4,096 bytes.
    """
    line = line.strip(b" \t\r\n")
    if line == b"*":
        raise SaslCancelled("authentication cancelled")
    if len(line) > MAX_RESPONSE * 4 // 3 + 4:
        raise SaslMalformed("response too long")
    try:
        return b64decode(line, validate=True)
    except binascii.Error:
        raise SaslMalformed("response is not in base64") from None


def decode_initial(word: bytes) -> bytes:
    """The initial response on a command line, where a lone "=" stands for an empty one (RFC 4959, 3; RFC 5034, 4)."""
    return b"" if word == b"=" else decode(word)


def text(data: bytes) -> str:
    """A name or password off the wire as the house keeps texts."""
    return data.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """The wire form of a name or password."""
    return name.encode("utf-8", "surrogateescape")
