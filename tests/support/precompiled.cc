// SPDX-License-Identifier: BSD-3-Clause
// The one source of the target whose precompiled header all test programs share: see tests/meson.build.
#include "support/precompiled.h"
