"""The admin and one page of the clinic's own. One reason to change: its addresses."""

from django.contrib import admin
from django.urls import path

from clinic.views import patients

urlpatterns = [path("admin/", admin.site.urls), path("patients/", patients)]
