"""The admin, searched and ordered by plain columns. One reason to change: its pages."""

from django.contrib import admin

from clinic.models import Patient, User, Visit, Ward


class VisitInline(admin.TabularInline):
    model = Visit
    extra = 0


@admin.register(Patient)
class PatientAdmin(admin.ModelAdmin):
    list_display = ("number", "name", "email", "ward")
    list_filter = ("is_active", "ward")
    list_select_related = ("ward",)
    ordering = ("number",)
    search_fields = ("=number", "ssn__exact")
    inlines = (VisitInline,)


@admin.register(Ward)
class WardAdmin(admin.ModelAdmin):
    search_fields = ("name",)


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    list_display = ("username", "email", "first_name")
    search_fields = ("username",)
    ordering = ("username",)
