#include "sae/base/safetensors.h"
