from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from serving.batching import Batcher, Limits, Overloaded, TooLong


class FakeScorer:
    """Tokens are words; the logit is the length. Remembers its batches and can be held at the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def tokenize(self, texts: Sequence[str], *, truncation: bool = True) -> list[dict[str, list[int]]]:
        words = [text.split() for text in texts]
        return [{"input_ids": [len(word) for word in (w[:50] if truncation else w)]} for w in words]

    def logits(self, encodings: Sequence[Any]) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(10)
        lengths = [len(encoding["input_ids"]) for encoding in encodings]
        self.batches.append(lengths)
        if 13 in lengths:
            raise RuntimeError("the network fails on thirteen")
        return np.array([[length, -length] for length in lengths], dtype=np.float32)


def run(work: Callable[[FakeScorer, Batcher], Awaitable[Any]], **limits: Any) -> tuple[Any, FakeScorer]:
    scorer = FakeScorer()

    async def main() -> Any:
        batcher = Batcher(scorer, max_length=50, limits=Limits(**limits))
        try:
            return await work(scorer, batcher)
        finally:
            scorer.gate.set()
            await asyncio.to_thread(batcher.stop)

    return asyncio.run(main()), scorer


def words(count: int) -> str:
    return "word " * count


async def held(scorer: FakeScorer, batcher: Batcher, lengths: list[int], seconds: float = 5) -> list[Any]:
    """Have one request inside the model and the others waiting, then let all go."""
    scorer.gate.clear()
    first = asyncio.create_task(batcher.logits([words(1)], deadline_seconds=5))
    await asyncio.to_thread(scorer.entered.wait)
    others = [asyncio.create_task(batcher.logits([words(n)], deadline_seconds=seconds)) for n in lengths]
    await asyncio.sleep(0.05)
    scorer.gate.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_requests_that_arrive_while_the_model_runs_go_together() -> None:
    answers, scorer = run(lambda s, b: held(s, b, [4, 4, 4, 4]))
    assert scorer.batches == [[1], [4, 4, 4, 4]]
    assert [answer[0][0] for answer in answers] == [1, 4, 4, 4, 4]


def test_a_long_text_does_not_pad_the_short_ones() -> None:
    _, scorer = run(lambda s, b: held(s, b, [3, 40, 4, 3, 4]))
    assert scorer.batches == [[1], [3, 3, 4, 4], [40]]


def test_a_batch_holds_at_most_so_many_texts_and_tokens() -> None:
    _, scorer = run(lambda s, b: held(s, b, [4] * 5 + [40] * 3), batch_texts=4, batch_tokens=80)
    assert scorer.batches == [[1], [4] * 4, [4], [40, 40], [40]]


def test_an_idle_model_answers_at_once() -> None:
    async def one(scorer: FakeScorer, batcher: Batcher) -> float:
        start = time.monotonic()
        await batcher.logits([words(2)], deadline_seconds=5)
        return time.monotonic() - start

    seconds, _ = run(one)
    assert seconds < 0.05


def test_answers_come_in_the_order_of_the_texts() -> None:
    async def many(scorer: FakeScorer, batcher: Batcher) -> list[float]:
        rows = await batcher.logits([words(n) for n in (30, 2, 17, 5, 49)], deadline_seconds=5)
        return [float(row[0]) for row in rows]

    assert run(many)[0] == [30, 2, 17, 5, 49]


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    async def race(scorer: FakeScorer, batcher: Batcher) -> list[str]:
        done = []

        async def ask(name: str, count: int) -> None:
            await batcher.logits([words(4)] * count, deadline_seconds=5)
            done.append(name)

        scorer.gate.clear()
        large = asyncio.create_task(ask("large", 400))
        await asyncio.to_thread(scorer.entered.wait)
        small = asyncio.create_task(ask("small", 1))
        await asyncio.sleep(0.05)
        scorer.gate.set()
        await asyncio.gather(large, small)
        return done

    assert run(race, round_texts=32)[0] == ["small", "large"]


def test_a_full_queue_refuses_and_serves_what_it_took() -> None:
    answers, _ = run(lambda s, b: held(s, b, [4] * 10), queued_texts=6)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 4
    assert sum(isinstance(answer, np.ndarray) for answer in answers) == 7


def test_a_request_past_its_deadline_is_dropped_before_the_model() -> None:
    async def late(scorer: FakeScorer, batcher: Batcher) -> None:
        scorer.gate.clear()
        first = asyncio.create_task(batcher.logits([words(1)], deadline_seconds=5))
        await asyncio.to_thread(scorer.entered.wait)
        with pytest.raises(TimeoutError):
            await batcher.logits([words(4)], deadline_seconds=0.05)
        scorer.gate.set()
        await first
        await batcher.logits([words(5)], deadline_seconds=5)

    _, scorer = run(late)
    assert scorer.batches == [[1], [5]]


@pytest.mark.parametrize("neighbours", [[4, 40], [12, 13]], ids=["other batches", "the same batch"])
def test_a_request_that_fails_fails_alone(neighbours: list[int]) -> None:
    answers, _ = run(lambda s, b: held(s, b, [13, *neighbours]))
    assert isinstance(answers[1], RuntimeError)
    for length, answer in zip(neighbours, answers[2:], strict=True):
        assert isinstance(answer, RuntimeError) if length == 13 else answer[0][0] == length

    async def again(scorer: FakeScorer, batcher: Batcher) -> float:
        with pytest.raises(RuntimeError):
            await batcher.logits([words(13)], deadline_seconds=5)
        return float((await batcher.logits([words(4)], deadline_seconds=5))[0][0])

    assert run(again)[0] == 4


def test_the_thread_outlives_a_panic_of_the_tokenizer() -> None:
    class Panic(BaseException):
        """What Rust's panics are to Python: no Exception."""

    async def panic(scorer: FakeScorer, batcher: Batcher) -> bool:
        tokenize = scorer.tokenize

        def panics_once(*_: Any, **__: Any) -> list[dict[str, list[int]]]:
            scorer.tokenize = tokenize  # type: ignore[method-assign]
            raise Panic

        scorer.tokenize = panics_once  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="the model failed: Panic"):
            await batcher.logits([words(4)], deadline_seconds=5)
        assert (await batcher.logits([words(4)], deadline_seconds=5))[0][0] == 4
        return batcher.alive

    assert run(panic)[0]


def test_a_text_that_must_not_be_cut_is_refused_by_index() -> None:
    async def uncut(scorer: FakeScorer, batcher: Batcher) -> tuple[int, int]:
        assert (await batcher.logits([words(60)], deadline_seconds=5))[0][0] == 50
        assert (await batcher.logits([words(50)], deadline_seconds=5, truncation=False))[0][0] == 50
        with pytest.raises(TooLong) as refused:
            await batcher.logits([words(3), words(60)], deadline_seconds=5, truncation=False)
        return refused.value.index, refused.value.tokens

    assert run(uncut)[0] == (1, 60)
