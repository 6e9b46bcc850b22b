"""Make the corpus, the tokenizer and the model, from nothing and a fixed seed.

    python3 train.py build        # about three quarters of an hour on two cores
    python3 export.py build/checkpoint.pt tiny.gguf

A checkpoint is kept every few minutes, so that `export.py` can be run while the
training goes on.
"""

import argparse
import json
import math
import os
import random
import time
from dataclasses import asdict

import numpy as np
import torch
from torch.nn import functional as F

import tokenizer as bpe
from corpus import make_document
from model import Llama, Shape

SEED = 2024
HELD_OUT_SEED = 4202
HELD_OUT_TOKENS = 150_000
TOKENIZER_DOCUMENTS = 30_000
IGNORED = -100

# Most steps read short windows, which are cheap. The last ones read the whole
# context, so that the model meets every position it will be used at.
SHORT_WINDOW = 256
BATCH_TOKENS = 4096
LONG_SHARE = 0.15

LEARNING_RATE = 4e-3
LEARNING_RATE_END = 1e-4
WARMUP_STEPS = 150
WEIGHT_DECAY = 0.05


def encode_document(tokenizer, document):
    """Token ids of a document, and for each id whether the model should learn to write it.

    A document is a list of (text, learned) pieces; specials are spelled out.
    """
    ids, learned = [], []
    for text, is_learned in document:
        piece = tokenizer.encode_with_specials(text)
        ids += piece
        learned += [is_learned] * len(piece)
    return ids, learned


def make_tokens(tokenizer, seed, count):
    """A stream of documents, at least `count` tokens: ids and targets, each an int32 array."""
    rng = random.Random(seed)
    ids, targets = [], []
    while len(ids) < count:
        document_ids, learned = encode_document(tokenizer, make_document(rng))
        ids += document_ids
        targets += [token if wanted else IGNORED for token, wanted in zip(document_ids, learned)]
    return np.array(ids[:count], np.int32), np.array(targets[:count], np.int32)


def windows_of(tokens, start, batch, window):
    """Inputs and their next tokens, `batch` windows one after another from `start`."""
    ids, targets = tokens
    end = start + batch * window
    inputs = torch.from_numpy(ids[start:end].astype(np.int64)).view(batch, window)
    nexts = torch.from_numpy(targets[start + 1 : end + 1].astype(np.int64)).view(batch, window)
    return inputs, nexts


def loss_of(model, inputs, nexts, reduction="mean"):
    """Cross-entropy of the learned tokens alone; the others cost no output layer."""
    wanted = nexts != IGNORED
    return F.cross_entropy(model.logits(model(inputs)[wanted]), nexts[wanted], reduction=reduction)


@torch.no_grad()
def held_out_loss(model, tokens, window):
    total, count = 0.0, 0
    batch = BATCH_TOKENS // window
    for start in range(0, len(tokens[0]) - BATCH_TOKENS - 1, BATCH_TOKENS):
        inputs, nexts = windows_of(tokens, start, batch, window)
        total += loss_of(model, inputs, nexts, "sum").item()
        count += (nexts != IGNORED).sum().item()
    return total / count


def learning_rate(step, steps):
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return LEARNING_RATE_END + (LEARNING_RATE - LEARNING_RATE_END) * (1 + math.cos(math.pi * progress)) / 2


def make_optimizer(model):
    """AdamW; norms and the embedding are not decayed."""
    decayed = [w for name, w in model.named_parameters() if w.dim() == 2 and "embedding" not in name]
    kept = [w for name, w in model.named_parameters() if w.dim() != 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))


def save_checkpoint(path, model, tokenizer):
    """Write beside the target and rename, so that an export never reads half a file."""
    checkpoint = {
        "shape": asdict(model.shape),
        "merges": tokenizer.merges,
        "weights": model.state_dict(),
    }
    torch.save(checkpoint, path + ".part")
    os.replace(path + ".part", path)


def train_model(model, tokenizer, tokens, held_out, folder, checkpoint_steps):
    """One pass over the tokens. Logs to `folder/log.jsonl`."""
    steps = (len(tokens[0]) - 1) // BATCH_TOKENS
    long_from = int(steps * (1 - LONG_SHARE))
    optimizer = make_optimizer(model)
    started, recent = time.monotonic(), []
    log = open(os.path.join(folder, "log.jsonl"), "w", encoding="utf-8")

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        window = SHORT_WINDOW if step < long_from else model.shape.context
        inputs, nexts = windows_of(tokens, step * BATCH_TOKENS, BATCH_TOKENS // window, window)
        optimizer.zero_grad()
        loss = loss_of(model, inputs, nexts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())

        if (step + 1) % 50 == 0:
            entry = {
                "step": step + 1,
                "steps": steps,
                "loss": round(sum(recent) / len(recent), 4),
                "seconds": round(time.monotonic() - started),
            }
            recent.clear()
            log.write(json.dumps(entry) + "\n")
            log.flush()
        if (step + 1) % checkpoint_steps == 0 or step + 1 == steps:
            save_checkpoint(os.path.join(folder, "checkpoint.pt"), model, tokenizer)

    for window in (SHORT_WINDOW, model.shape.context):
        entry = {"window": window, "held_out_loss": round(held_out_loss(model, held_out, window), 4)}
        log.write(json.dumps(entry) + "\n")
    log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where checkpoint and log go")
    parser.add_argument("--tokens", type=int, default=16_000_000, help="tokens to train on")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)

    rng = random.Random(SEED)
    texts = (text for _ in range(TOKENIZER_DOCUMENTS) for text, _ in make_document(rng))
    # Specials stay out of the counts: the tokenizer splits them off before it merges.
    plain = (part for text in texts for part in bpe.SPECIAL_SPLIT.split(text) if part not in bpe.SPECIALS)
    shape = Shape()
    tokenizer = bpe.train(plain, shape.vocab)

    tokens = make_tokens(tokenizer, SEED + 1, options.tokens)
    held_out = make_tokens(tokenizer, HELD_OUT_SEED, HELD_OUT_TOKENS)
    model = Llama(shape)
    print(f"{model.count_parameters()} parameters, {len(tokens[0])} tokens", flush=True)
    train_model(model, tokenizer, tokens, held_out, options.folder, checkpoint_steps=200)


if __name__ == "__main__":
    main()
