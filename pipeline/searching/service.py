"""A version of a corpus as a service: what stands behind the door, but for the replicas."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.ending import keep_trace
from infra.serving.callers import Anyone, Caller, Callers, Rates, Room
from infra.serving.options import TokenLines
from infra.storage import Store
from pipeline import deciding
from pipeline.searching import holdings, members, opening, tokens
from pipeline.searching.admission import Admission
from pipeline.searching.shelf import Shelf
from pipeline.searching.standing import Standing
from pipeline.searching.usage import Usage
from pipeline.searching.watching import Place, Watch
from retrieval.serving.admission import Grant, Rows
from retrieval.serving.asking import Facts, Searching
from retrieval.serving.catalogue import GIVEN, Catalogue, whole
from retrieval.serving.door import Door, uncounted
from retrieval.serving.facts import About
from retrieval.serving.gauges import Watched
from retrieval.serving.queries import MAX_BODY, Bounds

LOOK_S = 0.25
"""Between looks for revocations: one takes effect within a second, whatever else this process does."""
ITSELF = "the service"
"""As a source of revocations that cannot be read."""
ROOM_BODIES = 8
"""Of the largest bodies that are held at once; of ordinary ones, as many requests as may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    corpus: Corpus
    version: Version
    catalogue: Catalogue
    shelf: Shelf
    admission: Admission
    watch: Watch
    callers: Callers
    grants: Callable[[Caller], Grant]

    @staticmethod
    def of(
        corpus: Corpus,
        version: Version,
        *,
        given: TokenLines | None,
        place: Place | None,
        table: pa.Table | None = None,
    ) -> Service:
        """Opened, with all that is revoked by now; ``table``: the members, where they are read already.

        ValueError for tokens and revocations that are none.
        """
        purpose = deciding.purpose_of(corpus, version)
        guests = tokens.read(given, purpose)
        table = members.read(corpus, version) if table is None else table
        held = holdings.read(corpus, version, table)
        watch = Watch(corpus=corpus, place=place, holdings=held, now=now)
        return Service(
            corpus=corpus,
            version=version,
            catalogue=Catalogue.of(table.append_column(holdings.DATE, held.dates).select(GIVEN.names)),
            shelf=Shelf.of(corpus, version, table),
            admission=Admission(
                holdings=held, purpose=purpose, now=now, standing=watch.begin(), own=guests.own
            ),
            watch=watch,
            callers=guests.callers,
            grants=guests.grants,
        )

    def door(
        self,
        searching: Searching,
        facts: Facts,
        *,
        rates: Rates,
        max_requests: int,
        served: Callable[[Rows], None] = uncounted,
    ) -> Door:
        return Door(
            served=served,
            searching=searching,
            catalogue=self.catalogue,
            admit=self.admission.admit,
            grants=self.grants,
            shelf=self.shelf,
            about=self.about(facts),
            bounds=Bounds(width=facts.width, uses=tokens.USES),
            register=self.watch.told,
            callers=self.callers,
            rates=rates,
            room=Room(
                max_requests=max_requests,
                max_bytes=ROOM_BODIES * MAX_BODY,
                callers=self.callers.count,
            ),
            max_body=MAX_BODY,
        )

    def about(self, facts: Facts) -> About:
        return About(
            corpus=called(self.corpus.store.uri),
            version=self.version.number,
            encoder=facts.encoder,
            is_clip=opening.encoder_of(self.corpus, self.version).kind == "open_clip",
            fingerprint=facts.fingerprint,
            uses=tokens.USES,
            open=isinstance(self.callers, Anyone),
            examples=bool(self.shelf.neighbors),
        )

    def usage(self, place: str, address: str) -> Usage:
        """Counts what the door at this address answers with, in files of a folder."""
        told = {"corpus": called(self.corpus.store.uri), "version": str(self.version.number)}
        return Usage(
            store=Store.at(place),
            facts={**told, "service": address, "door": secrets.token_hex(8)},
            uids=whole(self.catalogue.facts["uid"]),
            now=now,
        )

    async def watched(self, gauges: Watched) -> None:
        """Loads what is revoked, until it is cancelled: between two answers, and never within one."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as looking:  # of its own: others may all be waiting for pictures
            while True:
                gauges.standing(
                    revoked=int(self.admission.standing.removed_N.sum()), errors=len(self.watch.faults)
                )
                await asyncio.sleep(LOOK_S)
                found = await loop.run_in_executor(looking, self._looked)
                if found is not None:
                    self.admission.load(found)

    def _looked(self) -> Standing | None:
        """What stands now, decided for those who ask, if it is not what stood before."""
        try:
            found = self.watch.look()
            if found is not None:
                self.admission.prepare(found)
        except Exception as error:  # noqa: BLE001  # whatever it was, the next look may find a revocation
            if self.watch.fails(ITSELF, f"a fault of the service: {type(error).__name__}"):
                keep_trace(error)
            return None
        self.watch.mends(ITSELF)
        return found


def called(uri: str) -> str:
    """What callers are told of where a corpus lies: its name, and not the machine's folders.

    >>> called("/home/ana/birds/corpus"), called("s3://licensed/2026")
    ('birds/corpus', 'licensed/2026')
    """
    return "/".join(uri.removeprefix("s3://").strip("/").split("/")[-2:])


def now() -> datetime:
    return datetime.now(UTC)
