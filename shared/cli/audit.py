"""`headrace audit`: what operators did."""

import re
from typing import Any

import click

from shared.archive.audit import AuditSearch
from shared.archive.search import FOR_EVER_MS
from shared.cli import config_option, json_option
from shared.cli.names import no_such
from shared.cli.parameters import Moment, limit_option, span, span_options
from shared.cli.printing import print_json, print_table
from shared.cli.running import ask, running_config
from shared.cli.wording import counted, seconds
from shared.event.times import rfc3339_ms
from shared.operations.audit import AuditView, audit_of
from shared.store.client import RedisClient
from shared.store.clock import now_ms

_ID = re.compile(r"\d{1,16}-\d{1,20}")


class _EntryId(click.ParamType[str]):
    name = "entry"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id."""
        if not _ID.fullmatch(value):
            self.fail(f"{value!r} is not the id of an entry: one looks like 1772445704112-0")
        return value


@click.command("audit")
@limit_option
@span_options("was done")
@click.option("--action", help="Only this: replay, admit, 'target paused'.")
@click.option("--user", help="Only what this user did.")
@click.option("--before", type=_EntryId(), metavar="ENTRY", help="Only what comes after ENTRY in the list.")
@config_option
@json_option
def command(
    limit: int,
    since: Moment | None,
    until: Moment | None,
    action: str | None,
    user: str | None,
    before: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List what operators did, newest first: who, when, to what, and how many that were.

    Each entry was written before its action began, so there is one for an action that broke off, too.
    """
    settings = running_config(config)

    async def read(client: RedisClient) -> tuple[list[AuditView], list[str]]:
        audit, within = audit_of(client, settings), span(since, until, await now_ms(client))
        wanted = AuditSearch(since_ms=within.since_ms, until_ms=within.until_ms, action=action, user=user)
        found = await audit.entries(wanted, limit, before)
        return found, [] if found or action is None else await audit.actions()

    found, actions = ask(settings, read)
    if not found and action is not None and action not in actions:
        raise no_such("action", action, actions)
    if as_json:
        print_json({"audit": found})
        return
    if not found:
        click.echo("No entries match.")
        return
    print_table(
        ["ENTRY / AT (UTC)", "ACTION / BY", "OF WHAT", "HOW MANY"],
        [
            [
                f"{view.id}\n{seconds(view.at)}",
                f"{view.action}\n{view.user}",
                "\n".join(_selected(view.selected)),
                "\n".join(_planned(view.planned)),
            ]
            for view in found
        ],
    )
    if len(found) == limit:
        click.echo(f"\nThe first {limit}; there may be more: --limit, or --before {found[-1].id}")


def _selected(selected: Any) -> list[str]:
    """Return in words what an action was asked to act on."""
    if not isinstance(selected, dict):
        return [] if selected is None else [str(selected)]
    lines = []
    for name, value in selected.items():
        what = name.replace("_", " ")
        if name == "span" and isinstance(value, dict):
            lines += _span(**value)
        elif isinstance(value, list | tuple):
            more = selected.get(f"{name}_in_all", len(value)) - len(value)
            lines.append(f"{what}: {', '.join(map(str, value))}" + (f" and {more:,} more" if more else ""))
        elif not name.endswith("_in_all") and value not in (None, "", False):
            lines.append(what if value is True else f"{what}: {value}")
    return lines


def _span(since_ms: int = 0, until_ms: int = FOR_EVER_MS, **_: Any) -> list[str]:
    ends = (("since", since_ms, 0), ("until", until_ms, FOR_EVER_MS))
    return [f"{what}: {seconds(rfc3339_ms(ms))}" for what, ms, none in ends if ms != none]


def _planned(planned: dict[str, Any]) -> list[str]:
    """Return in words how many of what an action was to act on."""
    lines = []
    for what, counts in planned.items():
        if isinstance(counts, dict):
            total = sum(counts.values())
            by = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
            lines.append(f"{counted(total, *_forms(what))}" + (f" ({by})" if by else ""))
        else:
            lines.append(f"{what}: {counts}")
    return lines


def _forms(what: str) -> tuple[str, str]:
    one = f"{what.removesuffix('ies')}y" if what.endswith("ies") else what.removesuffix("s")
    return one, what
