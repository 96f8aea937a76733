"""Tests of a model's behaviour: what is asked, and what counts as a failure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import behaviour
from training.behaviour import MOST_CASES, MOST_EXAMPLES, BehaviourTest, run_tests
from training.contract import BadInput
from training.text import text_hash

LABELS = ["neg", "pos"]
TEXTS = [f"Anna says film {i} was {['good', 'bad'][i % 2]}" for i in range(300)]


class Model:
    """Answers by the words of a text, and remembers what it was asked."""

    def __init__(self, positive):
        self.positive, self.asked = positive, []

    def __call__(self, texts):
        self.asked += texts
        share = np.array([float(self.positive(text)) for text in texts])
        return np.stack([1 - share, share], axis=1)


def steady(text):
    return 0.9 if "good" in text.lower() else 0.1


def outcome(positive=steady, split=TEXTS, **fields):
    test = BehaviourTest(**{"name": "it", "kind": "invariance", "pass_share": 0.95, **fields})
    told = run_tests([test], split, LABELS, Model(positive))
    [one] = told["tests"]
    assert told["passed"] == one["passed"]
    return one


@pytest.mark.parametrize("change", ["lower", "upper", "punctuation"])
def test_a_model_that_takes_no_notice_of_a_change_passes(change):
    told = outcome(change=change)
    assert (told["cases"], told["failures"], told["rate"], told["passed"]) == (200, 0, 1.0, True)


def test_a_model_that_answers_otherwise_fails_with_the_texts():
    told = outcome(lambda text: "good" in text, change="upper")
    assert not told["passed"]
    assert 0 < told["failures"] < told["cases"]
    assert len(told["examples"]) == min(MOST_EXAMPLES, told["failures"])
    for example in told["examples"]:
        assert example["text"].endswith("good")
        assert example["changed_text"] == example["text"].upper()
        assert (example["expected"], example["answer"]) == ("pos", "neg")
        assert example["text_sha256"] == text_hash(example["text"])


def test_a_share_of_failures_is_let_through():
    def forgetful(text):  # of every tenth text in capitals
        return steady(text) if text != text.upper() or int(text.split()[3]) % 10 else 1 - steady(text)

    told = outcome(forgetful, change="upper", cases=MOST_CASES)
    assert (told["cases"], told["failures"], told["rate"]) == (300, 30, 0.9)
    assert not told["passed"]
    assert outcome(forgetful, change="upper", cases=MOST_CASES, pass_share=0.9)["passed"]


def test_texts_that_a_change_leaves_as_they_are_are_no_cases():
    assert outcome(change="lower", texts=["all small", "ONE"])["cases"] == 1
    assert outcome(change="typo", texts=["a b c", "ll", "word"])["cases"] == 1


def test_a_test_that_nothing_can_be_asked_for_is_not_passed():
    told = outcome(change="names", names=["Zoe", "Yan"])
    assert (told["cases"], told["passed"]) == (0, False)


def test_names_become_others_of_the_list_and_only_whole_words():
    model = Model(steady)
    test = BehaviourTest(
        name="n", kind="invariance", pass_share=1.0, change="names", names=["Ann", "Bob"], texts=["Ann met Anna, Bob"]
    )
    run_tests([test], [], LABELS, model)
    assert model.asked == ["Ann met Anna, Bob", "Bob met Anna, Ann"]


@given(st.text(), st.text(min_size=1))
def test_a_typo_swaps_two_letters_and_nothing_else_and_is_the_same_each_time(text, name):
    test = BehaviourTest(name=name, kind="invariance", pass_share=1.0, change="typo")
    changed = behaviour._changed(test, text)
    assert sorted(changed) == sorted(text)
    assert sum(one != other for one, other in zip(changed, text, strict=True)) in (0, 2)
    assert behaviour._changed(test, text) == changed


@pytest.mark.parametrize(("must_not", "fails"), [("fall", False), ("rise", True)])
def test_a_probability_must_not_go_the_wrong_way(must_not, fails):
    def eager(text):
        return 0.5 + 0.04 * text.count("!")

    fields = {"kind": "directional", "label": "pos", "must_not": must_not, "add": "!!", "tolerance": 0.05}
    told = outcome(eager, **fields)
    assert (told["failures"] == told["cases"], told["failures"] == 0) == (fails, not fails)
    assert outcome(eager, **{**fields, "tolerance": 0.1})["failures"] == 0
    if fails:
        example = told["examples"][0]
        assert (example["label"], example["was"], example["now"]) == ("pos", 0.5, 0.58)


def test_words_are_replaced_all_at_once():
    fields = {"kind": "directional", "label": "pos", "must_not": "rise", "replace": {"good": "bad", "bad": "good"}}
    told = outcome(**fields, texts=["good and bad, goodness"])
    assert (told["cases"], told["failures"]) == (1, 0)
    told = outcome(lambda text: text.index("bad") / 100, **fields, texts=["bad and good"])
    assert told["examples"][0]["changed_text"] == "good and bad"


def test_texts_whose_label_everybody_knows_are_asked_in_all_ways():
    model = Model(steady)
    test = BehaviourTest(
        name="praise",
        kind="minimum",
        pass_share=1.0,
        label="pos",
        texts=["A {very} good {thing}", "a good {thing}, a bad {thing}", "plain"],
        fill={"very": ["very", "truly"], "thing": ["film", "book"]},
    )
    told = run_tests([test], TEXTS, LABELS, model)["tests"][0]
    assert sorted(model.asked) == sorted(
        [f"A {very} good {thing}" for very in ("very", "truly") for thing in ("film", "book")]
        + [f"a good {thing}, a bad {thing}" for thing in ("film", "book")]
        + ["plain"]
    )
    assert (told["cases"], told["failures"], told["passed"]) == (7, 1, False)
    assert told["examples"] == [
        {
            "text": "plain",
            "text_sha256": text_hash("plain"),
            "expected": "pos",
            "answer": "neg",
            "probability": 0.9,
        }
    ]


def test_of_more_ways_than_can_be_asked_some_are_the_same_ones_each_time():
    def asked():
        model = Model(steady)
        fill = {name: [f"{name}{i}" for i in range(50)] for name in "abcd"}
        test = BehaviourTest(
            name="m", kind="minimum", pass_share=1.0, label="pos", texts=["{a} {b} {c} {d}", "good"], fill=fill
        )
        run_tests([test], [], LABELS, model)
        return model.asked

    first = asked()
    assert MOST_CASES / 2 * 0.9 < len(first) <= MOST_CASES
    assert "good" in first
    assert asked() == first


def test_the_same_texts_are_taken_in_whatever_order_they_come_and_asked_once():
    def asked(texts):
        model = Model(steady)
        tests = [
            BehaviourTest(name=change, kind="invariance", pass_share=1.0, change=change, cases=50)
            for change in ("lower", "upper")
        ]
        run_tests(tests, texts, LABELS, model)
        assert len(model.asked) == len(set(model.asked))
        return model.asked

    assert asked(TEXTS) == asked(TEXTS[::-1]) == asked(TEXTS + TEXTS[:9])


def test_few_more_texts_change_few_cases():
    def sample(texts):
        return {
            example["text"] for example in outcome(lambda _text: float("nan"), split=texts, change="upper")["examples"]
        }

    assert len(sample(TEXTS) & sample([*TEXTS, "one more", "and another"])) >= MOST_EXAMPLES - 2


def test_an_answer_that_is_no_number_is_a_failure():
    for fields in (
        {"change": "lower"},
        {"kind": "directional", "label": "pos", "must_not": "rise", "add": "!"},
        {"kind": "minimum", "label": "neg", "texts": ["a"]},
    ):
        told = outcome(lambda _text: float("nan"), **fields)
        assert told["failures"] == told["cases"] > 0


def test_long_texts_are_shown_in_part_and_known_by_the_whole():
    long = "Good " * 200
    told = outcome(lambda text: "Good" in text, change="lower", texts=[long])
    [example] = told["examples"]
    assert len(example["text"]) == 300
    assert example["text_sha256"] == text_hash(long)


def test_a_label_that_the_model_does_not_know_is_refused():
    with pytest.raises(BadInput, match=r"behaviour test 'it': the model knows no label 'neutral'; it knows neg, pos"):
        outcome(kind="minimum", label="neutral", texts=["a"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected change beside"),
        ({"change": "lower", "label": "pos"}, "a test of invariance has no label"),
        ({"kind": "minimum", "label": "pos"}, "expected texts"),
        ({"kind": "directional", "label": "pos", "must_not": "fall"}, "either add or replace"),
        ({"change": "names", "names": ["Anna", "Anna"]}, "at least two different"),
        ({"change": "lower", "texts": ["a {b}"]}, "expected texts for it in fill"),
        ({"change": "lower", "texts": ["a {b}"], "fill": {"b": []}}, "expected texts for it in fill"),
        ({"change": "lower", "pass_share": 0}, "pass is 0"),
        ({"change": "lower", "cases": 0}, "cases is 0"),
    ],
)
def test_a_test_whose_keys_do_not_go_together_is_refused_by_name(fields, message):
    with pytest.raises(BadInput) as refused:
        BehaviourTest(**{"name": "it", "kind": "invariance", "pass_share": 0.95, **fields})
    assert str(refused.value).startswith("behaviour test 'it': ")
    assert message in str(refused.value)
