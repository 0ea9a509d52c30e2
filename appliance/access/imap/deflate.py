"""COMPRESS=DEFLATE: what the session sends and receives as two raw streams of RFC 1951 (RFC 4978)."""

from __future__ import annotations

import zlib
from typing import Final

from appliance.kernel.channel import ChannelClosed

PIECE: Final = 64 * 1024
"""Octets that are unpacked at a time: a few of them can stand for thousands."""
LEVEL: Final = 3


class Deflate:
    """Both directions of one connection."""

    __slots__ = ("_in", "_out")

    def __init__(self) -> None:
        self._in = zlib.decompressobj(-zlib.MAX_WBITS)
        self._out = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 8)

    def compress(self, data: bytes | bytearray) -> bytes:
        """What to send for it; the client can read all of it at once."""
        return self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH)

    def decompress(self, data: bytes) -> bytes:
        """At most `PIECE` octets; `more` has the rest. Raises ChannelClosed when it is not what the RFC says."""
        try:
            return self._in.decompress(self._in.unconsumed_tail + data, PIECE)
        except zlib.error as error:
            raise ChannelClosed(f"the compressed stream is damaged: {error}") from None

    def more(self) -> bytes:
        """What was received already and not unpacked yet."""
        return self.decompress(b"") if self._in.unconsumed_tail else b""
