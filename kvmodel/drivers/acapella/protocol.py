"""The HTTP + JSON protocol without I/O: calls become requests, replies become results.

Rules. A :class:`Call` says all that has to be sent, and reads the body of the reply with status 200, which is the only
success. Versions and transactions are 64-bit numbers that may arrive as text. A member ``value`` that is missing or
``null`` is no value. What does not look as the protocol says raises :class:`Malformed`.

Bodies are written the way the original client writes them (``json.dumps`` as it comes), except that whoever has JSON
already may give it as bytes.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar, cast

import attrs

from kvmodel.drivers.acapella.paths import encode_bound, encode_key, encode_text
from kvmodel.drivers.acapella.replies import (
    Found,
    Json,
    Node,
    RowItem,
    dump_json,
    finish,
    read_batch,
    read_found,
    read_hits,
    read_index,
    read_indexes,
    read_node,
    read_nodes,
    read_rows,
    read_token,
    read_value,
    read_version,
)
from kvmodel.errors import ValidationError

__all__ = [
    "USUAL",
    "Call",
    "Effect",
    "Found",
    "Json",
    "Node",
    "Quorum",
    "RowItem",
    "batch",
    "begin",
    "commit",
    "define_index",
    "dump_json",
    "finish",
    "get",
    "index_query",
    "indexes",
    "keep_alive",
    "listen",
    "login",
    "put",
    "rollback",
    "rows",
    "tree_get",
    "tree_put",
    "tree_rows",
    "tree_step",
    "version",
]

T_co = TypeVar("T_co", covariant=True)

_JSON: Final = "application/json"
_TRANSACTION: Final = "&transaction="
_FORM: Final = "application/x-www-form-urlencoded"


class Effect(enum.Enum):
    """What a request does, should nobody know whether it arrived.

    ``READ`` changes nothing; ``STEP`` changes something that counts for nothing before a commit, and is given up by
    the server in time; ``WRITE`` changes data.
    """

    READ = "read"
    STEP = "step"
    WRITE = "write"


class Quorum(NamedTuple):
    """How many replicas there are, and how many of them confirm a read and a write."""

    n: int = 3
    r: int = 2
    w: int = 2

    @classmethod
    def checked(cls, n: int, r: int, w: int) -> Quorum:
        """Make one. Raises ``ValidationError`` unless ``1 <= n <= 127``, ``1 <= r <= n`` and ``1 <= w <= n``."""
        if any(isinstance(each, bool) or not isinstance(each, int) for each in (n, r, w)):
            raise ValidationError(f"n, r and w are whole numbers, not {n!r}, {r!r} and {w!r}")
        if not 1 <= n <= 127:
            raise ValidationError(f"n, the number of replicas, is from 1 to 127, not {n}", field="n")
        for name, count in (("r", r), ("w", w)):
            if not 1 <= count <= n:
                raise ValidationError(f"{name}, the confirmations, is from 1 to n ({n}), not {count}", field=name)
        return cls(n, r, w)

    @property
    def text(self) -> str:
        """The three as parameters of a query."""
        return f"n={self.n}&r={self.r}&w={self.w}"


USUAL: Final = Quorum()
"""What the original client takes: a read overlaps the last write."""


@attrs.frozen
class Call(Generic[T_co]):
    """One request.

    Attributes:
        method: The HTTP method.
        path: The raw path, percent-encoded; the prefix of the API goes before it unless ``bare``.
        read: Reads the body of a reply with status 200. Raises ``Malformed``.
        query: The raw query, without its question mark.
        body: What is sent; ``None`` for nothing.
        form: Whether the body is a form, and no JSON.
        effect: What it does.
        bare: Whether the path has no prefix.
        missing: Whether 404 is an answer: ``None``.
        waits: How many seconds the server may take by intent.
    """

    method: str
    path: str
    read: Callable[[bytes], T_co]
    query: str = ""
    body: bytes | None = None
    form: bool = False
    effect: Effect = Effect.READ
    bare: bool = False
    missing: bool = False
    waits: float = 0.0

    @property
    def is_inside(self) -> bool:
        """Whether it is a step of an open transaction, or its end."""
        return _TRANSACTION in self.query or self.path.startswith("/v2/tx/")

    @property
    def content_type(self) -> str | None:
        """What the body is said to be."""
        if self.body is None:
            return None
        return _FORM if self.form else _JSON


# --- accounts ---------------------------------------------------------------------------------------------------------


def login(user: str, password: str) -> Call[str]:
    """Ask for a token."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    form = f"enableCookies=true&invalidateOld=false&loginAndPassword={encode_text(pair)}"
    # To send it twice does no harm: earlier tokens stay valid.
    return Call("POST", "/auth/login", read_token, body=form.encode(), form=True, effect=Effect.STEP, bare=True)


