"""One engine as several replicas on the nodes of a Ray cluster.

    engines:
      teacher: {kind: vllm, model: Qwen/Qwen2.5-72B-Instruct, tensor_parallel_size: 8, replicas: 16}

Each replica is a Ray actor that holds a whole engine and the GPUs it asks for: always those that its config
says, whether or not the cluster has any yet, as one that grows brings up only what is asked for. On CPUs, say
`device: cpu`. A request goes to the replica
with the fewest under way, as soon as one has loaded its model; the others join when they are ready, so a run
starts on the nodes that are there and grows with an autoscaler. A lost replica is started again, and what it
had under way is asked of the others: it costs those requests and no more. How many replicas there are is no
part of an engine's identity.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from personahub.core.engines.base import (
    Completion,
    Engine,
    EngineDied,
    EngineUnavailable,
    ReplicatedConfig,
    Request,
    RequestRefused,
)
from personahub.core.errors import UserError
from personahub.core.executors import ray_cluster

_ATTEMPTS = 4  # of one request, each lost with its replica: then it may be the request that kills them
_OPENINGS = 4  # of one replica that Ray calls dead for good: the node it was put on may lack this package
_WAIT_NOTE_S = 60.0


def open_replicas(config: ReplicatedConfig) -> ReplicatedEngine:
    """Start `config.replicas` actors, each with a whole engine. Needs a running event loop.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    ray = ray_cluster.connect()
    # Nothing else is limited by these actors' CPUs: they wait for GPUs, or use all threads on their own.
    options: dict[str, Any] = {
        "num_gpus": config.gpus_per_replica,
        "num_cpus": 1,
        "max_restarts": -1,
        "max_concurrency": config.concurrency + 8,
    }
    actor = ray.remote(**options)(_Replica)
    single = config.model_copy(update={"replicas": 1})
    return ReplicatedEngine(config, [actor.remote(single, Path.cwd()) for _ in range(config.replicas)])


