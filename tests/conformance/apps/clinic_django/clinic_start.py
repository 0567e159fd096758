"""Migrates the given database once; then the tests run in it, each inside a transaction of its own."""

import django
from django.core.management import call_command
from django.test.utils import setup_test_environment, teardown_test_environment

django.setup()


def pytest_sessionstart() -> None:
    setup_test_environment()
    call_command("migrate", verbosity=0)


def pytest_sessionfinish() -> None:
    teardown_test_environment()
