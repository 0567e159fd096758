"""The commands as a person or a script meets them: exit codes, messages with file and line, JSON, repetition."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.cli.output import place_of
from tests.conftest import Database

COMMANDS = ("demo", "run", "init", "check", "explain", "audit verify", "rules schema")
RULES = """\
version: 1
tenant: {from: fixed, name: main}
tables:
  public.patients:
    columns:
      ssn: {type: varchar(11)}
roles:
  app: {read: plain}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: str
    err: str


Pgseal = Callable[..., Answer]


@pytest.fixture
def pgseal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pgseal:
    """Runs the console script's entry point in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["pgseal", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@dataclass(frozen=True, slots=True)
class Installed:
    folder: Path
    database: Database

    @property
    def config(self) -> Path:
        return self.folder / "pgseal.yaml"

    @property
    def rules(self) -> Path:
        return self.folder / "rules" / "app.yaml"

    def init(self, pgseal: Pgseal, *more: object) -> Answer:
        return pgseal("init", "--admin-dsn", self.database.dsn(), "--config", self.config, *more)


@pytest.fixture
def installed(tmp_path: Path, database: Database, pgseal: Pgseal) -> Iterator[Installed]:
    """An installation made by `pgseal init`, with a service log-in of its own, and rules for one table."""
    login = f"pgseal_{database.name}"
    (tmp_path / "pgseal.yaml").write_text(
        f"state: .pgseal/state\nserver: {{port: {database.port}, tls: disable}}\nrules: rules/\n"
        f"service: postgresql://{login}@127.0.0.1:{database.port}/{database.name}?passfile=.pgseal/pgpass\n"
        "kms: {main: {provider: local, keyfile: .pgseal/kek}}\n"
    )
    found = Installed(tmp_path, database)
    answer = found.init(pgseal)
    assert answer.code == 0, answer.err
    found.rules.write_text(RULES)
    yield found
    database.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")


# --- without a database ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_each_command_has_an_example(pgseal: Pgseal, command: str) -> None:
    """--help ends with a line to copy, and exits 0."""
    answer = pgseal(*command.split(), "--help")
    assert answer.code == 0
    assert f"Example: pgseal {command}" in " ".join(answer.out.split())


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["check", "--config"]])
def test_usage_mistake_exits_2(pgseal: Pgseal, arguments: list[str]) -> None:
    """Unknown commands and options are usage errors."""
    assert pgseal(*arguments).code == 2


@pytest.mark.parametrize("command", ["run", "check", "audit verify"])
def test_missing_configuration_exits_2_with_one_line(pgseal: Pgseal, tmp_path: Path, command: str) -> None:
    """The file is named, a hint follows, no traceback."""
    answer = pgseal(*command.split(), "--config", tmp_path / "none.yaml")
    assert answer.code == 2
    assert "none.yaml: there is no such file" in answer.err
    assert "Traceback" not in answer.err


def test_unknown_key_of_the_configuration_has_file_line_and_suggestion(pgseal: Pgseal, tmp_path: Path) -> None:
    """A mistake in pgseal.yaml is told by place."""
    (tmp_path / "pgseal.yaml").write_text("listen: 127.0.0.1:6432\nservise: x\n")
    answer = pgseal("check", "--config", tmp_path / "pgseal.yaml")
    assert answer.code == 2
    assert re.search(r"pgseal\.yaml:2: unknown key 'servise'; did you mean 'service'\?", answer.err)


def test_rules_schema_is_printed_written_and_verified(pgseal: Pgseal, tmp_path: Path) -> None:
    """stdout gets JSON; --verify tells a stale file by exit code 1."""
    assert json.loads(pgseal("rules", "schema").out)["title"]
    path = tmp_path / "schema.json"
    assert pgseal("rules", "schema", "--write", path).code == 0
    assert pgseal("rules", "schema", "--verify", path).code == 0
    path.write_text("{}")
    assert pgseal("rules", "schema", "--verify", path).code == 1


def test_rules_schema_of_the_project_is_current(pgseal: Pgseal) -> None:
    """rules/schema.json is what the command writes."""
    assert (
        pgseal("rules", "schema", "--verify", Path(__file__).resolve().parents[2] / "rules" / "schema.json").code
        == 0
    )


def test_place_of_an_unexpected_error_is_file_and_line_without_its_text() -> None:
    """What the last resort prints of an exception never quotes it."""
    try:
        raise ValueError("canary-5f3a")
    except ValueError as error:
        assert re.fullmatch(r"test_cli_commands\.py:\d+", place_of(error))


def test_init_bad_dsn_exits_2_and_does_not_quote_it(pgseal: Pgseal, tmp_path: Path) -> None:
    """A DSN may hold a password."""
    answer = pgseal("init", "--admin-dsn", "postgresql://u:canary-9e@/", "--config", tmp_path / "pgseal.yaml")
    assert answer.code == 2
    assert "canary" not in answer.err + answer.out


# --- with one ------------------------------------------------------------------------------------------------


def test_init_repeated_changes_nothing(pgseal: Pgseal, installed: Installed) -> None:
    """Every file and the key store stay as they are."""
    files = {path: path.read_bytes() for path in installed.folder.rglob("*") if path.is_file()}
    answer = installed.init(pgseal, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["sql"] == ""
    assert {path: path.read_bytes() for path in installed.folder.rglob("*") if path.is_file()} == files


def test_init_files_of_secrets_are_private(installed: Installed) -> None:
    """Key, password and state are readable by their owner only."""
    for name in ("kek", "pgpass", "state/instance.json"):
        assert (installed.folder / ".pgseal" / name).stat().st_mode & 0o077 == 0


def test_init_proposal_lies_beside_edited_rules(pgseal: Pgseal, installed: Installed) -> None:
    """Rules that are there are never written over."""
    installed.database.execute("CREATE TABLE people (id int, email text)")
    path = installed.folder / "rules" / f"{installed.database.name}.yaml"
    path.write_text("# mine\n")
    assert installed.init(pgseal).code == 0
    assert path.read_text() == "# mine\n"
    assert "public.people" in path.with_suffix(".yaml.proposed").read_text()


def test_init_without_rights_prints_sql_and_exits_1(pgseal: Pgseal, tmp_path: Path, database: Database) -> None:
    """Someone with the rights can run what is on stdout."""
    database.execute(f"CREATE ROLE weak_{database.name} LOGIN")
    try:
        config = tmp_path / "pgseal.yaml"
        config.write_text(
            f"state: s\nserver: {{tls: disable}}\nrules: rules/\nservice: postgresql://svc_{database.name}@127.0.0.1/app\n"
            "kms: {main: {provider: local, keyfile: .pgseal/kek}}\n"
        )
        answer = pgseal("init", "--admin-dsn", database.dsn(f"weak_{database.name}"), "--config", config)
        assert answer.code == 1, answer.err
        assert answer.out.startswith("BEGIN;\nCREATE ROLE")
    finally:
        database.execute(f"DROP ROLE weak_{database.name}")


def test_check_finds_plaintext_and_prints_the_sql_that_mends_it(pgseal: Pgseal, installed: Installed) -> None:
    """Exit 1 with the DDL; after running it exit 0."""
    installed.database.execute("CREATE TABLE patients (id int, ssn varchar(11))")
    found = pgseal("check", "--config", installed.config, "--json")
    assert found.code == 1, found.err
    (table,) = json.loads(found.out)["databases"][0]["tables"]
    assert table["verdict"] == "refused"
    for finding in table["findings"]:
        for statement in finding["ddl"]:
            installed.database.execute(statement)
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 0, answer.out
    assert "public.patients  serves" in answer.out


def test_check_shows_what_is_weak_in_the_configuration(pgseal: Pgseal, installed: Installed) -> None:
    """auth: auto trusts the server, and the key lies in a file: said, and no finding."""
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 0, answer.err
    assert "database administrator can read" in answer.out


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda key: key.chmod(0o644), "can be read by others (run: chmod 600"),
        (lambda key: key.write_bytes(bytes(31)), "does not hold 32 bytes"),
        (lambda key: key.unlink(), "No such file or directory"),
    ],
)
@pytest.mark.parametrize("is_approved", [False, True])
def test_check_kek_that_cannot_be_used_is_a_problem(
    pgseal: Pgseal, installed: Installed, spoil: Callable[[Path], object], reason: str, is_approved: bool
) -> None:
    """Exit 1 with the reason, also where an approval cannot be read without it; nothing is approved then."""
    if is_approved:
        assert pgseal("check", "--config", installed.config, "--approve").code == 0
    spoil(installed.folder / ".pgseal" / "kek")
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 1, answer.err
    assert "does not start  kms 'main': key file" in answer.out and reason in answer.out
    document = json.loads(pgseal("check", "--config", installed.config, "--json").out)
    assert document["clean"] is False and reason in document["problems"][0]
    assert pgseal("check", "--config", installed.config, "--approve").code == 1


@pytest.mark.parametrize("is_approved", [False, True])
def test_check_another_kek_than_at_init_is_a_problem(
    pgseal: Pgseal, installed: Installed, is_approved: bool
) -> None:
    """32 bytes that unwrap nothing: `run` would not start, with or without rules.lock."""
    if is_approved:
        assert pgseal("check", "--config", installed.config, "--approve").code == 0
    (installed.folder / ".pgseal" / "kek").write_bytes(bytes(32))
    answer = pgseal("check", "--config", installed.config)
    assert (answer.code, answer.out.count("does not start  ")) == (1, 1), answer.err
    assert pgseal("check", "--config", installed.config, "--approve").code == 1


def test_check_folder_without_rules_is_told(pgseal: Pgseal, installed: Installed) -> None:
    """It is what a misspelt `rules:` looks like: nothing is protected."""
    installed.rules.unlink()
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 0, answer.err
    assert "holds no rules: no column is protected" in answer.out


def test_check_password_file_that_others_read_is_refused(pgseal: Pgseal, installed: Installed) -> None:
    """In pgseal's own words, with what to do; the driver would ignore the file and warn in its own."""
    passfile = installed.folder / ".pgseal" / "pgpass"
    passfile.chmod(0o644)
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert f"others may read its password file {passfile}" in answer.err
    assert f"Run: chmod 600 {passfile}" in answer.err and "Warning" not in answer.err


