"""Two applications written for this run: a Django project and a SQLAlchemy one, half of their columns protected.

Directly they run on a database without encryption, through the proxy on one whose tables pgseal made under the
rules beside them. One reason to change: how the applications are run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.conformance.outcomes import Outcome
from tests.conformance.place import Endpoint, World
from tests.conformance.suites.python_suite import run_pytest
from tests.conformance.suites.suite import Suite

APPS = Path(__file__).resolve().parents[1] / "apps"
EXPECTED_SQLALCHEMY = {
    "shop_checks::test_filters[lower(shop_customer.email) LIKE lower(:email_1)-1]": (
        "ILIKE with a parameter is refused: whether it has wildcards shows only when it is bound"
    ),
}


def fetch() -> None:
    """Django and SQLAlchemy are requirements of the tests."""


def _run(place: Path, endpoint: Endpoint, folder: Path, more: Sequence[str]) -> dict[str, Outcome]:
    given = {
        "DJANGO_SETTINGS_MODULE": "clinic_site.settings",
        "APP_PORT": str(endpoint.port),
        "APP_DATABASE": endpoint.database,
        "PYTHONPATH": str(place),
    }
    arguments = ["-c", "/dev/null", f"--rootdir={place}", f"--confcutdir={place}", "--timeout=120", *more]
    return run_pytest(place, arguments, given, folder / "report.xml")


def run_django(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    return _run(APPS / "clinic_django", endpoint, folder, ["-p", "clinic_start", "clinic_checks.py"])


def run_sqlalchemy(endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    return _run(APPS / "shop_sqlalchemy", endpoint, folder, ["shop_checks.py"])


def _world(name: str) -> World:
    return World("conformance", rules=(APPS / name / "rules.yaml").read_text(), setup=(), is_plain_twin=True)


DJANGO = Suite("django-app", "tests/conformance/apps/clinic_django", fetch, run_django, _world("clinic_django"))
SQLALCHEMY = Suite(
    "sqlalchemy-app",
    "tests/conformance/apps/shop_sqlalchemy",
    fetch,
    run_sqlalchemy,
    _world("shop_sqlalchemy"),
    EXPECTED_SQLALCHEMY,
)
