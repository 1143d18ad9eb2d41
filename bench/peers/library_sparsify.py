"""EleutherAI/sparsify 1.3: TopK through its own Trainer.fit, activations coming from a model that replays rows."""
import os
import tempfile
import types

os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")  # Triton has no CPU backend

import torch
from sparsify import SaeConfig, TrainConfig, Trainer


class Replay(torch.nn.Module):
    """Stands for the hooked layer: gives the next batch of rows as one sequence of B positions."""

    def __init__(self, width):
        super().__init__()
        self.width, self.batches = width, None

    def forward(self, ids):
        if ids.numel() == 1:  # the trainer asks for the width
            return torch.zeros(1, 1, self.width)
        return next(self.batches)[None]


class Model(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.ModuleList([Replay(width)])
        self.config = types.SimpleNamespace(num_hidden_layers=1)
        self.device = torch.device("cpu")
        self.dummy_inputs = {"x": torch.zeros(1, 1, dtype=torch.long)}

    @property
    def base_model(self):
        return self

    def forward(self, x):
        return self.layers[0](x)


class Sequences(torch.utils.data.Dataset):
    def __init__(self, steps, batch):
        self.steps, self.ids = steps, torch.arange(1, batch + 1)

    def __len__(self):
        return self.steps

    def __getitem__(self, i):
        if i >= self.steps:
            raise IndexError(i)
        return {"input_ids": self.ids}


class Peer:
    """option: the optimizer, signum (the default as shipped) or adam."""
    input_scale = None  # rows as they are

    def __init__(self, shape, option):
        self.model = Model(shape.width)
        self.folder = tempfile.TemporaryDirectory()
        own = {"signum": 5e-3, "adam": 2e-4}[option or "signum"] / (shape.latents / 2**14) ** 0.5  # as its Trainer has it
        lr = shape.lr or own * shape.lr_factor
        config = TrainConfig(SaeConfig(num_latents=shape.latents, k=shape.k), batch_size=1, optimizer=option or "signum",
                             lr=lr, lr_warmup_steps=0 if shape.lr else min(1000, shape.steps // 20), layers=[0],
                             init_seeds=[shape.seed], log_to_wandb=False, save_every=10**9, save_dir=self.folder.name)
        self.trainer = Trainer(config, Sequences(shape.steps, shape.batch), self.model)
        self.sae = next(iter(self.trainer.saes.values()))

    def calibrate(self, x, share):
        """TopK has its L0 by construction."""

    def train(self, batches):
        self.model.layers[0].batches = batches
        self.trainer.fit()

    def decoder(self):
        return self.sae.W_dec

    def reconstruct(self, x, training):
        for optimizer in self.trainer.optimizers:  # a schedule-free one evaluates at another point
            if not training and hasattr(optimizer, "eval"):
                optimizer.eval()
        acts, indices, _ = self.sae.encode(x)
        return acts, self.sae.decode(acts, indices)
