// Parsers of mapped files: GGUF and safetensors. The bytes stand in an anonymous file, so that the same code as for a
// file on disk reads them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include "sae/base/safetensors.h"
#include "sae/lm/gguf.h"
#include "tests/fuzz/targets.h"

namespace sae::fuzz {
namespace {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", 0)) {
    if (descriptor_ < 0) std::abort();
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string Write(const std::string& bytes) {
    if (::ftruncate(descriptor_, 0) != 0 ||
        ::pwrite(descriptor_, bytes.data(), bytes.size(), 0) !=
            static_cast<ssize_t>(bytes.size()))
      std::abort();
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

/// Reads every byte, so that a span beyond the file is found.
unsigned Touch(std::span<const std::byte> data) {
  unsigned sum = 0;
  for (const std::byte b : data) sum += static_cast<unsigned>(b);
  return sum;
}

volatile unsigned sink;  // what is read is used

std::string Little64(std::uint64_t v) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[static_cast<std::size_t>(i)] = static_cast<char>(v >> (8 * i));
  return out;
}
std::string Text(const std::string& s) { return Little64(s.size()) + s; }
std::string Little32(std::uint32_t v) { return Little64(v).substr(0, 4); }

}  // namespace

void Gguf(const std::string& bytes) {
  MemoryFile file;
  const auto reader = lm::GgufReader::Open(file.Write(bytes));
  if (!reader.ok()) return;
  for (const lm::GgufTensor& tensor : (*reader)->tensors()) {
    sink = Touch(tensor.data);
    sink = static_cast<unsigned>(tensor.elements());
  }
}

void Safetensors(const std::string& bytes) {
  MemoryFile file;
  const auto reader = SafetensorsReader::Open(file.Write(bytes));
  if (!reader.ok()) return;
  for (const auto& [name, tensor] : (*reader)->tensors()) {
    sink = Touch(tensor.data);
    const auto floats = (*reader)->GetFloats(name);
    if (floats.ok() && static_cast<std::int64_t>(floats->size()) != tensor.elements()) std::abort();
  }
}

std::vector<std::string> GgufSeeds() {
  // Version 3, one tensor of two floats, three keys.
  std::string out = "GGUF" + Little32(3) + Little64(1) + Little64(3);
  out += Text("general.alignment") + Little32(4) + Little32(32);
  out += Text("general.name") + Little32(8) + Text("tiny");
  out += Text("tokens") + Little32(9) + Little32(8) + Little64(2) + Text("a") + Text("b");
  out += Text("w") + Little32(1) + Little64(2) + Little32(0) + Little64(0);
  out.resize((out.size() + 31) / 32 * 32);
  out += std::string(32, '\1');
  return {out};
}

std::vector<std::string> SafetensorsSeeds() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]}})";
  return {Little64(header.size()) + header + std::string(24, '\2')};
}

}  // namespace sae::fuzz
