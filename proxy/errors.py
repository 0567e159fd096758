"""Every error a client or an operator can be shown, as one tree; each class is one SQLSTATE.

Bad values keep PostgreSQL's own codes. pgseal's own refusals have class PS, which no driver takes for a
retry or a re-prepare. Messages name a table.column, a reason and a hint; never a value, a literal, a
parameter or a key. `docs/errors.md` has a page a code, which `ERROR_PAGE` links.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

ERROR_PAGE: Final = "docs/errors.md"

Severity = Literal["ERROR", "FATAL"]


class PgsealError(Exception):
    """An error with its SQLSTATE; `column` is `schema.table.column` where one is concerned."""

    sqlstate: ClassVar[str] = "XX000"

    def __init__(
        self,
        message: str,
        *,
        column: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        severity: Severity = "ERROR",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.hint = hint
        self.position = position  # byte offset in the statement's UTF-8 text, from 0
        self.character: int | None = None  # the same as the client is told: characters, from 1
        self.context: str | None = None  # where in the data of a COPY, in PostgreSQL's words, without a value
        self.severity: Severity = severity


def sentence(hint: str) -> str:
    """A hint as it is shown: PostgreSQL's messages are no sentences, and its hints are."""
    is_word = hint[:1].islower() and not hint.startswith("pgseal")
    begun = hint[0].upper() + hint[1:] if is_word else hint
    return begun if begun.endswith((".", "?")) else f"{begun}."


# --- pgseal's own refusals, class PS ---------------------------------------------------------------


class Unsupported(PgsealError):
    """What cannot be proven over a protected column is refused."""

    sqlstate = "PS001"


class TenantUnknown(PgsealError):
    """A statement needs exactly one tenant and none, or not one only, is proven."""

    sqlstate = "PS002"


class KeyUnavailable(PgsealError):
    """No data key: the KMS or the key store does not answer, refuses, or the key may not be used."""

    sqlstate = "PS003"


class CellNotOpen(PgsealError):
    """A cell does not open. One message for every cause."""

    sqlstate = "PS004"


class NotAllowed(PgsealError):
    """The log-in may not read, compare or assign this column."""

    sqlstate = "PS005"


class SchemaMismatch(PgsealError):
    """Rules and live schema disagree, or the statement would make them disagree."""

    sqlstate = "PS006"


class AuditNotWritable(PgsealError):
    """The audit sink failed and the policy is to block protected statements."""

    sqlstate = "PS007"


# --- PostgreSQL's own codes, for values and protocol ------------------------------------------------


class DataError(PgsealError):
    """A value that PostgreSQL itself would refuse for the logical type."""


class InvalidTextRepresentation(DataError):
    sqlstate = "22P02"


class InvalidBinaryRepresentation(DataError):
    sqlstate = "22P03"


class StringTooLong(DataError):
    sqlstate = "22001"


class NumericOutOfRange(DataError):
    sqlstate = "22003"


class InvalidDatetimeFormat(DataError):
    sqlstate = "22007"


class DatetimeOverflow(DataError):
    sqlstate = "22008"


class DivisionByZero(DataError):
    sqlstate = "22012"


class InvalidTimeZoneDisplacement(DataError):
    sqlstate = "22009"


class SubstringError(DataError):
    sqlstate = "22011"


class InvalidParameterValue(DataError):
    sqlstate = "22023"


class CharacterNotInRepertoire(DataError):
    sqlstate = "22021"


class UntranslatableCharacter(DataError):
    sqlstate = "22P05"


class UndefinedTable(SchemaMismatch):
    """A protected table that is not there, as PostgreSQL itself would say it."""

    sqlstate = "42P01"


class SyntaxFault(PgsealError):
    """Only where PostgreSQL itself would answer 42601 and must not see the values."""

    sqlstate = "42601"


class UndefinedParameter(PgsealError):
    """`$1` in a text that has no parameters, as PostgreSQL itself would say it."""

    sqlstate = "42P02"


class BadCopyFormat(DataError):
    """The data of a COPY are not in the format that its options say."""

    sqlstate = "22P04"


class DatatypeMismatch(PgsealError):
    sqlstate = "42804"


class UndefinedFunction(PgsealError):
    sqlstate = "42883"


class CannotCoerce(PgsealError):
    sqlstate = "42846"


class FeatureNotSupported(PgsealError):
    """Only where PostgreSQL itself answers 0A000 (a cached plan whose result changed)."""

    sqlstate = "0A000"


class ProtocolViolation(PgsealError):
    sqlstate = "08P01"


class ConnectionFailure(PgsealError):
    """The outcome of a statement is unknown to the client; both sides close."""

    sqlstate = "08006"


class ServerUnreachable(PgsealError):
    """The server's address does not answer as configured: TLS refused, certificate wrong, protocol broken."""

    sqlstate = "08001"


class CannotConnectNow(PgsealError):
    """The server does not accept connections at the moment; drivers with several hosts try the next one."""

    sqlstate = "57P03"


class AdminShutdown(PgsealError):
    sqlstate = "57P01"


class ProgramLimitExceeded(PgsealError):
    sqlstate = "54000"


class InvalidAuthorization(PgsealError):
    sqlstate = "28000"


class InvalidPassword(PgsealError):
    sqlstate = "28P01"


class InternalError(PgsealError):
    sqlstate = "XX000"


# --- for the operator, before or outside any connection ---------------------------------------------


class ConfigError(PgsealError):
    """A configuration or rules file is refused; `message` has file, line and what to write."""

    sqlstate = "F0000"
