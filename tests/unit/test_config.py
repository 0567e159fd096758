"""pgseal.yaml: keys, values, what goes together, what the environment may change, and what is never shown."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import AuthMode, Config, Provider, Tls, load_config, parse_duration, parse_size
from proxy.dsn import SslMode, parse_dsn
from proxy.errors import ConfigError
from proxy.hosts import Address, is_loopback, parse_address

PASSWORD = "canary-81c2"
FULL = f"""\
listen: 127.0.0.1:6432
state: .pgseal/state
server: {{host: 127.0.0.1, port: 5432, tls: verify-full, ca: , cert: , key: , insecure: false}}
client_tls: {{cert: , key: , ca: , require: false, insecure: false}}
auth: {{mode: auto, verifiers: }}
replication: refuse
max_message: 256MiB
rules: rules/
service: postgresql://pgseal:{PASSWORD}@127.0.0.1/app
kms: {{main: {{provider: local, keyfile: .pgseal/kek, allow_local: false}}}}
key_cache: {{ttl: 1h, max_keys: 10000, stale_while_kms_down: 1h, status_ttl: 30s}}
audit: {{sink: file, path: audit/, level: access, on_failure: block, durability: interval}}
http: {{listen: "127.0.0.1:9432"}}
catalog: physical
trust_server_settings: false
fips: off
workers: 1
"""
LEAST = """\
state: state
rules: rules.yaml
service: postgresql://pgseal@127.0.0.1/app
kms: {main: {provider: local, keyfile: kek}}
"""


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None, *, security: bool = False) -> Config:
    path = tmp_path / "pgseal.yaml"
    path.write_text(text)
    return load_config(path, environ or {}, allow_env_security=security)


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ)
    assert PASSWORD not in str(caught.value)
    return caught.value.message.replace(f"{tmp_path}/", "")


def test_config_with_every_key_resolves_paths_and_units(tmp_path: Path) -> None:
    """The whole file of the documentation loads; relative paths lie beside it."""
    config = load(tmp_path, FULL)
    assert config.listen == Address("127.0.0.1", 6432)
    assert config.state == tmp_path / ".pgseal/state"
    assert config.rules == tmp_path / "rules"
    assert config.audit.folder == tmp_path / "audit"
    assert config.kms["main"].provider is Provider.LOCAL
    assert config.kms["main"].keyfile == tmp_path / ".pgseal/kek"
    assert config.max_message_size == 256 * 1024 * 1024
    assert (config.key_cache.ttl_s, config.key_cache.status_ttl_s) == (3600, 30)
    assert config.server.ca is None
    assert config.http is not None and config.http.listen.port == 9432


def test_config_with_least_keys_has_safe_defaults(tmp_path: Path) -> None:
    """What is not written is the stricter choice; no HTTP server without its section."""
    config = load(tmp_path, LEAST)
    assert config.server.tls is Tls.VERIFY_FULL
    assert config.auth.mode is AuthMode.AUTO
    assert config.http is None
    assert config.audit.folder == tmp_path / "audit"


def test_config_repr_and_str_hide_the_service_password(tmp_path: Path) -> None:
    """The password is in the URI handed to the driver and nowhere that is printed."""
    config = load(tmp_path, FULL)
    assert PASSWORD in config.service.uri
    assert PASSWORD not in repr(config)
    assert PASSWORD not in str(config.service)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lisen: 127.0.0.1:1", "pgseal.yaml:5: unknown key 'lisen'; did you mean 'listen'?"),
        ("server: {prt: 1}", "pgseal.yaml:5: unknown key 'prt'; did you mean 'port'?"),
        ("server:\n  tls: verifyfull", "pgseal.yaml:6: server.tls: input should be 'disable', 'require'"),
        ("server: {port: 65536}", "server.port"),
        ("server: {port: true}", "server.port"),
        ("server: {port: '5432'}", "server.port"),
        ("workers: 0", "workers"),
        ("workers: 2.5", "workers"),
        ("max_message: 1GiBB", "such as 256MiB"),
        ("max_message: 1", "max_message"),
        ("key_cache: {ttl: 5}", "with its unit"),
        ("key_cache: {status_ttl: 1h}", "key_cache.status_ttl"),
        ("listen: 6432", "such as 127.0.0.1:6432"),
        ("listen: '127.0.0.1:99999'", "such as 127.0.0.1:6432"),
        ("http: {tokens: t}", "pgseal.yaml:5: 'tokens' is not in this version"),
        ("fips: required", "pgseal.yaml:5: 'fips: required' is not in this version"),
        ("catalog: logical", "'catalog: logical' is not in this version"),
        ("audit: {sink: syslog}", "'sink: syslog' is not in this version"),
        ("audit: {durability: strict}", "'durability: strict' is not in this version"),
        ("auth: {mode: pinned}", "needs the key 'verifiers'"),
        ("auth: {mode: terminate}", "needs the key 'verifiers'"),
        ("auth: {verifiers: {query: select 1}}", "'query' is not in this version"),
        ("client_tls: {require: true}", "client_tls needs the key 'cert'"),
        ("server: {key: k}", "server.key needs server.cert"),
        ("server: 5", "server"),
        ("trust_server_settings: yes", "trust_server_settings"),
    ],
)
def test_config_with_a_wrong_key_says_where_and_what(tmp_path: Path, line: str, reason: str) -> None:
    """Unknown, mistyped, later and contradictory keys are refused with file, line and a way out."""
    assert reason in refusal(tmp_path, LEAST + line)


def test_config_with_several_faults_names_all_of_them(tmp_path: Path) -> None:
    """An operator sees every problem in one run."""
    text = refusal(tmp_path, LEAST + "lisen: x\nworkers: 0\nfips: required\n")
    assert [part in text for part in ("lisen", "workers", "fips")] == [True] * 3
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("missing", ["state", "rules", "service", "kms"])
def test_config_without_a_needed_key_names_it(tmp_path: Path, missing: str) -> None:
    """There is no default for what only the operator knows."""
    text = "".join(line + "\n" for line in LEAST.splitlines() if not line.startswith(missing))
    assert f"the key '{missing}' is missing" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("kms", "reason"),
    [
        ("{}", "kms"),
        ("{main: {provider: vault}}", "'provider: vault' is not in this version"),
        ("{main: {provider: local}}", "needs the key 'keyfile'"),
        ("{main: {provider: aws}}", "needs the key 'key'"),
        ("{main: {provider: aws, key: a, keyfile: b}}", "'keyfile' does not belong to provider 'aws'"),
        ("{main: {provider: local, keyfil: a}}", "did you mean 'keyfile'?"),
        ("{Main Key: {provider: local, keyfile: a}}", "kms"),
    ],
)
def test_config_with_a_wrong_kms_is_refused(tmp_path: Path, kms: str, reason: str) -> None:
    """Each provider takes its own keys only."""
    assert reason in refusal(tmp_path, LEAST.replace("{main: {provider: local, keyfile: kek}}", kms))


AWS = LEAST.replace("{provider: local, keyfile: kek}", "{provider: aws, key: alias/a, region: eu-west-1}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (AWS + "listen: 0.0.0.0:6432", "off loopback clients need TLS"),
        (AWS + "server: {host: db.example, tls: require}", "off loopback the server needs tls: verify-full"),
        (
            AWS.replace("@127.0.0.1/", "@db.example/"),
            "off loopback the service log-in needs ?sslmode=verify-full",
        ),
        (AWS.replace("@127.0.0.1/app", "@/app?host=10.0.0.1"), "off loopback the service log-in needs"),
        (LEAST + "server: {host: db.example}", "it needs allow_local: true"),
    ],
)
def test_config_off_loopback_without_protection_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """Each leg off loopback is protected, or says insecure: true itself."""
    assert reason in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("listen", "http", "is_refused"),
    [
        ("127.0.0.1:6432", "127.0.0.1:6432", True),
        ("localhost:6432", "127.0.0.1:6432", True),
        ("127.0.0.1:6432", "0.0.0.0:6432", True),
        ("'[::1]:6432'", "'[::]:6432'", True),
        ("127.0.0.1:6432", "'[::1]:6432'", False),
        ("127.0.0.1:6432", "127.0.0.1:6433", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_config_one_address_for_clients_and_http_is_refused(
    tmp_path: Path, listen: str, http: str, is_refused: bool
) -> None:
    """Where both would take one port; with port 0 the system gives two."""
    path = tmp_path / "pgseal.yaml"
    path.write_text(AWS + f"listen: {listen}\nhttp: {{listen: {http}}}\n")
    if is_refused:
        with pytest.raises(ConfigError, match="the address of listen too"):
            load_config(path, {})
    else:
        assert load_config(path, {}).http is not None


def test_config_insecure_legs_load_and_are_listed_as_weaknesses(tmp_path: Path) -> None:
    """What was accepted in writing shows in check and /readyz."""
    text = AWS.replace("@127.0.0.1/", "@db.example/") + (
        "listen: 0.0.0.0:6432\nclient_tls: {insecure: true}\ntrust_server_settings: true\n"
        "server: {host: db.example, tls: disable, insecure: true}\naudit: {on_failure: count}\n"
        "replication: allow\nhttp: {listen: '0.0.0.0:9432'}\n"
    )
    weaknesses = "\n".join(load(tmp_path, text).weaknesses())
    for part in (
        "database administrator can read",
        "clients off loopback",
        "server off loopback",
        "service log-in",
        "trust_server_settings",
        "audit.on_failure",
        "replication",
        "http.listen",
    ):
        assert part in weaknesses


def test_config_with_pinned_verifiers_and_a_real_kms_has_no_weakness(tmp_path: Path) -> None:
    """The recommended set-up lists nothing."""
    assert load(tmp_path, AWS + "auth: {mode: pinned, verifiers: v.txt}").weaknesses() == []


def test_environment_changes_what_is_not_security(tmp_path: Path) -> None:
    """Addresses, sizes and counts may come from the environment; variables of tools are left alone."""
    environ = {
        "PGSEAL_SERVER__PORT": "5433",
        "PGSEAL_WORKERS": "2",
        "PGSEAL_HTTP__LISTEN": "127.0.0.1:0",
        "PGSEAL_CACHE": "/x",
        "PATH": "/bin",
    }
    config = load(tmp_path, LEAST, environ)
    assert (config.server.port, config.workers) == (5433, 2)
    assert config.http is not None and config.http.listen.port == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSEAL_RULES", "other.yaml"),
        ("PGSEAL_AUTH__MODE", "relay"),
        ("PGSEAL_SERVER__TLS", "disable"),
        ("PGSEAL_SERVER__INSECURE", "true"),
        ("PGSEAL_CLIENT_TLS__INSECURE", "true"),
        ("PGSEAL_AUDIT__ON_FAILURE", "count"),
        ("PGSEAL_SERVICE", f"postgresql://x:{PASSWORD}@127.0.0.1/y"),
        ("PGSEAL_STATE", "/tmp/x"),
        ("PGSEAL_KMS__MAIN__ALLOW_LOCAL", "true"),
        ("PGSEAL_KMS__MAIN__ENDPOINT", "h"),
        ("PGSEAL_TRUST_SERVER_SETTINGS", "true"),
        ("PGSEAL_KEY_CACHE__STATUS_TTL", "300s"),
        ("PGSEAL_REPLICATION", "allow"),
        ("PGSEAL_FIPS", "off"),
    ],
)
def test_environment_never_changes_security(tmp_path: Path, name: str, value: str) -> None:
    """Without the flag a security key in the environment refuses the start."""
    assert f"environment {name}:" in refusal(tmp_path, LEAST, {name: value})


def test_environment_with_the_flag_changes_security_too(tmp_path: Path) -> None:
    """--allow-env-security is the operator's written word."""
    config = load(tmp_path, LEAST, {"PGSEAL_AUTH__MODE": "relay"}, security=True)
    assert config.auth.mode is AuthMode.RELAY


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PGSEAL_SRVER__PORT", "1", "unknown section; did you mean 'server'?"),
        ("PGSEAL_SERVER__PORT", "x", "environment PGSEAL_SERVER__PORT: server.port"),
        ("PGSEAL_LISTEN", "0.0.0.0:1", "environment PGSEAL_LISTEN: off loopback clients need TLS"),
    ],
)
def test_environment_with_a_fault_is_named_as_the_place(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    """A value of the environment is checked like one of the file, and named as what it is."""
    assert reason in refusal(tmp_path, LEAST, {name: value})


@pytest.mark.parametrize(
    ("raw", "size"), [("256MiB", 1 << 28), ("64 kB", 64_000), (65536, 65536), ("1GiB", 1 << 30), ("0", 0)]
)
def test_size_with_a_unit_is_bytes(raw: object, size: int) -> None:
    """Binary and decimal units, or plain bytes."""
    assert parse_size(raw) == size


@given(st.text(max_size=12) | st.integers() | st.booleans() | st.none())
def test_size_and_duration_of_anything_are_a_number_or_a_value_error(raw: object) -> None:
    """No text crashes the two readers."""
    for read in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            assert read(raw) >= 0


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "app",
        "mysql://u@h/d",
        "postgresql://h/d",
        "postgresql://u@h",
        "postgresql://u@a,b/d",
        "postgresql://u@h:x/d",
        f"postgresql://u@h/d?password={PASSWORD}",
        "postgresql://u@h/d?sslmode=maybe",
        "postgresql://u@[::1/d",
        None,
        5,
        "postgresql://u@h:99999/d",
        "postgresql://u@h/d\0",
    ],
)
def test_dsn_that_is_not_one_is_refused_without_quoting_it(raw: object) -> None:
    """Whatever is wrong with it, a connection string is never shown."""
    with pytest.raises(ValueError) as caught:
        parse_dsn(raw)
    assert PASSWORD not in str(caught.value)


def test_dsn_parts_are_unquoted() -> None:
    """Percent escapes and options are read as libpq reads them."""
    dsn = parse_dsn("postgresql://se%40al:p@[::1]:6000/my%2Fdb?sslmode=verify-full&sslrootcert=ca.pem")
    assert (dsn.user, dsn.host, dsn.port, dsn.database) == ("se@al", "::1", 6000, "my/db")
    assert dsn.sslmode is SslMode.VERIFY_FULL
    assert parse_dsn("postgresql:///app?user=u&host=/run/postgresql").host == "/run/postgresql"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("/run/pg", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.x", False),
        ("", False),
    ],
)
def test_loopback_is_by_address_not_by_looks(host: str, loopback: bool) -> None:
    """A name that only starts like loopback is not."""
    assert is_loopback(host) is loopback


def test_address_with_ipv6_prints_as_it_is_written() -> None:
    """Brackets go and come back."""
    assert str(parse_address("[::1]:6432")) == "[::1]:6432"
    assert parse_address("db:0") == Address("db", 0)
