// SPDX-License-Identifier: BSD-3-Clause
/// The drivers that are built in, one object each, defined in `drivers/media/<name>/`. Naming them
/// here keeps them in a program that is linked with the static library. Internal: not installed.
#pragma once
#include "media/media.h"

namespace chainring {

extern const media_driver dax_driver;     ///< devdax and MAP_SYNC files, through libpmem
extern const media_driver hugetlb_driver; ///< hugetlbfs and tmpfs
extern const media_driver file_driver;    ///< a regular file behind a redo journal

} // namespace chainring
