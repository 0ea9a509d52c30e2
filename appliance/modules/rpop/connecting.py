"""From a record to a remote mailbox that is logged in: names, own addresses, connection, encryption, log-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from appliance.kernel.channel import Channel, ChannelError, connect
from appliance.kernel.log import Logger
from appliance.kernel.resolver import NoSuchName, ResolverTrouble
from appliance.kernel.settings import Settings
from appliance.modules.rpop.imapmailbox import ImapMailbox
from appliance.modules.rpop.mailbox import Broken, Denied
from appliance.modules.rpop.popmailbox import PopMailbox
from appliance.modules.rpop.records import Remote
from appliance.modules.rpop.settings import ALLOW_SELF, USE_APOP, HostPort

if TYPE_CHECKING:
    import ssl

__all__ = ["Connector", "HostFailed", "Opened"]

_CONNECT: Final = 60.0
_TLS: Final = 60.0


class HostFailed(Exception):
    """The host cannot be reached; the text says why."""


class Connect(Protocol):
    """`kernel.channel.connect`, or a test's."""

    def __call__(self, addresses: Sequence[str], port: int, *, timeout: float) -> Awaitable[Channel]: ...


@dataclass(slots=True)
class Opened:
    """A mailbox that is logged in, over its channel."""

    mailbox: PopMailbox | ImapMailbox
    channel: Channel


@dataclass(slots=True)
class Connector:
    """`addresses(name)` asks the resolver; `own(address)` tells whether an address is one of this computer;
    `context(verify)` gives a client's TLS context; `key` is the server's, under which passwords are sealed."""

    settings: Settings
    addresses: Callable[[str], Awaitable[Sequence[str]]]
    own: Callable[[str], bool]
    context: Callable[[bool], Awaitable[ssl.SSLContext]]
    key: bytes
    connect: Connect = connect

    async def open(self, remote: Remote, log: Logger) -> Opened:
        """The first host that can be reached decides. Raises HostFailed, Broken, Denied."""
        password = remote.secret(self.key)
        if password is None:
            raise Denied("the stored password cannot be read: enter it again")
        failure = HostFailed("there is no host")
        for host in remote.hosts:
            try:
                addresses = await self._resolve(host)
                channel = await self.connect(addresses, remote.port(host), timeout=_CONNECT)
            except HostFailed as error:
                failure = error
            except ChannelError as error:
                failure = HostFailed(f"{host.name}: {error}")
            else:
                log.low("connected to %s [%s]:%d", host.name, channel.peer.address, channel.peer.port)
                return await self._prepare(remote, host, channel, addresses, password, log)
            log.problem("%s", failure)
        raise failure

    async def _resolve(self, host: HostPort) -> Sequence[str]:
        try:
            addresses = await self.addresses(host.name)
        except (NoSuchName, ResolverTrouble) as error:
            raise HostFailed(f"{host.name}: {error}") from None
        if not self.settings[ALLOW_SELF] and any(self.own(address) for address in addresses):
            raise Denied(f"{host.name} is this server itself")
        return addresses

    async def _prepare(
        self, remote: Remote, host: HostPort, channel: Channel, addresses: Sequence[str], password: str, log: Logger
    ) -> Opened:
        try:
            mailbox = await self._greet(remote, host, channel, log)
            if not channel.encrypted and (remote.must_encrypt or mailbox.offers_tls):
                try:
                    await self._encrypt(remote, host, mailbox)
                except Broken as error:
                    if remote.must_encrypt:
                        raise
                    # TLS was offered and does not work: the record does not demand it.
                    log.problem("%s: %s", host.name, error)
                    channel.close()
                    channel = await self._again(addresses, remote.port(host))
                    mailbox = await self._greet(remote, host, channel, log)
            await mailbox.log_in(remote.name, password, apop=remote.apop and self.settings[USE_APOP])
        except BaseException:
            channel.close()
            raise
        return Opened(mailbox, channel)

    async def _again(self, addresses: Sequence[str], port: int) -> Channel:
        try:
            return await self.connect(addresses, port, timeout=_CONNECT)
        except ChannelError as error:
            raise Broken(str(error)) from None

    async def _greet(self, remote: Remote, host: HostPort, channel: Channel, log: Logger) -> PopMailbox | ImapMailbox:
        if remote.implicit_tls(host):
            channel.timeout = _TLS
            try:
                await channel.start_tls(await self.context(remote.verify), server_side=False, hostname=host.name)
            except ChannelError as error:
                raise Broken(f"TLS: {error}") from None
        mailbox: PopMailbox | ImapMailbox
        if remote.protocol == "IMAP":
            mailbox = ImapMailbox(channel, log, remote.mailbox, leave=remote.leave)
        else:
            mailbox = PopMailbox(channel, log)
        await mailbox.greet()
        return mailbox

    async def _encrypt(self, remote: Remote, host: HostPort, mailbox: PopMailbox | ImapMailbox) -> None:
        if not mailbox.offers_tls:
            raise Broken("the server offers no TLS, and the record asks for it")
        await mailbox.start_tls(await self.context(remote.must_encrypt and remote.verify), host.name)
