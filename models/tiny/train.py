"""Make the corpus, the tokenizer and the model, from nothing and a fixed seed.

    python3 train.py build        # about half an hour on two cores
    python3 export.py build/checkpoint.pt tiny.gguf

A checkpoint is kept every hundred steps, so that `export.py` can be run while the
training goes on.
"""

import os

# The matrices are too small to be shared among threads: each of WORKERS threads
# computes its own part of the batch instead, three times as fast. Both libraries
# read this once, when they are loaded.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F

import tokenizer as bpe
from corpus import make_document
from model import Llama, Shape
from muon import Muon

SEED = 2024
HELD_OUT_SEED = 4202
HELD_OUT_TOKENS = 150_000
TOKENIZER_DOCUMENTS = 30_000
IGNORED = -100

# A constant, because the order of a sum is part of its result: the same seed
# gives the same model only with the same number of workers.
WORKERS = 2

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Phase:
    steps: int
    window: int
    drill_share: float


# First exercises in short windows, where what is to be repeated is near. Then
# the corpus. The last steps read the whole context, so that the model meets
# every position it will be used at.
PHASES = (
    Phase(steps=250, window=64, drill_share=0.7),
    Phase(steps=4500, window=256, drill_share=0.0),
    Phase(steps=200, window=1024, drill_share=0.0),
)

MUON_RATE = 0.015
ADAM_RATE = 4e-3
WARMUP_STEPS = 50
COOLDOWN_SHARE = 0.5

LOG_STEPS = 50
CHECKPOINT_STEPS = 100


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


def make_tokens(tokenizer, seed, count, drill_share=0.0):
    """A stream of documents, at least `count` tokens: ids and targets, each an int32 array."""
    rng = random.Random(seed)
    ids, targets = [], []
    while len(ids) < count:
        document_ids, learned = encode_document(tokenizer, make_document(rng, drill_share))
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


def loss_of(model, inputs, nexts, reduction):
    """Cross-entropy of the learned tokens alone; the others cost no output layer."""
    wanted = nexts != IGNORED
    return F.cross_entropy(model.logits(model(inputs)[wanted]), nexts[wanted], reduction=reduction)


def gradients_of(pool, model, inputs, nexts):
    """The loss and gradients of a batch, each worker taking every WORKERS-th window."""
    weights = list(model.parameters())

    def work(part):
        # Summed, so that the parts add up whatever number of learned tokens each has.
        loss = loss_of(model, inputs[part::WORKERS], nexts[part::WORKERS], "sum")
        return loss.item(), torch.autograd.grad(loss, weights)

    losses, gradients = zip(*pool.map(work, range(WORKERS)))
    count = (nexts != IGNORED).sum().item()
    return sum(losses) / count, [sum(parts) / count for parts in zip(*gradients)]


@torch.no_grad()
def held_out_loss(model, tokens, window):
    total, count = 0.0, 0
    batch = BATCH_TOKENS // window
    for start in range(0, len(tokens[0]) - BATCH_TOKENS - 1, BATCH_TOKENS):
        inputs, nexts = windows_of(tokens, start, batch, window)
        total += loss_of(model, inputs, nexts, "sum").item()
        count += (nexts != IGNORED).sum().item()
    return total / count


def rate_factor(step, steps):
    """Up within the warm-up, level, then straight down to nearly nothing."""
    left = (steps - step) / (steps * COOLDOWN_SHARE)
    return min(1.0, (step + 1) / WARMUP_STEPS, left)


class Optimizer:
    """Muon for the layers' matrices, Adam for the tokens' rows and the norms."""

    def __init__(self, model, pool):
        named = list(model.named_parameters())
        is_matrix = {name: weight.dim() == 2 and "embedding" not in name for name, weight in named}
        self.pool = pool
        self.muon = Muon([weight for name, weight in named if is_matrix[name]])
        rest = [weight for name, weight in named if not is_matrix[name]]
        self.adam = torch.optim.Adam(rest, betas=(0.9, 0.98))

    def step(self, factor):
        self.muon.step(MUON_RATE * factor, self.pool)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * factor
        self.adam.step()


def save_checkpoint(path, model, tokenizer):
    """Write beside the target and rename, so that an export never reads half a file."""
    checkpoint = {
        "shape": asdict(model.shape),
        "merges": tokenizer.merges,
        "weights": model.state_dict(),
    }
    torch.save(checkpoint, path + ".part")
    os.replace(path + ".part", path)


def batches_of(tokenizer):
    """Inputs and next tokens of every step. Each phase has a seed of its own, no document comes twice."""
    for number, phase in enumerate(PHASES):
        count = phase.steps * BATCH_TOKENS + 1
        tokens = make_tokens(tokenizer, SEED + 1 + number, count, phase.drill_share)
        for start in range(0, count - 1, BATCH_TOKENS):
            yield windows_of(tokens, start, BATCH_TOKENS // phase.window, phase.window)


def train_model(model, tokenizer, folder):
    """All phases once. Logs to `folder/log.jsonl`."""
    steps = sum(phase.steps for phase in PHASES)
    pool = ThreadPoolExecutor(WORKERS)
    optimizer = Optimizer(model, pool)
    held_out = make_tokens(tokenizer, HELD_OUT_SEED, HELD_OUT_TOKENS)
    started, recent = time.monotonic(), []
    log = open(os.path.join(folder, "log.jsonl"), "w", encoding="utf-8")

    for step, (inputs, nexts) in enumerate(batches_of(tokenizer), 1):
        loss, gradients = gradients_of(pool, model, inputs, nexts)
        for weight, gradient in zip(model.parameters(), gradients):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate_factor(step - 1, steps))
        recent.append(loss)

        if step % LOG_STEPS == 0:
            entry = {
                "step": step,
                "steps": steps,
                "loss": round(sum(recent) / len(recent), 4),
                "seconds": round(time.monotonic() - started),
            }
            recent.clear()
            log.write(json.dumps(entry) + "\n")
            log.flush()
        if step % CHECKPOINT_STEPS == 0 or step == steps:
            save_checkpoint(os.path.join(folder, "checkpoint.pt"), model, tokenizer)

    for window in sorted({phase.window for phase in PHASES[1:]}):
        entry = {"window": window, "held_out_loss": round(held_out_loss(model, held_out, window), 4)}
        log.write(json.dumps(entry) + "\n")
    log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where checkpoint and log go")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    torch.manual_seed(SEED)

    rng = random.Random(SEED)
    texts = (text for _ in range(TOKENIZER_DOCUMENTS) for text, _ in make_document(rng))
    # Specials stay out of the counts: the tokenizer splits them off before it merges.
    plain = (part for text in texts for part in bpe.SPECIAL_SPLIT.split(text) if part not in bpe.SPECIALS)
    shape = Shape()
    tokenizer = bpe.train(plain, shape.vocab)

    model = Llama(shape)
    print(f"{model.count_parameters()} parameters", flush=True)
    train_model(model, tokenizer, options.folder)


if __name__ == "__main__":
    main()
