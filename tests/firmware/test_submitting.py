"""The programs `mail` and `sendmail`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALL = [sys.executable, "-c", "import sys; from firmware.submitting import main; sys.exit(main(sys.argv[1:]))"]


def call(base: Path, *words: str, text: str | bytes = "hello\n", statuses: tuple[int, ...] = (0,)) -> bytes:
    """Run a program; the file that it left."""
    folder = base / "Submitted"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from firmware.submitting import main; sys.exit(main(sys.argv[1:]))",
            *words,
        ],
        input=text if isinstance(text, bytes) else text.encode(),
        capture_output=True,
        cwd=ROOT,
        timeout=20,
    )
    assert done.returncode in statuses, done.stderr
    files = list(folder.iterdir())
    if not files:
        return b""
    (file,) = files
    assert file.suffix == ".sub"
    data = file.read_bytes()
    file.unlink()
    return data


@pytest.mark.feature("PIPE-030", "PIPE-031", "MISC-031", "MISC-032", "MISC-033", "MISC-034", "MISC-035", "MISC-037")
def test_mail(tmp_path: Path) -> None:
    base = str(tmp_path)
    made = call(
        tmp_path, "mail", "-d", base, "-iInv", "-s", "two words", "-c", "c,d@d.test", "-b", "e@e.test", "a,b@b.test"
    )
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    assert made.decode() == (
        f"From: {user}\nTo: a, b@b.test\nCc: c, d@d.test\nBcc: e@e.test\nSubject: two words\n\nhello\n"
    )
    made = call(tmp_path, "mail", "-d", base, "-f", "joe", "-s", "one", "words", "a@b.test", text="ü\n")
    assert b"From: joe\nTo: words, a@b.test\nSubject: one\n" in made and b"charset=utf-8" in made
    assert call(tmp_path, "mail", "-d", base, statuses=(64,)) == b""


@pytest.mark.feature("PIPE-032", "PIPE-033", "PIPE-035", "MISC-040", "MISC-042", "MISC-043", "MISC-044", "MISC-047")
def test_sendmail(tmp_path: Path) -> None:
    base = str(tmp_path)
    text = "From: x@x.test\nTo: other@o.test\nSubject: s\n\nbody\n"
    made = call(tmp_path, "sendmail", f"-d{base}", "-fjoe@a.test", "a@b.test,c", "d@d.test", text=text)
    assert made.decode() == "Return-Path: <joe@a.test>\nEnvelope-To: a@b.test, c, d@d.test\n" + text
    made = call(tmp_path, "sendmail", "-t", "-d", base, "-odb", "-oem", "-O", "X=1", "-f", "joe", "c", text=text)
    assert made.decode() == "Return-Path: <joe>\nEnvelope-Ignore: c\n" + text
    made = call(
        tmp_path,
        "sendmail",
        "-d",
        base,
        "-F",
        "Joe D.",
        "-f",
        "joe",
        "-V",
        "QQ1",
        "--",
        "-odd@a.test",
        text="no header",
    )
    assert made.decode() == (
        'Return-Path: <joe>\nEnvelope-ID: QQ1\nEnvelope-To: -odd@a.test\nFrom: "Joe D." <joe>\n\nno header'
    )
    assert call(tmp_path, "sendmail", "-d", base, text=text, statuses=(64,)) == b""
    assert call(tmp_path, "sendmail", "-bs", "-d", base, text=text, statuses=(64,)) == b""


@pytest.mark.feature("PIPE-034", "MISC-045")
def test_a_dot_ends_the_text_unless_it_is_told_not_to(tmp_path: Path) -> None:
    text = "Subject: s\n\none\n.\ntwo\n"
    assert call(tmp_path, "sendmail", "-d", str(tmp_path), "a", text=text).endswith(b"\n\none\n")
    assert call(tmp_path, "sendmail", "-i", "-d", str(tmp_path), "a", text=text).endswith(b"\none\n.\ntwo\n")
    assert call(tmp_path, "sendmail", "-oi", "-d", str(tmp_path), "a", text=text).endswith(b"\none\n.\ntwo\n")


@pytest.mark.feature("PIPE-036", "PIPE-037", "MISC-036", "MISC-048", "MISC-051", "PIPE-018")
def test_the_file_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "Submitted"
    folder.mkdir()
    process = subprocess.Popen(
        [*CALL, "sendmail", "-d", str(tmp_path), "a"],
        stdin=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    process.stdin.write(b"Subject: slow\n\nfirst\n")
    process.stdin.flush()
    assert not [name for name in os.listdir(folder) if name.endswith(".sub")]
    process.stdin.write(b"last\n")
    process.stdin.close()
    assert process.wait(20) == 0
    (name,) = os.listdir(folder)
    assert name.endswith(".sub") and (folder / name).read_bytes().endswith(b"first\nlast\n")


def test_values_cannot_make_fields(tmp_path: Path) -> None:
    made = call(
        tmp_path, "sendmail", "-d", str(tmp_path), "-f", "a\nBcc: evil@e.test", "b\nTo: c", text="Subject: x\n\n"
    )
    assert b"\nBcc" not in made and b"\nTo" not in made


def test_there_is_no_such_base(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CALL, "sendmail", "-d", str(tmp_path / "none"), "a"],
        input=b"x",
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode == 73 and b"Submitted: No such file" in done.stderr
