"""Two Ray actors on two NPUs hand tensors to each other through hixl: no collective group, no object store, no copy through the CPU.

Runs on a machine with two Ascend NPUs, CANN and torch_npu. Without any, ``make demo-npu`` runs it over the FAKE CANN of the tests.
"""

import ray
import torch
import torch_npu  # noqa: F401  # torch imports it by itself, unless TORCH_DEVICE_BACKEND_AUTOLOAD=0

import ray_hixl

ray_hixl.register()  # here, before "hixl" is named


@ray.remote(enable_tensor_transport=True, resources={"NPU": 1})
class Prefill:
    @ray.method(tensor_transport="hixl")
    def kv_cache(self, layers: int) -> list[torch.Tensor]:
        return [torch.full((2, 128, 8, 64), float(layer), device="npu") for layer in range(layers)]


@ray.remote(enable_tensor_transport=True, resources={"NPU": 1})
class Decode:
    def attend(self, cache: list[torch.Tensor]) -> str:
        mean = sum(layer.cpu().mean().item() for layer in cache)
        return f"{mean} from {len(cache)} tensors on {cache[0].device} of {torch.npu.get_device_name()}"

    def moved(self) -> dict:
        return {transport: bytes_moved for transport, bytes_moved in ray_hixl.stats()["fetched"].items() if bytes_moved}


def main() -> None:
    ray.init(runtime_env=ray_hixl.runtime_env())  # and in every process of the job; Ray finds the NPUs by itself
    prefill, decode = Prefill.remote(), Decode.remote()
    cache = prefill.kv_cache.remote(layers=16)  # stays on the prefill actor's NPU
    print("decode got", ray.get(decode.attend.remote(cache)))  # bytes go straight from NPU to NPU
    print("moved", ray.get(decode.moved.remote()))


if __name__ == "__main__":
    main()
