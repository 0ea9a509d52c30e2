"""TLS: which certificate a connection shows, and the contexts of both roles. TLS 1.2 and 1.3 only (RFC 9325).

The certificate follows the name that the client asks for (SNI), else the domain of the local address, else the main domain.
A domain uses its own key and certificate ("Custom"), the server's ("Server"), or none ("No"). The server's own is made at
the first start, signed by itself, and kept in `Settings/TLS.settings`; no key is ever shipped.

OpenSSL keeps the state of resumable sessions with a context, so contexts are renewed once in a Time To Live: what is older
is a full handshake again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import trio

from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.files import SECRET_MODE, Files
from appliance.kernel.log import Logger
from appliance.kernel.settings import Group, LogLevel, Secret, SecretLines, Setting, SettingError, Settings, Text, Time
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import TaskStatus, in_thread

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS", "TLS_LOG", "Credentials", "DomainCertificates", "Tls"]

TLS_LOG = Setting("LogLevel", LogLevel(), 3, "Log", "TLS Sessions")
TIME_TO_LIVE = Setting("TimeToLive", Time(60, 86400), 3600, "Time To Live", "TLS Sessions")
KEY = Setting("PrivateKey", SecretLines(), Secret(""), "Private Key", "Server Certificate", secret=True)
CERTIFICATE = Setting("Certificate", Text(limit=65536, lines=True), "", "Certificate", "Server Certificate")
CHAIN = Setting("CAChain", Text(limit=1 << 20, lines=True), "", "Certificate Authority Chain", "Server Certificate")


async def _go_together(values: Mapping[str, Any], changed: frozenset[str]) -> None:
    """A key, a certificate or a chain that TLS could not use is refused while the old ones still work."""
    if changed.isdisjoint((KEY.key, CERTIFICATE.key, CHAIN.key)):
        return

    def check() -> None:
        from appliance.kernel import certificates

        key, certificate, chain = values[KEY.key].reveal(), values[CERTIFICATE.key], values[CHAIN.key]
        place = KEY.key
        try:
            if key:
                certificates.check_key(key)
            elif certificate:
                raise ValueError("the key of the certificate is missing")
            place = CERTIFICATE.key
            if certificate:
                certificates.check_certificate(key, certificate)
            place = CHAIN.key
            if chain:
                certificates.describe(chain)
        except ValueError as error:
            raise SettingError(place, str(error)) from None

    await in_thread(check)


TLS = Group("TLS", "TLS Sessions", (TLS_LOG, TIME_TO_LIVE, KEY, CERTIFICATE, CHAIN), _go_together)

_DAY: Final = 86400
_WARN_BEFORE: Final = 30 * _DAY


class Credentials(NamedTuple):
    """A private key, its certificate and the chain to an authority, all PEM."""

    key: str
    certificate: str
    chain: str = ""


class DomainCertificates(Protocol):
    """Who knows the domains (the objects room). All answers are immediate."""

    def domain_of_address(self, local: str) -> str | None:
        """The domain a local address is assigned to; the main domain where none is."""
        ...

    def domain_of_name(self, name: str) -> str | None:
        """The domain of a host name that a client asks for: a domain or an alias of one, None if it is not ours."""
        ...

    def certificate_mode(self, domain: str) -> str:
        """No, Server or Custom."""
        ...

    def credentials(self, domain: str) -> Credentials | None:
        """The domain's own key and certificate, if it has both."""
        ...

    def custom_domains(self) -> list[str]:
        """The domains whose mode is Custom."""
        ...


class _ServerOnly:
    """Before domains are known: the server's certificate for everybody."""

    def domain_of_address(self, local: str) -> str | None:
        return ""

    def domain_of_name(self, name: str) -> str | None:
        return None

    def certificate_mode(self, domain: str) -> str:
        return "Server"

    def credentials(self, domain: str) -> Credentials | None:
        return None

    def custom_domains(self) -> list[str]:
        return []


