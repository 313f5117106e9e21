"""What stands between a prompt and its answer, and the tokens on both sides of it."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqedit.errors import InputError
from seqedit.facts.requests import Record, Request
from seqedit.joining.rule import between, check_join, joint, makes_a_difference
from seqedit.text.framing import Framing
from seqedit.text.lookup import tokenize_request
from seqedit.text.tokenization import encode, encode_many, prompt_and_target_ids
from tests.languages import make_tokenizer

DECOMPOSED = unicodedata.normalize("NFD", "la ville de Velmoré")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.mark.parametrize(
    ("prompt", "target", "expected"),
    [
        ("The capital of Velmora is", "Halm", "The capital of Velmora is Halm"),
        ("The capital of Velmora is ", "Halm", "The capital of Velmora is Halm"),
        ("Capital?", "Halm", "Capital? Halm"),
        ("Capital:", "Halm", "Capital: Halm"),
        ("Capital (Velmora)", "Halm", "Capital (Velmora) Halm"),
        ('He wrote "Velmora"', "Halm", 'He wrote "Velmora" Halm'),
        ("the students'", "hall", "the students' hall"),
        ('It measures 6"', "at most", 'It measures 6" at most'),
        ("ending in a bracket (", "Halm", "ending in a bracket (Halm"),
        ('he called it "', "Halm", 'he called it "Halm'),
        ("he called it “", "Halm", "he called it “Halm"),
        ("he called it '", "Halm", "he called it 'Halm"),
        ("¿", "Halm", "¿Halm"),
        ("Q: capital?\nA:", "Halm", "Q: capital?\nA: Halm"),
        ("Q: capital?\n", "Halm", "Q: capital?\nHalm"),
        ("Q: capital?\n\n", "Halm", "Q: capital?\n\nHalm"),
        ("capital\t", "Halm", "capital\tHalm"),
        ("capital\u00a0", "Halm", "capital\u00a0Halm"),
        ("<|user|>hi<|end|>\n<|assistant|>\n", "Halm", "<|user|>hi<|end|>\n<|assistant|>\nHalm"),
        ("hi<|assistant|>", "Halm", "hi<|assistant|>Halm"),
        ("hi<｜Assistant｜>", "Halm", "hi<｜Assistant｜>Halm"),
        ("<s>", "Halm", "<s>Halm"),
        ("[INST] hi [/INST]", "Halm", "[INST] hi [/INST] Halm"),
        ("The capital", ", Halm", "The capital, Halm"),
        ("The capital", ".", "The capital."),
        ("The framework is", ".NET", "The framework is .NET"),
        ("It is", "(big)", "It is (big)"),
        ("维国的首都是", "哈姆城", "维国的首都是哈姆城"),
        ("维国的首都是 ", "哈姆城", "维国的首都是 哈姆城"),
        ("维国的首都是", "Halm", "维国的首都是Halm"),
        ("维国的首都是：", "Halm", "维国的首都是：Halm"),
        ("维国的首都是:", "哈姆城", "维国的首都是:哈姆城"),
        ("维国的首都是什么？", "哈姆城", "维国的首都是什么？哈姆城"),
        ("首都叫“维国”", "哈姆城", "首都叫“维国”哈姆城"),
        ("他喜欢的品牌是Apple", "公司", "他喜欢的品牌是Apple公司"),
        ("他住在New", "York", "他住在New York"),
        ("The capital of Velmora is", "哈姆城", "The capital of Velmora is 哈姆城"),
        ("首都\u3000", "哈姆城", "首都\u3000哈姆城"),
        ("ベルモラの首都は", "ハルム", "ベルモラの首都はハルム"),
        ("ﾍﾞﾙﾓﾗﾉ", "ﾊﾙﾑ", "ﾍﾞﾙﾓﾗﾉﾊﾙﾑ"),
        ("เมืองหลวงคือ", "กรุงเทพ", "เมืองหลวงคือกรุงเทพ"),
        ("រាជធានីគឺ", "ភ្នំពេញ", "រាជធានីគឺភ្នំពេញ"),
        ("ນະຄອນຫຼວງແມ່ນ", "ວຽງຈັນ", "ນະຄອນຫຼວງແມ່ນວຽງຈັນ"),
        ("မြို့တော်မှာ", "နေပြည်တော်", "မြို့တော်မှာနေပြည်တော်"),
        ("རྒྱལ་ས་ནི་", "ལྷ་ས", "རྒྱལ་ས་ནི་ལྷ་ས"),
        ("벨모라의 수도는", "할름", "벨모라의 수도는 할름"),
        ("عاصمة فيلمورا هي", "هالم", "عاصمة فيلمورا هي هالم"),
        ("העיר היא", "הלם", "העיר היא הלם"),
        ("राजधानी है", "हाल्म", "राजधानी है हाल्म"),
        ("Столица —", "Хальм", "Столица — Хальм"),
        (DECOMPOSED, "Halm", DECOMPOSED + " Halm"),
    ],
)  # fmt: skip
def test_auto_joins_as_the_text_itself_would(prompt: str, target: str, expected: str) -> None:
    assert "".join(joint(prompt, target)) == expected
    assert makes_a_difference(prompt, target) == (expected != prompt.rstrip(" ") + " " + target)


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_text_breaks_the_rule_and_space_and_none_do_what_they_say(prompt: str, target: str) -> None:
    assert between(prompt, target) in ("", " ")
    assert "".join(joint(prompt, target, "space")) == prompt.rstrip(" ") + " " + target.strip()
    assert "".join(joint(prompt, target, "none")) == prompt + target.strip()
    head, tail = joint(prompt, target)
    assert prompt.startswith(head)
    assert tail.strip() == target.strip()


def test_an_unknown_joint_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"join must be auto, space or none, got 'spaces'.*did you mean 'space'"):
        check_join("spaces")


def test_real_english_facts_are_joined_by_the_published_space_whatever_the_rule(shared_data: Path) -> None:
    from seqedit.facts.loading import load_records

    for file in ("counterfact_2000.json", "zsre_500.json"):
        records = load_records(shared_data / file)
        assert Framing("space").of(records, lambda: None) == records  # type: ignore[arg-type,return-value]
        for record in records:
            request = record.request
            assert not request.framed
            for prompt in (request.text, *record.paraphrase_prompts, *(n.prompt for n in record.neighborhood_prompts)):
                assert "".join(joint(prompt, request.target_new)) == f"{prompt.rstrip(' ')} {request.target_new}"


def test_the_tokens_of_both_sides_are_those_of_the_whole_text() -> None:
    straddling, tokenizer = 0, make_tokenizer(420)
    for prompt, target in [
        ("维国的首都是", "哈姆城"), ("马里的首都是", "洛林城"), ("ベルモラの首都は", "ハルム"), ("What?\n\n", "Halm"),
        ("عاصمة فيلمورا هي", "هالم"), ("首都叫“", "白港"), ("🎉的", "🎊"), ("𠀀的", "𠀁"),
    ]:  # fmt: skip
        prompt_ids, target_ids = prompt_and_target_ids(tokenizer, prompt, target)
        whole = "".join(joint(prompt, target))
        assert prompt_ids + target_ids == encode(tokenizer, whole)[0]
        straddling += prompt_ids != encode(tokenizer, prompt)[0]
        known = encode_many(tokenizer, [prompt, whole])
        assert prompt_and_target_ids(tokenizer, prompt, target, known) == (prompt_ids, target_ids)
    assert straddling, "no token lies across a boundary here, so nothing was tried"


def _straddling() -> Any:
    """A tokenizer with one token for 是哈, the end of a prompt and the beginning of an answer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "<unk>", "维", "国", "是", "哈", "姆", "是哈", "国哈"]
    made = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [("是", "哈"), ("国", "哈")], unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")


