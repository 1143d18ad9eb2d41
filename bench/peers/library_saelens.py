"""SAELens 6: SAETrainer.fit over an iterator of rows."""
import tempfile

import torch
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes import (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, GatedTrainingSAE, GatedTrainingSAEConfig,
                           JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAE,
                           MatryoshkaBatchTopKTrainingSAEConfig, StandardTrainingSAE, StandardTrainingSAEConfig,
                           TopKTrainingSAE, TopKTrainingSAEConfig)
from sae_lens.training.sae_trainer import SAETrainer

from rows import quantiles


class Peer:
    """option: sparse = topk with use_sparse_activations (rescaling by decoder norms has no sparse backward, so without)."""

    def __init__(self, shape, option):
        torch.manual_seed(shape.seed)
        self.shape = shape
        self.input_scale = shape.width**0.5  # its normalisation "expected_average_only_in": E|x| = sqrt d
        common = dict(d_in=shape.width, d_sae=shape.latents)
        penalty = {"l1_coefficient": shape.coefficient} if shape.coefficient else {}
        makers = {
            "topk": lambda: TopKTrainingSAE(TopKTrainingSAEConfig(
                **common, k=shape.k, use_sparse_activations=option == "sparse",
                rescale_acts_by_decoder_norm=option != "sparse")),
            "batchtopk": lambda: BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common, k=shape.k)),
            "matryoshka": lambda: MatryoshkaBatchTopKTrainingSAE(MatryoshkaBatchTopKTrainingSAEConfig(
                **common, k=shape.k, matryoshka_widths=shape.prefixes)),
            "jumprelu": lambda: JumpReLUTrainingSAE(self._jumprelu_config(common)),
            "gated": lambda: GatedTrainingSAE(GatedTrainingSAEConfig(**common, **penalty)),
            "relu_l1": lambda: StandardTrainingSAE(StandardTrainingSAEConfig(**common, **penalty)),
        }
        self.sae = makers[shape.architecture]()
        self.inference = None

    def _jumprelu_config(self, common):
        shape, extra = self.shape, {}
        if shape.target_l0:
            extra = dict(jumprelu_sparsity_loss_mode="quadratic", target_l0=shape.target_l0)
        if shape.coefficient:
            extra["l0_coefficient"] = shape.coefficient
        return JumpReLUTrainingSAEConfig(**common, **extra)

    @torch.no_grad()
    def calibrate(self, x, share):
        cut = quantiles(self.sae.W_enc.T, x, share)
        if self.shape.architecture == "relu_l1":
            self.sae.b_enc.copy_(-cut)
        elif self.shape.architecture == "gated":
            self.sae.b_gate.copy_(-cut)
        elif self.shape.architecture == "jumprelu":
            self.sae.threshold.copy_(cut)

    def train(self, batches):
        steps, extra = self.shape.steps, {}
        lr = self.shape.lr or SAETrainerConfig.lr * self.shape.lr_factor
        if not self.shape.lr:
            extra = dict(lr_warm_up_steps=min(1000, steps // 20), lr_decay_steps=steps // 5)
        config = SAETrainerConfig(total_training_samples=steps * self.shape.batch, train_batch_size_samples=self.shape.batch,
                                  lr=lr, lr_end=lr / 10, device="cpu", **extra)
        SAETrainer(config, self.sae, iter(batches)).fit()

    def decoder(self):
        return self.sae.W_dec

    def reconstruct(self, x, training):
        """Else by its inference model, as saved and loaded after training: a batch top-k becomes a threshold there."""
        if not training and self.inference is None:
            with tempfile.TemporaryDirectory() as folder:
                self.sae.save_inference_model(folder)
                self.inference = SAE.load_from_disk(folder, device="cpu").eval()
        sae = self.sae if training else self.inference
        codes = sae.encode(x)
        output = sae.decode(codes)
        return (codes.to_dense() if codes.is_sparse else codes), output
