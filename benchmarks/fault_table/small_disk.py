# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A small disk of its own for some processes, which can really be full; Linux, no root needed."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from paddlerec_milvus.errors import RetrievalError

PART = 1 << 16
START_SECONDS = 10.0


class FullDisk:
    """A tmpfs of ``size`` bytes at ``folder``, for processes that are started by ``prefix``.

    It lies in a mount namespace that a sleeping process holds: nobody else sees it, and it is gone
    with that process. A context manager. RetrievalError: the system lets nobody make one.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FullDisk:
        for program in ("unshare", "nsenter", "mount"):
            if shutil.which(program) is None:
                raise RetrievalError(f"{program}: no such program (package util-linux)")
        self.folder.mkdir(parents=True)
        script = f'mount -t tmpfs -o size={self._size} tmpfs "$0" && touch "$0/ready"'
        script += " && exec sleep inf"
        command = ["unshare", "--user", "--map-root-user", "--mount"]
        self._holder = subprocess.Popen([*command, "sh", "-c", script, str(self.folder)])
        end = time.monotonic() + START_SECONDS
        while not (self.outside / "ready").exists():
            if self._holder.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RetrievalError(
                    f"no small disk could be mounted at {self.folder}: this system lets no user "
                    "make a namespace of his own"
                )
            time.sleep(0.02)
        (self.outside / "ready").unlink()
        return self

    def __exit__(self, *problem: object) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()

    @property
    def prefix(self) -> list[str]:
        """What starts a process that sees the disk."""
        assert self._holder is not None
        enter = ["nsenter", "--target", str(self._holder.pid), "--user", "--mount"]
        return [*enter, "--preserve-credentials", f"--wd={Path.cwd()}"]

    @property
    def outside(self) -> Path:
        """The disk, as those see it who do not see it at ``folder``."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root") / self.folder.relative_to("/")

    def fill(self, free: int = 0) -> None:
        """Leave ``free`` bytes."""
        with (self.outside / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(PART)):
                    pass
            except OSError:  # no space left
                pass
            ballast.truncate(max(0, ballast.tell() - free))

    def clear(self) -> None:
        """Give back what :meth:`fill` took."""
        (self.outside / "ballast").unlink()

    def grow(self, size: int) -> None:
        """Let it have ``size`` bytes from now on."""
        remount = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        subprocess.run([*self.prefix, *remount], check=True)
