#include "worker/trainer/device.h"

#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "sae/checkpoint/agree.h"
#include "sae/comm/nccl/nccl.h"
#include "sae/comm/self/device_self.h"
#include "sae/comm/staging/staging.h"
#include "sae/kernels/cuda_runtime.h"

namespace saeloom::trainer {
namespace {

using sae::comm::Communicator;

absl::StatusOr<int> Choose(const DeviceOptions& options, int count) {
  if (count == 0) {
    return absl::NotFoundError(absl::StrCat(
        "device ", options.device, ": no GPU here: use cpu, or a build with SAE_WITH_CUDA"));
  }
  if (options.device == "cuda") return options.local_rank % count;
  int device = -1;
  const std::string prefix = "cuda:";
  const char* const end = options.device.data() + options.device.size();
  if (options.device.rfind(prefix, 0) == 0) {
    const auto parsed = std::from_chars(options.device.data() + prefix.size(), end, device);
    if (parsed.ec != std::errc() || parsed.ptr != end) device = -1;
  }
  if (device >= 0 && device < count) return device;
  return absl::InvalidArgumentError(
      absl::StrCat("device ", options.device, ": use cuda, or cuda:0 to cuda:", count - 1));
}

enum class Carrier { kAlone, kNccl, kHost };

absl::Status CheckCollectives(const std::string& name) {
  if (name == "auto" || name == "nccl" || name == "host") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("collectives ", name, ": use auto, nccl or host"));
}

/// The same answer on every rank.
absl::StatusOr<Carrier> ChooseCarrier(Communicator& host, const DeviceOptions& options, int count) {
  if (host.size() == 1) return Carrier::kAlone;
  if (options.collectives == "host") return Carrier::kHost;
  if (options.collectives == "nccl") return Carrier::kNccl;
  const bool shared = options.local_size > (options.device == "cuda" ? count : 1);
  std::int32_t good = sae::comm::HaveNccl() && !shared ? 1 : 0;
  SAE_RETURN_IF_ERROR(host.AllReduce(&good, 1, sae::DType::kI32, sae::comm::ReduceOp::kMin));
  return good == 1 ? Carrier::kNccl : Carrier::kHost;
}

}  // namespace

LocalRanks LocalRanksOf(const std::function<const char*(const char*)>& getenv) {
  const auto first = [&](std::initializer_list<const char*> names, int otherwise) {
    for (const char* name : names) {
      if (const char* value = getenv(name); value != nullptr) return std::atoi(value);
    }
    return otherwise;
  };
  return {.rank = first({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, 0),
          // Slurm writes "4(x2),3", a number for each run of hosts: the first one is taken.
          .size = first(
              {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE"}, 1)};
}

LocalRanks LocalRanksFromEnvironment() {
  return LocalRanksOf([](const char* name) -> const char* { return std::getenv(name); });
}

DeviceBackend CudaBackend() {
  return {.count = sae::kernels::CudaDeviceCount, .create = sae::kernels::CreateCudaRuntime};
}

Device::~Device() {
  communicator_.reset();
  rendezvous_.reset();
  if (stream_ != nullptr) runtime_->DestroyStream(stream_);
}

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(Communicator& host, const DeviceOptions& options,
                                                   const DeviceBackend& backend) {
  std::unique_ptr<Device> device(new Device);
  const int count = backend.count();
  const auto open = [&]() -> absl::Status {
    SAE_RETURN_IF_ERROR(CheckCollectives(options.collectives));
    SAE_ASSIGN_OR_RETURN(const int index, Choose(options, count));
    SAE_ASSIGN_OR_RETURN(device->runtime_, backend.create(index));
    SAE_ASSIGN_OR_RETURN(device->stream_, device->runtime_->CreateStream());
    device->description_ = absl::StrCat("cuda:", index, " (", device->runtime_->DeviceName(), ")");
    return absl::OkStatus();
  };
  // A rank without a device must not leave the others waiting for it.
  SAE_RETURN_IF_ERROR(sae::checkpoint::Agree(host, open()));
  SAE_ASSIGN_OR_RETURN(const Carrier carrier, ChooseCarrier(host, options, count));
  if (carrier == Carrier::kAlone) {
    SAE_ASSIGN_OR_RETURN(
        device->communicator_,
        sae::comm::CreateDeviceSelf(*device->runtime_, device->stream_, options.deadline));
    return device;
  }
  if (carrier == Carrier::kHost) {
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, host.Split(0, host.rank()));
    SAE_ASSIGN_OR_RETURN(
        device->communicator_,
        sae::comm::StageThroughHost(std::move(part), {.runtime = device->runtime_.get(),
                                                      .stream = device->stream_,
                                                      .deadline = 2 * options.deadline}));
    absl::StrAppend(&device->description_, ", collectives through the host");
    return device;
  }
  SAE_ASSIGN_OR_RETURN(device->rendezvous_, sae::comm::CreateRendezvous(host));
  SAE_ASSIGN_OR_RETURN(device->communicator_,
                       sae::comm::CreateNccl({.rank = host.rank(),
                                              .size = host.size(),
                                              .rendezvous = device->rendezvous_.get(),
                                              .runtime = device->runtime_.get(),
                                              .stream = device->stream_,
                                              .deadline = options.deadline}));
  absl::StrAppend(&device->description_, ", collectives over NCCL");
  return device;
}

}  // namespace saeloom::trainer
