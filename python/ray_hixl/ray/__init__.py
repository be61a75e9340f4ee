"""The Ray side of ray_hixl. Importing it imports Ray and torch."""

from ray_hixl.ray.answers import answer
from ray_hixl.ray.checks import check
from ray_hixl.ray.errors import rebuild
from ray_hixl.ray.metadata import ObjectMetadata, TransferMetadata
from ray_hixl.ray.registration import register, register_hixl_tensor_transport, runtime_env
from ray_hixl.ray.transport import HiXLTensorTransport

# Where a process meets them pickled, it imports this package, and none of its modules by name: of two threads that import a package and one
# of its modules at the same time Python can call one a deadlock.
for _pickled in (HiXLTensorTransport, ObjectMetadata, TransferMetadata, answer, rebuild):
    _pickled.__module__ = __name__

__all__ = ["HiXLTensorTransport", "check", "register", "register_hixl_tensor_transport", "runtime_env"]
