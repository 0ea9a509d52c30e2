"""The bridges to scanners: real children, and servers on loopback that speak the scanners' protocols."""

import json
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware.bridges import own_program

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
HEAD = b"S SMTP [10.0.0.9] -\nP A=joe@box.test <a@far.test>\nT 1.0\nR w <b@box.test>\nR wN <c@box.test>\n\n"
SPAM = b"Subject: buy now\n\nXJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE\n"


class Scanner:
    """A server that answers each connection with `serve`."""

    def __init__(self, serve: Callable[[socket.socket], None], path: str = "") -> None:
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen()
        name = self.listener.getsockname()
        self.address = path or f"127.0.0.1:{name[1]}"
        self.seen: list[bytes] = []
        self._serve = serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with stream:
                stream.settimeout(10)
                self._serve(stream)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece
        data += piece
    return data


def clamd(stream: socket.socket) -> None:
    assert exactly(stream, 10) == b"zINSTREAM\0"
    data = b""
    while size := struct.unpack("!I", exactly(stream, 4))[0]:
        data += exactly(stream, size)
        if len(data) > 1_000_000:
            stream.sendall(b"INSTREAM size limit exceeded. ERROR\0")
            return
    stream.sendall(b"stream: Eicar-Signature FOUND\0" if EICAR in data else b"stream: OK\0")


def spamd(stream: socket.socket) -> None:
    data = b""
    while piece := stream.recv(65536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"SYMBOLS SPAMC/1.5\r\n")
    found = re.search(rb"Content-length: (\d+)", head)
    assert found is not None and int(found[1]) == len(body)
    spam = b"GTUBE" in body
    score = b"True ; 1000.5 / 5.0" if spam else b"False ; -0.1 / 5.0"
    tests = b"GTUBE,URIBL_BLACK" if spam else b""
    stream.sendall(b"SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s\r\n\r\n%s" % (len(tests), score, tests))


def rspamd_server(seen: list[bytes]) -> Callable[[socket.socket], None]:
    def serve(stream: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += stream.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)Content-Length: (\d+)", head)
        assert found is not None
        while len(body) < int(found[1]):
            body += stream.recv(65536)
        seen.append(head)
        spam = b"GTUBE" in body
        said: dict[str, object] = {"action": "reject" if spam else "no action", "score": 15.0 if spam else 0.5}
        said |= {"required_score": 15.0, "symbols": {"GTUBE": {"score": 0}} if spam else {}}
        text = json.dumps(said).encode()
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)

    return serve


