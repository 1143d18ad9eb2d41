#!/usr/bin/env python3
"""Writes the SAELens cases named in CASES below, each with what SAELens computes from it: golden.safetensors with
x, f, x_hat (a transcoder's output). Run by hand with a Python that has sae-lens 6.54 (tools/peers_env.sh); tests read
the files alone.

    PYTHONHASHSEED=0 make_saelens.py OUT_DIR
"""
import os
import sys
import tempfile

import torch
import sae_lens as sl
from safetensors.torch import save_file
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.transcoder import (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, JumpReLUTranscoder,
                                      JumpReLUTranscoderConfig)

D, D_OUT, N, K, ROWS = 12, 10, 32, 5, 16
PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")


def weights(seed, d_out=D):
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g)
    return {
        "W_enc": normal(D, N) / D**0.5,
        "b_enc": 0.3 * normal(N) - 0.1,
        "W_dec": normal(N, d_out) / d_out**0.5,
        "b_dec": 0.5 * normal(d_out),
        "threshold": 0.05 + 0.6 * torch.rand(N, generator=g),
        "W_skip": normal(d_out, D) / D**0.5,
        "topk_threshold": torch.tensor(0.6 + 1e-9, dtype=torch.float64),
    }


def stable_inputs(seed, encode):
    """Inputs whose active latents do not depend on the last bits of the arithmetic."""
    g = torch.Generator().manual_seed(seed + 1000)
    x = 1.3 * torch.randn(8 * ROWS, D, generator=g) + 0.4 * torch.randn(D, generator=g)
    active = encode(x) != 0
    good = torch.ones(len(x), dtype=torch.bool)
    for _ in range(8):
        good &= ((encode(x * (1 + 3e-5 * torch.randn(x.shape, generator=g))) != 0) == active).all(dim=1)
    assert good.sum() >= ROWS
    return x[good][:ROWS].contiguous()


def metadata(hook_out=None):
    m = SAEMetadata(model_name="gpt2", model_class_name="HookedTransformer", hook_name="blocks.8.hook_resid_pre",
                    context_size=128, prepend_bos=True)
    if hook_out:
        m.hook_name_out = hook_out
    return m


def case(root, name, sae, seed, tensors, d_out=D):
    values = weights(seed, d_out)
    own = {**dict(sae.named_parameters()), **dict(sae.named_buffers())}
    for tensor in tensors:
        assert own[tensor].shape == values[tensor].shape, tensor
        own[tensor].data.copy_(values[tensor])
    path = os.path.join(root, name)
    sae.save_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(sae, sl.TrainingSAE):  # what SAELens publishes of it
            sae.save_inference_model(scratch)
        loaded = sl.SAE.load_from_disk(scratch if isinstance(sae, sl.TrainingSAE) else path, device="cpu").eval()
    x = stable_inputs(seed, loaded.encode)
    out = {"x": x, "f": loaded.encode(x), "x_hat": loaded(x)}
    save_file({k: v.float().contiguous() for k, v in out.items()}, os.path.join(path, "golden.safetensors"))
    print(name, type(sae).__name__, sorted(os.listdir(path)))


@torch.no_grad()
def main():
    root = sys.argv[1]
    torch.set_num_threads(1)
    base = dict(d_in=D, d_sae=N)
    trans = dict(**base, d_out=D_OUT, apply_b_dec_to_input=False)
    meta, mlp = metadata, lambda: metadata("blocks.8.hook_mlp_out")
    case(root, "topk_training", sl.TopKTrainingSAE(sl.TopKTrainingSAEConfig(**base, k=K, metadata=meta())), 11, PLAIN)
    case(root, "batchtopk_training",
         sl.BatchTopKTrainingSAE(sl.BatchTopKTrainingSAEConfig(**base, k=K, metadata=meta())), 12,
         (*PLAIN, "topk_threshold"))
    case(root, "matryoshka_training",
         sl.MatryoshkaBatchTopKTrainingSAE(sl.MatryoshkaBatchTopKTrainingSAEConfig(
             **base, k=K, matryoshka_widths=[8, 16, N], rescale_acts_by_decoder_norm=False, metadata=meta())), 13,
         (*PLAIN, "topk_threshold"))
    case(root, "jumprelu_training", sl.JumpReLUTrainingSAE(sl.JumpReLUTrainingSAEConfig(**base, metadata=meta())), 14,
         (*PLAIN, "threshold"))
    case(root, "skip_transcoder", sl.SkipTranscoder(sl.SkipTranscoderConfig(**trans, metadata=mlp())), 15,
         (*PLAIN, "W_skip"), D_OUT)
    case(root, "jumprelu_transcoder", JumpReLUTranscoder(JumpReLUTranscoderConfig(**trans, metadata=mlp())), 16,
         (*PLAIN, "threshold"), D_OUT)
    case(root, "jumprelu_skip_transcoder",
         JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**trans, metadata=mlp())), 17,
         (*PLAIN, "threshold", "W_skip"), D_OUT)
    case(root, "standard_layer_norm",
         sl.StandardSAE(sl.StandardSAEConfig(**base, normalize_activations="layer_norm", metadata=meta())), 18, PLAIN)
    case(root, "skip_transcoder_layer_norm",
         sl.SkipTranscoder(sl.SkipTranscoderConfig(**trans, normalize_activations="layer_norm", metadata=mlp())), 19,
         (*PLAIN, "W_skip"), D_OUT)
    case(root, "topk_constant_norm",
         sl.TopKSAE(sl.TopKSAEConfig(**base, k=K, normalize_activations="constant_norm_rescale", metadata=meta())), 20,
         PLAIN)


main()
