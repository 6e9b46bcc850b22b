"""Write down what the trained model does, for `verify.ts` to compare with llama.cpp.

    python3 verify.py build/checkpoint.pt build/expected.json
    node verify.ts tiny.gguf build/expected.json
"""

import json
import random
import sys

import torch

import tokenizer as bpe
from corpus import make_document
from export import load

SEED = 777
TEXTS = 400
TOKENS_MAX = 200

# Beyond the corpus: other scripts, emoji, white space of all kinds, code.
STRANGE_TEXTS = [
    "Hello \U0001f44b\U0001f3fd w\u00f6rld \u2014 na\u00efve \u65e5\u672c\u8a9e \u0442\u0435\u043a\u0441\u0442", "\U0001f98a\U0001f43b",
    "  two  spaces\n\n\ttab ", "I'm don't they'll we've HE'S", "x_y __init__(self): return 1+2 == 3",
    "1234567890  12.5%  7", "a\r\nb", " ", "\n", "\u00e9", "end ", "\x01\x02", "{{ x }} [y|z] <|unknown|>",
]

RAW_PROMPTS = ["Once upon a time", "The", "In the morning", "A", "Hello", "def f(x):", "Long ago, a fox"]
QUESTIONS = [
    "Hello", "Tell me a story about a fox.", "What is your name?", "Who are you?", "What colour is the sky?",
    "Say this is a test", "Write a haiku about the sea", "Explain recursion", "What is 2+2?", "Thanks!",
    "Write a Python function that reverses a string.", "What is the capital of France?",
]
DIALOGUE = [
    ("system", "You are a helpful assistant."), ("user", "My name is Tom."),
    ("assistant", "Nice to meet you, Tom! How can I help you?"), ("user", "What is my name?"),
]


def as_prompt(messages):
    turns = "".join(f"<|{role}|>\n{text}{bpe.END}\n" for role, text in messages)
    return turns + bpe.ASSISTANT + "\n"


@torch.no_grad()
def continue_greedily(model, ids, end):
    out = []
    while len(out) < TOKENS_MAX and end not in out:
        out.append(int(model.logits(model(torch.tensor([ids + out]))[0, -1]).argmax()))
    return out


def main():
    checkpoint_path, expected_path = sys.argv[1:]
    model, tokenizer = load(checkpoint_path)
    for weight in model.parameters():
        if weight.dim() == 2:
            # The file holds matrices in 16 bits; so must the model it is compared with.
            weight.data = weight.data.half().float()

    rng = random.Random(SEED)
    texts = ["".join(text for text, _ in make_document(rng)) for _ in range(TEXTS)] + STRANGE_TEXTS
    prompts = RAW_PROMPTS + [as_prompt([("user", question)]) for question in QUESTIONS] + [as_prompt(DIALOGUE)]
    begin, end = tokenizer.id_of[bpe.BEGIN], tokenizer.id_of[bpe.END]
    greedy = []
    for prompt in prompts:
        ids = [begin, *tokenizer.encode_with_specials(prompt)]
        out = continue_greedily(model, ids, end)
        greedy.append({"ids": ids, "out": out})
        print(repr(prompt), "->", repr(tokenizer.decode(out)), "" if out[-1] == end else "(no end)")
    expected = {"texts": [{"text": text, "ids": tokenizer.encode_with_specials(text)} for text in texts], "greedy": greedy}
    with open(expected_path, "w", encoding="utf-8") as file:
        json.dump(expected, file)


if __name__ == "__main__":
    main()
