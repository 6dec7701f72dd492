# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The small process between us and the Milvus server: it ends the server with its parent.

Run as a script, standard library only: ``supervisor.py PARENT_PID REMOVE_DIR RESTARTS COMMAND…``.
Its stderr, and all that the server prints, go to a log; what its user should know goes to stdout.

- The server must not outlive the program that started it, even one that is killed with ``-9``.
  The kernel's parent-death signal alone is tied to the *thread* that started the child, so this
  process watches the parent's id instead, and the server in turn is tied to this process.
- A server that ends by itself (one that stood still for 11 s does so: it has lost its place in the
  etcd inside it) is started again, RESTARTS times, on the data that it has on disk.
- The server's version has no setting for the address that it listens on: eight of its ten ports
  are opened on all interfaces. On Linux this process answers the server's ``bind`` calls through a
  seccomp listener and binds those sockets to 127.0.0.1 (``man 2 seccomp_unotify``). Where the
  kernel or a sandbox refuses that, the server runs all the same and a line in the log says so.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import platform
import select
import shutil
import signal
import socket
import struct
import sys
import time

POLL_SECONDS = 0.2  # how often the parent is looked for
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL

# numbers of linux/prctl.h, linux/seccomp.h and the system call tables
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 1 << 3
SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
SECCOMP_NOTIF_RECV, SECCOMP_NOTIF_SEND = 0xC0502100, 0xC0182101
SECCOMP_NOTIF_FLAG_CONTINUE = 1
NOTIF = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; nr, arch, instruction pointer, args
ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
SYSTEM_CALLS = {"x86_64": (317, 49), "aarch64": (277, 200)}  # machine -> (seccomp, bind)


def log(message: str) -> None:
    """One line to the log (stderr, which the starter sends to a file)."""
    print(message, file=sys.stderr, flush=True)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def listen_to_binds() -> int:
    """Let this process' ``bind`` calls be answered by whoever holds the returned descriptor.

    Raises OSError where the system refuses, KeyError on a machine that is not in the table.
    """
    seccomp, bind = SYSTEM_CALLS[platform.machine()]
    load_number, jump_if_equal, give_back = 0x20, 0x15, 0x06
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (load_number, 0, 0, 0),
            (jump_if_equal, 0, 1, bind),
            (give_back, 0, 0, SECCOMP_RET_USER_NOTIF),
            (give_back, 0, 0, SECCOMP_RET_ALLOW),
        )
    )
    lines = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(lines)))
    libc = _libc()
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    flags = ctypes.c_ulong(SECCOMP_FILTER_FLAG_NEW_LISTENER)
    mode = ctypes.c_ulong(SECCOMP_SET_MODE_FILTER)
    return _checked(libc.syscall(ctypes.c_long(seccomp), mode, flags, header), "seccomp")


def loopback_instead(address: bytes) -> bytes | None:
    """The socket address with 127.0.0.1 for "all interfaces"; None if it names another one.

    An IPv6 socket gets the IPv4-mapped form: the server's sockets serve both families.
    """
    (family,) = struct.unpack_from("=H", address)
    if family == socket.AF_INET and address[4:8] == bytes(4):
        return address[:4] + socket.inet_aton("127.0.0.1") + address[8:]
    if family == socket.AF_INET6 and address[8:24] == bytes(16):
        mapped = bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")
        return address[:8] + mapped + address[24:]
    return None


def answer_bind(listener: int, server: int) -> None:
    """Answer one waiting ``bind`` of the server; what we do not rewrite goes its usual way."""
    buffer = bytearray(NOTIF.size)
    try:
        fcntl.ioctl(listener, SECCOMP_NOTIF_RECV, buffer)
    except OSError:  # the caller was interrupted and asks again
        return
    identity, _pid, _flags, _nr, _arch, _pointer, descriptor, where, length, *_ = NOTIF.unpack(
        buffer
    )
    error, flags = 0, SECCOMP_NOTIF_FLAG_CONTINUE
    try:
        with open(f"/proc/{server}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
            memory.seek(where)
            address = loopback_instead(memory.read(min(length, 128)))
        if address is not None:
            error, flags = -_bind_for(server, descriptor, address), 0
    except OSError as problem:
        log(f"supervisor: a port stays open to other machines: {problem}")
    try:
        fcntl.ioctl(listener, SECCOMP_NOTIF_SEND, ANSWER.pack(identity, 0, error, flags))
    except OSError as problem:
        log(f"supervisor: bind: {problem}")


def _bind_for(server: int, descriptor: int, address: bytes) -> int:
    """Bind the server's own socket (a copy of its descriptor); returns bind's errno or 0."""
    libc = _libc()
    process = _checked(libc.syscall(SYS_PIDFD_OPEN, server, 0), "pidfd_open")
    try:
        copy = _checked(libc.syscall(SYS_PIDFD_GETFD, process, int(descriptor), 0), "pidfd_getfd")
    finally:
        os.close(process)
    try:
        refused: int = libc.bind(copy, address, len(address))
        return ctypes.get_errno() if refused else 0
    finally:
        os.close(copy)


def _become_server(command: list[str], channel: socket.socket) -> None:
    """In the child: tie it to this process, hand over the listener, become the server."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            listener = listen_to_binds()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))
            channel.sendmsg([b"1"], [rights])
            os.close(listener)
        except (OSError, KeyError) as problem:
            log(f"supervisor: ports are open to other machines: {problem}")
            channel.send(b"0")
    else:
        log("supervisor: ports are open to other machines: no way to bind them on this system")
        channel.send(b"0")
    channel.close()
    os.dup2(2, 1)
    os.execv(command[0], command)


def start(command: list[str]) -> tuple[int, int | None]:
    """Start the server; returns its process id and the listener for its ``bind`` calls, if any."""
    ours, theirs = socket.socketpair()
    server = os.fork()
    if server == 0:
        ours.close()
        try:
            _become_server(command, theirs)
        except BaseException as problem:  # a forked child must never return
            log(f"supervisor: {command[0]}: {problem}")
        os._exit(127)
    theirs.close()
    size = socket.CMSG_SPACE(array.array("i").itemsize)
    _message, ancillary, _flags, _address = ours.recvmsg(1, size)
    ours.close()
    for _level, _kind, data in ancillary:
        return server, array.array("i", data[:4])[0]
    return server, None


def watch(parent: int, server: int, listener: int | None, stop: list[bool]) -> int:
    """Answer binds until the server ends (returns its status), or end it with the parent."""
    deadline: float | None = None
    while True:
        done, status = os.waitpid(server, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline is None and (stop or os.getppid() != parent):
            os.kill(server, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            os.kill(server, signal.SIGKILL)
        waiting = [] if listener is None else [listener]
        ready, _, _ = select.select(waiting, [], [], POLL_SECONDS)
        if ready and listener is not None:
            answer_bind(listener, server)


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the parent does; remove the folder, if one is named."""
    parent, remove, restarts, command = int(arguments[0]), arguments[1], arguments[2], arguments[3:]
    stop: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    try:
        for left in range(int(restarts), -1, -1):
            server, listener = start(command)
            status = watch(parent, server, listener, stop)
            if listener is not None:
                os.close(listener)
            if not left or stop or os.getppid() != parent:
                break
            text = f"warning: the local Milvus server ended by itself (status {status})"
            log(text)
            print(f"{text}: it is started again, {left} times at most", flush=True)
        return status
    finally:
        if remove:
            shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
