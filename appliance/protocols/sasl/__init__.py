"""Authentication exchanges (SASL, RFC 4422): both sides of PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-1 and SCRAM-SHA-256; the server's
side of DIGEST-MD5.

How a server uses it: `server_mechanism(name, ...)`, then `step` with each decoded response until it gives Done, whose
evidence the account gate judges. Nonces and challenges come from the caller, so that an exchange can be replayed in a
test.
"""

from __future__ import annotations

from appliance.protocols.sasl.digest import DigestMd5Proof, DigestMd5Server
from appliance.protocols.sasl.exchange import (
    Challenge,
    ClientMechanism,
    DigestProof,
    Done,
    Evidence,
    Lookup,
    PlainPassword,
    Proven,
    SaslCancelled,
    SaslError,
    SaslMalformed,
    SaslRefused,
    ServerMechanism,
    Step,
    decode,
    decode_initial,
    encode,
)
from appliance.protocols.sasl.scram import ScramClient, ScramServer
from appliance.protocols.sasl.simple import (
    CramMd5Client,
    CramMd5Server,
    LoginClient,
    LoginServer,
    PlainClient,
    PlainServer,
    apop_proof,
)

# Strongest first: the order in which they are listed to clients, and in which a client chooses.
SECURE_METHODS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5")
CLEAR_METHODS = ("PLAIN", "LOGIN")
METHODS = SECURE_METHODS + CLEAR_METHODS

__all__ = [
    "CLEAR_METHODS",
    "METHODS",
    "SECURE_METHODS",
    "Challenge",
    "ClientMechanism",
    "DigestMd5Proof",
    "DigestProof",
    "Done",
    "Evidence",
    "Lookup",
    "PlainPassword",
    "Proven",
    "SaslCancelled",
    "SaslError",
    "SaslMalformed",
    "SaslRefused",
    "ServerMechanism",
    "Step",
    "apop_proof",
    "client_mechanism",
    "decode",
    "decode_initial",
    "encode",
    "server_mechanism",
]


def server_mechanism(
    method: str, *, challenge: bytes, nonce: bytes, realm: str = "", service: str = ""
) -> ServerMechanism | None:
    """The server's side of a method, its name in any case of letters; None if there is none of that name.

    `challenge`: `<unique@host>` for CRAM-MD5; `nonce`: 18 or more random printable characters without comma. `realm` and
    `service` (as `imap`) are for DIGEST-MD5, by who sends the `reply` of its evidence when that was found right.
    """
    match method.upper():
        case "PLAIN":
            return PlainServer()
        case "LOGIN":
            return LoginServer()
        case "CRAM-MD5":
            return CramMd5Server(challenge)
        case "SCRAM-SHA-1" | "SCRAM-SHA-256" as name:
            return ScramServer(name, nonce)
        case "DIGEST-MD5" if realm:
            return DigestMd5Server(nonce, realm, service)
    return None


def client_mechanism(method: str, name: str, password: str, *, nonce: bytes) -> ClientMechanism | None:
    """The client's side of a method; None if there is none of that name."""
    match method.upper():
        case "PLAIN":
            return PlainClient(name, password)
        case "LOGIN":
            return LoginClient(name, password)
        case "CRAM-MD5":
            return CramMd5Client(name, password)
        case "SCRAM-SHA-1" | "SCRAM-SHA-256" as found:
            return ScramClient(found, name, password, nonce)
    return None
