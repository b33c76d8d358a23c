"""The recorded observations in ``observations.jsonl``: what the vendor's package 3.14.3 did with nobody to talk to.

Each line names a call, its arguments, and how it ended: with a result, or with a class and a piece of text. Lines whose
call is a sentence are carried out here by name.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

Line = dict[str, Any]

_PATH = Path(__file__).parent / "observations.jsonl"
_KEYS = {
    "S + 44 base64 characters": "S" + "A" * 43 + "=",
    "P + 44 base64 characters": "P" + "A" * 43 + "=",
    "u*121": "u" * 121,
}


@cache
def lines() -> tuple[Line, ...]:
    """All of them."""
    return tuple(json.loads(line) for line in _PATH.read_text(encoding="utf-8").splitlines())


class Observer:
    """Repeats observations on a module: the vendor's, or what stands in for it."""

    def __init__(self, module: Any, ports: dict[str, int]) -> None:
        self.module = module
        self.ports = ports

    def repeat(self, line: Line) -> object:
        """Carry out what a line says; answers what it answers, raises what it raises."""
        name = line["name"]
        special = getattr(self, "_" + name.replace(".", "_"), None)
        if special is not None:
            return special()
        group = name.split(".")[0]
        if group == "signature":
            return self._signature(line)
        if group == "construct":
            return getattr(self.module, name.split(".")[1])()
        if line["call"] == "quasardb.Cluster":
            return self._cluster(line["args"])
        if line["call"] == "quasardb.Node":
            return self.module.Node(self._text(line["args"]["uri"]))
        return self._evaluate(line["call"])

    def _text(self, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        if text in _KEYS:
            return _KEYS[text]
        for oddity, port in self.ports.items():
            text = text.replace("{" + oddity + "}", str(port))
        return text.removeprefix("(bytes) ").encode() if text.startswith("(bytes) ") else text

    def _cluster(self, given: dict[str, Any]) -> object:
        options = dict(given)
        positional = options.pop("*", [])
        if "timeout_milliseconds" in options:
            milliseconds = eval(options.pop("timeout_milliseconds"))
            options["timeout"] = timedelta(milliseconds=milliseconds)
        mode = options.get("compression_mode")
        if isinstance(mode, str):
            options["compression_mode"] = getattr(self.module.Options.Compression, mode.rpartition(".")[2])
        return self.module.Cluster(*positional, **{name: self._text(value) for name, value in options.items()})

    def _evaluate(self, call: str) -> object:
        closed, garbage, readclose = (self.ports[name] for name in ("closed", "garbage", "readclose"))
        places = {"closed port": closed, "garbage port": garbage, "readclose port": readclose}
        call = re.sub(r"Node\((\w+ port)\)", lambda found: f"quasardb.Node('127.0.0.1:{places[found[1]]}')", call)
        call = re.sub(r"^(Entry|RetryOptions)\b", r"quasardb.\1", call)
        call = call.replace("pool.", "quasardb.pool.").replace("uri=...", f"uri='qdb://127.0.0.1:{closed}'")
        return eval(call, {"quasardb": self.module})

    # --- sentences ----------------------------------------------------------------------------------------------------

    def _signature(self, line: Line) -> str:
        kind, method = line["name"].split(".")[1:]
        function = getattr(getattr(self.module, kind), method)
        return re.sub(r"quasardb\.quasardb\.", "", function.__doc__.splitlines()[0])

    def _module_version(self) -> str:
        return str(self.module.version())

    def _errors(self) -> dict[str, type]:
        found = {name: each for name, each in vars(self.module).items() if isinstance(each, type)}
        return {name: each for name, each in found.items() if issubclass(each, self.module.Error)}

    def _errors_names(self) -> list[str]:
        return sorted(self._errors())

    def _errors_base(self) -> list[str]:
        return [base.__name__ for base in self.module.Error.__bases__]

    def _errors_flat(self) -> bool:
        return all(each.__bases__ == (self.module.Error,) for name, each in self._errors().items() if name != "Error")

    def _errors_no_code(self) -> list[str]:
        return sorted(set(dir(self.module.Error("x"))) - set(dir(RuntimeError("x"))) - {"__module__", "__weakref__"})

    def _errors_pickle(self) -> list[object]:
        copy = pickle.loads(pickle.dumps(self.module.AliasNotFoundError("x")))
        return [type(copy) is self.module.AliasNotFoundError, str(copy)]

    def _cluster_refused_exact_class(self) -> bool:
        try:
            self.module.Cluster(f"qdb://127.0.0.1:{self.ports['closed']}")
        except self.module.Error as error:
            return type(error) is self.module.Error
        return False

    def _options_compression_members(self) -> dict[str, int]:
        members = self.module.Options.Compression.__members__
        return {name: int(getattr(member, "value", member)) for name, member in members.items()}

    def _options_encryption_members(self) -> list[str]:
        return list(self.module.Options.Encryption.__members__)

    def _entry_type_members(self) -> dict[str, int]:
        members = self.module.Entry.Type.__members__
        return {name: int(getattr(member, "value", member)) for name, member in members.items()}

    def _entry_inheritance(self) -> dict[str, str]:
        kinds = ("Blob", "String", "Integer", "Double", "Timestamp", "Tag", "Table", "ExpirableEntry")
        return {kind: getattr(self.module, kind).__bases__[0].__name__ for kind in kinds if hasattr(self.module, kind)}

    def _construct_Metadata(self) -> list[object]:  # noqa: N802 - as the line is called
        metadata = self.module.Entry.Metadata()
        return [metadata.type.name, metadata.size]

    def _retry_defaults(self) -> list[object]:
        options = self.module.RetryOptions()
        return [
            options.retries_left,
            options.delay.total_seconds(),
            options.exponent,
            options.jitter,
            options.has_next(),
        ]

    def _node_construct_does_not_connect(self) -> str:
        return type(self.module.Node(f"127.0.0.1:{self.ports['closed']}")).__name__

    def _node_peer_resets(self) -> list[str]:
        found = set()
        for _ in range(8):
            try:
                self.module.Node(f"127.0.0.1:{self.ports['reset']}").blob("a").get()
            except self.module.Error:
                found.add("Error")
        return sorted(found)

    def _node_not_picklable(self) -> bytes:
        return pickle.dumps(self.module.Node(f"127.0.0.1:{self.ports['closed']}"))

    # --- the interpreter's lock: these want a process of their own ----------------------------------------------------

    def _wait(self, seconds: float) -> str:
        try:
            self.module.Cluster(f"qdb://127.0.0.1:{self.ports['silent']}", timeout=timedelta(seconds=seconds))
        except self.module.Error as error:
            return str(error)
        return ""

    def _gil_other_threads_stand_still(self) -> bool:
        gaps: list[float] = []
        over = threading.Event()

        def tick() -> None:
            last = time.monotonic()
            while not over.is_set():
                time.sleep(0.01)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()

        ticker = threading.Thread(target=tick)
        ticker.start()
        self._wait(2)
        over.set()
        ticker.join()
        return max(gaps) > 1.8

    def _gil_three_threads_run_one_after_another(self) -> bool:
        threads = [threading.Thread(target=self._wait, args=(1,)) for _ in range(3)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began > 2.8

    def _gil_wait_for_cannot_fire(self) -> bool:
        async def wait() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(self._wait, 2), 0.5)

        began = time.monotonic()
        asyncio.run(wait())
        return time.monotonic() - began > 1.8

    def _signal_handled_signal_interrupts_main_thread(self) -> list[bool]:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.monotonic()
        text = self._wait(2)
        return ["interrupted" in text, time.monotonic() - began < 1]


def parameters(function: Callable[..., object]) -> list[str]:
    """The names of a function's parameters, without the first one."""
    return list(inspect.signature(function).parameters)[1:]
