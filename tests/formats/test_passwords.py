from __future__ import annotations

import base64
import hashlib
import subprocess
from shutil import which

import pytest

from appliance.formats import passwords
from appliance.formats.passwords import Encryption, PasswordError
from appliance.formats.saslprep import saslprep
from appliance.formats.unixcrypt import crypt, md5_crypt

SALT = bytes(range(16))
KEY = b"k" * 32


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_one_way_form_verifies_and_hides() -> None:
    stored = passwords.store("Geheim ist geheim", Encryption.U_CRPT, salt=SALT, iterations=4096)
    assert stored.startswith("\x02{SCRAM-SHA-256}4096:")
    assert "Geheim" not in stored
    assert passwords.verify(stored, "Geheim ist geheim")
    assert not passwords.verify(stored, "geheim ist geheim")
    assert not passwords.verify(stored, "")
    assert passwords.clear_text(stored, KEY) is None
    assert passwords.is_one_way(stored)


def test_one_way_form_serves_scram() -> None:
    stored = passwords.store("pencil", Encryption.U_CRPT, salt=SALT, iterations=4096)
    keys = passwords.scram_keys(stored, "SCRAM-SHA-256")
    assert keys == passwords.derive("SCRAM-SHA-256", "pencil", SALT, 4096)
    assert passwords.scram_keys(stored, "SCRAM-SHA-1") is None
    both = stored + " " + passwords.scram_text("SCRAM-SHA-1", passwords.derive("SCRAM-SHA-1", "pencil", SALT, 4096))
    assert passwords.scram_keys(both, "SCRAM-SHA-1") is not None
    assert passwords.verify(both, "pencil")


def test_reversible_form_needs_the_key() -> None:
    stored = passwords.store("pässword", Encryption.A_CRPT, salt=SALT, key=KEY)
    assert stored[0] == "\x01"
    assert "ssword" not in stored
    assert passwords.clear_text(stored, KEY) == "pässword"
    assert passwords.verify(stored, "pässword", KEY)
    assert not passwords.verify(stored, "password", KEY)
    assert passwords.clear_text(stored, b"x" * 32) is None
    assert not passwords.verify(stored, "pässword", b"x" * 32)
    assert not passwords.verify("\x01not base64!", "x", KEY)


def test_clear_form() -> None:
    stored = passwords.store("open", Encryption.CLEAR, salt=SALT)
    assert stored == "open"
    assert passwords.verify(stored, "open")
    assert passwords.scram_keys(stored, "SCRAM-SHA-1", salt=SALT) == passwords.derive(
        "SCRAM-SHA-1", "open", SALT, passwords.ITERATIONS
    )


def test_one_spelling_of_an_accent_is_as_good_as_the_other() -> None:
    stored = passwords.store("caf\u00e9", Encryption.U_CRPT, salt=SALT, iterations=4096)
    assert passwords.verify(stored, "cafe\u0301")


@pytest.mark.feature("SEC-039")
@pytest.mark.parametrize("stored", ["", "\x02", "\x01", "\x02{SHA}", "\x02{crypt}", "\x02$1$"])
def test_empty_passwords_never_match(stored: str) -> None:
    assert not passwords.verify(stored, "")
    assert not passwords.verify(stored, "x")


def digest(name: str) -> str:
    return b64(hashlib.new(name, b"secret").digest())


@pytest.mark.feature("SEC-037", "SEC-038", "MIGR-025", "MIGR-026", "MIGR-027", "MIGR-028", "MIGR-030", "MIGR-022")
@pytest.mark.parametrize(
    "value",
    [
        "{SHA}" + digest("sha1"),
        "{MD5}" + digest("md5"),
        "{md5}" + digest("md5"),
        "{crypt}" + md5_crypt(b"secret", "$1$pepper"),
        "{WM-CRY}" + md5_crypt(b"secret", "$1$pepper"),
        md5_crypt(b"secret", "$1$pepper"),
    ],
)
def test_forms_of_other_servers(value: str) -> None:
    stored = passwords.import_one_way(value)
    assert stored[0] == "\x02"
    assert passwords.verify(stored, "secret")
    assert not passwords.verify(stored, "Secret")


@pytest.mark.feature("MIGR-029")
def test_post_office_form() -> None:
    stored = "\x02{NS-MTA-MD5}f8b4eac9f051a61eebe266f9c29a193626d8eb25c2598c55c8874260b24eb435"
    assert passwords.verify(stored, "testpass")
    assert not passwords.verify(stored, "testpast")


@pytest.mark.feature("MIGR-031", "ACCT-034")
def test_host_crypt_forms() -> None:
    if crypt(b"x", "ab") is None:
        pytest.skip("this host has no crypt library")
    assert passwords.verify("\x02rl.3StKT.4T8M", "rasmuslerdorf")
    assert passwords.verify("\x02{crypt}rl.3StKT.4T8M", "rasmuslerdorf")
    assert not passwords.verify("\x02rl.3StKT.4T8M", "other")
    made = crypt(b"secret", "$6$saltsalt$")
    if made is not None:
        assert passwords.verify("\x02" + made, "secret")


@pytest.mark.skipif(which("openssl") is None, reason="no openssl here")
@pytest.mark.parametrize("password", ["x", "secret", "a rather long password of more than sixteen bytes"])
def test_md5_crypt_agrees_with_openssl(password: str) -> None:
    made = subprocess.run(
        ["openssl", "passwd", "-1", "-salt", "abcdefgh", password], capture_output=True, check=True, text=True
    ).stdout.strip()
    assert md5_crypt(password.encode(), "$1$abcdefgh$") == made


@pytest.mark.parametrize(
    "value", ["{XYZ}abc", "{SHA}", "{", "{NS-MTA-MD5}12", "{SCRAM-SHA-256}9:x$y", "$9$x", "*", "!"]
)
def test_damaged_values_never_match(value: str) -> None:
    assert not passwords.verify("\x02" + value, "secret")


def test_absurd_iterations_are_not_tried() -> None:
    keys = passwords.derive("SCRAM-SHA-256", "x", SALT, 1)._replace(iterations=10**12)
    assert not passwords.verify("\x02" + passwords.scram_text("SCRAM-SHA-256", keys), "x")


@pytest.mark.parametrize("password", ["", "a\nb", "\x02hash", "x" * 1025])
def test_what_may_not_become_a_password(password: str) -> None:
    with pytest.raises(PasswordError):
        passwords.store(password, Encryption.CLEAR, salt=SALT)


def test_decoys_are_steady_and_differ_by_name() -> None:
    one = passwords.decoy_keys("nobody", "SCRAM-SHA-256", KEY)
    assert one == passwords.decoy_keys("nobody", "SCRAM-SHA-256", KEY)
    assert one.salt != passwords.decoy_keys("nobody2", "SCRAM-SHA-256", KEY).salt
    assert len(passwords.decoy_keys("nobody", "SCRAM-SHA-1", KEY).stored_key) == 20


def test_saslprep_samples_of_the_rfc() -> None:
    # RFC 4013, 3
    assert saslprep("I\u00adX") == "IX"
    assert saslprep("USER") == "USER"
    assert saslprep("\u00aa") == "a"
    assert saslprep("\u2168") == "IX"
    for bad in ("\u0007", "\u06271"):
        with pytest.raises(ValueError, match=r"prohibited|mixed"):
            saslprep(bad)
