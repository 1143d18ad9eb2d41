// The health check of gRPC, called without its generated code: the request is empty, the answer is
// one enum in field 1.

#include <google/protobuf/unknown_field_set.h>
#include <grpcpp/generic/generic_stub.h>

#include "client/cli/api.h"

namespace sae::cli {
namespace {

std::string ServingState(std::string bytes) {
  static constexpr const char* kNames[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
  google::protobuf::UnknownFieldSet set;
  std::uint64_t state = 0;
  if (set.ParseFromString(bytes)) {
    for (int i = 0; i < set.field_count(); ++i) {
      const auto& f = set.field(i);
      if (f.number() == 1 && f.type() == google::protobuf::UnknownField::TYPE_VARINT)
        state = f.varint();
    }
  }
  return state < 4 ? kNames[state] : "UNKNOWN";
}

}  // namespace

absl::StatusOr<std::string> Api::CheckHealth() {
  grpc::GenericStub stub(control_);
  grpc::ClientContext context;
  SetDeadline(context);
  grpc::CompletionQueue queue;
  const grpc::Slice empty;
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                          grpc::ByteBuffer(&empty, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);  // returns by the call's deadline at the latest
  queue.Shutdown();
  if (!status.ok()) return ToStatus(status);
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (answer.Dump(&slices).ok()) {
    for (const grpc::Slice& s : slices)
      bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  return ServingState(bytes);
}

}  // namespace sae::cli
