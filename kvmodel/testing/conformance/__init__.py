"""What every driver is held to: ``pytest --pyargs kvmodel.testing.conformance --kv-url=STORE://...``.

The suite is fed by what the driver declares in its :class:`~kvmodel.Capabilities`: what is claimed is proved, and what
is denied has to be refused with ``kv.Unsupported`` before anything is sent. What does not apply is skipped, and the
reason names the capability. A driver's own repository can also import the tests module by module (``from
kvmodel.testing.conformance.test_keys import *``) and override the fixture ``kv_url``, to run them on several stores.

Every test works in a namespace of its own, so that a store may hold other data; an empty one is the better choice.
"""
