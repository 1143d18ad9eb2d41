"""saprmarks/dictionary_learning 0.1: each trainer's update(step, rows), as its trainSAE loop calls it."""
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer

from rows import quantiles

BATCH = ("batchtopk", "matryoshka")


class Peer:
    input_scale = 1.0  # trainSAE(normalize_activations=True) brings E|x|^2 to 1

    def __init__(self, shape, option):
        torch.manual_seed(shape.seed)
        self.shape = shape
        common = dict(steps=shape.steps, activation_dim=shape.width, dict_size=shape.latents, layer=0, lm_name="none",
                      device="cpu", seed=shape.seed, warmup_steps=min(1000, shape.steps // 20),
                      decay_start=shape.steps * 4 // 5)
        if shape.lr:
            common.update(lr=shape.lr, warmup_steps=0, decay_start=None)
        elif shape.lr_factor != 1:
            own = {"jumprelu": 7e-5, "gated": 5e-5, "relu_l1": 1e-3}  # the defaults of its trainers
            common["lr"] = shape.lr_factor * own.get(shape.architecture, 2e-4 / (shape.latents / 2**14) ** 0.5)
        if shape.architecture in ("topk", "batchtopk", "matryoshka"):
            common["k"] = shape.k
            if shape.steps < 5000:  # its threshold's defaults are for longer runs
                common.update(threshold_start_step=shape.steps // 2, threshold_beta=0.99)
        else:
            common["sparsity_warmup_steps"] = None if shape.lr else min(2000, shape.steps // 10)
        self.trainer = getattr(self, "_" + shape.architecture)(common)
        self.trainers = [self.trainer]
        if option == "list":  # of trainers that its trainSAE takes through each batch: pack_bench's trials
            self.trainers = [TopKTrainer(**dict(common, k=16 + 8 * (i // 2), lr=1e-4 if i % 2 == 0 else 3e-4, seed=i))
                             for i in range(8)]
            self.trainer = self.trainers[0]

    def _topk(self, common):
        return TopKTrainer(**common)

    def _batchtopk(self, common):
        return BatchTopKTrainer(**common)

    def _matryoshka(self, common):
        widths = [0] + self.shape.prefixes
        return MatryoshkaBatchTopKTrainer(**common, group_fractions=[(b - a) / widths[-1] for a, b in zip(widths, widths[1:])])

    def _jumprelu(self, common):
        if self.shape.coefficient:
            common["sparsity_penalty"] = self.shape.coefficient
        return JumpReluTrainer(**common, target_l0=self.shape.target_l0 or self.shape.k)

    def _gated(self, common):
        if self.shape.coefficient:
            common["l1_penalty"] = self.shape.coefficient
        return GatedSAETrainer(**common)

    def _relu_l1(self, common):
        if self.shape.coefficient:
            common["l1_penalty"] = self.shape.coefficient
        return StandardTrainer(**common)

    @torch.no_grad()
    def calibrate(self, x, share):
        ae = self.trainer.ae
        if self.shape.architecture == "relu_l1":
            ae.encoder.bias.copy_(-quantiles(ae.encoder.weight, x, share))
        elif self.shape.architecture == "gated":
            ae.gate_bias.copy_(-quantiles(ae.encoder.weight, x, share))
        elif self.shape.architecture == "jumprelu":
            ae.threshold.copy_(quantiles(ae.W_enc.T, x, share))

    def train(self, batches):
        for step, x in enumerate(batches):
            for trainer in self.trainers:
                trainer.update(step, x)

    def decoder(self):
        ae = self.trainer.ae
        return ae.W_dec if hasattr(ae, "W_dec") else ae.decoder.weight.T

    def reconstruct(self, x, training):
        ae = self.trainer.ae
        if self.shape.architecture in BATCH:
            codes = ae.encode(x, use_threshold=not training)
        else:
            codes = ae.encode(x)
        return codes, ae.decode(codes)
