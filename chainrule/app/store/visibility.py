"""Visibility: a session of an owner reads, changes and makes what belongs to that owner, and nothing else.

The one place where owners are told apart. Every statement of such a session gets a condition for each table in it:
the owner's name where the table has one, else a row of its own in the table it hangs on (epochs on runs, chunks on
datasets). The conditions are made of the tables themselves, so a new table has its own; one that neither has an owner
nor hangs on one that has is refused, unless it is said to be the service's own, which no owner sees, and so is a
statement that cannot be narrowed. A session without an owner sees everything: workers, migrations, `keys` of the
command line.

A statement carries one value for all this, the owner. The conditions are put in when its SQL is made, which SQLAlchemy
does once for all statements alike, whoever's they are.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, String, bindparam, exists, false
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.orm.interfaces import CriteriaOption
from sqlalchemy.sql.visitors import InternalTraversal

from chainrule.app.store.models import Base

OWNER = "owner"
"""Whose a session is, in its `info`."""
SERVICE = "service"
"""In the `info` of a table whose rows are of the service itself."""
EVERYBODY = {"everybody": True}
"""Execution options of a statement that counts what belongs to anybody: for limits that all share."""


def only_own(state: ORMExecuteState) -> None:
    """Narrow a statement to what belongs to the session's owner.

    Raises:
        TypeError: the statement names tables and not the classes mapped to them, so it cannot be narrowed.
    """
    owner = state.session.info.get(OWNER)
    if owner is None or state.execution_options.get("everybody"):
        return
    if state.is_orm_statement:
        if not state.is_insert:
            state.statement = state.statement.options(_own_rows(owner))
    elif state.is_select or state.is_update or state.is_delete:
        raise TypeError("a session of an owner is asked by mapped classes, not by tables")


def stamp(session: Session, _context: UOWTransaction, _instances: Any) -> None:
    """Give what a session makes to its owner."""
    owner = session.info.get(OWNER)
    if owner is not None:
        for made in session.new:
            if OWNER in made.__table__.columns:
                made.owner = owner


class OwnRows(CriteriaOption):
    """Narrow every table in a statement, as `with_loader_criteria` of each would.

    Those would be looked at with each statement, all of them, to tell whether its SQL is made already; of this one
    only the parameter is, and its value is no part of the SQL.
    """

    __slots__ = ("owner",)
    _traverse_internals = [("owner", InternalTraversal.dp_clauseelement)]  # noqa: RUF012

    def __init__(self, owner: str) -> None:
        # Its name is no column's, and the same wherever it stands: so a later statement's value finds its places.
        self.owner: BindParameter[str] = bindparam("owner_of_session", owner, String)

    def process_compile_state(self, compile_state: Any) -> None:
        """Put the conditions in where the SQL of a statement is made."""
        self.get_global_criteria(compile_state.global_attributes)

    def get_global_criteria(self, attributes: dict[Any, Any]) -> None:
        """Add the condition of each table there is."""
        for mapper in Base.registry.mappers:
            condition = belongs(mapper.class_, self.owner)
            with_loader_criteria(mapper.class_, condition, include_aliases=True).get_global_criteria(attributes)


_own_rows = lru_cache(maxsize=1024)(OwnRows)


def belongs(table: Any, owner: Any) -> ColumnElement[bool]:
    """Say what makes a row belong to an owner; nothing makes the service's own rows.

    Raises:
        TypeError: the table says nothing of whose its rows are.
    """
    if table.__table__.info.get(SERVICE):
        return false()
    if OWNER in table.__table__.columns:
        own: ColumnElement[bool] = table.owner == owner
        return own
    for column in table.__table__.columns:
        for key in column.foreign_keys:
            parent = key.column.table
            if OWNER in parent.columns:
                of = parent.alias()
                return exists().where(of.c[key.column.name] == getattr(table, column.key), of.c.owner == owner)
    raise TypeError(f"rows of {table.__tablename__} belong to nobody: give it an owner, or a key to a table with one")
