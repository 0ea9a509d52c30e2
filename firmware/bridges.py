"""Bridges to scanners: programs that speak the filter interface (manual, chapter 28) to the server and the scanner's own protocol
to the scanner. They come with the server; the Program Path of a filter names them:

    scan-clamav [--address /run/clamav/clamd.ctl | HOST:PORT] [--discard | --mark]
    scan-spamd  [--address 127.0.0.1:783 | PATH] [--user NAME] [--reject SCORE] [--discard SCORE]
    scan-rspamd [--address 127.0.0.1:11333] [--password WORD] [--reject] [--discard]

All of them: --limit BYTES (larger messages pass unscanned), --timeout SECONDS, --threads N (messages at a time), and --pass-unscanned
(a scanner that does not answer lets messages through; without it they wait, and are offered again).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, Final

__all__ = ["BRIDGES", "main", "own_program"]

INTERFACE: Final = 2
MAX_ANSWER: Final = 4000
MAX_REPLY: Final = 1 << 20
"""Octets of a scanner's reply that are read."""
MAX_HEAD: Final = 16 << 20
_PIECE: Final = 64 << 10
_TESTS: Final = 400
"""Characters of a list of tests in a header field."""
_UNFIT: Final = re.compile(r"[^\x20-\x7e]+")


class ScannerTrouble(Exception):
    """The scanner did not answer, or not as it should; the message is to be offered again."""


@dataclass(slots=True)
class Message:
    """A message file: the envelope in front, and where the message itself begins."""

    path: str
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    remote: str = ""
    account: str = ""
    offset: int = 0
    size: int = 0

    def body(self) -> BinaryIO:
        """The message itself, from its first octet."""
        file = open(self.path, "rb")  # noqa: SIM115 - the caller closes it
        file.seek(self.offset)
        return file


def read_message(path: str) -> Message:
    """The envelope lines of a message file. ScannerTrouble if it cannot be read."""
    message = Message(path)
    try:
        with open(path, "rb") as file:
            while line := file.readline(_PIECE):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if not text:
                    break
                if file.tell() > MAX_HEAD:
                    raise ScannerTrouble("the envelope of the message file has no end")
                _envelope_line(message, text)
            message.offset = file.tell()
            message.size = os.fstat(file.fileno()).st_size - message.offset
    except OSError as error:
        raise ScannerTrouble(f"{path}: {error.strerror}") from None
    return message


def _envelope_line(message: Message, text: str) -> None:
    address = re.search(r"<([^<>]*)>", text)
    if text.startswith("P"):
        message.sender = address[1] if address else ""
        account = re.search(r" A=(\S+)", text)
        message.account = account[1] if account else ""
    elif text.startswith("R") and address:
        message.recipients.append(address[1])
    elif text.startswith("S "):
        words = text.split(" ")
        message.remote = words[2] if len(words) > 2 and words[2] != "-" else ""


