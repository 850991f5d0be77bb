// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "media/size_text.h"

namespace chainring::app {

using chainring::parse_size;
using chainring::size_name;

} // namespace chainring::app
