"""The recorded exchanges in ``transcript.jsonl``: what an original client sent, and what a real server answered.

The recordings were made with a server of the 1.9 line (38 commits after 1.9.25) and its original Python clients. Each
line has the method and its arguments, the bytes both ways, and what the client made of them. Byte strings are
``{"hex": ...}``; a long one is said in the form ``{"repeat_hex", "times"}``, a long message by its length and digest.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from kvmodel.drivers.arakoon import protocol, steps
from kvmodel.drivers.arakoon.nursery import ClusterNode, Leaf, NurseryConfig, Routing, Split
from kvmodel.drivers.arakoon.protocol import COMMANDS, Call
from kvmodel.drivers.arakoon.wire import CONSISTENT, NO_GUARANTEES, AtLeast, Consistency

PATH = Path(__file__).parent / "transcript.jsonl"

Line = dict[str, Any]

_BY_NAME = {command.name: command for command in COMMANDS.values()}
_CONSISTENCY = {"consistent": CONSISTENT, "no_guarantees": NO_GUARANTEES}


@cache
def lines() -> tuple[Line, ...]:
    """All of it."""
    return tuple(json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines())


def named(line: Line) -> str:
    """What to call a line in a test's name."""
    return f"{line['session']}-{line['n']}-{line['op']}"


def calls() -> list[Line]:
    """The lines that are a call of a method, with an answer or an error."""
    return [line for line in lines() if line["op"] not in ("prologue", "raw", "pipeline")]


def value(stored: Any) -> Any:
    """Take a value out of its JSON clothes."""
    if isinstance(stored, dict):
        if "hex" in stored:
            return bytes.fromhex(stored["hex"])
        if "repeat_hex" in stored:
            return bytes.fromhex(stored["repeat_hex"]) * int(stored["times"])
        return {name: value(each) for name, each in stored.items()}
    return [value(each) for each in stored] if isinstance(stored, list) else stored


def call_of(line: Line) -> Call[Any]:
    """Make the call of a line, from the method's name and arguments alone."""
    name, given = line["op"], value(line["args"])
    make = globals().get(f"_{name}")
    if make is not None:
        made: Call[Any] = make(given)
        return made
    command = _BY_NAME[name]
    if command.reads:
        given.pop("allow_dirty", None), given.pop("consistency", None)
        if name in ("range", "range_entries", "rev_range_entries", "prefix"):
            given.setdefault("max_elements", -1)
        return command(_consistency(line), *given.values())
    return command(*given.values())


def _consistency(line: Line) -> Consistency:
    given = line["args"].get("consistency", "consistent")
    if isinstance(given, dict):
        return AtLeast(given["at_least"])
    return NO_GUARANTEES if line["args"].get("allow_dirty") else _CONSISTENCY[given]


def _sequence(given: Line) -> Call[Any]:
    made = [step_of(each) for each in given["steps"]]
    # The original library leaves the outer layer out where the only step is a sequence itself.
    outer = made[0] if len(made) == 1 and isinstance(made[0], steps.Sequence) else steps.Sequence(made)
    return (protocol.SYNCED_SEQUENCE if given["sync"] else protocol.SEQUENCE)(steps.encode_step(outer))


def _user_hook(given: Line) -> Call[Any]:
    return protocol.USER_HOOK(CONSISTENT, b"no_such_hook")


def _set_routing(given: Line) -> Call[Any]:
    return protocol.SET_ROUTING(_routing(given["routing"]))


def _routing(given: Any) -> Routing:
    if isinstance(given, str):
        return Leaf(given.encode())
    if "cluster" in given:
        cluster = given["cluster"]
        return Leaf(cluster.encode() if isinstance(cluster, str) else cluster)
    return Split(given["boundary"], _routing(given["left"]), _routing(given["right"]))


def _set_nursery_cfg(given: Line) -> Call[Any]:
    return protocol.SET_NURSERY_CFG(given["cluster_id"], list(_nodes(given["nodes"])))


def _nodes(given: Line) -> tuple[ClusterNode, ...]:
    return tuple(
        ClusterNode(
            name.encode(), tuple(each if isinstance(each, bytes) else each.encode() for each in addresses), port
        )
        for name, (addresses, port) in given.items()
    )


def _migrate_range(given: Line) -> Call[Any]:
    return protocol.MIGRATE_RANGE(
        None, given["public_end"], None, None, steps.encode_step(steps.Sequence([steps.Set(b"b", b"B")]))
    )


_STEPS = {
    "set": steps.Set,
    "delete": steps.Delete,
    "test_and_set": steps.TestAndSet,
    "nop": steps.Nop,
    "user_function": steps.UserFunction,
    "assert": steps.Assert,
    "set_interval": steps.SetInterval,
    "delete_prefix": steps.DeletePrefix,
    "assert_exists": steps.AssertExists,
    "replace": steps.Replace,
    "assert_range": steps.AssertRange,
}


def step_of(given: Line) -> steps.Step:
    """Make a step."""
    if given["step"] == "sequence":
        return steps.Sequence([step_of(each) for each in given["steps"]])
    arguments = {name: each for name, each in given.items() if name not in ("step", "tag")}
    made: steps.Step = _STEPS[given["step"]](**arguments)
    assert made.kind == given["tag"]
    return made


def result_of(line: Line) -> Any:
    """What the call answered, as this package says it."""
    name, result = line["op"], value(line["result"])
    if name in ("range_entries", "rev_range_entries"):
        return [tuple(pair) for pair in result]
    if name == "version":
        return tuple(result)
    if name == "get_tx_id":
        return AtLeast(result["at_least"])
    if name == "get_nursery_config" and "routing" in result:
        # The original library turns the lists inside around too, which the server writes in their natural order.
        nodes = {
            cluster: {name: [where[::-1], port] for name, (where, port) in each.items()}
            for cluster, each in result["clusters"].items()
        }
        return NurseryConfig(_routing(result["routing"]), {name.encode(): _nodes(each) for name, each in nodes.items()})
    return result


def is_same(message: bytes, line: Line, side: str) -> bool:
    """Whether a message is the recorded one; ``side`` is ``request`` or ``response``."""
    if f"{side}_hex" in line:
        return bool(message.hex() == line[f"{side}_hex"])
    digest = hashlib.sha256(message).hexdigest()
    return bool(len(message) == line[f"{side}_len"] and digest == line[f"{side}_sha256"])


def response(line: Line) -> bytes:
    """The recorded answer, where it was kept whole."""
    return bytes.fromhex(line["response_hex"])
