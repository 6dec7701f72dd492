# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Images of deploy/Dockerfile without a daemon: built by buildah on a Debian of debootstrap's, and
their programs started as a container runtime starts them. All needs root."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT

PLACE = ROOT / "build" / "deploy-check"
BASE = "docker.io/library/debian:bookworm-slim"
PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"  # those of the machine, where a proxy has its own

# a root that nothing can write to, but for $STATE; the export is at $EXPORTED
CONTAINER = """
mount --bind "$ROOT" "$ROOT" && mount -o remount,ro,bind "$ROOT"
mount --bind "$STATE" "$ROOT$STATE_AT"
if [ -n "$EXPORTED" ]; then mount --bind "$EXPORTED" "$ROOT/export"; fi
mount -t tmpfs tmpfs "$ROOT/tmp" && mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec chroot --userspec="$OWNER" "$ROOT" env -i --chdir="$STATE_AT" "$@"
"""


def buildah(*words: str) -> str:
    """What it prints on stdout; its progress goes to this process's stderr."""
    place = ["--root", str(PLACE / "images"), "--runroot", str(PLACE / "running")]
    done = subprocess.run(["buildah", *place, *words], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"buildah {' '.join(words)}"
    return done.stdout.strip()


def make_base() -> None:
    """Debian's own image of that name is smaller; what the Dockerfile does with it is the same."""
    if buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        return
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        system, archive = Path(folder, "system"), Path(folder, "system.tar")
        words = ["--variant=minbase", f"--include={PACKAGES}", "bookworm", system]
        subprocess.run(["debootstrap", *words], check=True, stdout=sys.stderr)
        for big in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists"):
            shutil.rmtree(system / big)
        subprocess.run(["tar", "-C", system, "-cf", archive, "."], check=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, str(archive), "/")
        buildah("commit", "--quiet", "--rm", container, BASE)


def pip_settings() -> str:
    """This machine's settings of pip, but for files of its own, as a pip.conf."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = {"cert": f"{CERTIFICATES}/ca-certificates.crt"}
    setting = re.compile(r"^(?:global|install|:env:)\.+([\w-]+)='(.*)'$", re.MULTILINE)
    for name, value in setting.findall(done.stdout):
        elsewhere = [one for one in value.split() if not one.startswith(("file:", "/"))]
        if elsewhere:
            lines[name] = " ".join(elsewhere)
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in lines.items()), ""])


@dataclass(frozen=True)
class BuiltImage:
    name: str
    root: Path
    config: dict[str, Any]

    def start(
        self, words: Sequence[str], state: Path, exported: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """``words`` with the image's user and environment, in namespaces of their own as PID 1."""
        inside = [*self.config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        user, group = map(int, self.config["User"].split(":"))
        os.chown(state, user, group)
        outside = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "ROOT": str(self.root),
            "STATE": str(state),
            "STATE_AT": next(iter(self.config["Volumes"])),
            "EXPORTED": str(exported or ""),
            "OWNER": self.config["User"],
        }
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return subprocess.Popen(
            [*unshare, "sh", "-eu", "-c", CONTAINER, "sh", *inside, *words],
            env=outside,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def names(self, pattern: str) -> list[str]:
        """Its files by a pattern, such as ``usr/bin/*gcc*``."""
        return [str(file.relative_to(self.root)) for file in self.root.glob(pattern)]

    @property
    def megabytes(self) -> str:
        """What it takes, Debian's base included."""
        (about,) = json.loads(buildah("images", "--json", self.name))
        return str(about["size"])


@contextlib.contextmanager
def built(target: str) -> Iterator[BuiltImage]:
    """The image of a target; layers that have not changed are used again."""
    PLACE.mkdir(parents=True, exist_ok=True)
    make_base()
    name = f"localhost/paddlerec-milvus-{target}"
    with tempfile.NamedTemporaryFile("w", dir=PLACE) as settings:
        settings.write(pip_settings())
        settings.flush()
        words = ["--isolation", "chroot", "--format", "docker", "--layers", "--pull-never"]
        words += ["--secret", f"id=pip.conf,src={settings.name}"]
        words += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        words += ["--file", str(ROOT / "deploy" / "Dockerfile"), "--target", target]
        buildah("bud", *words, "--tag", name, str(ROOT))
    config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
    container = buildah("from", "--pull-never", name)
    try:
        yield BuiltImage(name, Path(buildah("mount", container)), config)
    finally:
        buildah("rm", container)
