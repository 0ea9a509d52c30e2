"""A mailbox of a million messages: how long it takes to open, what it takes of memory, and how long others wait meanwhile.

    .venv/bin/python tests/bench/large.py [messages] [mbox|mdir]

The mailbox is made on disk beforehand, in the server's own form; the first opening reads it, the second one finds the index.
"""

from __future__ import annotations

import imaplib
import multiprocessing
import shutil
import sys
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from appliance.mailstore.mbox import from_line  # noqa: E402 - found from the root
from appliance.mailstore.mdir import file_name  # noqa: E402
from appliance.mailstore.store import Found, Record  # noqa: E402
from tests.bench.contenders import DOMAIN, Ours  # noqa: E402
from tests.interop import pillarbox  # noqa: E402
from tests.interop.processes import pss_mib  # noqa: E402

_DAY = 1_790_000_000


def content(uid: int) -> bytes:
    """A short message: how large they are is not the question here."""
    return (
        f"From: Sender {uid} <s{uid}@example.org>\nTo: big@{DOMAIN}\nSubject: Message {uid}\n"
        f"Date: Sat, 21 Nov 2026 08:00:00 +0000\nMessage-ID: <{uid}@example.org>\n\nText of {uid}.\n"
    ).encode()


def fill(account: Path, count: int, form: str) -> None:
    """Writes the mailbox INBOX."""
    if form == "mbox":
        with (account / "INBOX.mbox").open("wb") as file:
            for uid in range(1, count + 1):
                file.write(
                    from_line(Record(uid, uid % 3 != 0, 0, _DAY + uid, b"s@example.org", ())) + content(uid) + b"\n"
                )
        return
    shutil.rmtree(account / "INBOX.mdir", ignore_errors=True)
    (account / "INBOX.mbox").unlink(missing_ok=True)
    (account / "INBOX.mdir").mkdir()
    for uid in range(1, count + 1):
        data = content(uid)
        name = file_name(Found(uid, data.count(b"\n"), 0, uid % 3 != 0, 0, _DAY + uid))
        (account / "INBOX.mdir" / name).write_bytes(data)


class Neighbour:
    """Another session, in a process of its own, that asks NOOP all the time; `longest` wait in milliseconds."""

    def __init__(self, port: int) -> None:
        self.worst = multiprocessing.Value("d", 0.0)
        self.process = multiprocessing.Process(target=_ask, args=(port, self.worst), daemon=True)
        self.process.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _ask(port: int, worst: Synchronized[float]) -> None:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login(f"small@{DOMAIN}", pillarbox.PASSWORD)
    while True:
        begin = time.perf_counter()
        client.noop()
        worst.value = max(worst.value, (time.perf_counter() - begin) * 1e3)
        time.sleep(0.002)


def timed(what: str, client: imaplib.IMAP4, neighbour: Neighbour, name: str, *words: str | bytes) -> None:
    """One command: its time and the neighbour's longest wait."""
    neighbour.worst.value = 0.0
    begin = time.perf_counter()
    kind, _ = getattr(client, name)(*words)
    spent = (time.perf_counter() - begin) * 1e3
    time.sleep(0.05)
    print(
        f"    {what:32} {spent:9.1f} ms   a neighbour's NOOP at most {neighbour.worst.value:6.1f} ms   {kind}",
        flush=True,
    )


def visit(one: Ours, title: str) -> None:
    """Start, log in, open and use the mailbox, stop."""
    one.start()
    print(f"{title}: idle {pss_mib(one.server.pid):.0f} MiB")
    try:
        neighbour = Neighbour(one.imap)
        time.sleep(0.5)
        client = imaplib.IMAP4("127.0.0.1", one.imap)
        client.sock.settimeout(600)
        timed("LOGIN", client, neighbour, "login", f"big@{DOMAIN}", pillarbox.PASSWORD)
        timed("SELECT", client, neighbour, "select")
        timed("FETCH 1:100 (ENVELOPE FLAGS)", client, neighbour, "fetch", "1:100", "(ENVELOPE FLAGS)")
        timed("UID SEARCH UNSEEN", client, neighbour, "uid", "search", "UNSEEN")
        timed("FETCH 1:* (FLAGS UID)", client, neighbour, "fetch", "1:*", "(FLAGS UID)")
        timed("STORE 1:2000 +FLAGS.SILENT", client, neighbour, "store", "1:2000", "+FLAGS.SILENT", "(\\Flagged)")
        timed("APPEND", client, neighbour, "append", "INBOX", "", "", content(0))
        timed("NOOP", client, neighbour, "noop")
        print(f"    memory {pss_mib(one.server.pid):.0f} MiB")
        timed("LOGOUT", client, neighbour, "logout")
        neighbour.stop()
    finally:
        one.stop()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    form = sys.argv[2] if len(sys.argv) > 2 else "mbox"
    imaplib._MAXLINE = 1 << 26  # type: ignore[attr-defined]
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    folder.chmod(0o755)
    try:
        one = Ours(folder)
        one.start()
        client = imaplib.IMAP4("127.0.0.1", one.imap)
        client.login(f"big@{DOMAIN}", pillarbox.PASSWORD)
        client.logout()
        one.stop()
        (account,) = folder.glob("pillarbox/base/**/big.macnt")
        (account / "account.info").unlink(missing_ok=True)
        fill(account, count, form)
        for title in ("first opening", "second opening", "third opening"):
            visit(one, title)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
