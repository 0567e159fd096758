"""The configuration of one proxy (pgseal.yaml): its keys, what each may be, and what is refused together.

Every setting is here, frozen; `load_config` reads the file, takes what the environment may change and refuses
the rest with file and line. What lowers protection off loopback needs `insecure: true` on that leg, and what is
then weaker is listed by `Config.weaknesses`. One reason to change: the keys of the configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationInfo

from proxy.document import Document, Location, Value, read_document, scalar, suggestion
from proxy.dsn import ServiceDsn, SslMode, parse_dsn
from proxy.errors import ConfigError
from proxy.hosts import Address, is_loopback, parse_address
from proxy.shape import Later, check_shape

_SIZES: Final = {
    "": 1,
    "B": 1,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY: Final = re.compile(r"([0-9]{1,12}) ?([A-Za-z]*)\Z")


class Tls(Enum):
    DISABLE = "disable"
    REQUIRE = "require"
    VERIFY_FULL = "verify-full"


class AuthMode(Enum):
    AUTO = "auto"
    RELAY = "relay"
    TERMINATE = "terminate"
    PINNED = "pinned"


class Replication(Enum):
    REFUSE = "refuse"
    ALLOW = "allow"


class Provider(Enum):
    LOCAL = "local"
    AWS = "aws"


class AuditSink(Enum):
    FILE = "file"


class AuditLevel(Enum):
    ACCESS = "access"


class OnFailure(Enum):
    BLOCK = "block"
    COUNT = "count"


class Durability(Enum):
    INTERVAL = "interval"


class CatalogView(Enum):
    PHYSICAL = "physical"


class Fips(Enum):
    OFF = "off"


# --- how a value is written ---------------------------------------------------------------------------


def parse_size(raw: object) -> int:
    """'256MiB', '64 kB' or a number of bytes -> bytes."""
    match = _QUANTITY.match(str(raw)) if isinstance(raw, str | int) and not isinstance(raw, bool) else None
    factor = _SIZES.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError("must be a size, such as 256MiB")
    return int(match[1]) * factor


def parse_duration(raw: object) -> float:
    """'1h', '30s', '500ms' -> seconds. A number without a unit is refused."""
    match = _QUANTITY.match(raw) if isinstance(raw, str) else None
    factor = _DURATIONS.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError("must be a duration with its unit, such as 30s or 1h")
    return int(match[1]) * factor


def _resolve_path(raw: object, info: ValidationInfo) -> Path | None:
    return None if raw is None or raw == "" else _resolve_needed_path(raw, info)


def _resolve_needed_path(raw: object, info: ValidationInfo) -> Path:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError("must be a path")
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, Path(raw).expanduser())


def _or_default(raw: object) -> object:
    """`service:` with nothing behind it counts as not written."""
    return {} if raw is None else raw


OptionalPath = Annotated[Path | None, BeforeValidator(_resolve_path, json_schema_input_type=str | None)]
NeededPath = Annotated[Path, BeforeValidator(_resolve_needed_path, json_schema_input_type=str)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str | int)]
Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict()]
HostPort = Annotated[Address, BeforeValidator(parse_address, json_schema_input_type=str)]
Word = Annotated[str, Field(min_length=1, max_length=2048)]

_LISTEN: Final = Address("127.0.0.1", 6432)
_HTTP_LISTEN: Final = Address("127.0.0.1", 9432)

# --- sections -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The leg to PostgreSQL. `host` may be the folder of a Unix socket."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    host: Word = "127.0.0.1"
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] = 5432
    tls: Tls = Tls.VERIFY_FULL
    ca: OptionalPath = None
    cert: OptionalPath = None
    key: OptionalPath = None
    insecure: Flag = False


@dataclass(frozen=True, slots=True)
class ClientTlsConfig:
    """The leg from the clients. `ca` set: client certificates are asked for and verified against it."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    cert: OptionalPath = None
    key: OptionalPath = None
    ca: OptionalPath = None
    require: Flag = False
    insecure: Flag = False


