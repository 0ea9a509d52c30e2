"""The Domain Name Resolver: asks the configured DNS servers itself, and keeps what they answered for its time to live.

Each question goes out from a port of its own (the system chooses it at random) with an id of its own, so that a forged answer
has to guess both. A truncated answer is asked for again over TCP. The n-th attempt waits n times the Initial Time-out and goes
to the next server of the list.

While the schedule is closed no packet leaves: look-ups fail at once with LineClosed, which is temporary. What belongs to a
scheduled session may ask; `local=True` is for names that a server on the LAN answers.
"""

from __future__ import annotations

import os
import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from appliance.formats.iplists import AddressList, parse_address
from appliance.kernel.channel import ChannelError, connect
from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.log import PROBLEM, Logger
from appliance.kernel.network import local_addresses
from appliance.kernel.schedule import Schedule
from appliance.kernel.settings import Addresses, Choice, Group, LogLevel, Number, Setting, Settings, Time, Words
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import in_thread

if TYPE_CHECKING:
    import dns.message

__all__ = ["DNR", "DNR_LOG", "LineClosed", "MailHost", "NoSuchName", "NullMx", "Resolver", "ResolverTrouble"]

DNR_LOG = Setting("LogLevel", LogLevel(), 3, "Log")
CONCURRENT = Setting("ConcurrentRequests", Number(1, 1000), 10, "Concurrent Requests")
INITIAL_TIMEOUT = Setting("InitialTimeout", Time(1, 300), 5, "Initial Time-out")
RETRY_LIMIT = Setting("RetryLimit", Number(0, 20), 3, "Retry Limit")
SERVERS = Setting("DNSAddresses", Choice(("OS", "OS-specified"), "Custom"), "OS", "DNS Addresses")
CUSTOM = Setting("CustomAddresses", Words(limit=20), (), "Custom DNS Addresses", help="address or address:port")
DUMMY = Setting(
    "DummyAddresses",
    Addresses(),
    AddressList(),
    "Dummy IP Addresses",
    help="Addresses that some providers answer for unknown names; they count as no answer.",
)
CACHE_SIZE = Setting("CacheSize", Number(0, 100_000), 2000, "Cache")
DNR = Group(
    "DNR",
    "Domain Name Resolver",
    (DNR_LOG, CONCURRENT, INITIAL_TIMEOUT, RETRY_LIMIT, SERVERS, CUSTOM, DUMMY, CACHE_SIZE),
)

_LONGEST: Final = 86400  # seconds that an answer is kept at most
_LONGEST_NEGATIVE: Final = 3600
_REREAD: Final = 60.0  # seconds after which the system's files are looked at again
_PAYLOAD: Final = 1232  # bytes of a UDP answer; fits every path (DNS flag day 2020)
_MOST_RECORDS: Final = 200
_LARGE: Final = 4096  # bytes of an answer that is not read in the event loop
_MOST_HOSTS: Final = 10_000


class ResolverTrouble(Exception):
    """No answer for now: try again later."""


class LineClosed(ResolverTrouble):
    """The schedule does not permit a packet now."""


class NoSuchName(Exception):
    """The name does not exist, or has no record of that kind."""


class NullMx(NoSuchName):
    """The domain says that it takes no mail (RFC 7505)."""


class MailHost(NamedTuple):
    """An MX record."""

    preference: int
    name: str


class _Answer(NamedTuple):
    records: tuple[Any, ...]
    exists: bool
    """The name exists, perhaps without such a record."""


