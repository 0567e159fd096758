"""`pgseal audit verify`: whether the audit trail is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer
from rich.markup import escape

from proxy.audit.verify import Report, verify
from proxy.cli.approval import secrets_of
from proxy.cli.installation import CONFIG, ENV_SECURITY, load
from proxy.cli.output import Exit, print_json, run_async, stdout

app = typer.Typer(no_args_is_help=True, help="About the audit trail.")

EXAMPLE: Final = "Example: [bold]pgseal audit verify --config pgseal.yaml[/bold]"


@app.callback()
def audit() -> None:
    """About the audit trail."""


@app.command("verify", epilog=EXAMPLE)
def verify_trail(
    config: Path = CONFIG,
    folder: Path | None = typer.Option(
        None, "--folder", metavar="DIR", help="A copy of the trail instead of audit.path."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    allow_env_security: bool = ENV_SECURITY,
) -> None:
    """Walk every writer's chain and name what is wrong first. Exit 1 when something was found."""
    installation = load(config, allow_env_security)
    secrets = run_async(secrets_of(installation))
    where = folder if folder is not None else installation.config.audit.folder
    report = verify(where, bytes(secrets.audit_root), installation.config.state)
    if as_json:
        print_json({**document(report), "whole": report.is_whole})
    else:
        show(report)
    raise typer.Exit(Exit.OK if report.is_whole else Exit.FOUND)


def document(report: Report) -> dict[str, object]:
    return {
        "writers": report.n_writers,
        "records": report.n_records,
        "events": report.n_events,
        "lost": report.n_lost,
        "anchored": report.is_anchored,
        "findings": report.findings,
        "notes": report.notes,
    }


def show(report: Report) -> None:
    console = stdout()
    for finding in report.findings:
        console.print(f"[red]found[/red]  {escape(str(finding))}")
    for note in report.notes:
        console.print(f"[dim]note   {escape(note)}[/dim]")
    word = "[green]whole[/green]" if report.is_whole else "[red]not whole[/red]"
    console.print(f"{word}: {report.n_events} events in {report.n_records} records; writers: {report.n_writers}")