@dataclass(frozen=True, slots=True)
class AuthConfig:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    mode: AuthMode = AuthMode.AUTO
    verifiers: OptionalPath = None


@dataclass(frozen=True, slots=True)
class KmsConfig:
    """One KEK by its alias. local: `keyfile`, `allow_local`; aws: `key` (ARN or alias), `region`, `endpoint`."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    provider: Provider
    keyfile: OptionalPath = None
    allow_local: Flag = False
    key: Word | None = None
    region: Word | None = None
    endpoint: Word | None = None


@dataclass(frozen=True, slots=True)
class KeyCacheConfig:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    ttl_s: Annotated[Duration, Field(alias="ttl", gt=0, le=86400)] = 3600.0
    max_keys: Annotated[Count, Field(ge=16, le=10_000_000)] = 10_000
    stale_s: Annotated[Duration, Field(alias="stale_while_kms_down", ge=0, le=7 * 86400)] = 3600.0
    status_ttl_s: Annotated[Duration, Field(alias="status_ttl", gt=0, le=300)] = 30.0


@dataclass(frozen=True, slots=True)
class AuditConfig:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    sink: AuditSink = AuditSink.FILE
    path: OptionalPath = None  # set by `load_config`: `audit/` beside the configuration file
    level: AuditLevel = AuditLevel.ACCESS
    on_failure: OnFailure = OnFailure.BLOCK
    durability: Durability = Durability.INTERVAL

    @property
    def folder(self) -> Path:
        return self.path if self.path is not None else Path("audit")


@dataclass(frozen=True, slots=True)
class HttpConfig:
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    listen: HostPort = _HTTP_LISTEN


@dataclass(frozen=True, slots=True)
class Config:
    """pgseal.yaml. Sections that are not written have their defaults; without `http` nothing listens there."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    state: NeededPath
    rules: NeededPath
    service: Annotated[ServiceDsn, BeforeValidator(parse_dsn, json_schema_input_type=str)]
    kms: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], KmsConfig], Field(min_length=1)
    ]
    listen: HostPort = _LISTEN
    server: Annotated[ServerConfig, BeforeValidator(_or_default)] = ServerConfig()
    client_tls: Annotated[ClientTlsConfig, BeforeValidator(_or_default)] = ClientTlsConfig()
    auth: Annotated[AuthConfig, BeforeValidator(_or_default)] = AuthConfig()
    replication: Replication = Replication.REFUSE
    max_message_size: Annotated[Size, Field(alias="max_message", ge=1 << 16, le=1 << 30)] = 256 << 20
    key_cache: Annotated[KeyCacheConfig, BeforeValidator(_or_default)] = KeyCacheConfig()
    audit: Annotated[AuditConfig, BeforeValidator(_or_default)] = AuditConfig()
    http: HttpConfig | None = None
    catalog: CatalogView = CatalogView.PHYSICAL
    trust_server_settings: Flag = False
    fips: Fips = Fips.OFF
    workers: Annotated[Count, Field(ge=1, le=256)] = 1

    def weaknesses(self) -> list[str]:
        """What is weaker than it could be, for `check`, /readyz and the report."""
        return [text for is_weak, text in _weaknesses(self) if is_weak]


