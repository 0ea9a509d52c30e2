"""Authentication exchanges (SASL, RFC 4422): both sides of PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-1 and SCRAM-SHA-256.

How a server uses it: `server_mechanism(name, ...)`, then `step` with each decoded response until it gives Done, whose
evidence the account gate judges. Nonces and challenges come from the caller, so that an exchange can be replayed in a
test.
"""

from __future__ import annotations

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


def server_mechanism(method: str, *, challenge: bytes, nonce: bytes) -> ServerMechanism | None:
    """The server's side of a method, its name in any case of letters; None if there is none of that name.

    `challenge`: `<unique@host>` for CRAM-MD5; `nonce`: 18 or more random printable characters without comma.
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
