"""How to reach a cluster: its URI and the settings that every worker connects with, looked at before anything starts.

The library's own refusals list the arguments, private keys included. What is wrong is to be found here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import attrs

from kvmodel.drivers.quasardb.checks import STORE
from kvmodel.drivers.quasardb.worker import Settings
from kvmodel.errors import ValidationError

__all__ = ["DEFAULT_PORT", "LIBRARY", "Credentials", "make_settings", "parse_hosts"]

DEFAULT_PORT: Final = 2836
LIBRARY: Final = "quasardb"

_OVERHEAD: Final = 1 << 16
_LEAST_MESSAGE: Final = 1 << 24
_LEAST_TIMEOUT: Final = 1.0
_LONGEST_TIMEOUT: Final = (2**31 - 1) / 1000
_MAX_PARALLELISM: Final = 64
_MAX_USER_NAME: Final = 120
_COMPRESSIONS: Final = {"balanced": "Balanced", "disabled": "Disabled"}


@attrs.frozen(kw_only=True)
class Credentials:
    """Who connects: a name and two keys, or the files that hold them, or nobody in particular."""

    user_name: str = ""
    user_private_key: str = attrs.field(default="", repr=False)
    cluster_public_key: str = attrs.field(default="", repr=False)
    user_security_file: str = ""
    cluster_public_key_file: str = ""

    def check(self) -> None:
        """Raise ``ValidationError`` unless they are complete."""
        keys = (self.user_name, self.user_private_key, self.cluster_public_key)
        files = (self.user_security_file, self.cluster_public_key_file)
        if not all(isinstance(value, str) and "\0" not in value for value in (*keys, *files)):
            raise _refused("credentials are text, without NUL", "user_name")
        if any(keys) and any(files):
            raise _refused("give the keys themselves or the files that hold them, not both", "user_security_file")
        if any(keys) and not all(keys):
            raise _refused(
                "give user_name, user_private_key and cluster_public_key together, or none of them", "user_name"
            )
        if any(files) and not all(files):
            raise _refused("give user_security_file and cluster_public_key_file together", "user_security_file")
        if len(self.user_name) > _MAX_USER_NAME:
            raise _refused(f"a user name has at most {_MAX_USER_NAME} characters", "user_name")
        if any(files) and not all(Path(file).is_file() for file in files):
            raise _refused("a file of credentials is missing: check the paths", "user_security_file")


def parse_hosts(text: str) -> str:
    """Answer ``host:port,host:port``, with the default port where there is none."""
    hosts = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = part, str(DEFAULT_PORT)
        is_port = port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
        if not host or not is_port or any(c.isspace() or c in "/@?#\0" for c in host):
            raise ValidationError("give nodes as host:port,host:port", field="url", store=STORE)
        hosts.append(f"{host}:{int(port)}")
    return ",".join(hosts)


def make_settings(
    hosts: str,
    credentials: Credentials,
    *,
    library: str,
    library_timeout: float,
    encryption: bool,
    compression: str,
    parallelism: int,
    max_value_bytes: int,
) -> Settings:
    """Check everything, and answer what workers connect with. Raises ``ValidationError``."""
    credentials.check()
    if not all(part.isidentifier() for part in library.split(".")):
        raise _refused("the option library is the name of a Python module", "library")
    if math.isnan(library_timeout) or not _LEAST_TIMEOUT <= library_timeout <= _LONGEST_TIMEOUT:
        raise _refused("the library's own timeout is 1 second at least, and 24 days at most", "library_timeout")
    if compression not in _COMPRESSIONS:
        raise _refused("compression is balanced or disabled", "compression")
    if not 0 <= parallelism <= _MAX_PARALLELISM:
        raise _refused(
            f"parallelism is 0 (the library's choice) to {_MAX_PARALLELISM}: too large a number aborts the library",
            "parallelism",
        )
    return Settings(
        library,
        f"qdb://{hosts}",
        credentials.user_name,
        credentials.user_private_key,
        credentials.cluster_public_key,
        credentials.user_security_file,
        credentials.cluster_public_key_file,
        int(library_timeout * 1000),
        encryption,
        _COMPRESSIONS[compression],
        parallelism,
        max(max_value_bytes, _LEAST_MESSAGE) + _OVERHEAD,
    )


def _refused(text: str, field: str) -> ValidationError:
    return ValidationError(text, field=field, store=STORE)
