"""What the fork server loads once, so that a child need not."""

import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite

import chainrule.app.execution.child

__all__ = ["chainrule", "sqlalchemy"]
