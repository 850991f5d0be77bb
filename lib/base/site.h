// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <source_location>

namespace chainring {

/// A place in the source that calls the persist seam. A crash report names it, and a mutation run
/// switches it off. It costs nothing while no observer watches the seam.
using site = std::source_location;

} // namespace chainring
