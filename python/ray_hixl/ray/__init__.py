"""The Ray side of ray_hixl. Importing it imports Ray and torch."""

from ray_hixl.ray.checks import check
from ray_hixl.ray.registration import register, register_hixl_tensor_transport, runtime_env
from ray_hixl.ray.transport import HiXLTensorTransport

__all__ = ["HiXLTensorTransport", "check", "register", "register_hixl_tensor_transport", "runtime_env"]
