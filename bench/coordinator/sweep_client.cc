#include "bench/coordinator/sweep_client.h"

#include <chrono>

#include "bench/coordinator/fill.h"
#include "proto/convert/channel_options.h"
#include "proto/convert/sweep_convert.h"

namespace sae::bench {
namespace v1 = saeloom::v1;
namespace {

void Limit(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
}

}  // namespace

SweepClient::SweepClient(const std::string& address)
    : sweeps_(v1::SweepService::NewStub(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                    ClientChannelArguments(ChannelUse::kControl)))) {}

grpc::Status SweepClient::Submit(const std::string& name, int trials) {
  v1::CreateSweepRequest request;
  const auto spec = config::ParseSweepSpec(SweepJson(name, trials));
  if (!spec.ok()) return {grpc::StatusCode::INTERNAL, Message(spec.status())};
  *request.mutable_spec() = ToProto(*spec);
  request.set_request_id("bench-" + name);
  grpc::ClientContext context;
  Limit(context);
  v1::Sweep sweep;
  return sweeps_->CreateSweep(&context, request, &sweep);
}

grpc::Status SweepClient::Get(const std::string& name, v1::Sweep& sweep) {
  v1::GetSweepRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  Limit(context);
  return sweeps_->GetSweep(&context, request, &sweep);
}

}  // namespace sae::bench
