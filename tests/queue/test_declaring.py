"""What a queue model is, and what it must not declare."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

import kvmodel as kv
from kvmodel.model import ModelType
from kvmodel.schema import schema_of
from tests.queue.models import Event, Wide

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def test_id_is_given_by_name_or_not_at_all() -> None:
    """It is keyword-only, unset until it is put, and part of the value."""
    event: Any = Event("q", "data")

    assert event.id is None
    assert event == Event("q", "data")
    assert Event("q", "data", id=ID) != event
    assert Event("q", "data", id=ID).id == ID
    with pytest.raises(TypeError):
        Event("q", "data", ID)  # type: ignore[call-arg]


def test_the_key_ends_with_the_id() -> None:
    """Whatever else is declared, and in whatever order."""
    schema = schema_of(Event)

    assert [field.name for field in schema.partition] == ["queue"]
    assert [field.name for field in schema.clustering] == ["id"]


def test_fields_may_come_from_abstract_bases() -> None:
    """A queue model can be extended, and inherits its id once."""

    class Base(kv.QueueModel):
        tenant: str = kv.partition_key()

    class Job(Base, table="jobs"):
        queue: str = kv.partition_key()
        data: str

    assert [field.name for field in schema_of(Job).key_fields] == ["tenant", "queue", "id"]
    assert Job("t", "q", "x", id=ID).id == ID


def test_another_clustering_key_is_refused() -> None:
    """A queue is ordered by its ids, and by nothing else."""
    with pytest.raises(kv.SchemaError, match="ordered by the id") as caught:

        class Bad(kv.QueueModel, table="bad"):
            queue: str = kv.partition_key()
            priority: int = kv.clustering_key()

    assert caught.value.field == "Bad.priority"


@pytest.mark.parametrize("name", ["id", "shard"])
def test_taken_names_are_refused(name: str) -> None:
    """A queue model has an id and a shard already."""
    body: dict[str, Any] = {
        "__annotations__": {"queue": str, name: int},
        "queue": kv.partition_key(),
        name: kv.field(default=0),
    }

    with pytest.raises(kv.SchemaError, match="of its own"):
        ModelType("Bad", (kv.QueueModel,), body, table="bad")


def test_a_long_table_name_is_refused() -> None:
    """The tables of tickets and dead letters have longer ones."""
    with pytest.raises(kv.SchemaError, match="at most 46 characters"):

        class Bad(kv.QueueModel, table="t" * 47):
            queue: str = kv.partition_key()


def test_the_plain_layout_is_refused() -> None:
    """A queue needs versions that never repeat."""

    class Bad(kv.QueueModel, table="bad", layout="plain"):
        queue: str = kv.partition_key()
        data: str

    with pytest.raises(kv.SchemaError, match="remove layout="):
        schema_of(Bad)


@pytest.mark.parametrize(
    "options",
    [{"shards": 0}, {"shards": 1025}, {"shards": True}, {"shards": "8"}, {"max_attempts": 0}, {"max_attempts": 1.5}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """When the class is made, naming the option."""
    with pytest.raises(kv.SchemaError, match=next(iter(options))):
        ModelType("Bad", (kv.QueueModel,), {}, table="bad", **options)


def test_a_model_without_partition_fields_is_one_queue() -> None:
    """Its key is the id alone."""

    class Lone(kv.QueueModel, table="lone"):
        data: str = ""

    assert [field.name for field in schema_of(Lone).key_fields] == ["id"]


def test_shards_are_in_the_key() -> None:
    """Behind what names the queue; the id tells which, so nobody has to give it."""
    schema = schema_of(Wide)
    message = Wide("q", "x", id=ID)

    assert [field.name for field in schema.partition] == ["queue", "shard"]
    assert message.shard == ID.int % 8
    assert schema.key_of(message) == schema.make_key("q", ID) == ("q", ID.int % 8, ID)
    assert Wide("q").shard == Event("q", id=uuid4()).shard == 0


def test_message_classes_are_found_in_the_public_module() -> None:
    """They are imported when they are asked for, say that they are found there, and other names are not there."""
    from kvmodel import queue

    classes = [getattr(queue, name) for name in queue.__all__ if name != "QueueModel"]
    assert {each.__module__ for each in classes} == {"kvmodel.queue"}
    assert not hasattr(queue, "Nothing")
