// SPDX-License-Identifier: BSD-3-Clause
#include "media/drivers.h"

namespace chainring {

namespace {
result<std::unique_ptr<media>> refuse(const media_options&) {
  return error{errc::unsupported, "hugetlb"};
}
} // namespace

const media_driver hugetlb_driver = {"hugetlb", "", [](const std::string&) { return false; }, refuse, refuse};

} // namespace chainring
