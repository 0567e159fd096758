"""A dozen related models of a clinic; rules.yaml says which of their columns are protected.

One reason to change: what the clinic keeps.
"""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Staff; e-mail and names are protected."""

    phone = models.CharField(max_length=30, blank=True)


class Ward(models.Model):
    name = models.CharField(max_length=60, unique=True)
    beds = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Doctor(models.Model):
    user = models.OneToOneField(User, on_delete=models.CASCADE)
    ward = models.ForeignKey(Ward, on_delete=models.PROTECT, related_name="doctors")
    licence = models.CharField(max_length=20)
    salary = models.DecimalField(max_digits=10, decimal_places=2, null=True)


class Allergy(models.Model):
    code = models.CharField(max_length=10, unique=True)
    note = models.TextField(blank=True)


class Patient(models.Model):
    class Blood(models.TextChoices):
        A = "A", "A"
        B = "B", "B"
        AB = "AB", "AB"
        O = "O", "0"  # noqa: E741

    number = models.IntegerField(unique=True)
    ward = models.ForeignKey(Ward, on_delete=models.SET_NULL, null=True, related_name="patients")
    doctors = models.ManyToManyField(Doctor, related_name="patients")
    allergies = models.ManyToManyField(Allergy, through="Finding")
    name = models.CharField(max_length=120)
    email = models.EmailField(blank=True)
    ssn = models.CharField(max_length=11)
    born = models.DateField(null=True)
    blood = models.CharField(max_length=2, choices=Blood.choices, default=Blood.O)
    profile = models.JSONField(default=dict)
    history = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Finding(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    allergy = models.ForeignKey(Allergy, on_delete=models.CASCADE)
    severity = models.IntegerField()
    remark = models.TextField(blank=True)


class Address(models.Model):
    patient = models.OneToOneField(Patient, on_delete=models.CASCADE, related_name="address")
    street = models.CharField(max_length=120)
    city = models.CharField(max_length=60)


class Visit(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="visits")
    doctor = models.ForeignKey(Doctor, on_delete=models.PROTECT, related_name="visits")
    day = models.DateField()
    reason = models.CharField(max_length=200)
    report = models.TextField(null=True)
    minutes = models.IntegerField(default=15)


class Prescription(models.Model):
    visit = models.ForeignKey(Visit, on_delete=models.CASCADE, related_name="prescriptions")
    drug = models.CharField(max_length=80)
    dose = models.DecimalField(max_digits=8, decimal_places=3)
    days = models.IntegerField()


class Payment(models.Model):
    visit = models.ForeignKey(Visit, on_delete=models.CASCADE, related_name="payments")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    account = models.CharField(max_length=34)
    reference = models.UUIDField(null=True)


class Note(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="notes")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="answers")
    text = models.TextField()
    at = models.DateTimeField(null=True)


class Trace(models.Model):
    """What the signals saw."""

    what = models.CharField(max_length=40)
    detail = models.TextField()
