"""Ray's own floor: a transport that moves no bytes. What a handoff costs beyond it is the transport's share."""

from __future__ import annotations

from typing import Any

import torch

from ray_hixl import process
from ray_hixl.errors import NotAvailable
from ray_hixl.ray import compat
from ray_hixl.ray.metadata import ObjectMetadata
from ray_hixl.ray.transport import HiXLTensorTransport
from ray_hixl.tensors import TensorMetaSequence

NAME = "HIXL_BENCH_FLOOR"


class FloorTransport(HiXLTensorTransport):
    """Metadata as lazy as ours, results out of ``torch.empty``: contents are undefined."""

    def tensor_transport_backend(self) -> str:
        return NAME

    def extract_tensor_transport_metadata(self, obj_id: str, rdt_object: list[torch.Tensor]) -> ObjectMetadata:
        packed = process.engine().publish_error(rdt_object, NotAvailable("the floor moves no bytes"))
        device = rdt_object[0].device.type if rdt_object else "cpu"
        return ObjectMetadata(TensorMetaSequence(packed), compat.tensor_device(device))

    def recv_multiple_tensors(self, obj_id: str, metadata: Any, communicator_metadata: Any, target_buffers: Any = None) -> Any:
        device = getattr(metadata.tensor_device, "type", metadata.tensor_device)  # of Ray 2.54
        return [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in metadata.tensor_meta]

    def fetch_multiple_tensors(self, obj_id: str, metadata: Any, communicator_metadata: Any, target_buffers: Any = None) -> Any:
        tensors = self.recv_multiple_tensors(obj_id, metadata, communicator_metadata)
        return compat.FetchRequest(obj_id=obj_id, tensors=tensors)

    def wait_fetch_complete(self, fetch_request: Any, timeout: float = -1) -> Any:
        return fetch_request.tensors

    def garbage_collect(self, obj_id: str, tensor_transport_meta: Any, tensors: Any = None) -> None:
        return None

    def abort_transport(self, obj_id: str, communicator_metadata: Any) -> None:
        return None


def register() -> None:
    """In this process; the bench's actors do it when they import their module."""
    if compat.registered_class(NAME) is None:
        compat.register_transport(NAME, ["cpu", "npu"], FloorTransport)
