"""The whole server in the process of the test, on free ports, spoken to as its users do."""

from __future__ import annotations

import json
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio

from appliance.formats.data import Value, parse, render
from appliance.kernel.disk import Disk
from appliance.kernel.network import local_addresses
from appliance.server import Server, ServerOptions
from firmware.base import prepare
from firmware.provision import Provision
from tests.interop.pillarbox import PASSWORD, Setup, random_tens

POSTMASTER = Setup().postmaster_password
HOST = "127.0.0.1"
PORTS = {"SMTP": 25, "submission": 587, "SMTPS": 465, "POP": 110, "IMAP": 143, "IMAPS": 993, "PWD": 106}
PORTS |= {"HTTPA": 8010, "HTTPS": 9010}


class Refusal(Exception):
    """A command of the command line was refused; the text is the answer."""


class Line:
    """A connection to a service of lines, from one of the loopback's addresses."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        with trio.fail_after(20):
            await self.stream.send_all(data)

    async def line(self) -> str:
        """The next line; empty at the end of the connection."""
        with trio.fail_after(20):
            while b"\n" not in self.buffer:
                try:
                    more = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    more = b""
                if not more:
                    rest, self.buffer = self.buffer, b""
                    return rest.decode("latin-1")
                self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    async def rest(self) -> bytes:
        """All that comes until the end of the connection."""
        with trio.fail_after(20):
            try:
                while more := await self.stream.receive_some(65536):
                    self.buffer += more
            except trio.BrokenResourceError:
                pass
        return self.buffer

    async def ask(self, text: str) -> str:
        """One line out, one line in."""
        await self.send(text.encode("utf-8", "surrogateescape") + b"\r\n")
        return await self.line()

    async def smtp(self, text: str = "") -> str:
        """A command, and its reply of all lines."""
        if text:
            await self.send(text.encode("utf-8", "surrogateescape") + b"\r\n")
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return "\n".join(lines)

    async def imap(self, text: str, tag: str = "a") -> list[str]:
        """A command; the answers, the tagged one last."""
        await self.send(f"{tag} {text}\r\n".encode())
        lines = [await self.line()]
        while lines[-1] and not lines[-1].startswith(tag + " "):
            lines.append(await self.line())
        return lines

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


class CommandLine:
    """The command line over the PWD port."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def __call__(self, command: str) -> Value:
        answer = await self.line.ask(command)
        if answer[:1] not in ("2", "3"):
            raise Refusal(answer)
        text = answer[4:].encode("latin-1")
        return parse(text) if text[:1] in (b"(", b"{", b'"') else text.decode()


@dataclass
class Answer:
    """What a browser gets."""

    status: int
    body: str

    def form(self) -> dict[str, str | list[str]]:
        """What the browser would post if nothing was changed."""
        reader = _Form()
        reader.feed(self.body)
        return reader.fields


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str | list[str]] = {}
        self._area = self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        name = found.get("name", "")
        if tag == "textarea":
            self._area = name
            self.fields[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in found or self._select not in self.fields):
            self.fields[self._select] = found.get("value", "")
        elif tag == "input" and name and (found.get("type") != "checkbox" or "checked" in found):
            self.fields[name] = found.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area] = str(self.fields[self._area]) + data


