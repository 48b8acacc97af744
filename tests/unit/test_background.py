"""Background tasks: the end of one is noticed, whatever it was, unless it was asked for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from shared.process.background import BackgroundTasks


async def _raises() -> None:
    raise OSError("no space left")


async def _returns() -> None:
    return


async def _runs() -> None:
    await asyncio.Event().wait()


async def _ends(task: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    said: list[str] = []
    background = BackgroundTasks(said.append)
    background.start("watch", task())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await background.stop()
    return said


@pytest.mark.parametrize(("task", "why"), [(_raises, "OSError"), (_returns, "it returned")])
def test_a_task_that_ends_by_itself_is_reported_with_its_name(
    task: Callable[[], Coroutine[Any, Any, None]], why: str
) -> None:
    assert asyncio.run(_ends(task)) == [f"the background task watch ended: {why}"]


def test_a_task_that_is_cancelled_by_somebody_else_is_reported() -> None:
    async def play() -> list[str]:
        said: list[str] = []
        background = BackgroundTasks(said.append)
        background.start("watch", _runs()).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await background.stop()
        return said

    assert asyncio.run(play()) == ["the background task watch ended: it was cancelled"]


def test_a_task_that_was_stopped_is_not_reported() -> None:
    async def play() -> list[str]:
        said: list[str] = []
        background = BackgroundTasks(said.append)
        background.start("watch", _runs())
        await background.stop()
        return said

    assert asyncio.run(play()) == []
