"""What the suites need, got from the package registries into the cache: source packages, wheels, Debian sources.

Everything is pinned and fetched once. One reason to change: where a suite's files come from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("PGSEAL_CACHE", str(ROOT / ".cache"))) / "conformance"
_TIMEOUT_S = 600
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class CannotBeHad(Exception):
    """Why a suite cannot run here."""


def sdist(name: str, version: str) -> Path:
    """The unpacked source package of PyPI."""
    target = CACHE / f"{name}-{version}"
    if not target.is_dir():
        folder = CACHE / "sdists"
        _pip("download", "--no-binary", name, "--no-deps", "--dest", str(folder), f"{name}=={version}")
        _unpack(_only(folder, f"{name}-{version}.tar.gz"), target)
    return target


def wheels(folder: str, *requirements: str) -> Path:
    """A folder for PYTHONPATH that holds these packages and nothing else."""
    target = CACHE / folder
    if not target.is_dir():
        unfinished = target.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        _pip("install", "--no-deps", "--target", str(unfinished), *requirements)
        unfinished.rename(target)
    return target


def debian_source(package: str, version: str, suite: str = "bookworm") -> Path:
    """The unpacked original source of a Debian package; nothing of the machine's own package lists is changed."""
    target = CACHE / f"{package}-{version}"
    if not target.is_dir():
        if shutil.which("apt-get") is None or not Path(_DEBIAN_KEYRING).is_file():
            raise CannotBeHad(f"no apt-get with Debian's keys on this machine, so no source of {package}")
        folder = CACHE / "apt"
        options = _apt_options(folder, suite)
        run(["apt-get", *options, "update"], folder)
        run(["apt-get", *options, "source", "--download-only", "--tar-only", f"{package}={version}"], folder)
        _unpack(next(folder.glob(f"{package}_*.orig.tar.*")), target)
    return target


def _apt_options(folder: Path, suite: str) -> list[str]:
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    line = f"deb-src [signed-by={_DEBIAN_KEYRING}] http://deb.debian.org/debian {suite} main\n"
    (folder / "sources.list").write_text(line)
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root",
    }
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def run(command: Sequence[str], folder: Path) -> None:
    """One program to its end; its last line is the reason when it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if answer.returncode != 0:
        last = (answer.stderr or answer.stdout).strip().splitlines()[-1:]
        raise CannotBeHad(f"{' '.join(command[:2])} failed: {' '.join(last)}")


def _pip(*arguments: str) -> None:
    run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], CACHE)


def _only(folder: Path, name: str) -> Path:
    found = folder / name
    if not found.is_file():
        raise CannotBeHad(f"PyPI gave no {name}")
    return found


def _unpack(archive: Path, target: Path) -> None:
    """The one folder at the archive's top becomes the target."""
    unfinished = target.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(unfinished, filter="data")
    next(unfinished.iterdir()).rename(target)
    unfinished.rmdir()
