"""Connections of the stand-in: what the package checks before it connects, in the package's order."""

from __future__ import annotations

import enum
import re
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from kvmodel.testing.quasardb import errors
from kvmodel.testing.quasardb.arguments import (
    fault_of,
    is_bool,
    is_integer,
    is_span,
    is_text,
    is_unsigned,
    method,
    the_alias,
)
from kvmodel.testing.quasardb.entries import (
    Blob,
    DirectBlob,
    DirectInteger,
    Double,
    Integer,
    String,
    Tag,
    Timestamp,
)
from kvmodel.testing.quasardb.wire import Channel, Trouble

__all__ = ["Cluster", "Node", "Options"]

_URI: Final = re.compile(r"qdb://([^/?]+)/?(?:\?.*)?", re.DOTALL)
_HOST: Final = re.compile(r"(\[[0-9a-f:]+\]|[^:,\s]+):([0-9]{1,5})")
_KEY: Final = re.compile(r"[0-9A-Za-z+/]{43,44}=*")
_LONGEST_MS: Final = 1 << 31
_MAX_USER: Final = 120
_NODE_TIMEOUT: Final = 300.0


def _hosts(function: str, text: str) -> list[tuple[str, int]]:
    """Take ``host:port,host:port`` apart."""
    found = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None or not 0 < int(match[2]) < 1 << 16:
            raise fault_of(function, "invalid")
        found.append((match[1], int(match[2])))
    return found


