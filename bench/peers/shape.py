"""What one measurement trains: the same numbers for ours and for a peer. Plain values, no imports of a peer."""
import dataclasses
import json

ARCHITECTURES = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu_l1")


@dataclasses.dataclass
class Shape:
    architecture: str = "topk"
    latents: int = 16384
    width: int = 576
    k: int = 32
    batch: int = 4096
    share: float = 0.0        # of latents that fire per token in relu_l1, jumprelu, gated; 0 = k / latents
    lr: float = 0.0           # 0 = the library's own
    lr_factor: float = 1.0    # times the library's own
    steps: int = 1000000      # of the run, for schedules; timing runs never reach it
    coefficient: float = 0.0  # of the sparsity penalty; 0 = the library's own (1e-9 when timing, so that L0 stays)
    target_l0: float = 0.0    # jumprelu, where the library takes one
    seed: int = 0

    @property
    def firing(self):
        return self.share or self.k / self.latents

    @property
    def prefixes(self):
        """Matryoshka's rising widths: n/16, n/8, n/4, n/2, n."""
        return [self.latents >> s for s in (4, 3, 2, 1, 0)]

    def to_json(self):
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text):
        return Shape(**json.loads(text))