def test_check_one_address_for_clients_and_http_is_told_by_line(pgseal: Pgseal, installed: Installed) -> None:
    """They cannot share a port."""
    text = "listen: 127.0.0.1:7001\n" + installed.config.read_text() + "http:\n  listen: 127.0.0.1:7001\n"
    installed.config.write_text(text)
    line = text.count("\n")
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert f"pgseal.yaml:{line}: is the address of listen too" in answer.err


def test_check_search_that_can_never_be_used_is_noted(pgseal: Pgseal, installed: Installed) -> None:
    """A session's tenant proves nothing of the rows: the note agrees with what a comparison gets."""
    rules = RULES.replace("{from: fixed, name: main}", "{from: setting, name: app.tenant_id}")
    searched = rules.replace("varchar(11)}", "varchar(11), search: equality}")
    installed.rules.write_text(searched)
    installed.database.execute("CREATE TABLE patients (id int, ssn varchar(11))")
    found = json.loads(pgseal("check", "--config", installed.config, "--json").out)
    findings = found["databases"][0]["tables"][0]["findings"]
    assert [one["column"] for one in findings if one["code"] == "never_comparable"] == ["ssn"]
    for statement in (statement for one in findings for statement in one["ddl"]):
        installed.database.execute(statement)
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 0 and "isolation: tenant-only" in answer.out and "scope: table" in answer.out
    query = "SELECT id FROM patients WHERE ssn = $1"
    explained = pgseal("explain", query, "--config", installed.config, "--login", "app", "--json")
    assert json.loads(explained.out)["reason"]["sqlstate"] == "PS002"
    installed.rules.write_text(searched.replace("equality}", "equality, scope: table}"))
    assert "never_comparable" not in pgseal("check", "--config", installed.config, "--json").out


