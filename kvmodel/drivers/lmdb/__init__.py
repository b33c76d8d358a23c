"""The driver for LMDB: an embedded, ordered, transactional store in one file."""

from kvmodel.drivers.lmdb.driver import LmdbDriver

__all__ = ["LmdbDriver"]