def authorization(user: str, token: str) -> str:
    """Answer the header that goes with every request after a login: the token takes the place of the password."""
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


# --- one key ----------------------------------------------------------------------------------------------------------


def _row_path(partition: Sequence[str], clustering: Sequence[str]) -> str:
    if not clustering:
        return f"/v2/kv/keys/{encode_key(partition)}"
    return f"/v2/kv/partition/{encode_key(partition)}/clustering/{encode_key(clustering)}"


def _inside(transaction: int | None) -> str:
    return "" if transaction is None else f"{_TRANSACTION}{transaction}"


def get(
    partition: Sequence[str],
    clustering: Sequence[str] = (),
    quorum: Quorum = USUAL,
    *,
    transaction: int | None = None,
    watch: bool = False,
) -> Call[Found]:
    """Read a key; ``watch`` locks it for the transaction."""
    query = f"{quorum.text}{_inside(transaction)}&watch={watch}"
    effect = Effect.STEP if transaction is not None and watch else Effect.READ
    return Call("GET", _row_path(partition, clustering), read_found, query, effect=effect)


def version(partition: Sequence[str], clustering: Sequence[str] = (), quorum: Quorum = USUAL) -> Call[int]:
    """Read the version alone."""
    return Call("GET", f"{_row_path(partition, clustering)}/version", read_version, quorum.text)


def listen(
    partition: Sequence[str],
    clustering: Sequence[str] = (),
    quorum: Quorum = USUAL,
    *,
    after: int,
    seconds: int | None = None,
    transaction: int | None = None,
) -> Call[Found]:
    """Read a key as soon as its version is beyond ``after``. The server's own limit (30 s) applies without one."""
    query = f"{quorum.text}{_inside(transaction)}&waitVersion={after}"
    if seconds is not None:
        query += f"&waitTimeout={seconds}"
    waits = 30.0 if seconds is None else float(seconds)
    return Call("GET", _row_path(partition, clustering), read_found, query, waits=waits)


def put(
    partition: Sequence[str],
    clustering: Sequence[str],
    body: bytes | None,
    quorum: Quorum = USUAL,
    *,
    old_version: int | None = None,
    transaction: int | None = None,
    reindex: bool = False,
) -> Call[int]:
    """Write a key and answer its new version; no body removes it. With ``old_version`` only if that is still its."""
    query = f"{quorum.text}{_inside(transaction)}"
    if old_version is not None:
        query += f"&oldVersion={old_version}"
    effect = Effect.WRITE if transaction is None else Effect.STEP
    return Call(
        "PUT",
        _row_path(partition, clustering),
        read_version,
        f"{query}&reindex={reindex}",
        body=body,
        effect=effect,
    )


# --- partitions -------------------------------------------------------------------------------------------------------


def rows(
    partition: Sequence[str],
    quorum: Quorum = USUAL,
    *,
    after: Sequence[str] = (),
    last: Sequence[str] = (),
    limit: int | None = None,
    prefix: Sequence[str] = (),
) -> Call[list[RowItem]]:
    """Read rows in order: behind ``after``, up to and including ``last``; deleted ones may be among them."""
    bounds = [
        f"{name}={text}"
        for name, text in (
            ("from", encode_bound(after)),
            ("to", encode_bound(last)),
            ("limit", "" if limit is None else str(limit)),
            ("prefix", encode_bound(prefix)),
        )
        if text
    ]
    query = "&".join([*bounds, quorum.text])
    return Call("GET", f"/v2/kv/partition/{encode_key(partition)}", read_rows, query)


def batch(
    partition: Sequence[str],
    items: Sequence[tuple[Sequence[str], bytes | None, int | None]],
    quorum: Quorum = USUAL,
    *,
    reindex: bool = False,
) -> Call[list[int]]:
    """Write rows of one partition at once, or none of them; answer their new versions, in the order of the items.

    An item is a clustering key, a body (``None`` removes the row) and the version that it must have, ``None`` for any.
    """
    pieces = [
        b'{"key": %b, "value": %b, "version": %b}'
        % (json.dumps(list(key)).encode(), body or b"null", b"null" if old is None else b"%d" % old)
        for key, body, old in items
    ]
    keys = [tuple(key) for key, _, _ in items]
    return Call(
        "PUT",
        f"/v2/kv/partition/{encode_key(partition)}",
        lambda body: read_batch(body, keys),
        f"{quorum.text}&reindex={reindex}",
        body=b"[" + b", ".join(pieces) + b"]",
        effect=Effect.WRITE,
    )


