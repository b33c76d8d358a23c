"""What an Elevator server knows and does: databases and commands, as the original does them, faults included.

Rules.

* No sockets and no clock: a request goes in, a reply comes out, or ``Silent``, which ends the original's worker.
* Texts are those of the original, which are Python 2's: ``'a\\xff'`` without a ``b``, ``<type 'int'>``.
* What the original does with arguments that no client should send is done here too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias, cast
from uuid import uuid4

import attrs

from kvmodel.drivers.elevator.protocol import ABSENT, Code, Data, Reply, Request, Status, Value
from kvmodel.drivers.memory import MemoryStore
from kvmodel.testing.elevator.quirks import Quirks

__all__ = ["Database", "Silent", "Storage"]

Rows: TypeAlias = "list[tuple[bytes, bytes]]"

_INTERNAL: Final = (b"paths_index", b"reverse_name_index")
_TYPES: Final = {
    bytes: "str",
    list: "list",
    dict: "dict",
    type(None): "NoneType",
    int: "int",
    float: "float",
    bool: "bool",
}
_BOOLS: Final = (b"create_if_missing", b"error_if_exists", b"paranoid_checks")
_NUMBERS: Final = (b"bloom_filter_bits", b"lru_cache_size", b"write_buffer_size", b"block_size", b"max_open_files")


class Silent(Exception):
    """The original does not expect this: it says nothing, and one of its workers is gone."""


class Refused(Exception):
    """A failure that is answered."""

    def __init__(self, code: Code, text: bytes, data: Data = None) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.data = data


@attrs.define(eq=False)
class Database:
    """A database.

    Attributes:
        name: Its name.
        path: Its folder.
        uid: What requests call it by.
        rows: What is in it.
        is_mounted: Whether it is open.
        is_loaded: Whether it was read from the server's store file, and so its name is text.
    """

    name: bytes
    path: bytes
    uid: bytes
    rows: MemoryStore
    is_mounted: bool = True
    is_loaded: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether it can't be found by its name any more."""
        return self.is_loaded and not self.name.isascii()


def _quoted(text: bytes) -> bytes:
    """A string as Python 2 shows it."""
    return repr(text)[1:].encode()


def _shown(value: object) -> bytes:
    """A value as Python 2 puts it into a text."""
    return value if isinstance(value, bytes) else str(value).encode()


