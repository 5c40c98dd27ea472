"""How a guarded reader refuses bytes: which file, which member, which rule they broke."""

from __future__ import annotations

from infra.redaction import masked


class Refused(ValueError):
    """Bytes that a rule keeps out. Nothing of them has been decoded, extracted or run.

    >>> str(Refused("shards/a.tar", "x.pkl", "extension", "only jpg, json and txt are read"))
    'shards/a.tar: x.pkl: refused by rule extension: only jpg, json and txt are read'
    """

    def __init__(self, file: str, member: str, rule: str, detail: str) -> None:
        # All four go to the base class, so that the exception survives pickling between processes.
        super().__init__(file, member, rule, detail)
        self.file = file
        self.member = member
        """The member, or the place inside the file; empty where the file as a whole is refused."""
        self.rule = rule
        """A short name that can be counted."""
        self.detail = detail

    def __str__(self) -> str:
        told = ": ".join(filter(None, (self.file, self.member, f"refused by rule {self.rule}", self.detail)))
        # Names of files and members are whatever the sender wrote: terminal codes, passwords, no text at all.
        return masked("".join(char if char.isprintable() else ascii(char)[1:-1] for char in told))


def check_size(raw: bytes, most: int, *, file: str) -> None:
    """Raises :class:`Refused` with rule ``size`` for a table of over ``most`` bytes."""
    if len(raw) > most:
        told = f"{len(raw)} bytes, at most {most} are read; split it into parts"
        raise Refused(file, "", "size", told)