def string(text: str) -> str:
    """A text as a string of an answer."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "")
    return '"' + "\\e".join(_UNFIT.sub("?", line) for line in text.split("\n")) + '"'


def header(*fields: tuple[str, str]) -> str:
    """The answer that puts these fields on the message."""
    return "ADDHEADER " + string("\n".join(f"{name}: {_UNFIT.sub(' ', value)}" for name, value in fields)) + " OK"


# -- ClamAV -----------------------------------------------------------------------------------------------------------


def connect(address: str, timeout: float) -> socket.socket:
    """A connection to `/path`, `host:port` or `[IPv6]:port`. OSError."""
    if "/" in address:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        try:
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


def scan_clamav(message: Message, options: argparse.Namespace) -> str:
    """INSTREAM to clamd: pieces with their length, an empty one at the end; the answer is one line."""
    with connect(options.address, options.timeout) as stream, message.body() as body:
        try:
            stream.sendall(b"zINSTREAM\0")
            while piece := body.read(_PIECE):
                stream.sendall(struct.pack("!I", len(piece)) + piece)
            stream.sendall(struct.pack("!I", 0))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has said already that it wants no more
        reply = _read(stream, b"\0").rstrip(b"\0\r\n").decode("utf-8", "replace")
    verdict = reply.removeprefix("stream:").strip()
    if verdict == "OK":
        return header(("X-Virus-Scanned", "ClamAV, clean")) if options.mark else "OK"
    if verdict.endswith(" FOUND"):
        virus = verdict.removesuffix(" FOUND")
        if options.mark:
            return header(("X-Virus-Scanned", f"ClamAV, infected ({virus})"))
        return "DISCARD" if options.discard else "ERROR " + string(f"the message contains a virus: {virus}")
    if "size limit exceeded" in verdict.lower():
        return header(("X-Virus-Scanned", "no, the message is too large"))
    raise ScannerTrouble(f"clamd said: {verdict[:200] or 'nothing'}")


def _read(stream: socket.socket, end: bytes = b"") -> bytes:
    """What comes until the end of the connection, or until `end`."""
    data = b""
    while not (end and end in data):
        piece = stream.recv(_PIECE)
        if not piece:
            break
        data += piece
        if len(data) > MAX_REPLY:
            raise ScannerTrouble("the scanner says too much")
    return data


# -- SpamAssassin -----------------------------------------------------------------------------------------------------


def scan_spamd(message: Message, options: argparse.Namespace) -> str:
    """SYMBOLS to spamd (SPAMC/1.5): a `Spam: True ; 15.5 / 5.0` field, the names of the tests in the body."""
    request = f"SYMBOLS SPAMC/1.5\r\nContent-length: {message.size}\r\n"
    if options.user:
        request += f"User: {options.user}\r\n"
    with connect(options.address, options.timeout) as stream, message.body() as body:
        stream.sendall(request.encode() + b"\r\n")
        while piece := body.read(_PIECE):
            stream.sendall(piece)
        stream.shutdown(socket.SHUT_WR)
        head, _, rest = _read(stream).partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "replace").split("\r\n")
    if not re.match(r"SPAMD/\S+ 0 ", lines[0]):
        raise ScannerTrouble(f"spamd said: {lines[0][:200] or 'nothing'}")
    found = re.search(r"(?im)^Spam: *(\w+) *; *(-?[0-9.]+) */ *(-?[0-9.]+)", "\n".join(lines))
    if found is None:
        raise ScannerTrouble("spamd gave no score")
    score, required = float(found[2]), float(found[3])
    return _spam(found[1].lower() in ("true", "yes"), score, required, rest.decode("utf-8", "replace"), options)


def _spam(spam: bool, score: float, required: float, tests: str, options: argparse.Namespace) -> str:
    if options.discard is not None and score >= options.discard:
        return "DISCARD"
    if options.reject is not None and score >= options.reject:
        return "ERROR " + string("the message looks like spam")
    return _marks(spam, score, required, tests)


def _marks(spam: bool, score: float, required: float, tests: str) -> str:
    listed = ",".join(tests.replace(",", " ").split())
    if len(listed) > _TESTS:
        listed = listed[:_TESTS].rpartition(",")[0] + ",..."
    fields = [("X-Spam-Flag", "YES")] if spam else []
    fields.append(
        ("X-Spam-Status", f"{'Yes' if spam else 'No'}, score={score:g} required={required:g} tests={listed or 'none'}")
    )
    fields.append(("X-Spam-Level", "*" * max(0, min(50, int(score)))))
    return header(*fields)


# -- rspamd -----------------------------------------------------------------------------------------------------------


def scan_rspamd(message: Message, options: argparse.Namespace) -> str:
    """POST /checkv2 to rspamd: the envelope in header fields, the verdict as JSON."""
    host, _, port = options.address.rpartition(":")
    fields = [("Content-Length", str(message.size)), ("Queue-Id", os.path.basename(message.path))]
    fields += [("From", message.sender), ("IP", message.remote.strip("[]")), ("User", message.account)]
    fields += [("Rcpt", recipient) for recipient in message.recipients[:1000]]
    fields.append(("Password", options.password))
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=options.timeout)
    try:
        connection.putrequest("POST", "/checkv2")
        for name, value in fields:
            if value:
                connection.putheader(name, _UNFIT.sub("", value))
        connection.endheaders()
        with message.body() as body:
            while piece := body.read(_PIECE):
                connection.send(piece)
        answer = connection.getresponse()
        data = answer.read(MAX_REPLY)
        if answer.status != 200:
            raise ScannerTrouble(f"rspamd said: {answer.status} {answer.reason}")
        said = json.loads(data)
        action, score = str(said["action"]), float(said["score"])
        required, symbols = float(said.get("required_score", 0)), dict(said.get("symbols", {}))
    except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ScannerTrouble(f"rspamd: {error!r}"[:300]) from None
    finally:
        connection.close()
    if action == "reject" and options.discard:
        return "DISCARD"
    if action == "reject" and options.reject:
        return "ERROR " + string("the message looks like spam")
    spam = action in ("reject", "add header", "rewrite subject")
    return _marks(spam, score, required, " ".join(map(str, symbols)))


# -- the program ------------------------------------------------------------------------------------------------------


def _clamav_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="/run/clamav/clamd.ctl", help="clamd's socket, or HOST:PORT")
    parser.add_argument("--discard", action="store_true", help="drop infected messages; else they are rejected")
    parser.add_argument("--mark", action="store_true", help="only put the verdict into a header field")


def _spamd_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="127.0.0.1:783", help="spamd's HOST:PORT or socket")
    parser.add_argument("--user", default="", help="whose preferences count")
    parser.add_argument("--reject", type=float, metavar="SCORE", help="reject messages from this score on")
    parser.add_argument("--discard", type=float, metavar="SCORE", help="drop messages from this score on")


def _rspamd_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="127.0.0.1:11333", help="rspamd's HOST:PORT")
    parser.add_argument("--password", default="", help="of its controller, if it wants one")
    parser.add_argument("--reject", action="store_true", help="reject what rspamd would; else it is only marked")
    parser.add_argument("--discard", action="store_true", help="drop what rspamd would reject")


@dataclass(frozen=True, slots=True)
class Bridge:
    scan: Callable[[Message, argparse.Namespace], str]
    options: Callable[[argparse.ArgumentParser], None]
    limit: int


BRIDGES: Final = {
    "scan-clamav": Bridge(scan_clamav, _clamav_options, 100 << 20),
    "scan-spamd": Bridge(scan_spamd, _spamd_options, 2 << 20),
    "scan-rspamd": Bridge(scan_rspamd, _rspamd_options, 20 << 20),
}


def answer(bridge: Bridge, path: str, options: argparse.Namespace) -> str:
    """What the filter says of a message file."""
    try:
        message = read_message(path)
        if message.size > options.limit:
            return "OK"
        return bridge.scan(message, options)[:MAX_ANSWER]
    except (ScannerTrouble, OSError, ValueError) as error:
        if options.pass_unscanned:
            return header(("X-Scanned", "no, the scanner did not answer"))
        return "FAILURE " + string(str(error) or type(error).__name__)[:MAX_ANSWER]


def main(arguments: Sequence[str]) -> int:
    """Run a bridge until its input ends: the first argument names it."""
    bridge = BRIDGES[arguments[0]]
    parser = argparse.ArgumentParser(
        prog=f"pillarbox {arguments[0]}",
        description="An external filter: named as the Program Path of a filter on the Helpers page.",
    )
    bridge.options(parser)
    parser.add_argument("--limit", type=int, default=bridge.limit, help="octets; larger messages pass (%(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for an answer (%(default)g)")
    parser.add_argument("--threads", type=int, default=10, help="messages at a time (%(default)s)")
    parser.add_argument("--pass-unscanned", action="store_true", help="let messages through when it does not answer")
    options = parser.parse_args(arguments[1:])
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def work(number: str, path: str) -> None:
        try:
            text = answer(bridge, path, options)
        except Exception as error:
            text = "FAILURE " + string(f"error in the bridge: {error!r}"[:1000])
        say(f"{number} {text}")

    say(f"* {arguments[0]} asks {options.address}")
    pool = ThreadPoolExecutor(max(1, options.threads))
    for line in sys.stdin:
        number, _, rest = line.strip().partition(" ")
        word, _, parameter = rest.partition(" ")
        if word.upper() == "INTF":
            say(f"{number} OK {INTERFACE}")
        elif word.upper() == "FILE":
            pool.submit(work, number, parameter)
        elif number:
            say(f"{number} ERROR {string('unknown command')}")
    sys.stdout.flush()
    os._exit(0)  # nobody waits for the answers that are missing


def own_program(word: str) -> list[str] | None:
    """How a program that comes with the server is started; None for any other word."""
    if word not in BRIDGES:
        return None
    if getattr(sys, "frozen", False):
        return [sys.executable, word]
    place = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    script = f"import sys; sys.path.insert(0, {place!r}); from firmware.bridges import main; main(sys.argv[1:])"
    return [sys.executable, "-c", script, word]
