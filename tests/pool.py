"""Two gloo ranks that run functions of the test files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Ranks = Callable[..., list[Any]]


def serve(number: int, rendezvous: str, pipe: Connection) -> None:
    """One rank: run what comes through the pipe and send back its result, or its exception."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=number, world_size=2)
    while task := pipe.recv():
        function, args = task
        try:
            pipe.send(function(*args))
        except Exception as problem:
            pipe.send(problem)
    dist.destroy_process_group()


def pool(folder: Path) -> Iterator[Ranks]:
    """Yields what runs a function on both ranks, and returns what each returned or raised."""
    rendezvous = (folder / "rendezvous").as_uri()
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(number, rendezvous, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)

    def run(function: Callable[..., Any], *args: Any) -> list[Any]:
        for pipe in pipes:
            pipe.send((function, args))
        assert all(pipe.poll(60) for pipe in pipes), "a rank hangs"
        return [pipe.recv() for pipe in pipes]

    yield run
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(10)
        process.kill()
