"""A Django site over a protected auth_user, visited by HTTP: `django_site.py`, inside a project made by
`startproject site`; prints the name of each check that held, one a line; ends with status 1 if one did not."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Callable
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """The test reads standard output."""


class Browser:
    """Follows redirects, keeps cookies, answers Django's CSRF token."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.opener: OpenerDirector = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self.opener.open(self.root + path, timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **fields: str) -> str:
        found = TOKEN.search(self.get(path))
        assert found is not None
        body = urlencode({"csrfmiddlewaretoken": found[1], **fields}).encode()
        with self.opener.open(self.root + path, body, timeout=30) as answer:
            return str(answer.read().decode())


def a_superuser_logs_in(browser: Browser) -> None:
    page = browser.post("/admin/login/", username="root", password="Zauberberg-1924", next="/admin/")
    assert "Site administration" in page


def the_change_list_shows_users(browser: Browser) -> None:
    from django.contrib.auth.models import User

    User.objects.create_user("hans", "hans@berghof.example", "x", first_name="Hans", last_name="Castorp")
    page = browser.get("/admin/auth/user/")
    for text in ("root@sanatorium.example", "hans@berghof.example", "Hans", "Castorp"):
        assert text in page, text


def the_change_list_sorts_and_filters_by_plain_columns(browser: Browser) -> None:
    page = browser.get("/admin/auth/user/?is_staff__exact=0&o=-1")
    assert "Castorp" in page
    assert "root@sanatorium.example" not in page


def the_change_form_edits_a_user(browser: Browser) -> None:
    from django.contrib.auth.models import User

    path = f"/admin/auth/user/{User.objects.get(username='hans').pk}/change/"
    assert 'value="Castorp"' in browser.get(path)
    page = browser.post(
        path,
        username="hans",
        first_name="Johannes",
        last_name="Castorp der Jüngere",
        email="johannes@flachland.example",
        is_active="on",
        date_joined_0="1907-08-01",
        date_joined_1="12:00:00",
        initial_date_joined_0="1907-08-01",
        initial_date_joined_1="12:00:00",
    )
    assert "was changed successfully" in page
    hans = User.objects.get(username="hans")
    assert (hans.first_name, hans.last_name) == ("Johannes", "Castorp der Jüngere")
    assert hans.email == "johannes@flachland.example"


def the_add_form_makes_a_user(browser: Browser) -> None:
    from django.contrib.auth.models import User

    password = "Davos-Platz-1907"
    page = browser.post(
        "/admin/auth/user/add/",
        username="clawdia",
        usable_password="true",
        password1=password,
        password2=password,
    )
    assert "was added successfully" in page
    assert User.objects.get(username="clawdia").email == ""


def a_user_is_deleted_with_confirmation(browser: Browser) -> None:
    from django.contrib.auth.models import User

    path = f"/admin/auth/user/{User.objects.get(username='clawdia').pk}/delete/"
    assert "was deleted successfully" in browser.post(path, post="yes")
    assert not User.objects.filter(username="clawdia").exists()


def a_user_is_found_by_email(_: Browser) -> None:
    from django.contrib.auth.models import User

    assert User.objects.get(email="johannes@flachland.example").username == "hans"
    assert not User.objects.filter(email="nobody@flachland.example").exists()
    assert User.objects.filter(email__in=["johannes@flachland.example", "root@sanatorium.example"]).count() == 2
    assert User.objects.exclude(email="johannes@flachland.example").filter(username="hans").first() is None


def objects_are_made_in_bulk_and_iterated(_: Browser) -> None:
    from django.contrib.auth.models import User
    from django.db import IntegrityError

    users = [User(username=f"u{n}", email=f"u{n}@x.example", last_name=f"Gast {n}") for n in range(300)]
    User.objects.bulk_create(users, batch_size=100)
    found = User.objects.filter(username__startswith="u").order_by("pk")
    assert [user.last_name for user in found] == [f"Gast {n}" for n in range(300)]
    assert list(found.values_list("email", flat=True)[:2]) == ["u0@x.example", "u1@x.example"]
    assert found.filter(username__in=["u1", "u2"]).update(first_name="Gast") == 2
    for user in (several := list(found.filter(username__in=["u3", "u4"]))):
        user.last_name = "Dauergast"
    assert User.objects.bulk_update(several, ["last_name"]) == 2
    assert User.objects.get(username="u4").last_name == "Dauergast"
    for user in several:
        user.last_name = None if user.username == "u4" else ""
    try:
        User.objects.bulk_update(several, ["last_name"])
        raise AssertionError("NULL was accepted where the column is NOT NULL")
    except IntegrityError as error:
        assert "last_name" in str(error)
    assert found.delete()[0] == 300


def iterators_read_by_a_server_side_cursor(_: Browser) -> None:
    from django.contrib.auth.models import User

    assert {user.email for user in User.objects.iterator(chunk_size=1)} >= {"root@sanatorium.example"}


