"""A page of patients. One reason to change: what it shows."""

from django.core.paginator import Paginator
from django.http import HttpRequest, JsonResponse

from clinic.models import Patient


def patients(request: HttpRequest) -> JsonResponse:
    """Ten patients a page, in the order of their numbers."""
    page = Paginator(Patient.objects.order_by("number"), 10).get_page(request.GET.get("page"))
    return JsonResponse({"names": [each.name for each in page], "pages": page.paginator.num_pages})
