# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""All settings are in setup.cfg; here the model folders and sweeps go into the wheel, as files."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("models", "benchmarks/sweeps")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "output_*", "*.db", "visualDL_log")


class BuildWithModels(build_py):
    """Copies what :mod:`paddlerec_milvus.bundle` looks for; links become the files they lead to."""

    def run(self) -> None:
        """Build the package, then put the folders into it, except for an editable install."""
        super().run()
        if not self.editable_mode:
            bundled = Path(self.build_lib) / "paddlerec_milvus" / "bundled"
            shutil.rmtree(bundled, ignore_errors=True)  # of a build before
            for folder in FOLDERS:
                shutil.copytree(folder, bundled / folder, ignore=LEFT_OUT)


setup(cmdclass={"build_py": BuildWithModels})
