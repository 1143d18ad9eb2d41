#pragma once
// Words for the executor's messages.

#include <string>

#include "tests/simt/simt_device.h"

namespace sae::simt {

/// "(1,0,0)"
std::string DimText(dim3 value);
/// "0x0000ffff"
std::string MaskText(unsigned mask);
/// Without folder.
std::string FileName(const char* path);
/// CUDA's name; for a warp barrier its file and id.
std::string WarpOpText(WarpOp op, const char* file, int id);

}  // namespace sae::simt
