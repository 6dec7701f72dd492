# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Known holes of the locked packages, by pip-audit; says loudly where it could not look.

Where the advisories cannot be reached pip-audit skips each package and closes with "No known
vulnerabilities found"; that is no finding, and is not shown as one. ``make lint`` runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
SECONDS = 300
# each with the reason why it is no hole here
EXCEPTIONS = {
    # names every version since 0, though PaddlePaddle mended it in 2.4; paddle.audio is not used
    "PYSEC-2022-43063": "paddlepaddle: code injection in paddle.audio",
}


def audited() -> list[dict[str, Any]] | str:
    """The packages with what pip-audit knows of each, or why it could not look."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    except (ValueError, KeyError):
        return (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return packages


def main() -> int:
    """1 for a hole that is no exception, else 0; a machine without a network may go on."""
    packages = audited()
    if isinstance(packages, str):
        return not_run(packages)
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return not_run("the advisories of none of the packages could be reached")
    holes = [
        f"{package['name']} {package['version']}: {hole['id']} ({', '.join(hole['aliases'])}), "
        f"mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for package in packages
        for hole in package.get("vulns", [])
        if not {hole["id"], *hole["aliases"]} & EXCEPTIONS.keys()
    ]
    print(
        "\n".join(
            [*holes, f"pip-audit: {len(packages) - len(skipped)} packages, {len(holes)} holes"]
        )
    )
    if skipped:
        print(f"warning: pip-audit could not look at {', '.join(skipped)}")
    return bool(holes)


def not_run(reason: str) -> int:
    """Say that nothing is known of the packages; a failure of the network fails no build."""
    print(
        f"\n*** pip-audit DID NOT RUN: {reason}. Known holes of the packages were not looked for;"
    )
    print("*** run `make lint` on a machine that reaches pypi.org before a release. ***\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
