"""Certificates and contexts: which one a client sees, sessions that go on, keys that are made."""

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme

from appliance.kernel import certificates
from appliance.kernel.certificates import Attributes
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.clock import SystemClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.files import SECRET_MODE
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.settings import SettingError, Settings
from appliance.kernel.settings_files import DictionaryFile
from appliance.kernel.tls import TLS, Credentials, Tls


class Domains:
    """Three domains: one with its own certificate, one that uses the server's, one without."""

    def __init__(self) -> None:
        key = certificates.make_key()
        self.own = Credentials(key, certificates.self_signed(key, Attributes(["own.example"]), 1_790_000_000))
        self.addresses = {"10.0.0.1": "own.example", "10.0.0.2": "plain.example", "10.0.0.3": "none.example"}
        self.modes = {"own.example": "Custom", "plain.example": "Server", "none.example": "No"}

    def domain_of_address(self, local: str) -> str | None:
        return self.addresses.get(local, "plain.example")

    def domain_of_name(self, name: str) -> str | None:
        return name.removeprefix("mail.") if name.removeprefix("mail.") in self.modes else None

    def certificate_mode(self, domain: str) -> str:
        return self.modes[domain]

    def credentials(self, domain: str) -> Credentials | None:
        return self.own

    def custom_domains(self) -> list[str]:
        return [domain for domain, mode in self.modes.items() if mode == "Custom"]


async def tls(directory: Path) -> tuple[Tls, MemoryLog]:
    log = MemoryLog()
    disk = InLoopDisk()
    file = DictionaryFile(disk, str(directory / "TLS.settings"), log.source("SYSTEM"), SECRET_MODE)
    settings = Settings(TLS, file)
    await settings.load()
    made = Tls(settings, disk, str(directory), SystemClock(), log.source("TLS"), host_name="box.example")
    made.domains = Domains()
    return made, log


async def handshake(
    service: Tls, local: str, name: str | None = None, session: ssl.SSLSession | None = None
) -> tuple[Channel, Channel]:
    near, far = channel_pair(client="192.0.2.9", server=local)
    service.equip(far)
    context = await service.client_context(verify=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.start_tls)
        await near.start_tls(context, server_side=False, hostname=name)
    return near, far


def shown(channel: Channel) -> str:
    der = channel.peer_certificate()
    assert der is not None
    return certificates.describe(ssl.DER_cert_to_PEM_cert(der))[0].issued_to["Common Name"]


@pytest.mark.feature("LSN-031", "SEC-140", "SEC-141", "SEC-142", "SEC-143")
async def test_the_certificate_follows_the_local_address_and_the_asked_name(tmp_path: Path) -> None:
    service, _ = await tls(tmp_path)
    await service.load()
    assert shown((await handshake(service, "10.0.0.1"))[0]) == "own.example"
    assert shown((await handshake(service, "10.0.0.2"))[0]) == "box.example"
    assert service.context("10.0.0.3") is None
    _, far = channel_pair(server="10.0.0.3")
    service.equip(far)
    assert not far.can_start_tls
    with pytest.raises(ChannelError, match="no certificate"):
        await far.start_tls()
    for name, certificate in (("mail.own.example", "own.example"), ("strange.example", "box.example")):
        assert shown((await handshake(service, "10.0.0.2", name))[0]) == certificate


@pytest.mark.feature("SEC-125", "SEC-127")
async def test_handshakes_are_logged_and_counted(tmp_path: Path) -> None:
    service, log = await tls(tmp_path)
    await service.load()
    await handshake(service, "10.0.0.1")
    assert service.handshakes.value == 1
    assert log.records[-1][:2] == (4, "TLS") and "TLSv1.3" in log.records[-1][2]
    near, far = channel_pair(client="192.0.2.9", server="10.0.0.1")
    service.equip(far)
    await near.send(b"no handshake at all")
    with pytest.raises(ChannelError):
        await far.start_tls()
    assert service.failed.value == 1 and log.records[-1][2].startswith("[192.0.2.9]: TLS handshake failed")


async def test_the_servers_certificate_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    service, _ = await tls(tmp_path)
    await service.load()
    first = (await handshake(service, "10.0.0.2"))[0].peer_certificate()
    again, _ = await tls(tmp_path)
    await again.load()
    assert (await handshake(again, "10.0.0.2"))[0].peer_certificate() == first
    assert os.listdir(tmp_path) == ["TLS.settings"]
    if os.name != "nt":
        assert (tmp_path / "TLS.settings").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(again.settings["PrivateKey"])


