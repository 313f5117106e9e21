"""Several processes that work on one run: a leader, and workers that do a share of the heavy parts.

Rank 0, the leader, runs the program as if it were alone; it alone touches the ledger, files and the terminal. The
others hold a copy of the model and wait for jobs. A job is a function that every rank calls with the same arguments
and its own share: target values of some requests, likelihoods of some continuations. Before a job the leader sends
the weights that have changed since the last, so every rank computes on the same bits.

What a rank is given are whole batches, as one process would form them: a float32 result depends in its last bits on
what it is padded and multiplied with, and so the results are one process's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch

from seqedit.errors import EnvironmentFailure, ModelError
from seqedit.forward.protocols import CausalLM
from seqedit.models.loading import load_model
from seqedit.parallel.link import LEADER, Link
from seqedit.parallel.messages import Message, error_message, raise_error
from seqedit.parallel.place import Place
from seqedit.parallel.replica import Replica
from seqedit.support.shares import ProcessShare

Job = Callable[[Replica, ProcessShare, Mapping[str, Any]], Message]
"""Does a rank's share of something; the arguments are JSON types."""

_LOAD, _WEIGHTS, _LEAVE = ".load", ".weights", ".leave"  # no job's name begins with a dot


class Ranks:
    """This process among those that work on one run; by default it is alone.

    Args:
        place: Which of them it is.
        jobs: What a rank can be asked for, by name; the same on all of them.

    Attributes:
        place: Which of them it is.
        replica: The model that all ranks hold, once it is loaded.

    Raises:
        EnvironmentFailure: the processes do not find each other.
    """

    def __init__(self, place: Place | None = None, jobs: Mapping[str, Job] | None = None) -> None:
        self.place = place or Place()
        self.replica: Replica | None = None
        self._jobs = dict(jobs or {})
        self._link = Link(self.place.rank, self.place.size) if self.place.size > 1 else None
        self._sent: dict[str, int] = {}
        self._in_step = True  # every order has its answers

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.place.size > 1

    def holds(self, model: CausalLM) -> bool:
        """Whether there are other processes and all hold this model (`load_model` gave it)."""
        return self.several and self.replica is not None and self.replica.model is model

    def load_model(self, name: str, *, dtype: str = "auto", device: str | None = None) -> tuple[Any, Any]:
        """A model and its tokenizer, on all ranks at once; arguments and errors as for
        `seqedit.models.loading.load_model`.

        Args:
            name: Hub id, local directory, or a shipped model's name.
            dtype: ``auto`` keeps the checkpoint's.
            device: Where to put it; None means on each machine one GPU per rank, if it has any.

        Raises:
            ModelError: another rank finds other weights under that name.
        """
        if not self.several:
            return load_model(name, dtype=dtype, device=device)
        answers: list[Message] = []
        self._all(_LOAD, {"name": name, "dtype": dtype, "device": device}, answers.append)
        for rank, answer in enumerate(answers):
            if not torch.equal(answer.tensors["checksums"], answers[0].tensors["checksums"]):
                raise ModelError(f"rank {rank} finds other weights of '{name}' than rank 0; give all machines the same")
        assert self.replica is not None
        self._sent = self.replica.versions()
        return self.replica.model, self.replica.tokenizer

    def run(self, model: CausalLM, job: str, fields: Mapping[str, Any], take: Callable[[Message], None]) -> None:
        """Let every rank do its share of a job on the model as it is now.

        Args:
            model: The model that `load_model` gave.
            job: Name of the job.
            fields: Its arguments.
            take: Given the answers by rank, each as it comes, so that large ones need not be held together.

        Raises:
            ModelError: the ranks hold another model.
            EnvironmentFailure: a rank is gone.
            SeqeditError: what the job raised, here or on another rank.
        """
        if self.replica is None or not self.holds(model):
            raise ModelError("only a model that was loaded on all ranks (Ranks.load_model) can be worked on by several")
        self._send_weights(self.replica)
        self._all(job, fields, take)

    def serve(self) -> int:
        """A worker's life: do jobs until the leader leaves or is gone; nothing is printed.

        Returns:
            The leader's exit code; 3 where it went without a word.
        """
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            while True:
                try:
                    order = self._connection.receive(LEADER).fields
                    job, arguments = order["job"], order["arguments"]
                    if job == _LEAVE:
                        return int(arguments["code"])
                    if job == _WEIGHTS:
                        self._take_weights(arguments["names"])
                    else:
                        self._connection.send(LEADER, self._answer(job, arguments))
                except EnvironmentFailure:
                    return EnvironmentFailure.exit_code

    def close(self, code: int = 0) -> None:
        """Let the workers go, with the exit code that they shall have, and end the connection."""
        if self._link is None:
            return
        if self.place.rank == LEADER and self._in_step:
            # Whoever is gone need not be told; the others see the connection break.
            with suppress(EnvironmentFailure), self._order(_LEAVE, {"code": code}):
                pass
        self._link.close()
        self._link = None

    @property
    def _connection(self) -> Link:
        if self._link is None:
            raise EnvironmentFailure("there is no connection to other processes (any more); start all of them again")
        return self._link

    def _all(self, job: str, fields: Mapping[str, Any], take: Callable[[Message], None]) -> None:
        """A job on all ranks; an error is raised when all have answered, the leader's own first."""
        errors: list[Exception] = []
        with self._order(job, fields):
            try:
                take(self._do(job, fields))
            except Exception as error:
                errors.append(error)
            for rank in range(1, self.place.size):
                answer = self._connection.receive(rank)
                try:
                    raise_error(answer, rank)
                    take(answer)
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    @contextmanager
    def _order(self, job: str, fields: Mapping[str, Any]) -> Iterator[None]:
        """Sends an order to the workers; the block must take in what they answer."""
        if not self._in_step:
            raise EnvironmentFailure("an earlier failure has lost the other processes; start all of them again")
        order = Message({"job": job, "arguments": dict(fields)})
        order.head()  # what cannot be sent is known before anything is
        self._in_step = False
        for rank in range(1, self.place.size):
            self._connection.send(rank, order)
        yield
        self._in_step = True

    def _do(self, job: str, fields: Mapping[str, Any]) -> Message:
        if job != _LOAD:
            assert self.replica is not None
            return self._jobs[job](self.replica, ProcessShare(self.place.rank, self.place.size), fields)
        self.replica = None  # the device need not hold two
        device = self.place.device(fields["device"])
        self.replica = Replica(*load_model(fields["name"], dtype=fields["dtype"], device=device))
        return Message({}, {"checksums": self.replica.checksums()})

    def _answer(self, job: str, fields: Mapping[str, Any]) -> Message:
        try:
            return self._do(job, fields)
        except Exception as error:
            return error_message(error)

    def _send_weights(self, replica: Replica) -> None:
        versions = replica.versions()
        changed = [name for name, version in versions.items() if self._sent.get(name) != version]
        if changed:
            with self._order(_WEIGHTS, {"names": changed}):
                for name in changed:
                    self._connection.share(replica.parameters[name])
            self._sent = versions

    def _take_weights(self, names: Sequence[str]) -> None:
        assert self.replica is not None
        for name in names:
            parameter = self.replica.parameters[name]
            held = torch.empty(parameter.shape, dtype=parameter.dtype)
            self._connection.share(held)
            with torch.no_grad():
                parameter.copy_(held)
