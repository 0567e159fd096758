"""What the clinic does with its models; the same with and without protection."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from decimal import Decimal

from clinic.models import (
    Address,
    Allergy,
    Doctor,
    Finding,
    Note,
    Patient,
    Payment,
    Prescription,
    Trace,
    User,
    Visit,
    Ward,
)
from django import forms
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q, Sum
from django.db.models.signals import post_save
from django.test import Client, TestCase, TransactionTestCase


class PatientForm(forms.ModelForm):
    class Meta:
        model = Patient
        fields = ("number", "name", "email", "ssn", "born", "blood", "ward")


class World(TestCase):
    """Two wards, two doctors, twenty-five patients with their visits."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.north, cls.south = (
            Ward.objects.create(name="north", beds=10),
            Ward.objects.create(name="south", beds=20),
        )
        cls.doctors = [cls.doctor(n, ward) for n, ward in enumerate((cls.north, cls.south))]
        cls.patients = Patient.objects.bulk_create(cls.patient(n) for n in range(25))
        Visit.objects.bulk_create(
            Visit(patient=p, doctor=cls.doctors[p.number % 2], day=dt.date(2024, 1, 1 + p.number),
                  reason="cough" if p.number % 3 else "Fieber", minutes=10 + p.number)
            for p in cls.patients
        )  # fmt: skip

    @staticmethod
    def doctor(n: int, ward: Ward) -> Doctor:
        user = User.objects.create_user(f"doc{n}", f"Doc{n}@Clinic.example", "secret", first_name=f"Dö{n}",
                                        last_name="O'Hara", phone="+49 30 1")  # fmt: skip
        return Doctor.objects.create(user=user, ward=ward, licence=f"L-{n}", salary=Decimal("5000.50") + n)

    @classmethod
    def patient(cls, n: int) -> Patient:
        ward = cls.north if n % 2 else cls.south
        return Patient(number=n, ward=ward, name=f"Patient {n}", ssn=f"123-45-{n:04}",
                       email=f"P{n}@Mail.example", born=dt.date(1950 + n, 1, 31) if n else None,
                       blood=("A", "B", "AB", "O")[n % 4], profile={"n": n, "tags": ["ä", None]},
                       history="x" * n * 100)  # fmt: skip


