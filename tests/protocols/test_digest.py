"""DIGEST-MD5 against the example of its document, and what is wrong about responses."""

from __future__ import annotations

import pytest

from appliance.protocols import sasl

NONCE = b"OA6MG9tEQGm2hh"
RIGHT = (
    b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,'
    b'cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",'
    b"response=d388dad90d4bbd760a152321f2143af7,qop=auth"
)


def mechanism() -> sasl.ServerMechanism:
    made = sasl.server_mechanism("digest-md5", challenge=b"", nonce=NONCE, realm="elwood.innosoft.com", service="imap")
    assert made is not None
    return made


@pytest.mark.feature("STD-015", "SEC-003")
def test_the_example_of_the_document() -> None:
    server = mechanism()
    first = server.step(None)
    assert isinstance(first, sasl.Challenge)
    assert first.data == (
        b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
    )
    done = server.step(RIGHT)
    assert isinstance(done, sasl.Done) and done.authcid == "chris"
    assert isinstance(done.evidence, sasl.DigestMd5Proof)
    assert not done.evidence.holds("wrong")
    assert done.evidence.holds("secret")
    assert done.evidence.reply == b"rspauth=ea40f60335c427b5527b84dbabcdfffd"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"OA6MG9tEQGm2hh", b"another"),
        (b"nc=00000001", b"nc=00000002"),
        (b"qop=auth", b"qop=auth-conf"),
        (b"imap/", b"smtp/"),
        (b"response=d3", b"response=zz"),
        (b'realm="elwood.innosoft.com"', b'realm="other"'),
        (b'username="chris"', b'username="chris",username="root"'),
        (b'cnonce="OA6MHXh6VqTrRk",', b""),
        (b"charset", b"=x,charset"),
        (RIGHT, b""),
        (RIGHT, b"," * 3000),
    ],
)
def test_wrong_responses(old: bytes, new: bytes) -> None:
    server = mechanism()
    server.step(None)
    with pytest.raises(sasl.SaslMalformed):
        server.step(RIGHT.replace(old, new))


def test_it_is_only_for_those_who_send_the_proof() -> None:
    assert sasl.server_mechanism("DIGEST-MD5", challenge=b"", nonce=NONCE) is None
