"""A leader (the test) and a worker process: jobs, weights, errors, and what happens when one is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqedit.errors import EnvironmentFailure, InputError, ModelError, NumericsError
from seqedit.facts.requests import Request
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.split import measure_with
from seqedit.parallel.messages import Message
from seqedit.parallel.place import Place
from seqedit.parallel.ranks import Ranks
from seqedit.scoring.split import SplitScoring
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.sites import LayerOutput, Sublayers
from seqedit.targets.split import split_target_values
from seqedit.targets.values import optimise_target_values
from seqedit.text.plain_text import TextSource
from tests.conftest import REFERENCE
from tests.parallel.processes import ROOT, finish, free_port, place, python
from tests.parallel.worker import TEST_JOBS, some_tensors

MODEL = str(REFERENCE / "model")
CONTEXTS = [["{}"], ["It rained. {}", "The man said: {}"]]
REQUESTS = [
    Request("Venxa Ulmigri", "{} plays", "golf"),
    Request("Bado Holul", "The sport of {} is", "rowing"),
    Request("Mira", "{} lives in the city of", "Rome"),
    Request("The Tower of London and all that is in it", "{} was built by", "Paris"),
    Request("Edith", "For many years the mother tongue of {} has been", "French"),
]


def answers_to(ranks: Ranks, model: Any, job: str, fields: dict[str, Any]) -> list[Message]:
    found: list[Message] = []
    ranks.run(model, job, fields, found.append)
    return found


Start = Callable[..., tuple[Ranks, subprocess.Popen[str]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a worker and gives the leader's ranks; both have one thread and end with the test."""
    begun: list[tuple[Ranks, subprocess.Popen[str]]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def pair(where: Path = ROOT) -> tuple[Ranks, subprocess.Popen[str]]:
        port = free_port()
        worker = python("-m", "tests.parallel.worker", where=where, more=place(1, 2, port))
        for name, value in place(0, 2, port).items():
            monkeypatch.setenv(name, value)
        begun.append((Ranks(Place.from_environment(), TEST_JOBS), worker))
        return begun[-1]

    yield pair
    torch.set_num_threads(threads)
    for ranks, worker in begun:
        ranks.close()
        worker.kill()
        worker.communicate()


def test_jobs_weights_and_results_are_those_of_one_process(start: Start, tmp_path: Path) -> None:
    ranks, worker = start()
    model, tokenizer = ranks.load_model(MODEL)
    assert ranks.holds(model)
    parts = ranks.replica.parts

    given = {"given": {"text": "naïve", "none": None, "number": 1e-300}}
    answers = answers_to(ranks, model, "tell", given)
    assert [answer.fields["rank"] for answer in answers] == [0, 1]
    assert all(answer.fields["given"] == given["given"] for answer in answers)
    for answer in answers:
        assert {name: (t.dtype, t.tolist()) for name, t in answer.tensors.items()} == {
            name: (t.dtype, t.tolist()) for name, t in some_tensors().items()
        }

    def same_weights() -> bool:
        here, there = answers_to(ranks, model, "weights", {})
        return all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)

    projection = parts.projections[1]
    projection.write(projection.matrix() * 1.5)
    assert same_weights()

    config = TargetValueConfig(steps=6)
    for site in (LayerOutput, Sublayers):
        many = split_target_values(ranks, model, parts, tokenizer, REQUESTS, CONTEXTS, 2, config, site=site,
                                   max_tokens=60)  # fmt: skip
        one = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 2, config, site=site(parts, 2),
                                     max_tokens=60)  # fmt: skip
        assert torch.equal(many.values, one.values)
        assert torch.equal(many.initial, one.initial)
        assert (many.losses, many.updates) == (one.losses, one.updates)
        held: dict[str, Any] = {"limits": [0.3, 5.0, 1.0, 0.2, 9.0], "norm": 12.0, "max_tokens": 60}
        many = split_target_values(ranks, model, parts, tokenizer, REQUESTS, CONTEXTS, 2, config, site=site, **held)
        one = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 2, config, site=site(parts, 2),
                                     **held)  # fmt: skip
        assert torch.equal(many.values, one.values)
        assert (many.losses, many.reached, many.bounded) == (one.losses, one.reached, one.bounded)

    split, plain = SplitScoring(ranks), SplitScoring()
    pairs = [(list(range(1, 3 + i % 5)), [7 + i, 9]) for i in range(40)]
    assert split.scorer(model, pairs, max_tokens_per_batch=24) == plain.scorer(model, pairs, max_tokens_per_batch=24)
    assert split.scorer(model, pairs[:1]) == plain.scorer(model, pairs[:1])  # less work than ranks
    prompts = [request.text for request in REQUESTS]
    options: dict[str, Any] = {"max_new_tokens": 4, "seed": 3, "batch_size": 2}
    assert split.generator(model, tokenizer, prompts, **options) == plain.generator(
        model, tokenizer, prompts, **options
    )

    text = tmp_path / "text.txt"
    text.write_text("".join(f"Visitor {i} came to the market on day {i % 7} and stayed.\n" for i in range(300)))
    sample: dict[str, Any] = {"max_tokens": 3000, "sequence_length": 24}
    source = TextSource(str(text))
    both = measure_with(ranks)(model, tokenizer, parts.projections[:2], source, **sample)
    one_alone = compute_second_moments(model, tokenizer, parts.projections[:2], source, **sample)
    assert both.tokens == one_alone.tokens
    for name, matrix in one_alone.matrices.items():
        assert (both.matrices[name] - matrix).norm() <= 1e-6 * matrix.norm()

    ranks.close(7)
    code, out, err = finish(worker)
    assert (code, out, err) == (7, "", "")


