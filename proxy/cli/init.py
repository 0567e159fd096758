"""`pgseal init`: prepare an installation, in files and in the database. Safe to repeat: what is there stays.

One reason to change: the steps of an installation.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import typer

from proxy.cli.installation import CONFIG, Installation, main_alias, open_kms
from proxy.cli.output import Exit, fail, print_json, run_async, say, stdout
from proxy.config import Config, Provider, load_config
from proxy.dsn import ServiceDsn, parse_dsn
from proxy.hosts import is_loopback
from proxy.keys.files import write_atomically
from proxy.keys.kms.local import create_keyfile
from proxy.keys.state_folder import StateFolder
from proxy.keys.store import STORE_DDL, KeyStore
from proxy.net.scram import Verifier
from proxy.rules_file import write_schema
from proxy.service import instance
from proxy.service.connection import ServiceConnection, ServiceTarget, connected, passfile_of
from proxy.service.install import Preparation, as_script, prepare
from proxy.service.proposals import columns, propose

EXAMPLE: Final = (
    "Example: [bold]pgseal init --admin-dsn postgresql://postgres@127.0.0.1/app --app-login app[/bold]"
)
LOGIN: Final = "pgseal"
PASSFILE: Final = "pgpass"

TEMPLATE: Final = """\
# pgseal: every key is in docs/operations.md. Relative paths are sought beside this file.
listen: 127.0.0.1:6432
state: .pgseal/state                # highest epochs seen, secrets of this installation: keep it, back it up
server: {{host: {host}, port: {port}, tls: {tls}}}
auth: {{mode: auto}}                  # pinned: the database administrator cannot read either
rules: rules/
service: {service}
kms:
  main: {{provider: local, keyfile: .pgseal/kek}}   # for development; aws in earnest
audit: {{path: audit/}}
http: {{listen: 127.0.0.1:9432}}
"""


@dataclass(slots=True)
class Done:
    """What happened, for people and as JSON. `sql` is left for someone with the rights to run it."""

    steps: list[str] = field(default_factory=list)
    sql: str = ""
    dry_run: bool = False

    def add(self, step: str) -> None:
        self.steps.append(step)


def init(
    admin_dsn: str = typer.Option(
        ...,
        "--admin-dsn",
        envvar="PGSEAL_ADMIN_DSN",
        show_envvar=True,
        metavar="URI",
        help="A log-in that may create roles and schemas; names the database.",
    ),
    config: Path = CONFIG,
    app_login: str | None = typer.Option(
        None, "--app-login", metavar="NAME", help="The application's log-in, which may read plaintext."
    ),
    new_password: bool = typer.Option(
        False, "--new-password", help="Give the service log-in a new password and keep it here."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and do nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Prepare an installation: configuration, key, service log-in, schema pgseal, proposed rules."""
    try:
        dsn = parse_dsn(admin_dsn)
    except ValueError as error:
        fail(f"--admin-dsn {error}")
    done = run_async(Init(config, dsn, app_login, new_password, dry_run).run())
    if as_json:
        print_json(done)
    else:
        _show(done)
    raise typer.Exit(Exit.FOUND if done.sql and not dry_run else Exit.OK)


def _show(done: Done) -> None:
    for step in done.steps:
        say(f"{'would: ' if done.dry_run else ''}{step}")
    if done.sql:
        say(
            "this SQL is for a log-in with more rights; run it, then run init again:"
            if not done.dry_run
            else "SQL:"
        )
        stdout().print(done.sql, markup=False)
    elif not done.dry_run:
        say("next: correct the rules, then `pgseal check`, then `pgseal run`")