def transactions_and_savepoints_hold(_: Browser) -> None:
    from django.contrib.auth.models import User
    from django.db import IntegrityError, transaction

    with transaction.atomic():
        User.objects.filter(username="hans").update(first_name="Innen")
        try:
            with transaction.atomic():
                User.objects.create(username="hans", email="doppelt@x.example")
            raise AssertionError("a duplicate was accepted")
        except IntegrityError as error:
            assert "doppelt" not in str(error)
        assert User.objects.select_for_update().get(username="hans").first_name == "Innen"
        transaction.set_rollback(True)
    assert User.objects.get(username="hans").first_name == "Johannes"


def get_or_create_and_update_or_create_work(_: Browser) -> None:
    from django.contrib.auth.models import User

    user, is_new = User.objects.get_or_create(username="joachim", defaults={"email": "j@ziemssen.example"})
    assert is_new
    again, is_new = User.objects.update_or_create(username="joachim", defaults={"last_name": "Ziemßen"})
    assert (again.pk, is_new, again.last_name, again.email) == (user.pk, False, "Ziemßen", "j@ziemssen.example")
    user.refresh_from_db()
    assert user.get_full_name() == "Ziemßen"


def related_objects_carry_sealed_columns(_: Browser) -> None:
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import Group, User

    group = Group.objects.create(name="Vettern")
    group.user_set.set(User.objects.filter(username__in=["hans", "joachim"]))
    names = {u.last_name for u in Group.objects.prefetch_related("user_set").get().user_set.all()}
    assert names == {"Ziemßen", "Castorp der Jüngere"}
    assert LogEntry.objects.select_related("user").earliest("pk").user.email == "root@sanatorium.example"


def fixtures_are_dumped_and_loaded(_: Browser) -> None:
    from io import StringIO

    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.core.serializers import deserialize

    dumped = StringIO()
    call_command("dumpdata", "auth.user", stdout=dumped)
    assert "johannes@flachland.example" in dumped.getvalue()
    User.objects.filter(username="joachim").delete()
    for found in deserialize("json", dumped.getvalue()):
        found.save()
    assert User.objects.get(username="joachim").email == "j@ziemssen.example"


def expressions_choose_between_sealed_values(_: Browser) -> None:
    from django.contrib.auth.models import User
    from django.db.models import Case, Count, F, Q, Subquery, Value, When
    from django.db.models.functions import Coalesce

    chosen = Case(When(username="hans", then=F("first_name")), default=Value("?"))
    found = User.objects.annotate(name=chosen).order_by("pk").values_list("name", flat=True)
    assert list(found[:2]) == ["?", "Johannes"]
    coalesced = User.objects.annotate(name=Coalesce("last_name", Value("none"))).get(username="hans")
    assert coalesced.name == "Castorp der Jüngere"
    inner = User.objects.filter(username="hans").values("email")[:1]
    assert User.objects.filter(email=Subquery(inner)).get().username == "hans"
    either = Q(email="johannes@flachland.example") | Q(username="root")
    assert User.objects.filter(either).count() == 2
    assert User.objects.filter(~Q(email="johannes@flachland.example"), username="hans").count() == 0
    assert User.objects.aggregate(n=Count("email", distinct=True))["n"] == User.objects.count()
    assert User.objects.values("email").annotate(n=Count("pk")).filter(n__gt=1).count() == 0


def what_cannot_be_proved_is_refused(_: Browser) -> None:
    from django.contrib.auth.models import User
    from django.db import DatabaseError, transaction

    questions: list[Callable[[], object]] = [
        lambda: User.objects.filter(email__icontains="x").exists(),
        lambda: User.objects.filter(last_name="Castorp").exists(),
        lambda: list(User.objects.order_by("last_name")),
    ]
    for ask in questions:
        try:
            with transaction.atomic():
                ask()
            raise AssertionError("answered what cannot be answered")
        except DatabaseError as error:
            assert getattr(error.__cause__, "sqlstate", "") == "PS001", error


CHECKS: tuple[Callable[[Browser], None], ...] = (
    a_superuser_logs_in,
    the_change_list_shows_users,
    the_change_list_sorts_and_filters_by_plain_columns,
    the_change_form_edits_a_user,
    the_add_form_makes_a_user,
    a_user_is_deleted_with_confirmation,
    a_user_is_found_by_email,
    objects_are_made_in_bulk_and_iterated,
    iterators_read_by_a_server_side_cursor,
    transactions_and_savepoints_hold,
    get_or_create_and_update_or_create_work,
    related_objects_carry_sealed_columns,
    fixtures_are_dumped_and_loaded,
    expressions_choose_between_sealed_values,
    what_cannot_be_proved_is_refused,
)


def has_held(check: Callable[[Browser], None], browser: Browser) -> bool:
    try:
        check(browser)
    except Exception:
        print(f"{check.__name__} did not hold:\n{traceback.format_exc(limit=-3)}", file=sys.stderr)
        return False
    print(check.__name__)
    return True


def main() -> None:
    django.setup()
    from django.core.wsgi import get_wsgi_application

    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = Browser(server.server_port)
        failed = [check for check in CHECKS if not has_held(check, browser)]
        server.shutdown()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
