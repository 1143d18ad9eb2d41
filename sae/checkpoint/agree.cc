#include "sae/checkpoint/agree.h"

#include <cstdint>

namespace sae::checkpoint {

absl::Status BroadcastText(comm::Communicator& communicator, std::string& text, int root) {
  auto size = static_cast<std::int64_t>(text.size());
  SAE_RETURN_IF_ERROR(communicator.Broadcast(&size, 1, DType::kI64, root));
  text.resize(static_cast<std::size_t>(size));
  if (size == 0) return absl::OkStatus();
  return communicator.Broadcast(text.data(), size, DType::kU8, root);
}

absl::Status Agree(comm::Communicator& communicator, const absl::Status& mine) {
  if (communicator.size() == 1) return mine;
  std::int64_t first_bad = mine.ok() ? communicator.size() : communicator.rank();
  SAE_RETURN_IF_ERROR(communicator.AllReduce(&first_bad, 1, DType::kI64, comm::ReduceOp::kMin));
  if (first_bad == communicator.size()) return absl::OkStatus();
  const int root = static_cast<int>(first_bad);
  auto code = static_cast<std::int64_t>(mine.raw_code());
  std::string message = Message(mine);
  SAE_RETURN_IF_ERROR(communicator.Broadcast(&code, 1, DType::kI64, root));
  SAE_RETURN_IF_ERROR(BroadcastText(communicator, message, root));
  return {static_cast<absl::StatusCode>(code), absl::StrCat("rank ", root, ": ", message)};
}

}  // namespace sae::checkpoint
