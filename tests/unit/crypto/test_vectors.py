"""Every vector of docs/envelope.md, by the code and by the document's own program."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.crypto import derive
from proxy.crypto.blind_index import IndexTokens
from proxy.crypto.derive import Place
from proxy.crypto.envelope import describe, from_text, key_id_of, to_text
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import CellNotOpen
from tests.vectors import program, vectors

PAGE = vectors("envelope.md")
REALM = bytes.fromhex(PAGE["realm"])
DEKS = {entry["key_id"]: bytes.fromhex(entry["dek"]) for entry in PAGE["deks"]}
OWNER = {entry["key_id"]: entry["tenant"] for entry in PAGE["deks"]}
CELLS = [pytest.param(cell, id=cell["name"].replace(" ", "-")) for cell in PAGE["cells"]]
Cell = dict[str, Any]


def aad_place(cell: Cell) -> Place:
    """Place of the cell itself: a deterministic cell belongs to its key's owner."""
    tenant = OWNER[cell["key_id"]] if cell["mode"] == "deterministic" else cell["tenant"]
    return Place(REALM, tenant, cell["context"], cell["family"], "t.c")


def cells_of(cell: Cell) -> RandomisedCells | DeterministicCells:
    """The object that seals and opens the vector's cell."""
    kind = DeterministicCells if cell["mode"] == "deterministic" else RandomisedCells
    key_id = cell["key_id"]
    return kind(aad_place(cell), DEKS[key_id], key_id, index_version=cell["index_version"], pad=cell["pad"])


def bound(cell: Cell) -> tuple[bytes, ...]:
    """The bound values of a vector."""
    return tuple(bytes.fromhex(value) for value in cell["bound"])


@pytest.mark.parametrize("cell", CELLS)
def test_cell_key_from_document_is_derived(cell: Cell) -> None:
    """Info bytes and the derived key of the cells are those of the document."""
    place = aad_place(cell)
    if cell["mode"] == "deterministic":
        key, info = (
            derive.deterministic_key(DEKS[cell["key_id"]], place),
            derive.info("index", "2", place, "exact"),
        )
    else:
        key, info = derive.randomised_key(DEKS[cell["key_id"]], place), derive.info("data", "1", place, "")
    assert info.hex() == cell["cell_info"]
    assert key.hex() == cell["cell_key"]


@pytest.mark.parametrize("cell", CELLS)
def test_aad_start_from_document_is_prefix(cell: Cell) -> None:
    """The associated data begins as the document says."""
    assert cell["aad"].startswith(derive.aad_start(aad_place(cell)).hex())


@pytest.mark.parametrize("cell", CELLS)
def test_seal_with_given_nonce_gives_the_envelope(cell: Cell) -> None:
    """Sealing the display form gives exactly the document's bytes."""
    cells, display = cells_of(cell), bytes.fromhex(cell["display"])
    token = bytes.fromhex(cell["token"]) if cell["token"] else None
    if isinstance(cells, RandomisedCells):
        sealed = cells.seal(display, token, bound(cell), bytes.fromhex(cell["nonce"]))
    else:
        sealed = cells.seal(display, None, ())
        assert cells.token(display) == sealed
    assert sealed.hex() == cell["envelope"]


@pytest.mark.parametrize("cell", CELLS)
def test_open_of_the_envelope_gives_the_display_form(cell: Cell) -> None:
    """Opening the document's bytes gives the display form, in both storages."""
    envelope = bytes.fromhex(cell["envelope"])
    assert cells_of(cell).open(envelope, bound(cell)).hex() == cell["display"]
    assert to_text(envelope).decode() == cell["text"]
    assert from_text(cell["text"].encode()) == envelope


@pytest.mark.parametrize("cell", CELLS)
def test_describe_of_the_envelope_tells_its_fields(cell: Cell) -> None:
    """What an envelope says of itself agrees with the vector."""
    described = describe(bytes.fromhex(cell["envelope"]))
    assert described.key_id == cell["key_id"]
    assert described.index_version == cell["index_version"]
    assert (described.token.hex() if described.token else None) == cell["token"]
    assert described.suite == (2 if cell["mode"] == "deterministic" else 1)
    assert "token" not in repr(described)


@pytest.mark.parametrize("cell", [p for p in CELLS if p.values[0]["token"]])  # type: ignore[index,call-overload]
def test_token_of_the_equality_form_is_the_documents(cell: Cell) -> None:
    """Tokens and their derived key are those of the document."""
    place = Place(REALM, "not used", cell["context"], cell["family"], "t.c")
    dek = DEKS[cell["index_key_id"]]
    assert derive.info("index", "token", place, cell["compare"]).hex() == cell["token_info"]
    assert derive.token_key(dek, place, cell["compare"]).hex() == cell["token_key"]
    tokens = IndexTokens(place, dek, cell["compare"])
    assert tokens.token(bytes.fromhex(cell["equality"])).hex() == cell["token"]


@pytest.mark.parametrize("entry", PAGE["not_headers"], ids=lambda e: e["why"].replace(" ", "-"))
def test_key_id_of_malformed_header_does_not_open(entry: Cell) -> None:
    """Headers the document calls malformed have no key id."""
    with pytest.raises(CellNotOpen, match=r"^cell does not open$"):
        key_id_of(bytes.fromhex(entry["value"]))


@pytest.mark.parametrize("entry", PAGE["not_text"], ids=lambda e: e["why"].replace(" ", "-"))
def test_from_text_of_another_spelling_does_not_open(entry: Cell) -> None:
    """A text cell has one spelling; every other one is refused."""
    with pytest.raises(CellNotOpen, match=r"^cell does not open$"):
        from_text(entry["value"].encode())


@pytest.mark.parametrize("cell", CELLS)
def test_program_of_the_document_opens_every_cell(cell: Cell) -> None:
    """The stand-alone program opens each vector from dump, realm and data key."""
    room: dict[str, Any] = {}
    exec(compile(program("envelope.md"), "envelope.md", "exec"), room)
    envelope = room["from_text"](cell["text"])
    dek = DEKS[room["key_id_of"](envelope)]
    place = aad_place(cell)
    opened = room["open_cell"](envelope, dek, REALM, place.tenant, place.context, place.family, bound(cell))
    assert opened.hex() == cell["display"]
