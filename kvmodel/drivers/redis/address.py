"""What a URL and its options say: which servers, how to get there, and with which credentials."""

from __future__ import annotations

import enum
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import SplitResult, unquote

import attrs

from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_text
from kvmodel.drivers.redis.link import Address, Settings
from kvmodel.errors import ValidationError

__all__ = ["OPTIONS", "SCHEMES", "Kind", "Target", "parse_target"]


class Kind(enum.Enum):
    """How the servers belong together."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


SCHEMES: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": (Kind.SERVER, False),
    "rediss": (Kind.SERVER, True),
    "redis+unix": (Kind.SERVER, False),
    "redis+cluster": (Kind.CLUSTER, False),
    "rediss+cluster": (Kind.CLUSTER, True),
    "redis+sentinel": (Kind.SENTINEL, False),
    "rediss+sentinel": (Kind.SENTINEL, True),
}
"""Each scheme, and whether it is encrypted."""

Remap = Callable[[tuple[str, int]], tuple[str, int]]

_PORTS: Final = {Kind.SERVER: 6379, Kind.CLUSTER: 6379, Kind.SENTINEL: 26379}
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _no_text(name: str) -> Callable[[str], object]:
    def refuse(text: str) -> object:
        raise ValueError(f"{name} is given by keyword: connect(url, {name}=...)")

    return refuse


OPTIONS: Final[dict[str, Callable[[str], object]]] = {
    "db": parse_int,
    "username": parse_text,
    "password": parse_text,
    "client_name": parse_text,
    "max_connections": parse_int,
    "connect_timeout": float,
    "ssl_ca_certs": parse_text,
    "ssl_certfile": parse_text,
    "ssl_keyfile": parse_text,
    "ssl_cert_reqs": parse_text,
    "ssl_check_hostname": parse_bool,
    "tls": _no_text("tls"),
    "service": parse_text,
    "sentinel_username": parse_text,
    "sentinel_password": parse_text,
    "address_remap": _no_text("address_remap"),
}


@attrs.frozen(kw_only=True, repr=False)
class Target:
    """What to connect to.

    Attributes:
        kind: How the servers belong together.
        addresses: The server; or sentinels, or nodes of the cluster, as far as they are known.
        text: The URL without credentials.
        settings: How to connect to servers.
        sentinel_settings: How to connect to sentinels.
        service: What sentinels call the service.
        max_connections: How many connections each server gets at the most.
        remap: Turns the addresses that a cluster announces into those that lead there from here.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    text: str
    settings: Settings
    sentinel_settings: Settings
    service: str = ""
    max_connections: int = 16
    remap: Remap | None = None


def parse_target(url: SplitResult, options: Mapping[str, object]) -> Target:
    """Read a URL. Raises ``ValidationError``."""
    kind, is_encrypted = SCHEMES[url.scheme]
    if url.fragment:
        raise ValidationError("a # in a URL has to be written %23", field="url")
    credentials, _, hosts = url.netloc.rpartition("@")
    user, has_password, password = credentials.partition(":")
    path = unquote(url.path)
    service = choose(options, "service", str, "")
    database: int | None = None
    if _is_socket(url, hosts):
        if not path.strip("/") or (hosts and url.scheme == "redis+unix"):
            raise ValidationError("give the path of a socket: redis+unix:///path/to/redis.sock", field="url")
        addresses: tuple[Address, ...] = (Address(path),)
    else:
        addresses = tuple(_parse_host(text, kind) for text in hosts.split(","))
        path_service, database = _parse_path(path, kind)
        service = service or path_service
    if kind is Kind.SERVER and len(addresses) > 1:
        raise ValidationError("several hosts are a cluster: redis+cluster://, or sentinels: redis+sentinel://")
    if kind is Kind.SENTINEL and not service:
        raise ValidationError("say which service: redis+sentinel://host:port/SERVICE", field="service")
    database = choose(options, "db", int, 0) if database is None else database
    if database < 0 or (kind is Kind.CLUSTER and database):
        raise ValidationError("databases have numbers from 0 on, and a cluster has only that one", field="db")
    tls = _tls(options, is_encrypted)
    timeout = choose(options, "connect_timeout", float, 10.0)
    settings = Settings(
        username=_credential(options, "username", unquote(user)),
        password=_credential(options, "password", unquote(password) if has_password else ""),
        database=database,
        client_name=choose(options, "client_name", str, "") or None,
        connect_timeout=timeout,
        tls=tls,
    )
    sentinel = Settings(
        username=_credential(options, "sentinel_username", ""),
        password=_credential(options, "sentinel_password", ""),
        connect_timeout=timeout,
        tls=tls,
    )
    limit = choose(options, "max_connections", int, 16)
    remap = options.get("address_remap")
    if limit < 1 or not timeout > 0:
        raise ValidationError("max_connections is at least 1, and connect_timeout is positive")
    if remap is not None and not callable(remap):
        raise ValidationError("address_remap takes a callable", field="address_remap")
    return Target(
        kind=kind,
        addresses=addresses,
        text=_text(url.scheme, addresses, service, database),
        settings=settings,
        sentinel_settings=sentinel,
        service=service,
        max_connections=limit,
        remap=remap,
    )


