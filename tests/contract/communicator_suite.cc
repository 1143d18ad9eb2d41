#include "tests/contract/communicator_suite.h"

#include <cmath>
#include <thread>

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

absl::Status SplitOrdersByKey(Communicator& c) {
  // Odd and even ranks, in reverse order.
  const int color = c.rank() % 2;
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(color, -c.rank()));
  const int members = (c.size() + 1 - color) / 2;
  if (part->size() != members)
    return absl::InternalError(absl::StrCat("a part of ", part->size(), " ranks"));
  if (part->rank() != members - 1 - c.rank() / 2)
    return absl::InternalError("the key does not order ranks");
  std::int64_t sum = c.rank();
  SAE_RETURN_IF_ERROR(part->AllReduceSum(std::span<std::int64_t>(&sum, 1)));
  std::int64_t expected = 0;
  for (int r = color; r < c.size(); r += 2) expected += r;
  if (sum != expected) return absl::InternalError("the part's sum is not over its members");
  // Equal keys: by rank; and the parent still works between uses of its part.
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> all, c.Split(7, 0));
  if (all->rank() != c.rank() || all->size() != c.size())
    return absl::InternalError("equal keys keep rank order");
  SAE_RETURN_IF_ERROR(c.Barrier());
  SAE_RETURN_IF_ERROR(all->Barrier());
  return part->Barrier();
}

absl::Status RefusesBadArguments(Communicator& c) {
  const auto bad = [](const absl::Status& s) {
    return absl::IsInvalidArgument(s)
               ? absl::OkStatus()
               : absl::InternalError(absl::StrCat("a bad argument gave ", s.ToString()));
  };
  float x = 0;
  SAE_RETURN_IF_ERROR(bad(c.AllReduce(&x, -1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.AllReduce(nullptr, 1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.ReduceScatter(&x, nullptr, 1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.AllToAll(&x, &x, -5, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.Broadcast(&x, 1, DType::kF32, c.size())));
  SAE_RETURN_IF_ERROR(bad(c.Broadcast(&x, 1, DType::kF32, -1)));
  const std::vector<std::int64_t> few(static_cast<std::size_t>(c.size() - 1), 1);
  SAE_RETURN_IF_ERROR(bad(c.AllGatherV(&x, &x, few, DType::kF32)));
  const std::vector<std::int64_t> negative(static_cast<std::size_t>(c.size()), -1);
  SAE_RETURN_IF_ERROR(bad(c.AllGatherV(&x, &x, negative, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.Split(-1, 0).status()));
  return c.Barrier();  // and the group is as good as before
}

absl::Status MismatchIsRefused(Communicator& c) {
  std::vector<float> data(static_cast<std::size_t>(100 + c.rank()));
  const absl::Status status = c.AllReduceSum(std::span<float>(data));
  if (absl::IsInvalidArgument(status)) return absl::OkStatus();
  // A rank that is not yet told may see that another one gave up.
  if (absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("different sizes gave ", status.ToString()));
}

absl::Status MissingRankIsNamed(Communicator& c) {
  const int missing = c.size() - 1;
  if (c.rank() == missing) return absl::OkStatus();
  std::vector<float> data(10000, 1.0F);
  const absl::Status status = c.AllReduceSum(std::span<float>(data));
  if (!absl::IsDeadlineExceeded(status))
    return absl::InternalError(absl::StrCat("got ", status.ToString()));
  if (Message(status).find(absl::StrCat("rank ", missing, " ")) == std::string::npos) {
    return absl::InternalError(
        absl::StrCat("rank ", missing, " is not named: ", status.ToString()));
  }
  const absl::Status later = c.Barrier();
  if (!absl::IsAborted(later))
    return absl::InternalError(absl::StrCat("later: ", later.ToString()));
  return absl::OkStatus();
}

absl::Status AbortUnblocksAndSticks(Communicator& c) {
  const int last = c.size() - 1;
  absl::Status status;
  if (c.rank() == last) {
    c.Abort("out of paper");
    status = c.Barrier();
  } else {
    std::vector<double> data(5000, 1.0);
    status = c.AllReduceSum(std::span<double>(data));  // would wait until the deadline
  }
  for (int call = 0; call < 3; ++call) {
    if (!absl::IsAborted(status))
      return absl::InternalError(absl::StrCat("call ", call, ": ", status.ToString()));
    if (Message(status).find("out of paper") == std::string::npos) {
      return absl::InternalError(absl::StrCat("the reason is lost: ", status.ToString()));
    }
    status = c.Barrier();
  }
  return absl::OkStatus();
}

absl::Status AbortFromAnotherThread(Communicator& c) {
  if (c.rank() == c.size() - 1) {
    std::thread other([&c] { c.Abort("from a thread"); });
    other.join();
  }
  const absl::Status status = c.Barrier();
  // A rank may have left the barrier's last message behind only if all had come: nobody has.
  return absl::IsAborted(status) || c.size() == 1 ? absl::OkStatus()
                                                  : absl::InternalError(status.ToString());
}

absl::Status AbortReachesParts(Communicator& c) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(c.rank() == 0 ? 0 : 1, 0));
  if (c.rank() == 0) {
    c.Abort("the whole");
    return absl::OkStatus();
  }
  absl::Status status;
  while (status.ok()) status = part->Barrier();
  return absl::IsAborted(status) ? absl::OkStatus() : absl::InternalError(status.ToString());
}

}  // namespace

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"AllReduceEveryTypeAndOp", 1, absl::Seconds(60), AllReduceEveryTypeAndOp},
      {"ReduceScatterEveryTypeAndOp", 1, absl::Seconds(60), ReduceScatterEveryTypeAndOp},
      {"SumsAddInRankOrder", 1, absl::Seconds(60), SumsAddInRankOrder},
      {"AllGatherUneven", 1, absl::Seconds(60), AllGatherUneven},
      {"AllToAllTransposes", 1, absl::Seconds(60), AllToAllTransposes},
      {"BroadcastFromEveryRoot", 1, absl::Seconds(60), BroadcastFromEveryRoot},
      {"ManyOperationsInARow", 1, absl::Seconds(60), ManyOperationsInARow},
      {"CountsBytes", 1, absl::Seconds(60), CountsBytes},
      {"SplitOrdersByKey", 1, absl::Seconds(60), SplitOrdersByKey},
      {"RefusesBadArguments", 1, absl::Seconds(60), RefusesBadArguments},
      {"MismatchIsRefused", 2, absl::Milliseconds(300), MismatchIsRefused},
      {"MissingRankIsNamed", 2, absl::Milliseconds(300), MissingRankIsNamed},
      {"AbortUnblocksAndSticks", 1, absl::Seconds(60), AbortUnblocksAndSticks},
      {"AbortFromAnotherThread", 1, absl::Seconds(60), AbortFromAnotherThread},
      {"AbortReachesParts", 2, absl::Seconds(60), AbortReachesParts},
  };
  return cases;
}

}  // namespace sae::comm::contract