class Resolver:
    """All look-ups raise NoSuchName or ResolverTrouble, and end when their task is cancelled."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        disk: Disk,
        log: Logger,
        schedule: Schedule | None = None,
        statistics: Statistics | None = None,
        *,
        hosts: str = "/etc/hosts",
        configuration: str = "/etc/resolv.conf",
        addresses: Callable[[], Sequence[str]] = local_addresses,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._disk = disk
        self._log = log
        self._schedule = schedule
        self._hosts_file = hosts
        self._configuration = configuration
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._system: tuple[tuple[str, int], ...] = ()
        self._read_at = float("-inf")
        self._ipv6 = False
        self._addresses = addresses
        self._limiter = trio.CapacityLimiter(10)
        self._cache: OrderedDict[tuple[str, str], tuple[float, _Answer]] = OrderedDict()
        self._random = random.SystemRandom()
        self._number = 0
        counters = statistics or Statistics()
        self.asked = counters.counter("dnr.requests", "packets to DNS servers")
        self.failed = counters.counter("dnr.failures", "look-ups without an answer")

    # -- look-ups -----------------------------------------------------------------------------------------------------

    async def mx(self, domain: str, *, local: bool = False) -> list[MailHost]:
        """The mail hosts, best first, equals in random order (RFC 5321, 5.1); empty where the name has no MX record.

        Raises NullMx for a domain that takes no mail, NoSuchName for one that does not exist.
        """
        answer = await self._lookup(domain, "MX", local)
        found = [MailHost(record.preference, record.exchange.to_text(True)) for record in answer.records]
        if any(host.name in ("", ".") for host in found):
            if len(found) == 1:
                raise NullMx(f"{domain} takes no mail")
            found = [host for host in found if host.name not in ("", ".")]
        self._random.shuffle(found)
        return sorted(found, key=lambda host: host.preference)

    async def addresses(self, name: str, *, local: bool = False, quick: bool = False) -> list[str]:
        """IPv4 addresses, then IPv6 ones; at least one. An address stands for itself. The hosts file comes first. `quick`:
        asked for at most twice.

        Where this computer has no IPv6 address, IPv6 ones are asked for only if there is no other.
        """
        try:
            return [str(parse_address(name))]
        except ValueError:
            pass
        await self._read_system()
        listed = self._hosts.get(name.rstrip(".").lower())
        if listed:
            return list(listed)
        found: list[str] = []
        problem: Exception | None = None
        for kind in ("A", "AAAA"):
            if found and not self._ipv6:
                break
            try:
                answer = await self._lookup(name, kind, local, quick=quick or bool(found))
            except NoSuchName:
                raise
            except ResolverTrouble as error:
                problem = error
                continue
            found += [record.address for record in answer.records]
        dummies = self.settings[DUMMY]
        usable = [address for address in found if address not in dummies]
        if usable:
            return usable
        if problem is not None:
            raise problem
        raise NoSuchName(f"{name}: the name has no address")

    async def pointer(self, address: str, *, local: bool = False, quick: bool = False) -> list[str]:
        """The names of an address; at least one. `quick`: asked for at most twice."""
        import ipaddress

        try:
            reverse = ipaddress.ip_address(address.partition("%")[0]).reverse_pointer
        except ValueError:
            raise NoSuchName(f"{address} is not an address") from None
        answer = await self._lookup(reverse, "PTR", local, quick=quick)
        if not answer.records:
            raise NoSuchName(f"{address}: the address has no name")
        return [record.target.to_text(True) for record in answer.records]

    async def text(self, name: str, *, local: bool = False) -> list[bytes]:
        """The TXT records, the strings of each joined; empty where there is none."""
        answer = await self._lookup(name, "TXT", local)
        return [b"".join(record.strings) for record in answer.records]

    async def listed(self, name: str, *, local: bool = False) -> list[str]:
        """The addresses that a list in DNS (RBL) gives for a name, empty if it is not listed. Asked for at most twice."""
        try:
            answer = await self._lookup(name, "A", local, quick=True)
        except NoSuchName:
            return []
        return [record.address for record in answer.records]

    async def refresh(self) -> None:
        """Read the system's files again and forget all answers."""
        self._cache.clear()
        self._read_at = float("-inf")
        await self._read_system()

    # -- cache --------------------------------------------------------------------------------------------------------

    async def _lookup(self, name: str, kind: str, local: bool, *, quick: bool = False) -> _Answer:
        key = (name.rstrip(".").lower(), kind)
        now = self._clock.monotonic()
        kept = self._cache.get(key)
        if kept is not None and kept[0] > now:
            self._cache.move_to_end(key)
            answer = kept[1]
        else:
            if self._schedule is not None and not local and not self._schedule.permits():
                raise LineClosed("the line is closed now")
            answer, seconds = await self._ask(key[0], kind, quick)
            if seconds > 0 and self.settings[CACHE_SIZE]:
                self._cache[key] = (now + seconds, answer)
                self._cache.move_to_end(key)
                while len(self._cache) > self.settings[CACHE_SIZE]:
                    self._cache.popitem(last=False)
        if not answer.exists:
            raise NoSuchName(f"{name}: host name is unknown")
        return answer

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, name: str, kind: str, quick: bool) -> tuple[_Answer, float]:
        """The answer and the seconds that it may be kept."""
        await _import_dns()
        import dns.exception
        import dns.message
        import dns.name

        self._number += 1
        log = self._log.session(self._number, name[:80])
        try:
            query = dns.message.make_query(
                dns.name.from_text(name, idna_codec=dns.name.IDNA_2003), kind, use_edns=0, payload=_PAYLOAD
            )
        except (dns.exception.DNSException, UnicodeError):
            raise NoSuchName(f"{name[:80]!r} is not a host name") from None
        self._limiter.total_tokens = self.settings[CONCURRENT]
        async with self._limiter:
            response = await self._exchange(query, kind, quick, log)
        return self._digest(response, kind, log)

    async def _exchange(
        self, query: dns.message.QueryMessage, kind: str, quick: bool, log: Logger
    ) -> dns.message.Message:
        import dns.rcode

        servers = await self.servers()
        initial = self.settings[INITIAL_TIMEOUT]
        attempts = 2 if quick else 1 + self.settings[RETRY_LIMIT]
        reason = "no answer"
        for attempt in range(attempts):
            server = servers[attempt % len(servers)]
            self.asked.add()
            log.all("%s: asking [%s]:%d", kind, *server)
            with trio.move_on_after(initial if quick else initial * (attempt + 1)) as scope:
                try:
                    response = await self._ask_server(query, server)
                except (OSError, ChannelError) as error:
                    reason = f"[{server[0]}]: {error}"
                    log.low("%s: %s", kind, reason)
                    if len(servers) == 1:
                        await trio.sleep(initial)  # the only server: give it time, within the limit of this attempt
                    continue
                if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return response
                reason = f"[{server[0]}] answers {dns.rcode.to_text(response.rcode())}"
                log.low("%s: %s", kind, reason)
            if scope.cancelled_caught:
                log.low("%s: no answer from [%s]", kind, server[0])
        self.failed.add()
        log.problem("%s:%s", kind, reason)
        raise ResolverTrouble(f"DNS: {reason}")

    async def _ask_server(self, query: dns.message.QueryMessage, server: tuple[str, int]) -> dns.message.Message:
        import dns.exception
        import dns.flags
        import dns.message

        wire = query.to_wire()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(server)  # so the system drops what comes from elsewhere
            number = sock.fileno()
            try:
                sock.send(wire)
                while True:
                    await trio.lowlevel.wait_readable(number)
                    try:
                        data = sock.recv(65535)
                        response = dns.message.from_wire(data, ignore_trailing=True)
                    except (BlockingIOError, dns.exception.DNSException):
                        continue
                    if query.is_response(response):
                        break
            finally:
                trio.lowlevel.notify_closing(number)
        return await self._ask_by_tcp(query, server) if response.flags & dns.flags.TC else response

    async def _ask_by_tcp(self, query: dns.message.QueryMessage, server: tuple[str, int]) -> dns.message.Message:
        import dns.exception
        import dns.message

        channel = await connect([server[0]], server[1])
        try:
            wire = query.to_wire()
            await channel.send(len(wire).to_bytes(2, "big") + wire)
            data = b""
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                piece = await channel.receive()
                if not piece:
                    raise ChannelError("the server ended the connection")
                data += piece
            answer = data[2 : 2 + int.from_bytes(data[:2], "big")]
            try:
                # Thousands of records take a tenth of a second to read.
                response = (
                    await in_thread(lambda: dns.message.from_wire(answer))
                    if len(answer) > _LARGE
                    else dns.message.from_wire(answer)
                )
            except dns.exception.DNSException as error:
                raise ChannelError(f"a bad answer: {error}") from None
            if not query.is_response(response):
                raise ChannelError("an answer to another question")
            return response
        finally:
            channel.close()

    def _digest(self, response: dns.message.Message, kind: str, log: Logger) -> tuple[_Answer, float]:
        import dns.exception
        import dns.message
        import dns.rcode

        assert isinstance(response, dns.message.QueryMessage)
        try:
            result = response.resolve_chaining()
        except dns.exception.DNSException as error:
            raise ResolverTrouble(f"DNS: a bad answer: {error}") from None
        if result.answer is None:
            exists = response.rcode() != dns.rcode.NXDOMAIN
            log.record(PROBLEM if not exists else PROBLEM + 1, "%s:%s", kind, _nothing(exists))
            return _Answer((), exists), min(result.minimum_ttl, _LONGEST_NEGATIVE)
        records = tuple(result.answer)[:_MOST_RECORDS]
        if log.enabled(PROBLEM + 1):
            log.low("%s:%s", kind, ", ".join(record.to_text()[:100] for record in records[:20]))
        return _Answer(records, True), min(result.minimum_ttl, _LONGEST)

    # -- servers and the system's files -------------------------------------------------------------------------------

    async def servers(self) -> Sequence[tuple[str, int]]:
        """Addresses and ports that are asked, in order; the loopback if none is known."""
        if self.settings[SERVERS] == "Custom":
            found = [server for word in self.settings[CUSTOM] if (server := _server(word)) is not None]
        else:
            await self._read_system()
            found = list(self._system)
        return found or [("127.0.0.1", 53)]

    async def _read_system(self) -> None:
        now = self._clock.monotonic()
        if now - self._read_at < _REREAD:
            return
        self._read_at = now
        self._ipv6 = any(":" in address and address != "::1" for address in self._addresses())
        self._hosts = _parse_hosts(await self._read(self._hosts_file))
        if os.name == "nt":
            self._system = tuple((address, 53) for address in await in_thread(_windows_servers))
        else:
            self._system = _parse_configuration(await self._read(self._configuration))

    async def _read(self, path: str) -> str:
        try:
            return (await self._disk.read_bytes(path, 4 << 20)).decode("utf-8", "replace")
        except OSError:
            return ""