def _is_socket(url: SplitResult, hosts: str) -> bool:
    """Whether a URL leads to a socket: by its scheme, or because it has a path of several parts and no host."""
    return url.scheme == "redis+unix" or (url.scheme == "redis" and not hosts and "/" in url.path.strip("/"))


def _parse_host(text: str, kind: Kind) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(_PORTS[kind])
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else unquote(host)
    port = port or str(_PORTS[kind])
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValidationError("give servers as host:port, and several with commas between them", field="url")
    return Address(host or "localhost", int(port))


def _parse_path(path: str, kind: Kind) -> tuple[str, int | None]:
    """Read what follows the hosts: a service, where there are sentinels, and the number of a database."""
    parts = [part for part in path.split("/") if part]
    service = parts.pop(0) if kind is Kind.SENTINEL and parts and not parts[0].isdigit() else ""
    if not parts:
        return service, None
    if len(parts) > 1 or not parts[0].isascii() or not parts[0].isdigit():
        raise ValidationError("what follows the host is the number of a database: redis://host:port/0", field="url")
    return service, int(parts[0])


def _credential(options: Mapping[str, object], name: str, in_url: str) -> str | None:
    value = options.get(name, in_url)
    if not isinstance(value, str):  # Its value must not be shown.
        raise ValidationError(f"the option {name} takes a value of type str", field=name)
    return value or None


def _tls(options: Mapping[str, object], is_encrypted: bool) -> ssl.SSLContext | None:
    given = options.get("tls")
    names = [name for name in options if name.startswith("ssl_") or name == "tls"]
    if not is_encrypted:
        if names:
            raise ValidationError(f"the option {names[0]} is for encrypted connections: rediss://", field=names[0])
        return None
    if given is not None:
        if not isinstance(given, ssl.SSLContext):
            raise ValidationError("the option tls takes an ssl.SSLContext", field="tls")
        return given
    authorities, certificate, key = (choose(options, name, str, "") or None for name in _FILES)
    try:
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError(f"the certificates can't be read: {error}", field="ssl_ca_certs") from error
    requirement = choose(options, "ssl_cert_reqs", str, "required")
    if requirement not in ("required", "none"):
        raise ValidationError("ssl_cert_reqs is required or none", field="ssl_cert_reqs")
    context.check_hostname = requirement == "required" and choose(options, "ssl_check_hostname", bool, True)
    if requirement == "none":
        context.verify_mode = ssl.CERT_NONE
    return context


def _text(scheme: str, addresses: tuple[Address, ...], service: str, database: int) -> str:
    text = f"{scheme}://{','.join(map(str, addresses))}"
    if service:
        text += f"/{service}"
    return f"{text}/{database}" if database else text
