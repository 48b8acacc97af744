"""What is kept outside of Redis: the archive, and the dead letters on disk, whose file is opened only if it
exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.archive.letter import StoredLetter
from shared.settings import ArchiveSettings, Config
from shared.store.letters import Letters

if TYPE_CHECKING:  # SQLAlchemy takes a third of a second to import, and most gateways never need it
    from shared.archive.dead_letters import DeadLetterFile
    from shared.archive.reader import Reader


def dead_letter_file(config: Config) -> DeadLetterFile | None:
    """Return the file of dead letters, None if there is none."""
    url = config.archive.dead_letters
    if not url or not path_of(url).exists():
        return None
    from shared.archive.dead_letters import DeadLetterFile

    return DeadLetterFile(url)


def archive_of(config: Config) -> Reader | None:
    """Return a reader of the archive, None if there is none."""
    return archive_at(config.archive)


def archive_at(settings: ArchiveSettings) -> Reader | None:
    """Return a reader of the archive that settings name, None if they name none."""
    if not settings.url:
        return None
    from shared.archive.database import Database
    from shared.archive.reader import Reader

    return Reader(Database(settings.url, settings.encryption_keys))


def path_of(url: str) -> Path:
    """Return the path in the URL of a file of dead letters."""
    return Path(url.removeprefix("sqlite:///"))


async def certain(letters: Letters, found: Sequence[StoredLetter]) -> list[StoredLetter]:
    """Return those of these letters that are on the disk. Of a letter that is being moved, Redis knows.

    Raises: StoreUnavailable.
    """
    moving = [letter for letter in found if letter.moving]
    here = await letters.on_disk(moving)
    elsewhere = {letter.key for letter, is_here in zip(moving, here, strict=True) if not is_here}
    return [letter for letter in found if letter.key not in elsewhere]


async def counts_of(letters: Letters, file: DeadLetterFile | None) -> dict[str, int]:
    """Return how many dead letters each target has on the disk.

    Raises: StoreUnavailable; ArchiveUnavailable.
    """
    if file is None:
        return {}
    counts = await asyncio.to_thread(file.counts)
    for letter in await certain(letters, await asyncio.to_thread(file.moving)):
        counts[letter.target] = counts.get(letter.target, 0) + 1
    return counts
