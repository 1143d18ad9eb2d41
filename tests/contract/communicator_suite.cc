#include "tests/contract/communicator_suite.h"

#include <algorithm>
#include <cmath>

#include "tests/contract/communicator_data.h"

namespace sae::comm::contract {
namespace {

absl::Status AllReduceEveryTypeAndOp(Communicator& c) {
  for (const std::int64_t count : {0, 1, 3, 1000, 9001}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
      const absl::Status status = ForEveryType([&]<class E>(E) -> absl::Status {
        Bytes data = Fill<E>(c.rank(), count);
        SAE_RETURN_IF_ERROR(c.AllReduce(data.data(), count, E::kDType, op));
        return Expect(Reduced<E>(c.size(), count, 0, op), data,
                      absl::StrCat("AllReduce of ", count, " ", E::kName));
      });
      SAE_RETURN_IF_ERROR(status);
    }
  }
  return absl::OkStatus();
}

absl::Status ReduceScatterEveryTypeAndOp(Communicator& c) {
  for (const std::int64_t count : {0, 1, 7, 3001}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
      const absl::Status status = ForEveryType([&]<class E>(E) -> absl::Status {
        const Bytes input = Fill<E>(c.rank(), count * c.size());
        Bytes output(static_cast<std::size_t>(count) * sizeof(typename E::Type));
        SAE_RETURN_IF_ERROR(c.ReduceScatter(input.data(), output.data(), count, E::kDType, op));
        return Expect(Reduced<E>(c.size(), count, c.rank() * count, op), output,
                      absl::StrCat("ReduceScatter of ", count, " ", E::kName));
      });
      SAE_RETURN_IF_ERROR(status);
    }
  }
  return absl::OkStatus();
}

// Sums whose value depends on the order of additions: only rank order gives these bits.
absl::Status SumsAddInRankOrder(Communicator& c) {
  for (const std::int64_t count : {5, 50000}) {
    std::vector<float> data(static_cast<std::size_t>(count));
    std::vector<float> expected(data.size(), 0.0F);
    for (int r = 0; r < c.size(); ++r) {
      for (std::size_t i = 0; i < data.size(); ++i) {
        const auto value = static_cast<float>(std::sin(static_cast<double>(i + 1) * (r + 1)) *
                                              std::pow(10.0, (r * 7 + static_cast<int>(i)) % 9));
        expected[i] = r == 0 ? value : expected[i] + value;
        if (r == c.rank()) data[i] = value;
      }
    }
    SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(data)));
    if (data != expected)
      return absl::InternalError(absl::StrCat("sum of ", count, " floats is not in rank order"));
  }
  return absl::OkStatus();
}

