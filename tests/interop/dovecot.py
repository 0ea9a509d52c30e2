"""Dovecot with settings, mail and ports of its own, in the foreground. Needs root and Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.interop.postfix import end_group
from tests.interop.processes import Process, free_port

MAIN = """\
base_dir = {run}/state
state_dir = {run}/state
instance_name = {name}
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
log_path = {run}/log
mail_location = maildir:~/Maildir
first_valid_uid = 1
auth_mechanisms = plain login
mail_max_userip_connections = 5000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {run}/conf/users
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={run}/mail/%n
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""

PERFORMANCE = """\
service imap-login {
  service_count = 0
  process_min_avail = 2
}
service imap {
  service_count = 100
  process_min_avail = 2
}
"""
"""Log-in and session processes that serve one user after another."""

MANY = """\
service imap {
  process_limit = 5000
  client_limit = 1
}
service imap-login {
  process_limit = 5000
}
default_client_limit = 10000
service anvil {
  client_limit = 20000
}
service auth {
  client_limit = 20000
}
"""
"""Room for thousands of sessions, which the limits it comes with do not have."""


def exists() -> bool:
    """Whether Dovecot can be started here."""
    return os.geteuid() == 0 and shutil.which("dovecot") is not None


class Dovecot(Process):
    """IMAP, POP3 and LMTP for users with one password; everything stands in `folder`, which must have a short name."""

    def __init__(self, folder: Path, users: Sequence[str], password: str, settings: str = "") -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        super().__init__(folder / "output")
        self.folder = folder
        self.imap = free_port()
        self.pop = free_port()
        for name in ("conf", "state", "mail"):
            (folder / name).mkdir()
        user = "mail" if has_user("mail") else "nobody"
        shutil.chown(folder / "mail", user)
        (folder / "conf" / "users").write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name in users))
        self.configuration = folder / "conf" / "dovecot.conf"
        text = MAIN.format(run=folder, name=folder.name, user=user, imap=self.imap, pop=self.pop)
        self.configuration.write_text(text + settings)

    def start(self, environment: dict[str, str] | None = None) -> float:
        """Starts it and gives the seconds until both services greet."""
        self.spawn(["/usr/sbin/dovecot", "-F", "-c", self.configuration], environment)
        return self.wait_for_greetings([self.imap, self.pop])

    def stop(self, seconds: float = 15.0) -> int:
        """The master ends on SIGTERM; what lingers of its process group is ended too."""
        status = super().stop(seconds)
        if self.popen is not None:
            end_group(self.popen.pid)
        return status

    @property
    def lmtp(self) -> str:
        """The transport with which Postfix delivers here."""
        return f"lmtp:unix:{self.folder}/state/lmtp"

    def log(self) -> str:
        """What it logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


def has_user(name: str) -> bool:
    """Whether the system knows this user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
