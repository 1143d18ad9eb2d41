#include <array>
#include <utility>

#include "absl/strings/match.h"

#include "sae/comm/rendezvous.h"

namespace sae::comm {
namespace {

class OverCommunicator final : public Rendezvous {
 public:
  /// All ranks of `whole` call it.
  static absl::StatusOr<std::unique_ptr<Rendezvous>> Make(Communicator& whole, int color, int key) {
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, whole.Split(color, key));
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> call, group->Split(0, group->rank()));
    return std::unique_ptr<Rendezvous>(
        std::make_unique<OverCommunicator>(std::move(group), std::move(call)));
  }
  OverCommunicator(std::unique_ptr<Communicator> group, std::unique_ptr<Communicator> call)
      : group_(std::move(group)), call_(std::move(call)) {}
  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }

  absl::Status Publish(const std::string& key, const std::string& blob) override {
    std::string text = key + blob;
    std::array<std::int64_t, 2> sizes{static_cast<std::int64_t>(key.size()),
                                      static_cast<std::int64_t>(blob.size())};
    SAE_RETURN_IF_ERROR(group_->Broadcast(sizes.data(), 2, DType::kI64, rank()));
    return group_->Broadcast(text.data(), sizes[0] + sizes[1], DType::kU8, rank());
  }

  absl::StatusOr<std::string> Fetch(const std::string& key, int publisher,
                                    absl::Duration /*deadline*/) override {
    std::array<std::int64_t, 2> sizes{};
    SAE_RETURN_IF_ERROR(group_->Broadcast(sizes.data(), 2, DType::kI64, publisher));
    std::string text(static_cast<std::size_t>(sizes[0] + sizes[1]), '\0');
    SAE_RETURN_IF_ERROR(group_->Broadcast(text.data(), sizes[0] + sizes[1], DType::kU8, publisher));
    const std::string found = text.substr(0, static_cast<std::size_t>(sizes[0]));
    if (found != key) {
      return absl::InvalidArgumentError(absl::StrCat("rendezvous: rank ", rank(), " asks for '",
                                                     key, "', rank ", publisher, " publishes '",
                                                     found, "'"));
    }
    return text.substr(found.size());
  }

  absl::Status RollCall(const std::string& key, absl::Duration /*grace*/) override {
    call_->Abort(key);  // the others see that without a call of their own
    return group_->Barrier();
  }
  bool Called(const std::string& key) override {
    const absl::Status call = call_->Check();
    return absl::IsAborted(call) && absl::EndsWith(Message(call), absl::StrCat(": ", key));
  }
  void Abort(const std::string& reason) override { group_->Abort(reason); }
  absl::Status Check() override { return group_->Check(); }

  absl::StatusOr<std::unique_ptr<Rendezvous>> Split(int color, int key, int rank,
                                                    int size) override {
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Rendezvous> part, Make(*group_, color, key));
    if (part->rank() != rank || part->size() != size) {
      return absl::InternalError(absl::StrCat("rendezvous: rank ", part->rank(), " of ",
                                              part->size(), " in the part, the transport says ",
                                              rank, " of ", size));
    }
    return part;
  }

 private:
  const std::unique_ptr<Communicator> group_;
  const std::unique_ptr<Communicator> call_;  // its abort calls all to the roll call
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>> CreateRendezvous(Communicator& communicator) {
  return OverCommunicator::Make(communicator, 0, communicator.rank());
}

}  // namespace sae::comm
