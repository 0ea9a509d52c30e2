"""Keys and certificates of domains: made on the page and by the command line, shown to clients at the next connection."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.formats.data import Value, render
from appliance.kernel.certificates import Attributes, make_key, self_signed
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import HOST, CommandLine, House, Refusal

PAGE = "/Domains/client.test/Security"


@pytest.fixture
async def cli(house: House) -> AsyncIterator[CommandLine]:
    made = await house.cli()
    await made("CreateDomain client.test")
    await made("SetDomainAliases client.test (mail.client.test)")
    await made(f"CreateAccount admin@client.test {{Password={PASSWORD};}}")
    await made("UpdateDomainSettings client.test {CertificateType=Custom;}")
    yield made


async def security(cli: CommandLine) -> dict[str, Value]:
    found = await cli("GetDomainSecurity client.test")
    assert isinstance(found, dict)
    return found


def quoted(text: str) -> str:
    return render(text)


async def shown(house: House, name: str = "client.test") -> list[x509.Certificate]:
    """The certificates that a client of this server name gets, or none without encryption."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = await trio.open_tcp_stream(HOST, house.port("IMAPS"))
    secure = trio.SSLStream(stream, context, server_hostname=name)
    try:
        await secure.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError):
        return []
    der = secure.getpeercert(True)
    assert isinstance(der, bytes)
    await trio.aclose_forcefully(stream)
    return [x509.load_der_x509_certificate(der)]


def common(name: x509.Name) -> object:
    return name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


@pytest.mark.feature("SEC-144", "SEC-147", "SEC-149", "SEC-150", "SEC-154", "SEC-148")
async def test_a_key_and_a_certificate_of_its_own_from_the_page(house: House, cli: CommandLine) -> None:
    body = (await house.page(PAGE)).body
    assert "Generate Key" in body and "Generate Self-Signed" not in body
    body = (await house.page(PAGE, {"kind": "2048", "do-generate": "1"})).body
    assert "Verification String is OK" in body and "PRIVATE KEY" not in body
    assert "<option>client.test</option>" in body and "<option>mail.client.test</option>" in body
    subject = {
        "subject.CommonName": "mail.client.test",
        "subject.Country": "NL",
        "subject.Province": "Gelderland",
        "subject.City": "Arnhem",
        "subject.Organization": "Client & Co",
        "subject.Unit": "Post",
        "subject.Contact": "post@client.test",
    }
    for contact in ("", "nobody", "a b@client.test"):
        refused = await house.page(PAGE, {**subject, "subject.Contact": contact, "do-self-sign": "1"})
        assert refused.status == 400 and "Contact is a valid E-mail address" in refused.body
    body = (await house.page(PAGE, {**subject, "do-self-sign": "1"})).body
    for text in ("mail.client.test", "NL", "Gelderland", "Arnhem", "Client &amp; Co", "Post", "post@client.test"):
        assert body.count(f"</span> {text}</div>") == 2, text  # to and by
    assert "Valid From" in body and "Valid Till" in body
    (certificate,) = await shown(house)
    assert common(certificate.subject) == common(certificate.issuer) == "mail.client.test"
    assert common((await shown(house, "box.test"))[0].subject) == "box.test"
    body = (await house.page(PAGE, {"do-remove-key": "1"})).body
    assert "Generate Key" in body
    assert await security(cli) == {}


