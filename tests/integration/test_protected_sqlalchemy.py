"""SQLAlchemy 2 over protected columns of every logical type, by psycopg and by asyncpg alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    LargeBinary,
    Numeric,
    String,
    Text,
    create_engine,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload

from tests.sealed import Sealed, sealed_database

RULES = """
version: 1
tenant: {from: fixed, name: clinic}
tables:
  public.patient:
    columns:
      name:     {type: text, search: {by: equality, scope: table}}
      nick:     {type: varchar(20)}
      age:      {type: int4, search: equality}
      visits:   {type: int8}
      weight:   {type: "numeric(6,2)"}
      pulse:    {type: float8}
      insured:  {type: bool}
      born:     {type: date}
      seen:     {type: timestamp}
      admitted: {type: timestamptz}
      number:   {type: uuid, mode: deterministic, accept_leakage: "numbers are public"}
      letter:   {type: json}
      profile:  {type: jsonb}
      photo:    {type: bytea}
      notes:    {type: text, storage: text, pad: 64}
  public.visit:
    columns:
      reason: {type: text}
roles:
  default: {read: deny}
  app: {read: plain}
"""
SEALED = ("name", "nick", "age", "visits", "weight", "pulse", "insured", "born", "seen", "admitted", "number",
          "letter", "profile", "photo")  # fmt: skip


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    ward: Mapped[str | None]
    name: Mapped[str] = mapped_column(Text)
    nick: Mapped[str | None] = mapped_column(String(20))
    age: Mapped[int | None]
    visits: Mapped[int | None] = mapped_column(BigInteger)
    weight: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
    pulse: Mapped[float | None] = mapped_column(Double)
    insured: Mapped[bool | None]
    born: Mapped[dt.date | None]
    seen: Mapped[dt.datetime | None]
    admitted: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    number: Mapped[uuid.UUID | None]
    letter: Mapped[Any | None] = mapped_column(JSON)
    profile: Mapped[Any | None] = mapped_column(JSONB)
    photo: Mapped[bytes | None] = mapped_column(LargeBinary)
    notes: Mapped[str | None] = mapped_column(Text)
    visited: Mapped[list[Visit]] = relationship(back_populates="patient", cascade="all, delete-orphan")


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"))
    reason: Mapped[str | None] = mapped_column(Text)
    patient: Mapped[Patient] = relationship(back_populates="visited")


VALUES: dict[str, Any] = {
    "name": "Zoë O'Brien \\ 🐘",
    "nick": "",
    "age": -42,
    "visits": 2**62,
    "weight": Decimal("-1234.50"),
    "pulse": 0.1 + 0.2,
    "insured": False,
    "born": dt.date(1957, 12, 10),
    "seen": dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
    "admitted": dt.datetime(2024, 2, 29, 23, 59, 59, tzinfo=dt.UTC),
    "number": uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "letter": {"to": ["Ärztin", None], "n": 1.5},
    "profile": {"blood": "A+", "risk": [1, 2, {"deep": True}]},
    "photo": bytes(range(256)),
    "notes": "x" * 5000,
}
MIGHTY = {"name": "Ada", "age": 36, "number": uuid.UUID(int=7), "notes": "n"}


# --- the checks ----------------------------------------------------------------------------------------


def an_object_of_all_types_is_written_and_read(session: Session) -> None:
    session.add(Patient(**VALUES))
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Patient)).one()
    for name, value in VALUES.items():
        read = getattr(found, name)
        assert read == value, name
        assert isinstance(read, type(value)), name


def nulls_and_defaults_are_written_and_read(session: Session) -> None:
    session.add(Patient(name="only"))
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Patient)).one()
    assert [getattr(found, name) for name in VALUES if name != "name"] == [None] * 14
    assert session.scalar(select(func.count(Patient.age))) == 0
    assert session.scalar(select(func.count()).where(Patient.age.is_(None))) == 1


def many_objects_are_flushed_in_bulk(session: Session) -> None:
    session.add_all(Patient(name=f"p{n}", age=n % 10, born=dt.date(2000, 1, 1 + n % 28)) for n in range(700))
    session.commit()
    assert session.scalars(select(Patient.name).order_by(Patient.id)).all() == [f"p{n}" for n in range(700)]


def rows_are_inserted_in_bulk_with_returning(session: Session) -> None:
    rows = [{**VALUES, "age": n} for n in range(300)]
    statement = insert(Patient).returning(Patient.id, Patient.age, Patient.name, sort_by_parameter_order=True)
    answer = session.execute(statement, rows).all()
    assert [row.age for row in answer] == list(range(300))
    assert {row.name for row in answer} == {VALUES["name"]}
    session.execute(insert(Patient), rows[:50])
    assert session.scalar(select(func.count()).select_from(Patient)) == 350


def equality_finds_objects(session: Session) -> None:
    session.add_all([Patient(**VALUES), Patient(**MIGHTY)])
    session.commit()
    assert session.scalars(select(Patient).filter_by(name="Ada")).one().age == 36
    assert session.scalars(select(Patient.age).where(Patient.name == VALUES["name"])).all() == [-42]
    assert session.scalars(select(Patient.name).where(Patient.age.in_([36, 37]))).all() == ["Ada"]
    assert session.scalars(select(Patient.name).where(Patient.number == VALUES["number"])).one() == VALUES["name"]
    assert session.scalars(select(Patient.name).where(Patient.name != "Ada", Patient.age != 5)).all() == [
        VALUES["name"]
    ]
    assert session.scalars(select(Patient.id).where(tuple_(Patient.name, Patient.age) == ("Ada", 35))).all() == []
    assert session.scalar(select(Patient.id).where(Patient.name == "ada")) is None
    same = session.execute(select(Patient.age, func.count()).group_by(Patient.age)).all()
    assert sorted(map(tuple, same)) == [(-42, 1), (36, 1)]


def objects_are_changed_and_deleted(session: Session) -> None:
    session.add_all([Patient(**VALUES), Patient(**MIGHTY)])
    session.commit()
    ada = session.scalars(select(Patient).where(Patient.name == "Ada")).one()
    ada.notes, ada.weight, ada.born = "changed", Decimal("61.00"), None
    session.commit()
    session.refresh(ada)
    assert (ada.notes, ada.weight, ada.born) == ("changed", Decimal("61.00"), None)
    changed = session.execute(
        update(Patient).where(Patient.age == 36).values(nick="countess").returning(Patient.nick, Patient.name)
    )
    assert changed.all() == [("countess", "Ada")]
    session.execute(update(Patient), [{"id": ada.id, "nick": "A", "age": 37}])
    session.expire_all()
    assert (ada.nick, ada.age) == ("A", 37)
    assert session.execute(delete(Patient).where(Patient.name == VALUES["name"])).rowcount == 1
    session.delete(ada)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Patient)) == 0


def conflicts_update(session: Session) -> None:
    session.execute(insert(Patient).values(id=1, **MIGHTY))
    again = upsert(Patient).values(id=1, name="Augusta", age=37)
    session.execute(
        again.on_conflict_do_update(index_elements=["id"], set_={"name": again.excluded.name, "nick": "lady"})
    )
    assert session.execute(select(Patient.name, Patient.nick, Patient.age)).all() == [("Augusta", "lady", 36)]


def relationships_load_both_ways(session: Session) -> None:
    visits = [Visit(reason="cough"), Visit(reason=None)]
    session.add(Patient(**MIGHTY, visited=visits))
    session.add(Patient(name="none", visited=[]))
    session.commit()
    session.expunge_all()
    ada = session.scalars(
        select(Patient).where(Patient.name == "Ada").options(selectinload(Patient.visited))
    ).one()
    assert [visit.reason for visit in ada.visited] == ["cough", None]
    session.expunge_all()
    joined = session.scalars(select(Visit).options(joinedload(Visit.patient)).order_by(Visit.id)).all()
    assert [(visit.reason, visit.patient.name) for visit in joined] == [("cough", "Ada"), (None, "Ada")]
    rows = session.execute(select(Patient.name, Visit.reason).outerjoin(Visit).order_by(Patient.id, Visit.id))
    assert rows.all() == [("Ada", "cough"), ("Ada", None), ("none", None)]
    session.delete(joined[0].patient)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Visit)) == 0


def rollbacks_undo(session: Session) -> None:
    session.add(Patient(id=1000, ward="a", **MIGHTY))
    session.commit()
    session.add(Patient(name="never"))
    session.flush()
    session.rollback()
    with pytest.raises(DBAPIError) as raised, session.begin_nested():
        session.execute(insert(Patient).values(id=1000, name="twice"))
    assert "twice" not in str(raised.value.orig)
    session.execute(insert(Patient).values(name="inside", ward="b"))
    session.commit()
    assert session.scalars(select(Patient.name).order_by(Patient.ward)).all() == ["Ada", "inside"]


def what_cannot_be_proved_is_refused(session: Session) -> None:
    statements = [
        select(Patient.id).where(Patient.name.like("A%")),
        select(Patient.id).order_by(Patient.name),
        select(func.max(Patient.age)),
        select(Patient.id).where(Patient.nick == "A"),
        select(func.lower(Patient.name)),
        select(Patient.profile["blood"].astext),
    ]
    for statement in statements:
        with pytest.raises(DBAPIError) as raised:
            session.execute(statement)
        assert sqlstate(raised.value) == "PS001", statement
        session.rollback()


def sqlstate(error: DBAPIError) -> str:
    cause: Any = error.orig
    return str(getattr(cause, "sqlstate", None) or getattr(cause.__cause__, "sqlstate", ""))


CHECKS: tuple[Callable[[Session], None], ...] = (
    an_object_of_all_types_is_written_and_read,
    nulls_and_defaults_are_written_and_read,
    many_objects_are_flushed_in_bulk,
    rows_are_inserted_in_bulk_with_returning,
    equality_finds_objects,
    objects_are_changed_and_deleted,
    conflicts_update,
    relationships_load_both_ways,
    rollbacks_undo,
    what_cannot_be_proved_is_refused,
)


# --- the two dialects ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ByPsycopg:
    sealed: Sealed

    def run(self, check: Callable[[Session], None]) -> None:
        engine = create_engine(self.sealed.dsn().replace("postgresql:", "postgresql+psycopg:"))
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            check(session)
        engine.dispose()


@dataclass(frozen=True, slots=True)
class ByAsyncpg:
    sealed: Sealed

    def run(self, check: Callable[[Session], None]) -> None:
        asyncio.run(self._run(check))

    async def _run(self, check: Callable[[Session], None]) -> None:
        dsn = self.sealed.dsn().replace("postgresql:", "postgresql+asyncpg:")
        engine = create_async_engine(f"{dsn}?ssl=disable")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(check)
        await engine.dispose()


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES) as made:
        yield made


@pytest.mark.parametrize("dialect", [ByPsycopg, ByAsyncpg], ids=["psycopg", "asyncpg"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sqlalchemy_session_over_protected_tables_behaves_as_on_plain_ones(sealed, check, dialect):
    """create_all makes protected tables; what the ORM then does is what the check's name says."""
    dialect(sealed).run(check)


@pytest.mark.parametrize("dialect", [ByPsycopg, ByAsyncpg], ids=["psycopg", "asyncpg"])
def test_sqlalchemy_objects_read_directly_are_envelopes(sealed, dialect):
    """What the session wrote stands in the table as cells of the physical type, NULL as NULL."""
    dialect(sealed).run(
        lambda session: (session.add_all([Patient(**VALUES), Patient(name="x")]), session.commit())
    )
    full, empty = sealed.stored(f"SELECT {', '.join(SEALED)}, notes FROM patient ORDER BY id")
    assert all(isinstance(cell, bytes) and cell[:3] == b"\xa6\x0b\x35" for cell in full[:-1])
    assert full[-1].startswith("pgs1")
    assert [cell is None for cell in empty] == [name != "name" for name in (*SEALED, "notes")]


def test_create_all_of_existing_protected_tables_changes_nothing(sealed):
    """checkfirst finds the tables that it made."""
    ByPsycopg(sealed).run(lambda session: Base.metadata.create_all(session.connection()))
    guards = "SELECT count(*) FROM pg_constraint WHERE conname ~ '^pgseal_' AND contype = 'c' AND convalidated"
    assert sealed.stored(guards) == [(len(SEALED) + 2,)]