class Bridge:
    """A bridge, asked line by line."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        arguments = own_program(words[0])
        assert arguments is not None
        self.process = subprocess.Popen(
            [*arguments, *words[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, bufsize=0
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.number = 0
        assert self.output.readline().startswith(b"* scan-")

    def ask(self, text: str) -> str:
        self.number += 1
        self.input.write(f"{self.number:05d} {text}\n".encode())
        number, _, answer = self.output.readline().decode().strip().partition(" ")
        assert int(number) == self.number
        return answer

    def scan(self, body: bytes) -> str:
        (self.folder / "1.msg").write_bytes(HEAD + body)
        return self.ask("FILE 1.msg")


@contextmanager
def bridge(folder: Path, *words: str) -> Iterator[Bridge]:
    made = Bridge(folder, *words)
    try:
        yield made
    finally:
        made.input.close()
        assert made.process.wait(5) == 0
        made.output.close()


@pytest.fixture
def scanner() -> Iterator[Callable[..., Scanner]]:
    made: list[Scanner] = []

    def make(serve: Callable[[socket.socket], None], path: str = "") -> Scanner:
        made.append(Scanner(serve, path))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.feature("FLT-080", "RULE-206")
def test_clamd_over_both_kinds_of_sockets(tmp_path: Path, scanner: Callable[..., Scanner]) -> None:
    for address in (scanner(clamd).address, scanner(clamd, str(tmp_path / "clamd.ctl")).address):
        with bridge(tmp_path, "scan-clamav", "--address", address) as filter:
            assert filter.ask("INTF 2") == "OK 2"
            assert filter.scan(b"Subject: x\n\nclean\n") == "OK"
            assert filter.scan(b"Subject: x\n\n" + EICAR) == 'ERROR "the message contains a virus: Eicar-Signature"'
    with bridge(tmp_path, "scan-clamav", "--address", scanner(clamd).address, "--mark") as filter:
        assert "ClamAV, infected (Eicar-Signature)" in filter.scan(EICAR)
        assert filter.scan(b"y" * 3_000_000) == 'ADDHEADER "X-Virus-Scanned: no, the message is too large" OK'
        assert filter.ask("HELLO") == 'ERROR "unknown command"'
    with bridge(tmp_path, "scan-clamav", "--address", scanner(clamd).address, "--discard", "--limit", "200") as filter:
        assert filter.scan(EICAR) == "DISCARD"
        assert filter.scan(EICAR + b"z" * 200) == "OK"


def test_spamd(tmp_path: Path, scanner: Callable[..., Scanner]) -> None:
    server = scanner(spamd)
    with bridge(tmp_path, "scan-spamd", "--address", server.address, "--user", "joe") as filter:
        marked = filter.scan(SPAM)
        assert marked.startswith(
            r'ADDHEADER "X-Spam-Flag: YES\eX-Spam-Status: Yes, score=1000.5 required=5 tests=GTUBE,URIBL'
        )
        assert filter.scan(b"Subject: hi\n\nhi\n") == (
            r'ADDHEADER "X-Spam-Status: No, score=-0.1 required=5 tests=none\eX-Spam-Level: " OK'
        )
    with bridge(tmp_path, "scan-spamd", "--address", server.address, "--reject", "10") as filter:
        assert filter.scan(SPAM) == 'ERROR "the message looks like spam"'
    with bridge(tmp_path, "scan-spamd", "--address", server.address, "--reject", "10", "--discard", "900") as filter:
        assert filter.scan(SPAM) == "DISCARD"


def test_rspamd(tmp_path: Path, scanner: Callable[..., Scanner]) -> None:
    seen: list[bytes] = []
    server = scanner(rspamd_server(seen))
    with bridge(tmp_path, "scan-rspamd", "--address", server.address, "--password", "word") as filter:
        assert filter.scan(SPAM).startswith(r'ADDHEADER "X-Spam-Flag: YES\eX-Spam-Status: Yes, score=15')
        assert filter.scan(b"Subject: hi\n\nhi\n").startswith('ADDHEADER "X-Spam-Status: No, score=0.5')
    head = seen[0].decode()
    for line in ("POST /checkv2", "From: a@far.test", "Rcpt: b@box.test", "Rcpt: c@box.test", "IP: 10.0.0.9"):
        assert line in head
    assert "User: joe@box.test" in head and "Password: word" in head
    with bridge(tmp_path, "scan-rspamd", "--address", server.address, "--reject") as filter:
        assert filter.scan(SPAM) == 'ERROR "the message looks like spam"'


def test_a_scanner_that_is_down_or_mad_holds_the_message(tmp_path: Path, scanner: Callable[..., Scanner]) -> None:
    def mad(stream: socket.socket) -> None:
        stream.recv(65536)
        stream.sendall(b"rubbish\xff\r\n\r\n")

    def silent(stream: socket.socket) -> None:
        stream.recv(65536)
        threading.Event().wait(3)

    for name in ("scan-clamav", "scan-spamd", "scan-rspamd"):
        with bridge(tmp_path, name, "--address", scanner(mad).address) as filter:
            assert filter.scan(b"Subject: x\n\n").startswith("FAILURE ")
    with bridge(tmp_path, "scan-clamav", "--address", scanner(silent).address, "--timeout", "0.2") as filter:
        assert filter.scan(b"x").startswith('FAILURE "')
    with bridge(tmp_path, "scan-spamd", "--address", str(tmp_path / "none")) as filter:
        assert filter.scan(b"x").startswith('FAILURE "[Errno 2]')
        assert filter.ask("FILE none.msg") == 'FAILURE "none.msg: No such file or directory"'
    with bridge(tmp_path, "scan-spamd", "--address", str(tmp_path / "none"), "--pass-unscanned") as filter:
        assert filter.scan(b"x") == 'ADDHEADER "X-Scanned: no, the scanner did not answer" OK'


def test_only_our_own_words_name_programs() -> None:
    assert own_program("scan") is None and own_program("/usr/bin/scan-clamav") is None
