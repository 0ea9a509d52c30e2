"""SCRAM-SHA-1 (RFC 5802) and SCRAM-SHA-256 (RFC 7677), without channel binding.

Four messages: client-first and client-final, server-first and server-final, each a row of `letter=value` parts in a
fixed order (RFC 5802, 7). Both sides prove that they know the password, and neither sends it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from enum import Enum, auto

from appliance.formats.passwords import MAX_ITERATIONS, ScramKeys
from appliance.formats.saslprep import password_bytes, saslprep
from appliance.protocols.sasl.exchange import (
    Challenge,
    Done,
    Lookup,
    Proven,
    SaslMalformed,
    SaslRefused,
    Step,
    raw,
    text,
)

_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
# RFC 5802, 5.1 and RFC 7677, 4: less than this is no work at all for who steals the keys; a client refuses it.
_MIN_ITERATIONS = 4096

_CLIENT_FIRST = re.compile(
    rb"([ny]|p=[A-Za-z0-9.-]+),(?:a=([^,\0]+))?,(n=([^,\0]+),r=([!-+\--~]+)(?:,[^\0]*)?)", re.DOTALL
)
_CLIENT_FINAL = re.compile(rb"(c=([A-Za-z0-9/+=]+),r=([!-+\--~]+)(?:,[^\0]*?)?),p=([A-Za-z0-9/+=]+)", re.DOTALL)
_SERVER_FIRST = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9/+=]+),i=([1-9][0-9]{0,8})(?:,[^\0]*)?", re.DOTALL)


def _name_in(value: bytes) -> str:
    """A saslname (RFC 5802, 5.1): "=2C" is a comma, "=3D" an equals sign, and no other use of "=" is allowed."""
    if value.count(b"=") != value.count(b"=2C") + value.count(b"=3D"):
        raise SaslMalformed("SCRAM name is malformed")
    return text(value.replace(b"=2C", b",").replace(b"=3D", b"="))


def _name_out(name: str) -> bytes:
    return raw(name).replace(b"=", b"=3D").replace(b",", b"=2C")


def _unbase64(value: bytes) -> bytes:
    try:
        return b64decode(value, validate=True)
    except ValueError:
        raise SaslMalformed("SCRAM value is not in base64") from None


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class _State(Enum):
    FIRST = auto()
    KEYS = auto()
    FINAL = auto()
    CLOSING = auto()
    OVER = auto()


class ScramServer:
    """The server's side. `nonce`: at least 18 random printable characters without a comma, from the caller."""

    __slots__ = ("_authcid", "_authzid", "_binding", "_first", "_hash", "_keys", "_method", "_nonce", "_state")

    def __init__(self, method: str, nonce: bytes) -> None:
        self._method = method
        self._hash = _HASHES[method]
        self._nonce = nonce
        self._state = _State.FIRST
        self._authcid = self._authzid = ""
        self._binding = b""
        self._first = b""
        self._keys = ScramKeys(b"", 0, b"", b"")

    def step(self, response: bytes | None) -> Step:
        """client-first gives a Lookup, client-final the server's proof as a Challenge, its empty answer Done.

        Raises SaslRefused as soon as the client's proof is wrong.
        """
        if self._state is _State.FIRST:
            return Challenge(b"") if response is None else self._client_first(response)
        if self._state is _State.FINAL and response is not None:
            return self._client_final(response)
        if self._state is _State.CLOSING and not response:
            self._state = _State.OVER
            return Done(self._authcid, self._authzid, Proven(self._method))
        raise SaslMalformed("SCRAM response out of turn")

    def _client_first(self, message: bytes) -> Step:
        found = _CLIENT_FIRST.fullmatch(message)
        if found is None:
            raise SaslMalformed("SCRAM response is malformed")
        if found[1].startswith(b"p"):
            raise SaslMalformed("channel binding is not supported")
        self._binding = message[: found.start(3)]
        self._authzid = _name_in(found[2] or b"")
        self._authcid = _name_in(found[4])
        self._nonce = found[5] + self._nonce
        self._first = found[3]
        self._state = _State.KEYS
        return Lookup(self._authcid, self._method)

    def keys(self, keys: ScramKeys) -> Step:
        """Server-first: the joined nonce, salt and iteration count."""
        assert self._state is _State.KEYS
        self._keys = keys
        challenge = b"r=%b,s=%b,i=%d" % (self._nonce, b64encode(keys.salt), keys.iterations)
        self._first += b"," + challenge
        self._state = _State.FINAL
        return Challenge(challenge)

    def _client_final(self, message: bytes) -> Step:
        self._state = _State.OVER
        found = _CLIENT_FINAL.fullmatch(message)
        if found is None or found[3] != self._nonce or _unbase64(found[2]) != self._binding:
            raise SaslMalformed("SCRAM response is malformed")
        keys = self._keys
        signed = self._first + b"," + found[1]
        proof = _unbase64(found[4])
        signature = hmac.digest(keys.stored_key, signed, self._hash)
        if len(proof) != len(signature):
            raise SaslMalformed("SCRAM proof is malformed")
        client_key = _xor(proof, signature)
        if not hmac.compare_digest(hashlib.new(self._hash, client_key).digest(), keys.stored_key):
            raise SaslRefused("incorrect password")
        self._state = _State.CLOSING
        return Challenge(b"v=" + b64encode(hmac.digest(keys.server_key, signed, self._hash)))


