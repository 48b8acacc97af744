"""The version of the archive's schema. Alembic brings it up to date; a later one is refused.

Every step must be one that processes of the version before can live with: they go on while it is made. So a
column is added before anything needs it, and removed a release after nothing does.
"""

from importlib.resources import files

import sqlalchemy as sql
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from shared.errors import ArchiveUnfit

VERSION_TABLE = "archive_version"
_LOCK = 0x6865616472616365  # any number that others do not use


def version_of(connection: Connection) -> str | None:
    """Return the version of the schema, None if there is none."""
    return MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()


def newest() -> str:
    """Return the version that this Headrace writes."""
    return _scripts().get_current_head() or ""


def take_up(connection: Connection) -> None:
    """Bring the schema up to date, within the connection's transaction; another process that does so is
    waited for.

    Raises: ArchiveUnfit if a later Headrace made it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    version = version_of(connection)
    if version == newest():
        return
    if version is not None and version not in {script.revision for script in _scripts().walk_revisions()}:
        raise ArchiveUnfit(
            f"has a schema of a later version of Headrace ({version}; this one knows {newest()}):"
            " start that version"
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("shared.archive") / "migrations"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
