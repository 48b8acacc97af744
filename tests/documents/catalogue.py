"""The fault catalogue: what the gateway must survive, and the tests that show it.

A mark ties a test to its case: `@pytest.mark.case(n=17)`. tests/README.md has the table of all cases.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.documents.markers import ROOT

CASES = {
    1: "ingress killed before its commit: no 200, and the provider's retry is taken",
    2: "killed between dedupe claim and store: there is no between, it is one script",
    3: "killed after the commit, before the 200: the retry is a duplicate, delivered once",
    4: "commit done, doorbell lost: the sweep rings",
    5: "worker killed with a doorbell in hand, mid-batch, mid-fan-out: taken over, none delivered twice",
    6: "killed after the target's 2xx, before its record: sent again under the same `webhook-id`",
    7: "killed while dead-lettering or replaying: it is in exactly one place",
    8: "every process killed at random under load: nothing lost, no copy delivered",
    9: "SIGTERM under load: finished or handed back in time, no error to a provider",
    10: "Redis killed and restarted under load, in each fsync mode: 503 meanwhile, all recovers by itself",
    11: "Redis full, read-only, failing to save, loading, stopped: 503 in bounded time, `/readyz` says why",
    12: "a Redis that is unfit: no start, and one line that says why",
    13: "connections cut before or after a command ran, slow, dripping: the same end",
    14: "a worker's clock, or Redis's own, off by minutes: nothing lost",
    15: "10,000 copies of one event at once over several ingress processes: one event",
    16: "a duplicate after the window: a new event",
    17: "a target hangs, drips headers or body, never reads: a deadline, and others keep their pace",
    18: "a target answers without end, or with a gzip bomb: cut, undecoded, its status decides",
    19: "a redirect to a forbidden address: not followed",
    20: "names that resolve to private addresses, rebind, or mix: refused, what is checked is dialled",
    21: "addresses in disguise: refused; `HTTP_PROXY` ignored",
    22: "TLS expired, for another host, self-signed, old: a failed attempt, no fallback",
    23: "410: a dead letter, the target disabled, said loudly",
    24: "`Retry-After` in seconds, as a date, negative, huge, junk: honoured within bounds",
    25: "failures for ever: the schedule, then a dead letter with its history",
    26: "one dead target among 50: the others keep their pace",
    27: "a target removed or moved while retries wait, mixed configurations: nothing lost or given up",
    28: "500 half-open requests: closed by a deadline, and ingress keeps answering",
    29: "a body over the limit, however it is announced: 413 before it is held",
    30: "CL+TE, a header of 100 KB, credentials given twice: 400 or 431",
    31: "credentials missing, malformed, not ASCII, as long as a header may be: 401, never 500",
    32: "authenticated bodies of every wrong kind: 200, kept, and the worker lives",
    33: "an adapter that raises, loops, kills or eats memory: quarantined alone, neighbours go on",
    34: "CR, LF, NUL in any field: nothing is injected into a header or a log",
    35: "secrets rotate: none is refused in between, the old one after",
    36: "mistakes in the configuration: no start, and one line that names the key",
    37: "a replay said twice, or while the target is down: sent once, audited",
    38: "records of the previous layout: still read and delivered",
    39: "a great backlog when a worker starts: constant memory, oldest first",
    40: "random and mutated requests and bodies: no 5xx, no crash, nothing lost",
    41: "a request that asks for an upgrade: its body is kept whole, and no receipt for fewer bytes",
    42: "trailers without end, credentials in trailers: refused by the header limits, never believed",
    43: "a log that cannot be written, or whose reader stalls or is gone: nothing ends, nothing waits",
    44: "more finished events than memory holds, at the top rate: retention keeps ahead, none is refused",
    45: "a flood of health checks: no provider is turned away, and strangers learn a word",
    46: "5,000 sockets that dribble a body: authentic requests are taken all the same",
    47: "a target that is down, or a source that nobody reads, takes its share of memory and no other's",
    48: "any change of any configuration key is taken up",
    49: "events that a dead letter holds: listed, let go by `continue` and by removal",
    50: "what a source left in its inbox when it left the configuration: said, and admitted by hand",
    51: "a dispute and its resolution sent again as a pair: copies within a bounded span",
    52: "large, deep bodies: read once, in time bounded by size, and no other source waits for them",
    53: "waiting for a target's breaker or pause: no delivery ages or dies of it",
    54: "malformed doorbells and commands, and foreign strings in the queue: logged, dropped, survived",
    55: "odd requests, odd amounts, an emptied configuration: each has its one answer and says nothing more",
    56: "dedupe keys cost at most 40 bytes; bound log context is kept; a POST said twice is recorded",
    57: "what is judged is what happened, never how fast: kills in the middle of a fan-out, and surviving mutants",
    58: "a layout that a later version wrote: no process of this one begins, and what runs goes on",
}


def marked() -> dict[int, list[tuple[Path, str]]]:
    """Return, for each case, the tests with its mark, as their files and names."""
    found: defaultdict[int, list[tuple[Path, str]]] = defaultdict(list)
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for number in _cases(function):
                    found[number].append((path.relative_to(ROOT), function.name))
    return dict(found)


def _cases(function: ast.FunctionDef) -> Iterator[int]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case":
            [keyword] = decorator.keywords
            yield ast.literal_eval(keyword.value)


def table() -> str:
    """Return the table in Markdown: a row for each case."""
    return "| # | case | shown by |\n|---|---|---|\n" + "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    tests = marked()
    for number, text in CASES.items():
        by_file: defaultdict[Path, list[str]] = defaultdict(list)
        for path, name in tests.get(number, []):
            by_file[path].append(f"`{name.removeprefix('test_')}`")
        shown = "<br>".join(
            f"[{path.relative_to('tests')}]({path.relative_to('tests')}): {', '.join(names)}"
            for path, names in by_file.items()
        )
        yield f"| {number} | {text} | {shown} |"
