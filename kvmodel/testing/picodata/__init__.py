"""A stand-in for a Picodata cluster, to test with: a real PostgreSQL, behind nodes that behave like Picodata's.

The nodes know the wire protocol. They recognise the statements that Picodata's manual describes, refuse all others,
write what only Picodata knows again for PostgreSQL, keep its limits, and answer the discovery tables. What
``BEGIN`` and ``COMMIT`` do there they do here: nothing. **It is no Picodata**: there are no buckets that move, no
replicas and no Raft; what a statement costs is a guess.

``python -m kvmodel.testing.picodata`` starts one node, ``--nodes 3`` three. In a test, ``async with`` a
:class:`LocalPicodata`; its nodes take a :class:`Mishap` for each statement that is to go wrong, and can leave.
"""

from kvmodel.testing.picodata.cluster import LocalPicodata
from kvmodel.testing.picodata.grammar import parse
from kvmodel.testing.picodata.node import Mishap, Node
from kvmodel.testing.picodata.postgres import MissingPostgres, PostgresServer, find_postgres
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tokens import Refusal

__all__ = [
    "LocalPicodata",
    "Mishap",
    "MissingPostgres",
    "Node",
    "PostgresServer",
    "Refusal",
    "Statement",
    "find_postgres",
    "parse",
]