class Storage:
    """The databases of a server, and its commands.

    Args:
        quirks: How it behaves.
        directories: Which folders exist on its disk, besides its own and the one called ``paths``.
    """

    def __init__(self, quirks: Quirks | None = None, directories: Iterable[str] = ()) -> None:
        self.quirks = quirks or Quirks()
        self.directories = {b"data", b"paths", *(name.encode().rstrip(b"/") for name in directories)}
        self.folders: dict[bytes, MemoryStore] = {}
        self.databases: dict[bytes, Database] = {}
        self._on_server: dict[bytes, Callable[[Database | None, list[Value]], Data]] = {
            b"PING": lambda database, args: [b"PONG"],
            b"DBCONNECT": self._connect,
            b"DBMOUNT": self._mount,
            b"DBUMOUNT": self._unmount,
            b"DBCREATE": self._create,
            b"DBDROP": self._drop,
            b"DBLIST": self._list,
            b"DBREPAIR": _fail,
        }
        self._on_data: dict[bytes, Callable[[MemoryStore, list[Value]], Data]] = {
            b"GET": self._get,
            b"PUT": _put,
            b"DELETE": _delete,
            b"EXISTS": _exists,
            b"MGET": _mget,
            b"RANGE": self._range,
            b"SLICE": _slice,
            b"BATCH": _batch,
        }
        if not self.quirks.has_exists:
            del self._on_data[b"EXISTS"]
        self._add(b"default")

    def add_folder(self, path: str, rows: Mapping[bytes, bytes]) -> None:
        """Put a LevelDB folder on the server's disk, which no database of it is."""
        folder = self.folders[path.encode()] = MemoryStore()
        for key, value in rows.items():
            folder.put(key, value)

    def restart(self) -> None:
        """Be what a server is that was started again on the same files."""
        for database in self.databases.values():
            database.is_mounted = database.name == b"default"
            database.is_loaded = True
        if b"default" not in self.databases:
            self._add(b"default")

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Do what a request asks for. Raises ``Silent`` where the original would say nothing."""
        try:
            data, asked, status = self._do(request)
        except Refused as refused:
            return Reply(Status.FAILURE, refused.data, refused.code, refused.text)
        return Reply(status, data, compression=_compression(asked))

    def _do(self, request: Request) -> tuple[Data, object, Status]:
        if request.command is ABSENT or request.args is ABSENT:
            raise Refused(Code.REQUEST, b"Invalid request message : {}", {})
        database = self.find(request)
        command = request.command
        if isinstance(command, list | dict):
            raise Silent
        on_server = self._on_server.get(cast("bytes", command))
        on_data = self._on_data.get(cast("bytes", command))
        if on_server is None and on_data is None:
            raise Refused(Code.KEY, b"Command %b not handled" % _shown(command))
        args = _arguments(request.args)
        if database is not None:
            database.is_mounted = True
        if on_server is not None:
            return on_server(database, args), request.meta, Status.SUCCESS
        assert on_data is not None
        if database is None:
            raise Silent
        data = on_data(database.rows, args)
        missing = command == b"MGET" and isinstance(data, list) and None in data
        return data, request.meta, Status.WARNING if missing else Status.SUCCESS

    def find(self, request: Request) -> Database | None:
        """Answer the database that a request names; ``None`` for none."""
        uid = request.uid
        if uid is ABSENT or not uid:
            if isinstance(uid, list | dict):
                raise Silent
            return None
        if isinstance(uid, list | dict) or uid in _INTERNAL:
            raise Silent
        for database in self.databases.values():
            if database.uid == uid:
                return database
        raise Refused(Code.RUNTIME, b"Database %b doesn't exist" % _shown(uid))

    def concerns(self, request: Request) -> tuple[bytes | None, bool]:
        """Answer the database that a request reaches, by its uid, or makes, by its name, and whether it is there."""
        args = request.args if isinstance(request.args, list) else []
        try:
            database = self.find(request)
        except (Silent, Refused):
            return None, True
        if request.command == b"DBCREATE":
            name = next(iter(args if database is not None else args[1:]), None)
            return (name, name in self.databases) if isinstance(name, bytes) else (None, True)
        if database is None and request.command in (b"DBCONNECT", b"DBMOUNT") and args:
            name = args[0]
            database = self.databases.get(name) if isinstance(name, bytes) else None
        return (None, True) if database is None else (database.uid, database.is_mounted)

    # --- databases ----------------------------------------------------------------------------------------------------

    def _add(self, name: bytes) -> None:
        path = name if b"/" in name else b"data/" + name
        rows = self.folders.setdefault(path, MemoryStore())
        self.databases[name] = Database(name, path, str(uuid4()).encode(), rows)

    def _connect(self, database: Database | None, args: list[Value]) -> Data:
        if database is not None:
            text = b"Database <plyvel.DB with name %b at 0x0x7f0000000000> doesn't exist" % _quoted(database.path)
            raise Refused(Code.DATABASE, text)
        name = _first(args)
        found = None if isinstance(name, list | dict) else self.databases.get(cast("bytes", name))
        if isinstance(name, list | dict):
            raise Silent
        if not name or found is None or found.is_lost:
            raise Refused(Code.DATABASE, b"Database %b doesn't exist" % _shown(name))
        found.is_mounted = True
        return [found.uid]

    def _named(self, database: Database | None, args: list[Value]) -> Database:
        """The database that is to be mounted or unmounted. With a uid, or if unknown: silent."""
        name = _first(args)
        found = self.databases.get(name) if isinstance(name, bytes) else None
        if database is not None or found is None or found.is_lost:
            raise Silent
        return found

    def _mount(self, database: Database | None, args: list[Value]) -> Data:
        found = self._named(database, args)
        if found.is_mounted:
            mark = b"u" if found.is_loaded and found.name != b"default" else b""
            raise Refused(Code.DATABASE, b"Database %b%b already mounted" % (mark, _quoted(found.path)))
        found.is_mounted = True
        return None

    def _unmount(self, database: Database | None, args: list[Value]) -> Data:
        found = self._named(database, args)
        if not found.is_mounted:
            raise Refused(Code.DATABASE, b"Database %b already unmounted" % _quoted(found.name))
        found.is_mounted = False
        return None

    def _create(self, database: Database | None, args: list[Value]) -> Data:
        name, *rest = _after_database(database, args, 1)
        options = rest[0] if rest else None
        if not isinstance(name, bytes) or b"\0" in name or not _are_options(options):
            raise Silent
        if name in self.databases:
            raise Refused(Code.DATABASE, b"Database %b already exists" % name)
        if name.startswith(b"."):
            raise Refused(Code.DATABASE, b"Canno't create database from relative path")
        if b"/" in name and name.rpartition(b"/")[0] not in self.directories:
            raise Refused(Code.OS, b"No such file or directory")
        if isinstance(options, dict) and options.get(b"error_if_exists") and name in self.folders:
            raise Silent
        self._add(name)
        return None

    def _drop(self, database: Database | None, args: list[Value]) -> Data:
        name = _after_database(database, args, 1)[0]
        if isinstance(name, list | dict):
            raise Silent
        found = self.databases.get(cast("bytes", name))
        if found is None:
            raise Refused(Code.DATABASE, b"Database %b does not exist" % _shown(name))
        if not _is_utf8(found.name):
            raise Silent
        gone = list(self.databases) if not found.name else [found.name]  # The empty name is the folder of them all.
        for each in gone:
            self.folders.pop(self.databases.pop(each).path, None)
        return None

    def _list(self, database: Database | None, args: list[Value]) -> Data:
        _after_database(database, args, 0)
        return list(self.databases)

    # --- data ---------------------------------------------------------------------------------------------------------

    def _get(self, rows: MemoryStore, args: list[Value]) -> Data:
        key = _key(_first(args))
        value = rows.get(key)
        if value is None or (not value and self.quirks.hide_empty_values):
            raise Refused(Code.KEY, b"Key %b does not exist" % _quoted(key))
        return [value]

    def _range(self, rows: MemoryStore, args: list[Value]) -> Data:
        if not 2 <= len(args) <= (5 if self.quirks.has_exists else 4):
            raise Silent
        first, last, keys, values, prefix = _with_defaults(args, [True, True, None])
        if prefix is not None:
            if first is not None or last is not None or not isinstance(prefix, bytes):
                raise Silent
            begin = itertools.takewhile(lambda row: row[0].startswith(prefix), _from(rows, prefix))
            return _shaped(list(begin), keys, values)
        if not isinstance(last, bytes | None) or not isinstance(first, bytes | None):
            raise Silent
        within = itertools.takewhile(lambda row: last is None or row[0] <= last, _from(rows, first))
        return _shaped(list(within), keys, values)


# --- arguments --------------------------------------------------------------------------------------------------------


def _arguments(args: object) -> list[Value]:
    if isinstance(args, bytes):
        return [bytes((byte,)) for byte in args]
    if isinstance(args, list | dict):
        return list(args)
    raise Silent


def _with_defaults(args: list[Value], defaults: list[Value]) -> list[Value]:
    """Two arguments that have to be there, and those that may."""
    return args + defaults[len(args) - 2 :]


def _first(args: list[Value]) -> Value:
    if not args:
        raise Silent
    return args[0]


def _after_database(database: Database | None, args: list[Value], count: int) -> list[Value]:
    """The arguments behind the database, in whose place something has to stand if there is no uid."""
    rest = args if database is not None else args[1:]
    if len(rest) < count or (database is None and not args):
        raise Silent
    return rest


def _key(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise Silent
    return value


def _are_options(options: Value) -> bool:
    if options is None:
        return True
    if not isinstance(options, dict):
        return False
    bools = all(isinstance(options.get(name, True), bool) for name in _BOOLS)
    return bools and all(isinstance(options.get(name, 1), int) for name in _NUMBERS)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _compression(meta: object) -> Value:
    """What a success says of compression, which is where odd options are fallen over."""
    if meta is ABSENT:
        return False
    if isinstance(meta, dict):
        return cast("Value", meta.get(b"compression", False))
    if isinstance(meta, list | bytes) and b"compression" not in meta:
        return False
    raise Silent


# --- commands on data -------------------------------------------------------------------------------------------------


def _fail(database: Database | None, args: list[Value]) -> Data:
    raise Silent


def _put(rows: MemoryStore, args: list[Value]) -> Data:
    if len(args) < 2:
        raise Silent
    key, value = args[:2]
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        raise Refused(Code.TYPE, b"Unsupported value type : <type '%b'>" % _TYPES[type(value)].encode())
    rows.put(key, value)
    return None


def _delete(rows: MemoryStore, args: list[Value]) -> Data:
    rows.delete(_key(_first(args)))
    return None


def _exists(rows: MemoryStore, args: list[Value]) -> Data:
    return [True] if rows.get(_key(_first(args))) is not None else False


def _mget(rows: MemoryStore, args: list[Value]) -> Data:
    keys = _arguments(_first(args))
    if not keys or not all(key is None or isinstance(key, bytes) for key in keys):
        raise Silent
    last = {key: number for number, key in enumerate(keys)}  # Only the last place of a key that comes again is filled.
    return [
        rows.get(key) if isinstance(key, bytes) and last[key] == number else None for number, key in enumerate(keys)
    ]


def _from(rows: MemoryStore, start: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    return rows.iterate(start or b"", b"", False)


def _slice(rows: MemoryStore, args: list[Value]) -> Data:
    if not 2 <= len(args) <= 4:
        raise Silent
    first, count, keys, values = _with_defaults(args, [True, True])
    if not isinstance(first, bytes | None):
        raise Silent
    most = None  # Of other types than numbers any is larger than a number, to Python 2.
    if count is None:
        most = 0
    elif isinstance(count, int | float):
        most = max(math.ceil(count), 0)
    return _shaped(list(itertools.islice(_from(rows, first), most)), keys, values)


def _shaped(rows: Rows, keys: Value, values: Value) -> Data:
    if not isinstance(keys, bool | None) or not isinstance(values, bool | None):
        raise Silent
    if keys and values:
        return [[key, value] for key, value in rows]
    return [key if keys else value if values else None for key, value in rows]


def _batch(rows: MemoryStore, args: list[Value]) -> Data:
    operations = _first(args)
    if isinstance(operations, bytes):
        operations = [bytes((byte,)) for byte in operations]
    if not isinstance(operations, list | dict):
        raise _invalid()
    changes = [_operation(each) for each in operations]
    for key, value in changes:
        if value is None:
            rows.delete(key)
        else:
            rows.put(key, value)
    return None


def _operation(operation: Value) -> tuple[bytes, bytes | None]:
    """Answer a key and what is to be put there; ``None`` to delete it."""
    if isinstance(operation, list | bytes | dict) and (not operation or isinstance(operation, dict)):
        raise Silent
    if isinstance(operation, bytes):
        raise _unknown_signal(operation[:1])
    if not isinstance(operation, list):
        raise _invalid()
    signal, *parts = operation
    if isinstance(signal, list | dict):
        raise _invalid()
    if signal not in (0, 1):
        raise _unknown_signal(signal)
    if len(parts) != (2 if signal == 1 else 1) or not all(isinstance(part, bytes) for part in parts):
        raise _invalid()
    key, *value = cast("list[bytes]", parts)
    return key, value[0] if value else None


def _invalid() -> Refused:
    return Refused(Code.TYPE, b"Invalid type supplied")


def _unknown_signal(signal: Value) -> Refused:
    shown = _quoted(signal) if isinstance(signal, bytes) else str(signal).encode()
    return Refused(Code.SIGNAL, b"Unrecognized signal received : " + shown)
