"""The project's one tool: run, test, bench, freeze, package, check.

    python3 build/make.py run [SERVER OPTIONS]     the server; without a base directory option in ./pillarbox-data
    python3 build/make.py test [PYTEST OPTIONS]    all checks and all tests; with options only pytest with those options
    python3 build/make.py check                    ruff, mypy and the import contracts
    python3 build/make.py bench [--quick] [...]    Pillarbox beside Postfix and Dovecot (bench --help)
    python3 build/make.py freeze [--one-file]      the program for machines without Python, in .out/dist
    python3 build/make.py package                  the wheel and the installable archive, in .out/packages

Needs Python 3.11 or later and nothing else: the environment is made in .venv at the first call and again when
pyproject.toml changed. All products go to .out/. Only the standard library is imported here, because this file runs
before there is anything else.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
OUT = ROOT / ".out"
STAMP = ENVIRONMENT / ".made-from"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
OLDEST_PYTHON = (3, 11)


def fingerprint() -> str:
    """What the environment was made from: when this text changes, it is made again."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return f"python {sys.version_info[0]}.{sys.version_info[1]}\npyproject {project}\n"


def prepare() -> None:
    """Makes .venv and installs what is missing; costs one small file read when there is nothing to do."""
    wanted = fingerprint()
    made = STAMP.read_text(encoding="ascii") if STAMP.is_file() else ""
    if made == wanted and PYTHON.exists():
        return
    if not PYTHON.exists() or (made and made.partition("\n")[0] != wanted.partition("\n")[0]):
        say(f"making {ENVIRONMENT.relative_to(ROOT)}")
        try:
            venv.create(ENVIRONMENT, clear=True, with_pip=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            sys.exit("no environment: this Python has no ensurepip (Debian: apt-get install python3-venv)")
    say("installing what pyproject.toml names")
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", f"{ROOT}[dev]"]
    if subprocess.call(command, cwd=ROOT) != 0:
        sys.exit("the packages could not be installed")
    STAMP.write_text(wanted, encoding="ascii")


def say(text: str) -> None:
    """Tells on stderr what takes time, so that stdout stays the tool's own."""
    print(f"make: {text}", file=sys.stderr, flush=True)


def become(command: Sequence[str | Path]) -> int:
    """Replaces this process, so that signals reach the program itself; where that is not possible, waits for it."""
    words = [str(word) for word in command]
    if os.name != "nt":
        os.execv(words[0], words)  # noqa: S606 - the command is ours
    return subprocess.call(words)


def call(*command: str | Path) -> int:
    """Runs one tool in the project's root and returns its exit status; the name is printed first."""
    words = [str(word) for word in command]
    print(f"== {Path(words[0]).name} {' '.join(words[1:])}", flush=True)
    return subprocess.call(words, cwd=ROOT)


def run(options: list[str]) -> int:
    """`run`: the server in the foreground, in a base directory of the project unless the options name one."""
    if not any(word.lower() in ("--base", "--cgatebase") for word in options):
        options = ["--Base", str(ROOT / "pillarbox-data"), *options]
    return become([SCRIPTS / "pillarbox", *options])


def check(options: list[str]) -> int:
    """`check`: every tool is run, also after one has failed; the status is that of the worst."""
    if options:
        sys.exit("check has no options")
    return max(
        call(SCRIPTS / "ruff", "check"),
        call(SCRIPTS / "ruff", "format", "--check"),
        call(SCRIPTS / "mypy"),
        call(SCRIPTS / "lint-imports"),
    )


def test(options: list[str]) -> int:
    """`test`: checks, then pytest on all cores; skipped tests are listed with their reasons."""
    if options:
        return become([PYTHON, "-m", "pytest", *options])
    checked = check([])
    # A file of tests stays on one core: its servers and frozen programs are made once.
    cores = os.cpu_count() or 1
    parallel = ["-n", str(min(cores, 8)), "--dist", "loadfile"] if cores > 1 else []
    tested = call(PYTHON, "-m", "pytest", "-q", "-rs", *parallel)
    if checked:
        print("make: the checks failed, see above", flush=True)
    return checked or tested


def bench(options: list[str]) -> int:
    """`bench`: see tests/bench/main.py."""
    return become([PYTHON, ROOT / "tests" / "bench" / "main.py", *options])


def freeze(options: list[str]) -> int:
    """`freeze`: PyInstaller makes .out/dist/pillarbox/ or, with --one-file, the file .out/dist/pillarbox-one-file."""
    if options not in ([], ["--one-file"]):
        sys.exit("freeze has one option: --one-file")
    environment = dict(os.environ, PILLARBOX_ONE_FILE="1" if options else "")
    command = [PYTHON, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--workpath", OUT / "build", "--distpath", OUT / "dist", ROOT / "build" / "pillarbox.spec"]
    return subprocess.call([str(word) for word in command], cwd=ROOT, env=environment)


def package(options: list[str]) -> int:
    """`package`: a wheel for machines with Python, and a .tgz of the frozen folder with its start-up files."""
    if options:
        sys.exit("package has no options")
    packages = OUT / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    made = call(PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", packages, ROOT) or freeze([])
    if made:
        return made
    folder = OUT / "build" / "archive"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(OUT / "dist" / "pillarbox", folder / "pillarbox")
    shutil.copytree(ROOT / "packaging", folder / "packaging")
    for name in ("README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / name)
    name = f"pillarbox-{platform.system().lower()}-{platform.machine()}"
    archive = shutil.make_archive(str(packages / name), "gztar", folder)
    say(f"{packages.relative_to(ROOT)}: {', '.join(sorted(path.name for path in packages.iterdir()))}")
    return 0 if Path(archive).exists() else 1


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": run,
    "test": test,
    "check": check,
    "bench": bench,
    "freeze": freeze,
    "package": package,
}


def main() -> int:
    """Exit status of the command; 2 for a call that cannot be understood."""
    if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.version_info < OLDEST_PYTHON:
        sys.exit("Pillarbox needs Python 3.11 or later")
    prepare()
    return command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