def test_a_token_across_the_boundary_is_the_targets_unless_it_holds_the_subjects_end() -> None:
    tokenizer = _straddling()
    names = tokenizer.convert_ids_to_tokens
    prompt_ids, target_ids = prompt_and_target_ids(tokenizer, "维国是", "哈姆", subject="维国")
    assert (names(prompt_ids), names(target_ids)) == (["维", "国"], ["是哈", "姆"])
    prompt_ids, target_ids = prompt_and_target_ids(tokenizer, "是维国", "哈姆", subject="维国")
    assert (names(prompt_ids), names(target_ids)) == (["是", "维", "国"], ["哈", "姆"])
    taught = tokenize_request(tokenizer, Request("维国", "是{}", "哈姆"), with_target=True)
    assert names(taught.ids[taught.lookup]) == "国"
    assert names(list(taught.target_ids)) == ["哈", "姆"]


@pytest.mark.parametrize("text", ["<s>Velmora", "<s> Velmora", "<s>"])
def test_a_text_that_begins_with_bos_does_not_get_a_second_one(tokenizer: Any, text: str) -> None:
    assert tokenizer(text)["input_ids"][:2] == [0, 0], "the tokenizer itself puts two"
    ids, offsets = encode(tokenizer, text)
    assert ids.count(0) == 1
    assert len(ids) == len(offsets)
    assert encode_many(tokenizer, [text, "Velmora"]) == {text: ids, "Velmora": encode(tokenizer, "Velmora")[0]}
    assert encode(tokenizer, "Velmora")[0][0] == 0


