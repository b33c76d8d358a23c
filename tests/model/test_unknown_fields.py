"""Fields that a model doesn't know, nested ones too, survive when a loaded object is saved."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest

import kvmodel as kv
from kvmodel._state import get_state
from kvmodel.drivers.base import Row, Values
from kvmodel.schema import schema_of
from tests.model.strategies import Point, Tree


@attrs.define
class Item:
    """A nested object."""

    name: str
    count: int = 0
    parts: list[Item] = attrs.field(factory=list)


class Box(kv.Model, table="boxes"):
    """Objects in every place where they may stand."""

    id: str = kv.partition_key()
    item: Item | None = None
    items: list[Item] = kv.field(factory=list)
    by_name: dict[str, Item] = kv.field(factory=dict)
    by_number: dict[int, Item] = kv.field(factory=dict)
    pair: tuple[int, Item] | None = None
    either: Point | Tree | str | None = None
    points: frozenset[Point] = frozenset()
    maybe: list[Item] | None = None
    maybe_map: dict[str, Item] | None = None
    maybe_pairs: dict[int, Item] | None = None


def load(**values: Any) -> Box:
    """Load a box from stored values."""
    loaded: Box = schema_of(Box).load(Row(("a",), values, b"1"))
    return loaded


def saved(box: Box) -> Values:
    """Answer what would be stored."""
    return schema_of(Box).dump(box)


def item(name: str, **more: Any) -> dict[str, Any]:
    """Write a stored item."""
    return {"name": name, "count": 0, "parts": [], **more}


def test_unknown_fields_of_a_record_are_kept() -> None:
    """They are stored again beside the known ones, which win."""
    box = load(new=[1, 2], item=None)
    box.item = Item("a")

    values = saved(box)

    assert values["new"] == [1, 2]
    assert values["item"] == item("a")


def test_records_without_unknown_fields_keep_nothing() -> None:
    """Stored values are remembered only where something in them would be lost."""
    for box in (load(), load(item=item("a"), items=[item("b")])):
        state = get_state(box)
        assert state is not None
        assert state.raw is None
    with_unknown = get_state(load(item=item("a", new=1)))
    assert with_unknown is not None
    assert with_unknown.raw is not None


@pytest.mark.parametrize(
    ("field", "stored"),
    [
        ("item", item("a", new=1)),
        ("item", item("a", parts=[item("b", parts=[item("c", new=1)])])),
        ("items", [item("a"), item("b", new=1)]),
        ("by_name", {"x": item("a", new=1), "y": item("b")}),
        ("by_number", [[1, item("a", new=1)], [2, item("b")]]),
        ("pair", [1, item("a", new=1)]),
        ("either", {"_type": "Point", "x": 1, "y": 0.0, "z": 5}),
        ("points", [{"x": 1, "y": 0.0, "z": 5}, {"x": 2, "y": 0.0}]),
    ],
)
def test_unknown_fields_survive_in_every_place(field: str, stored: Any) -> None:
    """An unchanged object is stored as it was, whatever else it held; so is a copy of it."""
    box = load(**{**saved(Box("a")), field: stored})

    assert saved(box)[field] == stored
    assert saved(copy.deepcopy(box))[field] == stored
    assert saved(kv.replace(box))[field] == stored


@pytest.mark.parametrize(
    ("field", "stored", "new", "expected"),
    [
        ("item", item("a", new=1), Item("b", 3), item("b", count=3, new=1)),
        ("item", item("a", new=1), None, None),
        ("by_name", {"x": item("a", new=1)}, {"x": Item("b"), "y": Item("c")}, {"x": item("b", new=1), "y": item("c")}),
        ("by_number", [[1, item("a", new=1)]], {2: Item("a"), 1: Item("b")}, [[2, item("a")], [1, item("b", new=1)]]),
        ("either", {"_type": "Point", "x": 1, "z": 5}, Tree("t"), {"_type": "Tree", "name": "t", "children": []}),
        ("either", {"_type": "Point", "x": 1, "z": 5}, "text", "text"),
        ("pair", [1, item("a", new=1)], (2, Item("b")), [2, item("b", new=1)]),
        ("pair", [1, item("a", new=1)], None, None),
        ("maybe", None, [Item("a")], [item("a")]),
        ("maybe_map", None, {"x": Item("a")}, {"x": item("a")}),
        ("maybe_pairs", None, {1: Item("a")}, [[1, item("a")]]),
        ("pair", None, (2, Item("b")), [2, item("b")]),
        ("item", None, Item("b"), item("b")),
        ("either", "text", Point(1), {"_type": "Point", "x": 1, "y": 0.0}),
        ("either", {"_type": "Point", "x": 1, "z": 5}, None, None),
        ("either", "text", "other", "other"),
        ("maybe", [item("a", new=1)], None, None),
        ("points", [{"x": 1, "y": 0.0, "z": 5}], frozenset({Point(2)}), [{"x": 2, "y": 0.0}]),
    ],
)
def test_unknown_fields_follow_their_place(field: str, stored: Any, new: Any, expected: Any) -> None:
    """An object that is replaced inherits the unknown fields of the one in its place, of the same class."""
    box = load(**{field: stored}, unknown=1)
    setattr(box, field, new)

    assert saved(box)[field] == expected


def names_with_new(values: Values) -> list[tuple[str, Any]]:
    """Answer name and unknown field of all stored items."""
    stored = values["items"]
    assert isinstance(stored, list)
    return [(one["name"], one.get("new")) for one in stored if isinstance(one, dict) and isinstance(one["name"], str)]


def test_elements_of_a_list_are_found_by_content() -> None:
    """Inserted, removed and moved elements keep what is theirs; one that changed in place keeps its place's."""
    box = load(items=[item(name, new=name.upper()) for name in "abc"])

    box.items.reverse()
    assert names_with_new(saved(box)) == [("c", "C"), ("b", "B"), ("a", "A")]
    box.items.insert(0, Item("x"))
    assert names_with_new(saved(box)) == [("x", None), ("c", "C"), ("b", "B"), ("a", "A")]
    del box.items[:2]
    assert names_with_new(saved(box)) == [("b", "B"), ("a", "A")]

    box = load(items=[item(name, new=name.upper()) for name in "abc"])
    box.items[1].count = 9
    assert names_with_new(saved(box)) == [("a", "A"), ("b", "B"), ("c", "C")]


