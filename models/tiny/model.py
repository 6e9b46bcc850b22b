"""A Llama in PyTorch, small enough to train on a laptop's processor.

Written to match llama.cpp's `llama` architecture term by term: RMSNorm before
each block, rotary positions over interleaved pairs (so that the weights of Q
and K need no permutation on export), grouped keys and values, SwiGLU, and the
embedding used again as the output layer.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Every width is a multiple of 32, the block size of llama.cpp's quantised types."""

    vocab: int = 1536
    width: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 384
    context: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self):
        return self.width // self.heads


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotary_table(shape):
    """Cosines and sines of each position and pair: two tensors [context, head_width / 2]."""
    pairs = torch.arange(0, shape.head_width, 2) / shape.head_width
    angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-pairs)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Turn neighbouring elements (0, 1), (2, 3), … of [batch, heads, time, head_width]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, kv_width, bias=False)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x, cos, sin, mask):
        batch, time, width = x.shape
        shape = self.shape

        def split(y, heads):
            return y.view(batch, time, heads, shape.head_width).transpose(1, 2)

        q = rotate(split(self.q(x), shape.heads), cos, sin) * shape.head_width**-0.5
        k = rotate(split(self.k(x), shape.kv_heads), cos, sin)
        v = split(self.v(x), shape.kv_heads)
        # Neighbouring query heads share one head of keys and values: they stand
        # one below the other as the rows of one matrix, and nothing is copied.
        share = shape.heads // shape.kv_heads
        q = q.reshape(batch, shape.kv_heads, share * time, shape.head_width)
        weights = torch.softmax(q @ k.transpose(-2, -1) + mask.repeat(share, 1), -1)
        mixed = (weights @ v).view(batch, shape.heads, time, shape.head_width)
        return self.output(mixed.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.attention_norm = RMSNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape)
        self.hidden_norm = RMSNorm(shape.width, shape.norm_eps)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        h = self.hidden_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        cos, sin = rotary_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Start as a model that repeats what it has read, which is hard to come to by training.

        What attention reads of a token, it writes back as the same token: the
        output matrix is the transpose of V, and the scores are products with the
        embedding itself. From there, training has only to learn where to look.
        """
        shape = self.shape
        # As large as what the blocks will add to it, so that a token stays
        # recognisable in the residual stream. The last norm makes up for it.
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.constant_(self.norm.weight, shape.width**-0.5)
        for block in self.blocks:
            for linear in (block.attention.q, block.attention.k, block.attention.v, block.gate, block.up):
                nn.init.normal_(linear.weight, std=0.5 * shape.width**-0.5)
            nn.init.zeros_(block.down.weight)
            shared = block.attention.v.weight.view(shape.kv_heads, shape.head_width, shape.width)
            copies = shared.repeat_interleave(shape.heads // shape.kv_heads, 0)
            block.attention.output.weight.copy_(copies.reshape(shape.width, shape.width).T)

    def forward(self, ids):
        """Final hidden states [batch, time, width]; `logits` turns them into scores."""
        time = ids.shape[1]
        mask = torch.full((time, time), float("-inf")).triu(1)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos[:time], self.sin[:time], mask)
        return self.norm(x)

    def logits(self, hidden):
        return hidden @ self.embedding.weight.T

    def count_parameters(self):
        return sum(weight.numel() for weight in self.parameters())
