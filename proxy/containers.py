"""A PostgreSQL server out of a container image, where Docker runs and nothing else can be had.

`ContainerServer` stands where `embedded.EmbeddedPostgres` has a process of its own: the postmaster is process 1
of a container that shares the host's network and the server's folder, so that ports, paths and files are the same
on both sides. Needs the extra `containers` (testcontainers, which also removes what a killed run left behind).
One reason to change: how a server runs in a container.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

IMAGE: Final = "postgres:{version}"
PROGRAMS: Final = "/usr/lib/postgresql/{version}/bin"
_PASSWD: Final = "/etc/passwd"  # initdb and postgres want to know the name of whom they run as


class NoEngine(RuntimeError):
    """No container can be run here; the message says why."""


def require_engine() -> None:
    """Raises NoEngine where testcontainers or a Docker engine is missing."""
    try:
        docker = importlib.import_module("testcontainers.core.docker_client")
        failure = importlib.import_module("docker.errors").DockerException
    except ModuleNotFoundError:
        raise NoEngine("testcontainers is not installed (extra `containers`)") from None
    try:
        docker.DockerClient().client.ping()
    except (failure, OSError) as error:
        raise NoEngine(f"no Docker engine answers ({type(error).__name__})") from None


def run_to_end(
    image: str, command: Sequence[str | Path], folder: Path, owner: tuple[int, int]
) -> tuple[int, str]:
    """Exit code and output of one program, with the folder in its place."""
    server = ContainerServer(image, command, folder, owner)
    try:
        return server.wait(), server.output()
    finally:
        server.remove()


class ContainerServer:
    """The part of `subprocess.Popen` that a server needs; `pid` is the postmaster's inside."""

    pid = 1

    def __init__(self, image: str, command: Sequence[str | Path], folder: Path, owner: tuple[int, int]) -> None:
        container = importlib.import_module("testcontainers.core.container")
        made = container.DockerContainer(image).with_command([str(part) for part in command])
        made = made.with_volume_mapping(str(folder), str(folder), "rw").with_volume_mapping(_PASSWD, _PASSWD)
        user = f"{owner[0]}:{owner[1]}"
        self._owner: Any = made.with_kwargs(network_mode="host", user=user, entrypoint=[])
        self._container: Any = self._owner.start().get_wrapped_container()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        self._container.reload()
        return None if self._container.status in ("created", "running") else self.wait()

    def send_signal(self, number: int) -> None:
        self._container.kill(signal=number)

    def kill(self) -> None:
        """Every process inside ends at once with the first one."""
        self._container.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; subprocess.TimeoutExpired when it does not end in time."""
        try:
            return int(self._container.wait(timeout=timeout)["StatusCode"])
        except OSError as error:  # of the HTTP client underneath
            if timeout is None:
                raise
            raise subprocess.TimeoutExpired("container", timeout) from error

    def output(self) -> str:
        return str(self._container.logs().decode(errors="replace"))

    def remove(self) -> None:
        self._owner.stop()
