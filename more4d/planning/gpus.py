"""GPUs that people have, and how fast and how large they are taken to be."""

from dataclasses import dataclass

GIB = 2**30

TRANSFORMER_SHARE = 0.5
"""Of a GPU's rate, reached by transformers: what this project aims at, not a measurement."""
CODEC_SHARE = 0.2
"""Of a GPU's rate, reached by convolutions over large pictures: an assumption."""
ORDINARY_SHARE = 0.3
"""Of the rate from pinned host memory, reached from ordinary memory: an assumption."""
CPU_CORE_FLOPS = 40e9
"""Operations per second and core, measured with the bundled networks on one core of an AMD EPYC server:
`benchmarks/results/plan_cpu.json`."""
RESERVED_GIB = 1.5
"""Of a GPU's memory, for its driver, for what kernels use inside and for gaps: an assumption."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: as people call it.
        class_gb: the memory it is sold with.
        memory_gib: what programs see of that, about.
        tflops: peak rate of dense bfloat16 products with float32 sums, by its maker.
        from_host: bytes per second from pinned host memory, about 0.8 of its bus (PCI Express 4 or 5).
    """

    name: str
    class_gb: int
    memory_gib: float
    tflops: float
    from_host: float

    @property
    def usable_bytes(self) -> int:
        """Memory that tensors may fill."""
        return round((self.memory_gib - RESERVED_GIB) * GIB)

    @property
    def from_ordinary_host(self) -> float:
        """Bytes per second from host memory that is not pinned; in modes model and fp8 nothing else is."""
        return ORDINARY_SHARE * self.from_host

    def seconds(self, flops: int | float, share: float) -> float:
        """Time of so many operations at a share of the peak rate."""
        return flops / (self.tflops * 1e12 * share)


GPUS = (
    Gpu(name="RTX 4090", class_gb=24, memory_gib=23.5, tflops=165.2, from_host=25e9),
    Gpu(name="RTX A6000", class_gb=48, memory_gib=47.4, tflops=154.8, from_host=25e9),
    Gpu(name="A100", class_gb=80, memory_gib=79.1, tflops=311.9, from_host=25e9),
    Gpu(name="H100", class_gb=80, memory_gib=79.1, tflops=989.4, from_host=50e9),
    Gpu(name="H200", class_gb=141, memory_gib=139.8, tflops=989.4, from_host=50e9),
)

MEMORY_CLASSES = tuple({gpu.class_gb: gpu for gpu in GPUS}.values())
"""One GPU per size of memory."""
