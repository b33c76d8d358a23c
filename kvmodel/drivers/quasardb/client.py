"""The store's own vocabulary, on asyncio: every call of the vendor's package that has to do with keys and values.

Rules.

* Each call of the library is one round trip, made by a worker process. Calls that concern one key are carried out in
  the order in which they were made.
* Keys are ``str``, contents ``bytes``. What the library would refuse, cut or take wrongly is refused here, before
  anything is sent.
* A call ends within ``timeout`` seconds: with its result, or with an error of kvmodel's. A write whose end nobody knows
  is ``OutcomeUnknown``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar, cast

from kvmodel.drivers.quasardb.batch import BatchRequest, BatchResult, requests_of
from kvmodel.drivers.quasardb.checks import (
    STORE,
    check_content,
    check_integer,
    check_name,
    check_text,
    microseconds_at,
    microseconds_of,
    moment_of,
)
from kvmodel.drivers.quasardb.connecting import LIBRARY, Credentials, make_settings, parse_hosts
from kvmodel.drivers.quasardb.documents import Documents
from kvmodel.drivers.quasardb.pool import Pool
from kvmodel.drivers.quasardb.protocol import Argument
from kvmodel.errors import KvModelError, NotFound, ProtocolError, TooLarge, ValidationError

if TYPE_CHECKING:
    from kvmodel.drivers.base import Primitive

__all__ = ["MAX_NAMES", "MAX_VALUE_BYTES", "QuasardbClient"]

T = TypeVar("T")

MAX_VALUE_BYTES: Final = 16 << 20
MAX_NAMES: Final = 100_000
_FIRST_COUNT: Final = 1024
_GROWTH: Final = 8
_CHUNK: Final = 256
_CHUNK_BYTES: Final = 4 << 20


class QuasardbClient(Documents):
    """A client of one cluster. ``async with QuasardbClient(...) as client:``, or :meth:`open` and :meth:`close`.

    Args:
        hosts: Where nodes are: ``host:port,host:port``. The library finds the others by itself.
        credentials: Who connects, where the cluster asks for that.
        workers: How many worker processes there may be. They are started when they are needed.
        timeout: How many seconds a call may take, whatever happens on the way.
        connect_timeout: How many seconds a worker may take to start and connect.
        library_timeout: How many seconds the library waits for the cluster by itself, at least 1. A worker whose call
            takes longer than ``timeout`` is killed, whatever this says.
        library: The module that workers import.
        encryption: Whether the library is to encrypt.
        compression: ``balanced`` or ``disabled``.
        parallelism: How many threads the library may use for one connection; 0 for its own choice.
        max_value_bytes: The largest content.
        max_names: How many names one listing may bring.
    """

    def __init__(
        self,
        hosts: str | Sequence[str],
        credentials: Credentials | None = None,
        *,
        workers: int = 4,
        timeout: float = 10.0,
        connect_timeout: float = 10.0,
        library_timeout: float = 10.0,
        library: str = LIBRARY,
        encryption: bool = False,
        compression: str = "balanced",
        parallelism: int = 0,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_names: int = MAX_NAMES,
    ) -> None:
        for name, number in (("workers", workers), ("max_value_bytes", max_value_bytes), ("max_names", max_names)):
            if number < 1:
                raise ValidationError(f"the option {name} is 1 or more", field=name, store=STORE)
        where = parse_hosts(hosts if isinstance(hosts, str) else ",".join(hosts))
        settings = make_settings(
            where,
            credentials or Credentials(),
            library=library,
            library_timeout=library_timeout,
            encryption=encryption,
            compression=compression,
            parallelism=parallelism,
            max_value_bytes=max_value_bytes,
        )
        self.timeout = timeout
        self.max_value_bytes = max_value_bytes
        self.max_names = max_names
        self.store = f"qdb://{where}"
        self._connect_timeout = connect_timeout
        self._pool = Pool(settings, workers=workers, connect_timeout=connect_timeout, store=self.store)

    def __repr__(self) -> str:
        return f"<QuasardbClient of {self.store}>"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start a worker and connect.

        Raises:
            Unavailable: No node answers.
            AuthenticationFailed: The credentials are refused.
            Unsupported: The vendor's package is not installed.
        """
        loop = asyncio.get_running_loop()
        # A little longer than connecting may take: whoever connects is to say what became of it.
        await self._pool.open(loop.time() + self._connect_timeout + 1)

    async def close(self) -> None:
        """End all workers, once their calls have ended. Closing twice is allowed."""
        await self._pool.close()

    async def __aenter__(self) -> QuasardbClient:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        return self._pool.pids

    async def call(self, operation: str, *arguments: Argument, key: str | None = None, until: float) -> Argument:
        """Carry out one operation of :data:`~kvmodel.drivers.quasardb.protocol.OPERATIONS` by ``until``."""
        return await self._pool.call(operation, *arguments, key=key, until=until, keys=int(key is not None))

    async def _of(self, operation: str, key: str, *arguments: Argument) -> Argument:
        """Carry out an operation on one entry."""
        return await self.call(operation, check_name(key), *arguments, key=key, until=self._until())

    async def _ask(self, operation: str, *arguments: Argument) -> Argument:
        """Carry out an operation that concerns no entry in particular."""
        return await self.call(operation, *arguments, until=self._until())

    def _until(self) -> float:
        return time.monotonic() + self.timeout

    def _content(self, content: bytes, what: str = "content") -> bytes:
        return check_content(content, self.max_value_bytes, what)

    # --- blobs --------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes:
        """Answer the content of an entry. Raises ``NotFound``; ``DecodingError`` if it is no blob."""
        return cast("bytes", await self._of("get", key))

    async def put(self, key: str, content: bytes) -> None:
        """Create an entry. Raises ``AlreadyExists``."""
        await self._of("put", key, self._content(content))

    async def update(self, key: str, content: bytes) -> None:
        """Create an entry or replace its content. It does not expire any more."""
        await self._of("update", key, self._content(content))

    async def remove(self, key: str) -> None:
        """Remove an entry of any type, and its tags. Raises ``NotFound``."""
        await self._of("remove", key)

    async def remove_if(self, key: str, comparand: bytes) -> None:
        """Remove an entry if its content is ``comparand``. Raises ``Conflict`` if not, and ``NotFound``."""
        await self._of("remove_if", key, self._content(comparand, "comparand"))

    async def compare_and_swap(self, key: str, content: bytes, comparand: bytes) -> bytes | None:
        """Replace the content of an entry if it is ``comparand``, byte for byte.

        Answers ``None`` when it was replaced (the entry does not expire any more), else the content that is there.
        Empty contents are refused: the library answers with an empty one to say that it has swapped. For the same
        reason an entry that another program has made empty counts as swapped, though it was not.

        Raises:
            NotFound: There is no such entry.
            ValidationError: One of the contents is empty.
        """
        new, old = self._content(content), self._content(comparand, "comparand")
        if not new or not old:
            raise ValidationError(
                "compare_and_swap takes no empty content: the store could not say whether it swapped",
                field="content" if not new else "comparand",
                store=self.store,
            )
        return cast("bytes | None", await self._of("compare_and_swap", key, new, old))

    async def get_and_update(self, key: str, content: bytes) -> bytes:
        """Replace the content of an entry, and answer what was there. Raises ``NotFound``."""
        return cast("bytes", await self._of("get_and_update", key, self._content(content)))

    async def get_and_remove(self, key: str) -> bytes:
        """Remove an entry, and answer what was there. Raises ``NotFound``."""
        return cast("bytes", await self._of("get_and_remove", key))

    async def exists(self, key: str) -> bool:
        """Whether there is an entry of this name, of any type."""
        return cast("bool", await self._of("exists", key))

    async def get_many(self, keys: Iterable[str]) -> list[bytes | None]:
        """Answer the contents of entries in the order asked, ``None`` where there is none. One call for each."""
        return await self.fetch([check_name(key) for key in keys], self._until())

    async def fetch(self, names: Sequence[str], until: float) -> list[bytes | None]:
        """Get entries by ``until``, spread over the workers; a worker carries out many calls for one message."""
        shares: dict[int, list[str]] = {}
        for name in dict.fromkeys(names):
            shares.setdefault(self._pool.lane_of(name), []).append(name)
        found: dict[str, bytes | None] = {}
        await all_of([self._fetch_share(share, found, until) for share in shares.values()])
        return [found[name] for name in names]

    async def _fetch_share(self, names: list[str], found: dict[str, bytes | None], until: float) -> None:
        """Get the entries of one worker."""
        at = 0
        while at < len(names):
            chunk = names[at : at + _CHUNK]
            contents = cast(
                "list[bytes | None]",
                await self._pool.call(
                    "get_many", chunk, _CHUNK_BYTES, key=chunk[0], until=until, calls=len(chunk), keys=len(chunk)
                ),
            )
            if not 0 < len(contents) <= len(chunk):
                raise ProtocolError("a worker answered what nobody asked", store=self.store)
            found.update(zip(chunk, contents, strict=False))
            at += len(contents)

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def expires_at(self, key: str, moment: datetime | None) -> None:
        """Let an entry expire at an aware point in time, or never (``None``). It is kept to the millisecond.

        A call of its own: the library's writes carry no expiry, and each of them takes an expiry away.

        Raises:
            ValidationError: The ``datetime`` is naive, or in the past.
            NotFound: There is no such entry.
        """
        await self._of("expires_at", key, microseconds_at(moment))

    async def expires_from_now(self, key: str, span: timedelta | float) -> None:
        """Let an entry expire after a while, by the clock of this machine: a ``timedelta``, or seconds."""
        await self._of("expires_from_now", key, microseconds_of(span))

    async def get_expiry_time(self, key: str) -> datetime | None:
        """Answer when an entry expires, in whole seconds and UTC; ``None`` for never. Raises ``NotFound``."""
        return moment_of(cast("int | None", await self._of("get_expiry_time", key)))

    # --- integers -----------------------------------------------------------------------------------------------------

    async def get_integer(self, key: str) -> int:
        """Answer an integer. Raises ``NotFound``; ``DecodingError`` if the entry is of another type."""
        return cast("int", await self._of("get_integer", key))

    async def put_integer(self, key: str, number: int) -> None:
        """Create an integer of 64 bits. Raises ``AlreadyExists``."""
        await self._of("put_integer", key, check_integer(number))

    async def update_integer(self, key: str, number: int) -> None:
        """Create or replace an integer."""
        await self._of("update_integer", key, check_integer(number))

    async def add_integer(self, key: str, addend: int) -> int:
        """Add to an integer, in one step, and answer the sum. Raises ``NotFound``; ``ValidationError`` on overflow."""
        return cast("int", await self._of("add_integer", key, check_integer(addend)))

    # --- tags ---------------------------------------------------------------------------------------------------------

    async def attach_tag(self, key: str, tag: str) -> bool:
        """Tag an entry. Answers whether it was not tagged so before. Tags and entries share their names."""
        return cast("bool", await self._of("attach_tag", key, _tag(tag)))

    async def detach_tag(self, key: str, tag: str) -> bool:
        """Take a tag away. Answers whether it was there."""
        return cast("bool", await self._of("detach_tag", key, _tag(tag)))

    async def get_tags(self, key: str) -> list[str]:
        """Answer the tags of an entry, sorted. Raises ``NotFound``."""
        return sorted(cast("list[str]", await self._of("get_tags", key)))

    async def has_tag(self, key: str, tag: str) -> bool:
        """Whether an entry is tagged so. The library's own call would take every error for a no; this does not."""
        return _tag(tag) in await self.get_tags(key)

    async def get_tagged(self, tag: str) -> list[str]:
        """Answer the keys that have a tag, sorted, each once; none for an unknown tag."""
        return sorted(set(cast("list[str]", await self._ask("get_tagged", _tag(tag)))))

    async def find(self, query: str) -> list[str]:
        """Answer the keys that a query by tags finds: ``find(tag='a' AND NOT tag='b' AND type=blob)``.

        Raises ``ValidationError`` for a query that can't be read.
        """
        if not isinstance(query, str) or not query or "\0" in query:
            raise ValidationError("a query is a str, and holds no NUL", field="query", store=self.store)
        return sorted(set(cast("list[str]", await self._ask("find", query))))

    # --- looking up names ---------------------------------------------------------------------------------------------

    async def prefix_get(self, prefix: str, max_count: int | None = None) -> list[str]:
        """Answer the keys that begin with a prefix, sorted.

        Without ``max_count`` they are all there, or it is ``TooLarge`` because there are more than ``max_names``. With
        it, they are as many at the most; which ones are left out, the store does not say.
        """
        return await self._look_up("prefix", prefix, max_count)

    async def prefix_count(self, prefix: str) -> int:
        """Answer how many keys begin with a prefix."""
        return cast("int", await self._ask("prefix_count", check_text(prefix, "prefix")))

    async def suffix_get(self, suffix: str, max_count: int | None = None) -> list[str]:
        """Answer the keys that end with a suffix, as :meth:`prefix_get` does."""
        return await self._look_up("suffix", suffix, max_count)

    async def suffix_count(self, suffix: str) -> int:
        """Answer how many keys end with a suffix."""
        return cast("int", await self._ask("suffix_count", check_text(suffix, "suffix")))

    async def _look_up(self, end: str, text: str, max_count: int | None) -> list[str]:
        check_text(text, end)
        if max_count is None:
            return sorted(await self.list_names(text, self._until(), operation=f"{end}_get"))
        if isinstance(max_count, bool) or not isinstance(max_count, int) or max_count < 1:
            raise ValidationError("max_count is 1 or more", field="max_count", store=self.store)
        if max_count > self.max_names:
            raise TooLarge(
                "max_count is above the option max_names: raise it",
                size=max_count,
                limit=self.max_names,
                store=self.store,
            )
        names = cast("list[str]", await self._ask(f"{end}_get", text, max_count))
        return sorted(set(names))

    async def list_names(
        self, text: str, until: float, *, first: int = _FIRST_COUNT, operation: str = "prefix_get"
    ) -> set[str]:
        """Answer all names below a prefix, in no order; ``TooLarge`` if they are more than ``max_names``.

        The store has no continuation: it is asked for more and more names, until fewer come than were asked for.

        Args:
            text: What they begin with.
            until: When to give up, on the monotonic clock.
            first: How many to ask for at first.
            operation: ``prefix_get`` or ``suffix_get``.
        """
        most = self.max_names + 1
        count = min(max(first, 1), most)
        while True:
            found = cast("list[str]", await self.call(operation, text, count, until=until))
            names = set(found)
            if len(names) > self.max_names:
                raise TooLarge(
                    "there are more names below this prefix than are listed at once: narrow it, or raise the option"
                    " max_names",
                    size=len(names),
                    limit=self.max_names,
                    store=self.store,
                )
            if len(found) < count:
                return names
            count = min(count * _GROWTH, most) if count < most else count * 2

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over the keys below a prefix, in order: those that were there when it began."""
        for name in await self.prefix_get(prefix):
            yield name

    async def items(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Iterate over the blobs below a prefix, in the order of their keys; what is gone meanwhile is left out.

        Raises ``DecodingError`` for an entry of another type.
        """
        for name in await self.prefix_get(prefix):
            try:
                content = await self.get(name)
            except NotFound:
                continue
            yield name, content

    # --- nodes --------------------------------------------------------------------------------------------------------

    async def node_config(self, node: str) -> dict[str, Primitive]:
        """Answer the configuration of a node, given as ``host:port``."""
        return await self._node("node_config", node)

    async def node_status(self, node: str) -> dict[str, Primitive]:
        """Answer the status of a node, given as ``host:port``."""
        return await self._node("node_status", node)

    async def node_topology(self, node: str) -> dict[str, Primitive]:
        """Answer the neighbours of a node, given as ``host:port``, in the ring."""
        return await self._node("node_topology", node)

    async def _node(self, operation: str, node: str) -> dict[str, Primitive]:
        where = parse_hosts(node.removeprefix("qdb://") if isinstance(node, str) else "")
        if "," in where:
            raise ValidationError("give one node, as host:port", field="node", store=self.store)
        try:
            found = json.loads(cast("str", await self._ask(operation, f"qdb://{where}")))
        except ValueError as error:
            raise ProtocolError("what the node says of itself is no JSON", store=self.store) from error
        if not isinstance(found, dict):
            raise ProtocolError("what the node says of itself is no JSON object", store=self.store)
        return found

    async def endpoints(self) -> list[str]:
        """Answer the nodes that the library knows of: ``host:port``."""
        return cast("list[str]", await self._ask("endpoints"))

    async def purge_all(self, *, confirm: bool = False) -> None:
        """Remove everything from the cluster, of all programs; not in one step, and often switched off.

        Raises:
            ValidationError: It was not said with ``confirm=True``.
            Unsupported: The cluster is configured to refuse it.
        """
        if confirm is not True:
            raise ValidationError(
                "this removes everything from the cluster: say purge_all(confirm=True)",
                field="confirm",
                store=self.store,
            )
        await self._ask("purge_all", microseconds_of(max(self.timeout, 1.0)))

    async def version(self) -> str:
        """Answer the version of the vendor's library."""
        return cast("str", await self._ask("version"))

    async def build(self) -> str:
        """Answer which build of the vendor's library it is."""
        return cast("str", await self._ask("build"))

    # --- batches ------------------------------------------------------------------------------------------------------

    async def run_batch(self, requests: Iterable[BatchRequest | Sequence[object]]) -> tuple[int, list[BatchResult]]:
        """Carry out calls one by one, in order; answer how many went well, and how each of them ended.

        The library has no batch: this is a convenience, and saves no round trips. An item that fails does not stop the
        others, and raises nothing: it is in its result. An item is a :class:`BatchRequest`, or a tuple of the
        operation's name and its arguments: ``("put", "key", b"content")``. A batch that is cancelled ends there.
        """
        results = []
        for given, request in requests_of(requests):
            shown = cast("BatchRequest | Sequence[object]", given)
            if isinstance(request, ValidationError):
                results.append(BatchResult(shown, error=request))
                continue
            try:
                call = getattr(self, request.operation.value)
                result = await call(request.key, *request.arguments())
            except KvModelError as error:
                if isinstance(error.__cause__, asyncio.CancelledError):
                    raise  # It is the batch that was cancelled: nothing more of it is to be done.
                results.append(BatchResult(shown, error=error))
            else:
                results.append(BatchResult(shown, result))
        return sum(result.succeeded for result in results), results


async def all_of(works: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Await several things at once, and answer their results; the first error ends the others, and is raised."""
    if len(works) == 1:
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _tag(tag: str) -> str:
    return check_text(tag, "tag")