@dataclass(slots=True)
class Init:
    path: Path
    admin: ServiceDsn
    app_login: str | None
    new_password: bool
    dry_run: bool
    done: Done = field(default_factory=Done)

    async def run(self) -> Done:
        self.done.dry_run = self.dry_run
        self.write_config()
        config = self.config()
        if config is not None:
            self.make_keyfile(config)
        if not await self.prepare_database(config) or self.dry_run or config is None:
            await self.propose_rules(config)
            return self.done
        await self.initialise_store(Installation(self.path, config, {}))
        await self.propose_rules(config)
        return self.done

    @property
    def folder(self) -> Path:
        return self.path.absolute().parent

    # --- files

    def write_config(self) -> None:
        if self.path.exists():
            return
        self.done.add(f"write {self.path}")
        if self.dry_run:
            return
        host = self.admin.host
        service = (
            f"postgresql://{LOGIN}@{quote(host)}:{self.admin.port}/{quote(self.admin.database, safe='')}"
            f"?passfile=.pgseal/{PASSFILE}"
        )
        tls = "disable" if is_loopback(host) else "verify-full"
        if tls == "verify-full":
            service += "&sslmode=verify-full"
        text = TEMPLATE.format(host=host, port=self.admin.port, tls=tls, service=service)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text, encoding="utf-8")

    def config(self) -> Config | None:
        """None only in a dry run without a file."""
        return load_config(self.path, os.environ) if self.path.exists() else None

    def make_keyfile(self, config: Config) -> None:
        for alias, kms in config.kms.items():
            if kms.provider is Provider.LOCAL and kms.keyfile is not None and not kms.keyfile.exists():
                self.done.add(f"make the local key {kms.keyfile} of kms '{alias}'")
                if not self.dry_run:
                    _hide_from_git(kms.keyfile.parent)
                    create_keyfile(kms.keyfile)

    def passfile(self, config: Config | None) -> Path | None:
        """Where the service log-in's password is kept, if the configuration names a file for it."""
        if config is None:
            return self.folder / ".pgseal" / PASSFILE
        return passfile_of(config.service, self.folder)

    # --- the database

    async def prepare_database(self, config: Config | None) -> bool:
        """False where the rights were not enough."""
        login = config.service.user if config else LOGIN
        passfile = self.passfile(config)
        password = None
        if passfile is not None and (self.new_password or not passfile.exists()):
            password = secrets.token_urlsafe(24)
        verifier = str(Verifier.from_password(password, secrets.token_bytes(16))) if password else None
        async with connected(ServiceTarget(self.admin, Path.cwd())) as connection:
            made: Preparation = await prepare(connection, login, verifier, STORE_DDL, self.dry_run)
        if made.statements:
            self.done.add(f"prepare log-in {login}, schema pgseal and the key store in {self.admin.database}")
        if not made.is_done and made.statements:
            self.done.sql = as_script(made.statements)
        if password and passfile is not None and not self.dry_run:
            passfile.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(passfile, f"*:*:*:{login}:{password}\n".encode())
            self.done.add(f"keep the log-in's password in {passfile}")
        return made.is_done

    async def initialise_store(self, installation: Installation) -> None:
        """Realm, key-store key, and the installation's own secrets."""
        config = installation.config
        kms = open_kms(config)
        alias = main_alias(config)
        service = ServiceConnection(installation.target())
        try:
            store = KeyStore(service, StateFolder(config.state), kms)
            if await store.initialise(alias):
                self.done.add("initialise the key store with a new realm")
            await store.read()
            if await instance.create(config.state, kms[alias], store.realm):
                self.done.add(f"make this installation's secrets in {config.state}")
        finally:
            await service.close()
            for each in kms.values():
                await each.close()

    # --- rules

    async def propose_rules(self, config: Config | None) -> None:
        async with connected(ServiceTarget(self.admin, Path.cwd())) as connection:
            text = propose(self.admin.database, await columns(connection), self.app_login)
        self.write_rules(config.rules if config else self.folder / "rules", text)

    def write_rules(self, where: Path, text: str | None) -> None:
        """A file that is there is never touched: another proposal lies beside it."""
        if where.suffix in (".yaml", ".yml"):
            where = where.parent
        if not self.dry_run:
            self.write_schema(where)
        if text is None:
            self.done.add("propose no rules: no column looks personal by its name; see docs/rules.md")
            return
        path = where / f"{_file_name(self.admin.database)}.yaml"
        if path.exists():
            beside = path.with_suffix(".yaml.proposed")
            if any(each.exists() and each.read_text(encoding="utf-8") == text for each in (path, beside)):
                return
            path = beside
        self.done.add(f"write {path}")
        if not self.dry_run:
            path.write_text(text, encoding="utf-8")

    def write_schema(self, where: Path) -> None:
        """For editors only: a folder that cannot be written is no reason to stop."""
        try:
            where.mkdir(parents=True, exist_ok=True)
            write_schema(where / "schema.json")
        except OSError as error:
            self.done.add(f"write no {where / 'schema.json'}: {error.strerror}")


def _hide_from_git(folder: Path) -> None:
    """A new folder of secrets is ignored by git from the start."""
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")


def _file_name(database: str) -> str:
    """A database may be called anything; a file may not."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in database)