def _weaknesses(config: Config) -> list[tuple[bool, str]]:
    tls, server = config.client_tls, config.server
    is_trusting = config.auth.mode in (AuthMode.AUTO, AuthMode.RELAY)
    return [
        (
            is_trusting,
            f"the database administrator can read: auth.mode '{config.auth.mode.value}' trusts the server",
        ),
        (
            not is_loopback(config.listen.host) and not tls.require,
            "clients off loopback may connect without TLS (client_tls.insecure)",
        ),
        (
            not is_loopback(server.host) and server.tls is not Tls.VERIFY_FULL,
            "the server off loopback is not verified by its certificate (server.insecure)",
        ),
        (
            not is_loopback(config.service.host) and config.service.sslmode is not SslMode.VERIFY_FULL,
            "the service log-in does not verify the server's certificate (server.insecure)",
        ),
        (
            any(kms.provider is Provider.LOCAL for kms in config.kms.values()),
            "a key-encryption key lies in a local file: for demonstration and development only",
        ),
        (config.trust_server_settings, "the server is asked for the tenant (trust_server_settings)"),
        (config.replication is Replication.ALLOW, "replication connections are allowed; they carry ciphertext"),
        (
            config.audit.on_failure is OnFailure.COUNT,
            "protected statements go on while the audit cannot be written (audit.on_failure: count)",
        ),
        (
            config.http is not None and not is_loopback(config.http.listen.host),
            "/metrics and /readyz are served off loopback without TLS (http.listen)",
        ),
    ]


# --- loading ------------------------------------------------------------------------------------------

_ADAPTER: Final[TypeAdapter[Config]] = TypeAdapter(Config)

_LATER: Final[Later] = {
    ("kms", "*", "provider"): frozenset({"vault", "azure", "gcp", "pkcs11"}),
    ("auth", "verifiers", "query"): None,
    ("audit", "sink"): frozenset({"stdout", "syslog", "postgresql", "table"}),
    ("audit", "durability"): frozenset({"strict"}),
    ("http", "tokens"): None,
    ("catalog",): frozenset({"logical"}),
    ("fips",): frozenset({"required"}),
}

# The only keys that an environment variable changes by itself; all others are security or decide where it lies.
_FROM_ENVIRONMENT: Final = {
    ("listen",),
    ("server", "host"),
    ("server", "port"),
    ("max_message",),
    ("key_cache", "ttl"),
    ("key_cache", "max_keys"),
    ("http", "listen"),
    ("workers",),
}
_TOP_LEVEL: Final = frozenset(_ADAPTER.json_schema(by_alias=True)["properties"])
_PREFIX: Final = "PGSEAL_"


def load_config(path: Path, environ: Mapping[str, str], *, allow_env_security: bool = False) -> Config:
    """Read and check the configuration file; ConfigError with every problem, one line each."""
    document = read_document(path)
    document, problems = _with_environment(document, environ, allow_env_security)
    folder = path.absolute().parent
    _set_default(document, ("audit", "path"), "audit")
    config = check_shape(_ADAPTER, document, _LATER, problems, {"folder": folder})
    if config is not None:
        problems += [f"{document.at(where)}: {text}" for where, text in _conflicts(config)]
    if config is None or problems:
        raise ConfigError("\n".join(problems))
    return config


def _set_default(document: Document, location: Location, value: Value) -> None:
    section = document.root.setdefault(str(location[0]), None)
    if section is None:
        section = document.root[str(location[0])] = {}
    if isinstance(section, dict) and section.get(str(location[1])) is None:
        section[str(location[1])] = value


def _with_environment(
    document: Document, environ: Mapping[str, str], allow_security: bool
) -> tuple[Document, list[str]]:
    places, problems = dict(document.places), []
    changed = Document(document.file, document.root, places)
    for name in sorted(environ):
        location = _location_of(name)
        if location is None:
            continue
        if location[0] not in _TOP_LEVEL:
            problems.append(f"environment {name}: unknown section{suggestion(location[0], _TOP_LEVEL)}")
        elif location not in _FROM_ENVIRONMENT and not allow_security:
            key = ".".join(location)
            problems.append(
                f"environment {name}: {key} concerns security; write it in {document.file}"
                " or start with --allow-env-security"
            )
        elif not _put(document.root, location, scalar(environ[name])):
            problems.append(f"environment {name}: {'.'.join(location[:-1])} is not a mapping in {document.file}")
        else:
            places[location] = f"environment {name}"
    return changed, problems


