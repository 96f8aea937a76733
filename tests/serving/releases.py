"""Make releases for the tests: a tiny model, converted and hashed as docs/architecture.md says."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from serving.release import GOLDEN, MANIFEST, digest_of_files, digest_of_golden
from tests.tiny import WORDS, tiny_checkpoint

LABELS = ["bad", "fine", "good"]
TEXTS = [f"{a} {b} {c}" for a in WORDS[:6] for b in WORDS[6:10] for c in ("film", "book")][:32]


def make_release(directory: Path, *, seed: int = 0, labels: list[str] | None = None, max_length: int = 32) -> Path:
    """:return: ``directory``, a release of a random model; another ``seed`` is another model."""
    import openvino as ov
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    labels = labels or LABELS
    tiny_checkpoint(directory / "model", labels, seed)
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    model = AutoModelForSequenceClassification.from_pretrained(directory / "model").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(9 if parameter.ndim == 2 else 1)  # as initialised it hardly tells texts apart
    model.save_pretrained(directory / "model")
    example = dict(tokenizer(["a film", "a very good film"], padding=True, return_tensors="pt"))
    with warnings.catch_warnings(action="ignore"):  # tracing warns about every branch it takes
        converted = ov.convert_model(model, example_input=example)
    ov.save_model(converted, directory / "openvino" / "model.xml", compress_to_fp16=False)
    with torch.no_grad():
        batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        scores = model(**batch).logits.softmax(-1)
    golden = {
        "texts": TEXTS,
        "labels": [labels[i] for i in scores.argmax(-1)],
        "scores": scores.tolist(),
    }
    (directory / GOLDEN).write_text(json.dumps(golden))
    seal(directory, labels=labels, max_length=max_length, model_digest=f"{seed:064x}")
    return directory


def seal(directory: Path, **values: object) -> str:
    """Write ``release.json`` and the digest of ``golden.json`` over the files as they are. :return: the digest."""
    golden = json.loads((directory / GOLDEN).read_text())
    golden.pop("digest", None)
    (directory / GOLDEN).write_text(json.dumps({**golden, "digest": digest_of_golden(golden)}))
    manifest = directory / MANIFEST
    old = json.loads(manifest.read_text()) if manifest.exists() else {}
    files = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in (MANIFEST, GOLDEN)
    }
    digest = digest_of_files(files)
    manifest.write_text(json.dumps({**old, "runtime": "openvino", **values, "files": files, "digest": digest}))
    return digest