absl::Status AllGatherUneven(Communicator& c) {
  for (const std::int64_t unit : {0, 1, 300, 3000}) {
    std::vector<std::int64_t> counts;
    for (int r = 0; r < c.size(); ++r)
      counts.push_back(r % 3 == 1 ? 0 : unit * (r + 1));  // rank 1 gives nothing
    const absl::Status status = ForEveryType([&]<class E>(E) -> absl::Status {
      const Bytes input = Fill<E>(c.rank(), counts[static_cast<std::size_t>(c.rank())]);
      Bytes expected;
      for (int r = 0; r < c.size(); ++r) {
        const Bytes part = Fill<E>(r, counts[static_cast<std::size_t>(r)]);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      Bytes output(expected.size());
      SAE_RETURN_IF_ERROR(c.AllGatherV(input.data(), output.data(), counts, E::kDType));
      return Expect(expected, output, absl::StrCat("AllGatherV of ", unit, " ", E::kName));
    });
    SAE_RETURN_IF_ERROR(status);
  }
  const double mine = c.rank() + 0.5;
  std::vector<double> all(static_cast<std::size_t>(c.size()));
  SAE_RETURN_IF_ERROR(c.AllGather(std::span<const double>(&mine, 1), std::span<double>(all)));
  for (int r = 0; r < c.size(); ++r) {
    if (all[static_cast<std::size_t>(r)] != r + 0.5)
      return absl::InternalError("AllGather misplaced a part");
  }
  return absl::OkStatus();
}

absl::Status AllToAllTransposes(Communicator& c) {
  for (const std::int64_t count : {0, 1, 257, 4000}) {
    std::vector<std::int64_t> input;
    std::vector<std::int64_t> expected;
    for (int peer = 0; peer < c.size(); ++peer) {
      for (std::int64_t i = 0; i < count; ++i) {
        input.push_back(c.rank() * 1000000 + peer * 100000 + i);
        expected.push_back(peer * 1000000 + c.rank() * 100000 + i);
      }
    }
    std::vector<std::int64_t> output(input.size(), -1);
    SAE_RETURN_IF_ERROR(c.AllToAll(input.data(), output.data(), count, DType::kI64));
    if (output != expected)
      return absl::InternalError(absl::StrCat("AllToAll of ", count, " is wrong"));
  }
  return absl::OkStatus();
}

/// What rank a sends to rank b: nothing on some pairs, and much where both are large.
std::int64_t PairCount(int a, int b, std::int64_t unit) { return (a + 2 * b) % 3 * unit; }

absl::Status AllToAllUneven(Communicator& c) {
  for (const std::int64_t unit : {0, 1, 129, 2000}) {
    std::vector<std::int64_t> send, receive;
    std::vector<std::int32_t> input, expected;
    for (int peer = 0; peer < c.size(); ++peer) {
      send.push_back(PairCount(c.rank(), peer, unit));
      receive.push_back(PairCount(peer, c.rank(), unit));
      for (std::int64_t i = 0; i < send.back(); ++i)
        input.push_back(static_cast<std::int32_t>(c.rank() * 1000000 + peer * 10000 + i));
      for (std::int64_t i = 0; i < receive.back(); ++i)
        expected.push_back(static_cast<std::int32_t>(peer * 1000000 + c.rank() * 10000 + i));
    }
    std::vector<std::int32_t> output(expected.size(), -1);
    const std::int64_t before = c.bytes_sent();
    SAE_RETURN_IF_ERROR(c.AllToAllV(input.data(), send, output.data(), receive, DType::kI32));
    if (output != expected)
      return absl::InternalError(absl::StrCat("AllToAllV of ", unit, " is wrong"));
    if (c.bytes_sent() - before != static_cast<std::int64_t>(input.size()) * 4)
      return absl::InternalError("AllToAllV counts other bytes than it sends");
  }
  return absl::OkStatus();
}

absl::Status AllGatherEqualEveryType(Communicator& c) {
  for (const std::int64_t count : {0, 1, 5, 2049}) {
    const absl::Status status = ForEveryType([&]<class E>(E) -> absl::Status {
      const Bytes input = Fill<E>(c.rank(), count);
      Bytes expected;
      for (int r = 0; r < c.size(); ++r) {
        const Bytes part = Fill<E>(r, count);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      Bytes output(expected.size());
      SAE_RETURN_IF_ERROR(c.AllGatherEqual(input.data(), output.data(), count, E::kDType));
      return Expect(expected, output, absl::StrCat("AllGatherEqual of ", count, " ", E::kName));
    });
    SAE_RETURN_IF_ERROR(status);
  }
  std::vector<float> few(1), output(static_cast<std::size_t>(c.size()) + 1);
  const absl::Status bad = c.AllGather(std::span<const float>(few), std::span<float>(output));
  return absl::IsInvalidArgument(bad) ? absl::OkStatus() : absl::InternalError(bad.ToString());
}

// The own part of a gather may already lie in its place.
absl::Status AllGatherInPlace(Communicator& c) {
  const std::int64_t count = 777;
  std::vector<std::int64_t> counts;
  std::vector<float> expected;
  for (int r = 0; r < c.size(); ++r) {
    counts.push_back(count + r);
    for (std::int64_t i = 0; i < counts.back(); ++i)
      expected.push_back(static_cast<float>(r * 10000 + i));
  }
  std::vector<float> data(expected.size(), -1);
  std::int64_t at = 0;
  for (int r = 0; r < c.rank(); ++r) at += counts[static_cast<std::size_t>(r)];
  const std::int64_t own = counts[static_cast<std::size_t>(c.rank())];
  std::copy_n(expected.begin() + at, own, data.begin() + at);
  SAE_RETURN_IF_ERROR(c.AllGatherV(data.data() + at, data.data(), counts, DType::kF32));
  return data == expected ? absl::OkStatus() : absl::InternalError("a gather in place is wrong");
}

absl::Status BroadcastFromEveryRoot(Communicator& c) {
  for (int root = 0; root < c.size(); ++root) {
    for (const std::int64_t count : {0, 1, 9999}) {
      const absl::Status status = ForEveryType([&]<class E>(E) -> absl::Status {
        Bytes data = Fill<E>(c.rank(), count);
        SAE_RETURN_IF_ERROR(c.Broadcast(data.data(), count, E::kDType, root));
        return Expect(Fill<E>(root, count), data, absl::StrCat("Broadcast from ", root));
      });
      SAE_RETURN_IF_ERROR(status);
    }
  }
  return absl::OkStatus();
}

absl::Status ManyOperationsInARow(Communicator& c) {
  for (int step = 0; step < 300; ++step) {
    std::int64_t value = c.rank() + step;
    SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<std::int64_t>(&value, 1)));
    const std::int64_t expected =
        static_cast<std::int64_t>(c.size()) * (c.size() - 1) / 2 + c.size() * step;
    if (value != expected)
      return absl::InternalError(absl::StrCat("step ", step, ": ", value, " for ", expected));
    if (step % 50 != 0) continue;
    SAE_RETURN_IF_ERROR(c.Synchronize());
    SAE_RETURN_IF_ERROR(c.Barrier());
  }
  return absl::OkStatus();
}

