"""Write a trained checkpoint as `tiny.gguf`.

    python3 export.py build/checkpoint.pt tiny.gguf
"""

import sys

import numpy as np
import torch

import tokenizer as bpe
from gguf import f32, i32, u32, write_gguf
from model import Llama, Shape

# The form of Phi-3, so that programs which cannot run Jinja and only know the
# common templates by sight render the same text. Tool results and other roles
# are read as the user's words, a developer's as the system's.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}"
    "{% elif message['role'] == 'system' or message['role'] == 'developer' %}{{ '<|system|>\\n' }}"
    "{% else %}{{ '<|user|>\\n' }}{% endif %}"
    "{{ message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

NORMAL, CONTROL = 1, 3
MOSTLY_F16 = 1


def metadata_of(shape, tokenizer):
    token_types = [i32(CONTROL if token in bpe.SPECIALS else NORMAL) for token in tokenizer.tokens]
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.description": "A very small chat and story model for demonstrations and tests.",
        "general.license": "apache-2.0",
        "general.languages": ["en"],
        "general.file_type": u32(MOSTLY_F16),
        "llama.vocab_size": u32(shape.vocab),
        "llama.context_length": u32(shape.context),
        "llama.embedding_length": u32(shape.width),
        "llama.block_count": u32(shape.layers),
        "llama.feed_forward_length": u32(shape.hidden),
        "llama.attention.head_count": u32(shape.heads),
        "llama.attention.head_count_kv": u32(shape.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(shape.norm_eps),
        "llama.rope.dimension_count": u32(shape.head_width),
        "llama.rope.freq_base": f32(shape.rope_base),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": token_types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer.merges],
        "tokenizer.ggml.bos_token_id": u32(tokenizer.id_of[bpe.BEGIN]),
        "tokenizer.ggml.eos_token_id": u32(tokenizer.id_of[bpe.END]),
        "tokenizer.ggml.eot_token_id": u32(tokenizer.id_of[bpe.END]),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def tensors_of(model):
    """Matrices in 16 bits; norms in 32, as llama.cpp wants them."""

    def half(weight):
        return weight.detach().numpy().astype(np.float16)

    def full(weight):
        return weight.detach().numpy().astype(np.float32)

    tensors = {"token_embd.weight": half(model.embedding.weight)}
    for index, block in enumerate(model.blocks):
        name = f"blk.{index}."
        tensors[name + "attn_norm.weight"] = full(block.attention_norm.weight)
        tensors[name + "attn_q.weight"] = half(block.attention.q.weight)
        tensors[name + "attn_k.weight"] = half(block.attention.k.weight)
        tensors[name + "attn_v.weight"] = half(block.attention.v.weight)
        tensors[name + "attn_output.weight"] = half(block.attention.output.weight)
        tensors[name + "ffn_norm.weight"] = full(block.hidden_norm.weight)
        tensors[name + "ffn_gate.weight"] = half(block.gate.weight)
        tensors[name + "ffn_up.weight"] = half(block.up.weight)
        tensors[name + "ffn_down.weight"] = half(block.down.weight)
    tensors["output_norm.weight"] = full(model.norm.weight)
    return tensors


def load(checkpoint_path):
    """The model and tokenizer of a checkpoint of `train.py`."""
    checkpoint = torch.load(checkpoint_path)
    model = Llama(Shape(**checkpoint["shape"]))
    model.load_state_dict(checkpoint["weights"])
    return model.eval(), bpe.Tokenizer(checkpoint["merges"])


def main():
    checkpoint_path, gguf_path = sys.argv[1:]
    model, tokenizer = load(checkpoint_path)
    write_gguf(gguf_path, metadata_of(model.shape, tokenizer), tensors_of(model))


if __name__ == "__main__":
    main()