def test_check_rules_mistakes_are_told_all_at_once_by_line(pgseal: Pgseal, installed: Installed) -> None:
    """Two mistakes, two lines with file and line, exit 2."""
    wrong = RULES.replace("varchar(11)", "varchar(11), serch: equality").replace("{read: plain}", "{read: plane}")
    installed.rules.write_text(wrong)
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert re.search(r"app\.yaml:6: unknown key 'serch'; did you mean 'search'\?", answer.err)
    assert re.search(r"app\.yaml:8: .*read", answer.err)


def test_check_unknown_type_is_told_by_line(pgseal: Pgseal, installed: Installed) -> None:
    """A type that cannot be protected."""
    installed.rules.write_text(RULES.replace("varchar(11)", "varchr(11)"))
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert re.search(r"app\.yaml:6: public\.patients\.ssn: .*varchr", answer.err)


def test_explain_tells_each_verdict_by_exit_code(pgseal: Pgseal, installed: Installed) -> None:
    """Pass and planned exit 0, refused 1; JSON names columns and parameters, never constants."""
    rule = "ssn: {type: varchar(11), search: equality, context: public.patients.ssn}"
    installed.rules.write_text(RULES.replace("ssn: {type: varchar(11)}", rule))
    guard = json.loads(pgseal("check", "--config", installed.config, "--json").out)
    assert guard["clean"] is True
    installed.database.execute("CREATE TABLE patients (id int, ssn varchar(11))")
    for finding in json.loads(pgseal("check", "--config", installed.config, "--json").out)["databases"][0][
        "tables"
    ][0]["findings"]:
        for statement in finding["ddl"]:
            installed.database.execute(statement)
    common = ("--config", installed.config, "--login", "app", "--json")
    assert json.loads(pgseal("explain", "SELECT 1", *common).out)["verdict"] == "pass"
    planned = pgseal("explain", "SELECT ssn FROM patients WHERE ssn = $1", *common)
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["slots"][0]["treatment"] == "the index token"
    refused = pgseal("explain", "SELECT id FROM patients WHERE ssn LIKE 'canary-31%'", *common)
    assert refused.code == 1
    assert json.loads(refused.out)["reason"]["sqlstate"] == "PS001"
    assert "canary" not in refused.out
    assert "planned" in pgseal("explain", "SELECT ssn FROM patients", *common[:-1]).out


