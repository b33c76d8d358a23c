"""A document store: files of any size go into the cluster and come back, are listed, expire and are deleted.

    python examples/quasardb_documents.py [--url qdb://host:2836] upload FILE... | download KEY FILE | list
                                          | expire KEY SECONDS | delete KEY
    python examples/quasardb_documents.py            (a tour of all of it)

It is the example of the store's old manual, on asyncio: a file is cut into slices of 10 MiB. Beside the files it keeps
a catalogue of them as records of a model, with name, size and digest, so that a download can be verified.

Without a URL nothing has to be installed or running: workers import what stands in for the vendor's package, and the
data is gone with the program.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import kvmodel as kv
from kvmodel.drivers.quasardb import QuasardbClient

URL = "qdb://127.0.0.1:2836?library=kvmodel.testing.quasardb"


class Document(kv.Model, table="documents"):
    """What is known of a file; the file itself lies in slices under ``key``."""

    key: str = kv.partition_key()
    name: str = ""
    size: int = 0
    digest: bytes = b""


def client_of(db: kv.Database) -> QuasardbClient:
    """The store's own client."""
    client = db.native
    assert isinstance(client, QuasardbClient)
    return client


def measure(path: Path) -> tuple[int, bytes]:
    """Answer the size of a file and its digest, which is made piece by piece."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").digest()


async def upload(db: kv.Database, path: Path) -> Document:
    """Store a file, then its record: who finds the record finds the file."""
    size, digest = await asyncio.to_thread(measure, path)
    key = await client_of(db).upload(path)
    return await Document.objects.using(db).create(Document(key, name=path.name, size=size, digest=digest))


async def download(db: kv.Database, key: str, path: Path) -> Document:
    """Fetch a file and verify it."""
    document = await Document.objects.using(db).get(key)
    await client_of(db).download(key, path)
    if await asyncio.to_thread(measure, path) != (document.size, document.digest):
        raise SystemExit(f"{path} is not what was uploaded")
    return document


async def list_documents(db: kv.Database) -> list[Document]:
    """Everything that is there."""
    return [document async for document in Document.objects.using(db).scan()]


async def expire(db: kv.Database, key: str, after: timedelta) -> None:
    """Let a file end, and its record with it."""
    moment = datetime.now(timezone.utc) + after
    await Document.objects.using(db).expire(key, expires_at=moment)
    await client_of(db).expire_document(key, moment)


async def delete(db: kv.Database, key: str) -> None:
    """Remove the record, then the file."""
    await Document.objects.using(db).delete(key)
    await client_of(db).delete_document(key)


async def tour(db: kv.Database, folder: Path) -> None:
    """All of it, with files that nobody needs afterwards."""
    report, empty = folder / "report.bin", folder / "empty"
    report.write_bytes(bytes(range(256)) * (25 << 12))  # 25 MiB: three slices
    empty.touch()
    for path in (report, empty):
        document = await upload(db, path)
        slices = await client_of(db).prefix_count(f"{document.key}/")
        print(f"uploaded {document.name}: {document.size} bytes in {slices} slices")
    for document in await list_documents(db):
        await download(db, document.key, folder / "copy")
        print(f"downloaded {document.name}: the same")
    try:
        await client_of(db).download("nothing", io.BytesIO())
    except kv.NotFound:
        print("downloading what is not there: NotFound")
    ends, stays = await list_documents(db)
    await expire(db, ends.key, timedelta(hours=1))
    ending = await client_of(db).get_expiry_time(ends.key)
    print(f"{ends.name} ends in an hour: {ending is not None}")
    await delete(db, stays.key)
    print(f"left: {[document.name for document in await list_documents(db)]}")
    await delete(db, ends.key)
    print(f"names left below document-: {await client_of(db).prefix_count('document-')}")


async def run(arguments: argparse.Namespace) -> None:
    """Do what was asked for."""
    async with kv.connect(arguments.url, timeout=60) as db:
        match arguments.command:
            case "upload":
                for path in arguments.files:
                    print((await upload(db, path)).key)
            case "download":
                document = await download(db, arguments.key, arguments.file)
                print(f"{document.name}: {document.size} bytes")
            case "list":
                for document in await list_documents(db):
                    print(f"{document.key}  {document.size:>12}  {document.name}")
            case "expire":
                await expire(db, arguments.key, timedelta(seconds=arguments.seconds))
            case "delete":
                await delete(db, arguments.key)
            case _:
                with tempfile.TemporaryDirectory() as folder:
                    await tour(db, Path(folder))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Keep files in a quasardb cluster.")
    parser.add_argument("--url", default=URL, help="where the cluster is (default: what stands in for one)")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("upload").add_argument("files", nargs="+", type=Path)
    fetching = commands.add_parser("download")
    fetching.add_argument("key")
    fetching.add_argument("file", type=Path)
    commands.add_parser("list")
    expiring = commands.add_parser("expire")
    expiring.add_argument("key")
    expiring.add_argument("seconds", type=float)
    commands.add_parser("delete").add_argument("key")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
