"""Arakoon's client protocol: messages to bytes and bytes to messages, both sides.

Rules.

* No sockets, no clock, no waiting: bytes go in, messages come out, and the other way round.
* One table holds all commands: number, arguments, result, and who may answer. Client and server read the same table.
* Bytes may come in any pieces. What they cannot mean is ``Malformed``, whatever they are: never another exception, and
  never more memory than the limits allow.

Theory of operation. The client sends a prologue once and is not answered. After that it sends requests, each a number
and its arguments, with no length and no identity around them, and gets replies in the same order, each a code and
either the result or a message. So a reply can only be read by one who knows what was asked: a :class:`ReplyParser` is
made for one request. A server's :class:`RequestParser` lives as long as its connection.

Known limits. The commands by which a node sends its database file (``get_db``) or its log (``last_entries``, in three
versions) to another one have no place here: their replies are streams of files without bound, in the server's own
formats. What a user hook speaks after its name is its own affair.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

from kvmodel.drivers.arakoon.nursery import NODES, NURSERY, ROUTING, NurseryConfig, Routing
from kvmodel.drivers.arakoon.statistics import STATISTICS, Statistics
from kvmodel.drivers.arakoon.wire import (
    BOOL,
    CONSISTENCY,
    INT32,
    INT64,
    STRING,
    UNIT,
    Consistency,
    Incomplete,
    Limits,
    ListOf,
    Malformed,
    Option,
    Reader,
    Shape,
    TupleOf,
    inside,
)

__all__ = [
    "COMMANDS",
    "Call",
    "Code",
    "Command",
    "Prologue",
    "Refusal",
    "ReplyParser",
    "Request",
    "RequestParser",
    "UnknownCommand",
    "UnmaskedCommand",
    "Where",
    "encode_prologue",
    "encode_refusal",
    "encode_reply",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_MASK: Final = 0xB1FF0000
_PROLOGUE_VERSION: Final = 1


class Code(enum.IntEnum):
    """What a reply begins with."""

    OK = 0x00
    NO_MAGIC = 0x01
    TOO_MANY_DEAD_NODES = 0x02
    NO_HELLO = 0x03
    NOT_MASTER = 0x04
    NOT_FOUND = 0x05
    WRONG_CLUSTER = 0x06
    ASSERTION_FAILED = 0x07
    READ_ONLY = 0x08
    OUTSIDE_INTERVAL = 0x09
    GOING_DOWN = 0x10
    NOT_SUPPORTED = 0x20
    NO_LONGER_MASTER = 0x21
    BAD_INPUT = 0x26
    INCONSISTENT_READ = 0x80
    USER_FUNCTION_FAILURE = 0x81
    USER_HOOK_NOT_FOUND = 0x82
    MAX_CONNECTIONS = 0xFE
    UNKNOWN_FAILURE = 0xFF

    def __repr__(self) -> str:
        return self.name


STAYS_OPEN: Final[frozenset[int]] = frozenset(
    (
        Code.OK,
        Code.NOT_FOUND,
        Code.ASSERTION_FAILED,
        Code.NO_LONGER_MASTER,
        Code.BAD_INPUT,
        Code.INCONSISTENT_READ,
    )
)
"""After any other code the server closes the connection; after an unknown command too."""


class Where(enum.Enum):
    """Who answers a command."""

    ANY = "any node"
    READ = "the master, or any node if the read need not be consistent"
    MASTER = "the master"

    def __repr__(self) -> str:
        return self.name


@attrs.frozen(eq=False)
class Command(Generic[R_co]):
    """One row of the table.

    Attributes:
        name: The client's method.
        code: Its number.
        arguments: What it takes.
        result: What it answers.
        where: Who answers it.
        writes: Whether it may change something: then it is never sent again when its reply was lost.
    """

    name: str
    code: int
    arguments: tuple[Shape[Any], ...]
    result: Shape[R_co]
    where: Where = Where.ANY
    writes: bool = False

    def __repr__(self) -> str:
        return f"<Command {self.name}>"

    def __call__(self, *values: object) -> Call[R_co]:
        """Make a call of this command."""
        return Call(self, values)

    @property
    def reads(self) -> bool:
        """Whether its first argument is a consistency."""
        return self.arguments[:1] == (CONSISTENCY,)


@attrs.frozen(eq=False)
class Call(Generic[R_co]):
    """A command with its arguments."""

    command: Command[R_co]
    values: tuple[object, ...]

    def encode(self) -> bytes:
        """Make the bytes of the request."""
        arguments = zip(self.command.arguments, self.values, strict=True)
        return _head(self.command.code) + b"".join([shape.write(value) for shape, value in arguments])


def _head(code: int) -> bytes:
    return (_MASK | code).to_bytes(4, "little")


def _write_collapsed(count: int) -> bytes:
    return INT32.write(count) + (INT32.write(Code.OK) + INT64.write(0)) * count


def _read_collapsed(reader: Reader) -> int:
    """Read the reply to ``collapse_tlogs``: how many files there are, then for each a code and the time since begin."""
    count = reader.count(8)
    for _ in range(count):
        code = reader.int32()
        if code != Code.OK:
            raise Refusal(code, reader.string())
        INT64.read(reader)
    return count


# --- the table --------------------------------------------------------------------------------------------------------

_PAIR: Final[Shape[tuple[bytes, bytes]]] = TupleOf(STRING, STRING)
_OPTION: Final = Option(STRING)
_RANGE: Final = (CONSISTENCY, _OPTION, BOOL, _OPTION, BOOL, INT32)
_KEYS: Final = ListOf(STRING, backwards=True)
_ENTRIES: Final = ListOf(_PAIR, backwards=True)
_INTERVAL: Final[tuple[Shape[Any], ...]] = (_OPTION, _OPTION, _OPTION, _OPTION)
_VERSION: Final[Shape[tuple[int, int, int, bytes]]] = TupleOf(INT32, INT32, INT32, STRING)
_COLLAPSED: Final[Shape[int]] = Shape("collapsed files", _write_collapsed, _read_collapsed, 4)
_ANY, _READ, _MASTER = Where.ANY, Where.READ, Where.MASTER

HELLO: Final[Command[bytes]] = Command("hello", 0x01, (STRING, STRING), STRING)
WHO_MASTER: Final[Command[bytes | None]] = Command("who_master", 0x02, (), _OPTION)
EXISTS: Final[Command[bool]] = Command("exists", 0x07, (CONSISTENCY, STRING), BOOL, _READ)
GET: Final[Command[bytes]] = Command("get", 0x08, (CONSISTENCY, STRING), STRING, _READ)
SET: Final[Command[None]] = Command("set", 0x09, (STRING, STRING), UNIT, _MASTER, True)
DELETE: Final[Command[None]] = Command("delete", 0x0A, (STRING,), UNIT, _MASTER, True)
RANGE: Final[Command[list[bytes]]] = Command("range", 0x0B, _RANGE, _KEYS, _READ)
PREFIX: Final[Command[list[bytes]]] = Command("prefix", 0x0C, (CONSISTENCY, STRING, INT32), _KEYS, _READ)
TEST_AND_SET: Final[Command[bytes | None]] = Command(
    "test_and_set", 0x0D, (STRING, _OPTION, _OPTION), _OPTION, _MASTER, True
)
RANGE_ENTRIES: Final[Command[list[tuple[bytes, bytes]]]] = Command("range_entries", 0x0F, _RANGE, _ENTRIES, _READ)
SEQUENCE: Final[Command[None]] = Command("sequence", 0x10, (STRING,), UNIT, _MASTER, True)
MULTI_GET: Final[Command[list[bytes]]] = Command("multi_get", 0x11, (CONSISTENCY, ListOf(STRING)), _KEYS, _READ)
EXPECT_PROGRESS_POSSIBLE: Final[Command[bool]] = Command("expect_progress_possible", 0x12, (), BOOL)
STATISTICS_: Final[Command[Statistics]] = Command("statistics", 0x13, (), inside(STATISTICS))
COLLAPSE_TLOGS: Final[Command[int]] = Command("collapse_tlogs", 0x14, (INT32,), _COLLAPSED)
USER_FUNCTION: Final[Command[bytes | None]] = Command("user_function", 0x15, (STRING, _OPTION), _OPTION, _MASTER, True)
ASSERT: Final[Command[None]] = Command("assert_", 0x16, (CONSISTENCY, STRING, _OPTION), UNIT, _READ)
SET_INTERVAL: Final[Command[None]] = Command("set_interval", 0x17, _INTERVAL, UNIT, _MASTER, True)
GET_ROUTING: Final[Command[Routing]] = Command("get_routing", 0x18, (), inside(ROUTING), _MASTER)
SET_ROUTING: Final[Command[None]] = Command("set_routing", 0x19, (inside(ROUTING),), UNIT, _MASTER, True)
GET_KEY_COUNT: Final[Command[int]] = Command("get_key_count", 0x1A, (), INT64, _MASTER)
CONFIRM: Final[Command[None]] = Command("confirm", 0x1C, (STRING, STRING), UNIT, _MASTER, True)
GET_FRINGE: Final[Command[list[tuple[bytes, bytes]]]] = Command(
    "get_fringe", 0x1D, (_OPTION, INT32), ListOf(_PAIR), _MASTER
)
GET_INTERVAL: Final[Command[tuple[bytes | None, ...]]] = Command("get_interval", 0x1E, (), TupleOf(*_INTERVAL), _MASTER)
SET_NURSERY_CFG: Final[Command[None]] = Command("set_nursery_cfg", 0x1F, (STRING, NODES), UNIT, _MASTER, True)
GET_NURSERY_CONFIG: Final[Command[NurseryConfig]] = Command("get_nursery_config", 0x20, (), inside(NURSERY), _MASTER)
SET_ROUTING_DELTA: Final[Command[None]] = Command(
    "set_routing_delta", 0x21, (STRING, STRING, STRING), UNIT, _MASTER, True
)
MIGRATE_RANGE: Final[Command[None]] = Command("migrate_range", 0x22, (*_INTERVAL, STRING), UNIT, _MASTER, True)
REV_RANGE_ENTRIES: Final[Command[list[tuple[bytes, bytes]]]] = Command(
    "rev_range_entries", 0x23, _RANGE, _ENTRIES, _READ
)
SYNCED_SEQUENCE: Final[Command[None]] = Command("synced_sequence", 0x24, (STRING,), UNIT, _MASTER, True)
OPTIMIZE_DB: Final[Command[None]] = Command("optimize_db", 0x25, (), UNIT)
DEFRAG_DB: Final[Command[None]] = Command("defrag_db", 0x26, (), UNIT)
DELETE_PREFIX: Final[Command[int]] = Command("delete_prefix", 0x27, (STRING,), INT32, _MASTER, True)
VERSION: Final[Command[tuple[int, int, int, bytes]]] = Command("version", 0x28, (), _VERSION)
ASSERT_EXISTS: Final[Command[None]] = Command("assert_exists", 0x29, (CONSISTENCY, STRING), UNIT, _READ)
DROP_MASTER: Final[Command[None]] = Command("drop_master", 0x30, (), UNIT, _ANY, True)
MULTI_GET_OPTION: Final[Command[list[bytes | None]]] = Command(
    "multi_get_option", 0x31, (CONSISTENCY, ListOf(STRING)), ListOf(_OPTION), _READ
)
GET_CURRENT_STATE: Final[Command[bytes]] = Command("get_current_state", 0x32, (), STRING)
REPLACE: Final[Command[bytes | None]] = Command("replace", 0x33, (STRING, _OPTION), _OPTION, _MASTER, True)
NOP: Final[Command[None]] = Command("nop", 0x41, (), UNIT, _MASTER, True)
FLUSH_STORE: Final[Command[None]] = Command("flush_store", 0x42, (), UNIT)
GET_TX_ID: Final[Command[Consistency]] = Command("get_tx_id", 0x43, (), CONSISTENCY)
COPY_DB_TO_HEAD: Final[Command[None]] = Command("copy_db_to_head", 0x44, (INT32,), UNIT)
USER_HOOK: Final[Command[None]] = Command("user_hook", 0x45, (CONSISTENCY, STRING), UNIT, _READ, True)

COMMANDS: Final[dict[int, Command[Any]]] = {
    command.code: command for command in list(globals().values()) if isinstance(command, Command)
}
"""All commands, by number."""


# --- the client's side ------------------------------------------------------------------------------------------------


def encode_prologue(cluster_id: bytes) -> bytes:
    """Make what a client says first, and is not answered."""
    return _head(0) + INT32.write(_PROLOGUE_VERSION) + STRING.write(cluster_id)


class Refusal(Exception):
    """What a server answered instead of a result, in its own words.

    Attributes:
        code: The number that the reply began with; it may be one that nobody knows.
        text: The message; often a key or the name of a node.
    """

    def __init__(self, code: int, text: bytes) -> None:
        self.code = code
        self.text = text
        super().__init__(code, text)

    def __str__(self) -> str:
        name = Code(self.code).name if self.code in Code._value2member_map_ else f"code {self.code:#x}"
        return f"{name}: {self.text[:300].decode('utf-8', 'replace')}"


class ReplyParser(Generic[R]):
    """Reads the reply to one request: :meth:`feed` it until it is done.

    Attributes:
        result: What the server answered, when done and not refused.
        refusal: What it answered instead.
        rest: Bytes behind the reply.
    """

    def __init__(self, shape: Shape[R], limits: Limits | None = None) -> None:
        self._shape = shape
        self._reader = Reader(limits or Limits())
        self._code: int | None = None
        self._count = 0
        self._items: list[Any] | None = None
        self.result: R | None = None
        self.refusal: Refusal | None = None
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take bytes; answer whether the reply is complete. Raises ``Malformed``."""
        self._reader.feed(data)
        if self._reader.is_hungry:
            return False
        try:
            self._read()
        except Incomplete:
            self._reader.rewind()
            return False
        self.rest = self._reader.rest()
        return True

    def _read(self) -> None:
        reader = self._reader
        if self._code is None:
            self._code = reader.int32()
            reader.mark()
        if self._code != Code.OK:
            self.refusal = Refusal(self._code, b"" if self._code == Code.NO_MAGIC else reader.string())
            return
        try:
            self.result = self._read_list(self._shape) if isinstance(self._shape, ListOf) else self._shape.read(reader)
        except Refusal as refusal:  # What began well may still fail.
            self.refusal = refusal

    def _read_list(self, shape: ListOf[Any]) -> Any:
        reader = self._reader
        if self._items is None:
            self._count = reader.count(shape.item.smallest)
            self._items = []
            reader.mark()
        read, items = shape.item.read, self._items
        while len(items) < self._count:
            items.append(read(reader))
            reader.mark()
        return shape.turned(items)