class _Replica:
    """The actor: an engine opened at the first request, because its constructor has no event loop yet."""

    def __init__(self, config: ReplicatedConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder  # where the run was started: the model may be named by a relative path
        self._engine: Any = None
        self._opening = asyncio.Lock()

    async def open(self) -> str | None:
        """Load the model. Returns why it cannot be loaded anywhere, if so."""
        from personahub.core.engines import open_engine

        async with self._opening:
            if self._engine is None:
                try:
                    with ray_cluster.working_in(self._folder):
                        self._engine = open_engine(self._config)
                except UserError as error:
                    return str(error)
        return None

    async def complete(self, request: Request) -> Completion | tuple[str, str] | str:
        """A completion, the reason and detail of a refusal, or why no request can be answered."""
        if problem := await self.open():
            return problem
        try:
            return await self._engine.complete(request)
        except RequestRefused as refused:
            return refused.reason, refused.detail
        except EngineDied:
            os._exit(1)  # Ray starts another process in its place
        except EngineUnavailable as error:
            return str(error)

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()


class ReplicatedEngine(Engine[ReplicatedConfig]):
    """See the module docstring."""

    def __init__(self, config: ReplicatedConfig, actors: list[Any]) -> None:
        super().__init__(config)
        self._gpus = config.gpus_per_replica
        self.concurrency = config.concurrency * len(actors)
        self._name = f"{config.model}: a replica"
        self._actors = actors
        self._under_way: dict[Any, int] = {}  # of the replicas that are ready
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given_up = 0
        self._loss = ""  # why a replica was lost last
        self._problem: str | None = None
        self._tasks = {asyncio.create_task(self._open(actor)) for actor in actors}
        self._tasks.add(asyncio.create_task(self._tell_of_waiting()))

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        from ray.exceptions import RayError, RayTaskError

        for _ in range(_ATTEMPTS):
            actor = await self._take()
            try:
                answer = await actor.complete.remote(request)
            except RayTaskError:  # the engine's own, which it did not foresee
                raise
            except RayError as error:  # of the process, the node or its memory
                self._lost(actor, error)
                continue
            finally:
                self._release(actor)
            if isinstance(answer, Completion):
                return answer
            if isinstance(answer, tuple):
                raise RequestRefused(*answer)
            raise EngineUnavailable(answer)
        raise EngineUnavailable(
            f"{self.config.model}: {_ATTEMPTS} replicas in a row were lost with the same request under way; "
            f"it begins {str(request.messages[-1]['content'])[:120]!r}"
        )

    async def close(self) -> None:
        """Let go of the replicas and of their GPUs."""
        import ray

        for task in self._tasks:
            task.cancel()
        closing = [actor.close.remote() for actor in self._under_way]
        await asyncio.wait([asyncio.ensure_future(_quietly(call)) for call in closing], timeout=30) if closing else None
        for actor in self._actors:
            ray.kill(actor)

    async def _take(self) -> Any:
        """The least busy of the ready replicas; waits while there is none with room."""
        while True:
            if self._under_way:
                actor = min(self._under_way, key=self._under_way.__getitem__)
                if self._under_way[actor] < self.config.concurrency:
                    self._under_way[actor] += 1
                    return actor
            elif self._problem is not None:
                raise EngineUnavailable(self._problem)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _release(self, actor: Any) -> None:
        if actor in self._under_way:
            # What was under way when it was lost may be released when it is open again.
            self._under_way[actor] = max(0, self._under_way[actor] - 1)
            self._wake(1)

    def _wake(self, number: int) -> None:
        while self._waiting and number:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                number -= 1

    def _lost(self, actor: Any, error: Exception) -> None:
        self._loss = _reason(error)
        if self._under_way.pop(actor, None) is not None:
            print(f"{self._name} was lost; {len(self._under_way)} left: {self._loss}", file=sys.stderr)
            task = asyncio.create_task(self._open(actor))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, actor: Any) -> None:
        """Have it load its model, again when it is lost meanwhile."""
        from ray.exceptions import ActorDiedError, RayError, RayTaskError

        losses = 0
        while losses < _OPENINGS:
            try:
                problem = await actor.open.remote()
            except RayTaskError as error:  # of the engine, which did not foresee it: no other would fare better
                return self._fail(f"{self._name} cannot be opened: {_reason(error)}")
            except RayError as error:
                self._loss = _reason(error)
                # Any other error is also that of a replica which waits for a node to be started on, perhaps for hours.
                losses += isinstance(error, ActorDiedError)
                await asyncio.sleep(1)
                continue
            if problem is not None:
                return self._fail(problem)
            self._under_way[actor] = 0
            return self._wake(self.config.concurrency)
        self._given_up += 1
        if self._given_up == len(self._actors):
            return self._fail(f"{self.config.model}: no replica can be started: {self._loss}")
        print(f"{self._name} cannot be started and is left out: {self._loss}", file=sys.stderr)

    def _fail(self, problem: str) -> None:
        self._problem = problem
        self._wake(len(self._waiting))

    async def _tell_of_waiting(self) -> None:
        """Each minute while there is no replica; while only some are missing, when their number has changed."""
        told = 0
        while True:
            await asyncio.sleep(_WAIT_NOTE_S)
            missing = len(self._actors) - self._given_up - len(self._under_way)
            if self._problem is None and missing and (missing != told or not self._under_way):
                who = f"{missing} of {len(self._actors)} replicas are" if self._under_way else "a replica is"
                why = self._loss and f"; one was lost: {self._loss}"
                print(f"{self.config.model}: {who} waited for: {self._what_for()}{why}", file=sys.stderr)
            told = missing

    def _what_for(self) -> str:
        import ray

        if not self._gpus:
            return "it loads, or the cluster has no free CPU for it (see `ray status`)"
        has = int(ray.cluster_resources().get("GPU", 0))
        advice = "" if has else "; if it is to have none, set device: cpu on the engine"
        return (
            f"it loads, or the cluster, of {has} GPUs now, has no {self._gpus} free for it (see `ray status`){advice}"
        )


def _reason(error: Exception) -> str:
    """The last line of an error of Ray's, which is a traceback's or an explanation's."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]


async def _quietly(call: Any) -> None:
    from ray.exceptions import RayError

    with suppress(RayError):
        await call