class House:
    """One running server."""

    def __init__(self, server: Server, base: Path, offset: int, setup: Setup) -> None:
        self.server = server
        self.base = base
        self.offset = offset
        self.setup = setup

    def port(self, service: str) -> int:
        return PORTS[service] + self.offset

    async def connect(self, service: str | int, source: str = HOST, *, greeting: bool = True) -> Line:
        """A connection from the source address; its greeting is read."""
        port = self.port(service) if isinstance(service, str) else service
        sock = trio.socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.bind((source, 0))
        with trio.fail_after(10):
            await sock.connect((HOST if source.startswith("127.") else source, port))
        line = Line(trio.SocketStream(sock))
        if greeting:
            said = await line.line()
            assert said, "no greeting"
        return line

    async def cli(self, name: str = "postmaster", password: str = POSTMASTER) -> CommandLine:
        line = await self.connect("PWD")
        for command in (f"USER {name}", f"PASS {password}", "INLINE"):
            answer = await line.ask(command)
            if answer[:1] not in ("2", "3"):
                raise Refusal(answer)
        return CommandLine(line)

    async def update(self, module: str, **settings: Value) -> None:
        """Change settings of a component, as an administrator does."""
        cli = await self.cli()
        await cli(f"UpdateModule {module} {render(settings)}")
        await cli.line.aclose()

    async def page(
        self,
        path: str,
        form: Mapping[str, str | list[str]] | None = None,
        *,
        name: str = "postmaster",
        password: str = POSTMASTER,
    ) -> Answer:
        """A page of the WebAdmin Interface; redirections are followed."""
        line = await self.connect("HTTPA", greeting=False)
        login = b64encode(f"{name}:{password}".encode()).decode()
        head = f"Host: {HOST}:{self.port('HTTPA')}\r\nAuthorization: Basic {login}\r\nConnection: close\r\n"
        if form is None:
            await line.send(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        else:
            body = urlencode(form, doseq=True)
            head += f"Sec-Fetch-Site: same-origin\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/x-www-form-urlencoded\r\n"
            await line.send(f"POST {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
        head_bytes, _, rest = (await line.rest()).partition(b"\r\n\r\n")
        await line.aclose()
        if b"transfer-encoding: chunked" in head_bytes.lower():
            rest = _unchunked(rest)
        status = int(head_bytes.split()[1])
        if status in (302, 303):
            place = re.search(rb"(?i)location: *(\S+)", head_bytes)
            assert place is not None
            return await self.page(place[1].decode(), name=name, password=password)
        return Answer(status, rest.decode())

    async def mail(self, recipient: str, text: str = "Subject: hello\r\n\r\ntext", sender: str = "ann@box.test") -> str:
        """Send a message to this server; the reply to its end."""
        line = await self.connect("SMTP")
        await line.smtp("EHLO client.test")
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            answer = await line.smtp(command)
            if answer[:1] not in ("2", "3"):
                await line.aclose()
                return answer
        answer = await line.smtp(f"{text}\r\n.")
        await line.aclose()
        return answer

    async def imap(self, name: str = "ann", password: str = PASSWORD) -> Line:
        """A session after its log-in."""
        line = await self.connect("IMAP")
        answer = (await line.imap(f'LOGIN {name} "{password}"'))[-1]
        assert answer.startswith("a OK"), answer
        return line

    async def inbox(self, name: str = "ann") -> list[str]:
        """The texts of the messages in an INBOX, read over POP."""
        line = await self.connect("POP")
        await line.ask(f"USER {name}")
        answer = await line.ask(f"PASS {PASSWORD}")
        assert answer.startswith("+OK"), answer
        texts = []
        count = int((await line.ask("STAT")).split()[1])
        for number in range(1, count + 1):
            assert (await line.ask(f"RETR {number}")).startswith("+OK")
            lines = []
            while (text := await line.line()) != ".":
                lines.append(text)
            texts.append("\n".join(lines))
        await line.ask("QUIT")
        await line.aclose()
        return texts

    async def log(self) -> str:
        """All records up to now."""
        await trio.sleep(0.15)
        files = sorted((self.base / "SystemLogs").iterdir())
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)

    async def logged(self, text: str, seconds: float = 10) -> str:
        """Wait for a record with this text; its line."""
        found = ""

        async def there() -> bool:
            nonlocal found
            found = next((line for line in (await self.log()).splitlines() if text in line), "")
            return bool(found)

        await until(there, seconds)
        return found

    def crashes(self, log: str) -> list[str]:
        """Records of program errors."""
        records = (line for line in log.splitlines() if re.match(r"\d\d:\d\d:\d\d\.\d+ 0 ", line))
        return [line for line in records if "SYSTEM Log " not in line]


async def until(question: Callable[[], object], seconds: float = 10) -> None:
    """Wait for a question to be answered with something true; it may be asynchronous."""
    with trio.fail_after(seconds):
        while True:
            answer = question()
            if hasattr(answer, "__await__"):
                answer = await answer
            if answer:
                return
            await trio.sleep(0.03)


def _unchunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        parts.append(data[:length])
        data = data[length + 2 :]
    return b"".join(parts)


def free_offset() -> int:
    """An offset with which all ports of a server are free, below the ports that the system gives to clients."""
    while True:
        offset = random_tens(3005, 23000)
        for port in PORTS.values():
            with closing(socket.socket(socket.AF_INET6)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("::", port + offset))
                except OSError:
                    break
        else:
            return offset


def _made(base: Path) -> bool:
    """Make the base directory what it has to be; whether it was not there."""
    first = not base.exists()
    prepare(str(base))
    return first


@asynccontextmanager
async def living(
    base: Path,
    setup: Setup | None = None,
    *,
    disk: Disk | None = None,
    log_all: bool = False,
    console: Callable[[bytes], object] | None = None,
    trouble: Callable[[str], None] | None = None,
    loopback: bool = True,
    rearrange: Callable[[Server], None] | None = None,
) -> AsyncIterator[House]:
    """A life of a server on this base directory; the first one provisions it. It is stopped in order at the end."""
    first = _made(base)
    setup = setup or Setup(accounts=("ann", "bob"))
    file = base.parent / f"{base.name}.toml"
    file.write_text(setup.provision())
    provision = Provision(str(file))

    async def apply(server: Server) -> None:
        if first:
            provision.check(server.components)
            await provision.apply(server.system_caller("START"), server.operations, server.components)
        if rearrange is not None:
            rearrange(server)

    offset = free_offset()
    options = ServerOptions(str(base), offset, log_all=log_all, console=console, trouble=trouble, loopback=loopback)
    server = Server(options, disk=disk, provision=apply)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):
            await nursery.start(server.run)
            await server.ready.wait()
        try:
            yield House(server, base, offset, setup)
        finally:
            server.stop("the test is over")
            nursery.cancel_scope.deadline = trio.current_time() + 15


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A server with the main domain box.test and the accounts ann and bob."""
    async with living(tmp_path / "base") as made:
        yield made


@pytest.fixture
def stranger() -> str:
    """An address of this machine that is no loopback: a connection from it is one of a stranger."""
    for address in local_addresses():
        if ":" not in address and not address.startswith("127."):
            return address
    pytest.skip("this machine has no address but the loopback")


def quoted(text: str) -> str:
    return json.dumps(text)