@pytest.mark.feature("SEC-145", "SEC-155")
async def test_a_key_made_elsewhere(house: House, cli: CommandLine) -> None:
    long = rsa.generate_private_key(65537, 4096)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    pem = long.private_bytes(*form).decode()
    await cli(f"SetDomainPrivateKey client.test KEY {quoted(pem)}")
    assert (await security(cli))["KeyTest"] == "Verification String is OK"
    for wrong in ("no key at all", pem[: len(pem) // 2], "512"):
        with pytest.raises(Refusal, match="private key"):
            await cli(f"SetDomainPrivateKey client.test KEY {quoted(wrong)}")
    answer = await house.page(PAGE, {"key": "garbage", "do-set-key": "1"})
    assert answer.status == 400 and "not a private key" in answer.body
    assert (await security(cli))["KeyTest"] == "Verification String is OK"


@pytest.mark.feature("SEC-151", "SEC-152", "SEC-153", "SEC-158", "SEC-159")
async def test_an_authority_signs(house: House, cli: CommandLine) -> None:
    await cli("SetDomainPrivateKey client.test KEY P-256")
    await cli("SelfSignDomainCertificate client.test")
    own = (await shown(house))[0]
    text = await cli("GetDomainCertificateRequest client.test {Organization=Client;}")
    request = x509.load_pem_x509_csr(str(text).encode())
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["client.test", "mail.client.test"]
    assert (await shown(house))[0] == own, "in use until the answer is there"
    authority_key = make_key()
    authority = self_signed(authority_key, Attributes(["authority.test"]), house.server.clock.now())
    signed = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(x509.load_pem_x509_certificate(authority.encode()).subject)
        .public_key(request.public_key())
        .serial_number(2**150)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .sign(serialization.load_pem_private_key(authority_key.encode(), None), hashes.SHA256())  # type: ignore[arg-type]
    )
    answer = signed.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(Refusal, match="another key"):
        await cli(f"SetDomainCertificate client.test CERTIFICATE {quoted(authority)}")
    await cli(f"SetDomainCertificate client.test CERTIFICATE {quoted(answer)}")
    assert (await shown(house))[0] == signed
    with pytest.raises(Refusal):
        await cli("SetDomainCertificateChain client.test CHAIN nonsense")
    body = (await house.page(PAGE, {"chain": authority, "do-set-chain": "1"})).body
    assert "authority.test" in body
    process = await trio.run_process(
        [
            "openssl",
            "s_client",
            "-showcerts",
            "-servername",
            "client.test",
            "-connect",
            f"{HOST}:{house.port('IMAPS')}",
        ],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert process.stdout.count(b"BEGIN CERTIFICATE") == 2
    await house.page(PAGE, {"do-remove-chain": "1"})
    assert "Chain" not in await security(cli)


@pytest.mark.feature("SEC-156", "SEC-157")
async def test_it_stays_when_the_domain_is_renamed_and_goes_when_removed(house: House, cli: CommandLine) -> None:
    await cli("SetDomainPrivateKey client.test KEY P-256")
    await cli("SelfSignDomainCertificate client.test")
    await cli("RenameDomain client.test INTO other.test")
    await cli("UpdateDomainSettings other.test {CertificateType=Custom;}")
    assert common((await shown(house, "other.test"))[0].subject) == "client.test"
    body = (await house.page("/Domains/other.test/Security", {"do-remove-certificate": "1"})).body
    assert "Generate Self-Signed" in body and "Remove Certificate" not in body
    await cli('UpdateDomainSettings other.test {IPMode="Manually Defined"; IPAddresses=(127.0.0.1);}')
    assert await shown(house, "other.test") == []


@pytest.mark.feature("SEC-161", "ADM-154")
async def test_the_right_to_change_it(house: House, cli: CommandLine) -> None:
    for rights, may in (("Domain", False), ("Domain,CertificateType", True)):
        await cli(f"SetAccountRights admin@client.test ({rights})")
        page = await house.page(PAGE, name="admin@client.test", password=PASSWORD)
        assert page.status == 200 and ("Generate Key" in page.body) is may
        own = await house.cli("admin@client.test", PASSWORD)
        if may:
            await own("SetDomainPrivateKey client.test KEY P-256")
        else:
            with pytest.raises(Refusal):
                await own("SetDomainPrivateKey client.test KEY P-256")
            form = {"kind": "P-256", "do-generate": "1"}
            refused = await house.page(PAGE, form, name="admin@client.test", password=PASSWORD)
            assert refused.status in (400, 401, 403)
        assert bool(await security(cli)) is may


async def test_bad_attributes_are_named(house: House, cli: CommandLine) -> None:
    with pytest.raises(Refusal, match="no private key"):
        await cli("SelfSignDomainCertificate client.test")
    await cli("SetDomainPrivateKey client.test KEY P-256")
    for attributes, text in (
        ("{CommonName=box.test;}", "Common Name"),
        ("{Country=Holland;}", "two letters"),
        ("{Colour=red;}", "Colour"),
    ):
        with pytest.raises(Refusal, match=text):
            await cli(f"SelfSignDomainCertificate client.test {attributes}")


@pytest.mark.feature("ACC-024", "SEC-142")
async def test_the_address_of_the_connection_chooses_the_certificate(house: House, cli: CommandLine) -> None:
    """Clients that give no server name: on TLS ports and after STARTTLS. What was entered counts only while it is selected."""
    await cli("SetDomainPrivateKey client.test KEY P-256")
    await cli("SelfSignDomainCertificate client.test")

    async def names() -> list[bytes]:
        found = []
        for arguments in (
            ("-connect", f"{HOST}:{house.port('IMAPS')}"),
            ("-starttls", "smtp", "-connect", f"{HOST}:{house.port('SMTP')}"),
        ):
            process = await trio.run_process(
                ["openssl", "s_client", "-noservername", *arguments],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            line = next(line for line in process.stdout.splitlines() if line.startswith(b"subject="))
            found.append(b"client.test" if b"client.test" in line else line)
        return found

    assert b"client.test" not in await names()
    await cli('UpdateDomainSettings client.test {IPMode="Manually Defined"; IPAddresses=(127.0.0.1);}')
    assert await names() == [b"client.test", b"client.test"]
    await cli("UpdateDomainSettings client.test {CertificateType=Server;}")
    assert b"client.test" not in await names()
