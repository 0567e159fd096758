"""A dozen related models of a shop; rules.yaml says which of their columns are protected.

One reason to change: what the shop keeps.
"""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Column, Enum, ForeignKey, Numeric, String, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Of every model here."""


class Level(enum.Enum):
    GOLD = "GOLD"
    TIN = "TIN"


article_tag = Table(
    "shop_article_tag",
    Base.metadata,
    Column("article_id", ForeignKey("shop_article.id"), primary_key=True),
    Column("tag_id", ForeignKey("shop_tag.id"), primary_key=True),
)


class Region(Base):
    __tablename__ = "shop_region"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)


class Customer(Base):
    __tablename__ = "shop_customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    region_id: Mapped[int | None] = mapped_column(ForeignKey("shop_region.id"))
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120))
    born: Mapped[dt.date | None]
    level: Mapped[Level] = mapped_column(Enum(Level, native_enum=False, length=10), default=Level.TIN)
    points: Mapped[int] = mapped_column(default=0)
    profile: Mapped[Any | None] = mapped_column(JSONB)
    region: Mapped[Region | None] = relationship()
    orders: Mapped[list[Order]] = relationship(back_populates="customer", cascade="all, delete-orphan")
    account: Mapped[Account | None] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Account(Base):
    __tablename__ = "shop_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("shop_customer.id"), unique=True)
    iban: Mapped[str] = mapped_column(String(34))
    key: Mapped[uuid.UUID]
    customer: Mapped[Customer] = relationship(back_populates="account")


class Tag(Base):
    __tablename__ = "shop_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)


class Article(Base):
    __tablename__ = "shop_article"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    cost: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    tags: Mapped[list[Tag]] = relationship(secondary=article_tag)


class Order(Base):
    __tablename__ = "shop_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("shop_customer.id"))
    placed: Mapped[dt.datetime | None]
    address: Mapped[str] = mapped_column(Text)
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal(0))
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan", order_by="Line.id")


class Line(Base):
    __tablename__ = "shop_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("shop_order.id"))
    article_id: Mapped[int] = mapped_column(ForeignKey("shop_article.id"))
    n: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    article: Mapped[Article] = relationship()


class Shipment(Base):
    __tablename__ = "shop_shipment"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("shop_order.id"))
    recipient: Mapped[str] = mapped_column(Text)


class Person(Base):
    """Staff and suppliers, told apart by `kind`."""

    __tablename__ = "shop_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(Text)
    salary: Mapped[int | None]
    company: Mapped[str | None] = mapped_column(Text)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("shop_person.id"))
    boss: Mapped[Person | None] = relationship(remote_side="Person.id")
    __mapper_args__: ClassVar[dict[str, str]] = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Clerk(Person):
    __mapper_args__: ClassVar[dict[str, str]] = {"polymorphic_identity": "clerk"}


class Supplier(Person):
    __mapper_args__: ClassVar[dict[str, str]] = {"polymorphic_identity": "supplier"}


class Review(Base):
    __tablename__ = "shop_review"
    id: Mapped[int] = mapped_column(primary_key=True)
    article_id: Mapped[int] = mapped_column(ForeignKey("shop_article.id"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("shop_customer.id"))
    text: Mapped[str] = mapped_column(Text)
    stars: Mapped[int]


class Event(Base):
    __tablename__ = "shop_event"
    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(Text)
    raw: Mapped[bytes | None]