class Reading(World):
    def test_values_come_back_as_they_were(self) -> None:
        found = Patient.objects.get(number=7)
        assert (found.name, found.ssn, found.email) == ("Patient 7", "123-45-0007", "P7@Mail.example")
        assert found.born == dt.date(1957, 1, 31) and found.blood == "O"
        assert found.profile == {"n": 7, "tags": ["ä", None]} and found.history == "x" * 700
        assert Patient.objects.get(number=0).born is None

    def test_exact_filters(self) -> None:
        assert Patient.objects.get(ssn="123-45-0003").number == 3
        assert Patient.objects.filter(name="Patient 3").exists()
        assert not Patient.objects.filter(name="patient 3").exists()
        assert Patient.objects.filter(born=dt.date(1955, 1, 31)).count() == 1
        assert Patient.objects.filter(name="' OR 1=1 --").count() == 0

    def test_nocase_filters(self) -> None:
        assert Patient.objects.get(email__iexact="p4@mAIL.example").number == 4
        assert User.objects.get(email__iexact="doc0@clinic.EXAMPLE").username == "doc0"

    def test_in_and_exclude(self) -> None:
        assert Patient.objects.filter(name__in=["Patient 1", "Patient 2", "nobody"]).count() == 2
        assert Patient.objects.exclude(blood="A").count() == 18
        assert Patient.objects.filter(blood__in=["A", "B"], number__lt=8).count() == 4

    def test_isnull(self) -> None:
        assert Patient.objects.filter(born__isnull=True).count() == 1
        assert Visit.objects.filter(report__isnull=True).count() == 25

    def test_q_objects(self) -> None:
        found = Patient.objects.filter(Q(ssn="123-45-0001") | Q(name="Patient 2") & ~Q(blood="A"))
        assert sorted(p.number for p in found) == [1, 2]

    def test_values_and_values_list(self) -> None:
        rows = Patient.objects.order_by("number").values("number", "name", "ward__name")[:2]
        assert list(rows) == [
            {"number": 0, "name": "Patient 0", "ward__name": "south"},
            {"number": 1, "name": "Patient 1", "ward__name": "north"},
        ]
        assert Patient.objects.order_by("-number").values_list("name", flat=True).first() == "Patient 24"

    def test_only_and_defer(self) -> None:
        found = Patient.objects.only("number").get(number=5)
        assert found.name == "Patient 5"
        assert Patient.objects.defer("history").get(number=2).history == "x" * 200

    def test_ordering_and_slicing_by_plain_columns(self) -> None:
        assert [p.number for p in Patient.objects.order_by("ward__name", "-number")[10:14]] == [3, 1, 24, 22]

    def test_iterator_reads_in_chunks(self) -> None:
        with transaction.atomic():
            names = [p.name for p in Patient.objects.order_by("number").iterator(chunk_size=4)]
        assert names == [f"Patient {n}" for n in range(25)]

    def test_in_bulk_first_last_earliest(self) -> None:
        assert Patient.objects.in_bulk([3, 4], field_name="number")[3].name == "Patient 3"
        assert Patient.objects.order_by("number").last().name == "Patient 24"
        assert Visit.objects.earliest("day").reason == "Fieber"

    def test_raw_query(self) -> None:
        found = Patient.objects.raw("SELECT id, name FROM clinic_patient WHERE ssn = %s", ["123-45-0009"])
        assert [p.name for p in found] == ["Patient 9"]

    def test_cursor(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, born FROM clinic_patient WHERE number = %s", [1])
            assert cursor.fetchall() == [("Patient 1", dt.date(1951, 1, 31))]
            assert [column.name for column in cursor.description] == ["name", "born"]


class Relations(World):
    def test_select_related(self) -> None:
        with self.assertNumQueries(1):
            visit = Visit.objects.select_related("patient__ward", "doctor__user").order_by("id").first()
            assert (visit.patient.name, visit.patient.ward.name) == ("Patient 0", "south")
            assert visit.doctor.user.email == "Doc0@clinic.example"

    def test_prefetch_related(self) -> None:
        with self.assertNumQueries(2):
            wards = Ward.objects.prefetch_related(Prefetch("patients", Patient.objects.filter(blood="A")))
            assert {w.name: len(w.patients.all()) for w in wards} == {"north": 0, "south": 7}

    def test_filters_across_relations(self) -> None:
        assert Visit.objects.filter(patient__ssn="123-45-0004").count() == 1
        assert Ward.objects.filter(patients__name="Patient 3").get().name == "north"
        assert Patient.objects.filter(visits__reason="Fieber", ward__name="north").count() == 4

    def test_many_to_many(self) -> None:
        patient = self.patients[0]
        patient.doctors.set(self.doctors)
        assert patient.doctors.count() == 2
        assert self.doctors[0].patients.get().name == "Patient 0"
        patient.doctors.remove(self.doctors[0])
        assert patient.doctors.get().licence == "L-1"
        patient.doctors.clear()
        assert not patient.doctors.exists()

    def test_through_model(self) -> None:
        nuts = Allergy.objects.create(code="nuts", note="careful")
        Finding.objects.create(patient=self.patients[1], allergy=nuts, severity=3, remark="täglich")
        assert self.patients[1].allergies.get().note == "careful"
        assert Finding.objects.get(severity=3, allergy__code="nuts").remark == "täglich"
        assert Patient.objects.filter(allergies__code="nuts").get().number == 1

    def test_one_to_one(self) -> None:
        Address.objects.create(patient=self.patients[2], street="Weg 1", city="Davos")
        assert Patient.objects.select_related("address").get(number=2).address.street == "Weg 1"
        assert Patient.objects.filter(address__city="Davos").get().number == 2

    def test_tree_of_notes(self) -> None:
        top = Note.objects.create(patient=self.patients[0], text="top", at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))
        Note.objects.create(patient=self.patients[0], text="answer", parent=top)
        assert [n.text for n in top.answers.all()] == ["answer"]
        assert Note.objects.select_related("parent").get(parent=top).parent.at.year == 2024

    def test_subqueries(self) -> None:
        with_visits = Patient.objects.filter(
            Exists(Visit.objects.filter(patient=OuterRef("pk"), reason="Fieber"))
        )
        assert with_visits.count() == 9
        chosen = Patient.objects.filter(blood="B").values("pk")
        assert Visit.objects.filter(patient__in=chosen).count() == 6


