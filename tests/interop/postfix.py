"""Postfix with settings, queue and ports of its own, in the foreground. Needs root and Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.interop.processes import LOOPBACK, Process, free_port

MAIN = """\
compatibility_level = 3.6
queue_directory = {run}/queue
data_directory = {run}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:all
virtual_transport = {transport}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_tls_security_level = none
smtp_dns_support_level = disabled
minimal_backoff_time = 1s
maillog_file = {run}/log
maillog_file_prefixes = {run}
biff = no
"""

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def exists() -> bool:
    """Whether Postfix can be started here."""
    return os.geteuid() == 0 and shutil.which("postfix") is not None


class Postfix(Process):
    """Takes mail for `domain` and gives it to `transport`; everything stands in `folder`, which must have a short name."""

    def __init__(self, folder: Path, domain: str, transport: str, settings: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        super().__init__(folder / "output")
        self.folder = folder
        self.smtp = free_port()
        for name in ("queue", "data", "conf"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        main = MAIN.format(run=folder, domain=domain, transport=transport)
        main += "".join(f"{key} = {value}\n" for key, value in (settings or {}).items())
        (folder / "conf" / "main.cf").write_text(main)
        (folder / "conf" / "master.cf").write_text(SERVICES.format(port=self.smtp))
        for name in ("dynamicmaps.cf", "postfix-files"):
            if Path("/etc/postfix", name).exists():
                shutil.copy(Path("/etc/postfix", name), folder / "conf")

    def start(self, environment: dict[str, str] | None = None) -> float:
        """Starts it and gives the seconds until it greets."""
        conf = self.folder / "conf"
        # The check makes the queue's folders; `postfix start-fg` would leave the master behind when it is ended.
        subprocess.run(["/usr/sbin/postfix", "-c", conf, "check"], check=True, capture_output=True, timeout=60)
        variables = {"MAIL_CONFIG": str(conf), **(environment or {})}
        self.spawn(["/usr/lib/postfix/sbin/master", "-c", conf, "-d"], variables)
        return self.wait_for_greetings([self.smtp])

    def stop(self, seconds: float = 15.0) -> int:
        """The master ends on SIGTERM, its daemons a moment later; those that linger are of its process group."""
        status = super().stop(seconds)
        if self.popen is not None:
            end_group(self.popen.pid)
        return status

    def log(self) -> str:
        """What it logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def address(self) -> str:
        """Where it listens, host and port."""
        return f"{LOOPBACK}:{self.smtp}"


def end_group(group: int) -> None:
    """Ends what is left of a process group that this process started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        time.sleep(0.3)
