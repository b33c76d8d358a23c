"""What is behind :mod:`kvmodel.tree`.

``paths`` knows the order of paths and the slices that they bound, ``skipping`` reads a tree's upper levels, ``ranges``
are the nodes down to a level and those above one. ``strict`` writes with a look at parents; ``moves`` moves, copies and
deletes whole subtrees, by means of ``commits``; ``printing`` prints them. ``cursor`` is a place in a tree, ``tree`` the
tree, ``repository`` is ``Node.objects``.
"""