def _location_of(name: str) -> tuple[str, ...] | None:
    """PGSEAL_SERVER__PORT -> ('server', 'port'). Without `__` only the name of a top-level key counts: other
    PGSEAL_ variables belong to tools."""
    if not name.startswith(_PREFIX):
        return None
    steps = tuple(name.removeprefix(_PREFIX).lower().split("__"))
    return steps if len(steps) > 1 or steps[0] in _TOP_LEVEL else None


def _put(root: dict[str, Value], location: tuple[str, ...], value: Value) -> bool:
    section = root
    for step in location[:-1]:
        inner = section.get(step)
        if inner is None:
            inner = section[step] = {}
        if not isinstance(inner, dict):
            return False
        section = inner
    section[location[-1]] = value
    return True


def _conflicts(config: Config) -> list[tuple[Location, str]]:
    """What each setting allows and together they do not."""
    found = [*_client_conflicts(config), *_server_conflicts(config)]
    for alias, kms in config.kms.items():
        found += [(("kms", alias, *where), text) for where, text in _kms_conflicts(config, kms)]
    if config.http is not None and _is_same(config.listen, config.http.listen):
        found.append((("http", "listen"), "is the address of listen too; write another port"))
    if config.auth.mode in (AuthMode.PINNED, AuthMode.TERMINATE) and config.auth.verifiers is None:
        found.append(
            (("auth",), f"mode '{config.auth.mode.value}' needs the key 'verifiers', a file of verifiers")
        )
    return found


def _is_same(one: Address, other: Address) -> bool:
    a, b = ("127.0.0.1" if each.host.lower() == "localhost" else each.host.lower() for each in (one, other))
    is_any = (":" in a) is (":" in b) and not {"0.0.0.0", "::"}.isdisjoint((a, b))  # noqa: S104
    return 0 != one.port == other.port and (is_any or a == b)


def _client_conflicts(config: Config) -> list[tuple[Location, str]]:
    tls = config.client_tls
    found: list[tuple[Location, str]] = []
    if tls.cert is None and (tls.require or tls.key is not None or tls.ca is not None):
        found.append((("client_tls",), "client_tls needs the key 'cert'"))
    if not is_loopback(config.listen.host) and not tls.require and not tls.insecure:
        found.append(
            (
                ("listen",),
                "off loopback clients need TLS: write client_tls with cert, key and require: true,"
                " or insecure: true there to accept plaintext connections",
            )
        )
    return found


def _server_conflicts(config: Config) -> list[tuple[Location, str]]:
    server, found = config.server, []
    where: Location = ("server",)
    if server.key is not None and server.cert is None:
        found.append((where, "server.key needs server.cert"))
    if server.insecure:
        return found
    remedy = "or insecure: true in section server to accept an unverified server"
    if not is_loopback(server.host) and server.tls is not Tls.VERIFY_FULL:
        found.append((("server", "tls"), f"off loopback the server needs tls: verify-full, {remedy}"))
    if not is_loopback(config.service.host) and config.service.sslmode is not SslMode.VERIFY_FULL:
        found.append((("service",), f"off loopback the service log-in needs ?sslmode=verify-full, {remedy}"))
    return found


def _kms_conflicts(config: Config, kms: KmsConfig) -> list[tuple[Location, str]]:
    found: list[tuple[Location, str]] = []
    foreign = {Provider.LOCAL: ("key", "region", "endpoint"), Provider.AWS: ("keyfile",)}[kms.provider]
    found += [
        ((name,), f"'{name}' does not belong to provider '{kms.provider.value}'")
        for name in foreign
        if getattr(kms, name) is not None
    ]
    needed = "keyfile" if kms.provider is Provider.LOCAL else "key"
    if getattr(kms, needed) is None:
        found.append(((), f"provider '{kms.provider.value}' needs the key '{needed}'"))
    is_local = is_loopback(config.server.host) and is_loopback(config.service.host)
    if kms.provider is Provider.LOCAL and not is_local and not kms.allow_local:
        found.append(
            ((), "provider 'local' is for development; with a server off loopback it needs allow_local: true")
        )
    return found
