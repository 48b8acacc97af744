"""Looks up the names of targets as deliveries will: if one does not resolve, every attempt fails."""

import asyncio
from collections.abc import Sequence

from shared.delivery.outgoing import endpoint_of, proxy_of
from shared.errors import EgressError
from shared.http import Endpoint
from shared.http.addresses import Address, refusal
from shared.http.lookup import Lookups
from shared.settings import Config, Target

LOOKUP_S = 3.0


def lookup_warnings(config: Config) -> list[str]:
    """Return what is wrong with the names of targets and of the proxy, within about `LOOKUP_S`."""
    return asyncio.run(_warnings(config))


async def _warnings(config: Config) -> list[str]:
    lookups = Lookups()
    try:
        found = await asyncio.gather(
            *(_of_target(lookups, i, target, config) for i, target in enumerate(config.targets)),
            _of_proxy(lookups, config),
        )
    finally:
        lookups.close()
    return [warning for warning in found if warning is not None]


async def _of_target(lookups: Lookups, number: int, target: Target, config: Config) -> str | None:
    endpoint: Endpoint = endpoint_of(config, target)
    by_proxy = endpoint.proxy is not None and endpoint.proxy.resolves
    if endpoint.known_address is not None or by_proxy:
        return None  # an address needs no look-up, and a proxy may do it
    found = await _look_up(lookups, endpoint.lookup_name, endpoint.port)
    if isinstance(found, str):
        problem: str | None = found
    else:
        why = next(filter(None, (refusal(address, endpoint.allow_private) for address in found)), None)
        problem = why and f"{endpoint.host} resolves to {why}"
    return problem and f"targets[{number}] ({target.name}): url: {problem}; until then every attempt fails"


async def _of_proxy(lookups: Lookups, config: Config) -> str | None:
    proxy = proxy_of(config)
    if proxy is None or proxy.address is not None:
        return None
    found = await _look_up(lookups, proxy.lookup_name, proxy.port)
    return f"egress.proxy: {found}; until then every attempt fails" if isinstance(found, str) else None


async def _look_up(lookups: Lookups, name: str, port: int) -> Sequence[Address] | str:
    """Return the addresses of a name, or why there are none."""
    try:
        async with asyncio.timeout(LOOKUP_S):
            return await lookups.find(name, port)
    except TimeoutError:
        return f"{name} was looked up in vain for {LOOKUP_S:.0f} s"
    except EgressError as error:
        return f"{name} does not resolve ({error.detail.removeprefix(f'{name}: ')})"
