"""KV caches in blocks, as inference engines keep them: the decode actor READs just the blocks that it lacks into free blocks of its own.

Both actors register their whole cache once. A request is a block table and a *lease*, a region that the prefill actor closes before it uses
the blocks for others: every read names the lease, too, so that it fails where it would have brought other tokens' blocks.

Run it: python examples/paged_kv.py [--device npu]
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import ray
import torch
from prefill_decode import Transformer

import ray_hixl
from ray_hixl.process import engine

BLOCK = 16  # tokens


class Request(NamedTuple):
    """A prompt that was prefilled."""

    blocks: list[int]
    lease: bytes
    first: int


class Cache:
    """Of each layer a tensor of blocks, (blocks, 2, heads, BLOCK, width / heads), registered as it is."""

    def __init__(self, blocks: int, layers: int, heads: int, width: int, device: str) -> None:
        self.layers = [torch.zeros(blocks, 2, heads, BLOCK, width // heads, device=device) for _ in range(layers)]
        self.regions = [engine().register(layer) for layer in self.layers]
        self.block_bytes = self.layers[0][0].nbytes
        self.free = list(reversed(range(blocks)))  # taken from the end: neighbours travel as one piece

    def store(self, blocks: list[int], cache: list[torch.Tensor]) -> None:
        for layer, tokens in zip(self.layers, cache, strict=True):
            for block, part in zip(blocks, tokens.split(BLOCK, dim=2), strict=True):
                layer[block, :, :, : part.shape[2]] = part
        if self.layers[0].device.type == "npu":
            torch.npu.current_stream().synchronize()  # a READ waits for no stream

    def load(self, blocks: list[int], tokens: int) -> list[torch.Tensor]:
        return [torch.cat([layer[block] for block in blocks], dim=2)[:, :, :tokens] for layer in self.layers]


@ray.remote
class Prefill:
    def __init__(self, blocks: int, *model: object) -> None:
        self.model, self.cache = Transformer(*model), Cache(blocks, *model)
        self.leases = {}  # regions, by their descriptors

    def address(self) -> tuple[bytes, list[bytes]]:
        """For ``Decode``: secrets, both."""
        return engine().descriptor, [region.descriptor for region in self.cache.regions]

    def prefill(self, prompt: list[int]) -> Request:
        first, cache = self.model.step(prompt)
        blocks = [self.cache.free.pop() for _ in range(0, len(prompt), BLOCK)]
        self.cache.store(blocks, cache)
        lease = engine().register(bytearray(1))
        self.leases[lease.descriptor] = lease
        return Request(blocks, lease.descriptor, first)

    def release(self, request: Request) -> None:
        self.leases.pop(request.lease).close()  # first: from here on no read of these blocks succeeds
        self.cache.free += reversed(request.blocks)


@ray.remote
class Decode:
    def __init__(self, address: tuple[bytes, list[bytes]], blocks: int, *model: object) -> None:
        self.model, self.cache = Transformer(*model), Cache(blocks, *model)
        self.known: dict[tuple[int, ...], int] = {}  # blocks here, by all the tokens up to their end; the oldest first
        self.peer = engine().connect(address[0])
        self.remotes = [self.peer.region(descriptor) for descriptor in address[1]]

    def decode(self, prompt: list[int], request: Request, count: int) -> tuple[list[int], int, dict[str, int]]:
        """The tokens, how many blocks were here already, and the bytes that were read."""
        ends = [tuple(prompt[: start + BLOCK]) for start in range(0, len(prompt), BLOCK)]
        missing = [index for index, end in enumerate(ends) if end not in self.known]
        blocks = self._take(len(missing), ends)
        try:
            moved = self._read([request.blocks[index] for index in missing], blocks, request.lease) if missing else {}
        except ray_hixl.HixlError:
            self.cache.free += reversed(blocks)
            raise
        self.known |= {ends[index]: block for index, block in zip(missing, blocks, strict=True)}
        cache = self.cache.load([self.known[end] for end in ends], len(prompt))
        return self.model.generate(request.first, cache, count), len(ends) - len(missing), moved

    def alone(self, prompt: list[int], count: int) -> list[int]:
        """The same tokens, made in this process alone."""
        return self.model.generate(*self.model.step(prompt), count)

    def _take(self, count: int, needed: list[tuple[int, ...]]) -> list[int]:
        """Free blocks; the oldest of others, where there are not enough."""
        while len(self.cache.free) < count:
            oldest = next(end for end in self.known if end not in needed)
            self.cache.free.append(self.known.pop(oldest))
        return [self.cache.free.pop() for _ in range(count)]

    def _read(self, theirs: list[int], ours: list[int], lease: bytes) -> dict[str, int]:
        """One READ: an op for each block of each layer, and one without bytes for the lease, which is looked at when all have come."""
        layers, size = len(self.remotes), self.cache.block_bytes
        layer = torch.arange(layers).repeat_interleave(len(ours))

        def and_lease(ops: torch.Tensor, of_lease: int = 0) -> torch.Tensor:
            return torch.cat([ops, torch.tensor([of_lease])])

        to, at = (and_lease(torch.tensor(blocks).repeat(layers) * size) for blocks in (ours, theirs))
        remotes, remote = [*self.remotes, self.peer.region(lease)], and_lease(layer, of_lease=layers)
        nbytes = and_lease(torch.full_like(layer, size))
        read = self.peer.read_async(self.peer.prepare(self.cache.regions, and_lease(layer), to, remotes, remote, at, nbytes))
        read.wait()
        return read.bytes_by_transport()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cpu", help="cpu or npu")
    options.add_argument("--layers", type=int, default=8)
    options.add_argument("--heads", type=int, default=8)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--tokens", type=int, default=16, help="to be made for each prompt")
    wanted = options.parse_args()

    ray.init(runtime_env=ray_hixl.runtime_env())
    place = {"resources": {"NPU": 1}, "num_cpus": 0} if wanted.device == "npu" else {}  # num_cpus: else each holds a core, too
    model = (wanted.layers, wanted.heads, wanted.width, wanted.device)
    prefill = Prefill.options(**place).remote(64, *model)
    decode = Decode.options(**place).remote(ray.get(prefill.address.remote()), 64, *model)

    system = [(7 * i) % 512 for i in range(200)]  # what all prompts begin with: 12 whole blocks
    for number in range(3):
        prompt = system + [(number + 5 * i) % 512 for i in range(60)]
        request = ray.get(prefill.prefill.remote(prompt))
        tokens, hits, moved = ray.get(decode.decode.remote(prompt, request, wanted.tokens))
        expected = ray.get(decode.alone.remote(prompt, wanted.tokens))
        assert tokens == expected, f"{tokens} instead of {expected}"
        print(f"request {number}: {len(request.blocks)} blocks, {hits} of them known, {moved} read; {tokens}, as in one process")
        ray.get(prefill.release.remote(request))

    prompt = [3] * 100
    late = ray.get(prefill.prefill.remote(prompt))
    ray.get(prefill.release.remote(late))
    other = ray.get(prefill.prefill.remote([4] * 100))
    assert set(other.blocks) == set(late.blocks)
    try:
        raise AssertionError(f"tokens of another request: {ray.get(decode.decode.remote(prompt, late, wanted.tokens))}")
    except ray_hixl.InvalidRegion as error:
        print(f"a released request, whose blocks hold another one's tokens: {error.cause}")


if __name__ == "__main__":
    main()
