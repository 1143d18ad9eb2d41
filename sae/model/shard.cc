#include "sae/model/shard.h"

#include <limits>

#include "sae/base/check.h"
#include "sae/base/random.h"

namespace sae::model {
namespace {

constexpr int kRounds = 4;

// A permutation of [0, 4^half_bits).
class Feistel {
 public:
  Feistel(std::int64_t latents, std::int64_t seed) : seed_(static_cast<std::uint64_t>(seed)) {
    SAE_CHECK_MSG(latents >= 1 && latents <= std::numeric_limits<std::int32_t>::max(),
                  "%ld latents", static_cast<long>(latents));
    while (std::uint64_t{1} << 2 * half_ < static_cast<std::uint64_t>(latents)) ++half_;
    mask_ = (std::uint64_t{1} << half_) - 1;
  }

  std::uint64_t Forward(std::uint64_t v) const {
    std::uint64_t left = v >> half_, right = v & mask_;
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t next = left ^ Mix(round, right);
      left = right;
      right = next;
    }
    return left << half_ | right;
  }

  std::uint64_t Backward(std::uint64_t v) const {
    std::uint64_t left = v >> half_, right = v & mask_;
    for (int round = kRounds - 1; round >= 0; --round) {
      const std::uint64_t before = right ^ Mix(round, left);
      right = left;
      left = before;
    }
    return left << half_ | right;
  }

 private:
  std::uint64_t Mix(int round, std::uint64_t half) const {
    return HashCounter(seed_, static_cast<std::uint64_t>(round), half) & mask_;
  }

  std::uint64_t seed_;
  int half_ = 0;
  std::uint64_t mask_ = 0;
};

void CheckPlace(std::int64_t latents, std::int64_t at) {
  SAE_CHECK_MSG(at >= 0 && at < latents, "%ld of %ld latents", static_cast<long>(at),
                static_cast<long>(latents));
}

// The cycle of a permutation of a larger set leads back into [0, n): the first such place.
std::int64_t Walk(const Feistel& feistel, std::int64_t latents, std::int64_t at, bool forward) {
  auto v = static_cast<std::uint64_t>(at);
  do {
    v = forward ? feistel.Forward(v) : feistel.Backward(v);
  } while (v >= static_cast<std::uint64_t>(latents));
  return static_cast<std::int64_t>(v);
}

}  // namespace

std::int64_t DealPlace(std::int64_t latents, std::int64_t latent, std::int64_t seed) {
  CheckPlace(latents, latent);
  return Walk(Feistel(latents, seed), latents, latent, true);
}

std::int64_t LatentAtPlace(std::int64_t latents, std::int64_t place, std::int64_t seed) {
  CheckPlace(latents, place);
  return Walk(Feistel(latents, seed), latents, place, false);
}

LatentShard ShardOf(std::int64_t latents, int ranks, int rank, std::int64_t seed) {
  SAE_CHECK_MSG(ranks >= 1 && rank >= 0 && rank < ranks && latents % ranks == 0,
                "rank %d of %d, %ld latents", rank, ranks, static_cast<long>(latents));
  LatentShard shard{latents, latents / ranks, seed, nullptr};
  if (ranks == 1) return shard;
  const Feistel feistel(latents, seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.count));
  for (std::int64_t j = 0; j < shard.count; ++j) {
    ids[static_cast<std::size_t>(j)] =
        static_cast<std::int32_t>(Walk(feistel, latents, rank * shard.count + j, false));
  }
  std::sort(ids.begin(), ids.end());
  shard.ids = std::make_shared<const std::vector<std::int32_t>>(std::move(ids));
  return shard;
}

LatentShard LatentShard::Part(std::int64_t first, std::int64_t last) const {
  SAE_CHECK_MSG(first >= 0 && first <= last && last <= count, "local latents %ld to %ld of %ld",
                static_cast<long>(first), static_cast<long>(last), static_cast<long>(count));
  if (first == 0 && last == count) return *this;
  std::vector<std::int32_t> part;
  part.reserve(static_cast<std::size_t>(last - first));
  for (std::int64_t i = first; i < last; ++i) part.push_back(static_cast<std::int32_t>(Global(i)));
  return {latents, last - first, seed, std::make_shared<const std::vector<std::int32_t>>(part)};
}

std::vector<std::uint8_t> VirtualBlocks(const LatentShard& shard, std::int64_t blocks) {
  SAE_CHECK_MSG(blocks >= 1 && blocks <= 256 && shard.latents % blocks == 0, "%ld blocks of %ld",
                static_cast<long>(blocks), static_cast<long>(shard.latents));
  const Feistel feistel(shard.latents, shard.seed);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(shard.count));
  for (std::int64_t i = 0; i < shard.count; ++i) {
    const std::int64_t place = Walk(feistel, shard.latents, shard.Global(i), true);
    out[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(place / (shard.latents / blocks));
  }
  return out;
}

}  // namespace sae::model
