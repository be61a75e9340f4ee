"""Two Ray actors hand tensors to each other through hixl: no collective group, no object store."""

import ray
import torch

import ray_hixl

ray_hixl.register()  # here, before "hixl" is named


@ray.remote(enable_tensor_transport=True)
class Prefill:
    @ray.method(tensor_transport="hixl")
    def kv_cache(self, layers: int) -> list[torch.Tensor]:
        return [torch.full((2, 128, 8, 64), float(layer)) for layer in range(layers)]


@ray.remote(enable_tensor_transport=True)  # receivers need it, too: without it transfers can hang
class Decode:
    def attend(self, cache: list[torch.Tensor]) -> float:
        return sum(layer.mean().item() for layer in cache)

    def moved(self) -> dict:
        return ray_hixl.stats()["fetched"]


def main() -> None:
    ray.init(runtime_env=ray_hixl.runtime_env())  # and in every process of the job
    prefill, decode = Prefill.remote(), Decode.remote()
    cache = prefill.kv_cache.remote(layers=16)  # stays in the prefill actor
    print("decode got", ray.get(decode.attend.remote(cache)))  # bytes go straight from actor to actor
    print("moved", ray.get(decode.moved.remote()))
    print("the driver can fetch it, too:", ray.get(cache)[3].mean().item())


if __name__ == "__main__":
    main()
