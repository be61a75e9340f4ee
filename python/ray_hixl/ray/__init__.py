"""The Ray side of ray_hixl. Importing it imports Ray and torch."""

from ray_hixl.ray.registration import register, runtime_env
from ray_hixl.ray.transport import HiXLTensorTransport

__all__ = ["HiXLTensorTransport", "register", "runtime_env"]
