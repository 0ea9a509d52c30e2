from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import passwords
from appliance.formats.passwords import Encryption
from appliance.protocols import sasl
from appliance.protocols.sasl import Challenge, DigestProof, Done, Lookup, PlainPassword, Proven
from appliance.protocols.sasl.scram import ScramClient, ScramServer

CHALLENGE = b"<1896.697170952@postoffice.example.net>"
NONCE = b"3rfcNHYJY1ZVvWVs7j"


def server(method: str) -> sasl.ServerMechanism:
    found = sasl.server_mechanism(method, challenge=CHALLENGE, nonce=NONCE)
    assert found is not None
    return found


def client(method: str, name: str, password: str) -> sasl.ClientMechanism:
    found = sasl.client_mechanism(method, name, password, nonce=b"fyko+d2lbbFgONRv9qkxdawL")
    assert found is not None
    return found


def converse(method: str, name: str, password: str, stored: str, *, initial: bool) -> Done:
    """A whole exchange of our client and our server, as a protocol would carry it."""
    ours, theirs = server(method), client(method, name, password)
    step = ours.step(theirs.step(b"")) if initial and theirs.initial else ours.step(None)
    for _ in range(8):
        if isinstance(step, Lookup):
            keys = passwords.scram_keys(stored, step.method) or passwords.decoy_keys(step.authcid, method, b"k" * 32)
            step = ours.keys(keys)
        elif isinstance(step, Challenge):
            step = ours.step(sasl.decode(sasl.encode(theirs.step(step.data))))
        else:
            assert theirs.complete
            return step
    raise AssertionError("the exchange does not end")


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("method", sasl.METHODS)
def test_each_method_with_itself(method: str, initial: bool) -> None:
    keys = [passwords.scram_text(m, passwords.derive(m, "pe,n=cil", b"salt", 4096)) for m in sasl.SECURE_METHODS[:2]]
    done = converse(method, "us,e=r", "pe,n=cil", "\x02" + " ".join(keys), initial=initial)
    assert done.authcid == "us,e=r"
    assert done.authzid == ""
    match done.evidence:
        case PlainPassword(password):
            assert password == "pe,n=cil"
        case DigestProof() as proof:
            assert proof.holds("pe,n=cil")
            assert not proof.holds("pencil")
        case Proven(name):
            assert name == method


