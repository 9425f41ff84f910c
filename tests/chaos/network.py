"""Machines with cables that can be pulled: network namespaces, each with a way to the database's and to no other."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HOST = {"east": "10.77.1.2", "west": "10.77.2.2"}
"""The machines that train, and their addresses."""
DATABASE = {"east": "10.77.1.1", "west": "10.77.2.1"}
"""The addresses at which each of them finds the database."""


class NotPermitted(Exception):
    """No network can be made here; says why."""


class Network:
    """Three network namespaces: the database's and those of two machines, a cable from each to the database."""

    def __init__(self) -> None:
        self._prefix = f"chainrule-{os.getpid()}-"

    def on(self, machine: str) -> list[str]:
        """Tell how a command is run on a machine, under a name of its own; or where the database is."""
        within = ["ip", "netns", "exec", self._prefix + machine]
        return [*within, "unshare", "--uts", "sh", "-c", f'hostname {machine} && exec "$@"', "sh"]

    def cut(self, machine: str) -> None:
        """Pull the cable: nothing comes through, and nobody is told."""
        self._set(machine, "down")

    def heal(self, machine: str) -> None:
        """Put it in again."""
        self._set(machine, "up")

    def make(self) -> None:
        """Make it.

        Raises:
            NotPermitted: only root may, and not everywhere.
        """
        try:
            for name in ("database", *HOST):
                _ip("netns", "add", self._prefix + name)
                self._ip(name, "link", "set", "lo", "up")
            for machine, address in HOST.items():
                cable = ("link", "add", machine, "type", "veth", "peer", "name", "cable", "netns")
                self._ip("database", *cable, self._prefix + machine)
                self._ip("database", "addr", "add", f"{DATABASE[machine]}/30", "dev", machine)
                self._ip(machine, "addr", "add", f"{address}/30", "dev", "cable")
                self._ip(machine, "link", "set", "cable", "up")
                self.heal(machine)
            subprocess.run([*self.on("east"), "true"], check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise NotPermitted(str(error)) from error
        except subprocess.CalledProcessError as error:
            raise NotPermitted(error.stderr.strip()) from error

    def remove(self) -> None:
        """Remove it, however much of it there is."""
        for name in ("database", *HOST):
            subprocess.run(["ip", "netns", "delete", self._prefix + name], check=False, capture_output=True)

    def _set(self, machine: str, state: str) -> None:
        self._ip("database", "link", "set", machine, state)

    def _ip(self, name: str, *arguments: str) -> None:
        _ip("-n", self._prefix + name, *arguments)


@contextmanager
def network() -> Iterator[Network]:
    """Have machines for a while.

    Raises:
        NotPermitted: not here.
    """
    made = Network()
    try:
        made.make()
        yield made
    finally:
        try:
            made.remove()
        except FileNotFoundError as error:
            raise NotPermitted(str(error)) from error


def _ip(*arguments: str) -> None:
    command: Sequence[str] = ["ip", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)
