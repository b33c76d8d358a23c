"""Where has the space gone? A folder of this machine, mirrored into a tree in LMDB: sizes, times, totals.

    python examples/file_tree.py [folder] [data]

They default to Python's own library, and to ``data`` for the store. Run it again: only what has changed since is
written, which is nothing at all unless a file was changed, added or removed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import kvmodel as kv

LONGEST = 480
"""An LMDB key has room for 511 bytes, table and folder included: what lies deeper than that is left out."""


class Entry(kv.TreeModel, table="file_tree"):
    """A file, or a folder with what is below it summed up. Its path inside the mirrored folder comes with the model."""

    root: str = kv.partition_key()
    files: int
    size: int
    modified: datetime
    is_folder: bool = False


# --- reading the disk -----------------------------------------------------------------------------------------------


def look(folder: Path) -> list[Entry]:
    """List everything below a folder, depth first, as the tree will."""
    return entries_of(str(folder), folder, ())


def entries_of(root: str, folder: Path, path: tuple[str, ...]) -> list[Entry]:
    """List what is in one folder: each entry, and behind a folder what is below it."""
    found: list[Entry] = []
    for item in sorted(readable(folder), key=name_of):
        below = (*path, name_of(item))
        if len(root.encode()) + sum(len(part.encode()) + 2 for part in below) > LONGEST:
            print(f"left out, as its path is too long: {item.path!r}", file=sys.stderr)
            continue
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:  # It has just gone.
            continue
        modified = datetime.fromtimestamp(status.st_mtime, timezone.utc)
        if item.is_dir(follow_symlinks=False):
            inside = entries_of(root, Path(item.path), below)
            files = [entry for entry in inside if not entry.is_folder]
            size = sum(entry.size for entry in files)
            found.append(Entry(root, len(files), size, modified, is_folder=True, path=below))
            found += inside
        else:
            found.append(Entry(root, 1, status.st_size, modified, path=below))
    return found


def readable(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, nothing if we may not look."""
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError:
        return []


def name_of(item: os.DirEntry[str]) -> str:
    """The name as text: bytes that are none are shown as question marks in a diamond."""
    return os.fsencode(item.name).decode(errors="replace")


# --- mirroring it ---------------------------------------------------------------------------------------------------


async def mirror(db: kv.Database, folder: Path) -> Counter[str]:
    """Bring the tree up to date, and count what had to be written."""
    tree = Entry.objects.tree(str(folder))
    stored = {entry.path: entry async for entry in tree.walk()}
    found = {entry.path: entry for entry in look(folder)}

    new = [entry for path, entry in found.items() if path not in stored]
    changed = [entry for path, entry in found.items() if path in stored and stored[path] != entry]
    gone = [entry for path, entry in stored.items() if path not in found]
    await Entry.objects.save_many([*new, *changed])
    async with db.batch() as batch:
        batch.delete(*gone)
    return Counter(new=len(new), changed=len(changed), gone=len(gone))


# --- looking at it --------------------------------------------------------------------------------------------------


def label(entry: Entry) -> str:
    """One line of the printed tree."""
    if entry.is_folder:
        return f"{entry.path[-1]}/  {entry.size:,} bytes in {entry.files:,} files"
    return f"{entry.path[-1]}  {entry.size:,} bytes, {entry.modified:%Y-%m-%d %H:%M}"


async def show(folder: Path) -> None:
    """Print the first level, with totals. What is below it, however much, is not read."""
    tree = Entry.objects.tree(str(folder))
    with kv.budget() as spent:
        await tree.print_tree(depth=1, label=label)
    top = await tree.children()
    print(f"\nin all: {sum(entry.size for entry in top):,} bytes in {sum(entry.files for entry in top):,} files")
    print(f"{await tree.subtree_count():,} entries are stored, {spent.keys:,} were read to print this")

    folders = [entry for entry in top if entry.is_folder]
    if folders:
        largest = max(folders, key=lambda entry: entry.size)
        print("\nThe largest folder:")
        await tree.print_tree(*largest.path, depth=1, label=label)


async def run(folder: Path, url: str) -> None:
    """Mirror a folder, then show it."""
    async with kv.connect(url) as db:
        written = await mirror(db, folder)
        print(f"written: {written['new']} new, {written['changed']} changed, {written['gone']} removed\n")
        await show(folder)


def main() -> None:
    """Take the folders from the command line."""
    parser = argparse.ArgumentParser(description="A folder, mirrored into a tree: sizes, times, totals.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.__file__).parent, help="what to mirror")
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"), help="where the store goes")
    options = parser.parse_args()
    folder, data = options.folder.absolute(), options.data.absolute()
    if not folder.is_dir():
        parser.error(f"{folder} is no folder")
    data.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(folder, f"lmdb://{data / 'file_tree'}"))


if __name__ == "__main__":
    main()
