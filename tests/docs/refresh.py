"""Write into the documentation what its code prints now: ``python -m tests.docs.refresh [page...]``.

Only text blocks that stand behind a block of python are written. Look at the difference before you keep it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.docs.pages import PAGES, blocks, run


async def refresh(page: Path) -> bool:
    """Bring one page up to date, and answer whether it was not."""
    old = text = page.read_text(encoding="utf-8")
    position = 0
    with tempfile.TemporaryDirectory() as folder:
        async for block, output in run(page, Path(folder), {}):
            position = text.index(block.source.lstrip("\n"), position)
            if block.printed is not None:
                start = text.index("```text\n", position) + len("```text\n")
                text = text[:start] + output + text[start + len(block.printed) :]
    page.write_text(text, encoding="utf-8")
    return text != old


async def main(arguments: Sequence[str]) -> None:
    """Bring these pages up to date, or all."""
    for page in map(Path, arguments) if arguments else filter(blocks, PAGES):
        if await refresh(page):
            print(f"changed {page}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
