"""SQLAlchemy 2 and Django through the proxy over plain tables."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, LargeBinary, Numeric, create_engine, func, insert, inspect, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

pytestmark = pytest.mark.wire


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    born: Mapped[datetime.date | None]
    portrait: Mapped[bytes | None] = mapped_column(LargeBinary)
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
def engine(plain):
    engine = create_engine(f"postgresql+psycopg://postgres@{plain.host}:{plain.port}/{plain.database}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_sqlalchemy_maps_reads_changes_and_deletes(engine):
    """The unit of work, relationships and eager loading."""
    with Session(engine) as session:
        book = Book(title="Cosmicomics", price=Decimal("9.50"))
        session.add(Author(name="Calvino", born=datetime.date(1923, 10, 15), portrait=b"\0\1", books=[book]))
        session.add_all(Author(name=f"a{n}") for n in range(300))
        session.commit()
    with Session(engine) as session:
        author = session.scalars(
            select(Author).where(Author.name == "Calvino").options(selectinload(Author.books))
        ).one()
        assert (author.born.year, author.portrait, author.books[0].price) == (1923, b"\0\1", Decimal("9.50"))
        author.books[0].price = Decimal("10")
        session.flush()
        session.delete(author)
        session.commit()
        assert session.scalar(select(func.count()).select_from(Author)) == 300
        assert session.scalar(select(func.count()).select_from(Book)) == 0


def test_sqlalchemy_inserts_many_upserts_and_streams(engine):
    """Bulk INSERT with RETURNING, ON CONFLICT, and a server-side cursor."""
    with engine.begin() as connection:
        rows = [{"name": f"n{n}"} for n in range(2500)]
        assert len(connection.execute(insert(Author).returning(Author.id), rows).all()) == 2500
        again = upsert(Author).values(name="n1", born=datetime.date(2000, 1, 1))
        connection.execute(
            again.on_conflict_do_update(index_elements=["name"], set_={"born": again.excluded.born})
        )
        streamed = connection.execution_options(stream_results=True, yield_per=100).execute(select(Author.name))
        assert sum(1 for _ in streamed) == 2500


def test_sqlalchemy_savepoint_survives_an_integrity_error(engine):
    """begin_nested rolls back to its savepoint."""
    with Session(engine) as session:
        session.add(Author(name="one"))
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Author(name="one"))
            session.flush()
        session.add(Author(name="two"))
        session.commit()
        assert session.scalars(select(Author.name).order_by(Author.name)).all() == ["one", "two"]


def test_sqlalchemy_reflects_the_schema(engine):
    """The inspector's catalog queries answer as directly."""
    inspector = inspect(engine)
    assert set(inspector.get_table_names()) == {"author", "book"}
    assert [c["name"] for c in inspector.get_columns("book")] == ["id", "title", "price", "author_id"]
    assert inspector.get_foreign_keys("book")[0]["referred_table"] == "author"


async def test_sqlalchemy_async_over_asyncpg(plain):
    """The async engine with prepared statements of its own."""
    engine = create_async_engine(
        f"postgresql+asyncpg://postgres@{plain.host}:{plain.port}/{plain.database}?ssl=disable"
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Author), [{"name": "x"}, {"name": "y"}])
        assert (await connection.execute(text("SELECT count(*) FROM author"))).scalar() == 2
    await engine.dispose()


DJANGO = Path(__file__).parent / "drivers" / "django_plain.py"


def test_django_migrates_and_works_over_plain_tables(plain):
    """migrate, create_superuser, queries, transactions, iterators and introspection, in a process of its own."""
    command = [sys.executable, str(DJANGO), plain.host, str(plain.port), plain.database]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "all checks held"