def _decoded(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _milliseconds(timeout: timedelta | float) -> int:
    """A C ``int``: what is larger wraps around, and nobody is told."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    count = int(seconds * 1000) % (1 << 32)
    return count - (1 << 32) if count >= _LONGEST_MS else count


class Options:
    """The options of a connection, as far as anybody needs them here."""

    class Compression(enum.Enum):
        """How to compress."""

        Disabled = 0
        Best = 2
        Balanced = 3

    class Encryption(enum.Enum):
        """How to encrypt."""

        Disabled = 0
        AES256GCM = 1

    _timeout: int

    def __init__(self) -> None:
        raise errors.DirectInstantiationError("Direct instantiation is not allowed, use 'conn.options(...)' instead.")

    @classmethod
    def _make(cls, timeout: int) -> Options:
        options = cls.__new__(cls)
        options._timeout = timeout
        return options

    @method()
    def get_timeout(self) -> timedelta:
        return timedelta(milliseconds=self._timeout)


class Cluster:
    """A connection to a cluster; the constructor connects."""

    _is_served = False

    @method(
        is_text,
        is_text,
        is_text,
        is_text,
        is_text,
        is_text,
        is_span,
        is_bool,
        is_bool,
        lambda value: isinstance(value, Options.Compression),
        is_unsigned,
        what="constructor",
    )
    def __init__(
        self,
        uri: str,
        user_name: str = "",
        user_private_key: str = "",
        cluster_public_key: str = "",
        *,
        user_security_file: str = "",
        cluster_public_key_file: str = "",
        timeout: timedelta = timedelta(seconds=60),
        do_version_check: bool = False,
        enable_encryption: bool = False,
        compression_mode: Options.Compression = Options.Compression.Balanced,
        client_max_parallelism: int = 0,
    ) -> None:
        self._uri = uri
        self._is_open = False
        if compression_mode is Options.Compression.Best:
            raise errors.NotImplementedError(
                "at qdb_option_set_compression: The requested operation is not yet available."
            )
        self._check_credentials(
            (user_name, user_private_key, cluster_public_key), (user_security_file, cluster_public_key_file)
        )
        self._timeout = _milliseconds(timeout)
        if self._timeout < 1000:
            raise fault_of("qdb_option_set_timeout", "invalid")
        match = _URI.fullmatch(_decoded(uri))
        if match is None:
            raise fault_of("qdb_connect", "invalid")
        hosts = _hosts("qdb_connect", match[1])
        try:
            self._channel = Channel(hosts, self._timeout / 1000, is_served=self._is_served)
        except Trouble as trouble:
            raise fault_of("qdb_connect", str(trouble)) from None
        self._is_open = True

    def _check_credentials(self, keys: tuple[str, str, str], files: tuple[str, str]) -> None:
        for what, given in (("keys", keys), ("files", files)):
            if any(given) and not all(given):
                raise errors.Error(f"Either all {what} security settings must be provided, or none at all")
        if any(keys) and any(files):
            raise errors.Error("Either key or file security settings must be provided, or none at all")
        if any(keys):
            if len(keys[0]) > _MAX_USER:
                raise errors.Error(
                    f"at qdb_option_set_user_credentials: Got too big user name (max {_MAX_USER} characters)"
                )
            if keys[1][:1] != "S" or keys[2][:1] != "P" or not all(_KEY.fullmatch(key[1:]) for key in keys[1:]):
                raise errors.Error("at qdb_option_set_user_credentials: The provided cryptographic key is invalid.")
        if any(files) and not all(Path(file).is_file() for file in files):
            raise fault_of("qdb_option_load_security_files", "invalid")

    def _ask(self, function: str, call: str, *arguments: object) -> Any:
        if not self._is_open:
            raise fault_of(function, "handle")
        try:
            return self._channel.ask(call, list(arguments))
        except Trouble as trouble:
            fault = str(trouble)
        raise fault_of(function, fault)

    # --- entries ------------------------------------------------------------------------------------------------------

    @method(is_text)
    def blob(self, arg0: str, /) -> Blob:
        return Blob._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def string(self, arg0: str, /) -> String:
        return String._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def integer(self, arg0: str, /) -> Integer:
        return Integer._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def double(self, arg0: str, /) -> Double:
        return Double._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def timestamp(self, arg0: str, /) -> Timestamp:
        return Timestamp._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def tag(self, arg0: str, /) -> Tag:
        return Tag._make(self._ask, arg0)  # type: ignore[no-any-return]

    # --- names --------------------------------------------------------------------------------------------------------

    @method(is_text, is_integer)
    def prefix_get(self, arg0: str, arg1: int, /) -> list[str]:
        return _names(self._ask, "qdb_prefix_get", "prefix", arg0, arg1)

    @method(is_text)
    def prefix_count(self, arg0: str, /) -> int:
        function = "qdb_prefix_count"
        return int(self._ask(function, "count", "prefix", the_alias(function, arg0, "prefix")))

    @method(is_text, is_integer)
    def suffix_get(self, arg0: str, arg1: int, /) -> list[str]:
        return _names(self._ask, "qdb_suffix_get", "suffix", arg0, arg1)

    @method(is_text)
    def suffix_count(self, arg0: str, /) -> int:
        function = "qdb_suffix_count"
        return int(self._ask(function, "count", "suffix", the_alias(function, arg0, "suffix")))

    @method(is_text)
    def find(self, arg0: str, /) -> list[str]:
        return list(self._ask("qdb_query_find", "find", arg0))

    # --- nodes --------------------------------------------------------------------------------------------------------

    @method(is_text)
    def node(self, arg0: str, /) -> Node:
        return Node(arg0)

    @method(is_text)
    def node_config(self, arg0: str, /) -> object:
        return self._about("config", arg0)

    @method(is_text)
    def node_status(self, arg0: str, /) -> object:
        return self._about("status", arg0)

    @method(is_text)
    def node_topology(self, arg0: str, /) -> object:
        return self._about("topology", arg0)

    def _about(self, what: str, node: str) -> object:
        function = f"qdb_node_{what}"
        if _URI.fullmatch(node) is None:
            raise fault_of(function, "invalid")
        return self._ask(function, "node", what, node)

    @method()
    def endpoints(self) -> list[str]:
        return list(self._ask("qdb_cluster_endpoints", "endpoints"))

    @method()
    def options(self) -> Options:
        return Options._make(self._timeout)

    @method(lambda value: isinstance(value, timedelta))
    def purge_all(self, arg0: timedelta, /) -> None:
        self._ask("qdb_purge_all", "purge_all")

    # --- life ---------------------------------------------------------------------------------------------------------

    @method()
    def is_open(self) -> bool:
        return self._is_open

    @method()
    def uri(self) -> str:
        return self._uri

    @method()
    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._channel.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, arg0: type[BaseException] | None, arg1: BaseException | None, arg2: TracebackType | None
    ) -> None:
        self.close()


def _names(ask: Any, function: str, end: str, text: str, count: int) -> list[str]:
    name = the_alias(function, text, end)
    if count <= 0:
        raise fault_of(function, "invalid")
    return list(ask(function, "names", end, name, count))


class Node:
    """One node; it connects when it is first used."""

    @method(is_text, what="constructor")
    def __init__(self, uri: str) -> None:
        self._hosts = _hosts("qdb_direct_connect", _decoded(uri))
        self._channel: Channel | None = None

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle 'Node' object")

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None:
            channel.close()

    def _ask(self, function: str, call: str, *arguments: object) -> Any:
        try:
            if self._channel is None:
                self._channel = Channel(self._hosts, _NODE_TIMEOUT, is_served=True)
            return self._channel.ask(call, list(arguments))
        except Trouble as trouble:
            fault = str(trouble)
        raise fault_of(function, fault)

    @method(is_text)
    def blob(self, arg0: str, /) -> DirectBlob:
        return DirectBlob._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text)
    def integer(self, arg0: str, /) -> DirectInteger:
        return DirectInteger._make(self._ask, arg0)  # type: ignore[no-any-return]

    @method(is_text, is_integer)
    def prefix_get(self, arg0: str, arg1: int, /) -> list[str]:
        return _names(self._ask, "qdb_direct_prefix_get", "prefix", arg0, arg1)
