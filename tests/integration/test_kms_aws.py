"""The aws provider against two servers that speak AWS's API: roto (real AEAD, disabled keys) and moto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.keys.kms.aws import AwsKms
from proxy.keys.kms.base import KmsRefused, KmsUnavailable
from tests.kms_servers import REGION, KmsProcess, moto, roto

CONTEXT = {"realm": "00" * 16, "tenant": "hôpital-β", "key_type": "PHI_DATA"}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK's chain finds; and no profile of the machine's user."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def roto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmsProcess]:
    """One roto for the tests that leave it as it is."""
    server = roto(tmp_path_factory.mktemp("roto"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def moto_server() -> Iterator[KmsProcess]:
    """One moto for all tests."""
    server = moto()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["roto", "moto"])
def server(request: pytest.FixtureRequest) -> KmsProcess:
    """Both servers, one after the other."""
    found = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(found, KmsProcess)
    return found


def new_key(server: KmsProcess) -> str:
    """A fresh KEK's id."""
    return str(server.admin().create_key()["KeyMetadata"]["KeyId"])


@pytest.fixture
async def kms(server: KmsProcess) -> AsyncIterator[AwsKms]:
    """A provider over a fresh KEK."""
    made = AwsKms("main", new_key(server), region=REGION, endpoint=server.endpoint)
    yield made
    await made.close()


async def test_data_key_generated_unwraps_in_its_context(kms: AwsKms) -> None:
    """32 bytes, never the same, back from their wrapped form; names beyond ASCII in the context."""
    one, other = await kms.generate_data_key(CONTEXT), await kms.generate_data_key(CONTEXT)
    assert len(one.plain) == 32 and one.plain != other.plain
    assert await kms.unwrap(one.wrapped, CONTEXT) == one.plain
    assert one.plain.hex() not in repr(one)
    await kms.check()


@pytest.mark.parametrize(
    "other",
    [
        {},
        CONTEXT | {"tenant": "b"},
        CONTEXT | {"realm": "11" * 16},
        CONTEXT | {"key_type": "PII_DATA"},
        CONTEXT | {"x": "y"},
    ],
    ids=["none", "tenant", "realm", "key_type", "more"],
)
async def test_unwrap_in_another_context_is_refused(kms: AwsKms, other: dict[str, str]) -> None:
    """The encryption context is proved by the KMS."""
    made = await kms.generate_data_key(CONTEXT)
    with pytest.raises(KmsRefused) as caught:
        await kms.unwrap(made.wrapped, other)
    assert caught.value.sqlstate == "PS003"


async def test_unwrap_of_changed_bytes_is_refused(kms: AwsKms) -> None:
    """Wrapped bytes that were changed, cut or never made."""
    wrapped = (await kms.generate_data_key(CONTEXT)).wrapped
    for wrong in (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), wrapped[:20], b"x"):
        with pytest.raises(KmsRefused):
            await kms.unwrap(wrong, CONTEXT)


async def test_key_by_alias_unwraps_what_the_id_wrapped(server: KmsProcess) -> None:
    """alias/NAME in the configuration is the same KEK."""
    key, name = new_key(server), "alias/pgseal-test"
    server.admin().create_alias(AliasName=name, TargetKeyId=key)
    by_id = AwsKms("main", key, region=REGION, endpoint=server.endpoint)
    by_alias = AwsKms("main", name, region=REGION, endpoint=server.endpoint)
    made = await by_alias.generate_data_key(CONTEXT)
    assert await by_id.unwrap(made.wrapped, CONTEXT) == made.plain
    for kms in (by_id, by_alias):
        await kms.close()


async def test_unwrap_under_another_kek_is_refused(server: KmsProcess) -> None:
    """The configured KEK is the only one that is asked."""
    one, other = (AwsKms("main", new_key(server), region=REGION, endpoint=server.endpoint) for _ in range(2))
    made = await one.generate_data_key(CONTEXT)
    with pytest.raises(KmsRefused):
        await other.unwrap(made.wrapped, CONTEXT)
    for kms in (one, other):
        await kms.close()


async def test_missing_key_is_refused(server: KmsProcess) -> None:
    """A KEK that is not there is an answer, not an outage."""
    missing = AwsKms("main", "11111111-2222-3333-4444-555555555555", region=REGION, endpoint=server.endpoint)
    with pytest.raises(KmsRefused, match="main"):
        await missing.generate_data_key(CONTEXT)
    with pytest.raises(KmsRefused):
        await missing.check()
    await missing.close()


async def test_disabled_and_deleted_keys_are_refused(roto_server: KmsProcess) -> None:
    """The kill switch: a disabled KEK neither wraps nor unwraps, enabled again it does."""
    key, admin = new_key(roto_server), roto_server.admin()
    kms = AwsKms("main", key, region=REGION, endpoint=roto_server.endpoint)
    made = await kms.generate_data_key(CONTEXT)
    admin.disable_key(KeyId=key)
    for call in (kms.unwrap(made.wrapped, CONTEXT), kms.generate_data_key(CONTEXT), kms.check()):
        with pytest.raises(KmsRefused, match="disabled"):
            await call
    admin.enable_key(KeyId=key)
    assert await kms.unwrap(made.wrapped, CONTEXT) == made.plain
    admin.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    with pytest.raises(KmsRefused):
        await kms.unwrap(made.wrapped, CONTEXT)
    await kms.close()


async def test_server_down_is_unavailable_and_back_with_its_keys(tmp_path: Path) -> None:
    """No connection is an outage; after a kill -9 and a start the key opens what it wrapped."""
    server = roto(tmp_path)
    server.start()
    kms = AwsKms("main", new_key(server), region=REGION, endpoint=server.endpoint)
    made = await kms.generate_data_key(CONTEXT)
    server.kill()
    with pytest.raises(KmsUnavailable, match="cannot be reached"):
        await kms.unwrap(made.wrapped, CONTEXT)
    server.start()
    assert await kms.unwrap(made.wrapped, CONTEXT) == made.plain
    server.kill()
    await kms.close()


async def test_server_that_does_not_answer_stalls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen KMS ends in a time-out; meanwhile the loop turns."""
    monkeypatch.setattr("proxy.keys.kms.aws._CALL_TIMEOUT_S", 0.5)
    server = roto(tmp_path)
    server.start()
    kms = AwsKms("main", new_key(server), region=REGION, endpoint=server.endpoint)
    longest_s = 0.0
    with server.frozen():
        call = asyncio.ensure_future(kms.generate_data_key(CONTEXT))
        loop = asyncio.get_running_loop()
        while not call.done():
            turn_s = loop.time()
            await asyncio.wait({call}, timeout=0.005)
            longest_s = max(longest_s, loop.time() - turn_s)
        with pytest.raises(KmsUnavailable, match="in time"):
            call.result()
    assert longest_s < 0.3
    server.kill()
    await kms.close()


@pytest.mark.parametrize(
    "settings", [{"region": None, "endpoint": None}, {"region": REGION, "endpoint": "not a url"}]
)
async def test_settings_that_cannot_work_are_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str | None]
) -> None:
    """No region, an endpoint that is no URL."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="main"):
        AwsKms("main", "alias/x", **settings)


async def test_missing_credentials_are_unavailable(
    roto_server: KmsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the chain: no call is made, and the next try may find them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    kms = AwsKms("main", "alias/x", region=REGION, endpoint=roto_server.endpoint)
    with pytest.raises(KmsUnavailable, match="NoCredentialsError"):
        await kms.generate_data_key(CONTEXT)
    await kms.close()
