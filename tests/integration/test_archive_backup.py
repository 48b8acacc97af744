"""A backup of the archive, made and restored as deploy/README.md says, has all that was archived, and takes more."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.archive import Stage, on_stage, paid
from tests.postgresql import PostgreSQL, libpq
from tests.programs import program


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def back_up(url: str, file: Path) -> None:
    if url.startswith("sqlite"):
        run(program("sqlite3", "sqlite3"), url.removeprefix("sqlite:///"), f".backup '{file}'")
    else:
        run(program("pg_dump", "postgresql-client"), "--format=custom", f"--file={file}", libpq(url))


def restore(url: str, file: Path, server: PostgreSQL | None) -> None:
    """Restore a backup; no process has the archive open."""
    if server is None:
        path = Path(url.removeprefix("sqlite:///"))
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        shutil.copy(file, path)
    else:
        name = url.rpartition("/")[2]
        server.drop_database(name)
        server.create_database(name)
        run(program("pg_restore", "postgresql-client"), f"--dbname={libpq(url)}", str(file))


def test_a_restored_archive_has_all_events_and_takes_more(
    redis_url: str, archive_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file, kept = tmp_path / "backup", []
    postgresql = not archive_url.startswith("sqlite")
    server = request.getfixturevalue("postgresql_server") if postgresql else None

    async def before(stage: Stage) -> None:
        kept.extend([await stage.done("ledger", **paid(n, description=f"flat {n}")) for n in range(3)])
        await stage.move()
        await asyncio.to_thread(back_up, archive_url, file)
        await stage.done("ledger", **paid(3))
        await stage.move()

    async def after(stage: Stage) -> None:
        assert await stage.listed() == kept[::-1]
        assert await stage.listed(text="flat 2") == [kept[2]]
        assert [len(await stage.deliveries(id)) for id in kept] == [1, 1, 1]
        late = await stage.done("ledger", **paid(4, description="flat 4"))
        assert await stage.replay("crm", kept[0]) == 1
        assert await stage.move() == 1
        assert await stage.listed(text="flat 4") == [late]
        assert await stage.listed(target="crm", state="waiting") == [kept[0]]

    on_stage(redis_url, archive_url, before)
    restore(archive_url, file, server)
    on_stage(redis_url, archive_url, after)
