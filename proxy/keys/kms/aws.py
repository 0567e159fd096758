"""The `aws` provider: AWS KMS over boto3, whose calls block and so run in threads of their own.

Credentials come from the usual chain of the AWS SDK (environment, profile, instance role). What AWS answers is
mapped here, once, to KmsUnavailable or KmsRefused; its own words stay out of messages except its error code.
One reason to change: AWS KMS, or how its errors are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from proxy.errors import ConfigError, KeyUnavailable
from proxy.keys.kms.base import CHECK_CONTEXT, DEK_SIZE, Context, DataKey, KmsRefused, KmsUnavailable, overwrite

T = TypeVar("T")
_CALL_TIMEOUT_S: Final = 10.0
_THREADS: Final = 4

# codes after which the same call may succeed; every other answer of AWS is a refusal
_TEMPORARY: Final = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_WORDS: Final = {
    "AccessDeniedException": "access is denied",
    "DisabledException": "its key is disabled",
    "IncorrectKeyException": "the data key was wrapped by another key",
    "InvalidCiphertextException": "the wrapped key or its context was changed",
    "KMSInvalidStateException": "its key is disabled or pending deletion",
    "NotFoundException": "its key does not exist",
}


class _Client(Protocol):
    """The calls of boto3's KMS client that are made here (its type is built at run time)."""

    def generate_data_key(
        self, *, KeyId: str, KeySpec: str, EncryptionContext: dict[str, str]
    ) -> dict[str, Any]: ...

    def decrypt(
        self, *, KeyId: str, CiphertextBlob: bytes, EncryptionContext: dict[str, str]
    ) -> dict[str, Any]: ...

    def close(self) -> None: ...


class AwsKms:
    """One key of AWS KMS, named by id, ARN or alias/NAME."""

    def __init__(self, alias: str, key: str, *, region: str | None = None, endpoint: str | None = None) -> None:
        self.alias = alias
        self._key = key
        limits = BotoConfig(
            connect_timeout=2,
            read_timeout=4,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=_THREADS,
        )
        try:
            self._client: _Client = boto3.session.Session().client(
                "kms", region_name=region, endpoint_url=endpoint, config=limits
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"kms '{alias}': {error}", hint="check region and endpoint") from None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"kms-{alias}")

    async def generate_data_key(self, context: Context) -> DataKey:
        def call() -> DataKey:
            answer = self._client.generate_data_key(
                KeyId=self._key, KeySpec="AES_256", EncryptionContext=dict(context)
            )
            return DataKey(self._sized(answer["Plaintext"]), bytes(answer["CiphertextBlob"]))

        return await self._call(call)

    async def unwrap(self, wrapped: bytes, context: Context) -> bytearray:
        def call() -> bytearray:
            answer = self._client.decrypt(
                KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=dict(context)
            )
            return self._sized(answer["Plaintext"])

        return await self._call(call)

    async def check(self) -> None:
        """Asks for a data key it throws away: the only call that proves both rights and state."""
        overwrite((await self.generate_data_key(CHECK_CONTEXT)).plain)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _sized(self, plain: bytes) -> bytearray:
        if len(plain) != DEK_SIZE:
            raise KmsRefused(f"kms '{self.alias}' answered with a key of another size")
        return bytearray(plain)

    async def _call(self, call: Callable[[], T]) -> T:
        """Runs a blocking call off the loop. One that is given up on ends in its thread by its own time-outs."""
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._mapped, call)
        except TimeoutError:
            raise KmsUnavailable(f"kms '{self.alias}' did not answer in time") from None

    def _mapped(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClientError as error:
            raise self._refusal(error) from None
        except BotoCoreError as error:
            raise KmsUnavailable(f"kms '{self.alias}' cannot be reached ({type(error).__name__})") from None

    def _refusal(self, error: ClientError) -> KeyUnavailable:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _TEMPORARY or status >= 500:
            return KmsUnavailable(f"kms '{self.alias}' does not serve now ({code[:64]})")
        words = _WORDS.get(code, "it refused")
        return KmsRefused(f"kms '{self.alias}': {words} ({code[:64]})", hint="check the key and its policy")
