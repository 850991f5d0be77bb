// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <source_location>

namespace chainring {

/// A place in the source that calls the persist seam: what a crash report names and what a mutation
/// run switches off. Costs nothing where nobody observes the seam.
using site = std::source_location;

} // namespace chainring