class ScramClient:
    """The client's side. `nonce` as for the server. Making the response to server-first is slow (PBKDF2)."""

    __slots__ = ("_first", "_hash", "_header", "_nonce", "_password", "_server_proof", "_state")

    initial = True

    def __init__(self, method: str, authcid: str, password: str, nonce: bytes, authzid: str = "") -> None:
        self._hash = _HASHES[method]
        self._password = password_bytes(password)
        self._nonce = nonce
        self._header = b"n," + (b"a=" + _name_out(authzid) if authzid else b"") + b","
        try:
            prepared = saslprep(authcid)
        except ValueError:
            prepared = authcid
        self._first = b"n=" + _name_out(prepared) + b",r=" + nonce
        self._server_proof = b""
        self._state = _State.FIRST

    def step(self, challenge: bytes) -> bytes:
        """client-first, client-final, and the empty answer to the server's proof.

        Raises SaslRefused if that proof is wrong: whoever answers there does not know the password.
        """
        if self._state is _State.FIRST:
            self._state = _State.FINAL
            return self._header + self._first
        if self._state is _State.FINAL:
            self._state = _State.CLOSING
            return self._final(challenge)
        if self._state is _State.CLOSING and hmac.compare_digest(challenge, self._server_proof):
            self._state = _State.OVER
            return b""
        raise SaslRefused("the server did not prove that it knows the password")

    def _final(self, challenge: bytes) -> bytes:
        found = _SERVER_FIRST.fullmatch(challenge)
        if found is None or not found[1].startswith(self._nonce) or len(found[1]) == len(self._nonce):
            raise SaslMalformed("SCRAM challenge is malformed")
        iterations = int(found[3])
        if not _MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslMalformed("SCRAM iteration count is out of bounds")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, _unbase64(found[2]), iterations)
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        stored_key = hashlib.new(self._hash, client_key).digest()
        bare = b"c=%b,r=%b" % (b64encode(self._header), found[1])
        signed = b",".join((self._first, challenge, bare))
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        self._server_proof = b"v=" + b64encode(hmac.digest(server_key, signed, self._hash))
        return bare + b",p=" + b64encode(_xor(client_key, hmac.digest(stored_key, signed, self._hash)))

    @property
    def complete(self) -> bool:
        """Whether the server has proven itself."""
        return self._state is _State.OVER
