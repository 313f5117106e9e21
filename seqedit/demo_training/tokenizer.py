"""The demo models' own byte-level BPE tokenizers.

Two styles, because knowledge editing has to find the subject's last token in both: GPT-2's, which adds nothing to a
text, and Llama's, which puts a beginning-of-sequence token before every text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

VOCAB_SIZE = 3584
"""Large enough that most last words of names are one token: with 2,048, the 1,150 subjects had 215 different last
tokens, on which their keys in the first layer depend most."""
CONTEXT_LENGTH = 256


def train_tokenizer(documents: Iterable[str], style: str) -> Any:
    """Trains a byte-level BPE tokenizer.

    Args:
        documents: texts to count pairs in.
        style: ``gpt2`` (one special token, nothing added) or ``llama`` (``<s>`` added in front).

    Returns:
        A ``PreTrainedTokenizerFast`` whose encodings hold only ``input_ids`` and ``attention_mask``: GPT-2 would add
        an embedding for ``token_type_ids``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    llama = style == "llama"
    special = ["<s>", "</s>"] if llama else ["<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents, trainer)
    if llama:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    else:
        # Offsets include the leading space, as in GPT-2's own tokenizer.json.
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if llama else "<|endoftext|>",
        eos_token=special[-1],
        pad_token=special[-1],
        model_max_length=CONTEXT_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
