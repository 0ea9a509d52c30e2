"""The reading side of a message that ends with a lone dot (RFC 1939, 3; as in RFC 5321, 4.5.2), out of an input buffer."""

from __future__ import annotations

_END = b"\r\n.\r\n"
#: A line that is longer is passed on in pieces.
_LONG_LINE = 64 * 1024


class DottedReader:
    """Only CR-LF dot CR-LF ends the message: other line ends around a dot are content, or two readers could disagree."""

    __slots__ = ("_at_line_start",)

    def __init__(self) -> None:
        self._at_line_start = True

    def take(self, buffer: bytearray) -> tuple[bytes, bool]:
        """What can be told of the message, taken out of the buffer, and whether this is its end. Wire form, dots undone."""
        if self._at_line_start and buffer.startswith(b".\r\n"):
            del buffer[:3]
            return b"", True
        end = buffer.find(_END)
        if end >= 0:
            piece = self._undo(bytes(buffer[: end + 2]))
            del buffer[: end + len(_END)]
            return piece, True
        # A piece is whole lines, so neither a dot nor the end is ever cut in two; the last line waits if it begins with a
        # dot and might be the end.
        border = buffer.rfind(b"\r\n") + 2
        if border == 1:
            if len(buffer) <= _LONG_LINE:
                return b"", False
            border = len(buffer) - 1  # a CR at the end may be half a line end
        piece = bytes(buffer[:border])
        del buffer[:border]
        return self._undo(piece), False

    def _undo(self, piece: bytes) -> bytes:
        start = self._at_line_start
        self._at_line_start = piece.endswith(b"\r\n")
        piece = piece.replace(b"\r\n.", b"\r\n")
        return piece[1:] if start and piece.startswith(b".") else piece