class Aggregates(World):
    def test_aggregates_on_plain_columns(self) -> None:
        assert Visit.objects.aggregate(total=Sum("minutes"))["total"] == 550
        assert Patient.objects.filter(ssn="123-45-0004").aggregate(n=Count("visits"))["n"] == 1

    def test_annotate_counts(self) -> None:
        wards = Ward.objects.annotate(n=Count("patients")).order_by("name")
        assert [(w.name, w.n) for w in wards] == [("north", 12), ("south", 13)]
        busiest = Doctor.objects.annotate(n=Count("visits"), m=Sum("visits__minutes")).order_by("-n")
        assert [(d.licence, d.n, d.m) for d in busiest] == [("L-0", 13, 286), ("L-1", 12, 264)]

    def test_group_by_a_searchable_column(self) -> None:
        rows = Patient.objects.order_by().values_list("blood").annotate(n=Count("pk"))
        assert sorted(rows) == [("A", 7), ("AB", 6), ("B", 6), ("O", 6)]

    def test_count_of_a_protected_column(self) -> None:
        assert Patient.objects.aggregate(n=Count("born"))["n"] == 24
        assert Patient.objects.aggregate(n=Count("blood", distinct=True))["n"] == 4

    def test_distinct(self) -> None:
        assert sorted(Patient.objects.order_by().values_list("blood", flat=True).distinct()) == [
            "A",
            "AB",
            "B",
            "O",
        ]

    def test_union(self) -> None:
        one = Patient.objects.filter(number__lt=2).values_list("name", flat=True)
        other = Patient.objects.filter(number__in=[1, 2]).values_list("name", flat=True)
        assert sorted(one.union(other)) == ["Patient 0", "Patient 1", "Patient 2"]
        assert len(one.union(other, all=True)) == 4


class Writing(World):
    def test_save_changes_what_changed(self) -> None:
        patient = self.patients[3]
        patient.name, patient.born, patient.profile = "Änne", None, {}
        patient.save()
        patient.refresh_from_db()
        assert (patient.name, patient.born, patient.profile, patient.ssn) == ("Änne", None, {}, "123-45-0003")
        patient.history = "short"
        patient.save(update_fields=["history"])
        assert Patient.objects.get(history__isnull=False, number=3).history == "short"

    def test_update_of_a_queryset(self) -> None:
        assert Patient.objects.filter(blood="A").update(name="all", is_active=False) == 7
        assert Patient.objects.filter(name="all").count() == 7
        assert Visit.objects.filter(patient__number=1).update(minutes=F("minutes") + 5, report="ok") == 1
        assert Visit.objects.get(patient__number=1).minutes == 16

    def test_bulk_create_and_update(self) -> None:
        notes = Note.objects.bulk_create(
            [Note(patient=self.patients[n % 25], text=f"note {n}") for n in range(300)], batch_size=100
        )
        for note in notes:
            note.text = note.text.upper()
        assert Note.objects.bulk_update(notes[:60], ["text"], batch_size=25) == 60
        assert sorted(Note.objects.order_by("id").values_list("text", flat=True)[:2]) == ["NOTE 0", "NOTE 1"]

    def test_bulk_create_with_conflicts(self) -> None:
        again = [self.patient(n) for n in range(20, 30)]
        for each in again:
            each.name = "again"
        Patient.objects.bulk_create(
            again, update_conflicts=True, unique_fields=["number"], update_fields=["name"]
        )
        assert Patient.objects.filter(name="again").count() == 10
        Patient.objects.bulk_create([self.patient(0)], ignore_conflicts=True)
        assert Patient.objects.count() == 30

    def test_get_or_create_and_update_or_create(self) -> None:
        found, is_new = Patient.objects.get_or_create(ssn="123-45-0008", defaults={"number": 800, "name": "x"})
        assert (found.number, is_new) == (8, False)
        made, is_new = Patient.objects.update_or_create(number=900, defaults={"name": "new", "ssn": "1"})
        assert is_new and Patient.objects.get(ssn="1").pk == made.pk
        same, is_new = Patient.objects.update_or_create(number=900, defaults={"name": "newer"})
        assert not is_new and same.name == "newer"

    def test_deletes_cascade(self) -> None:
        visit = Visit.objects.get(patient__number=0)
        Prescription.objects.create(visit=visit, drug="Aspirin", dose=Decimal("0.500"), days=3)
        Payment.objects.create(visit=visit, amount=Decimal("9.99"), account="DE02", reference=uuid.UUID(int=5))
        assert Payment.objects.get(reference=uuid.UUID(int=5)).account == "DE02"
        assert Prescription.objects.get(drug="Aspirin").dose == Decimal("0.500")
        total, by_model = Patient.objects.filter(ssn="123-45-0000").delete()
        assert total == 4 and by_model["clinic.Payment"] == 1

    def test_savepoints_roll_back(self) -> None:
        with transaction.atomic():
            Patient.objects.filter(number=1).update(name="kept")
            try:
                with transaction.atomic():
                    Patient.objects.filter(number=1).update(name="lost")
                    self.patient(2).save()
            except IntegrityError as error:
                assert "123-45" not in str(error)
        assert Patient.objects.get(number=1).name == "kept"

    def test_select_for_update(self) -> None:
        with transaction.atomic():
            assert Patient.objects.select_for_update().get(ssn="123-45-0006").number == 6

    def test_signals_write_too(self) -> None:
        def seen(instance: Ward, **_: object) -> None:
            Trace.objects.create(what="ward", detail=f"saved {instance.name}")

        post_save.connect(seen, sender=Ward)
        try:
            Ward.objects.create(name="west")
        finally:
            post_save.disconnect(seen, sender=Ward)
        assert Trace.objects.get().detail == "saved west"

    def test_forms(self) -> None:
        form = PatientForm({"number": 77, "name": " Zoë ", "email": "z@x.example", "ssn": "9",
                            "born": "2000-02-29", "blood": "AB", "ward": self.north.pk})  # fmt: skip
        assert form.is_valid(), form.errors
        saved = form.save()
        assert Patient.objects.get(pk=saved.pk, born=dt.date(2000, 2, 29)).name == "Zoë"
        assert not PatientForm({"number": 77, "name": "x", "ssn": "1", "blood": "A"}).is_valid()
        bound = PatientForm(instance=saved)
        assert bound.initial["email"] == "z@x.example"


