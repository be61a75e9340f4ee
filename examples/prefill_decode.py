"""Prefill in one Ray actor, decode in another: the KV cache of all layers goes from the one to the other by hixl.

Run it: python examples/prefill_decode.py [--device npu]
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import ray
import torch

import ray_hixl

ray_hixl.register()  # here, before "hixl" is named


class Block(NamedTuple):
    """The weights of one layer."""

    qkv: torch.Tensor
    out: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


class Transformer:
    """Decoder only, fp32, greedy. Its weights come out of a seed, which stands for one checkpoint that is loaded in several places."""

    def __init__(self, layers: int, heads: int, width: int, device: str, vocabulary: int = 512, context: int = 2048) -> None:
        random = torch.Generator().manual_seed(1)

        def weight(rows: int, columns: int) -> torch.Tensor:
            return (torch.randn(rows, columns, generator=random) * width**-0.5).to(device)

        self.heads = heads
        self.device = device
        self.tokens = weight(vocabulary, width)
        self.positions = weight(context, width)
        sizes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
        self.blocks = [Block(*(weight(*size) for size in sizes)) for _ in range(layers)]

    def step(self, tokens: list[int], cache: list[torch.Tensor] | None = None) -> tuple[int, list[torch.Tensor]]:
        """The token after these, and the cache with these in it: keys and values of each layer, (2, heads, tokens, width / heads)."""
        past, count = cache[0].shape[2] if cache else 0, len(tokens)
        mask = torch.full((count, past + count), -1e9).triu(past + 1).to(self.device)
        position = self.positions[past : past + count]
        x = torch.nn.functional.embedding(torch.tensor(tokens, device=self.device), self.tokens) + position
        grown = []
        for layer, block in enumerate(self.blocks):
            query, *key_value = (normalized(x) @ block.qkv).view(count, 3, self.heads, -1).permute(1, 2, 0, 3)
            new = torch.stack(key_value)
            key, value = both = torch.cat([cache[layer], new], dim=2) if cache else new
            weights = torch.softmax(query @ key.transpose(1, 2) * query.shape[-1] ** -0.5 + mask, dim=-1)
            x = x + (weights @ value).transpose(0, 1).reshape(count, -1) @ block.out
            x = x + torch.relu(normalized(x) @ block.up) @ block.down
            grown.append(both)
        logits = normalized(x[-1:]) @ self.tokens.t()
        return int(logits.argmax(-1)), grown

    def generate(self, token: int, cache: list[torch.Tensor], count: int) -> list[int]:
        """``token`` and what follows it, ``count`` tokens in all."""
        made = [token]
        while len(made) < count:
            token, cache = self.step([token], cache)
            made.append(token)
        return made


def normalized(x: torch.Tensor) -> torch.Tensor:
    """Each row scaled to a mean square of 1."""
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)


@ray.remote(enable_tensor_transport=True)
class Prefill:
    def __init__(self, *model: object) -> None:
        self.model = Transformer(*model)

    @ray.method(tensor_transport="hixl")  # the tensors of the result stay here until somebody fetches them
    def prefill(self, prompt: list[int]) -> tuple[int, list[torch.Tensor]]:
        """The first token, and the cache."""
        return self.model.step(prompt)


@ray.remote(enable_tensor_transport=True)  # receivers need it, too: without it transfers can hang
class Decode:
    def __init__(self, *model: object) -> None:
        self.model = Transformer(*model)

    def decode(self, prefilled: tuple[int, list[torch.Tensor]], count: int) -> list[int]:
        """``count`` tokens. The cache is here already, on this actor's device."""
        return self.model.generate(*prefilled, count)

    def alone(self, prompt: list[int], count: int) -> list[int]:
        """The same tokens, made in this process alone."""
        return self.model.generate(*self.model.step(prompt), count)

    def moved(self) -> dict[str, int]:
        return {transport: count for transport, count in ray_hixl.stats()["fetched"].items() if count}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cpu", help="cpu or npu")
    options.add_argument("--layers", type=int, default=8)
    options.add_argument("--heads", type=int, default=8)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--prompt", type=int, default=500, help="tokens of the longest prompt")
    options.add_argument("--tokens", type=int, default=16, help="to be made for each prompt")
    wanted = options.parse_args()

    ray.init(runtime_env=ray_hixl.runtime_env())  # and in every process of the job
    place = {"resources": {"NPU": 1}, "num_cpus": 0} if wanted.device == "npu" else {}  # num_cpus: else each holds a core, too
    model = (wanted.layers, wanted.heads, wanted.width, wanted.device)
    prefill = Prefill.options(**place).remote(*model)
    decode = Decode.options(**place).remote(*model)
    prompts = [[(17 * i + 31 * n) % 512 for i in range(wanted.prompt // n)] for n in (1, 2, 3)]

    # Nobody waits here: while one request is decoded the next one is prefilled.
    made = ray.get([decode.decode.remote(prefill.prefill.remote(prompt), wanted.tokens) for prompt in prompts])
    moved = ray.get(decode.moved.remote())
    for prompt, tokens in zip(prompts, made, strict=True):
        expected = ray.get(decode.alone.remote(prompt, wanted.tokens))
        assert tokens == expected, f"{tokens} instead of {expected}"
        print(f"prompt of {len(prompt)} tokens -> {tokens}, as in one process")
    cache = sum(2 * 4 * wanted.layers * wanted.width * len(prompt) for prompt in prompts)
    assert sum(moved.values()) == cache, f"{moved} instead of {cache} bytes"
    print(f"the decode actor fetched {moved}: {wanted.layers} layers, {len(prompts)} requests")


if __name__ == "__main__":
    main()
