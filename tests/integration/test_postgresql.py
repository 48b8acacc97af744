"""The PostgreSQL that the tests start: what other tests rely on."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from tests.postgresql import USER, PostgreSQL, psql
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"

# Another run of the tests: it says where its server is, and waits for its end.
RUN = """
import sys
from tests.postgresql import PostgreSQL
server = PostgreSQL()
print(server.port, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("test", ["one", "another"])
def test_each_test_has_an_empty_database_of_its_own(postgresql_url: str, test: str) -> None:
    assert psql(postgresql_url, TABLES) == "0"
    psql(postgresql_url, f"CREATE TABLE {test} (id int)")
    assert psql(postgresql_url, TABLES) == "1"


def test_a_database_belongs_to_a_user_that_may_do_no_more_than_that(
    postgresql_server: PostgreSQL, postgresql_url: str
) -> None:
    with create_engine(postgresql_url, poolclass=NullPool).connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == USER
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("CREATE ROLE another"))
    name = postgresql_url.rpartition("/")[2]
    wrong = create_engine(postgresql_server.url(name, password="wrong"), poolclass=NullPool)
    with pytest.raises(OperationalError, match="authentication failed"):
        wrong.connect()


def test_its_owner_may_part_a_table_by_month_and_find_words_of_any_language(postgresql_url: str) -> None:
    psql(
        postgresql_url,
        "CREATE TABLE events (month date, body text,"
        " words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED) PARTITION BY RANGE (month);"
        "CREATE TABLE events_03 PARTITION OF events FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');"
        "CREATE TABLE events_04 PARTITION OF events FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');"
        "CREATE INDEX ON events USING gin (words);"
        "INSERT INTO events VALUES ('2026-03-02', 'paid by ZOË'), ('2026-04-02', 'paid by Ömer')",
    )
    found = "SELECT tableoid::regclass FROM events WHERE words @@ plainto_tsquery('simple', 'zoë')"
    assert psql(postgresql_url, found) == "events_03"
    psql(postgresql_url, "DROP TABLE events_03")
    assert psql(postgresql_url, "SELECT body FROM events") == "paid by Ömer"


def test_after_a_kill_connections_are_refused_and_after_a_start_what_was_committed_is_there(
    postgresql_server: PostgreSQL, postgresql_url: str
) -> None:
    psql(postgresql_url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    postgresql_server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", postgresql_server.port))
    postgresql_server.start()
    assert psql(postgresql_url, "SELECT count(*) FROM kept") == "1000"


def test_while_it_is_paused_connections_are_taken_and_nothing_is_answered(
    postgresql_server: PostgreSQL, postgresql_url: str
) -> None:
    impatient = create_engine(postgresql_url, poolclass=NullPool, connect_args={"connect_timeout": 2})
    with create_engine(postgresql_url, poolclass=NullPool).connect() as held:
        postgresql_server.pause()
        with pytest.raises(OperationalError, match="timeout expired"):
            impatient.connect()
        postgresql_server.resume()
        assert held.scalar(text("SELECT 1")) == 1


def test_a_run_that_is_killed_leaves_no_server_and_no_folder() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        port, folder = run.stdout.readline().split()
        assert Path(folder, "data").exists()
        run.kill()
    wait_for(lambda: not Path(folder).exists(), "its folder to be removed")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
