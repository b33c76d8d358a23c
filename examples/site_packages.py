"""What is installed here? Every Python distribution and each of its files, stored in LMDB and asked questions.

    python examples/site_packages.py [folder]

The folder defaults to ``data``. Run it again: only what has changed since is written, which is nothing at all
unless something was installed, upgraded or removed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import kvmodel as kv


class Package(kv.Model, table="packages"):
    """One installed distribution. There is no partition key: all of them are one ordered list."""

    name: str = kv.clustering_key()
    version: str
    files: int
    size: int


class File(kv.Model, table="files"):
    """One file of a package, as its installer wrote it down."""

    package: str = kv.partition_key()
    path: str = kv.clustering_key()
    size: int
    hash: str | None = None


class FileBySize(kv.Model, table="files_by_size"):
    """The same files in another order, so that the largest ones of a package are the first records of a range."""

    package: str = kv.partition_key()
    size: int = kv.clustering_key(descending=True)
    path: str = kv.clustering_key()


# --- reading what is installed --------------------------------------------------------------------------------------


def installed() -> dict[str, Distribution]:
    """All distributions by name; of two with one name, the one that would be imported."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        found.setdefault(distribution.metadata["Name"].lower().replace("_", "-"), distribution)
    return found


def files_of(package: str, distribution: Distribution) -> Iterator[File]:
    """List the files of a distribution. A file that its installer kept no size of (compiled ones) counts as empty."""
    for path in distribution.files or ():
        recorded = f"{path.hash.mode}:{path.hash.value}" if path.hash else None
        yield File(package, path.as_posix(), size=path.size or 0, hash=recorded)


# --- storing it -----------------------------------------------------------------------------------------------------


async def store_package(db: kv.Database, name: str, distribution: Distribution) -> Counter[str]:
    """Bring one package up to date in one atomic commit, and count what was changed."""
    files = {file.path: file for file in files_of(name, distribution)}
    package = Package(name, distribution.version, len(files), sum(file.size for file in files.values()))

    async with db.unit_of_work() as uow:
        known = {file.path: file async for file in File.objects.range(name)}
        changed = [path for path in known.keys() | files.keys() if known.get(path) != files.get(path)]
        for path in changed:
            await change_file(uow, known.get(path), files.get(path))

        stored = await Package.objects.find(name)
        is_current = stored == package
        if stored is None:
            uow.add(package)
        else:
            stored.version, stored.files, stored.size = package.version, package.files, package.size
    return Counter(packages=int(not is_current), files=len(changed))


async def change_file(uow: kv.UnitOfWork, old: File | None, new: File | None) -> None:
    """Turn a stored file into another one, in both of its orders."""
    if old is None or new is None or old.size != new.size:
        if old is not None:
            await FileBySize.objects.delete(old.package, old.size, old.path)
        if new is not None:
            uow.add(FileBySize(new.package, new.size, new.path))

    if old is not None and new is not None:
        old.size, old.hash = new.size, new.hash  # noticed at commit
    elif new is not None:
        uow.add(new)
    elif old is not None:
        uow.delete(old)


async def forget_package(db: kv.Database, package: Package) -> Counter[str]:
    """Remove a package that is no longer installed."""
    async with db.unit_of_work() as uow:
        files = await File.objects.range(package.name)
        for file in files:
            await change_file(uow, file, None)
        uow.delete(package)
    return Counter(packages=1, files=len(files))


async def store_everything(db: kv.Database) -> Counter[str]:
    """Bring the whole file up to date, with a progress bar."""
    written: Counter[str] = Counter()
    found = sorted(installed().items())
    for done, (name, distribution) in enumerate(found, start=1):
        show_progress(done, len(found), name)
        written += await store_package(db, name, distribution)
    gone = [package for package in await Package.objects.range() if package.name not in dict(found)]
    for package in gone:
        written += await forget_package(db, package)
    return written


def show_progress(done: int, total: int, name: str) -> None:
    """Draw a progress bar over the last one."""
    bar = "#" * (30 * done // total)
    end = "\n" if done == total else ""
    print(f"\r[{bar:<30}] {done:>4}/{total} {name[:30]:<30}", end=end, file=sys.stderr, flush=True)


# --- asking questions -----------------------------------------------------------------------------------------------


async def show_totals() -> Package:
    """Sum up all packages, list the largest five, and return the one with the most files."""
    packages = await Package.objects.range()
    files, size = sum(p.files for p in packages), sum(p.size for p in packages)
    print(f"\n{len(packages)} packages, {files:,} files, {size:,} bytes. The largest:")
    for package in sorted(packages, key=lambda p: p.size, reverse=True)[:5]:
        print(f"{package.size:>14,}  {package.name} {package.version} ({package.files:,} files)")
    return max(packages, key=lambda p: p.files)


async def show_largest_files(package: str) -> None:
    """Five records are read for this, however many files there are: the key is ordered by size."""
    print(f"\nThe largest files of {package}:")
    async for file in FileBySize.objects.range(package, limit=5):
        print(f"{file.size:>14,}  {file.path}")


async def show_folder(package: str) -> None:
    """Files under a folder are a range of keys: those that begin with its path."""
    folders: Counter[str] = Counter()
    files = 0
    async for file in File.objects.range(package):
        files += 1
        folder, slash, _ = file.path.rpartition("/")
        if slash:
            folders[folder + slash] += file.size

    largest = max(sorted(folders), key=folders.__getitem__)
    below = [file async for file in File.objects.range(package, prefix=largest)]
    size = sum(file.size for file in below)
    print(f"\nOf the {files:,} files of {package}, {len(below):,} are under {largest}: {size:,} bytes.")

    last_first = File.objects.range(package, prefix=largest, reverse=True)
    for name, end in (("first", below[0]), ("last", await last_first.first())):
        print(f"{name:>14}  {end}")


async def main(url: str) -> None:
    """Store what is installed, then ask about it."""
    async with kv.connect(url) as db:
        written = await store_everything(db)
        print(f"written: {written['packages']} packages, {written['files']} files")

        largest = await show_totals()
        await show_largest_files(largest.name)
        await show_folder(largest.name)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(f"lmdb://{folder / 'site_packages'}"))
