"""A worker for tests in which the test itself is the leader: all jobs of seqedit, and some that misbehave."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import torch

from seqedit.cli.parallel import jobs
from seqedit.errors import NumericsError
from seqedit.parallel.messages import Message
from seqedit.parallel.place import Place
from seqedit.parallel.ranks import Ranks
from seqedit.parallel.replica import Replica
from seqedit.support.shares import ProcessShare


def some_tensors() -> dict[str, torch.Tensor]:
    """Of types and layouts that are easily got wrong."""
    kinds = {"half": torch.ones(2, dtype=torch.bfloat16), "flag": torch.tensor([True]), "number": torch.tensor(7)}
    return {"turned": torch.arange(6.0).view(2, 3).T, "empty": torch.empty(0, 4), **kinds}


def _tell(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    """Prints, and answers with what it was given, its rank, and tensors of several types and shapes."""
    print("a worker must not be heard")
    print("nor here", file=sys.stderr)
    return Message({"given": given["given"], "rank": share.rank}, some_tensors())


def _fail(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    if share.rank == given["rank"]:
        raise {"ours": NumericsError, "system": FileNotFoundError, "bug": ZeroDivisionError}[given["kind"]](
            "the loss of request 3 is not finite"
        )
    return Message({})


def _die(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    if share.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return Message({})


def _weights(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    return Message({}, {name: parameter.detach().cpu() for name, parameter in replica.parameters.items()})


TEST_JOBS = {**jobs(), "tell": _tell, "fail": _fail, "die": _die, "weights": _weights}

if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks = Ranks(Place.from_environment(), TEST_JOBS)
    code = ranks.serve()
    ranks.close()
    sys.exit(code)
