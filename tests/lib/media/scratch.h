// SPDX-License-Identifier: BSD-3-Clause
/// Directories that belong to a test and are removed with it.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <optional>
#include <stdexcept>
#include <string>

#include "media/mapping.h"

namespace chainring::test {

class scratch_directory {
 public:
  /// Makes a directory below `where`.
  explicit scratch_directory(const std::string& where)
      : path_(where + "/chainring-test-" + std::string(6, 'X')) {
    if (mkdtemp(path_.data()) == nullptr)
      throw std::runtime_error("cannot make a directory below " + where);
  }
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  ~scratch_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A directory on a disk: the first of the usual places that lies on one.
inline std::string disk_directory() {
  for (const std::string& where : {testing::TempDir(), std::string("."), std::string("/var/tmp")}) {
    auto place = detail::place_of(where + "/.");
    if (place && place->kind == detail::file_system::disk)
      return std::filesystem::canonical(where).string();
  }
  throw std::runtime_error("neither TEST_TMPDIR, the working directory nor /var/tmp is on a disk");
}

/// The directory where hugetlbfs is mounted, if it is mounted anywhere.
inline std::optional<std::string> hugetlbfs_directory() {
  std::ifstream mounts("/proc/mounts");
  std::string device, point, type, rest;
  while (mounts >> device >> point >> type && std::getline(mounts, rest))
    if (type == "hugetlbfs") return point;
  return std::nullopt;
}

inline std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void overwrite(const std::string& path, std::uint64_t at, const std::string& bytes) {
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(static_cast<std::streamoff>(at));
  out << bytes;
}

} // namespace chainring::test
