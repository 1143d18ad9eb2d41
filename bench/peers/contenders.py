"""Which programs meet in each case. Plain data, no imports of a peer."""
import dataclasses

# sparsify comes with two optimizers; "signum" is its default.
LIBRARIES = {
    "topk": ("sparsify", "sparsify:adam", "saelens:sparse", "saelens", "overcomplete", "dictionary_learning"),
    "batchtopk": ("overcomplete", "dictionary_learning", "saelens"),
    "matryoshka": ("dictionary_learning", "saelens"),
    "jumprelu": ("dictionary_learning", "overcomplete", "saelens"),
    "gated": ("dictionary_learning", "saelens"),
    "relu_l1": ("overcomplete", "dictionary_learning", "saelens"),
}
QUICK = {"topk": ("sparsify", "sparsify:adam")}  # elsewhere the first, the fastest in earlier runs

# glibc gives every large buffer back to the system on free; these keep it.
TUNED = {"MALLOC_TOP_PAD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_MMAP_THRESHOLD_": str(1 << 36)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One architecture in one regime; `ours` maps a name to further arguments of step_bench."""
    name: str
    architecture: str
    dense: bool = False  # half of the latents fire
    ours: tuple = (("float32", ()),)


CASES = (
    Case("topk", "topk", ours=(("float32", ()), ("certified", ("--certified",)))),
    Case("batchtopk", "batchtopk"),
    Case("matryoshka", "matryoshka"),
    Case("jumprelu", "jumprelu"),
    Case("gated", "gated"),
    Case("relu_l1", "relu_l1"),
    Case("relu_l1_dense", "relu_l1", dense=True),
)


def peers(case, tuned="none", quick=False, wanted=""):
    """(name, library, extra environment) of each peer; `tuned` is none, sparsify or all; `wanted` as a,b or all."""
    libraries = LIBRARIES[case.architecture]
    if wanted:
        libraries = [library for library in libraries if library.split(":")[0] in wanted.split(",")]
    elif quick:
        libraries = QUICK.get(case.architecture, libraries[:1])
    out = [(library, library, {}) for library in libraries]
    if tuned != "none":
        out += [(library + " tuned", library, TUNED) for library in libraries
                if tuned == "all" or library.startswith("sparsify")]
    return out
