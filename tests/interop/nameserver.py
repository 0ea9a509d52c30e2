"""A DNS server for a test: it knows the names that it is given, and notes what it is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """`records` by name: "MX 10 mail.x.test", "A 10.0.0.1". Any other name does not exist.

    It answers on the host of the thread that makes it, from then until the end of a `with`.
    """

    def __init__(self, address: str, records: Mapping[str, Sequence[str]], port: int = 53) -> None:
        self.records = {name.lower().rstrip(".") + ".": list(values) for name, values in records.items()}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self.address = f"{address}:{self._socket.getsockname()[1]}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                data, peer = self._socket.recvfrom(4096)
                answer = self.answer(dns.message.from_wire(data))
                if answer is not None:
                    self._socket.sendto(answer.to_wire(), peer)
            except (OSError, dns.exception.DNSException):
                continue

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """The answer; None for none at all."""
        (question,) = query.question
        name = question.name.to_text().lower()
        kind = question.rdtype.name
        self.asked.append(f"{kind} {name}")
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        known = self.records.get(name)
        if known is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        found = [value.partition(" ")[2] for value in known if value.partition(" ")[0] == kind]
        if found:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *found))
        return response

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        self._socket.close()
