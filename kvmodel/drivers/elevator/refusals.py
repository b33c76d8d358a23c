"""What the server's refusals mean here: one table."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmodel.drivers.elevator.protocol import Code, Reply
from kvmodel.errors import KvModelError, NotFound, ProtocolError, StoreError, Unsupported, ValidationError

__all__ = ["REFUSALS", "Refusal", "refusal_error"]


class Refusal(Exception):
    """What the server said: the cause of the error that is raised.

    Attributes:
        code: Its code.
        text: Its words.
    """

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(f"{text} (code {code})")
        self.code = code
        self.text = text


class Meaning(NamedTuple):
    """The class of an error, and what to do next."""

    error: type[KvModelError]
    message: str


_KEY: Final = "no value is stored under this key"
_UNKNOWN_COMMAND: Final = "this server does not know the command: it is older than the client"
_MISSING: Final = "there is no database of this name: createdb() makes one, or connect with ?create=true"
_TYPES: Final = "the server refused the type of a key or a value, and nothing was written: give bytes or str"

REFUSALS: Final[dict[tuple[int, str | None], Meaning]] = {
    (Code.KEY, "GET"): Meaning(NotFound, _KEY),
    (Code.KEY, None): Meaning(Unsupported, _UNKNOWN_COMMAND),
    (Code.TYPE, None): Meaning(ValidationError, _TYPES),
    (Code.VALUE, None): Meaning(ValidationError, "the server refused a value, and nothing was written"),
    (Code.INDEX, None): Meaning(StoreError, "the server failed at an index, and nothing was written"),
    (Code.RUNTIME, None): Meaning(
        StoreError, "this database was dropped since it was connected to: connect() again, and look at what is in it"
    ),
    (Code.OS, None): Meaning(
        StoreError, "the server can't make this path: its parent must exist, and be the server's to write"
    ),
    (Code.DATABASE, "DBCONNECT"): Meaning(StoreError, _MISSING),
    (Code.DATABASE, "DBDROP"): Meaning(StoreError, _MISSING),
    (Code.DATABASE, "DBCREATE"): Meaning(
        StoreError, "the server did not make this database: it exists, or its name begins with a dot"
    ),
    (Code.DATABASE, "DBMOUNT"): Meaning(StoreError, "this database is mounted already: there is nothing to do"),
    (Code.DATABASE, "DBUMOUNT"): Meaning(StoreError, "this database is unmounted already: there is nothing to do"),
    (Code.DATABASE, None): Meaning(StoreError, "the server refused this database"),
    (Code.SIGNAL, None): Meaning(ValidationError, "the server refused an operation of a batch: nothing was written"),
    (Code.REQUEST, None): Meaning(ProtocolError, "the server did not take this for a request: is it an Elevator?"),
}
"""By code and command; ``None`` stands for all other commands. The same code does not mean the same everywhere."""

_ANY: Final = Meaning(StoreError, "the server refused this, and said why")


def refusal_error(command: str, reply: Reply, store: str) -> KvModelError:
    """Make the error of a failed request, with the server's own words as its cause."""
    code = -1 if reply.code is None else reply.code
    meaning = REFUSALS.get((code, command)) or REFUSALS.get((code, None)) or _ANY
    error = meaning.error(meaning.message, store=store)
    error.__cause__ = Refusal(reply.code, (reply.text or b"").decode(errors="replace"))
    return error
