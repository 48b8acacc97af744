"""Packing: makes finished events small. One worker at a time does it, for a share of its time."""

import asyncio
from time import monotonic

import structlog

from shared.errors import StoreUnavailable, StoreUnfit, StoreUnreadable
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.duties import Duty
from shared.store.keys import names_digest
from shared.store.layout import take_up
from shared.store.packer import Packer

log = structlog.get_logger()

LEASE_MS = 2000
LOOK_S = 1.0
SHARE = 0.25  # the most of one worker's time that packing takes


class Packing:
    """Packs finished events while this worker has the duty."""

    def __init__(self, config: Config, worker: str, client: RedisClient) -> None:
        self._client = client
        self._duty = Duty(client, "packing", worker, lease_ms=LEASE_MS)
        self._packer = Packer(client)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next round on."""
        self._sources = [source.name for source in config.sources]
        self._names = names_digest(self._sources, [target.name for target in config.targets])

    async def run(self) -> None:
        """Pack finished events until cancelled.

        Raises: StoreUnfit if the records are of a later version, and this process began while Redis was away.
        """
        taken_up, unreadable = False, ""
        while True:
            pause_s = LOOK_S
            try:
                if not taken_up:  # packed events are of this layout
                    await take_up(self._client, self._sources)
                    taken_up = True
                if await self._duty.mine(self._names):
                    began = monotonic()
                    if await self._packer.pack():
                        pause_s = (monotonic() - began) * (1 / SHARE - 1)
            except StoreUnreadable as error:  # it blocks packing until retention removes it
                if unreadable != str(error):
                    unreadable = str(error)
                    log.error("an event cannot be read, and none is packed", reason=unreadable)
            except StoreUnavailable:
                pass  # the sweep logs that
            except StoreUnfit:
                raise
            except Exception as error:  # the next round may not meet it
                log.error("packing failed", error=type(error).__name__, reason=str(error))
            await asyncio.sleep(pause_s)