# --- the server's side ------------------------------------------------------------------------------------------------


@attrs.frozen
class Prologue:
    """What a client says first. A server that has another cluster id closes the connection without a word."""

    cluster_id: bytes


Request: TypeAlias = Call[Any]


class UnknownCommand(Malformed):
    """A number that no command has. A server answers ``NOT_FOUND`` and closes."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:x}: command not found", answered=True)


class UnmaskedCommand(Malformed):
    """A number without the bits that every command has. A server answers a bare ``NO_MAGIC`` and closes."""


class RequestParser:
    """Reads a client's connection: a prologue, then requests.

    Raises ``Malformed`` for what is neither; then nothing more can be read.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._reader = Reader(limits or Limits())
        self._begun = False

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._reader.feed(data)

    def next(self) -> Prologue | Request | None:
        """Answer the next message, or ``None`` if it is not complete yet."""
        reader = self._reader
        if reader.is_hungry:
            return None
        try:
            message = self._read_request() if self._begun else self._read_prologue()
        except Incomplete:
            reader.rewind()
            return None
        reader.discard()
        return message

    def _read_prologue(self) -> Prologue:
        magic, version = self._reader.int32() & 0xFFFFFFFF, self._reader.int32()
        if (magic, version) != (_MASK, _PROLOGUE_VERSION):
            raise Malformed("a connection does not begin as this protocol does")
        prologue = Prologue(self._reader.string())
        self._begun = True
        return prologue

    def _read_request(self) -> Request:
        number = self._reader.int32() & 0xFFFFFFFF
        if number & _MASK != _MASK:
            raise UnmaskedCommand("a command without the mask")
        command = COMMANDS.get(number & 0xFFFF)
        if command is None:
            raise UnknownCommand(number & 0xFFFF)
        return command(*[shape.read(self._reader) for shape in command.arguments])


def encode_reply(command: Command[R], result: R) -> bytes:
    """Make the bytes of a reply."""
    return INT32.write(Code.OK) + command.result.write(result)


def encode_refusal(code: int, text: bytes = b"") -> bytes:
    """Make the bytes of a reply that says no."""
    return INT32.write(code) + (b"" if code == Code.NO_MAGIC else STRING.write(text))
