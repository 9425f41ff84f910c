"""Datasets: what they are, and their bytes in chunks."""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from chainrule.app.store.models import Dataset, DatasetChunk


def add(session: Session, dataset: Dataset, chunks: Iterable[bytes]) -> None:
    """Store a dataset with its bytes, a chunk at a time."""
    session.add(dataset)
    session.flush()
    for position, content in enumerate(chunks):
        session.add(DatasetChunk(dataset_id=dataset.id, position=position, content=content))
        session.flush()
        session.expunge_all()


def get(session: Session, dataset_id: str) -> Dataset | None:
    """Find one dataset."""
    return session.get(Dataset, dataset_id)


def hold(session: Session, dataset_id: str, *, to_delete: bool = False) -> bool:
    """Keep a dataset as it is until this transaction ends; False if there is none.

    Concurrency: holders share, a deleter waits for them. On SQLite the caller's `BEGIN IMMEDIATE` is
    the lock.
    """
    query = select(Dataset.id).where(Dataset.id == dataset_id).with_for_update(read=not to_delete)
    return session.scalar(query) is not None


def page(session: Session, limit: int, after: str | None = None) -> Sequence[Dataset]:
    """Read one page of datasets in the order of their ids, from behind `after`."""
    query = select(Dataset).order_by(Dataset.id).limit(limit)
    if after is not None:
        query = query.where(Dataset.id > after)
    return session.scalars(query).all()


def chunks(session: Session, dataset_id: str) -> Iterator[bytes]:
    """Read a dataset's bytes, a chunk at a time."""
    query = select(DatasetChunk.content).where(DatasetChunk.dataset_id == dataset_id).order_by(DatasetChunk.position)
    yield from session.scalars(query.execution_options(yield_per=4))


def remove(session: Session, dataset_id: str) -> bool:
    """Delete a dataset with its bytes; False if there is none."""
    found = session.get(Dataset, dataset_id)
    if found is None:
        return False
    session.delete(found)
    return True
