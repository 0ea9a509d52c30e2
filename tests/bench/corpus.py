"""Messages like those in an office's mailboxes, the same at every run: a third each plain, with HTML beside, with a file."""

from __future__ import annotations

import base64
import random
from pathlib import Path

KINDS = 3


def write(path: Path, count: int, size: int) -> None:
    """Writes `count` messages of about `size` bytes as the load clients read them: a line with the size before each."""
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(2000)]
    with path.open("wb") as file:
        for number in range(count):
            content = message(dice, words, number, size)
            file.write(b"%d\n%b" % (len(content), content))


def message(dice: random.Random, words: list[str], number: int, size: int) -> bytes:
    """One message with the header fields that a mail has after three hosts and a signature."""
    sender, boundary = dice.choice(words), f"=_part{number}"
    head = [f"Return-Path: <{sender}@example.org>"]
    for hop in range(3):
        head += [f"Received: from h{hop}.example.org (h{hop}.example.org [192.0.2.{hop}])"]
        head += [f"\tby mx{hop}.example.net with ESMTPS id {dice.getrandbits(48):012x}"]
        head += [f"\tfor <user@example.net>; Sat, 21 Nov 2026 01:0{hop}:00 +0000 (UTC)"]
    signature = base64.b64encode(dice.randbytes(96)).decode()
    head += ["DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=key; h=From:To:Subject:Date;"]
    head += [f"\tb={signature[:64]}", f"\t {signature[64:]}"]
    head += [f"From: {sender.title()} {dice.choice(words).title()} <{sender}@example.org>"]
    head += [f"To: User <user@example.net>, Other <other{number % 50}@example.net>", "Cc: Third <third@example.net>"]
    head += [f"Subject: {' '.join(dice.choices(words, k=6))}", f"Date: Sat, {1 + number % 20} Nov 2026 08:00:00 +0000"]
    head += [f"Message-ID: <{number}.{dice.getrandbits(60):x}@example.org>", f"In-Reply-To: <{number - 1}@example.org>"]
    head += [f"References: <{number - 2}@example.org>", f" <{number - 1}@example.org>", "MIME-Version: 1.0"]
    room = max(200, size - sum(len(line) + 2 for line in head))
    plain = "Content-Type: text/plain; charset=utf-8"
    if number % KINDS == 0:
        return "\r\n".join([*head, plain, "", text(dice, words, room)]).encode()
    if number % KINDS == 1:
        kind = "alternative"
        html = ["Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: quoted-printable"]
        second = [*html, "", f"<html><body>{text(dice, words, room // 2)}</body></html>"]
    else:
        kind = "mixed"
        file = [f'Content-Type: application/pdf; name="f{number}.pdf"', "Content-Transfer-Encoding: base64"]
        file += [f'Content-Disposition: attachment; filename="f{number}.pdf"']
        second = [*file, "", base64.encodebytes(dice.randbytes(room // 3)).decode().replace("\n", "\r\n")]
    head += [f'Content-Type: multipart/{kind}; boundary="{boundary}"', "", f"--{boundary}"]
    parts = [plain, "", text(dice, words, room // 2), f"--{boundary}", *second, f"--{boundary}--", ""]
    return "\r\n".join([*head, *parts]).encode()


def text(dice: random.Random, words: list[str], size: int) -> str:
    """Lines of words, of about so many characters together."""
    lines, length = [], 0
    while length < size:
        lines.append(" ".join(dice.choices(words, k=11)))
        length += len(lines[-1]) + 2
    return "\r\n".join(lines) + "\r\n"
