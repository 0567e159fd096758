"""Run by a test: a Django model whose columns are protected, written in bulk. Prints ok at the end."""

from __future__ import annotations

import datetime as dt
import os
import sys

import django
from django.conf import settings
from django.db import connection, models

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": sys.argv[1],
            "NAME": sys.argv[2],
            "USER": "app",
            "OPTIONS": {"server_side_binding": os.environ.get("SERVER_SIDE") == "1"},
        }
    },
    INSTALLED_APPS=[],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()


class Guest(models.Model):
    name = models.TextField()
    email = models.CharField(max_length=254, unique=True)
    age = models.IntegerField(null=True)
    born = models.DateField(null=True)
    room = models.IntegerField(default=1)

    class Meta:
        app_label = "hotel"
        db_table = "guest"


def guests() -> list[tuple[str, str, int | None]]:
    return list(Guest.objects.order_by("id").values_list("name", "email", "age"))


made = Guest.objects.bulk_create(
    [Guest(name=f"n{n}", email=f"e{n}@x", age=n, born=dt.date(1900, 1, 1 + n)) for n in range(5)]
)
assert [guest.pk for guest in made] == sorted(guest.pk for guest in made)
assert guests() == [(f"n{n}", f"e{n}@x", n) for n in range(5)]

for guest in made:
    guest.name, guest.age = guest.name.upper(), None
Guest.objects.bulk_update(made, ["name", "age"])
assert guests() == [(f"N{n}", f"e{n}@x", None) for n in range(5)]

Guest.objects.bulk_create(
    [Guest(name="again", email="e1@x", age=7), Guest(name="new", email="e9@x", age=9)],
    update_conflicts=True,
    unique_fields=["email"],
    update_fields=["name", "age"],
)
assert guests()[1] == ("again", "e1@x", 7)
assert guests()[-1] == ("new", "e9@x", 9)
Guest.objects.bulk_create([Guest(name="never", email="e1@x")], ignore_conflicts=True)
assert Guest.objects.count() == 6

found, is_new = Guest.objects.update_or_create(email="e2@x", defaults={"name": "found"})
assert (found.name, is_new) == ("found", False)
assert Guest.objects.get_or_create(email="e10@x", defaults={"name": "ten"})[1]
assert Guest.objects.filter(email__in=["e1@x", "e9@x"]).update(name="both") == 2
connection.close()
print("ok")
