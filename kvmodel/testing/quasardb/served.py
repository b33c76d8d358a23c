"""The stand-in for a server that was started by hand: connecting to none is refused, as with the package."""

from kvmodel.testing import quasardb as _surface
from kvmodel.testing.quasardb import connections as _connections
from kvmodel.testing.quasardb.entries import never_expires

__all__ = ["Cluster", "Options", "build", "never_expires", "version"]

Options = _connections.Options
build = _surface.build
version = _surface.version


class Cluster(_connections.Cluster):
    """A connection to a cluster."""

    _is_served = True
