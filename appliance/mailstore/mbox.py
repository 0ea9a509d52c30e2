"""The .mbox format: one file, each message behind a line that begins `From `, an empty line behind each.

    From <return-path>(flags-UID) Sat Nov 21 04:02:08 2026

`flags` has a fixed width and the UID ten digits, so flags are patched in place and the end of the line is always the same
75 bytes. Messages are in store form: a line that begins `From ` (behind any number of `>`) has a `>` in front, so a From-line
behind an empty line is always the next message. Other programs' messages have no comment in their From-line: they are read,
but nothing is written into them.

An expunged message is marked in place; `compact` writes a new file without the marked ones and puts it in place in one step.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final
from zlib import crc32

from appliance.formats.wire import QuoteFrom, quote_from, unquote_from
from appliance.kernel.files import Files
from appliance.mailstore import flags as letters
from appliance.mailstore.flags import EXPUNGED, NO_EOL, QUOTED, WIDTH
from appliance.mailstore.store import Changed, Damaged, Found, Record, Scan, Taken, asctime, from_asctime

__all__ = ["MboxStore"]

_CHUNK: Final = 1 << 20
_MARK: Final = b"\n\nFrom "
_TAIL: Final = 1 + WIDTH + 1 + 10 + 2 + 24 + 1
_FIELD: Final = _TAIL - 1
"""From the content back to the first letter of the flags."""
_MAX_LINE: Final = 2048
_MAX_PATH: Final = 1000
_GAP: Final = 4096
"""Bytes between two messages that are read along rather than passed over."""

_OURS = re.compile(rb"\(([A-Za-z-]{%d})-(\d{10})\) (.{24})\n\Z" % WIDTH, re.DOTALL)
# Other writers: an address, a day and a month in words, a day, a time and a year, perhaps a zone somewhere.
_FOREIGN = re.compile(
    rb"From +\S.* (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?:(?P<m>[A-Z][a-z][a-z]) +(?P<d>\d\d?)|(?P<d2>\d\d?) +(?P<m2>[A-Z][a-z][a-z]))"
    rb"[ ,].*\d:\d\d.*\n\Z"
)
_CLOCK = re.compile(rb"(\d\d?):(\d\d)(?::(\d\d))?")
_YEAR = re.compile(rb"\b((?:19|2\d)\d\d)\b")
_UNFIT = re.compile(rb"[\x00-\x20\x7f<>]")


def from_line(record: Record) -> bytes:
    """The line in front of a message."""
    path = _UNFIT.sub(b"?", record.return_path[:_MAX_PATH])
    return b"From <%s>(%s-%010d) %s\n" % (
        path,
        letters.field(record.flags, record.keywords),
        record.uid,
        asctime(record.date),
    )


def build(records: Sequence[Record], offset: int) -> tuple[list[bytes], list[int], int]:
    """The buffers to write at `offset`, the offset of each content, and the offset behind all."""
    buffers: list[bytes] = []
    places: list[int] = []
    for record in records:
        content = record.content
        end = b"\n"
        if not content or not content[-1].endswith(b"\n"):
            record = record._replace(flags=record.flags | NO_EOL)
            end = b"\n\n"
        line = from_line(record)
        offset += len(line)
        places.append(offset)
        buffers.append(line)
        buffers.extend(content)
        buffers.append(end)
        offset += sum(map(len, content)) + len(end)
    return buffers, places, offset


class MboxStore:
    """One .mbox file."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self, files: Files) -> None:
        """Make the empty file; FileExistsError if it is there."""
        files.close(files.open(self.path, write=True, create=True, exclusive=True))

    def append(self, files: Files, size: int, records: Sequence[Record]) -> tuple[list[int], int]:
        buffers, places, end = build(records, size)
        handle = files.open(self.path, write=True, create=True)
        try:
            if files.size(handle) != size:
                raise Changed(self.path)
            try:
                files.pwritev(handle, buffers, size)
            except OSError:
                files.truncate_handle(handle, size)
                raise
        finally:
            files.close(handle)
        return places, end

    def take_back(self, files: Files, size: int, uids: Sequence[Found]) -> None:
        files.truncate(self.path, size)

    def take(self, files: Files, size: int, record: Record, source: str) -> Taken:
        handle = files.open(self.path, write=True, create=True)
        reader = files.open(source)
        try:
            if files.size(handle) != size:
                raise Changed(self.path)
            # The letters of the field depend on all of the content, and they must be right from the first byte: one that was
            # put right afterwards could be lost in a crash that spares the rest. So it is read twice.
            quote = QuoteFrom()
            read = quoted = 0
            last = b""
            for chunk in _pieces(files, reader, record.content):
                read += len(chunk)
                quoted += len(quote.feed(chunk))
                last = chunk
            quoted += len(quote.finish())
            flags = record.flags | (QUOTED if quoted != read else 0) | (0 if last.endswith(b"\n") else NO_EOL)
            line = from_line(record._replace(flags=flags))
            place = at = size + len(line)
            quote = QuoteFrom()
            wire = crc = 0
            try:
                files.pwritev(handle, (line,), size)
                for chunk in _pieces(files, reader, record.content):
                    wire += len(chunk) + chunk.count(b"\n")
                    if piece := quote.feed(chunk):
                        crc = crc32(piece, crc)
                        at += files.pwritev(handle, (piece,), at)
                if piece := quote.finish():
                    crc = crc32(piece, crc)
                    at += files.pwritev(handle, (piece,), at)
                length = at - place
                at += files.pwritev(handle, (b"\n\n" if flags & NO_EOL else b"\n",), at)
            except OSError:
                files.truncate_handle(handle, size)
                raise
            return Taken(place, length, crc, wire, flags, at)
        finally:
            files.close(reader)
            files.close(handle)

    def set_flags(self, files: Files, changes: Sequence[tuple[Found, Found]]) -> None:
        handle = files.open(self.path, write=True)
        try:
            for _, message in changes:
                files.pwrite(handle, letters.field(message.flags, message.keywords), message.place - _FIELD)
        finally:
            files.close(handle)

    def prepare(self, content: bytes) -> tuple[bytes, int]:
        quoted = quote_from(content)
        return (content, 0) if quoted is content or len(quoted) == len(content) else (quoted, QUOTED)

    def read(self, files: Files, messages: Sequence[Found]) -> list[bytes]:
        handle = files.open(self.path)
        try:
            pread = files.pread
            result = []
            for run in _runs(messages):
                # Neighbours in one piece: each look at the file gives up the interpreter's lock and has to get it again.
                start = run[0].place
                piece = pread(handle, run[-1].place + run[-1].length - start, start)
                for message in run:
                    at = message.place - start
                    data = piece if len(run) == 1 else piece[at : at + message.length]
                    result.append(unquote_from(data) if message.flags & QUOTED else data)
            return result
        finally:
            files.close(handle)

    def raw(self, files: Files, message: Found, start: int, size: int) -> bytes:
        handle = files.open(self.path)
        try:
            return files.pread(handle, max(0, min(size, message.length - start)), message.place + start)
        finally:
            files.close(handle)

    def sync(self, files: Files) -> None:
        files.sync(self.path)

    def scan(self, files: Files, start: int = 0) -> Scan:
        handle = files.open(self.path)
        try:
            size = files.size(handle)
            messages: list[Found] = []
            dead = 0
            for begin, line, place, end in _walk(files, handle, start, size):
                found = _found(line, place, end, lambda last: files.pread(handle, 2, last))
                if found.flags & EXPUNGED:
                    dead += end - begin
                else:
                    messages.append(found)
            return Scan(messages, dead, size)
        finally:
            files.close(handle)

    def end_line(self, files: Files) -> bool:
        """End the last line, which a file that comes from elsewhere may leave open. Whether that was needed."""
        handle = files.open(self.path, write=True)
        try:
            size = files.size(handle)
            if not size or files.pread(handle, 1, size - 1) == b"\n":
                return False
            files.pwritev(handle, (b"\n",), size)
            return True
        finally:
            files.close(handle)

    def checked(self, files: Files, messages: Iterable[tuple[int, int]]) -> list[tuple[int, int]] | None:
        """Flags and keywords of (uid, place) as the file has them now; None if one of them is not there."""
        handle = files.open(self.path)
        result: list[tuple[int, int]] = []
        try:
            for uid, place in messages:
                match = _OURS.match(files.pread(handle, _TAIL, place - _TAIL))
                if match is None or int(match[2]) != uid:
                    return None
                result.append(letters.parse(match[1]))
        finally:
            files.close(handle)
        return result

    def verified(self, files: Files, start: int, expected: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
        """How many of the messages (uid, length, CRC of the content) stand behind `start` as expected, one after the
        other, and the offset behind the last of these."""
        handle = files.open(self.path)
        try:
            size = files.size(handle)
            for number, (uid, length, crc) in enumerate(expected):
                head = files.pread(handle, _MAX_LINE, start)
                place = head.find(b"\n") + 1
                match = _OURS.search(head[:place]) if place and head.startswith(b"From <") else None
                if match is None or int(match[2]) != uid:
                    return number, start
                place += start
                found = 0
                at = place
                while at < place + length and (chunk := files.pread(handle, min(_CHUNK, place + length - at), at)):
                    found = crc32(chunk, found)
                    at += len(chunk)
                open_end = letters.parse(match[1])[0] & NO_EOL
                end = place + length + (2 if open_end else 1)
                if at != place + length or found != crc or end > size:
                    return number, start
                if files.pread(handle, end - place - length, place + length).strip(b"\n"):
                    return number, start
                start = end
            return len(expected), start
        finally:
            files.close(handle)

    def strike(self, files: Files, start: int, end: int) -> int:
        """Mark all messages from `start` to `end` as expunged; how many. Damaged if there is something else."""
        handle = files.open(self.path, write=True)
        try:
            count = 0
            for _, line, place, _ in _walk(files, handle, start, end):
                match = _OURS.search(line)
                if match is None:
                    raise Damaged(f"{self.path} has another program's message at {place}")
                flags, keywords = letters.parse(match[1])
                files.pwrite(handle, letters.field(flags | EXPUNGED, keywords), place - _FIELD)
                count += 1
            return count
        finally:
            files.close(handle)

    def where(self, files: Files, start: int) -> dict[int, tuple[int, int]]:
        """UIDs of what stands behind `start`, with begin and end of each; as far as it can be read, and with no look at
        whether it is whole."""
        handle = files.open(self.path)
        found: dict[int, tuple[int, int]] = {}
        try:
            size = files.size(handle)
            while size > start and files.pread(handle, 1, size - 1) != b"\n":
                tail = files.pread(handle, min(_CHUNK, size - start), max(start, size - _CHUNK))
                size -= len(tail) - tail.rfind(b"\n") - 1
            for begin, line, _, end in _walk(files, handle, start, size):
                if (match := _OURS.search(line)) is not None:
                    found.setdefault(int(match[2]), (begin, end))
        except Damaged:
            pass
        finally:
            files.close(handle)
        return found

    def blank(self, files: Files, start: int, end: int) -> None:
        """Put one message that is marked as expunged over all that lies from `start` to `end`: rubbish between messages
        that are to stay where they are. It goes when the file is compacted."""
        line = from_line(Record(0, EXPUNGED, 0, 0, b"", ()))
        rest = end - start - len(line)
        filling = line + b"." * (rest - 2) + b"\n\n"[max(0, 2 - rest) :] if rest > 0 else b"\n" * (end - start)
        handle = files.open(self.path, write=True)
        try:
            files.pwrite(handle, filling, start)
        finally:
            files.close(handle)

    def compact(self, files: Files, without: Container[int] = ()) -> dict[int, int]:
        """Write the file again without its expunged messages and those at the places `without`: synced, in place in one
        step, the directory synced. The new places of the messages by their old ones."""
        temporary = self.path + ".new"
        reader = files.open(self.path)
        try:
            size = files.size(reader)
            keep: list[tuple[int, int]] = []
            places: dict[int, int] = {}
            shift = 0
            for begin, line, place, end in _walk(files, reader, 0, size):
                if place in without or _found(line, place, end, None).flags & EXPUNGED:
                    shift += end - begin
                    continue
                places[place] = place - shift
                if keep and keep[-1][1] == begin:
                    keep[-1] = (keep[-1][0], end)
                else:
                    keep.append((begin, end))
            writer = files.open(temporary, write=True, create=True, truncate=True)
            try:
                offset = 0
                for begin, end in keep:
                    while begin < end:
                        chunk = files.pread(reader, min(_CHUNK, end - begin), begin)
                        if not chunk:
                            raise Damaged(f"{self.path} became shorter while it was read")
                        offset += files.pwritev(writer, (chunk,), offset)
                        begin += len(chunk)
                files.fsync(writer)
            except BaseException:
                files.close(writer)
                files.unlink(temporary)
                raise
            files.close(writer)
        finally:
            files.close(reader)
        files.rename(temporary, self.path)
        files.sync_directory(self.path.rpartition("/")[0])
        return places


def _runs(messages: Sequence[Found]) -> Iterator[list[Found]]:
    """Messages that stand one behind the other, with little between, and are worth reading at once."""
    run: list[Found] = []
    end = 0
    for message in messages:
        if run and not (0 <= message.place - end <= _GAP and message.place + message.length - run[0].place <= _CHUNK):
            yield run
            run = []
        run.append(message)
        end = message.place + message.length
    if run:
        yield run


def _pieces(files: Files, reader: int, first: Sequence[bytes]) -> Iterator[bytes]:
    yield from (piece for piece in first if piece)
    at = 0
    while chunk := files.pread(reader, _CHUNK, at):
        at += len(chunk)
        yield chunk


def _found(line: bytes, place: int, end: int, last: object) -> Found:
    """What the From-line says about the message whose content lies from `place` to `end` (its empty line included)."""
    match = _OURS.search(line)
    if match is not None:
        flags, keywords = letters.parse(match[1])
        length = end - place - 1
        if flags & NO_EOL:
            length -= 1
        return Found(int(match[2]), place, max(0, length), flags, keywords, from_asctime(match[3]))
    length = end - place
    if callable(last) and length >= 2 and last(end - 2) == b"\n\n":
        length -= 1
    return Found(0, place, max(0, length), 0, 0, _foreign_date(line))


def _foreign_date(line: bytes) -> int:
    match = _FOREIGN.match(line)
    clock = _CLOCK.search(line)
    years = _YEAR.findall(line)
    if match is None or clock is None or not years:
        return 0
    month, day = match["m"] or match["m2"], match["d"] or match["d2"]
    return from_asctime(
        b"Mon %s %02d %02d:%02d:%02d %s"
        % (month, int(day), int(clock[1]), int(clock[2]), int(clock[3] or 0), years[-1])
    )


def _is_from_line(line: bytes) -> bool:
    return _OURS.search(line) is not None or _FOREIGN.match(line) is not None


def _walk(files: Files, handle: int, start: int, size: int) -> Iterator[tuple[int, bytes, int, int]]:
    """(begin, From-line, content offset, end) of each message from `start` to `size`, in order. Damaged where that is not a mailbox."""
    if start >= size:
        return
    if files.pread(handle, 1, size - 1) != b"\n":
        raise Damaged("the last line of the mailbox has no end")
    begin = start
    line = _line(files.pread(handle, _MAX_LINE, start))
    if line is None:
        raise Damaged(f"there is no From-line at offset {start}")
    offset = start
    rest = b""
    while offset < size:
        # `rest` are bytes already looked at that may be the beginning of a mark or of its line.
        chunk = files.pread(handle, min(_CHUNK, max(0, size - offset - len(rest))), offset + len(rest))
        if not chunk and not rest:
            break
        data = rest + chunk
        final = not chunk or offset + len(data) >= size
        at = 0
        while (hit := data.find(_MARK, at)) >= 0:
            where = hit + 2
            stop = data.find(b"\n", where, where + _MAX_LINE)
            if stop < 0 and not final and len(data) - where < _MAX_LINE:
                break  # the line may be whole in the next chunk
            at = where
            if stop < 0:
                continue
            candidate = data[where : stop + 1]
            if not _is_from_line(candidate):
                continue
            position = offset + where
            yield begin, line, begin + len(line), position
            begin, line = position, candidate
            at = stop
        else:
            hit = -1
        if final:
            break
        keep = hit if hit >= 0 else max(at, len(data) - len(_MARK) + 1)
        rest = data[keep:]
        offset += keep
    yield begin, line, begin + len(line), size


def _line(head: bytes) -> bytes | None:
    end = head.find(b"\n")
    line = head[: end + 1]
    return line if end >= 0 and head.startswith(b"From ") and _is_from_line(line) else None
