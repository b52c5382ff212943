"""One engine as several replicas on the nodes of a Ray cluster.

    engines:
      teacher: {kind: vllm, model: Qwen/Qwen2.5-72B-Instruct, tensor_parallel_size: 8, replicas: 16}

Each replica is a Ray actor with a whole engine and its GPUs. It always requests the GPUs that its config needs,
even if the cluster has none yet, because an autoscaler adds only what is requested. To run on CPUs, set
`device: cpu`. A request goes to the replica with the fewest requests in flight. A run starts when the first
replica has loaded its model; the others join when they are ready, so it grows with an autoscaler. A lost replica
is restarted and its requests are sent to the others, so a loss costs only the requests in flight. The number of
replicas is not part of an engine's identity.
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

_ATTEMPTS = 4  # per request; after that the request itself may be what kills the replicas
_STARTS = 4  # per replica that Ray reports as dead: its node may lack this package
_WAIT_NOTE_S = 60.0


def open_replicas(config: ReplicatedConfig) -> ReplicatedEngine:
    """Start `config.replicas` actors, each with a whole engine.

    Needs a running event loop.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    ray = ray_cluster.connect()
    # One CPU is nominal: these actors wait for GPUs, or use all threads anyway.
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
    """The actor. It opens its engine at the first request, because its constructor has no event loop yet."""

    def __init__(self, config: ReplicatedConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder  # the working directory of the run: the model may be a relative path
        self._engine: Any = None
        self._opening = asyncio.Lock()

    async def open(self) -> str | None:
        """Load the model. Returns an error message if no replica can load it."""
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
        """Return a completion or its failure.

        A failure is a refusal's (reason, detail) or an `EngineUnavailable` message.
        """
        if problem := await self.open():
            return problem
        try:
            return await self._engine.complete(request)
        except RequestRefused as refused:
            return refused.reason, refused.detail
        except EngineDied:
            os._exit(1)  # Ray starts a new process instead
        except EngineUnavailable as error:
            return str(error)

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()


class ReplicatedEngine(Engine[ReplicatedConfig]):
    """Distributes requests over replicas; see the module docstring."""

    def __init__(self, config: ReplicatedConfig, actors: list[Any]) -> None:
        super().__init__(config)
        self._gpus = config.gpus_per_replica
        self.concurrency = config.concurrency * len(actors)
        self._name = f"{config.model}: a replica"
        self._actors = actors
        self._in_flight: dict[Any, int] = {}  # requests of each replica that is ready
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given_up = 0
        self._loss = ""  # why the last lost replica was lost
        self._problem: str | None = None
        self._tasks = {asyncio.create_task(self._open(actor)) for actor in actors}
        self._tasks.add(asyncio.create_task(self._warn_waiting()))

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        from ray.exceptions import RayError, RayTaskError

        for _ in range(_ATTEMPTS):
            actor = await self._acquire()
            try:
                answer = await actor.complete.remote(request)
            except RayTaskError:  # an unexpected error in the engine
                raise
            except RayError as error:  # the process, the node or its memory was lost
                self._restart(actor, error)
                continue
            finally:
                self._release(actor)
            if isinstance(answer, Completion):
                return answer
            if isinstance(answer, tuple):
                raise RequestRefused(*answer)
            raise EngineUnavailable(answer)
        raise EngineUnavailable(
            f"{self.config.model}: {_ATTEMPTS} replicas in a row were lost while they processed the same request, "
            f"which starts with {str(request.messages[-1]['content'])[:120]!r}"
        )

    async def close(self) -> None:
        """Close the replicas and free their GPUs."""
        import ray

        for task in self._tasks:
            task.cancel()
        closing = [actor.close.remote() for actor in self._in_flight]
        await asyncio.wait(
            [asyncio.ensure_future(_ignore_ray_errors(call)) for call in closing], timeout=30
        ) if closing else None
        for actor in self._actors:
            ray.kill(actor)

    async def _acquire(self) -> Any:
        """Return the least busy ready replica. Waits while all replicas are at their limit."""
        while True:
            if self._in_flight:
                actor = min(self._in_flight, key=self._in_flight.__getitem__)
                if self._in_flight[actor] < self.config.concurrency:
                    self._in_flight[actor] += 1
                    return actor
            elif self._problem is not None:
                raise EngineUnavailable(self._problem)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _release(self, actor: Any) -> None:
        if actor in self._in_flight:
            # A request in flight when the replica was lost may be released after it is ready again.
            self._in_flight[actor] = max(0, self._in_flight[actor] - 1)
            self._wake(1)

    def _wake(self, number: int) -> None:
        while self._waiting and number:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                number -= 1

    def _restart(self, actor: Any, error: Exception) -> None:
        self._loss = _reason(error)
        if self._in_flight.pop(actor, None) is not None:
            print(f"{self._name} was lost ({len(self._in_flight)} left): {self._loss}", file=sys.stderr)
            task = asyncio.create_task(self._open(actor))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, actor: Any) -> None:
        """Make a replica load its model. Tries again if the replica is lost while loading."""
        from ray.exceptions import ActorDiedError, RayError, RayTaskError

        losses = 0
        while losses < _STARTS:
            try:
                problem = await actor.open.remote()
            except RayTaskError as error:  # an unexpected error in the engine: it would occur in every replica
                return self._fail(f"{self._name} cannot be opened: {_reason(error)}")
            except RayError as error:
                self._loss = _reason(error)
                # Any other error may also mean that the replica waits for a node, perhaps for hours.
                losses += isinstance(error, ActorDiedError)
                await asyncio.sleep(1)
                continue
            if problem is not None:
                return self._fail(problem)
            self._in_flight[actor] = 0
            return self._wake(self.config.concurrency)
        self._given_up += 1
        if self._given_up == len(self._actors):
            return self._fail(f"{self.config.model}: no replica can be started: {self._loss}")
        print(f"{self._name} cannot be started and is not used: {self._loss}", file=sys.stderr)

    def _fail(self, problem: str) -> None:
        self._problem = problem
        self._wake(len(self._waiting))

    async def _warn_waiting(self) -> None:
        """Warn every minute while no replica is ready. While only some are missing, warn when their number changes."""
        warned = 0
        while True:
            await asyncio.sleep(_WAIT_NOTE_S)
            missing = len(self._actors) - self._given_up - len(self._in_flight)
            if self._problem is None and missing and (missing != warned or not self._in_flight):
                which = f"{missing} of {len(self._actors)} replicas" if self._in_flight else "a replica"
                loss = self._loss and f"; one was lost: {self._loss}"
                print(f"{self.config.model}: waiting for {which}: {self._wait_reason()}{loss}", file=sys.stderr)
            warned = missing

    def _wait_reason(self) -> str:
        import ray

        if not self._gpus:
            return "still loading, or the cluster has no free CPU (see `ray status`)"
        has = int(ray.cluster_resources().get("GPU", 0))
        advice = "" if has else ". To run without GPUs, set device: cpu on the engine"
        return f"still loading, or the cluster ({has} GPUs now) has no {self._gpus} free (see `ray status`){advice}"


def _reason(error: Exception) -> str:
    """Return the last line of a Ray error, which may be a traceback or an explanation."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]


async def _ignore_ray_errors(call: Any) -> None:
    from ray.exceptions import RayError

    with suppress(RayError):
        await call
