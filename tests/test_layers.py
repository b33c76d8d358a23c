"""The order of the layers, and what is public, hold in the source as it is."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import attrs
import pytest

import kvmodel as kv

PACKAGE = Path(kv.__file__).parent

# From the lowest to the highest. A module may import those of its own layer and of the layers below.
LAYERS = [
    ["kvmodel.errors"],
    [
        "kvmodel.drivers",
        "kvmodel.drivers.base",
        "kvmodel.drivers.facets",
        "kvmodel.drivers.meter",
        "kvmodel.drivers.refusals",
    ],
    ["kvmodel.drivers.formats", "kvmodel.drivers.formats.*"],
    ["kvmodel.drivers.*"],
    [
        "kvmodel._aio",
        "kvmodel._ambient",
        "kvmodel._compile",
        "kvmodel._deadlines",
        "kvmodel._later",
        "kvmodel._options",
        "kvmodel._registry",
        "kvmodel._stamps",
        "kvmodel._state",
        "kvmodel._tokens",
        "kvmodel.limits",
    ],
    ["kvmodel.fields", "kvmodel.fields.*"],
    ["kvmodel._generate", "kvmodel.schema"],
    ["kvmodel._declare", "kvmodel.model"],
    [
        "kvmodel._batching",
        "kvmodel._binding",
        "kvmodel._bulk",
        "kvmodel._commit",
        "kvmodel._direct",
        "kvmodel._joined",
        "kvmodel.batch",
        "kvmodel.query",
        "kvmodel.repository",
        "kvmodel.unit_of_work",
        "kvmodel.watching",
    ],
    ["kvmodel.database"],
    ["kvmodel._queue", "kvmodel._queue.*", "kvmodel._tree", "kvmodel._tree.*", "kvmodel.queue", "kvmodel.tree"],
    ["kvmodel"],
    ["kvmodel.testing", "kvmodel.testing.*"],
]
DRIVERS = 3
STORES = {"acapella", "arakoon", "elevator", "etcd", "lmdb", "memory", "picodata", "quasardb", "redis"}


@attrs.frozen
class Module:
    """One module of the package: its dotted name, and its source as a tree."""

    name: str
    tree: ast.Module

    @property
    def layer(self) -> int:
        """Where it stands."""
        return layer_of(self.name)

    def imports(self) -> Iterator[str]:
        """Every module that is imported when this one runs, whether at its top or inside a function."""
        for node in running(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (self._target(node.module, alias.name) for alias in node.names)

    def _target(self, module: str, name: str) -> str:
        path = PACKAGE.parent.joinpath(*module.split("."), name)
        is_module = module.startswith("kvmodel") and (path.is_dir() or path.with_suffix(".py").exists())
        return f"{module}.{name}" if is_module else module


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from running(node)


def layer_of(name: str) -> int:
    """Where a module stands; an exact name comes before a pattern."""
    exact = [number for number, names in enumerate(LAYERS) if name in names]
    matching = [number for number, names in enumerate(LAYERS) if any(fnmatch(name, pattern) for pattern in names)]
    assert matching, f"{name} has no place in LAYERS: give it one"
    return (exact or matching)[0]


def modules() -> list[Module]:
    """All modules of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


MODULES = modules()
every_module = pytest.mark.parametrize("module", MODULES, ids=[module.name for module in MODULES])


@every_module
def test_layers_know_only_what_is_below(module: Module) -> None:
    """Lower layers never import higher ones, and nothing above the waist imports a driver."""
    for target in module.imports():
        if not target.startswith("kvmodel"):
            continue
        layer = layer_of(target)
        assert layer <= module.layer, f"{module.name} imports {target}, which is above it"
        assert layer != DRIVERS or module.layer in (DRIVERS, layer_of("kvmodel.testing")), (
            f"{module.name} imports the driver {target}"
        )


@every_module
def test_drivers_do_not_know_each_other(module: Module) -> None:
    """A store's module, or folder, holds all that is known about that store."""
    store = store_of(module.name)
    others = [target for target in module.imports() if store_of(target) not in (None, store)]

    assert store is None or others == []


def store_of(name: str) -> str | None:
    """The store that a module is about, if it is about one."""
    parts = name.split(".")
    is_store = len(parts) > 2 and parts[:2] == ["kvmodel", "drivers"] and parts[2] in STORES
    return parts[2] if is_store else None


@every_module
def test_asyncio_has_its_place(module: Module) -> None:
    """asyncio is imported by drivers, by one module above them and by the test tools; a synchronous twin needs that."""
    allowed = module.name == "kvmodel._aio" or module.layer in (DRIVERS, layer_of("kvmodel.testing"))

    assert allowed or not any(target.partition(".")[0] == "asyncio" for target in module.imports())


@every_module
def test_no_store_is_named_above_the_drivers(module: Module) -> None:
    """The code of the waist and of the mapper names no store: neither in a name nor in a text that it works with."""
    if module.layer == DRIVERS or module.layer >= layer_of("kvmodel"):
        return

    assert (STORES - {"memory"}) & words(module.tree) == set()


def words(tree: ast.Module) -> set[str]:
    """All words of the names and texts in a module, those of docstrings left out."""
    docstrings = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if node not in docstrings:
                found.update("".join(c if c.isalnum() else " " for c in text.lower()).split())
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.ClassDef(name=name):
                found.update(name.lower().split("_"))
            case _:
                pass
    return found


# --- what an import brings ---


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    program = f"import sys\n{statement}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)))


def test_import_loads_no_driver() -> None:
    """``import kvmodel`` loads no driver and no store's library: a URL decides about those, later."""
    loaded = loaded_by("import kvmodel")

    drivers = {name for name in loaded if name.startswith("kvmodel.drivers.") and layer_of(name) == DRIVERS}
    assert drivers == set()
    assert loaded & {"lmdb", "cryptography", "redis", "aiohttp", "zmq", "pytest", "hypothesis"} == set()


def test_import_brings_little_else() -> None:
    """Beyond its dependencies and asyncio, kvmodel imports only a few small modules of the standard library."""
    needed = loaded_by("import annotated_types, asyncio, attrs, cattrs, msgpack, uuid, secrets")

    more = {name for name in loaded_by("import kvmodel") - needed if not name.startswith("kvmodel")}
    assert len(more) <= 12, sorted(more)
    assert more & {"cattrs.preconf", "http", "importlib.metadata", "multiprocessing", "sqlite3", "unittest"} == set()


# --- what is public ---


def test_all_is_what_is_visible() -> None:
    """``__all__`` is sorted, and lists exactly the public names that the package shows."""
    visible = [
        name
        for name in dir(kv)
        if not name.startswith("_") and name != "annotations" and not isinstance(getattr(kv, name), ModuleType)
    ]

    assert sorted(visible) == sorted(kv.__all__)
    assert len(kv.__all__) == len(set(kv.__all__))


def test_public_objects_say_where_they_are_found() -> None:
    """A class or function that is re-exported carries the public module in its repr, documentation and pickles."""
    elsewhere = {
        name: module
        for name in kv.__all__
        if (module := getattr(getattr(kv, name), "__module__", None)) not in (None, "kvmodel")
    }

    assert elsewhere == {}


def test_errors_are_public() -> None:
    """Every class of the error tree can be caught by its public name."""
    from kvmodel import errors

    assert set(errors.__all__) <= set(kv.__all__)


def test_the_package_is_typed() -> None:
    """Type checkers look at the annotations only where a marker says so."""
    assert (PACKAGE / "py.typed").exists()
