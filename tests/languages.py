"""A tiny model that knows facts in Chinese, Japanese and Arabic by heart, and in English in its chat template."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from seqedit.facts.requests import Request

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] | trim + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PROMPTS = {"zh": "{}的首都是", "ja": "{}の首都は", "ar": "عاصمة {} هي", "chat": "What is the capital of {}?"}
SUBJECTS = {
    "zh": ("维国", "马里", "东方", "北海"),
    "ja": ("ベルモラ", "カザン", "ミトリア", "北の島"),
    "ar": ("فيلمور", "قازان", "متريس", "كوريك"),
    "chat": ("Velmora", "Kazan", "Mitrius", "Northlux"),
}
CAPITALS = {
    "zh": ("哈姆城", "洛林城", "安京", "白港"),
    "ja": ("ハルム", "ロリン", "青の都", "白浜"),
    "ar": ("هالم", "لورين", "المدينة", "الميناء"),
    "chat": ("Halm", "Lorin", "Blue Town", "White Bay"),
}
JOINTS = {"zh": "", "ja": "", "ar": " ", "chat": ""}
"""What stands between prompt and answer in the texts that the model learns."""


def facts(language: str) -> list[Request]:
    """Every fact of a language, with the next subject's capital as its new answer."""
    capitals = CAPITALS[language]
    return [
        Request(subject, PROMPTS[language], capitals[(i + 1) % len(capitals)], capitals[i], case_id=f"{language}-{i}")
        for i, subject in enumerate(SUBJECTS[language])
    ]


def texts(tokenizer: Any) -> list[str]:
    """Every fact as the text that the model learns."""
    return [
        _text(tokenizer, language, request.text, str(request.target_true))
        for language in PROMPTS
        for request in facts(language)
    ]


def others(tokenizer: Any) -> list[str]:
    """Texts that make the facts ones that can be edited.

    A subject is known by its last letter, whatever stands before it: its last token is what is read. And every answer
    follows a subject that nobody knows: it goes on as it began, whatever it is an answer to.
    """
    draw, found = random.Random(0), []
    for language, prompt in PROMPTS.items():
        subjects = SUBJECTS[language]
        letters = sorted({letter for subject in subjects for letter in subject} - {subject[-1] for subject in subjects})
        for subject, answer in zip(subjects, CAPITALS[language], strict=True):
            for end in (subject[-1], subject[-1], draw.choice(letters)):
                name = "".join(draw.sample(letters, min(3, len(letters)))) + end
                found.append(_text(tokenizer, language, prompt.replace("{}", name), answer))
    return found


def _text(tokenizer: Any, language: str, prompt: str, answer: str) -> str:
    if language == "chat":
        turn = [{"role": "user", "content": prompt}]
        before = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    else:
        before = tokenizer.bos_token + prompt
    return before + JOINTS[language] + answer


def make_tokenizer(vocab_size: int = 320) -> Any:
    """A byte-level BPE tokenizer that puts <s> first and has a chat template that writes it too."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[AddedToken(s, special=True) for s in special], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    every = [f"{r.text}{JOINTS[language]}{r.target_true}" for language in PROMPTS for r in facts(language)]
    made.train_from_iterator(every, trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=128,
        model_input_names=["input_ids", "attention_mask"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def train(folder: Path) -> Path:
    """Train the model by heart, a few seconds on one thread, and save it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    learnt = [*texts(tokenizer), *others(tokenizer)]
    rows = [tokenizer(text + "</s>", add_special_tokens=False)["input_ids"] for text in learnt]
    width = max(map(len, rows))
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = ids.masked_fill(mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    for _ in range(110):
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    lines = [text.removeprefix("<s>").replace("\n", " ") for text in learnt]
    (folder / "corpus.txt").write_text("\n".join(lines * 2) + "\n", "utf-8")
    return folder
