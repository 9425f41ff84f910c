"""Watching ends when it is told to, whatever goes on."""

import asyncio
import threading

from chainrule.app.services.watching import Watching
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database


def test_it_stops_in_the_middle_of_a_flood_of_changes(database: Database) -> None:
    changes, over = Changes(database), threading.Event()

    def flood() -> None:
        while not over.wait(0.00001):
            changes.notify()

    async def start_and_stop() -> None:
        try:
            for _ in range(100):
                watching = Watching(database, changes, poll_interval_s=0.01)
                await watching.start()
                await asyncio.sleep(0.002)
                # News in the same turn of the loop: the moment at which being cancelled goes unnoticed.
                changes.notify()
                await asyncio.sleep(0)
                await asyncio.wait_for(watching.stop(), 60)
        finally:
            over.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    asyncio.run(start_and_stop())
    flooding.join()
