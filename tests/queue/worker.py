"""A worker process: works events, and says which, one line each.

    python worker.py URL LEASE [victim]

What it makes of an event and the acknowledgement are one commit. A victim stops in the middle of its first message,
between taking and committing, and waits for the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

import kvmodel as kv
from tests.queue.models import Event, Result


async def work(url: str, lease: float, victim: bool) -> None:
    async with kv.connect(url) as db:
        print("ready", flush=True)
        async for message in Event.objects.consume("q", lease=lease, poll=0.02, max_attempts=None):
            print("took", message.item.data, message.attempts, flush=True)
            if victim:
                await asyncio.get_running_loop().create_future()
            with suppress(kv.Conflict):  # It took longer than the lease, and somebody else has it.
                async with db.unit_of_work() as uow:
                    uow.add(Result("q", message.item.data, message.attempts))
                    await message.ack()
                print("did", message.item.data, flush=True)


async def main() -> None:
    working = asyncio.ensure_future(work(sys.argv[1], float(sys.argv[2]), "victim" in sys.argv))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    with suppress(asyncio.CancelledError, kv.OutcomeUnknown):
        await working


if __name__ == "__main__":
    asyncio.run(main())
