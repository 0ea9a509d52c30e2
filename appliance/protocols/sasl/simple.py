"""The mechanisms of one message or one digest: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), and APOP's digest."""

from __future__ import annotations

import hmac
import re

from appliance.formats.passwords import ScramKeys
from appliance.formats.saslprep import password_bytes
from appliance.protocols.sasl.exchange import (
    Challenge,
    DigestProof,
    Done,
    PlainPassword,
    SaslMalformed,
    Step,
    raw,
    text,
)

_HEX_MD5 = re.compile(r"[0-9A-Fa-f]{32}")


def apop_proof(challenge: bytes, digest: str) -> DigestProof:
    """The evidence of an APOP command (RFC 1939, 7); `challenge` is the greeting's, with its angle brackets.

    Raises SaslMalformed for a digest that is not 32 hexadecimal digits.
    """
    if _HEX_MD5.fullmatch(digest) is None:
        raise SaslMalformed("digest is not 32 hexadecimal digits")
    return DigestProof("APOP", challenge, digest)


class _NoLookup:
    __slots__ = ()

    def keys(self, keys: ScramKeys) -> Step:
        """These mechanisms ask for no keys."""
        raise AssertionError("no keys were asked for")


class PlainServer(_NoLookup):
    """PLAIN: authzid NUL authcid NUL password. Without an initial response the challenge is empty."""

    __slots__ = ()

    def step(self, response: bytes | None) -> Step:
        """The one message of the client."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1]:
            raise SaslMalformed("PLAIN response is malformed")
        return Done(text(parts[1]), text(parts[0]), PlainPassword(text(parts[2])))


class LoginServer(_NoLookup):
    """LOGIN: the name, then the password, each asked for; the name may come with the command."""

    __slots__ = ("_name",)

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> Step:
        """The name, then the password."""
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            if not response or b"\0" in response:
                raise SaslMalformed("the name is missing")
            self._name = text(response)
            return Challenge(b"Password:")
        return Done(self._name, "", PlainPassword(text(response)))


class CramMd5Server(_NoLookup):
    """CRAM-MD5. `challenge`: `<unique@host>`, never given twice; chosen by the caller."""

    __slots__ = ("_challenge",)

    def __init__(self, challenge: bytes) -> None:
        self._challenge = challenge

    def step(self, response: bytes | None) -> Step:
        """The name and the digest, divided by the last space (names may have spaces)."""
        if response is None:
            return Challenge(self._challenge)
        name, _, digest = response.rpartition(b" ")
        shown = text(digest)
        if not name or _HEX_MD5.fullmatch(shown) is None:
            raise SaslMalformed("CRAM-MD5 response is malformed")
        return Done(text(name), "", DigestProof("CRAM-MD5", self._challenge, shown))


class _OneStep:
    __slots__ = ("_complete",)

    initial = True

    def __init__(self) -> None:
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether everything was said."""
        return self._complete


class PlainClient(_OneStep):
    """PLAIN, the client's side."""

    __slots__ = ("_message",)

    def __init__(self, authcid: str, password: str, authzid: str = "") -> None:
        super().__init__()
        self._message = b"\0".join((raw(authzid), raw(authcid), raw(password)))

    def step(self, challenge: bytes) -> bytes:
        """The one message; what the server puts into its empty challenge does not matter."""
        if self._complete:
            raise SaslMalformed("one challenge too many")
        self._complete = True
        return self._message


class LoginClient:
    """LOGIN, the client's side: the first question is taken to be for the name, the second for the password."""

    __slots__ = ("_answers",)

    initial = False

    def __init__(self, authcid: str, password: str) -> None:
        self._answers = [raw(password), raw(authcid)]

    def step(self, challenge: bytes) -> bytes:
        """The name, then the password."""
        if not self._answers:
            raise SaslMalformed("one challenge too many")
        return self._answers.pop()

    @property
    def complete(self) -> bool:
        """Whether both were said."""
        return not self._answers


class CramMd5Client(_OneStep):
    """CRAM-MD5, the client's side."""

    __slots__ = ("_name", "_password")

    initial = False

    def __init__(self, authcid: str, password: str) -> None:
        super().__init__()
        self._name = raw(authcid)
        self._password = password_bytes(password)

    def step(self, challenge: bytes) -> bytes:
        """The name and the digest of the challenge."""
        if self._complete or not challenge:
            raise SaslMalformed("CRAM-MD5 challenge is malformed")
        self._complete = True
        return self._name + b" " + hmac.new(self._password, challenge, "md5").hexdigest().encode("ascii")
