"""What is behind :mod:`kvmodel.queue`. How a queue lies in a store, and why, is told in ``layout``.

From the ground up: ``ids`` gives time-ordered ids and ``spans`` reads times; ``tables`` knows a queue's tables on one
connection, ``place`` the steps that move a message in one partition. ``putting`` and ``bulk`` bring messages in,
``reading`` shows them. ``taking`` leases them, ``desk`` does so for all consumers of a connection, ``consumer`` hands
them out and ``message`` settles them. ``sweeping`` purges and redrives. ``repository`` is ``Event.objects``.
"""