def test_an_error_of_a_rank_is_the_leaders_and_the_next_job_works(start: Start) -> None:
    ranks, _ = start()
    model, _ = ranks.load_model(MODEL)
    for rank in (0, 1):
        with pytest.raises(NumericsError, match="the loss of request 3 is not finite"):
            answers_to(ranks, model, "fail", {"rank": rank, "kind": "ours"})
    with pytest.raises(EnvironmentFailure, match="rank 1: the loss"):
        answers_to(ranks, model, "fail", {"rank": 1, "kind": "system"})
    with pytest.raises(RuntimeError, match=r"(?s)rank 1 failed.*ZeroDivisionError"):
        answers_to(ranks, model, "fail", {"rank": 1, "kind": "bug"})
    assert len(answers_to(ranks, model, "weights", {})) == 2
    with pytest.raises(InputError, match="no model directory"):
        ranks.load_model("./nowhere")
    assert ranks.load_model(MODEL)[0] is ranks.replica.model


def test_a_rank_that_dies_in_a_job_is_named_and_nothing_hangs(start: Start) -> None:
    ranks, worker = start()
    model, _ = ranks.load_model(MODEL)
    with pytest.raises(EnvironmentFailure, match="rank 1 of 2 is gone"):
        answers_to(ranks, model, "die", {})
    with pytest.raises(EnvironmentFailure, match="start all of them again"):
        answers_to(ranks, model, "weights", {})
    assert finish(worker)[0] == -9


def test_a_rank_that_died_while_the_leader_was_busy_is_noticed_at_the_next_job(start: Start) -> None:
    ranks, worker = start()
    model, _ = ranks.load_model(MODEL)
    worker.kill()
    worker.wait()
    parts = ranks.replica.parts
    parts.projections[0].write(parts.projections[0].matrix() + 1)
    with pytest.raises(EnvironmentFailure, match="is gone"):
        answers_to(ranks, model, "weights", {})


def test_a_worker_leaves_when_the_leader_is_gone_without_a_word() -> None:
    port = free_port()
    code = (
        "import os, signal; from seqedit.parallel.place import Place; from seqedit.parallel.ranks import Ranks\n"
        f"Ranks(Place.from_environment()).load_model({MODEL!r}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    leader = python("-c", code, more=place(0, 2, port))
    worker = python("-m", "tests.parallel.worker", more=place(1, 2, port))
    assert finish(leader)[0] == -9
    assert finish(worker, 60) == (3, "", "")


def test_other_weights_under_the_same_name_are_refused(start: Start, tmp_path: Path) -> None:
    from seqedit.models.loading import load_model

    here, there = tmp_path / "here", tmp_path / "there"
    model, tokenizer = load_model(MODEL)
    for folder in (here, there):
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        with torch.no_grad():
            next(model.parameters())[0, 0] += 1e-3
    ranks, _ = start(where=there)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with pytest.raises(ModelError, match=r"rank 1 finds other weights of '\./model'"):
            ranks.load_model("./model")


def test_a_model_that_the_ranks_do_not_hold_is_worked_on_by_the_leader_alone(reference_model: tuple[Any, Any]) -> None:
    model, _ = reference_model
    ranks = Ranks()
    assert not ranks.holds(model)
    assert SplitScoring(ranks).scorer(model, [([1, 2], [3])])[0].tokens == 1
    with pytest.raises(ModelError, match="loaded on all ranks"):
        answers_to(ranks, model, "score", {})
