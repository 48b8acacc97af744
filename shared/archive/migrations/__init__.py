"""The steps by which Alembic brings the schema of the archive up to date."""