# --- transactions -----------------------------------------------------------------------------------------------------


def begin() -> Call[int]:
    """Open a transaction."""
    return Call("POST", "/v2/tx", read_index, effect=Effect.STEP)


def commit(index: int) -> Call[None]:
    """Make everything that was done in a transaction count."""
    return Call("POST", f"/v2/tx/{index}/commit", finish, effect=Effect.WRITE)


def rollback(index: int) -> Call[None]:
    """Forget everything that was done in a transaction."""
    return Call("POST", f"/v2/tx/{index}/rollback", finish, effect=Effect.STEP)


def keep_alive(index: int) -> Call[None]:
    """Tell that a transaction is still wanted."""
    return Call("POST", f"/v2/tx/{index}/keep-alive", finish, effect=Effect.STEP)


# --- indexes ----------------------------------------------------------------------------------------------------------


def _indexes_path(user: str, keyspace: str) -> str:
    return f"/v2/users/{encode_key([user])}/keyspaces/{encode_key([keyspace])}/indexes"


def define_index(user: str, keyspace: str, tag: int, fields: Sequence[Mapping[str, str]]) -> Call[None]:
    """Define an index of a keyspace, or define it anew."""
    body = dump_json({"fields": [cast("Json", dict(field)) for field in fields]})
    return Call("PUT", f"{_indexes_path(user, keyspace)}/{tag}", finish, body=body, effect=Effect.WRITE)


def indexes(user: str, keyspace: str) -> Call[dict[int, list[dict[str, Json]]]]:
    """Read the indexes of a keyspace, by tag."""
    return Call("GET", _indexes_path(user, keyspace), read_indexes)


def index_query(
    partition: Sequence[str], conditions: Mapping[str, Mapping[str, Json]], limit: int | None = None
) -> Call[list[Node]]:
    """Find rows of a partition by an index. Answers their keys and values; versions are not told."""
    body = dump_json({"params": {"limit": limit}, "query": {name: dict(each) for name, each in conditions.items()}})
    return Call("GET", f"/v2/kv/partition/{encode_key(partition)}/index-query", read_hits, body=body)


# --- trees ------------------------------------------------------------------------------------------------------------


def _tree_path(tree: Sequence[str]) -> str:
    return f"/v2/dt/{encode_key(tree)}/keys"


def tree_get(
    tree: Sequence[str], key: Sequence[str], quorum: Quorum = USUAL, *, transaction: int | None = None
) -> Call[Json]:
    """Read a node's value; ``None`` where none is."""
    path = f"{_tree_path(tree)}/{encode_key(key)}"
    return Call("GET", path, read_value, f"{quorum.text}{_inside(transaction)}")


def tree_put(
    tree: Sequence[str],
    key: Sequence[str],
    body: bytes | None,
    quorum: Quorum = USUAL,
    *,
    transaction: int | None = None,
) -> Call[None]:
    """Write a node; no body removes it."""
    path = f"{_tree_path(tree)}/{encode_key(key)}"
    effect = Effect.WRITE if transaction is None else Effect.STEP
    return Call("PUT", path, finish, f"{quorum.text}{_inside(transaction)}", body=body, effect=effect)


def tree_step(
    tree: Sequence[str],
    key: Sequence[str],
    quorum: Quorum = USUAL,
    *,
    back: bool = False,
    transaction: int | None = None,
    hint: str | None = None,
) -> Call[Node | None]:
    """Read the node behind a key, or before it; ``None`` where none is. Nothing needs to be at the key itself."""
    path = f"{_tree_path(tree)}/{encode_key(key)}/{'prev' if back else 'next'}"
    query = f"{quorum.text}{_inside(transaction)}" + ("" if hint is None else f"&node={encode_text(hint)}")
    return Call("GET", path, read_node, query, missing=True)


def tree_rows(
    tree: Sequence[str],
    quorum: Quorum = USUAL,
    *,
    after: Sequence[str] = (),
    last: Sequence[str] = (),
    limit: int = 0,
    transaction: int | None = None,
) -> Call[list[Node]]:
    """Read nodes in order: behind ``after``, up to and including ``last``; a limit of 0 is none."""
    query = f"from={encode_bound(after)}&to={encode_bound(last)}&limit={limit}&{quorum.text}{_inside(transaction)}"
    return Call("GET", _tree_path(tree), read_nodes, query)
