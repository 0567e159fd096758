"""Databases without rules are spliced: the same conversations, byte for byte, with no session in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden import CHUNKINGS, Stage
from tests.integration import test_golden_copy, test_golden_extended, test_golden_lifecycle, test_golden_simple
from tests.proxied import OnlySplices, running_proxy
from tests.wire_client import Endpoint

pytestmark = pytest.mark.wire

PARTS = (test_golden_simple, test_golden_extended, test_golden_copy, test_golden_lifecycle)
CASES = {name: playbook for part in PARTS for name, playbook in part.CASES.items()}
CASES |= test_golden_simple.WITHOUT_RULES


@pytest.fixture(scope="module")
def spliced(stage: Stage) -> Iterator[Endpoint]:
    """The golden traces' database by way of a proxy without rules."""
    with running_proxy(stage.server.port, OnlySplices) as port:
        yield Endpoint(port, stage.name)


@pytest.mark.parametrize("name", CASES)
def test_spliced_conversation_is_heard_as_directly(stage: Stage, spliced: Endpoint, name: str) -> None:
    """Every message of the server's arrives as the bytes it sent."""
    stage.compare(name, CASES[name], spliced, CHUNKINGS["random1"])
