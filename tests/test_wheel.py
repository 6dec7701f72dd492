# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The wheel, built and installed outside the repository, where no file of a checkout is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "README_CN.md")
SOURCES += ("CHANGELOG.md", "LICENSE", "NOTICE", "requirements.lock")
FOLDERS = ("paddlerec_milvus", "models", "benchmarks/sweeps")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "output_*", "*.db", "*.egg-info")
OWN = ("paddlerec_milvus", "__editable__", "zz.pth")
SMALL = ("runner.epochs=1", "hyper_parameters.neg_samples=128")


class Installation:
    """An environment with the wheel and, but for some, the packages of this one."""

    def __init__(self, place: Path, wheel: Path, without: tuple[str, ...] = ()) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
        self.python = place / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
        (self.site,) = place.glob("lib/python*/site-packages")
        shared = place / "shared"
        shared.mkdir()
        for folder in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
            for entry in folder.iterdir():
                link = shared / entry.name
                if not entry.name.startswith((*OWN, *without)) and not link.exists():
                    link.symlink_to(entry)
        (self.site / "shared.pth").write_text(f"{shared}\n")
        self.working = place / "working"
        self.working.mkdir()

    def __call__(self, *words: str, code: int = 0) -> str:
        """What ``paddlerec-milvus WORDS`` prints and logs; it ends with ``code``."""
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [str(self.python.with_name("paddlerec-milvus")), *words],
            cwd=self.working,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def files(self) -> set[Path]:
        return {path for path in self.site.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a source archive, as ``make dist`` does, but without a network."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("no build: pip install 'paddlerec-milvus[dev]'")
    source = tmp_path_factory.mktemp("source")
    for name in filter(lambda name: (ROOT / name).exists(), SOURCES):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=LEFT_OUT)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    check = [sys.executable, "-m", "twine", "check", "--strict", *(source / "dist").iterdir()]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("user"), wheel)


def test_it_carries_every_file_and_no_link(wheel: Path) -> None:
    listed = ["git", "ls-files", "-z", *FOLDERS]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no checkout of git, to know the files by")
    expected = {
        name if name.startswith("paddlerec_milvus/") else f"paddlerec_milvus/bundled/{name}"
        for name in done.stdout.split("\0")
        if name
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == expected
        link = "paddlerec_milvus/bundled/models/recall/sasrec/recall_model.py"
        own = ROOT / "models" / "recall" / "mind" / "recall_model.py"
        assert archive.read(link) == own.read_bytes()


def test_from_a_log_to_measured_lists(installed: Installation) -> None:
    before, place = installed.files(), installed.working / "models" / "recall" / "mind"
    size = ("--users", "600", "--items", "300", "--clicks", "9000")
    text = installed("prepare", "--sample", *size, "--out", "datasets/sample")
    assert "next: paddlerec-milvus train -m mind/config.yaml --data" in text
    installed("train", "-m", "mind/config.yaml", "-o", *SMALL)
    assert (place / "output_model_mind" / "0" / "rec.pdparams").is_file()
    text = installed("infer", "-m", "mind/config.yaml", "--best", "-top_n", "20", "--baselines")
    assert "MostPopular" in text
    assert (place / "milvus.db").is_dir()
    installed("new-model", "my_model")
    assert not any(path.is_symlink() for path in (place.parent / "my_model").iterdir())
    short = (*SMALL, "runner.batches_per_epoch=2")
    installed("train", "-m", "my_model/config.yaml", "-o", *short)
    assert "2 builds" in installed("bench", "-s", "goodbooks_size.yaml", "--plan")
    assert "no such file" in installed("serve", "-m", "no/config.yaml", code=2)
    assert installed.files() == before  # nothing is written beside the package


def test_the_package_without_an_extra(wheel: Path, tmp_path: Path) -> None:
    """A log is prepared and a service is checked without what trains and without Milvus Lite."""
    heavy = ("paddle", "visualdl", "lightgbm", "matplotlib", "milvus_lite", "pyarrow", "scipy")
    plain = Installation(tmp_path, wheel, without=heavy)
    text = plain("doctor")
    assert re.search(r"note +Milvus Lite +not installed", text)
    plain("prepare", "--sample", "--users", "600", "--items", "300", "--clicks", "9000",
          "--out", "datasets/sample")  # fmt: skip
    assert "pip install 'paddlerec-milvus[train]'" in plain("infer", "-m", "mind", code=2)


def test_without_paddle(wheel: Path, tmp_path: Path) -> None:
    bare = Installation(tmp_path, wheel, without=("paddle", "visualdl"))
    text = bare("doctor")
    assert "not installed: paddlepaddle, visualdl" in text
    assert "pip install 'paddlerec-milvus[train]'" in text
    bare("prepare", "--sample", "--users", "600", "--items", "300", "--clicks", "9000",
         "--out", "datasets/sample")  # fmt: skip
    place = bare.working / "models" / "recall" / "mind" / "output_model_mind" / "0"
    place.mkdir(parents=True)
    (place / "rec.pdparams").touch()
    line = "error: this needs paddle, which is not installed: pip install 'paddlerec-milvus[train]'"
    for words in (["train"], ["infer"], ["check-model"], ["tune", "--recall", "0.9"]):
        assert line in bare(*words, "-m", "mind/config.yaml", code=2)
    assert line in bare("serve", "--port", "0", code=2)
