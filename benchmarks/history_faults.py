# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Several services on one Redis, whose processes and whose Redis are killed: is a click lost?

    python benchmarks/history_faults.py -m mind/config.yaml --data datasets/sample --out DIR

Callers send clicks to services of several workers each, every click over a connection of its own,
all of one user by the same caller. Meanwhile a worker is killed with -9, Redis is killed and
started again on what it had written, then both at once. Half of the callers send a click that was
not acknowledged again with its Idempotency-Key until it is: of their users Redis must hold just
what was acknowledged, in that order. The others go on with the next click: all that was
acknowledged must be there in its order, and between it only clicks that were sent. The lists of
some users must be those of their clicks. Exit code 1 if one of all this does not hold.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fault_table.click_sender import (
    AGAIN,
    GIVE_UP,
    PATIENCE,
    ClickSender,
    UserClicks,
    judged,
    repeats,
)
from redis_process import LocalRedis
from service_process import ServiceProcess
from serving_bench import say
from tabulate import tabulate

from paddlerec_milvus.command import model_parser, run, settings_for
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.redis_store import RedisUserStore
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.serving.client import Client

COLLECTION = "history_faults"
TIMEOUT = 2.0  # seconds that a service may take
DOWN = 2.0  # seconds that Redis is away
LISTS = 20  # users whose candidates are compared
SHARES = (0.25, 0.5, 0.75)  # of the clicks, after which a fault comes