@pytest.mark.parametrize("method", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram_with_a_wrong_password_or_name_is_refused(method: str) -> None:
    stored = "\x02" + passwords.scram_text(method, passwords.derive(method, "pencil", b"salt", 4096))
    with pytest.raises(sasl.SaslRefused):
        converse(method, "user", "pencils", stored, initial=True)
    with pytest.raises(sasl.SaslRefused):
        converse(method, "nobody", "pencil", "", initial=True)


def test_scram_sha_256_sample() -> None:
    """The exchange printed in RFC 7677, 3."""
    keys = passwords.derive("SCRAM-SHA-256", "pencil", b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81", 4096)
    theirs = ScramClient("SCRAM-SHA-256", "user", "pencil", b"rOprNGfwEbeRWgbNEkqO")
    ours = ScramServer("SCRAM-SHA-256", b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = theirs.step(b"")
    assert first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert ours.step(first) == Lookup("user", "SCRAM-SHA-256")
    challenge = ours.keys(keys)
    assert challenge == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = theirs.step(challenge.data)
    assert final.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    proof = ours.step(final)
    assert proof == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert not theirs.complete
    assert theirs.step(proof.data) == b""
    assert theirs.complete
    assert ours.step(b"") == Done("user", "", Proven("SCRAM-SHA-256"))


def test_scram_sha_1_sample() -> None:
    """The exchange printed in RFC 5802, 5."""
    keys = passwords.derive("SCRAM-SHA-1", "pencil", bytes.fromhex("4125c247e43ab1e93c6dff76"), 4096)
    ours = ScramServer("SCRAM-SHA-1", NONCE)
    ours.step(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
    assert ours.keys(keys) == Challenge(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
    answer = ours.step(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
    assert answer == Challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    theirs = ScramClient("SCRAM-SHA-1", "user", "pencil", b"abc")
    theirs.step(b"")
    theirs.step(b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096")
    with pytest.raises(sasl.SaslRefused):
        theirs.step(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert not theirs.complete


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=abc,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=xyzdef,s=QQ==,i=4096",
        b"r=abcdef,s=QQ==,i=1",
        b"r=abcdef,s=QQ==,i=99999999",
    ],
)
def test_a_client_refuses_bad_challenges(challenge: bytes) -> None:
    theirs = ScramClient("SCRAM-SHA-1", "user", "pencil", b"abc")
    theirs.step(b"")
    with pytest.raises(sasl.SaslMalformed):
        theirs.step(challenge)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,n=user",
        b"p=tls-unique,,n=user,r=abc",
        b"n,,n=us=2Der,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=user,r=a\0c",
    ],
)
def test_malformed_client_first(message: bytes) -> None:
    with pytest.raises(sasl.SaslMalformed):
        server("SCRAM-SHA-256").step(message)


def test_scram_final_with_another_nonce_or_header() -> None:
    for final in (
        b"c=biws,r=abcOTHER,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"c=eSws,r=abc%b,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    ):
        ours = server("SCRAM-SHA-1")
        ours.step(b"n,,n=user,r=abc")
        ours.keys(passwords.derive("SCRAM-SHA-1", "pencil", b"salt", 4096))
        with pytest.raises(sasl.SaslMalformed):
            ours.step(final.replace(b"%b", NONCE))


@pytest.mark.feature("SEC-006")
def test_plain_begins_with_an_empty_challenge() -> None:
    ours = server("plain")
    assert ours.step(None) == Challenge(b"")
    assert ours.step(b"\0tim\0tanstaaftanstaaf") == Done("tim", "", PlainPassword("tanstaaftanstaaf"))
    assert server("PLAIN").step(b"Ursel\0Kurt\0xipj3plmq") == Done("Kurt", "Ursel", PlainPassword("xipj3plmq"))


@pytest.mark.feature("SEC-007")
def test_login_with_and_without_the_name() -> None:
    ours = server("LOGIN")
    assert ours.step(None) == Challenge(b"Username:")
    assert ours.step(b"tim") == Challenge(b"Password:")
    assert ours.step(b"secret") == Done("tim", "", PlainPassword("secret"))
    ours = server("LOGIN")
    assert ours.step(b"tim") == Challenge(b"Password:")
    assert ours.step(b"secret") == Done("tim", "", PlainPassword("secret"))


def test_cram_md5_sample() -> None:
    """RFC 2195, 2."""
    ours = server("CRAM-MD5")
    assert ours.step(None) == Challenge(CHALLENGE)
    done = sasl.server_mechanism("CRAM-MD5", challenge=b"<1896.697170952@postoffice.reston.mci.net>", nonce=NONCE)
    assert done is not None
    result = done.step(b"tim b913a602c7eda7a495b4e6e7334d3890")
    assert isinstance(result, Done)
    assert isinstance(result.evidence, DigestProof)
    assert result.evidence.holds("tanstaaftanstaaf")
    assert not result.evidence.holds("tanstaaf")


@pytest.mark.feature("STD-012")
def test_apop_sample() -> None:
    """RFC 1939, 7."""
    proof = sasl.apop_proof(b"<1896.697170952@dbc.mtview.ca.us>", "c4c9334bac560ecc979e58001b3e22fb")
    assert proof.holds("tanstaaf")
    assert not proof.holds("tanstaag")
    with pytest.raises(sasl.SaslMalformed):
        sasl.apop_proof(b"<x@y>", "c4c9334bac560ecc979e58001b3e22")


def test_challenge_methods_need_a_password_that_can_be_read() -> None:
    key = b"k" * 32
    stored = passwords.store("secret", Encryption.A_CRPT, salt=bytes(16), key=key)
    theirs = client("CRAM-MD5", "tim", "secret")
    done = server("CRAM-MD5").step(theirs.step(CHALLENGE))
    assert isinstance(done, Done)
    assert isinstance(done.evidence, DigestProof)
    clear = passwords.clear_text(stored, key)
    assert clear is not None
    assert done.evidence.holds(clear)
    assert passwords.clear_text(passwords.store("secret", Encryption.U_CRPT, salt=bytes(16), iterations=9), key) is None


def test_base64_lines() -> None:
    assert sasl.decode(b"dGlt\r\n") == b"tim"
    assert sasl.decode(b"") == b""
    assert sasl.decode_initial(b"=") == b""
    with pytest.raises(sasl.SaslCancelled):
        sasl.decode(b"*\r\n")
    for bad in (b"!!!!", b"dGl", b"d=", b"A" * 100_000):
        with pytest.raises(sasl.SaslMalformed):
            sasl.decode(bad)


def test_unknown_methods() -> None:
    assert sasl.server_mechanism("NTLM", challenge=b"", nonce=b"") is None
    assert sasl.client_mechanism("EXTERNAL", "a", "b", nonce=b"") is None


@given(method=st.sampled_from(sasl.METHODS), responses=st.lists(st.binary(max_size=60) | st.none(), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_bytes_end_in_a_step_or_a_sasl_error(method: str, responses: list[bytes | None]) -> None:
    ours = server(method)
    keys = passwords.ScramKeys(b"salt", 4096, hashlib.sha256(b"x").digest(), b"y")
    try:
        for response in responses:
            step = ours.step(response)
            if isinstance(step, Lookup):
                step = ours.keys(keys)
            if isinstance(step, Done):
                assert not isinstance(step.evidence, Proven)
                break
    except sasl.SaslError:
        pass
