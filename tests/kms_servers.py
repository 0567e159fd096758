"""KMS servers for tests: real processes of AWS's API, and a KEK that can be switched off."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from proxy.keys.kms.base import Context, DataKey, KmsRefused, KmsUnavailable
from proxy.keys.kms.local import LocalKms

REGION = "eu-central-1"
START_TIMEOUT_S = 60.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class KmsProcess:
    """One server process; `stop` freezes it (slow), `kill` ends it (down), `start` brings it back."""

    program: tuple[str, ...]
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers HTTP."""
        command = [part.format(port=self.port) for part in self.program]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {self.process.returncode}")
            with contextlib.suppress(OSError):
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(self.endpoint, timeout=1).close()
                return
            time.sleep(0.02)
        raise RuntimeError(f"{command[0]} did not answer in time")

    def kill(self) -> None:
        """As if the machine were gone; what was kept on disk stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and does not answer."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def admin(self) -> Any:
        """A client of one's own, for making and disabling keys."""
        return boto3.client(
            "kms",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )


def roto(folder: Path) -> KmsProcess:
    """The AWS simulator roto, its keys kept in a folder."""
    program = str(Path(sys.executable).with_name("roto-server"))
    return KmsProcess((program, "--port", "{port}", "--data-dir", str(folder)))


def moto() -> KmsProcess:
    """moto's server; its keys live as long as the process."""
    program = str(Path(sys.executable).with_name("moto_server"))
    return KmsProcess((program, "-H", "127.0.0.1", "-p", "{port}"))


class SwitchedKms:
    """A local KEK that can be down or refuse, and counts; it keeps to `Kms` in all else."""

    def __init__(self, kek: bytes) -> None:
        self.alias = "main"
        self.n_calls = 0
        self.error: KmsUnavailable | KmsRefused | None = None
        self._local = LocalKms("main", kek)

    def _call(self) -> None:
        self.n_calls += 1
        if self.error is not None:
            raise type(self.error)(self.error.message)

    async def generate_data_key(self, context: Context) -> DataKey:
        self._call()
        return await self._local.generate_data_key(context)

    async def unwrap(self, wrapped: bytes, context: Context) -> bytearray:
        self._call()
        return await self._local.unwrap(wrapped, context)

    async def check(self) -> None:
        self._call()

    async def close(self) -> None:
        return None
