"""Alembic runs this for each upgrade. The connection comes from shared.archive.database, which holds a lock
on it.
"""

from alembic import context

from shared.archive.versions import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, transactional_ddl=False
)
context.run_migrations()
