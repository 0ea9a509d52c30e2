"""The two sides of every comparison, behind the same face: Pillarbox, and Postfix with Dovecot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.interop import dovecot, pillarbox, postfix
from tests.interop.processes import cpu_seconds, free_port, pss_mib

DOMAIN = "bench.test"
USERS = 20
NAMES = [*(f"user{number:02}" for number in range(USERS)), "big", "small", "appender"]
MANY = {"Channels": 5000, "SameAddress": 5000}
"""The load comes from one address, which the limits for an office do not expect."""


class Runs(Protocol):
    """A mail server."""

    name: str

    def start(self) -> float:
        """Starts it; the seconds until its services greet."""

    def stop(self) -> None:
        """Ends it and waits for the end."""

    @property
    def smtp(self) -> int: ...

    def cpu(self) -> float:
        """Seconds of processor time that its processes have used since the start."""


class Contender(Runs, Protocol):
    """A mail server with the users of NAMES at DOMAIN, whose password is pw."""

    @property
    def imap(self) -> int: ...

    @property
    def pop(self) -> int: ...

    def memory(self) -> float:
        """PSS of its processes in MiB."""


class Ours:
    """Pillarbox, as installed in the environment or frozen."""

    name = "Pillarbox"

    def __init__(self, folder: Path, slow: Path | None = None, program: Sequence[str] = pillarbox.PROGRAM) -> None:
        setup = pillarbox.Setup(main_domain=DOMAIN, accounts=NAMES, settings={"SMTP": MANY, "IMAP": MANY})
        self.server = pillarbox.Pillarbox(folder / "pillarbox", setup, program)
        self.environment = {"LD_PRELOAD": str(slow)} if slow else {}
        self.smtp = self.server.port("SMTP")
        self.imap = self.server.port("IMAP")
        self.pop = self.server.port("POP")

    def start(self) -> float:
        return self.server.start(environment=self.environment)

    def stop(self) -> None:
        self.server.stop()

    def cpu(self) -> float:
        return cpu_seconds(self.server.pid)

    def memory(self) -> float:
        return pss_mib(self.server.pid)


class Peers:
    """Postfix, which delivers to Dovecot over LMTP. `settings` are added to those of Dovecot."""

    name = "Postfix+Dovecot"

    def __init__(self, folder: Path, slow: Path | None = None, settings: str = "") -> None:
        if slow:
            settings += f"import_environment = TZ LD_PRELOAD={slow}\n"
        users = [f"{name}@{DOMAIN}" for name in NAMES]
        self.boxes = dovecot.Dovecot(folder / "dovecot", users, pillarbox.PASSWORD, dovecot.MANY + settings)
        slowed = {"import_environment": f"MAIL_CONFIG TZ LANG=C LD_PRELOAD={slow}"} if slow else {}
        self.transport = postfix.Postfix(folder / "postfix", DOMAIN, self.boxes.lmtp, slowed)
        self.smtp, self.imap, self.pop = self.transport.smtp, self.boxes.imap, self.boxes.pop

    def start(self) -> float:
        return self.boxes.start() + self.transport.start()

    def stop(self) -> None:
        self.transport.stop()
        self.boxes.stop()

    def cpu(self) -> float:
        return cpu_seconds(self.transport.pid) + cpu_seconds(self.boxes.pid)

    def memory(self) -> float:
        return pss_mib(self.transport.pid) + pss_mib(self.boxes.pid)


class Relay(Runs, Protocol):
    """A server that sends mail for RELAYED domains to the sink of `relayload`."""

    sink: int


RELAYED = 50


def next_hops() -> list[tuple[str, str]]:
    """The relayed domains, each with a loopback address of its own: so each has a queue of its own, and no DNS is in it."""
    return [(f"d{number:02}.relay.test", f"127.0.1.{number + 1}") for number in range(RELAYED)]


class OurRelay:
    """Pillarbox as it comes, with a route for each domain."""

    name = Ours.name

    def __init__(self, folder: Path) -> None:
        self.sink = free_port()
        routes = [f"{domain} = {domain}@{address}.{self.sink}.smtp" for domain, address in next_hops()]
        setup = pillarbox.Setup(main_domain=DOMAIN, accounts=["user"], router=routes, settings={"SMTP": MANY})
        self.server = pillarbox.Pillarbox(folder / "pillarbox", setup)
        self.smtp = self.server.port("SMTP")

    def start(self) -> float:
        return self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def cpu(self) -> float:
        return cpu_seconds(self.server.pid)


class PeerRelay:
    """Postfix as it comes, with a transport for each domain."""

    name = Peers.name

    def __init__(self, folder: Path) -> None:
        self.sink = free_port()
        table = folder / "transports"
        table.write_text("".join(f"{domain} smtp:[{address}]:{self.sink}\n" for domain, address in next_hops()))
        settings = {"transport_maps": f"texthash:{table}"}
        self.server = postfix.Postfix(folder / "postfix", DOMAIN, "discard:", settings)
        self.smtp = self.server.smtp

    def start(self) -> float:
        return self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def cpu(self) -> float:
        return cpu_seconds(self.server.pid)


def missing() -> str:
    """Why a comparison is not possible here; empty when it is."""
    if not pillarbox.exists():
        return "there is no server: appliance/server.py"
    if not postfix.exists() or not dovecot.exists():
        return "needs root and Debian's postfix, dovecot-imapd, dovecot-pop3d and dovecot-lmtpd"
    return ""
