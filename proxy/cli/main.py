"""The command `pgseal`: its commands, and the one place where their errors end.

One reason to change: which commands there are.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import typer

import proxy.cli.audit as audit
import proxy.cli.check as check
import proxy.cli.demo as demo
import proxy.cli.explain as explain
import proxy.cli.init as init
import proxy.cli.rules as rules
import proxy.cli.run as run
from proxy.cli.output import Exit, place_of, say, show_error
from proxy.errors import PgsealError

app = typer.Typer(
    name="pgseal",
    help="A transparent encryption proxy for PostgreSQL: listed columns are ciphertext in the database and "
    "plaintext in the application.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)

app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("init", epilog=init.EXAMPLE)(init.init)
app.command("check", epilog=check.EXAMPLE)(check.check)
app.command("explain", epilog=explain.EXAMPLE)(explain.explain)
app.add_typer(audit.app, name="audit")
app.add_typer(rules.app, name="rules")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pgseal {version('pgseal')}")
        raise typer.Exit(Exit.OK)


@app.callback()
def root(
    show_version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Every command has --help with an example."""


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except PgsealError as error:
        show_error(error)
        sys.exit(Exit.FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(Exit.OK)
    except Exception as error:
        say(f"error: internal error ({type(error).__name__} at {place_of(error)}); please report it")
        sys.exit(Exit.FAILED)
