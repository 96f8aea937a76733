"""A BERT classifier small enough for a unit test: real architecture and tokenizer, random weights."""

from __future__ import annotations

from pathlib import Path

WORDS = tuple("good bad great awful fine film book card money lost my the a is was not very i it and to of".split())  # noqa: SIM905  # one line instead of twenty-four


def tiny_tokenizer(directory: Path) -> Path:
    from transformers import BertTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)] + list(".,!?'")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        *WORDS,
    ]
    (directory / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n")
    tokenizer = BertTokenizerFast(vocab=str(directory / "vocab.txt"), do_lower_case=True, model_max_length=64)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_checkpoint(directory: Path, labels: list[str] | None = None, seed: int = 0) -> Path:
    """:param labels: None: a base model without a head. :return: ``directory``, loadable with ``from_pretrained``."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

    tiny_tokenizer(directory)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(directory)),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    if labels is None:
        BertModel(config).save_pretrained(directory)
    else:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        BertForSequenceClassification(config).save_pretrained(directory)
    return directory