@pytest.mark.feature("LSN-037", "SEC-126")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_goes_on_until_the_contexts_are_renewed(tmp_path: Path, version: ssl.TLSVersion) -> None:
    service, _ = await tls(tmp_path)
    await service.load()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version

    async def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
        near, far = channel_pair(server="10.0.0.1")
        service.equip(far)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client.wrap_bio(incoming, outgoing, session=session)

        async def work() -> None:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await near.send(outgoing.read())
                    incoming.write(await near.receive())
            await near.send(outgoing.read())
            while True:
                try:
                    assert tls.read(10) == b"hello"
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await near.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await far.start_tls()
            await far.send(b"hello")
        assert far.tls is not None and tls.session is not None
        return tls.session, far.tls.resumed

    session, resumed = await connect(None)
    assert not resumed
    session, resumed = await connect(session)
    assert resumed and service.resumed.value == 1
    await service.refresh()
    session, resumed = await connect(session)
    assert resumed
    await service.refresh(renew=True)
    assert not (await connect(session))[1]


async def test_a_changed_certificate_counts_for_new_handshakes(tmp_path: Path) -> None:
    service, log = await tls(tmp_path)
    domains = service.domains
    assert isinstance(domains, Domains)
    await service.load()
    key = certificates.make_key()
    domains.own = Credentials(key, certificates.self_signed(key, Attributes(["new.example"]), 1_790_000_000))
    await service.refresh()
    assert shown((await handshake(service, "10.0.0.1"))[0]) == "new.example"
    domains.own = Credentials(certificates.make_key(), domains.own.certificate)
    await service.refresh()
    assert "the certificate of own.example cannot be used" in log.text()
    assert service.context("10.0.0.1") is None and service.context("10.0.0.2") is not None


async def test_a_client_verifies_or_takes_what_it_gets(tmp_path: Path) -> None:
    service, _ = await tls(tmp_path)
    await service.load()
    near, far = channel_pair(server="10.0.0.1")
    service.equip(far)
    with pytest.raises(ChannelError, match="certificate"):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(ChannelError):
                    await far.start_tls()

            nursery.start_soon(serve)
            try:
                await near.start_tls(await service.client_context(), server_side=False, hostname="own.example")
            except ChannelError as error:
                problem = error
        raise problem


def test_certificates_say_whom_they_are_for() -> None:
    from cryptography import x509

    key = certificates.make_key()
    attributes = Attributes(
        ["example.com", "mail.example.com", "192.0.2.1"], "DE", "Berlin", "Berlin", "Example", "IT", "root@example.com"
    )
    certificate = certificates.self_signed(key, attributes, 1_790_000_000)
    (info,) = certificates.describe(certificate)
    assert (
        info.issued_to
        == info.issued_by
        == {
            "Country": "DE",
            "Province": "Berlin",
            "City": "Berlin",
            "Organization": "Example",
            "Unit": "IT",
            "Common Name": "example.com",
            "Contact": "root@example.com",
        }
    )
    assert info.names == ("example.com", "mail.example.com", "192.0.2.1")
    assert info.valid_from < datetime.fromtimestamp(1_790_000_000, UTC) < info.valid_till
    certificates.check_certificate(key, certificate)
    with pytest.raises(ValueError, match="another key"):
        certificates.check_certificate(certificates.make_key(), certificate)
    with pytest.raises(ValueError, match="not a certificate"):
        certificates.check_certificate(key, "garbage")
    request = x509.load_pem_x509_csr(certificates.signing_request(key, attributes).encode())
    assert request.is_signature_valid


def test_keys_from_elsewhere_are_tested() -> None:
    for kind in ("P-256", "2048"):
        certificates.check_key(certificates.make_key(kind))
    authority = trustme.CA().issue_cert("x.example").private_key_pem.bytes().decode()
    certificates.check_key(authority)
    with pytest.raises(ValueError, match="not a private key"):
        certificates.check_key("garbage")
    with pytest.raises(ValueError):
        certificates.make_key("512")


async def test_what_could_not_be_used_is_refused(tmp_path: Path) -> None:
    service, log = await tls(tmp_path)
    await service.load()
    before = service.settings.stored()
    key = certificates.make_key()
    own = certificates.self_signed(key, Attributes(["own.example"]), 1_790_000_000)
    for changes in (
        {"PrivateKey": "(((("},
        {"Certificate": "garbage"},
        {"PrivateKey": key},
        {"Certificate": own},
        {"CAChain": "x"},
        {"PrivateKey": ""},
    ):
        with pytest.raises(SettingError):
            await service.settings.update(changes)
        assert service.settings.stored() == before
    await service.settings.update({"PrivateKey": key, "Certificate": own, "CAChain": own})
    await service.refresh()
    assert shown((await handshake(service, "10.0.0.2"))[0]) == "own.example"
    assert "cannot be used" not in log.text()


async def test_a_certificate_that_is_cleared_is_made_anew(tmp_path: Path) -> None:
    service, _ = await tls(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        first, key = service.settings["Certificate"], service.settings["PrivateKey"].reveal()
        await service.settings.update({"Certificate": ""})
        made = trio.Event()
        service.settings.watch(lambda changed: made.set())
        with trio.fail_after(5):
            await made.wait()
        assert service.settings["Certificate"] != first
        assert service.settings["PrivateKey"].reveal() == key
        nursery.cancel_scope.cancel()
