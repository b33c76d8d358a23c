"""What a model compiled to: the mapper works from its schema, never from the class.

Rules. What can be judged when the class is made is judged then; the functions are generated at the first use. Strict
both ways: :meth:`Schema.dump` refuses what :meth:`Schema.load` would not take.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import attrs

from kvmodel._generate import generate_dump, generate_key_of, generate_load, generate_make
from kvmodel._state import get_state, set_state
from kvmodel.drivers.base import Key, KeyField, KeyPart, Row, Table, ValueField, Values
from kvmodel.drivers.facets import TreeStore
from kvmodel.errors import DecodingError, KvModelError, SchemaError, ValidationError
from kvmodel.fields.base import Mismatch
from kvmodel.fields.keys import KeyCodec
from kvmodel.fields.members import Member

_FROZEN = attrs.frozen(type("Frozen", (), {})).__setattr__

UpgradeStep = Callable[[dict[str, Any]], dict[str, Any]]


@attrs.frozen(eq=False)
class KeyMember:
    """One key field: its name, how it becomes a component, and which way it counts."""

    name: str
    codec: KeyCodec
    descending: bool = False
    options: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def field(self) -> KeyField:
        """The field as the waist sees it."""
        return KeyField(self.name, self.codec.type, self.descending, self.options)

    def convert(self, value: Any) -> KeyPart:
        """Turn a value into a component; ``Mismatch`` names the field."""
        try:
            return self.codec.convert(value)
        except Mismatch as error:
            raise error.under(f".{self.name}") from error.__cause__

    def restore(self, part: Any) -> Any:
        """Turn a component back into a value."""
        try:
            return part if self.codec.restore is None else self.codec.restore(part)
        except Mismatch as error:
            raise error.under(f".{self.name}") from error.__cause__


@attrs.define(eq=False, kw_only=True)
class Schema:
    """A model, compiled.

    Attributes:
        model: The class.
        name: The table.
        number: The schema number: records of older ones are upgraded when they are loaded.
        partition, clustering, values: The fields as the waist sees them.
        whole_value: The field that alone is the value where records have no envelope, if one is.
        own_options: What the class line says in words that only this kind of model has.
        facet: What keeps the records, where a driver has it.
        companions: The schemas of tables that go along with this one, and are prepared and purged with it.
        make_key: From a user's arguments to a key; ``ValidationError`` for wrong ones.
        make_partition: The same for the partition fields alone.
        key_of: From an object to its key.
        dump: From an object to the values to store, unknown fields of the loaded record included.
        load: From a row to a new object, loaded at the row's version.
    """

    model: type[Any]
    name: str
    model_name: str
    key_members: tuple[KeyMember, ...]
    partition_count: int
    value_members: tuple[Member, ...]
    constructor: tuple[Member, ...]
    value_options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)
    number: int = 1
    steps: Mapping[int, UpgradeStep] = attrs.field(factory=dict)
    layout: Literal["record", "plain"] = "record"
    whole_value: str | None = None
    expires_in: timedelta | None = None
    store_options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)
    own_options: Mapping[str, object] = attrs.field(factory=dict)
    facet: type[TreeStore] | None = None
    companions: tuple[Schema, ...] = ()

    partition: tuple[KeyField, ...] = attrs.field(init=False)
    clustering: tuple[KeyField, ...] = attrs.field(init=False)
    values: tuple[ValueField, ...] = attrs.field(init=False)
    make_key: Callable[..., Key] = attrs.field(init=False)
    make_partition: Callable[..., Key] = attrs.field(init=False)
    key_of: Callable[[Any], Key] = attrs.field(init=False)
    dump: Callable[[Any], Values] = attrs.field(init=False)
    load: Callable[[Row], Any] = attrs.field(init=False)
    _known: frozenset[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        keys = tuple(member.field for member in self.key_members)
        self.partition = keys[: self.partition_count]
        self.clustering = keys[self.partition_count :]
        self.values = tuple(
            ValueField(member.name, member.codec.type, self.value_options.get(member.name, {}))
            for member in self.value_members
        )
        self._known = frozenset(member.name for member in self.value_members)
        self.make_key = generate_make(self, self.key_members, "make_key")
        self.make_partition = generate_make(self, self.key_members[: self.partition_count], "make_partition")
        self.key_of = generate_key_of(self)
        self.dump = generate_dump(self)
        self.load = generate_load(self)

    @property
    def is_frozen(self) -> bool:
        """Whether objects refuse assignments."""
        return self.model.__setattr__ is _FROZEN

    @property
    def key_fields(self) -> tuple[KeyField, ...]:
        """All key fields: partition, then clustering."""
        return self.partition + self.clustering

    def make_clustering(self, parts: tuple[Any, ...]) -> Key:
        """Make the first components of a clustering key."""
        return self.convert_key(parts, self.key_members[self.partition_count :][: len(parts)])

    def convert_key(self, parts: tuple[Any, ...], members: Sequence[KeyMember]) -> Key:
        """Turn a user's arguments into the components of these fields."""
        if len(parts) != len(members):
            raise self._arity(parts, members)
        try:
            return tuple(member.convert(part) for member, part in zip(members, parts, strict=True))
        except Mismatch as error:
            raise ValidationError(
                error.problem, table=self.name, key=parts, field=error.path.lstrip(".")
            ) from error.__cause__

    def _arity(self, parts: tuple[Any, ...], members: Sequence[KeyMember]) -> ValidationError:
        wanted = ", ".join(member.name for member in members)
        return ValidationError(
            f"this needs {len(members)} key values ({wanted}), not {len(parts)}", table=self.name, key=parts
        )

    def load_into(self, obj: Any, row: Row) -> None:
        """Give an object the fields and the state of a row, in place."""
        if self.is_frozen:
            raise ValidationError("a frozen object can't be refreshed: get it anew", table=self.name, key=row.key)
        fresh = self.load(row)
        for member in self.constructor:
            object.__setattr__(obj, member.name, getattr(fresh, member.name))
        set_state(obj, get_state(fresh))

    def check_changes(self, changes: Mapping[str, object]) -> None:
        """Refuse changes of key fields, and of fields that are not there."""
        keys = {member.name for member in self.key_members}
        for name in changes:
            if name in keys:
                raise ValidationError(
                    "a key field can't be changed: delete the record and create another", table=self.name, field=name
                )
            if name not in self._known:
                known = ", ".join(member.name for member in self.value_members)
                raise ValidationError(f"no such field, there are: {known}", table=self.name, field=name)

    def make_table(self, namespace: tuple[str, ...] = ()) -> Table:
        """Make the table that drivers see."""
        return Table(
            name=self.name,
            partition=self.partition,
            clustering=self.clustering,
            values=self.values,
            namespace=namespace,
            schema_number=self.number,
            layout=self.layout,
            whole_value=self.whole_value,
            options=self.store_options,
        )

    def upgrade(self, values: Values, number: int) -> Values:
        """Bring the values of a record with another schema number to this one."""
        if number > self.number:
            raise Mismatch(f"this record has the newer schema number {number}: update the program")
        if number < 1:
            raise Mismatch("this record has no valid schema number")
        for step in range(number, self.number):
            values = self._upgrade_once(values, step)
        return values

    def _upgrade_once(self, values: Values, step: int) -> Values:
        try:
            upgraded = self.steps[step](values)
        except Exception as error:
            raise Mismatch(f"the upgrade step from schema number {step} failed: mend it") from error
        if type(upgraded) is not dict:
            raise Mismatch(f"the upgrade step from schema number {step} gave no dict: let it return the values")
        return upgraded

    def keep(self, values: Values, note: list[bool] | None) -> Values | None:
        """Answer what must be kept of the stored values: all of them, if any field is unknown."""
        return copy.deepcopy(values) if note or not self._known.issuperset(values) else None

    def merge(self, values: Values, raw: Values) -> Values:
        """Put the unknown fields of the loaded record back into what is stored."""
        for name, kept in raw.items():
            if name not in self._known:
                values[name] = copy.deepcopy(kept)
        for member in self.value_members:
            if member.codec.holds_objects and member.name in raw:
                values[member.name] = member.codec.merge(values[member.name], raw[member.name])
        return values

    def stranger(self, obj: object) -> ValidationError:
        """Make the error for an object of another class; a subclass has a table of its own."""
        return ValidationError(
            f"expected an object of {self.model_name}, not of {type(obj).__qualname__}: use that class's objects",
            table=self.name,
        )

    def values_of(self, row: Row) -> Values:
        """Answer what a row says, in the words of this declaration; what the declaration does not know stays.

        Raises ``DecodingError`` where the record can't be brought to this schema number.
        """
        if row.schema_number == self.number:
            return row.values
        try:
            return self.upgrade(row.values, row.schema_number)
        except Mismatch as error:
            raise self.load_failed(error, row.key) from error.__cause__

    def load_failed(self, error: Exception, key: Key) -> Exception:
        """Make the error for a record that could not be loaded."""
        if isinstance(error, MemoryError):
            return error
        problem, field = _explain(error, "the constructor refused what is stored")
        return DecodingError(problem, table=self.name, key=key, field=field)

    def dump_failed(self, error: Exception, obj: Any) -> Exception:
        """Make the error for an object that can't be stored."""
        if isinstance(error, MemoryError):
            return error
        problem, field = _explain(error, "this object can't be stored, look at the cause: is a field unset?")
        key = tuple(getattr(obj, member.name, None) for member in self.key_members)
        return ValidationError(problem, table=self.name, key=key, field=field)


def _explain(error: Exception, otherwise: str) -> tuple[str, str | None]:
    """Answer an error's text and its field."""
    if isinstance(error, Mismatch):
        return error.problem, error.path.lstrip(".") or None
    if isinstance(error, RecursionError):
        return "this is nested too deeply, or in itself", None
    if isinstance(error, KvModelError):
        return error.message, error.field
    return f"{otherwise} ({type(error).__name__})", None


def schema_of(model: type) -> Schema:
    """Answer the schema of a model; compiles it at the first call. ``SchemaError`` for what is no concrete model."""
    schema = model.__dict__.get("_kv_schema")
    if isinstance(schema, Schema):
        return schema
    build: Callable[[], Schema] | None = model.__dict__.get("_kv_build")
    if build is None:
        raise SchemaError(f"{model.__name__} is not a model with a table: declare it with table=")
    return build()
