"""`pgseal check`: rules against the live databases, with the SQL that mends what disagrees.

One reason to change: what is checked in one go, and how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape

from proxy.cli.approval import approve as write_approval
from proxy.cli.approval import lowered as lowered_since
from proxy.cli.approval import secrets_of
from proxy.cli.check_statements import Asked, examine_statements, show_statements
from proxy.cli.check_statements import document as told_document
from proxy.cli.explain import rules_of
from proxy.cli.installation import CONFIG, ENV_SECURITY, Installation, load, open_kek
from proxy.cli.output import Exit, print_json, run_async, say, stdout
from proxy.config import Config
from proxy.errors import PgsealError
from proxy.rules import Ruleset
from proxy.service import schema_check
from proxy.service.connection import connected
from proxy.service.findings import Finding, Report, TableReport, Weight

EXAMPLE: Final = "Example: [bold]pgseal check --config pgseal.yaml[/bold]"
COLOURS: Final = {Weight.REFUSES: "red", Weight.WARNS: "yellow", Weight.NOTES: "dim"}
VERDICTS: Final = {"serves": "[green]serves[/green]", "warned": "[yellow]serves, with warnings[/yellow]"}
OBSERVED: Final = "[yellow]observed[/yellow]: it holds no cell and passes as it is; what it needs to be protected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything `check` says. `lowered`: what differs from the approved state, by database. `problems`: why
    `run` would not start."""

    reports: tuple[Report, ...]
    weaknesses: tuple[str, ...]
    lowered: dict[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        is_fitting = all(report.is_clean for report in self.reports)
        return is_fitting and not any(self.lowered.values()) and not self.problems


def check(
    config: Path = CONFIG,
    approve: bool = typer.Option(
        False, "--approve", help="Write rules.lock: rules and live schema are as they should be."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    statements: str | None = typer.Option(
        None,
        "--statements",
        metavar="FILE",
        help="Which statements of FILE (a script, a PostgreSQL log, a CSV of pg_stat_statements; the word "
        "pg_stat_statements asks the server) would be refused once every ruled table is protected.",
    ),
    database: str | None = typer.Option(None, "--database", "-d", help="With --statements: whose rules."),
    login: str = typer.Option("default", "--login", "-U", help="With --statements: who sends those of no user."),
    search_path: str = typer.Option("public", "--search-path", help="With --statements: schemas, by commas."),
    allow_env_security: bool = ENV_SECURITY,
) -> None:
    """Check rules against the live databases. Exit 1 when something was found."""
    installation = load(config, allow_env_security)
    if statements is not None:
        schemas = tuple(name.strip() for name in search_path.split(",") if name.strip())
        asked = Asked(statements, login, schemas)
        told = run_async(examine_statements(installation, rules_of(installation, database), asked))
        if as_json:
            print_json(told_document(told))
        else:
            show_statements(told, stdout())
        raise typer.Exit(Exit.FOUND if told.is_refused else Exit.OK)
    outcome = run_async(examine(installation))
    if as_json:
        print_json(_document(outcome))
    else:
        show(outcome, stdout())
    if approve:
        refused = [label for report in outcome.reports for label in _refused(report)]
        if outcome.problems:
            say("not approved: pgseal run would not start; mend that first")
            raise typer.Exit(Exit.FOUND)
        if refused:
            say(f"not approved: {', '.join(refused)} would be refused; mend them first")
            raise typer.Exit(Exit.FOUND)
        path = run_async(write_approval(installation))
        say(f"approved: wrote {path}")
        return
    raise typer.Exit(Exit.OK if outcome.is_clean else Exit.FOUND)


async def examine(installation: Installation) -> Outcome:
    """The KEKs, and every ruled database in turn. What was approved can be read only with the KEK."""
    problems = await _kek_problems(installation.config)
    reports = [await _examine_one(installation, rules) for rules in installation.rules.values()]
    problems = problems or await _secret_problems(installation)
    lowered = {} if problems else await lowered_since(installation)
    return Outcome(tuple(reports), installation.weaknesses(), lowered, problems)


async def _kek_problems(config: Config) -> tuple[str, ...]:
    """Why a KEK cannot be used, with what helps."""
    found: list[str] = []
    for alias in config.kms:
        try:
            kms = open_kek(config, alias)
            try:
                await kms.check()
            finally:
                await kms.close()
        except PgsealError as error:
            hint, place = f" ({error.hint})" if error.hint else "", f"kms '{alias}': "
            found.append(f"{place}{error.message.removeprefix(place)}{hint}")
    return tuple(found)


async def _secret_problems(installation: Installation) -> tuple[str, ...]:
    """Why this installation's secrets cannot be had: another KEK, or no `init` yet."""
    try:
        await secrets_of(installation)
    except PgsealError as error:
        return (f"{error.message} ({error.hint})" if error.hint else error.message,)
    return ()


async def _examine_one(installation: Installation, rules: Ruleset) -> Report:
    async with connected(installation.target(rules.database)) as connection:
        return await schema_check.check(connection, rules)


def _refused(report: Report) -> list[str]:
    return [table.label for table in report.tables if table.is_refused]


def _document(outcome: Outcome) -> dict[str, object]:
    return {
        "clean": outcome.is_clean,
        "databases": [
            {
                "database": report.database,
                "tables": [
                    {"table": table.label, "verdict": table.verdict, "findings": table.findings}
                    for table in report.tables
                ],
                "not_approved": outcome.lowered.get(report.database, ()),
            }
            for report in outcome.reports
        ],
        "problems": outcome.problems,
        "weaknesses": outcome.weaknesses,
    }


# --- for people -----------------------------------------------------------------------------------------


def show(outcome: Outcome, console: Console) -> None:
    for report in outcome.reports:
        console.print(f"[bold]database {escape(report.database)}[/bold]")
        for table in report.tables:
            _show_table(table, console)
        for change in outcome.lowered.get(report.database, ()):
            console.print(f"  [red]not approved[/red]  {escape(change)}")
    if not outcome.reports:
        console.print("no rules: every database passes untouched")
    if outcome.problems or outcome.weaknesses:
        console.print("[bold]this configuration[/bold]")
    for problem in outcome.problems:
        console.print(f"  [red]does not start[/red]  {escape(problem)}")
    for weakness in outcome.weaknesses:
        console.print(f"  [yellow]weak[/yellow]  {escape(weakness)}")


def _show_table(table: TableReport, console: Console) -> None:
    verdict = OBSERVED if table.is_observed else VERDICTS.get(table.verdict, "[red]refused (PS006)[/red]")
    if any(finding.code == "table_missing" for finding in table.findings) and not table.is_refused:
        verdict = "[yellow]no such table[/yellow]"
    console.print(f"  {escape(table.label.lstrip('.'))}  {verdict}")
    for finding in table.findings:
        _show_finding(finding, console)


def _show_finding(finding: Finding, console: Console) -> None:
    colour = COLOURS[finding.weight]
    place = f"{escape(finding.column)}: " if finding.column else ""
    console.print(f"    [{colour}]{finding.weight.value}[/{colour}]  {place}{escape(finding.reason)}")
    for statement in finding.ddl:
        console.print(f"        {escape(statement)};")
