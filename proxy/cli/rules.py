"""`pgseal rules schema`: the JSON Schema of a rules file, so that editors complete and check it."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from proxy.cli.output import Exit, say
from proxy.rules_file import schema_text, write_schema

app = typer.Typer(no_args_is_help=True, help="About rules files.")

EXAMPLE = "Example: [bold]pgseal rules schema --write rules/schema.json[/bold]"


@app.callback()
def rules() -> None:
    """About rules files."""


@app.command("schema", epilog=EXAMPLE)
def schema(
    write: Path | None = typer.Option(None, "--write", metavar="FILE", help="Write it there instead of stdout."),
    verify: Path | None = typer.Option(
        None, "--verify", metavar="FILE", help="Exit 1 when the file is not the current schema."
    ),
) -> None:
    """Print the JSON Schema of a rules file, or write it to FILE."""
    if verify is not None:
        if verify.is_file() and verify.read_text(encoding="utf-8") == schema_text():
            return
        say(f"{verify} is not the current schema; run: pgseal rules schema --write {verify}")
        raise typer.Exit(Exit.FOUND)
    if write is None:
        sys.stdout.write(schema_text())
        return
    write_schema(write)
    say(f"wrote {write}")
