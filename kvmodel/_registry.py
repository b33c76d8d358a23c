"""From a URL to a driver: schemes resolve through the entry points of the group ``kvmodel.drivers``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

from kvmodel.drivers.base import Driver
from kvmodel.errors import Unsupported, ValidationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["DriverClass", "find_driver", "split_options", "split_url"]

GROUP = "kvmodel.drivers"

Parser = Callable[[str], object]


class DriverClass(Protocol):
    """What an entry point answers.

    Attributes:
        options: The parser of each option's text; a parser raises ``ValueError`` with words for what it refuses.
    """

    options: Mapping[str, Parser]

    def from_url(self, url: SplitResult, options: Mapping[str, object]) -> Driver:
        """Make a driver that is not open yet."""
        ...


def split_url(url: str | None) -> SplitResult:
    """Take a URL apart; ``None`` stands for the environment's ``KVMODEL_URL``."""
    if url is None:
        url = os.environ.get("KVMODEL_URL")
        if not url:
            raise ValidationError(f"give a URL, or set KVMODEL_URL. Schemes with a driver: {_schemes()}")
    if not isinstance(url, str):
        raise ValidationError(f"a URL is a str, not a {type(url).__name__}")
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:  # Several hosts are for their driver to take apart.
            _ = parts.port
    except ValueError:  # Its words may hold what was taken for a port, and is a piece of a password.
        raise ValidationError(
            "this URL can't be read: percent-encode what is special in its user name, password and host"
        ) from None
    if not parts.scheme or "://" not in url:
        raise ValidationError(f"this URL names no store: begin with a scheme. Those with a driver: {_schemes()}")
    return parts


def find_driver(scheme: str) -> DriverClass:
    """Load the driver of a scheme.

    Raises:
        ValidationError: No installed driver has this scheme; the known ones are named.
        Unsupported: The driver's own dependencies are missing; the message says what to install.
    """
    point = _points().get(scheme)
    if point is None:
        raise ValidationError(f"no driver is installed for {scheme}://. Known are: {_schemes()}")
    try:
        return cast("DriverClass", point.load())
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "kvmodel":
            raise
        raise Unsupported(f"the driver for {scheme}:// lacks what it needs ({error}): {_remedy(point)}") from error


def _points() -> dict[str, EntryPoint]:
    """The entry points of all drivers, by scheme."""
    from importlib.metadata import entry_points  # Slow to import, and not needed before a connection is made.

    return {point.name: point for point in entry_points(group=GROUP)}


def _schemes() -> str:
    """All schemes that have a driver, for messages."""
    return ", ".join(f"{name}://" for name in sorted(_points())) or "none, as kvmodel itself is not installed"


def _remedy(point: EntryPoint) -> str:
    match = re.match(r"kvmodel\.drivers\.(\w+)", point.value)
    if match is not None:
        return f"pip install 'kvmodel[{match[1]}]'"
    return f"look at what {point.value.partition(':')[0]} asks to have installed"


def split_options(
    driver: DriverClass, url: SplitResult, given: Mapping[str, object], common: Mapping[str, Parser]
) -> tuple[dict[str, object], dict[str, object]]:
    """Read the options of a URL's query and of keywords (which win); answer the common ones and the driver's own.

    Raises:
        ValidationError: An option is unknown, comes twice, or has a value that is refused.
    """
    parsers = {**driver.options, **common}
    options: dict[str, object] = {}
    for name, text in parse_qsl(url.query, keep_blank_values=True):
        if name in options:
            raise ValidationError(f"option {name} stands twice in the URL: once is enough", field=name)
        options[name] = _parse(parsers, name, text)
    for name, value in given.items():
        options[name] = _parse(parsers, name, value) if isinstance(value, str) else _known(parsers, name, value)
    return (
        {name: value for name, value in options.items() if name in common},
        {name: value for name, value in options.items() if name not in common},
    )


def _known(parsers: Mapping[str, Parser], name: str, value: object) -> object:
    if name not in parsers:
        raise ValidationError(f"there is no option {name}. Known are: {', '.join(sorted(parsers))}", field=name)
    return value


def _parse(parsers: Mapping[str, Parser], name: str, text: str) -> object:
    _known(parsers, name, text)
    try:
        return parsers[name](text)
    except ValidationError:
        raise
    except ValueError as error:
        raise ValidationError(f"option {name} is refused: {error}", field=name) from None
