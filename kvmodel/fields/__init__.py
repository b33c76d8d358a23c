"""How the fields of a model are declared, and how each type of value becomes a key component or a stored value.

``specifiers`` and ``upgrade`` hold what a class body says, ``resolve`` turns annotations into types, ``select`` finds
the codec of a type. The codecs live in one module for each family: ``scalars``, ``choices``, ``unions``,
``collections``, ``mappings``, ``objects``, ``constraints``, ``own`` (a user's own types), and ``keys`` for the
components of keys.
"""

from kvmodel.fields.own import converter
from kvmodel.fields.specifiers import clustering_key, field, partition_key
from kvmodel.fields.upgrade import upgrade

__all__ = ["clustering_key", "converter", "field", "partition_key", "upgrade"]
