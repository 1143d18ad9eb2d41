"""KempnerInstitute/overcomplete 0.3: train_sae with Adam, without monitoring (its fastest setting)."""
import torch
from overcomplete.sae import SAE, BatchTopKSAE, JumpSAE, TopKSAE
from overcomplete.sae.losses import mse_l1
from overcomplete.sae.train import train_sae

from rows import quantiles


def squared_error(x, x_hat, pre_codes, codes, dictionary):
    del pre_codes, codes, dictionary
    return (x - x_hat).square().mean()


class Peer:
    input_scale = 1.0

    def __init__(self, shape, option):
        del option
        torch.manual_seed(shape.seed)
        self.shape = shape
        self.criterion = squared_error
        if shape.architecture == "topk":
            self.sae = TopKSAE(shape.width, shape.latents, top_k=shape.k)
        elif shape.architecture == "batchtopk":
            self.sae = BatchTopKSAE(shape.width, shape.latents, top_k=shape.k * shape.batch)
        else:
            self.sae = (JumpSAE if shape.architecture == "jumprelu" else SAE)(shape.width, shape.latents)
            penalty = shape.coefficient or 1e-4
            # Its l1 sums over the batch too.
            self.criterion = lambda *args: mse_l1(*args, penalty=penalty / shape.batch / shape.width)

    @torch.no_grad()
    def calibrate(self, x, share):
        linear = self.sae.encoder.final_block[0]
        if self.shape.architecture == "relu_l1":
            linear.bias.copy_(-quantiles(linear.weight, x, share))
        elif self.shape.architecture == "jumprelu":
            linear.bias.zero_()
            self.sae.thresholds.copy_(quantiles(linear.weight, x, share).clamp_min(1e-6).log())

    def train(self, batches):
        lr = self.shape.lr or self.shape.lr_factor * 2e-4 / (self.shape.latents / 2**14) ** 0.5  # it has none of its own
        optimizer = torch.optim.Adam(self.sae.parameters(), lr=lr)
        train_sae(self.sae, batches, self.criterion, optimizer, nb_epochs=1, monitoring=0)

    def decoder(self):
        return self.sae.dictionary._weights

    def reconstruct(self, x, training):
        self.sae.train(training)
        _, codes = self.sae.encode(x)
        return codes, self.sae.decode(codes)
