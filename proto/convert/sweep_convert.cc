#include "proto/convert/sweep_convert.h"
