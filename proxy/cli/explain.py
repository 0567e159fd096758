"""`pgseal explain`: what happens to a statement, planned against the live catalog, without running it.

One reason to change: how a plan is asked for and shown.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from proxy.cli.installation import CONFIG, ENV_SECURITY, Installation, load
from proxy.cli.output import Exit, fail, print_json, run_async, stdout
from proxy.errors import NotAllowed, sentence
from proxy.rules import Ruleset
from proxy.service import schema_check
from proxy.service.connection import connected
from proxy.service.observing import read_observing
from proxy.sql.explain import explain as told
from proxy.sql.plan import Env, NotPlanned
from proxy.sql.planner import Planner, plan_slowly

EXAMPLE: Final = 'Example: [bold]pgseal explain "SELECT ssn FROM patients WHERE ssn = \\$1" --login app[/bold]'
PARAMETER: Final = re.compile(r"\$[0-9]")
COLOURS: Final = {"pass": "green", "planned": "cyan", "refused": "red"}


@dataclass(frozen=True, slots=True)
class Question:
    """`login` decides the rights, `search_path` how names without a schema are resolved."""

    sql: str
    login: str
    search_path: tuple[str, ...]


def explain(
    sql: str = typer.Argument(..., metavar="SQL", help="One or more statements; - reads them from stdin."),
    config: Path = CONFIG,
    database: str | None = typer.Option(None, "--database", "-d", help="Whose rules; the only one by default."),
    login: str = typer.Option("default", "--login", "-U", help="The log-in that would send it."),
    search_path: str = typer.Option("public", "--search-path", help="Schemas, separated by commas."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    allow_env_security: bool = ENV_SECURITY,
) -> None:
    """Show verdict, edits, and what happens to each parameter and result column. Exit 1 when it is refused."""
    installation = load(config, allow_env_security)
    rules = rules_of(installation, database)
    path = tuple(name.strip() for name in search_path.split(",") if name.strip())
    question = Question(sys.stdin.read() if sql == "-" else sql, login, path)
    answer = run_async(ask(installation, rules, question))
    if as_json:
        print_json(answer)
    else:
        show(answer, stdout())
        if (
            login == "default"
            and answer["verdict"] == "refused"
            and answer["reason"]["sqlstate"] == NotAllowed.sqlstate
        ):
            stdout().print("this is the answer for roles.default; --login NAME asks for a log-in of yours")
    raise typer.Exit(Exit.FOUND if answer["verdict"] == "refused" else Exit.OK)


def rules_of(installation: Installation, database: str | None) -> Ruleset:
    found = installation.rules
    if database is not None and database not in found:
        fail(f"there are no rules of database {database}", hint=f"there are rules of: {', '.join(sorted(found))}")
    if database is None and len(found) != 1:
        fail("which database? name it with --database", hint=f"there are rules of: {', '.join(sorted(found))}")
    return found[database] if database is not None else next(iter(found.values()))


async def ask(installation: Installation, rules: Ruleset, question: Question) -> dict[str, Any]:
    """The plan in words, as `sql.explain` tells it."""
    async with connected(installation.target(rules.database)) as connection:
        report = await schema_check.check(connection, rules)
        snapshot = await read_observing(connection, schema_check.refusing(rules, report), report, 1)
    env = Env(
        snapshot=snapshot,
        catalog_epoch=snapshot.epoch,
        rules_epoch=rules.epoch,
        search_path=question.search_path,
        role=rules.role(question.login),
    )
    planner = Planner()
    oids = () if PARAMETER.search(question.sql) else None
    planned = planner.plan(question.sql.encode(), env, oids)
    if isinstance(planned, NotPlanned):
        planned = plan_slowly(planner.slow_job(planned))
    answer = told(planned, env.role.read)
    if snapshot.supposed is not None:
        supposed = planner.plan(question.sql.encode(), replace(env, snapshot=snapshot.supposed), oids)
        if isinstance(supposed, NotPlanned):
            supposed = plan_slowly(planner.slow_job(supposed))
        if supposed.plan.refusal is not None and planned.plan.refusal is None:
            answer["observed"] = told(supposed, env.role.read)["reason"]
    return answer


# --- for people -----------------------------------------------------------------------------------------


def show(answer: dict[str, Any], console: Console) -> None:
    verdict = answer["verdict"]
    console.print(f"[bold {COLOURS[verdict]}]{verdict}[/bold {COLOURS[verdict]}]")
    if "observed" in answer:
        console.print("a table is under observation; once it is protected the statement is refused:")
        _show_refusal(answer["observed"], console)
    if verdict == "pass":
        console.print("nothing protected is touched: the bytes pass as they came")
        return
    if verdict == "refused":
        _show_refusal(answer["reason"], console)
        return
    console.print(f"[bold]the server gets[/bold]\n  {escape(answer['sql'])}")
    for statement in answer["statements"]:
        _show_statement(statement, console)
    for number, slot in enumerate(answer["slots"]):
        source = "".join(f" from ${parameter}" for parameter in slot["parameters"])
        console.print(
            f"  <{number}>  {escape(slot['column'])}: {slot['treatment']}{source}, tenant: {slot['tenant']}"
        )


def _show_refusal(reason: dict[str, Any], console: Console) -> None:
    is_named = not reason["column"] or reason["column"] in reason["message"]
    column = "" if is_named else f"{reason['column']}: "
    console.print(f"{reason['sqlstate']}: {escape(column + reason['message'])}")
    if reason["hint"]:
        console.print(f"hint: {escape(sentence(reason['hint']))}")


def _show_statement(statement: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(statement['tag'])}[/bold]")
    for access in statement["columns"]:
        console.print(f"  {escape(access['column'])}: {', '.join(access['uses'])}")
    for result in statement["results"] or ():
        if result["column"]:
            text = f"{result['treatment']} as {result['type']} of {result['column']}"
            console.print(f"  result column {result['number']}: {escape(text)}")
    if statement["tenants"]:
        console.print(f"  tenant proven by: {', '.join(statement['tenants'])}")
