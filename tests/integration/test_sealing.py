"""Payloads in the archive are encrypted if there are keys, and are brought under a new key beside all else."""

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from click.testing import CliRunner

from shared.archive.database import Database
from shared.archive.rotation import Rotation
from shared.archive.sealing import Sealer
from shared.cli import cli
from shared.config.check import parse_config
from shared.errors import ArchiveSealed, ConfigError
from shared.secrets import Secret
from shared.store.due import End
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import E_MAIL

OLD, NEW = (Secret(b64encode(bytes([number]) * 32).decode()) for number in (1, 2))
OLD_ID, NEW_ID = Sealer([OLD]).newest, Sealer([NEW]).newest


async def kept(stage: Stage) -> bytes:
    """Return all values of all tables of the archive, one behind the other."""

    def read() -> bytes:
        database, parts = Database(stage.url), []
        with database.reading() as connection:
            names = sql.inspect(connection).get_table_names()
            for name in names:
                for row in connection.execute(sql.select(sql.text("*")).select_from(sql.table(name))):
                    parts += [value if isinstance(value, bytes) else str(value).encode() for value in row]
        database.close()
        return b"\n".join(parts)

    return await asyncio.to_thread(read)


async def key_ids(stage: Stage) -> list[str]:
    """Return the ids of the keys of all payloads, and of the key of the parties' hashes."""

    def read() -> list[str]:
        database = Database(stage.url)
        with database.reading() as connection:
            statement = (
                "SELECT payload_key FROM events UNION ALL SELECT payload_key FROM copies"
                " UNION ALL SELECT payload_key FROM settings WHERE name = 'party-key'"
            )
            found = list(connection.scalars(sql.text(statement)))
        database.close()
        return found

    return await asyncio.to_thread(read)


async def rotate(stage: Stage, *keys: Secret) -> int:
    """Bring the archive under the first key. Returns how many payloads that were."""

    def run() -> int:
        database = Database(stage.url, keys)
        rotation, said = Rotation(database), [0]
        count = rotation.run(said.append)
        assert said[-1] == count
        assert rotation.unreadable == {}
        assert rotation.left() == 0
        database.close()
        return count

    return await asyncio.to_thread(run)