absl::Status CountsBytes(Communicator& c) {
  const std::int64_t before = c.bytes_sent();
  std::vector<float> data(static_cast<std::size_t>(8 * c.size()));
  std::vector<float> out(static_cast<std::size_t>(8 * c.size() * c.size()));
  const auto step = [&](std::int64_t expected, std::int64_t start,
                        const char* name) -> absl::Status {
    if (c.bytes_sent() - start == expected) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat(name, " counted ", c.bytes_sent() - start, " bytes for ", expected));
  };
  SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(data)));
  SAE_RETURN_IF_ERROR(step(32 * c.size(), before, "AllReduce"));
  std::int64_t start = c.bytes_sent();
  SAE_RETURN_IF_ERROR(c.ReduceScatter(data.data(), out.data(), 8, DType::kF32, ReduceOp::kSum));
  SAE_RETURN_IF_ERROR(step(32 * c.size(), start, "ReduceScatter"));
  start = c.bytes_sent();
  SAE_RETURN_IF_ERROR(c.AllGather(std::span<const float>(data.data(), 8),
                                  std::span<float>(out.data(), data.size())));
  SAE_RETURN_IF_ERROR(step(32, start, "AllGatherV"));
  start = c.bytes_sent();
  SAE_RETURN_IF_ERROR(c.Broadcast(data.data(), 8, DType::kF32, 0));
  SAE_RETURN_IF_ERROR(step(c.rank() == 0 ? 32 : 0, start, "Broadcast"));
  start = c.bytes_sent();
  SAE_RETURN_IF_ERROR(c.Barrier());
  return step(0, start, "Barrier");
}

absl::Status CountsByPurpose(Communicator& c) {
  std::vector<float> data(static_cast<std::size_t>(4 * c.size()));
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(0, c.rank()));
  const Traffic::Count first = c.traffic().Of("select.first");
  const Traffic::Count other = c.traffic().Of("other");
  c.SetPurpose("select.first");
  part->SetPurpose("gradient");
  SAE_RETURN_IF_ERROR(c.AllGather(std::span<const float>(data.data(), 4), std::span<float>(data)));
  SAE_RETURN_IF_ERROR(part->AllReduceSum(std::span<float>(data)));
  SAE_RETURN_IF_ERROR(part->AllReduceSum(std::span<float>(data.data(), 1)));
  c.SetPurpose("other");
  SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(data.data(), 2)));
  const auto same = [&](const char* label, const Traffic::Count& before, std::int64_t bytes,
                        std::int64_t calls) -> absl::Status {
    const Traffic::Count now = c.traffic().Of(label);
    if (now.bytes - before.bytes == bytes && now.calls - before.calls == calls)
      return absl::OkStatus();
    return absl::InternalError(absl::StrCat(label, " counts ", now.bytes - before.bytes,
                                            " bytes in ", now.calls - before.calls, " calls"));
  };
  SAE_RETURN_IF_ERROR(same("select.first", first, 16, 1));
  SAE_RETURN_IF_ERROR(same("gradient", {}, 16 * c.size() + 4, 2));
  SAE_RETURN_IF_ERROR(same("other", other, 8, 1));
  if (part->bytes_sent() != 16 * c.size() + 4)
    return absl::InternalError("a part counts what its whole sent");
  return absl::OkStatus();
}

}  // namespace

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all = {
        {"AllReduceEveryTypeAndOp", 1, absl::Seconds(60), AllReduceEveryTypeAndOp},
        {"ReduceScatterEveryTypeAndOp", 1, absl::Seconds(60), ReduceScatterEveryTypeAndOp},
        {"SumsAddInRankOrder", 1, absl::Seconds(60), SumsAddInRankOrder, true},
        {"AllGatherUneven", 1, absl::Seconds(60), AllGatherUneven},
        {"AllGatherEqualEveryType", 1, absl::Seconds(60), AllGatherEqualEveryType},
        {"AllGatherInPlace", 1, absl::Seconds(60), AllGatherInPlace},
        {"AllToAllTransposes", 1, absl::Seconds(60), AllToAllTransposes},
        {"AllToAllUneven", 1, absl::Seconds(60), AllToAllUneven},
        {"BroadcastFromEveryRoot", 1, absl::Seconds(60), BroadcastFromEveryRoot},
        {"ManyOperationsInARow", 1, absl::Seconds(60), ManyOperationsInARow},
        {"CountsBytes", 1, absl::Seconds(60), CountsBytes},
        {"CountsByPurpose", 1, absl::Seconds(60), CountsByPurpose},
    };
    AppendParts(all);
    AppendFailures(all);
    return all;
  }();
  return cases;
}

}  // namespace sae::comm::contract
