"""A KMS whose calls are counted and timed for /metrics, whatever its provider.

One reason to change: what is measured of a KMS.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

from proxy.keys.kms.base import Context, DataKey, Kms
from proxy.metrics import Counters, KmsOutcome

T = TypeVar("T")


class MeasuredKms:
    """`material.Kms` around another one."""

    def __init__(self, kms: Kms, counters: Counters) -> None:
        self._kms = kms
        self._counters = counters

    @property
    def alias(self) -> str:
        return self._kms.alias

    async def generate_data_key(self, context: Context) -> DataKey:
        return await self._timed(self._kms.generate_data_key(context))

    async def unwrap(self, wrapped: bytes, context: Context) -> bytearray:
        return await self._timed(self._kms.unwrap(wrapped, context))

    async def check(self) -> None:
        await self._timed(self._kms.check())

    async def close(self) -> None:
        await self._kms.close()

    async def _timed(self, call: Awaitable[T]) -> T:
        begin_s = time.monotonic()
        outcome = KmsOutcome.FAILED
        try:
            result = await call
            outcome = KmsOutcome.OK
            return result
        finally:
            self._counters.count_kms_call(self.alias, outcome, time.monotonic() - begin_s)
