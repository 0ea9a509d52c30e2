"""The program: `pillarbox [OPTION [PARAMETER]]...` (manual, chapters 2 and 4)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from firmware.base import BaseError, Lock, prepare
from firmware.options import USAGE, OptionError, Options, with_parameter_file
from firmware.platform import (
    drop_root,
    give_tree,
    os_log,
    raise_descriptor_limit,
    run_as,
    settle_memory,
    share_the_interpreter,
    to_background,
)
from firmware.privilege import RootPrivilege
from firmware.provision import Provision, ProvisionError

if TYPE_CHECKING:
    from appliance.kernel.tasks import TaskStatus
    from appliance.server import Server

#: Programs that come with the server; the first word of the command line names one.
BRIDGES = ("scan-clamav", "scan-spamd", "scan-rspamd")
PROGRAMS = ("mail", "sendmail")

#: Seconds after the start at which root is given up for good (--dropRoot).
DROP_AFTER = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; the exit status. 2: a wrong command line, 1: it could not start or failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and (called := os.path.basename(sys.argv[0])) in PROGRAMS:
        given.insert(0, called)  # a link to us stands in the place of the system's program
    if given and given[0] in PROGRAMS:
        from firmware.submitting import main as submit

        return submit(given)
    if given and given[0] in BRIDGES:
        from firmware.bridges import main as scan

        return scan(given)
    words = {word.lower() for word in given}
    if words & {"--help", "-h"}:
        sys.stdout.write(USAGE)
        return 0
    if "--version" in words:
        from appliance.about import VERSION

        print(f"Pillarbox {VERSION}")
        return 0
    try:
        options = with_parameter_file(given)
    except OptionError as error:
        print(f"pillarbox: {error}\n{USAGE}", file=sys.stderr, end="")
        return 2
    try:
        provision = Provision(options.provision) if options.provision else None
        prepare(options.base)
        if options.daemon:
            to_background()
        # From the lock file on the process can be asked to end; it hears that when the receiver is open.
        hold_signals(signal.SIG_BLOCK)
        lock = None if options.no_lock_file else Lock(options.base)
    except (BaseError, ProvisionError) as error:
        hold_signals(signal.SIG_UNBLOCK)
        print(f"pillarbox: {error}", file=sys.stderr)
        return 1
    try:
        return _serve(options, provision)
    finally:
        if lock is not None:
            lock.release()
        hold_signals(signal.SIG_UNBLOCK)


def hold_signals(how: int) -> None:
    """Keeps the signals that end the server waiting, or lets them come; without effect on Windows."""
    if sys.platform != "win32":
        signal.pthread_sigmask(how, {signal.SIGTERM, signal.SIGINT})


def _serve(options: Options, provision: Provision | None) -> int:
    from appliance.kernel.disk import WorkerDisk
    from appliance.kernel.files import OsFiles
    from appliance.kernel.supervisor import ComponentFailed
    from appliance.server import Server, ServerOptions
    from firmware.bridges import own_program

    raise_descriptor_limit()
    share_the_interpreter()
    os.umask(0o027)
    files = OsFiles()
    if options.drop_root and (user := run_as()) is not None:
        # What is made while we are root has to be the user's later.
        give_tree(options.base, user.user)
        files = OsFiles((user.user, -1))

    async def apply(server: Server) -> None:
        assert provision is not None
        provision.check(server.components)
        await provision.apply(server.system_caller("START"), server.operations, server.components)

    server = Server(
        ServerOptions(
            options.base,
            options.port_offset,
            options.log_all,
            sys.stdout.buffer.write if options.log_to_console else None,
            os_log,
            privilege=RootPrivilege(options.base, files),
            programs=own_program,
        ),
        disk=WorkerDisk(files),
        provision=apply if provision is not None else None,
    )
    try:
        trio.run(_run, server, options)
    except ComponentFailed as error:
        print(f"pillarbox: {_reason(error, options)}", file=sys.stderr)
        return 1
    return 0


def _reason(error: Exception, options: Options) -> str:
    """What the person at the console can do something about, and where the rest is told."""
    cause = error.__cause__
    if isinstance(cause, (ProvisionError, OSError)):
        return str(cause)
    detail = f": {type(cause).__name__}: {cause}" if cause is not None else ""
    return f"{error}{detail}; see the newest file in {os.path.join(options.base, 'SystemLogs')}"


async def _run(server: Server, options: Options) -> None:
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_signals, server)
        nursery.start_soon(_announce, server, options)
        try:
            await server.run()
        except Exception as error:
            failure = error
        os_log("has shut down")
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _announce(server: Server, options: Options) -> None:
    await server.ready.wait()
    os_log("started")
    _summary(server)
    settle_memory()
    if options.drop_root:
        await trio.sleep(DROP_AFTER)
        if (user := run_as()) is not None:
            await trio.to_thread.run_sync(give_tree, options.base, user.user)
        name = drop_root()
        if name is not None:
            server.system.major("root is given up, the user is %s now", name)


async def _signals(server: Server, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        hold_signals(signal.SIG_UNBLOCK)
        task_status.started()
        async for number in received:
            server.stop(signal.Signals(number).name)


def _summary(server: Server) -> None:
    """Where everything is, for whoever started it by hand."""
    if not sys.stdout or sys.stdout.closed:
        return
    by_service: dict[str, list[str]] = {}
    admin, spare = "", ""
    for socket in server.sockets():
        secure = " TLS" if socket.tls == "On" else ""
        by_service.setdefault(socket.service, []).append(f"{socket.address}:{socket.port}{secure}")
        if socket.service == "HTTPA":
            host = "localhost" if socket.address == "all" else socket.address
            if secure:
                spare = spare or f"https://{host}:{socket.port}/"
            else:
                admin = admin or f"http://{host}:{socket.port}/"
    lines = [
        f"Pillarbox is ready. Main domain {server.domains.main.name}, data in {os.path.abspath(server.options.base)}"
    ]
    lines += [f"  {service:6} {', '.join(sockets)}" for service, sockets in by_service.items()]
    lines.append(f"WebAdmin: {admin or spare or 'no port could be opened, see the log'}  (account: postmaster)")
    account = server.domains.main.account("postmaster")
    if account is not None:
        lines.append(f"The first postmaster password stands in {os.path.abspath(account.file('settings'))}")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
