"""The walk-through of the README: users of teams, in an LMDB file.

    python examples/quickstart.py [folder]

Without a folder the file is temporary. With one it stays, and the program can be run again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import kvmodel as kv


class User(kv.Model, table="users"):
    """One member of a team."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None


async def write_and_read() -> None:
    """One record at a time: `create` wants its key free, `get` wants it there, `find` does not mind."""
    await User.objects.create(User("red", "ada", age=36))
    await User.objects.create(User("red", "alan", age=41, email="alan@example.org"))
    await User.objects.create(User("red", "bob", age=29))
    await User.objects.create(User("blue", "eve", age=33))

    try:
        await User.objects.create(User("red", "ada"))
    except kv.AlreadyExists as error:
        print("create again:   ", error)

    ada = await User.objects.get("red", "ada")
    print("get:            ", ada)
    print("find, absent:   ", await User.objects.find("red", "zoe"))
    try:
        await User.objects.get("red", "zoe")
    except kv.NotFound as error:
        print("get, absent:    ", error)


async def read_ranges() -> None:
    """A range is a piece of one partition, in the order of the clustering key."""
    first_two = await User.objects.range("red", limit=2)
    print("range, limit=2: ", [user.name for user in first_two])

    streamed = [user.name async for user in User.objects.range("red", prefix="a")]
    print('prefix "a":     ', streamed)

    last = await User.objects.range("red", reverse=True).first()
    print("last:           ", last.name if last else None)


async def lose_a_race() -> None:
    """Two readers change the same record: the slower one is told, and nothing of it is written."""
    mine = await User.objects.get("red", "bob")
    yours = await User.objects.get("red", "bob")

    yours.age = 30
    await User.objects.save(yours)

    mine.age = 31
    try:
        await User.objects.save(mine)
    except kv.Conflict as error:
        print("conflict:       ", error)
        await User.objects.refresh(mine)
    print("after refresh:  ", mine.age)


async def change_together(db: kv.Database) -> None:
    """All that happens inside a unit of work is written at once, or not at all."""
    async with db.unit_of_work() as uow:
        ada = await User.objects.get("red", "ada")
        eve = await User.objects.get("blue", "eve")
        ada.age += 1
        uow.delete(eve)
        uow.add(User("red", "eve", age=eve.age))

    try:
        async with db.unit_of_work() as uow:
            uow.add(User("red", "mallory"))
            raise RuntimeError("on second thoughts")
    except RuntimeError:
        print("rolled back:    ", await User.objects.find("red", "mallory"))


async def print_table() -> None:
    """Print every user, of every team."""
    print()
    print(f"{'team':<6}{'name':<8}{'age':>4}  email")
    print(f"{'-' * 4:<6}{'-' * 4:<8}{'-' * 3:>4}  {'-' * 5}")
    async for user in User.objects.scan():
        print(f"{user.team:<6}{user.name:<8}{user.age:>4}  {user.email or ''}")


async def main(url: str) -> None:
    """Fill the file, close it, open it again and show what is in it."""
    async with kv.connect(url) as db:
        for team in ("red", "blue"):
            await User.objects.range(team).delete()
        await write_and_read()
        await read_ranges()
        await lose_a_race()
        await change_together(db)

    async with kv.connect(url):
        await print_table()


def url_in(folder: str) -> str:
    """Make the folder if need be, and answer the URL of an LMDB file in it."""
    path = Path(folder).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return f"lmdb://{path / 'quickstart'}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(url_in(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(url_in(temporary)))
