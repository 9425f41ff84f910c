"""What the fork server does once, so that no child need do it: load, connect, compile."""

import gc
import os

import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite

from chainrule.app.execution.child import prepare

__all__ = ["prepare", "sqlalchemy"]

prepare(os.environ["CHAINRULE_DATABASE_URL"])
# What is here now is shared by all children; no collection need ever look through it again.
gc.collect()
gc.freeze()