def test_check_server_away_exits_2(pgseal: Pgseal, installed: Installed) -> None:
    """No connection is not a finding."""
    text = installed.config.read_text().replace(f"127.0.0.1:{installed.database.port}", "127.0.0.1:1")
    installed.config.write_text(text)
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert "failed" in answer.err


def test_check_approve_locks_and_a_weaker_rule_is_then_found(pgseal: Pgseal, installed: Installed) -> None:
    """rules.lock remembers: a column that is not protected any more is shown, and `run` would not start."""
    rules = RULES.replace("ssn: {type: varchar(11)}", "ssn: {type: varchar(11)}\n      dob: {type: date}")
    installed.rules.write_text(rules)
    assert pgseal("check", "--config", installed.config, "--approve").code == 0
    assert (installed.folder / "rules" / "rules.lock").is_file()
    assert pgseal("check", "--config", installed.config).code == 0
    installed.rules.write_text(RULES)
    weaker = pgseal("check", "--config", installed.config)
    assert weaker.code == 1
    assert "public.patients.dob: is not protected any more" in weaker.out
    refused = pgseal("run", "--config", installed.config)
    assert refused.code == 2
    assert "protect less" in refused.err


def test_check_forged_lock_is_refused(pgseal: Pgseal, installed: Installed) -> None:
    """A lock that pgseal did not write is no approval."""
    assert pgseal("check", "--config", installed.config, "--approve").code == 0
    lock = installed.folder / "rules" / "rules.lock"
    lock.write_bytes(lock.read_bytes().replace(b'"version":1', b'"version": 1'))
    answer = pgseal("check", "--config", installed.config)
    assert answer.code == 2
    assert "is not what pgseal approved" in answer.err


def test_audit_verify_empty_trail_is_whole(pgseal: Pgseal, installed: Installed) -> None:
    """Nothing written yet is no finding, and JSON says so."""
    answer = pgseal("audit", "verify", "--config", installed.config, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["whole"] is True
