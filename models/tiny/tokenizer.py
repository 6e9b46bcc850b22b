"""A byte-level BPE tokenizer, the kind llama.cpp calls `gpt2`.

Any UTF-8 text survives the round trip, because all 256 bytes are tokens and
merges only ever join tokens. Trained and applied in plain Python; a cache per
word makes that fast enough for a corpus with few distinct words.
"""

import json
import re
from collections import Counter, defaultdict

BEGIN, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>",
)

# The split llama.cpp calls `smollm`: each digit alone, so that a number is
# spelled the same wherever it stands, and GPT-2's words between them. Python's
# own `re` has \d for \p{N} and [^\W\d_] for \p{L}. These differ for a few signs
# such as superscript digits, which do not occur in the corpus.
DIGITS = re.compile(r"(\d)")
WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d"
    r"|\d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
)
SPECIAL_SPLIT = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")


def byte_alphabet():
    """GPT-2's printable character for each byte, in the order of its table."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


def split_words(text):
    """The pieces of a text within which tokens may be merged."""
    return [word for piece in DIGITS.split(text) for word in WORDS.findall(piece)]


ALPHABET = byte_alphabet()
BYTE_OF = {char: byte for byte, char in ALPHABET.items()}


def spell(text):
    """The text as a string of byte characters."""
    return "".join(ALPHABET[byte] for byte in text.encode("utf-8"))


class Tokenizer:
    """Tokens in the order of their ids: specials, the 256 bytes, then merges."""

    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.rank = {pair: rank for rank, pair in enumerate(self.merges)}
        # Two merges can spell the same token; it is listed once.
        joined = ("".join(pair) for pair in self.merges)
        self.tokens = list(dict.fromkeys([*SPECIALS, *ALPHABET.values(), *joined]))
        self.id_of = {token: index for index, token in enumerate(self.tokens)}
        self.cache = {}

    def encode_word(self, word):
        if word not in self.cache:
            parts = list(spell(word))
            while len(parts) > 1:
                # The lowest rank wins, the leftmost of equals: llama.cpp's order.
                rank, at = min(
                    (self.rank.get(pair, len(self.rank)), index)
                    for index, pair in enumerate(zip(parts, parts[1:]))
                )
                if rank == len(self.rank):
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            self.cache[word] = [self.id_of[part] for part in parts]
        return self.cache[word]

    def encode(self, text):
        """Token ids of plain text; the names of special tokens mean nothing here."""
        return [token for word in split_words(text) for token in self.encode_word(word)]

    def encode_with_specials(self, text):
        ids = []
        for piece in SPECIAL_SPLIT.split(text):
            ids += [self.id_of[piece]] if piece in SPECIALS else self.encode(piece)
        return ids

    def decode(self, ids):
        """Text of the ids; special tokens are left out."""
        spelled = "".join(self.tokens[index] for index in ids if index >= len(SPECIALS))
        return bytes(BYTE_OF[char] for char in spelled).decode("utf-8", "replace")

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.merges, file)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            return cls(json.load(file))


def train(texts, vocab_size):
    """Learn merges until there are `vocab_size` tokens."""
    counts = Counter(word for text in texts for word in split_words(text))
    words = [(list(spell(word)), count) for word, count in sorted(counts.items())]
    pair_counts, holders = Counter(), defaultdict(set)
    for index, (parts, count) in enumerate(words):
        for pair in zip(parts, parts[1:]):
            pair_counts[pair] += count
            holders[pair].add(index)

    merges, tokens = [], {*SPECIALS, *ALPHABET.values()}
    while len(tokens) < vocab_size:
        # Ties are broken by the pair itself, so that a rerun learns the same.
        best = max(pair_counts, key=lambda pair: (pair_counts[pair], pair))
        merges.append(best)
        tokens.add("".join(best))
        for index in holders.pop(best):
            parts, count = words[index]
            for pair in zip(parts, parts[1:]):
                pair_counts[pair] -= count
            join(parts, best)
            for pair in zip(parts, parts[1:]):
                pair_counts[pair] += count
                holders[pair].add(index)
        del pair_counts[best]
    return Tokenizer(merges)


def join(parts, pair):
    """Replace each occurrence of the pair in the list by its concatenation."""
    index = 0
    while index < len(parts) - 1:
        if (parts[index], parts[index + 1]) == pair:
            parts[index : index + 2] = ["".join(pair)]
        index += 1
