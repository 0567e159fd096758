"""What the shop does with its models; the same with and without protection."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Iterator
from decimal import Decimal

import pytest
from models import (
    Account,
    Article,
    Base,
    Clerk,
    Customer,
    Event,
    Level,
    Line,
    Order,
    Person,
    Region,
    Review,
    Shipment,
    Supplier,
    Tag,
)
from sqlalchemy import (
    Engine,
    bindparam,
    case,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, contains_eager, joinedload, selectinload, subqueryload

DSN = f"postgresql+psycopg://postgres@127.0.0.1:{os.environ['APP_PORT']}/{os.environ['APP_DATABASE']}"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    made = create_engine(DSN)
    Base.metadata.create_all(made)
    with Session(made) as session:
        regions = [Region(name="east"), Region(name="west")]
        session.add_all(customer(n, regions[n % 2]) for n in range(20))
        tags = [Tag(name="new"), Tag(name="old")]
        session.add_all(
            Article(code=f"a{n}", cost=Decimal(n) + Decimal("0.99"), tags=tags[: n % 3]) for n in range(6)
        )
        session.flush()
        codes = dict(session.execute(select(Article.code, Article.id)).all())
        for each in session.scalars(select(Customer).where(Customer.number < 5)):
            lines = [Line(article_id=codes[f"a{n}"], n=n + 1, price=Decimal("1.50")) for n in range(3)]
            each.orders.append(
                Order(placed=dt.datetime(2024, 2, 29, 1, 2, 3, 4), address="Straße 1\nBern", lines=lines)
            )
        session.commit()
    yield made
    made.dispose()


def customer(n: int, region: Region) -> Customer:
    account = Account(iban=f"DE{n:020}", key=uuid.UUID(int=n)) if n % 2 else None
    return Customer(number=n, region=region, name=f"Customer {n}", email=f"C{n}@Shop.example", account=account,
                    born=dt.date(1970, 1, 1 + n) if n else None, level=Level.GOLD if n % 4 == 0 else Level.TIN,
                    points=n * 10, profile={"n": n, "deep": [None, "é"]})  # fmt: skip


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Everything a check does is undone."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as made:
            yield made
        outer.rollback()


def one(session: Session, number: int) -> Customer:
    return session.scalars(select(Customer).where(Customer.number == number)).one()


def test_values_come_back_as_they_were(session: Session) -> None:
    found = one(session, 3)
    assert (found.name, found.email, found.born) == ("Customer 3", "C3@Shop.example", dt.date(1970, 1, 4))
    assert (found.level, found.profile) == (Level.TIN, {"n": 3, "deep": [None, "é"]})
    assert found.account is not None and found.account.key == uuid.UUID(int=3)
    assert session.scalars(select(Order.placed).limit(1)).one() == dt.datetime(2024, 2, 29, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        (Customer.name == "Customer 7", 1),
        (Customer.name == "customer 7", 0),
        (Customer.name != "Customer 7", 19),
        (Customer.name.in_(["Customer 1", "Customer 2", "no"]), 2),
        (Customer.name.not_in(["Customer 1"]), 19),
        (func.lower(Customer.email) == func.lower("c4@SHOP.example"), 1),
        (Customer.email.ilike("c4@SHOP.example"), 1),
        (Customer.born == dt.date(1970, 1, 6), 1),
        (Customer.born.is_(None), 1),
        (Customer.level == Level.GOLD, 5),
        (Customer.level.is_distinct_from(Level.GOLD), 15),
        ((Customer.level == Level.GOLD) & (Customer.points > 50), 3),
        ((Customer.name == "Customer 1") | (Customer.number == 2), 2),
        (~(Customer.name == "Customer 1"), 19),
        (Customer.account.has(Account.key == uuid.UUID(int=5)), 1),
        (Customer.orders.any(), 5),
        (exists().where(Account.customer_id == Customer.id, Account.iban == f"DE{9:020}"), 1),
    ],
    ids=str,
)
def test_filters(session: Session, condition: object, count: int) -> None:
    assert session.scalar(select(func.count()).select_from(Customer).where(condition)) == count


def test_order_limit_and_pages(session: Session) -> None:
    page = select(Customer.name).order_by(Customer.number.desc()).limit(3).offset(4)
    assert session.scalars(page).all() == ["Customer 15", "Customer 14", "Customer 13"]


@pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload])
def test_relationships_are_loaded(session: Session, load: object) -> None:
    found = session.scalars(
        select(Order).options(load(Order.customer), load(Order.lines).joinedload(Line.article)).order_by(Order.id)
    ).unique().all()  # fmt: skip
    assert [each.customer.name for each in found] == [f"Customer {n}" for n in range(5)]
    assert [line.article.cost for line in found[0].lines] == [Decimal(f"{n}.99") for n in range(3)]


def test_contains_eager_and_aliases(session: Session) -> None:
    place = aliased(Region)
    found = session.scalars(
        select(Customer).join(Customer.region.of_type(place)).where(place.name == "east", Customer.level == Level.GOLD)
        .options(contains_eager(Customer.region.of_type(place))).order_by(Customer.number)
    ).all()  # fmt: skip
    assert [each.number for each in found] == [0, 4, 8, 12, 16]


def test_many_to_many(session: Session) -> None:
    article = session.scalars(select(Article).where(Article.code == "a2")).one()
    assert sorted(tag.name for tag in article.tags) == ["new", "old"]
    article.tags.pop()
    session.flush()
    session.expire_all()
    assert len(article.tags) == 1 and article.cost == Decimal("2.99")


def test_aggregates_and_groups(session: Session) -> None:
    assert session.execute(select(func.sum(Customer.points), func.count(Customer.born))).one() == (1900, 19)
    levels = select(Customer.level, func.count(), func.max(Customer.points)).group_by(Customer.level)
    assert sorted((each[0].name, *each[1:]) for each in session.execute(levels)) == [
        ("GOLD", 5, 160),
        ("TIN", 15, 190),
    ]
    joined = (
        select(Region.name, func.count(Customer.id)).join(Customer).group_by(Region.name).order_by(Region.name)
    )
    assert [tuple(each) for each in session.execute(joined)] == [("east", 10), ("west", 10)]
    having = select(Customer.level).group_by(Customer.level).having(func.count() > 5)
    assert session.scalars(having).all() == [Level.TIN]


def test_distinct_union_cte_and_case(session: Session) -> None:
    assert set(session.scalars(select(Customer.level).distinct())) == {Level.GOLD, Level.TIN}
    few = select(Customer.name).where(Customer.number < 2)
    assert sorted(session.scalars(few.union(few))) == ["Customer 0", "Customer 1"]
    assert len(session.scalars(few.union_all(few)).all()) == 4
    gold = select(Customer.id, Customer.name).where(Customer.level == Level.GOLD).cte("gold")
    assert session.scalar(select(func.count()).select_from(gold).where(gold.c.name == "Customer 4")) == 1
    shown = case((Customer.points > 100, Customer.name), else_=None)
    assert session.scalars(select(shown).where(Customer.number.in_([1, 11])).order_by(Customer.number)).all() == [
        None, "Customer 11"]  # fmt: skip
    rank = func.row_number().over(partition_by=Customer.level, order_by=Customer.number)
    rows = session.execute(select(Customer.name, rank).order_by(Customer.number).limit(2)).all()
    assert [tuple(each) for each in rows] == [("Customer 0", 1), ("Customer 1", 1)]


def test_objects_are_changed(session: Session) -> None:
    found = one(session, 6)
    found.name, found.born, found.level, found.profile = "Ünal", None, Level.GOLD, None
    session.commit()
    session.expire_all()
    assert (found.name, found.born, found.level, found.profile) == ("Ünal", None, Level.GOLD, None)


def test_bulk_statements(session: Session) -> None:
    rows = [
        {"number": 100 + n, "name": f"bulk {n}", "email": "b@x", "born": dt.date(1800, 1, 1)} for n in range(150)
    ]
    made = session.execute(
        insert(Customer).returning(Customer.number, Customer.name, sort_by_parameter_order=True), rows
    )
    assert [each.name for each in made] == [f"bulk {n}" for n in range(150)]
    session.execute(update(Customer).where(Customer.born == dt.date(1800, 1, 1)).values(level=Level.GOLD))
    assert session.scalar(select(func.count()).where(Customer.level == Level.GOLD)) == 155
    statement = update(Customer).where(Customer.number == bindparam("key")).values(name=bindparam("new"))
    session.connection().execute(statement, [{"key": 100 + n, "new": "renamed"} for n in range(5)])
    assert session.scalar(select(func.count()).where(Customer.name == "renamed")) == 5
    gone = session.execute(delete(Customer).where(Customer.born == dt.date(1800, 1, 1)).returning(Customer.name))
    assert len(gone.all()) == 150


def test_upserts(session: Session) -> None:
    statement = upsert(Customer).values(number=1, name="again", email="e", points=1)
    excluded = {"name": statement.excluded.name, "email": statement.excluded.email}
    session.execute(statement.on_conflict_do_update(index_elements=["number"], set_=excluded))
    assert (one(session, 1).name, one(session, 1).points) == ("again", 10)
    session.execute(upsert(Customer).values(number=1, name="no", email="e").on_conflict_do_nothing())
    assert one(session, 1).name == "again"


def test_deletes_cascade(session: Session) -> None:
    session.delete(one(session, 3))
    session.flush()
    assert session.scalar(select(func.count()).select_from(Line)) == 12
    assert session.scalar(select(func.count()).select_from(Account)) == 9


def test_nested_transactions(session: Session) -> None:
    session.add(Event(what="kept", raw=b"\x00\xff"))
    session.flush()
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(insert(Customer).values(number=1, name="twice", email="e"))
    with session.begin_nested() as inner:
        session.add(Event(what="lost"))
        session.flush()
        inner.rollback()
    assert session.execute(select(Event.what, Event.raw)).all() == [("kept", b"\x00\xff")]


def test_inheritance_and_self_reference(session: Session) -> None:
    boss = Clerk(name="Boss", salary=9000)
    session.add_all(
        [Clerk(name="Ann", salary=100, boss=boss), Supplier(name="Zed", company="Zed & Co", boss=boss)]
    )
    session.flush()
    session.expire_all()
    assert session.scalars(select(Clerk).where(Clerk.name == "Ann")).one().salary == 100
    assert session.scalars(select(Supplier)).one().company == "Zed & Co"
    chief = aliased(Person)
    below = (
        select(Person.name)
        .join(chief, Person.boss_id == chief.id)
        .where(chief.name == "Boss")
        .order_by(Person.id)
    )
    assert session.scalars(below).all() == ["Ann", "Zed"]


def test_text_statements(session: Session) -> None:
    found = session.execute(
        text("SELECT name, born FROM shop_customer WHERE name = :name"), {"name": "Customer 2"}
    )
    assert [tuple(each) for each in found] == [("Customer 2", dt.date(1970, 1, 3))]


def test_streaming(session: Session) -> None:
    rows = session.scalars(select(Customer.name).order_by(Customer.number).execution_options(yield_per=3))
    assert list(rows) == [f"Customer {n}" for n in range(20)]


def test_other_tables(session: Session) -> None:
    order = session.scalars(select(Order).limit(1)).one()
    session.add(Shipment(order_id=order.id, recipient="Frau Ä"))
    article = session.scalars(select(Article).limit(1)).one()
    session.add(Review(article_id=article.id, customer_id=order.customer_id, text="good " * 500, stars=5))
    session.flush()
    session.expire_all()
    assert session.scalars(select(Shipment.recipient)).one() == "Frau Ä"
    assert session.scalars(select(Review)).one().text == "good " * 500
    joined = select(Customer.name, Review.stars).join(Review, Review.customer_id == Customer.id)
    assert session.execute(joined).all() == [(order.customer.name, 5)]


def test_events_of_the_session(session: Session) -> None:
    def before(target: Session, *_: object) -> None:
        target.add(Event(what="flushed"))

    event.listen(session, "before_flush", before, once=True)
    session.add(Event(what="own"))
    session.flush()
    assert sorted(session.scalars(select(Event.what))) == ["flushed", "own"]


def test_create_all_again_changes_nothing(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    assert "shop_customer" in inspect(engine).get_table_names()
    assert [each["name"] for each in inspect(engine).get_columns("shop_tag")] == ["id", "name"]