def test_equal_elements_of_a_list_each_keep_their_own() -> None:
    """Of elements with the same content each unknown field goes to one, those in place first."""
    box = load(items=[item("a", new=1), item("a", new=2), item("b", new=3)])
    del box.items[0]
    box.items.append(Item("a"))

    assert names_with_new(saved(box)) == [("a", 1), ("b", 3), ("a", 2)]


def test_elements_that_lack_a_known_field_are_found() -> None:
    """An element written before a field existed is found by what is known of it."""
    box = load(items=[{"name": "a", "new": 1}, {"name": "b", "new": 2}])
    box.items.pop(0)

    assert names_with_new(saved(box)) == [("b", 2)]


def test_what_is_kept_is_out_of_reach() -> None:
    """Changing a loaded object, or what was dumped of it, does not change what is kept."""
    box = load(item=item("a", new={"deep": [1]}), items=[item("b", new=1)], extra=[1])
    first = saved(box)
    box.items[0].parts.append(Item("x"))
    for value in (first["extra"], first["items"]):
        assert isinstance(value, list)
        value.clear()
    stored = first["item"]
    assert isinstance(stored, dict)
    stored["new"] = None

    again = saved(box)

    assert (again["extra"], again["item"]) == ([1], item("a", new={"deep": [1]}))
    assert again["items"] == [item("b", parts=[item("x")], new=1)]