class Tls:
    """The contexts. `domains` is registered by the objects room; call `refresh()` when its answers change."""

    def __init__(
        self,
        settings: Settings,
        disk: Disk,
        directory: str,
        clock: Clock,
        log: Logger,
        statistics: Statistics | None = None,
        *,
        host_name: str = "localhost",
    ) -> None:
        self.settings = settings
        self.domains: DomainCertificates = _ServerOnly()
        #: Told when a certificate is about to expire (an event).
        self.expiring: Callable[[str, float], None] | None = None
        self.host_name = host_name
        self._disk = disk
        self._directory = directory
        self._clock = clock
        self._log = log
        self._server: ssl.SSLContext | None = None
        self._custom: dict[str, tuple[Credentials, ssl.SSLContext]] = {}
        self._clients: dict[tuple[bool, tuple[str, ...]], ssl.SSLContext] = {}
        self._lock = trio.Lock()
        self._changed = trio.Event()
        counters = statistics or Statistics()
        self.handshakes = counters.counter("tls.handshakes", "TLS connections")
        self.resumed = counters.counter("tls.resumed", "TLS connections that went on with an earlier session")
        self.failed = counters.counter("tls.failed", "TLS handshakes that failed")

    # -- server side --------------------------------------------------------------------------------------------------

    def context(self, local: str) -> ssl.SSLContext | None:
        """The server context for connections to a local address; None: its domain has no certificate."""
        domain = self.domains.domain_of_address(local)
        return self._of_domain(domain if domain is not None else "")

    def _of_domain(self, domain: str) -> ssl.SSLContext | None:
        mode = self.domains.certificate_mode(domain)
        if mode == "Server":
            return self._server
        if mode == "Custom":
            own = self._custom.get(domain)
            return own[1] if own else None
        return None

    def _choose_by_name(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """The certificate of the name that the client asks for (RFC 6066, 3); an unknown name changes nothing."""
        if name:
            domain = self.domains.domain_of_name(name.lower())
            found = self._of_domain(domain) if domain is not None else None
            if found is not None and found is not context:
                connection.context = found

    def equip(self, channel: Channel) -> None:
        """Let a channel start TLS as a server and report its handshakes."""
        channel.certificate = partial(self.context, channel.local.address)
        channel.tls_report = self._report

    def _report(self, channel: Channel, problem: str | None) -> None:
        session = channel.session
        log = self._log.session(session.number) if session is not None else self._log
        if problem is not None:
            self.failed.add()
            log.problem("[%s]: %s", channel.peer.address, problem)
            return
        self.handshakes.add()
        info = channel.tls
        if info is not None:
            if info.resumed:
                self.resumed.add()
            log.low("%s %s%s", info.version, info.cipher, ", resumed" if info.resumed else "")

    async def load(self) -> None:
        """Make the server's key and certificate if there is none yet, and all contexts. Raises OSError."""
        if not (self.settings[KEY] and self.settings[CERTIFICATE]):
            await self._make_server_certificate()
        await self.refresh(renew=True)

    async def _make_server_certificate(self) -> None:
        now, known = self._clock.now(), self.settings[KEY].reveal()

        def make() -> tuple[str, str]:
            from appliance.kernel import certificates

            key = known or certificates.make_key()
            names = certificates.Attributes([self.host_name])
            return key, certificates.self_signed(key, names, now)

        key, certificate = await in_thread(make)
        await self.settings.update({KEY.key: key, CERTIFICATE.key: certificate})
        made = (
            "a self-signed certificate for %s is made"
            if known
            else "a key and a self-signed certificate for %s are made"
        )
        self._log.major(made, self.host_name)

    async def refresh(self, *, renew: bool = False) -> None:
        """Take over changed certificates; open connections keep theirs. With `renew` also the unchanged ones anew."""
        async with self._lock:
            server = Credentials(self.settings[KEY].reveal(), self.settings[CERTIFICATE], self.settings[CHAIN])
            context = await self._build("the server", server)
            if context is not None:
                self._server = context
            custom: dict[str, tuple[Credentials, ssl.SSLContext]] = {}
            for domain in self.domains.custom_domains():
                credentials = self.domains.credentials(domain)
                if credentials is None:
                    continue
                known = self._custom.get(domain)
                if known is not None and known[0] == credentials and not renew:
                    custom[domain] = known
                    continue
                context = await self._build(domain, credentials)
                if context is not None:
                    custom[domain] = (credentials, context)
            self._custom = custom

    async def _build(self, name: str, credentials: Credentials) -> ssl.SSLContext | None:
        pem = "\n".join((credentials.key, credentials.certificate, credentials.chain)).encode()
        path = f"{self._directory}/TLS.loading"
        try:
            return await self._disk.run(_server_context, path, pem, self._choose_by_name)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            self._log.failure("the certificate of %s cannot be used: %s", name, error)
            return None

    # -- client side --------------------------------------------------------------------------------------------------

    async def client_context(self, *, verify: bool = True, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A context for outgoing connections: `verify` checks certificate and name against the system's authorities,
        otherwise the connection is encrypted without knowing to whom (RFC 7435)."""
        key = (verify, alpn)
        if key not in self._clients:
            self._clients[key] = await in_thread(partial(_client_context, verify, alpn))
        return self._clients[key]

    # -- the task -----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Renew the contexts once in a Time To Live, take over changed settings, watch the dates once a day."""
        await self.load()
        end = self.settings.watch(lambda changed: self._changed.set())
        try:
            task_status.started()
            checked = -float(_DAY)
            renewed = trio.current_time()
            while True:
                if trio.current_time() - checked >= _DAY:
                    checked = trio.current_time()
                    await self._check_dates()
                with trio.move_on_after(min(self.settings[TIME_TO_LIVE], _DAY)):
                    await self._changed.wait()
                self._changed = trio.Event()
                renew = trio.current_time() - renewed >= self.settings[TIME_TO_LIVE]
                if renew:
                    renewed = trio.current_time()
                if not (self.settings[KEY] and self.settings[CERTIFICATE]):
                    await self._make_server_certificate()
                await self.refresh(renew=renew)
        finally:
            end()

    async def _check_dates(self) -> None:
        known = [("the server", self.settings[CERTIFICATE])]
        known += [(domain, credentials.certificate) for domain, (credentials, _) in self._custom.items()]

        def dates() -> list[tuple[str, float]]:
            from appliance.kernel.certificates import describe

            return [(name, describe(pem)[0].valid_till.timestamp()) for name, pem in known]

        try:
            found = await in_thread(dates)
        except (ValueError, IndexError):
            return
        for name, till in found:
            if till - self._clock.now() < _WARN_BEFORE:
                self._log.failure("the certificate of %s is valid until %s", name, self._clock.local(till).date())
                if self.expiring is not None:
                    self.expiring(name, till)


def _server_context(
    files: Files, path: str, pem: bytes, choose: Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]
) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    files.write_file(path, pem, mode=SECRET_MODE, durable=False)
    try:
        context.load_cert_chain(path, password="")  # never asks at a terminal
    finally:
        files.unlink(path)
    context.sni_callback = choose
    return context


def _client_context(verify: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