def test_plain_text_rows_hold_no_second_bos_either(tokenizer: Any) -> None:
    from seqedit.text.rows import packed_rows

    (row,) = packed_rows(tokenizer, ["<s>Velmora"], 64, 64)
    assert row.count(0) == 1


def test_requests_say_their_joint_only_where_its_absence_would_say_another() -> None:
    english, chinese = Request("Velmora", "{} is", "Halm"), Request("维国", "{}的首都是", "哈姆城")
    assert "join" not in english.to_dict()
    assert chinese.to_dict()["join"] == "auto"
    old = {name: value for name, value in chinese.to_dict().items() if name != "join"}
    assert Request.from_dict(old).join == "space", "older versions always put a space"
    assert Request.from_dict(old).to_dict() == old
    for request in (english, chinese):
        for join in ("auto", "space", "none"):
            (made,) = Framing(join).of([Record(request)], lambda: None)  # type: ignore[arg-type,return-value]
            assert Request.from_dict(made.request.to_dict()) == made.request
            assert made.request.asks() == request.asks()


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokenizers_that_put_a_space_first_lower_case_and_pad_on_the_left_join_as_all_others(side: str) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>"], show_progress=False)
    made.train_from_iterator(["the capital of velmora is halm", "维国的", "首都是", "哈姆城", "\n"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", pad_token="<s>", padding_side=side
    )
    for prompt, target, tail in [
        ("The capital of VELMORA is", "Halm", "▁halm"),
        ("维国的首都是", "哈姆城", "哈姆城"),
        ("维国的首都是\n", "哈姆城", "哈姆城"),
    ]:
        prompt_ids, target_ids = prompt_and_target_ids(tokenizer, prompt, target)
        whole = "".join(joint(prompt, target))
        assert prompt_ids + target_ids == encode(tokenizer, whole)[0]
        assert "".join(tokenizer.convert_ids_to_tokens(target_ids)).endswith(tail)
        assert encode_many(tokenizer, [prompt, whole]) == {text: encode(tokenizer, text)[0] for text in (prompt, whole)}
    found = tokenize_request(tokenizer, Request("VELMORA", "The capital of {} is", "Halm"))
    assert tokenizer.decode(found.ids[: found.lookup + 1]).endswith("velmora")


def test_a_subject_in_another_unicode_form_is_named() -> None:
    from seqedit.errors import RequestError
    from seqedit.facts.fields import template

    with pytest.raises(RequestError, match="another Unicode form"):
        template(f"{DECOMPOSED} est", unicodedata.normalize("NFC", "Velmoré"))
