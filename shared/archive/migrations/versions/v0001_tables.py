"""The first tables.

Those of each month are made when its first event comes.
"""

from alembic import op

from shared.archive import texts
from shared.archive.tables import common, tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of all months together."""
    connection = op.get_bind()
    common.create_all(connection)
    if connection.dialect.name == "postgresql":
        tables().metadata.create_all(connection)
        texts.table().create(connection)
