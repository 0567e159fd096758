"""Django over plain tables: `django_plain.py HOST PORT DATABASE`; prints "all checks held" at the end."""

from __future__ import annotations

import sys

import django
from django.conf import settings


def configure(host: str, port: str, database: str) -> None:
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": host,
                "PORT": port,
                "NAME": database,
                "USER": "postgres",
                "OPTIONS": {"server_side_binding": True},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        SECRET_KEY="only for this test",
        USE_TZ=True,
    )
    django.setup()


def check() -> None:
    from django.contrib.auth import authenticate
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from django.db import IntegrityError, connection, transaction
    from django.db.models import Count, F, Q

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("root", "root@example.org", "secret")
    assert authenticate(username="root", password="secret").is_superuser
    User.objects.bulk_create([User(username=f"u{n}", email=f"u{n}@example.org") for n in range(500)])
    assert sum(1 for _ in User.objects.filter(username__startswith="u").iterator(chunk_size=50)) == 500
    group = Group.objects.create(name="staff")
    group.user_set.set(User.objects.filter(Q(username__in=["u1", "u2"]) | Q(email="u3@example.org")))
    assert Group.objects.annotate(n=Count("user")).get().n == 3
    try:
        with transaction.atomic():
            User.objects.create(username="root")
        raise SystemExit("a duplicate was accepted")
    except IntegrityError:
        pass
    with transaction.atomic():
        assert User.objects.select_for_update().filter(username="u1").update(first_name=F("username")) == 1
    assert User.objects.get(username="u1").first_name == "u1"
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        columns = connection.introspection.get_table_description(cursor, "auth_user")
    assert "auth_user" in tables
    assert [column.name for column in columns][:2] == ["id", "password"]
    assert User.objects.filter(username__startswith="u").delete()[0] == 503
    call_command("migrate", "auth", "zero", verbosity=0)


if __name__ == "__main__":
    configure(*sys.argv[1:4])
    check()
    print("all checks held")