def _nothing(exists: bool) -> str:
    return "the name has no such record" if exists else "host name is unknown"


def _server(text: str) -> tuple[str, int] | None:
    """`address`, `address:port`, `[address]:port`; 0.0.0.0 means this computer, as in resolv.conf."""
    text = text.strip().partition("%")[0]
    port = "53"
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    try:
        address, number = str(parse_address(text)), int(port)
    except ValueError:
        return None
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), number  # noqa: S104 - read, not bound


def _parse_configuration(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            server = _server(words[1])
            if server is not None:
                found.append(server)
    return tuple(found[:10])


def _parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            address = str(parse_address(words[0]))
        except ValueError:
            continue
        for name in words[1:]:
            known = found.get(name.lower(), ())
            if address not in known:
                found[name.lower()] = (*known, address)
        if len(found) > _MOST_HOSTS:
            break
    return {name: tuple(sorted(addresses, key=lambda a: ":" in a)) for name, addresses in found.items()}


def _windows_servers() -> list[str]:
    import dns.resolver

    return [str(server) for server in dns.resolver.Resolver().nameservers]


async def _import_dns() -> None:
    """The first import takes a tenth of a second, so it is made in a thread."""
    import sys

    if "dns.message" not in sys.modules:
        await in_thread(_import_now)


def _import_now() -> None:
    import dns.message
    import dns.rdtypes.ANY.MX
    import dns.rdtypes.ANY.PTR
    import dns.rdtypes.ANY.TXT
    import dns.rdtypes.IN.A
    import dns.rdtypes.IN.AAAA  # noqa: F401
