"""The Routing Table: its text, and the application of its records to an address (manual, chapter 27).

One record a line: `[prefix:] left = right ; comment`. A left part in angle brackets is an alias record (one address, one `*`
in its local part), any other a domain record. Records are tried from top to bottom; the first that applies rewrites.
The text is kept as it was entered; a table with an error is refused as a whole, naming the line.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.formats.wildcards import match

#: Of the whole text, in characters.
MAX_TABLE = 1 << 20

RELAY, NO_RELAY, RELAY_ALL = "relay", "norelay", "relayall"
_PREFIXES = {"relay": RELAY, "r": RELAY, "norelay": NO_RELAY, "n": NO_RELAY, "relayall": RELAY_ALL}


class TableError(ValueError):
    """A record that is wrong; the text names the line."""


@dataclass(frozen=True, slots=True)
class Record:
    """`local` is None for a domain record. `target` is the right part with `*` for what the star of the left matched."""

    line: int
    mode: str
    local: str | None
    domain: str
    target: str

    def apply(self, local: str, domain: str) -> str | None:
        """The new address text, or None if the record does not apply. `domain` is empty for the main domain."""
        if self.local is not None:
            if domain.casefold() != self.domain:
                return None
            star = match(self.local, local)
            return None if star is None else self.target.replace("*", star, 1) if "*" in self.target else self.target
        if not domain:
            return None
        star = match(self.domain, domain)
        if star is None:
            return None
        right = self.target.replace("*", star, 1) if "*" in self.target else self.target
        if "@" in right:
            # `dom = dom@relay`: the old domain goes into the local part.
            inner, _, host = right.rpartition("@")
            return f"{local}%{inner}@{host}" if inner else f"{local}@{host}"
        return f"{local}@{right}" if right else local


def split_comment(line: str) -> str:
    """The line without its comment; `;` inside quotes is no comment."""
    quoted = False
    for index, char in enumerate(line):
        if char == '"':
            quoted = not quoted
        elif char == ";" and not quoted:
            return line[:index]
    return line


def _record(number: int, text: str) -> Record:
    left, equals, right = _split_record(text)
    if not equals:
        raise TableError(f"line {number}: '=' is missing")
    mode = RELAY
    prefix, colon, rest = left.partition(":")
    if colon and prefix.strip().lower() in _PREFIXES:
        mode, left = _PREFIXES[prefix.strip().lower()], rest
    left, right = left.strip(), right.strip()
    if not left:
        raise TableError(f"line {number}: the left part is empty")
    if left.count("*") > 1:
        raise TableError(f"line {number}: only one '*' is allowed in the left part")
    if any(char in right for char in "\r\n\0"):
        raise TableError(f"line {number}: the right part has control characters")
    if left.startswith("<"):
        if not left.endswith(">"):
            raise TableError(f"line {number}: '>' is missing")
        local, at, domain = left[1:-1].strip().rpartition("@")
        if not at:
            local, domain = domain, ""
        if "*" in domain:
            raise TableError(f"line {number}: '*' is not allowed in the domain part of an alias record")
        if not local:
            raise TableError(f"line {number}: the local part is empty")
        if not right:
            raise TableError(f"line {number}: the right part is empty")
        if right.startswith("<") and right.endswith(">"):
            right = right[1:-1].strip()
        return Record(number, mode, _unquoted(local), domain.strip().casefold(), right)
    if " " in left or "@" in left:
        raise TableError(f"line {number}: {left[:64]!r} is not a domain name")
    return Record(number, mode, None, left.casefold(), right)


def _split_record(text: str) -> tuple[str, str, str]:
    """Left part, `=`, right part; an `=` inside the angle brackets of the left part belongs to the name (`<FAX=*>`)."""
    start = text.find(">") if "<" in text.split("=", 1)[0] else 0
    equals = text.find("=", max(start, 0))
    return (text, "", "") if equals < 0 else (text[:equals], "=", text[equals + 1 :])


def _unquoted(local: str) -> str:
    if len(local) > 1 and local[0] == '"' == local[-1]:
        return local[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return local


class RoutingTable:
    """A parsed table; immutable, so that a look-up sees the old or the new one."""

    def __init__(self, text: str = "") -> None:
        """Raises TableError."""
        if len(text) > MAX_TABLE:
            raise TableError("the table is too long")
        self.text = text
        self.records: list[Record] = []
        for number, line in enumerate(text.splitlines(), 1):
            content = split_comment(line).strip()
            if content:
                self.records.append(_record(number, content))
        # Most tables are small; a big one has mostly exact names, which a dictionary finds.
        self._exact: dict[tuple[str | None, str], int] = {}
        self._patterns: list[int] = []
        for index, record in enumerate(self.records):
            if "*" in (record.local or "") or (record.local is None and "*" in record.domain):
                self._patterns.append(index)
            else:
                local = record.local.casefold() if record.local is not None else None
                self._exact.setdefault((local, record.domain), index)

    def apply(self, local: str, domain: str) -> tuple[Record, str] | None:
        """The first record that applies and the address text that it makes."""
        folded = domain.casefold()
        candidates = [self._exact.get((local.casefold(), folded)), self._exact.get((None, folded)) if domain else None]
        first = min((c for c in candidates if c is not None), default=len(self.records))
        for index in self._patterns:
            if index > first:
                break
            made = self.records[index].apply(local, domain)
            if made is not None:
                return self.records[index], made
        if first < len(self.records):
            made = self.records[first].apply(local, domain)
            if made is not None:
                return self.records[first], made
        return None
