// SPDX-License-Identifier: BSD-3-Clause
/// Makes a handle of the C binding of objects that were opened in C++, for tests. Not installed.
#pragma once
#include <memory>

#include "c.h"
#include "objects/objects.h"

namespace chainring {

/// The handle owns the objects. chainring_close() or chainring_abandon() frees it.
[[nodiscard]] chainring_region* region_of(std::unique_ptr<objects> all);

} // namespace chainring