class FaultPlan:
    """Faults that come when so many clicks have been acknowledged; run in a thread."""

    def __init__(self, sender: ClickSender, total: int) -> None:
        self._sender, self._total = sender, total
        self.rows: list[dict[str, Any]] = []

    def run(self, faults: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """Let ``faults`` happen, one at each of SHARES; measure until a click is stored again."""
        for share, (name, fault) in zip(SHARES, faults, strict=True):
            while len(self._sender.acknowledged) < share * self._total:
                time.sleep(0.01)
            began, at = time.monotonic(), len(self._sender.acknowledged)
            fault()
            ended = time.monotonic()
            while self._sender.acknowledged[-1] < ended:
                time.sleep(0.005)
            again = time.monotonic() - began
            self.rows.append({"fault": name, "after_clicks": at, "seconds_until_stored": again})
            say(f"{name} after {at:,} clicks: the next was stored {again:.2f} s later")


def main() -> int:
    """Run it, print the counts; 1 where a click was lost or came in another order."""
    parser = model_parser(__doc__ or "", "")
    add = parser.add_argument
    add("--epoch", default="best", metavar="N", help="the checkpoint: a number, or best (best)")
    add("--server", default="local", metavar="URI", help="a running Milvus (one of our own)")
    add("--clicks", type=int, default=5_000, metavar="N", help="(5,000)")
    add("--users", type=int, default=200, metavar="N", help="(200)")
    add("--callers", type=int, default=16, metavar="N", help="at a time (16)")
    add("--services", type=int, default=2, metavar="N", help="(2)")
    add("--workers", type=int, default=2, metavar="N", help="processes of each service (2)")
    add("--fsync", default="always", choices=("always", "everysec"), help="appendfsync (always)")
    add("--seed", type=int, default=1, metavar="N", help="draws clicks and services (1)")
    add("--out", type=Path, required=True, metavar="DIR", help="history_faults.json")
    arguments = parser.parse_args()
    sound: list[bool] = []
    return run(lambda: sound.append(_main(arguments))) or int(not all(sound))


def _main(arguments: argparse.Namespace) -> bool:
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-faults-")))
        uri = arguments.server
        if uri == "local":
            say("starting Milvus")
            uri = stack.enter_context(LocalMilvus(folder / "milvus")).uri
        redis = stack.enter_context(LocalRedis(folder / "redis", fsync=arguments.fsync))
        services = _services(stack, arguments, folder, {"MILVUS_URI": uri}, redis)
        users, sender, faults = _clicked(arguments, services, redis)
        store = RedisUserStore(redis.uri, COLLECTION)
        counts = judged(store, users, arguments.callers)
        store.close()
        counts |= compared_lists(services, users)
    counts["other_answers"] = sum(
        number
        for status, number in sender.answers.items()
        if status not in ("none", "503") and not status.startswith("200")
    )
    bad = ("lost", "added_twice", "out_of_order", "not_sent", "other_lists", "other_answers")
    counts["sound"] = not any(counts[name] for name in bad)
    print(tabulate(list(counts.items()), tablefmt="github"))
    parameters = {n: str(v) if isinstance(v, Path) else v for n, v in vars(arguments).items()}
    about = {
        "verdict": counts,
        "answers": dict(sorted(sender.answers.items())),
        "faults": faults,
        "seconds": time.monotonic() - began,
        "parameters": parameters,
        "machine": machine(),
        "versions": versions() | {"redis": _redis_version()},
    }
    write_json(about, arguments.out / "history_faults.json", "--out")
    say(f"written: {arguments.out}/history_faults.json")
    return bool(counts["sound"])


def _services(
    stack: ExitStack,
    arguments: argparse.Namespace,
    folder: Path,
    environment: dict[str, str],
    redis: LocalRedis,
) -> list[ServiceProcess]:
    """Services with the checkpoint's items in Milvus, all on the one Redis."""
    options = [*arguments.opt, f"milvus.collection={COLLECTION}"]
    settings_for(arguments.config_yaml, options, arguments.data)
    environment |= {
        "SERVING_YAML": arguments.config_yaml,
        "SERVING_OPTIONS": shlex.join(options),
        "SERVING_EPOCH": arguments.epoch,
        "SERVING_KEPT": str(folder / "served"),
        "SERVING_TIMEOUT": str(TIMEOUT),
        "SERVING_HISTORIES": redis.uri,
        **({} if arguments.data is None else {"SERVING_DATA": str(arguments.data.resolve())}),
    }
    services: list[ServiceProcess] = []
    for number in range(arguments.services):
        say(f"starting service {number + 1} with {arguments.workers} workers")
        service = ServiceProcess(environment, folder / f"service_{number}.log", arguments.workers)
        stack.enter_context(service)
        if not services:
            with Client(service.url) as client:
                say(f"{client.insert().inserted:,} items inserted")
                stack.callback(_dropped, service.url)
        service.wait_for("/readyz", GIVE_UP)
        services.append(service)
    return services


def _dropped(url: str) -> None:
    with Client(url) as client:
        client.delete()


def _clicked(
    arguments: argparse.Namespace, services: Sequence[ServiceProcess], redis: LocalRedis
) -> tuple[dict[int, UserClicks], ClickSender, list[dict[str, Any]]]:
    """Send all clicks while the faults come; what callers know of their users."""
    users = {user: UserClicks() for user in range(arguments.users)}
    sender = ClickSender([service.port for service in services], arguments.seed)
    items = _items(services[0])

    def restart() -> None:
        redis.kill()
        time.sleep(DOWN)
        redis.start()

    def both() -> None:
        services[-1].workers()[0].kill()
        restart()

    faults = [
        ("kill -9 of a worker", lambda: services[0].workers()[0].kill()),
        (f"kill -9 of Redis, started {DOWN:g} s later", restart),
        ("both at once", both),
    ]
    plan = FaultPlan(sender, arguments.clicks)
    watching = threading.Thread(target=plan.run, args=(faults,), daemon=True)
    watching.start()

    def call(caller: int) -> None:
        draw = random.Random(arguments.seed * 1_000 + caller)
        own = range(caller, arguments.users, arguments.callers)
        for _ in range(caller, arguments.clicks, arguments.callers):
            user, item = draw.choice(own), draw.randint(1, items)
            users[user].sent.append(item)
            if repeats(caller):
                sender.send_until(user, item)
                users[user].acknowledged.append(item)
            elif sender.send(user, item, ""):
                users[user].acknowledged.append(item)
            else:
                time.sleep(AGAIN)

    with ThreadPoolExecutor(arguments.callers) as callers:
        list(callers.map(call, range(arguments.callers)))
    watching.join(PATIENCE)
    return users, sender, plan.rows


def _items(service: ServiceProcess) -> int:
    with Client(service.url) as client:
        return client.count()


def compared_lists(
    services: Sequence[ServiceProcess], users: dict[int, UserClicks]
) -> dict[str, int]:
    """Whether candidates by the stored clicks are those of the acknowledged ones, everywhere."""
    others, repeated = 0, list(users)[::2][:LISTS]
    for service in services:
        with Client(service.url) as client:
            for user in repeated:
                right = client.candidates([users[user].acknowledged], 10)
                others += client.user_candidates(user, 10).candidates != right.candidates
    return {"lists": len(repeated) * len(services), "other_lists": others}


def _redis_version() -> str:
    import redis

    return str(redis.__version__)


if __name__ == "__main__":
    sys.exit(main())