class Pages(World):
    def setUp(self) -> None:
        self.root = User.objects.create_superuser("root", "Root@Clinic.example", "secret")
        self.client = Client()
        assert self.client.login(username="root", password="secret")

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.status_code
        return answer.content.decode()

    def test_pagination(self) -> None:
        answer = self.client.get("/patients/", {"page": 3}).json()
        assert answer == {"names": [f"Patient {n}" for n in range(20, 25)], "pages": 3}

    def test_change_lists(self) -> None:
        assert "Patient 24" in self.page("/admin/clinic/patient/")
        assert "Patient 3<" in self.page("/admin/clinic/patient/?q=123-45-0003+3")
        assert "Patient 1<" in self.page(f"/admin/clinic/patient/?ward__id__exact={self.north.pk}&o=-1")
        assert "Doc0@clinic.example" in self.page("/admin/clinic/user/?q=doc")

    def test_change_page_saves(self) -> None:
        patient = self.patients[5]
        path = f"/admin/clinic/patient/{patient.pk}/change/"
        assert "123-45-0005" in self.page(path)
        fields = {"number": 5, "name": "Changed", "ssn": "5", "email": "", "born": "1999-12-31", "blood": "A",
                  "profile": '{"a": 1}', "history": "", "is_active": "on", "ward": self.north.pk, "doctors": [self.doctors[0].pk],
                  "visits-TOTAL_FORMS": 0, "visits-INITIAL_FORMS": 0}  # fmt: skip
        assert self.client.post(path, fields).status_code == 302
        assert Patient.objects.get(ssn="5").name == "Changed"
        assert "Changed" in self.page("/admin/")

    def test_delete_page(self) -> None:
        path = f"/admin/clinic/ward/{Ward.objects.create(name='empty').pk}/delete/"
        assert "Are you sure" in self.page(path)
        assert self.client.post(path, {"post": "yes"}).status_code == 302
        assert not Ward.objects.filter(name="empty").exists()

    def test_password_and_email_of_a_user(self) -> None:
        assert not Client().login(username="root", password="wrong")
        found = User.objects.get(email__iexact="ROOT@clinic.example")
        found.set_password("other")
        found.save()
        assert Client().login(username="root", password="other")


class Commands(TransactionTestCase):
    """Outside a transaction, as commands run."""

    available_apps = None

    def _fixture_teardown(self) -> None:
        Ward.objects.all().delete()
        Trace.objects.all().delete()

    def test_migrations_are_complete(self) -> None:
        said = io.StringIO()
        call_command("makemigrations", "--check", "--dry-run", stdout=said)
        call_command("migrate", stdout=said)
        assert "No migrations to apply" in said.getvalue()

    def test_transactions_commit_and_roll_back(self) -> None:
        Trace.objects.create(what="a", detail="kept")
        try:
            with transaction.atomic():
                Trace.objects.create(what="b", detail="lost")
                raise LookupError
        except LookupError:
            pass
        assert [t.detail for t in Trace.objects.all()] == ["kept"]

    def test_on_commit_runs_after_the_write(self) -> None:
        seen: list[int] = []
        with transaction.atomic():
            Trace.objects.create(what="c", detail="x")
            transaction.on_commit(lambda: seen.append(Trace.objects.count()))
        assert seen == [1]

    def test_dumpdata_and_loaddata(self) -> None:
        Trace.objects.create(what="d", detail="dümped")
        said = io.StringIO()
        call_command("dumpdata", "clinic.trace", stdout=said)
        assert "d\\u00fcmped" in said.getvalue() or "dümped" in said.getvalue()