def test_what_is_encrypted_is_shown_as_before_and_stands_nowhere_in_clear(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        copy = await stage.done("ledger", description="another body")
        before = await stage.shown(id)
        copied = await stage.events.find(copy, [])
        assert copied is not None
        body = await stage.events.payload(copied)
        await stage.move()
        assert await stage.shown(id) == before
        assert await stage.events.find(copy, []) == copied
        assert await stage.events.payload(copied) == body
        assert isinstance(body, bytes)
        assert b"another body" in body
        assert await key_ids(stage) == [OLD_ID] * 3
        everything = await kept(stage)
        assert b"payment.received" in everything, "columns that are searched by stay"
        assert E_MAIL.encode() not in everything
        assert b"example" not in everything, "nor a word of it"
        assert await stage.listed(party=E_MAIL) == [id]

    on_stage(redis_url, archive_url, play, keys=[OLD])


def test_a_payload_whose_key_is_missing_is_said_for_that_event_alone(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        with stage.with_keys(OLD):
            locked = await stage.done("ledger", **paid(1))
            await stage.move()
        await rotate_party_key_only(stage)
        with stage.with_keys(NEW):
            open_ = await stage.done("ledger", **paid(2))
            await stage.move()
            assert await stage.listed() == [open_, locked]
            [view] = [view for view in [await stage.events.find(locked, [])] if view]
            with pytest.raises(ArchiveSealed, match=f"{locked} is encrypted with the key {OLD_ID}, which"):
                await stage.events.payload(view)
            other = await stage.events.find(open_, [])
            assert other is not None
            assert await stage.events.payload(other) is not None

    async def rotate_party_key_only(stage: Stage) -> None:
        """Leave the archive as a rotation does that was killed when it had begun."""

        def run() -> None:
            from shared.archive.settings import seal_party_key

            database = Database(stage.url, [NEW, OLD])
            with database.writing() as connection:
                seal_party_key(connection, database.sealer)
            database.close()

        await asyncio.to_thread(run)

    on_stage(redis_url, archive_url, play)


def test_what_was_in_clear_and_under_older_keys_is_brought_under_the_newest(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        ids = [await stage.done("ledger", **paid(1))]
        await stage.done("ledger", **paid(1, description="another body"))
        await stage.move()
        assert b"canary" in await kept(stage), "its words, to be found by"
        shown = [await stage.shown(ids[0])]
        with stage.with_keys(OLD):
            ids.append(await stage.done("ledger", **paid(2)))
            await stage.move()
            shown.append(await stage.shown(ids[1]))
        assert sorted(await key_ids(stage)) == sorted(["", "", "", OLD_ID])
        assert await rotate(stage, NEW, OLD) == 3
        assert await key_ids(stage) == [NEW_ID] * 4
        assert b"canary" not in await kept(stage)
        with stage.with_keys(NEW):
            assert [await stage.shown(id) for id in ids] == shown
            assert set(await stage.listed(party=E_MAIL)) == set(ids)
        assert await rotate(stage, NEW) == 0, "it is done"

    on_stage(redis_url, archive_url, play)


def test_events_are_moved_and_archived_anew_while_keys_are_rotated(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        with stage.with_keys(OLD):
            ids = [await stage.done("ledger", **paid(number)) for number in range(60)]
            await stage.move()
        with stage.with_keys(NEW, OLD):
            for number in range(60, 90):
                ids.append(await stage.done("ledger", **paid(number)))
            assert await stage.replay("ledger", *ids[:30]) == 30
            await stage.store.settle("ledger", End.DONE, status=200)
            _, moved = await asyncio.gather(rotate(stage, NEW, OLD), stage.move())
            assert moved == 60
        assert await key_ids(stage) == [NEW_ID] * 91
        with stage.with_keys(NEW):
            assert await stage.listed() == sorted(ids, reverse=True)
            assert len(await asyncio.to_thread(stage.reader.events, ids)) == 90

    on_stage(redis_url, archive_url, play)


def files(folder: Path) -> bytes:
    """Return the content of all files in a folder, one behind the other."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_nothing_in_clear_is_left_in_sqlites_files_after_a_rotation(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        for number in range(20):
            await stage.done("ledger", **paid(number, description=f"secretword{number}"))
        await stage.move()
        assert b"secretword" in files(tmp_path)
        assert await rotate(stage, NEW) == 20
        assert b"secretword" not in files(tmp_path)

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def test_no_event_is_searched_by_its_text_and_that_is_said(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        await stage.done("ledger")
        await stage.move()
        with pytest.raises(ArchiveSealed, match="nothing is found by its text in this archive"):
            await stage.listed(text="buyer")

    on_stage(redis_url, archive_url, play, keys=[OLD])


def test_a_value_under_another_name_and_a_damaged_one_do_not_open() -> None:
    sealer = Sealer([OLD])
    key_id, value = sealer.seal("evt_1", b"a payload")
    assert sealer.open("evt_1", key_id, value) == b"a payload"
    assert sealer.seal("evt_1", b"a payload") != (key_id, value), "each time with another nonce"
    for name, wrong in (("evt_2", value), ("evt_1", value[:-1] + bytes([value[-1] ^ 1])), ("evt_1", b"")):
        with pytest.raises(ArchiveSealed, match="is damaged"):
            sealer.open(name, key_id, wrong)


@pytest.mark.parametrize("key", ["not base64!", "c2hvcnQ=", "é" * 32])
def test_a_key_that_is_none_is_said_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"archive": {"encryption_keys": [OLD.reveal().decode(), key]}})
    assert caught.value.path == "archive.encryption_keys[1]"
    assert key not in str(caught.value)


def test_the_command_rotates_and_says_what_it_did(redis_url: str, tmp_path: Path) -> None:
    def run(*keys: Secret, url: str = "sqlite:///archive.db") -> tuple[int, str]:
        path = tmp_path / "headrace.toml"
        written = json.dumps([key.reveal().decode() for key in keys])
        archive = f'[archive]\nurl = "{url}"\nencryption_keys = {written}\n' if url else ""
        path.write_text(f'redis.url = "{redis_url}"\n{archive}')
        done = CliRunner().invoke(cli, ["archive", "rotate-keys", "--config", str(path)])
        return done.exit_code, done.output

    async def play(stage: Stage) -> None:
        await stage.done("ledger")
        await stage.move()
        calls: list[Any] = [
            ((), 1, "archive.encryption_keys has no key to encrypt with"),
            ((OLD,), 0, f"Encrypted 1 payload with the key {OLD_ID}."),
            ((NEW,), 1, f"is encrypted with the key {OLD_ID}, which archive.encryption_keys does not have"),
            ((NEW, OLD), 0, f"Encrypted 1 payload with the key {NEW_ID}."),
            ((NEW,), 0, "Encrypted 0 payloads"),
        ]
        for keys, code, said in calls:
            exit_code, output = await asyncio.to_thread(run, *keys)
            assert (exit_code, said in output) == (code, True), output
        assert await asyncio.to_thread(run, url="") == (
            1,
            "headrace: there is no archive: archive.url is not set\n",
        )

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)
